//! `GET /_matrix/client/v3/pushers`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    http::{App, Call, Failure},
    push::PusherRow,
};

/// Answers the request. By hand, because ruma's type does not say whose and whether it is on.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let rows = app.push.pushers(&caller.user_id).await?;
    let pushers: Result<Vec<Value>, Failure> = rows.iter().map(|(_, row)| shown(row)).collect();
    Ok(Json(json!({ "pushers": pushers? })).into_response())
}

/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3881>
fn shown(row: &PusherRow) -> Result<Value, Failure> {
    let mut pusher = serde_json::to_value(row.pusher()?).map_err(Failure::internal)?;
    if let Some(object) = pusher.as_object_mut() {
        object.insert("org.matrix.msc3881.enabled".to_owned(), json!(!row.disabled));
        object.insert("org.matrix.msc3881.device_id".to_owned(), json!(row.device_id));
    }
    Ok(pusher)
}
