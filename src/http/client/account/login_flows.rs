//! `GET /_matrix/client/v3/login`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>

use ruma::api::client::session::get_login_types::v3::{
    ApplicationServiceLoginType, LoginType, PasswordLoginType, Request, Response,
};

use crate::http::{App, Failure};

pub(super) async fn handle(_: App, _: Request) -> Result<Response, Failure> {
    Ok(Response::new(vec![
        LoginType::Password(PasswordLoginType::new()),
        LoginType::ApplicationService(ApplicationServiceLoginType::new()),
    ]))
}
