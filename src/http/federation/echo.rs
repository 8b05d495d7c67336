//! `GET /_matrix/federation/unstable/org.lockstep.echo/{text}`
//!
//! Tells another server, or this one, what of its request arrives here: `lockstep doctor federation` finds out that
//! way whether a proxy changes paths or headers.

use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::{App, Call, Failure};

/// Where it is; the one place where this server may call itself.
pub(super) const PATH: &str = "/_matrix/federation/unstable/org.lockstep.echo/{text}";

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let origin = call.origin.ok_or_else(Failure::missing_token)?;
    let text = call.path.first().cloned().unwrap_or_default();
    let now = app.ports.clock.now_ms();
    Ok(axum::Json(json!({ "origin": origin.0, "text": text, "now_ts": now })).into_response())
}
