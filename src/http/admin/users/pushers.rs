//! `GET /_synapse/admin/v1/users/{userId}/pushers`: where a user's notifications go, and whether they arrive.

use axum::response::Response;
use serde_json::{Value, json};

use super::{admit, answer, user};
use crate::{
    http::{App, Call, Failure},
    push::PusherRow,
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = user(&app, &call)?;
    let rows = app.push.pushers(&user).await?;
    let pushers: Result<Vec<Value>, Failure> = rows.iter().map(|(_, row)| shown(row)).collect();
    Ok(answer(json!({ "total": rows.len(), "pushers": pushers? })))
}

/// A pusher as its user sees it, and how it stands. Moments are in milliseconds since 1970.
fn shown(row: &PusherRow) -> Result<Value, Failure> {
    let mut pusher = serde_json::to_value(row.pusher()?).map_err(Failure::internal)?;
    if let Some(object) = pusher.as_object_mut() {
        let trouble = row.trouble.as_ref();
        for (name, value) in [
            ("device_id", json!(row.device_id)),
            ("enabled", json!(!row.disabled)),
            ("set_ts", json!(row.set_ms)),
            ("last_success_ts", json!(row.told_ms)),
            ("failing_since_ts", json!(trouble.map(|trouble| trouble.failing_since_ms))),
            ("retry_ts", json!(trouble.map(|trouble| trouble.retry_at_ms))),
            ("failures", json!(trouble.map_or(0, |trouble| trouble.failures))),
            ("last_error", json!(trouble.map(|trouble| &trouble.last_error))),
        ] {
            object.insert(name.to_owned(), value);
        }
    }
    Ok(pusher)
}
