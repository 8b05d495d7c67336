//! `POST /_matrix/client/v1/login/get_token`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>

use std::time::Duration;

use ruma::api::client::session::get_login_token::v1::{Request, Response};

use crate::{
    account::{Caller, Target},
    http::{App, Failure, prove},
    limits::LOGIN_TOKEN_MS,
};

/// Lets another device of the caller log in, once the caller has proved who they are.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let auth = (request.auth.as_ref(), Target::default());
    let verified = prove(&app, ("login/get_token", &caller), auth).await?;
    let token = app.accounts.login_token_by(&verified).await?;
    Ok(Response::new(Duration::from_millis(LOGIN_TOKEN_MS), token))
}
