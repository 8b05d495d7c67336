//! `DELETE /_synapse/admin/v2/rooms/{roomId}`: every user of this server leaves the room, and everything that was said
//! there is removed, in the background.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, room};
use crate::{
    http::{App, Call, Failure},
    purge::Removal,
};

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    block: bool,
    purge: Option<bool>,
    #[serde(default)]
    force_purge: bool,
    new_room_user_id: Option<String>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    let asked: Asked = if call.body.is_empty() { Asked::default() } else { call.json()? };
    if asked.new_room_user_id.is_some() {
        return Err(Failure::invalid_param("This server makes no other room for those who have to leave"));
    }
    let purge = asked.purge.unwrap_or(true);
    let wanted = Removal { block: asked.block, purge, force: asked.force_purge };
    app.purge.remove_room(&room, wanted).await?;
    Ok(answer(json!({ "delete_id": room })))
}
