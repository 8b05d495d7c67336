//! `GET /_synapse/admin/v1/registration_tokens`: all registration tokens that are not in the configuration, or those
//! that are `valid`, or those that are not.

use axum::response::Response;
use serde_json::{Value, json};

use super::{admit, answer, told};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let valid = match call.parts.uri.query() {
        Some("valid=true") => Some(true),
        Some("valid=false") => Some(false),
        _ => None,
    };
    let now_ms = app.ports.clock.now_ms();
    let tokens = app.accounts.registration_tokens().await?;
    let wanted = tokens.iter().filter(|(_, row)| valid.is_none_or(|valid| row.is_valid(now_ms) == valid));
    let tokens: Vec<Value> = wanted.map(|(token, row)| told(token, row)).collect();
    Ok(answer(json!({ "registration_tokens": tokens })))
}
