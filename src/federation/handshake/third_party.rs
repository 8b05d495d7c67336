//! Invites to addresses that turn out to belong to a user.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::{Metadata, federation::thirdparty::exchange_invite::v1::Request, path_builder::PathBuilder},
};
use serde_json::Value;

use crate::{
    federation::{Federation, FederationError},
    limits::{HANDSHAKE_MAX, ONBIND_INVITES_MAX},
    peer::Bounds,
    types::Membership,
};

/// A third-party invite that its user may now have.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Who has invited the address.
    pub sender: OwnedUserId,
    /// To whom it belongs.
    pub user: OwnedUserId,
    /// The identity server's word for that: `mxid`, `token` and `signatures`.
    pub signed: Value,
}

impl Federation {
    /// Turns a third-party invite of a user of ours into an invite, on the word of another server.
    ///
    /// # Errors
    /// When the room is not here, or does not allow it.
    pub async fn exchange(
        &self,
        origin: &ServerName,
        room: &RoomId,
        exchange: Exchange,
    ) -> Result<(), FederationError> {
        self.admit(origin, room, Membership::Invite).await?;
        self.turn_into_invite(room, exchange).await
    }

    async fn turn_into_invite(&self, room: &RoomId, exchange: Exchange) -> Result<(), FederationError> {
        if !self.history.is_local(&exchange.sender) {
            return Err(FederationError::Forbidden("The sender is not of this server"));
        }
        let named = exchange.signed.get("mxid").and_then(Value::as_str);
        if named != Some(exchange.user.as_str()) {
            return Err(FederationError::Invalid(String::from("The signed user is another one")));
        }
        let Exchange { sender, user, signed } = exchange;
        Ok(self.rooms.invite_by_address(&self.identity, (&sender, room), &user, signed).await?)
    }

    /// An identity server says that an address belongs to a user of ours: the invites that waited for it
    /// become theirs. Each proves itself by its signatures; one that fails does not keep the others.
    pub async fn bound(&self, user: &UserId, invites: Vec<(OwnedRoomId, Exchange)>) {
        if !self.history.is_local(user) {
            return;
        }
        for (room, exchange) in invites.into_iter().take(ONBIND_INVITES_MAX) {
            if exchange.user != user {
                continue;
            }
            if let Err(error) = self.redeem(&room, exchange).await {
                tracing::info!(room.id = %room, user.id = %user, %error, "an invite by address came to nothing");
            }
        }
    }

    /// Turns an invite by address into one of a user of ours, here or on the server of whoever has invited.
    ///
    /// # Errors
    /// Why it comes to nothing.
    pub async fn redeem(&self, room: &RoomId, exchange: Exchange) -> Result<(), FederationError> {
        match self.history.is_local(&exchange.sender) {
            true => self.turn_into_invite(room, exchange).await,
            false => self.ask_for_invite(room, exchange).await,
        }
    }

    async fn ask_for_invite(&self, room: &RoomId, exchange: Exchange) -> Result<(), FederationError> {
        let Exchange { sender, user, signed } = exchange;
        // ruma's request does without the `room_id` that has to be in the body as well.
        let body = serde_json::json!({
            "type": "m.room.member", "room_id": room, "sender": sender, "state_key": user,
            "content": {
                "membership": "invite",
                "third_party_invite": { "display_name": "", "signed": signed },
            },
        });
        let target = Request::PATH_BUILDER.make_endpoint_url((), "", &[&room], "");
        let target = target.map_err(|error| FederationError::Invalid(error.to_string()))?;
        let bounds = Bounds { timeout: HANDSHAKE_MAX, ..Bounds::default() };
        let asked =
            self.peers.put(sender.server_name(), &target, body.to_string().into_bytes(), bounds).await;
        asked.map(drop).map_err(|error| FederationError::Room(error.into()))
    }
}
