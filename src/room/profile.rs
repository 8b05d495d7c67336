//! A user's doings in all of their rooms at once.

use ruma::{RoomId, UserId};
use serde_json::{Map, Value};

use super::{
    Profile, RoomError, Rooms,
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::types::Membership;

/// What a member event says once and does not repeat.
const MOMENTARY: [&str; 4] =
    ["reason", "is_direct", "third_party_invite", "join_authorised_via_users_server"];

impl Rooms {
    /// Shows a user's present profile in every room that they are in. A room where it cannot be shown
    /// does not keep it from the others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_member_profile(&self, user: &UserId) -> Result<(), RoomError> {
        let profile = self.0.profiles.profile(user).await?;
        for room in self.0.history.joined_rooms(user).await? {
            match until_settled!(self.try_update(user, &room, &profile)) {
                Err(error @ (RoomError::Store(_) | RoomError::Closed)) => return Err(error),
                Err(error) => tracing::debug!(%room, %error, "a profile could not be shown in a room"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn try_update(&self, user: &UserId, room: &RoomId, profile: &Profile) -> Result<(), RoomError> {
        let mut turn = Turn::begin(self, room).await?;
        let Some(present) = turn.place("m.room.member", user.as_str()).await? else { return Ok(()) };
        if present.membership() != Some(Membership::Join) {
            return Ok(());
        }
        let before: Map<String, Value> = present.content_as().unwrap_or_default();
        let mut content = before.clone();
        MOMENTARY.iter().for_each(|name| drop(content.remove(*name)));
        for (name, value) in [("displayname", &profile.displayname), ("avatar_url", &profile.avatar_url)] {
            match value {
                Some(value) => content.insert(String::from(name), Value::from(value.as_str())),
                None => content.remove(name),
            };
        }
        let says = |content: &Map<String, Value>, name| content.get(name).cloned();
        if ["displayname", "avatar_url"].iter().all(|name| says(&before, *name) == says(&content, *name)) {
            return Ok(());
        }
        turn.add(NewEvent::state(user, "m.room.member", user.as_str(), &content)?).await?;
        turn.finish(None).await.map(drop)
    }

    /// Has a user leave every room, reject every invite and take back every knock. A room that cannot
    /// be left does not keep them in the others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave_all(&self, user: &UserId) -> Result<(), RoomError> {
        for entry in self.0.history.memberships(user).await? {
            if !matches!(entry.membership, Membership::Join | Membership::Invite | Membership::Knock) {
                continue;
            }
            self.leave_if_possible(user, &entry.room_id).await?;
        }
        Ok(())
    }

    /// Has a user leave a room; what keeps them there is said in the log of the server alone.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn leave_if_possible(&self, user: &UserId, room: &RoomId) -> Result<(), RoomError> {
        match self.leave(user, room, None).await {
            Err(error @ (RoomError::Store(_) | RoomError::Closed)) => Err(error),
            Err(error) => {
                tracing::warn!(room.id = %room, user.id = %user, %error, "{user} could not leave {room}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
