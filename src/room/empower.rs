//! Making somebody powerful in a room in whose name nobody who is powerful acts any more.

use ruma::{OwnedUserId, RoomId, UserId, events::StateEventType};
use serde_json::{Value, value::to_raw_value};

use super::{RoomError, Rooms, turn::Turn};
use crate::types::Membership;

const LEVELS: StateEventType = StateEventType::RoomPowerLevels;

impl Rooms {
    /// Makes `user` as powerful in a room as the most powerful user of this server is there, in that one's name, and
    /// invites whoever is not in it. Where that one has founded the room, `user` may set what its founders may.
    ///
    /// # Errors
    /// When no user of this server may say who is powerful there, or the store fails.
    pub async fn empower(&self, room: &RoomId, user: &UserId) -> Result<(), RoomError> {
        self.whole(room).await?;
        let members = self.0.history.current_members(room).await?;
        let turn = Turn::begin(self, room).await?;
        let power = turn.power().await?;
        let local = members.with(Membership::Join).filter(|member| self.0.history.is_local(member));
        let needed = power.to_send(&LEVELS.to_string().into(), Some(""));
        let most: Option<(i64, &OwnedUserId)> = local.map(|member| (power.user(member), member)).max();
        let Some((level, most)) = most.filter(|(level, _)| *level >= needed) else {
            return Err(RoomError::forbidden("No user of this server may say who is powerful in the room"));
        };
        let mut content = Self::content_of(&turn, "m.room.power_levels").await?;
        drop(turn);
        if power.user(user) < level {
            // Founders have more power than can be given.
            let level = level.min(needed.max(100));
            let users = content.entry("users").or_insert_with(|| Value::Object(serde_json::Map::new()));
            let users =
                users.as_object_mut().ok_or_else(|| RoomError::BadState("The levels are no map".into()))?;
            users.insert(user.to_string(), level.into());
            let content = to_raw_value(&content).map_err(|error| RoomError::BadJson(error.to_string()))?;
            self.set_state(most, room, (&LEVELS, ""), content).await?;
        }
        let membership = self.0.history.membership(room, user).await?;
        if matches!(membership, Some(Membership::Join | Membership::Invite)) {
            return Ok(());
        }
        self.invite(most, room, user, None).await
    }
}
