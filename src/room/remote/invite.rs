//! Inviting a user of another server: the event is built here, and their server signs it too.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use http::StatusCode;
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::{
        error::ErrorKind,
        federation::membership::{RawStrippedState, create_invite},
    },
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    dag::{Pdu, Signed},
    identity::Identity,
    limits::HANDSHAKE_MAX,
    peer::{Bounds, PeerError},
    room::{
        RoomError, Rooms,
        membership::member_content,
        stripped,
        turn::{NewEvent, Turn},
    },
    types::Membership,
};

/// An invite that nobody has seen yet.
struct Invite {
    version: RoomVersionId,
    rules: &'static RoomVersionRules,
    event: Pdu,
    told: Vec<Box<RawValue>>,
}

impl Rooms {
    /// Invites a user of another server; `content` is that of the member event.
    pub(in crate::room) async fn invite_remote(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        content: Map<String, Value>,
    ) -> Result<OwnedEventId, RoomError> {
        self.whole(room).await?;
        let event = NewEvent::state(sender, "m.room.member", user.as_str(), &content)?;
        let invite = self.write_invite(room, user, event).await?;
        // Once their server has shown the invite to the user, it must be in the room too.
        let (rooms, user) = (self.clone(), user.to_owned());
        let task = self.0.tasks.spawn(async move { rooms.send_invite(&user, invite).await });
        task.await.map_err(|_| RoomError::Closed)?
    }

    /// Turns an invite by address, which `sender` has made, into an invite of `user`, to whom the address
    /// belongs by the word of an identity server, which is asked whether it stands by it. Whether that word is good at all,
    /// the rules of the room say.
    ///
    /// # Errors
    /// When there is no such invite, or the room or the identity server does not allow it.
    pub async fn invite_by_address(
        &self,
        identity: &Identity,
        (sender, room): (&UserId, &RoomId),
        user: &UserId,
        signed: Value,
    ) -> Result<(), RoomError> {
        let token = signed.get("token").and_then(Value::as_str);
        let token = token.ok_or_else(|| RoomError::invalid("There is no token"))?;
        let invite = self.look_into(room).await?.place("m.room.third_party_invite", token).await?;
        let invite = invite.ok_or_else(|| RoomError::forbidden("There is no such invite"))?;
        let invite: Map<String, Value> = invite.content_as().unwrap_or_default();
        if !identity.vouches(&invite, &signed).await? {
            return Err(RoomError::forbidden("The identity server does not stand by it any more"));
        }
        let name = invite.get("display_name").cloned().unwrap_or_default();
        let mut content = member_content(Membership::Invite, None, None);
        content.insert(String::from("third_party_invite"), json!({ "display_name": name, "signed": signed }));
        match self.0.history.is_local(user) {
            true => self.invite_local(sender, room, user, content).await,
            false => self.invite_remote(sender, room, user, content).await.map(drop),
        }
    }

    /// Builds the event as the room is now.
    async fn write_invite(&self, room: &RoomId, user: &UserId, event: NewEvent) -> Result<Invite, RoomError> {
        let turn = Turn::begin_as_member(self, room).await?;
        if turn.membership(user).await? == Some(Membership::Join) {
            return Err(RoomError::forbidden("The user is in the room already"));
        }
        let event = turn.build(event).await?;
        // The rules would let the invite pass, but the join that answers it never.
        if !turn.federates().await? {
            return Err(RoomError::forbidden("The room is for users of its own server only"));
        }
        let told = stripped::told(&turn, &stripped::telling_by(event.sender())).await?;
        let told = told.iter().map(|pdu| pdu.json().to_owned()).collect();
        Ok(Invite { version: turn.row.version.clone(), rules: turn.rules, event, told })
    }

    async fn send_invite(&self, user: &OwnedUserId, invite: Invite) -> Result<OwnedEventId, RoomError> {
        let Invite { version, rules, event, told } = invite;
        let (room, id) = (event.room_id().to_owned(), event.event_id().to_owned());
        let (server, peers) = (user.server_name(), &self.0.peers);
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let state = told.iter().cloned().map(RawStrippedState::Pdu).collect();
        let is_old = matches!(version, RoomVersionId::V1 | RoomVersionId::V2);
        let request = create_invite::v2::Request::new(
            room.clone(),
            id.clone(),
            version.clone(),
            event.json().to_owned(),
            state,
        );
        let signed = match peers.call(server, request, bounds).await {
            Err(PeerError::Refused {
                status, errcode: ErrorKind::Unrecognized | ErrorKind::Unknown, ..
            }) if is_old && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => {
                self.invite_by_first_version(server, (&event, &told), bounds).await?
            }
            // <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>
            Err(PeerError::Refused { errcode: ErrorKind::IncompatibleRoomVersion(_), .. }) => {
                return Err(RoomError::UnsupportedByInvited(version));
            }
            answer => answer?.event,
        };
        let event = self.with_signature_of(server, event, (&signed, rules)).await?;
        self.take_ours(&room, Signed::ours(event)).await?;
        Ok(id)
    }
}

impl Turn {
    /// Whether users of other servers than the creator's can be in the room.
    async fn federates(&self) -> Result<bool, RoomError> {
        #[derive(Deserialize)]
        struct Create {
            #[serde(rename = "m.federate", default = "yes")]
            federate: bool,
        }
        let create = self.place("m.room.create", "").await?;
        let create = create.and_then(|create| create.content_as::<Create>().ok());
        Ok(create.is_none_or(|create| create.federate))
    }
}

fn yes() -> bool {
    true
}
