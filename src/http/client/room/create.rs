//! `POST /_matrix/client/v3/createRoom`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomAliasId,
    api::client::{
        membership::Invite3pid,
        room::{
            Visibility,
            create_room::v3::{Request, Response},
        },
    },
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    account::Caller,
    http::{
        App, Class, Failure, Peer,
        identity::{check_addresses, invite_address},
        meet_users,
    },
    limits::{ADDRESSES_INVITED_AT_ONCE, ADDRESSES_INVITED_MAX, CREATE_INVITES_MAX},
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
    let addresses = request.invite_3pid.clone();
    if !addresses.is_empty() && !app.identity.is_on() {
        return Err(Failure::forbidden("This server invites by Matrix id only"));
    }
    if addresses.len() > ADDRESSES_INVITED_MAX {
        return Err(Failure::invalid_param("Too many addresses are invited at once"));
    }
    check_addresses(&app, &addresses)?;
    let mut room = wanted(request)?;
    let mut named = HashSet::from([caller.user_id.clone()]);
    room.invite.retain(|user| named.insert(user.clone()));
    if room.invite.len() > CREATE_INVITES_MAX {
        return Err(Failure::invalid_param("Too many users are invited at once"));
    }
    let invited = room.invite.len() + addresses.len();
    app.throttle.admit_many(Class::Invite, Some(&caller), &peer, invited)?;
    meet_users(&app, &room.invite).await?;
    room.version.get_or_insert_with(|| app.config.default_room_version.id().clone());
    let is_direct = room.is_direct;
    let room_id = app.rooms.create(&caller.user_id, room).await?;
    if !addresses.is_empty() {
        // The room is there: they are invited even if the client has gone.
        let inviting = invite_all(app.clone(), (caller.user_id, room_id.clone()), (addresses, is_direct));
        app.tasks.spawn(inviting).await.map_err(Failure::internal)?;
    }
    Ok(Response::new(room_id))
}

/// Invites addresses into a new room. Who cannot be invited can be invited again.
async fn invite_all(
    app: App,
    (user, room): (OwnedUserId, OwnedRoomId),
    (addresses, is_direct): (Vec<Invite3pid>, bool),
) {
    let invite = async |invited: &Invite3pid| {
        let said = is_direct.then(|| (String::from("is_direct"), Value::Bool(true)));
        let invite = invite_address(&app, (&user, &room), invited, said.into_iter().collect());
        if let Err(error) = invite.await {
            tracing::info!(room.id = %room, ?error, "could not invite an address into {room}");
        }
    };
    stream::iter(&addresses).for_each_concurrent(ADDRESSES_INVITED_AT_ONCE, invite).await;
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
