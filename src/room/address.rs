//! Inviting whoever has an address, a mail address say, whether or not they are a user yet.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>

use ruma::{RoomId, UserId, events::StateEventType};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    RoomError, Rooms,
    turn::{NewEvent, Turn},
};
use crate::{
    dag::StateKey,
    identity::{Address, Desk, Identity, Invitation},
};

/// The event by which an address is invited.
const INVITE: &str = "m.room.third_party_invite";
/// What stands for the token while nobody has given one.
const NO_TOKEN: &str = "token";

impl Rooms {
    /// Whether `sender` may invite an address into `room` as it is now: to be asked before anybody else hears of it.
    ///
    /// # Errors
    /// Why they may not.
    pub async fn check_address_invitable(&self, sender: &UserId, room: &RoomId) -> Result<(), RoomError> {
        self.check_open(room).await?;
        let turn = Turn::begin_as_member(self, room).await?;
        let content = json!({ "display_name": "", "key_validity_url": "", "public_key": "" });
        turn.draft(NewEvent::state(sender, INVITE, NO_TOKEN, &content)?).await.map(drop)
    }

    /// Invites an address that is nobody's: the identity server keeps the invite, and the room is told of it.
    ///
    /// # Errors
    /// When either does not want it.
    pub async fn invite_unknown(
        &self,
        identity: &Identity,
        desk: Desk<'_>,
        (sender, room): (&UserId, &RoomId),
        address: &Address,
    ) -> Result<(), RoomError> {
        let invitation = self.invitation(sender, room).await?;
        let (rooms, identity, address) = (self.clone(), identity.clone(), address.clone());
        let (server, token) = (desk.server.to_owned(), desk.token.to_owned());
        // Once the identity server has written to the address, the invite must be in the room too.
        let task = self.0.tasks.spawn(async move {
            let desk = Desk { server: &server, token: &token };
            let kept = identity.keep_invite(desk, &address, &invitation).await?;
            let content =
                to_raw_value(&kept.content).map_err(|error| RoomError::BadJson(error.to_string()))?;
            let place = (&StateEventType::RoomThirdPartyInvite, &*kept.token);
            rooms.set_state(&invitation.sender, &invitation.room_id, place, content).await.map(drop)
        });
        task.await.map_err(|_| RoomError::Closed)?
    }

    /// What the letter to somebody who is invited may tell.
    async fn invitation(&self, sender: &UserId, room: &RoomId) -> Result<Invitation, RoomError> {
        let turn = Turn::begin_as_member(self, room).await?;
        let member = StateKey::new(StateEventType::RoomMember, sender.as_str());
        let mut keys = vec![member.clone()];
        keys.extend(
            [
                StateEventType::RoomAvatar,
                StateEventType::RoomCanonicalAlias,
                StateEventType::RoomCreate,
                StateEventType::RoomJoinRules,
                StateEventType::RoomName,
            ]
            .map(|event_type| StateKey::new(event_type, "")),
        );
        let places = turn.places(&keys).await?;
        let says = |key: (&StateEventType, &str), name: &str| -> Option<String> {
            let content: Map<String, Value> = places.get(key.0, key.1)?.content_as().ok()?;
            content.get(name)?.as_str().filter(|text| !text.is_empty()).map(String::from)
        };
        let of_room = |event_type: StateEventType, name: &str| says((&event_type, ""), name);
        let of_sender = |name: &str| says((&member.event_type, &member.state_key), name);
        Ok(Invitation {
            room_id: room.to_owned(),
            sender: sender.to_owned(),
            room_alias: of_room(StateEventType::RoomCanonicalAlias, "alias"),
            room_avatar_url: of_room(StateEventType::RoomAvatar, "url"),
            room_join_rules: of_room(StateEventType::RoomJoinRules, "join_rule"),
            room_name: of_room(StateEventType::RoomName, "name"),
            room_type: of_room(StateEventType::RoomCreate, "type"),
            // A letter needs a name to begin with.
            sender_display_name: Some(of_sender("displayname").unwrap_or_else(|| sender.to_string())),
            sender_avatar_url: of_sender("avatar_url"),
        })
    }
}
