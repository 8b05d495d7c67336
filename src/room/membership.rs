//! Invite, leave, kick, ban, unban, knock and forget.

use ruma::{RoomId, UserId};
use serde_json::{Map, Value};

use super::{
    Profile, RoomError, Rooms,
    turn::{NewEvent, Turn},
    until_settled,
};
use crate::{history::tables::FORGOTTEN, log::Commit, types::Membership};

/// The content of an `m.room.member` event.
pub(super) fn member_content(
    membership: Membership,
    profile: Option<&Profile>,
    reason: Option<&str>,
) -> Map<String, Value> {
    let mut content = Map::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            content.insert(String::from(name), Value::from(value));
        }
    };
    put("membership", Some(membership.as_str()));
    if let Some(profile) = profile {
        put("displayname", profile.displayname.as_deref());
        put("avatar_url", profile.avatar_url.as_deref());
    }
    put("reason", reason);
    content
}

/// Somebody changes the membership of somebody.
struct Move<'a> {
    sender: &'a UserId,
    target: &'a UserId,
    to: Membership,
    /// What the target must be for it, and what the sender is told if it is not.
    from: (&'a [Option<Membership>], &'static str),
    content: Map<String, Value>,
}

const INSIDE: [Option<Membership>; 3] =
    [Some(Membership::Join), Some(Membership::Invite), Some(Membership::Knock)];
const ANYTHING: [Option<Membership>; 6] = [
    None,
    Some(Membership::Join),
    Some(Membership::Invite),
    Some(Membership::Knock),
    Some(Membership::Leave),
    Some(Membership::Ban),
];

impl Rooms {
    /// Invites a user.
    ///
    /// # Errors
    /// Why they cannot be invited.
    pub async fn invite(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let mut said = Map::new();
        if let Some(reason) = reason {
            said.insert(String::from("reason"), Value::from(reason));
        }
        self.invite_saying(sender, room, user, said).await
    }

    /// As [`Self::invite`]; `said` goes into the member event.
    ///
    /// # Errors
    /// Why they cannot be invited.
    pub async fn invite_saying(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        said: Map<String, Value>,
    ) -> Result<(), RoomError> {
        self.check_open(room).await?;
        if !self.0.history.is_local(user) {
            let mut content = member_content(Membership::Invite, None, None);
            content.extend(said);
            return self.invite_remote(sender, room, user, content).await.map(drop);
        }
        let profile = self.0.profiles.profile(user).await?;
        let mut content = member_content(Membership::Invite, Some(&profile), None);
        content.extend(said);
        self.invite_local(sender, room, user, content).await
    }

    /// Invites a user of this server; `content` is that of the member event.
    pub(super) async fn invite_local(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        content: Map<String, Value>,
    ) -> Result<(), RoomError> {
        self.check_invitable(user, sender, Some(room)).await?;
        let (to, from) = (Membership::Invite, (ANYTHING.as_slice(), ""));
        self.change(room, Move { sender, target: user, to, from, content }).await
    }

    /// Leaves a room, or rejects an invite, or takes back a knock. Leaving twice is leaving once.
    ///
    /// # Errors
    /// Why the user cannot leave.
    pub async fn leave(&self, user: &UserId, room: &RoomId, reason: Option<&str>) -> Result<(), RoomError> {
        if !self.is_here(room).await? || self.stands_outside(user, room).await? {
            return self.leave_outside(user, room, reason).await;
        }
        if self.0.history.membership(room, user).await? == Some(Membership::Leave) {
            return Ok(());
        }
        let to = (Membership::Leave, (&INSIDE[..], "You are not in the room"));
        self.move_plainly(room, (user, user), to, reason).await
    }

    /// Whether a user of ours is invited to a room, or knocks at it, and its state here knows nothing of that.
    pub(super) async fn stands_outside(&self, user: &UserId, room: &RoomId) -> Result<bool, RoomError> {
        let standing = self.0.history.standing(user, room).await?;
        let waits = standing
            .is_some_and(|standing| matches!(standing.membership, Membership::Invite | Membership::Knock));
        Ok(waits && !INSIDE.contains(&self.0.history.membership(room, user).await?))
    }

    /// Puts a user out of the room, or takes back an invite, or turns down a knock.
    ///
    /// # Errors
    /// Why the user cannot be kicked.
    pub async fn kick(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let content = member_content(Membership::Leave, None, reason);
        self.put_out(sender, room, (user, Membership::Leave), content).await
    }

    /// Bans a user.
    ///
    /// # Errors
    /// Why the user cannot be banned.
    pub async fn ban(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let content = member_content(Membership::Ban, None, reason);
        self.put_out(sender, room, (user, Membership::Ban), content).await
    }

    /// Kicks or bans a user; `content` is that of the member event.
    pub(super) async fn put_out(
        &self,
        sender: &UserId,
        room: &RoomId,
        (user, to): (&UserId, Membership),
        content: Map<String, Value>,
    ) -> Result<(), RoomError> {
        let from = match to {
            Membership::Ban => (&ANYTHING[..], ""),
            _ => (&INSIDE[..], "The user is not in the room"),
        };
        self.change(room, Move { sender, target: user, to, from, content }).await
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// Why the ban cannot be lifted.
    pub async fn unban(
        &self,
        sender: &UserId,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let to = (Membership::Leave, (&[Some(Membership::Ban)][..], "The user is not banned"));
        self.move_plainly(room, (sender, user), to, reason).await
    }

    /// Has `sender` set the membership of `target`, with nothing to be said but a reason.
    async fn move_plainly(
        &self,
        room: &RoomId,
        (sender, target): (&UserId, &UserId),
        (to, from): (Membership, (&[Option<Membership>], &'static str)),
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let content = member_content(to, None, reason);
        self.change(room, Move { sender, target, to, from, content }).await
    }

    /// Asks to be let into a room.
    ///
    /// # Errors
    /// Why the user cannot knock.
    pub async fn knock(&self, user: &UserId, room: &RoomId, reason: Option<&str>) -> Result<(), RoomError> {
        let profile = self.0.profiles.profile(user).await?;
        if self.0.history.room(room).await?.is_none() {
            return Err(RoomError::NotFound("This server does not know the room"));
        }
        self.change(
            room,
            Move {
                sender: user,
                target: user,
                to: Membership::Knock,
                from: (&ANYTHING, ""),
                content: member_content(Membership::Knock, Some(&profile), reason),
            },
        )
        .await
    }

    /// Takes a room that the user has left out of their sight.
    ///
    /// # Errors
    /// When the user is still in the room, or never was.
    pub async fn forget(&self, user: &UserId, room: &RoomId) -> Result<(), RoomError> {
        match self.0.history.standing(user, room).await?.map(|standing| standing.membership) {
            Some(Membership::Leave | Membership::Ban) => {}
            Some(_) => return Err(RoomError::NotLeft("You have not left the room")),
            None => return Err(RoomError::NotLeft("You have never been in the room")),
        }
        let mut commit = Commit::new();
        commit.put(&FORGOTTEN, &(user.to_owned(), room.to_owned()), &());
        self.0.history.log().commit(commit).await?;
        Ok(())
    }

    async fn change(&self, room: &RoomId, change: Move<'_>) -> Result<(), RoomError> {
        // What others are to the room, or who is new, decides about everything but leaving.
        if change.sender != change.target || change.to != Membership::Leave {
            self.whole(room).await?;
        }
        until_settled!(self.try_change(room, &change))
    }

    async fn try_change(&self, room: &RoomId, change: &Move<'_>) -> Result<(), RoomError> {
        let mut turn = Turn::begin_as_member(self, room).await?;
        let (allowed, refusal) = change.from;
        let membership = turn.membership(change.target).await?;
        if !allowed.contains(&membership) {
            return Err(RoomError::forbidden(refusal));
        }
        let event = NewEvent::state(change.sender, "m.room.member", change.target.as_str(), &change.content)?;
        match membership == Some(change.to) {
            true => turn.add_state(event).await?,
            false => turn.add(event).await?,
        };
        match turn.written.is_empty() {
            true => Ok(()),
            false => turn.finish(None).await.map(drop),
        }
    }
}
