//! `GET /_matrix/client/v3/login`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>

use ruma::api::client::session::get_login_types::v3::{
    ApplicationServiceLoginType, LoginType, PasswordLoginType, Request, Response, TokenLoginType,
};

use crate::http::{App, Failure};

pub(super) async fn handle(_: App, _: Request) -> Result<Response, Failure> {
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    Ok(Response::new(vec![
        LoginType::Password(PasswordLoginType::new()),
        LoginType::Token(token),
        LoginType::ApplicationService(ApplicationServiceLoginType::new()),
    ]))
}
