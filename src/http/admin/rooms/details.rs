//! `GET /_synapse/admin/v1/rooms/{roomId}`: a room in a few words.

use axum::response::Response;
use ruma::RoomId;
use serde_json::{Value, json};

use super::{admit, answer, room};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    let mut told = details(&app, &room)
        .await?
        .ok_or_else(|| Failure::not_found("This server does not know the room"))?;
    told["forgotten"] = (told["joined_local_members"] == 0).into();
    Ok(answer(told))
}

/// What administrators are told of a room; nothing if this server does not know it.
pub(super) async fn details(app: &App, room: &RoomId) -> Result<Option<Value>, Failure> {
    let history = &app.history;
    let (Some(row), Some(summary)) = (history.room(room).await?, history.summary(room).await?) else {
        return Ok(None);
    };
    let create = history.event(&row.create).await?;
    let creator = create.as_ref().map(|create| create.pdu.sender().to_owned());
    Ok(Some(json!({
        "room_id": room,
        "name": summary.name,
        "topic": summary.topic,
        "avatar": summary.avatar_url,
        "canonical_alias": summary.canonical_alias,
        "joined_members": row.joined,
        "joined_local_members": row.joined.saturating_sub(row.remote),
        "version": row.version,
        "creator": creator,
        "encryption": summary.encryption,
        "public": history.published(room).await?.is_some(),
        "join_rules": summary.join_rule.kind(),
        "guest_access": if summary.guest_can_join { "can_join" } else { "forbidden" },
        "room_type": summary.room_type,
    })))
}
