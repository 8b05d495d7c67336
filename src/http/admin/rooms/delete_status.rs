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
        RemovalStatus::Active { error, successor } => {
            told["status"] = if error.is_some() { "failed" } else { "active" }.into();
            if let Some(error) = error {
                told["error"] = error.into();
            }
            told["shutdown_room"] = json!({ "new_room_id": successor });
        }
    }
    Ok(answer(match call.parts.uri.path().ends_with("/delete_status") {
        true => json!({ "results": [told] }),
        false => told,
    }))
}
