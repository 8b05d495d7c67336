//! `POST /_synapse/admin/v1/registration_tokens/new`: a new registration token.

use axum::response::Response;
use serde::Deserialize;

use super::{admit, answer, told};
use crate::{
    account::RegistrationToken,
    http::{App, Call, Failure},
    types::random_string,
};

/// Characters of a token that is made up.
const CHARACTERS: usize = 16;

#[derive(Default, Deserialize)]
struct Asked {
    token: Option<String>,
    uses_allowed: Option<u64>,
    expiry_time: Option<u64>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Asked = call.json_or_default()?;
    let token = asked.token.unwrap_or_else(|| random_string(&*app.ports.rng, CHARACTERS));
    let (uses_allowed, expires_ms) = (asked.uses_allowed, asked.expiry_time);
    let row = RegistrationToken { uses_allowed, expires_ms, completed: 0 };
    app.accounts.make_registration_token(&token, &row).await?;
    Ok(answer(told(&token, &row)))
}
