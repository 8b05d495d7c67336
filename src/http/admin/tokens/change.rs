//! `PUT /_synapse/admin/v1/registration_tokens/{token}`: for how long and how many accounts it is good. `null` is for
//! ever, and for any number; what is left out stays.

use axum::response::Response;
use serde_json::{Map, Value};

use super::{admit, answer, no_such_token, token, told};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Map<String, Value> = call.json()?;
    let number = |name: &str| match asked.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(Some(number))),
            None => Err(Failure::invalid_param("That is no number")),
        },
    };
    let (uses_allowed, expires_ms) = (number("uses_allowed")?, number("expiry_time")?);
    let token = token(&call)?;
    let row = app.accounts.change_registration_token(token, |row| {
        row.uses_allowed = uses_allowed.unwrap_or(row.uses_allowed);
        row.expires_ms = expires_ms.unwrap_or(row.expires_ms);
    });
    Ok(answer(told(token, &row.await?.ok_or_else(no_such_token)?)))
}
