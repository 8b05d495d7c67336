//! `DELETE /_synapse/admin/v1/registration_tokens/{token}`: nobody can register with it any more.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, no_such_token, token};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    match app.accounts.remove_registration_token(token(&call)?).await? {
        true => Ok(answer(json!({}))),
        false => Err(no_such_token()),
    }
}
