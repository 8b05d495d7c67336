//! Setting a membership as a state event, which does what the endpoint for it does.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#mroommember>

use ruma::{OwnedEventId, RoomId, UserId, events::StateEventType};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{RoomError, Rooms, membership::member_content, until_settled};
use crate::types::Membership;

/// Somebody says what somebody is to be to a room.
struct Wish<'a> {
    user: &'a UserId,
    room: &'a RoomId,
    to: Membership,
    content: Map<String, Value>,
}

impl Wish<'_> {
    fn reason(&self) -> Option<&str> {
        self.content.get("reason").and_then(Value::as_str)
    }
}

impl Rooms {
    /// Sets the membership of `target`; answers with the event's id. What else the content says goes into the event,
    /// unless another server makes it.
    ///
    /// # Errors
    /// Why it cannot be set.
    pub(super) async fn set_member(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &str,
        content: &RawValue,
    ) -> Result<OwnedEventId, RoomError> {
        let bad = |error: serde_json::Error| RoomError::BadJson(error.to_string());
        let content: Map<String, Value> = serde_json::from_str(content.get()).map_err(bad)?;
        let to = content.get("membership").and_then(Value::as_str).and_then(Membership::parse);
        let to = to.ok_or_else(|| RoomError::BadJson(String::from("The membership is unknown")))?;
        let mut wish = Wish { user, room, to, content };
        match target == user.as_str() {
            true if self.moves(&wish).await? => return self.own_member(user, room).await,
            true => {}
            false => self.whole(room).await?,
        }
        if matches!(to, Membership::Invite | Membership::Knock)
            && let Ok(target) = <&UserId>::try_from(target)
            && self.0.history.is_local(target)
        {
            let profile = self.0.profiles.profile(target).await?;
            for (name, value) in member_content(to, Some(&profile), None) {
                wish.content.entry(name).or_insert(value);
            }
        }
        let content = to_raw_value(&wish.content).map_err(bad)?;
        let place = (&StateEventType::RoomMember, target);
        until_settled!(self.try_set_state(user, room, place, (&content, None)))
    }

    /// Does what a user wants to be to a room themself, where that takes more than an event of this server's.
    async fn moves(&self, wish: &Wish<'_>) -> Result<bool, RoomError> {
        let (user, room, reason) = (wish.user, wish.room, wish.reason());
        match wish.to {
            Membership::Join if !self.0.history.is_joined(room, user).await? => {
                let mut extra = wish.content.clone();
                extra.retain(|name, _| name != "membership" && name != "reason");
                self.enter(user, room, &[], (reason, extra)).await?;
            }
            Membership::Knock if !self.is_here(room).await? => {
                self.call_at(user, room, &[], reason).await?;
            }
            Membership::Leave if !self.is_here(room).await? || self.stands_outside(user, room).await? => {
                self.leave_outside(user, room, reason).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The event that says what a user of ours is to a room now.
    async fn own_member(&self, user: &UserId, room: &RoomId) -> Result<OwnedEventId, RoomError> {
        let standing = self.0.history.standing(user, room).await?;
        standing.map(|standing| standing.event_id).ok_or(RoomError::Conflict)
    }
}
