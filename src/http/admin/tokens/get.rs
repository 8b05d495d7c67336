//! `GET /_synapse/admin/v1/registration_tokens/{token}`: one registration token.

use axum::response::Response;

use super::{admit, answer, no_such_token, token, told};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let token = token(&call)?;
    let row = app.accounts.registration_token(token).await?.ok_or_else(no_such_token)?;
    Ok(answer(told(token, &row)))
}
