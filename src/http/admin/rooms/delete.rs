//! `DELETE /_synapse/admin/v2/rooms/{roomId}`: every user of this server leaves the room, and everything that was said
//! there is removed, in the background; `v1` of it waits for that, though not for ever, and tells who has left.

use axum::response::Response;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, room};
use crate::{
    http::{App, Call, Failure},
    limits::ROOM_REMOVAL_WAIT_MAX,
    purge::{Removal, RemovalBegun, Successor},
};

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    block: bool,
    purge: Option<bool>,
    #[serde(default)]
    force_purge: bool,
    /// Who makes a room for those who have to leave.
    new_room_user_id: Option<OwnedUserId>,
    /// Its name.
    room_name: Option<String>,
    /// What they are told there.
    message: Option<String>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let (room, begun) = begin(&app, call).await?;
    Ok(answer(json!({ "delete_id": room, "new_room_id": begun.successor })))
}

pub(super) async fn handle_old(app: App, call: Call) -> Result<Response, Failure> {
    let (room, RemovalBegun { members, aliases, successor }) = begin(&app, call).await?;
    tokio::select! {
        removed = app.purge.removed(&room, ROOM_REMOVAL_WAIT_MAX) => removed?,
        () = app.stopping.cancelled() => {}
    }
    let (mut kicked, mut failed) = (Vec::new(), Vec::new());
    for member in members {
        let is_there = app.history.is_joined(&room, &member).await?;
        if is_there { failed.push(member) } else { kicked.push(member) }
    }
    Ok(answer(json!({
        "kicked_users": kicked,
        "failed_to_kick_users": failed,
        "local_aliases": aliases,
        "new_room_id": successor,
    })))
}

async fn begin(app: &App, call: Call) -> Result<(OwnedRoomId, RemovalBegun), Failure> {
    admit(app, &call).await?;
    let room = room(&call)?;
    let asked: Asked = call.json_or_default()?;
    if let Some(by) = &asked.new_room_user_id
        && !app.accounts.is_active(by).await?
    {
        return Err(Failure::invalid_param("`new_room_user_id` is no user of this server"));
    }
    let (name, message) = (asked.room_name, asked.message);
    let successor = asked.new_room_user_id.map(|by| Successor { by, name, message });
    let purge = asked.purge.unwrap_or(true);
    let wanted = Removal { block: asked.block, purge, force: asked.force_purge };
    let begun = app.purge.remove_room(&room, wanted, successor).await?;
    Ok((room, begun))
}
