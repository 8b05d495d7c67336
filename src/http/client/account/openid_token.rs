//! `POST /_matrix/client/v3/user/{userId}/openid/request_token`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridopenidrequest_token>

use std::time::Duration;

use ruma::{
    api::client::account::request_openid_token::v3::{Request, Response},
    authentication::TokenType,
};

use crate::{
    account::Caller,
    http::{App, Failure},
    limits::OPENID_TOKEN_MS,
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    if request.user_id != caller.user_id {
        return Err(Failure::forbidden("Nobody can prove to be somebody else"));
    }
    let token = app.accounts.openid_token(&caller.user_id).await?;
    let lifetime = Duration::from_millis(OPENID_TOKEN_MS);
    Ok(Response::new(token, TokenType::Bearer, app.server_name.clone(), lifetime))
}
