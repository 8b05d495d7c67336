//! `GET /_synapse/admin/v2/users/{userId}/devices`: the devices of a user.

use axum::response::Response;
use serde_json::{Value, json};

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = user(&app, &call)?;
    let rows = app.devices.list(&user).await?;
    let ids: Vec<_> = rows.iter().map(|(id, _)| id.clone()).collect();
    let seen = app.accounts.last_seen(&user, &ids).await?;
    let shown = rows.into_iter().zip(seen).map(|((id, row), seen)| {
        json!({
            "device_id": id,
            "display_name": row.display_name,
            "last_seen_ts": seen.as_ref().map(|seen| seen.at_ms),
            "last_seen_ip": seen.and_then(|seen| seen.ip),
            "user_id": user,
        })
    });
    let devices: Vec<Value> = shown.collect();
    Ok(answer(json!({ "total": devices.len(), "devices": devices })))
}
