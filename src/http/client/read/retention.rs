//! `GET /_matrix/client/unstable/org.matrix.msc1763/retention/configuration`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/1763>

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::{
    http::{App, Call, Failure},
    purge::Retention,
};

/// How long messages are kept here, for clients that show it.
pub(super) async fn handle(app: App, _: Call) -> Result<Response, Failure> {
    let retention = app.purge.settings().retention.clone();
    let Some(Retention { usual_ms, shortest_ms, longest_ms }) = retention else {
        return Ok(axum::Json(json!({ "policies": {}, "limits": {} })).into_response());
    };
    let object = |fields: [(&str, Option<u64>); 2]| -> Map<String, Value> {
        let fields = fields.into_iter();
        fields.filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
    };
    let policy = object([("max_lifetime", usual_ms), ("min_lifetime", None)]);
    let limits = object([("min", shortest_ms), ("max", longest_ms)]);
    let policies = if policy.is_empty() { json!({}) } else { json!({ "*": policy }) };
    let limits = if limits.is_empty() { json!({}) } else { json!({ "max_lifetime": limits }) };
    Ok(axum::Json(json!({ "policies": policies, "limits": limits })).into_response())
}
