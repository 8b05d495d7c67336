//! `GET /_synapse/admin/v2/rooms/delete_status/{deleteId}` and `…/{roomId}/delete_status`: whether a room is gone.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, room};
use crate::{
    http::{App, Call, Failure},
    purge::RemovalStatus,
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    let mut told = json!({ "delete_id": room, "room_id": room });
    match app.purge.removal_of(&room).await? {
        RemovalStatus::NotWanted => return Err(Failure::not_found("The room is not being removed")),
        RemovalStatus::Complete => told["status"] = "complete".into(),
        RemovalStatus::Active(None) => told["status"] = "active".into(),
        RemovalStatus::Active(Some(error)) => {
            told["status"] = "failed".into();
            told["error"] = error.into();
        }
    }
    Ok(answer(match call.parts.uri.path().ends_with("/delete_status") {
        true => json!({ "results": [told] }),
        false => told,
    }))
}
