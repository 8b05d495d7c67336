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
    prove(&app, ("login/get_token", &caller), (request.auth.as_ref(), Target::default())).await?;
    let token = app.accounts.login_token(&caller.user_id).await?;
    Ok(Response::new(Duration::from_millis(LOGIN_TOKEN_MS), token))
}
