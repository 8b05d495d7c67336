//! `POST /_matrix/client/v3/createRoom`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use ruma::{
    RoomAliasId,
    api::client::room::{
        Visibility,
        create_room::v3::{Request, Response},
    },
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    account::Caller,
    http::{App, Failure, Peer, meet_users},
    room::NewRoom,
};

/// Answers the request.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    if let Some(name) = &request.room_alias_name {
        let alias = RoomAliasId::parse(format!("#{name}:{}", app.server_name)).ok();
        if alias.is_some_and(|alias| app.appservices.keeps_alias(&alias, peer.appservice.as_deref())) {
            return Err(Failure::exclusive());
        }
    }
    meet_users(&app, &request.invite).await?;
    let mut room = wanted(request)?;
    room.version.get_or_insert_with(|| app.config.default_room_version.id().clone());
    Ok(Response::new(app.rooms.create(&caller.user_id, room).await?))
}

/// A state event as clients give it.
#[derive(Deserialize)]
struct Initial {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

fn wanted(request: Request) -> Result<NewRoom, Failure> {
    if !request.invite_3pid.is_empty() {
        return Err(Failure::forbidden("This server invites by Matrix id only"));
    }
    let mut initial_state = Vec::with_capacity(request.initial_state.len());
    for event in &request.initial_state {
        let Initial { event_type, state_key, content } = read(event)?;
        initial_state.push((event_type, state_key, content));
    }
    Ok(NewRoom {
        version: request.room_version,
        is_public: request.visibility == Visibility::Public,
        preset: request.preset,
        alias_name: request.room_alias_name,
        name: request.name,
        topic: request.topic,
        invite: request.invite,
        is_direct: request.is_direct,
        creation_content: request.creation_content.as_ref().map(read).transpose()?.unwrap_or_default(),
        initial_state,
        power_levels: request
            .power_level_content_override
            .as_ref()
            .map(read)
            .transpose()?
            .unwrap_or_default(),
    })
}

fn read<T, R: DeserializeOwned>(raw: &Raw<T>) -> Result<R, Failure> {
    serde_json::from_str(raw.json().get()).map_err(|error| Failure::bad_json(error.to_string()))
}
