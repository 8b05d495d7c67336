//! `POST /_synapse/admin/v1/join/{roomIdOrAlias}`: a user of this server comes into a room; one that has to be invited
//! is, if whoever asks may.

use axum::response::Response;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{admit, answer, named};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    user_id: OwnedUserId,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { user_id } = call.json()?;
    if !app.accounts.is_active(&user_id).await? {
        return Err(Failure::not_found("There is no such user"));
    }
    let room = named(&app, &call).await?;
    let invites = match &call.caller {
        Some(caller) => app.history.is_joined(&room, &caller.user_id).await?,
        None => false,
    };
    if let Some(caller) = call.caller.filter(|_| invites) {
        // Where everybody may come in nobody need be invited, nor may that be allowed.
        if let Err(error) = app.rooms.invite(&caller.user_id, &room, &user_id, None).await {
            tracing::debug!(room.id = %room, %error, "{user_id} is not invited to {room}");
        }
    }
    app.rooms.enter(&user_id, &room, &[], (None, Map::new())).await?;
    Ok(answer(json!({ "room_id": room })))
}
