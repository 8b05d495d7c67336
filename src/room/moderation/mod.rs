//! What this server itself keeps from its users: invites by its settings, and whom and what policy lists ban.
//!
//! Of the users of this server nobody is banned by a list, whatever it says, and administrators may go anywhere: they
//! are who sets this right. What comes over federation in rooms that users of ours are in is not touched.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#moderation-policy-lists>

mod banned;
mod lists;
mod rules;

use ruma::{OwnedRoomOrAliasId, RoomAliasId, RoomId, ServerName, UserId, events::StateEventType};
use serde::Deserialize;
use wildmatch::WildMatch;

pub use banned::Banned;
use lists::Lists;

use super::{RoomError, Rooms};
use crate::{account::Verdict, types::Membership};

/// Whose invites reach the users of this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inviters {
    /// Everybody's.
    #[default]
    Anyone,
    /// Of those who are in some room with whom they invite.
    SharedRoom,
    /// Of users of this server.
    Local,
}

/// What is kept from users; see the parts `invites` and `moderation` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ModerationSettings {
    /// Whose invites reach them.
    pub inviters: Inviters,
    /// Globs of servers whose users may invite whatever `inviters` says.
    pub allowed_servers: Vec<String>,
    /// The rooms of the policy lists.
    pub policy_lists: Vec<OwnedRoomOrAliasId>,
}

/// The settings, and what is known of the lists.
#[derive(Debug, Default)]
pub(super) struct Moderation {
    inviters: Inviters,
    allowed_servers: Vec<WildMatch>,
    lists: Lists,
}

impl Moderation {
    fn new(settings: ModerationSettings) -> Self {
        let allowed = settings.allowed_servers.iter().map(|glob| WildMatch::new(&glob.to_lowercase()));
        Self {
            inviters: settings.inviters,
            allowed_servers: allowed.collect(),
            lists: Lists::of(settings.policy_lists),
        }
    }

    /// Forgets what is known of the list in a room, where events have lost their content.
    pub(super) fn forget(&self, room: &RoomId) {
        self.lists.forget(room);
    }

    fn allows(&self, server: &ServerName) -> bool {
        let names = banned::names(server);
        self.allowed_servers.iter().any(|glob| names.iter().any(|name| glob.matches(name)))
    }
}

impl Rooms {
    /// Keeps from users what `settings` say; everything reaches them until this is called, and it is heard once.
    pub fn moderate(&self, settings: ModerationSettings) {
        // A second call would be a mistake of this program, and harms nobody.
        let _ = self.0.moderation.set(Moderation::new(settings));
    }

    pub(super) fn moderation(&self) -> &Moderation {
        self.0.moderation.get_or_init(Moderation::default)
    }

    /// Refuses to have a user of ours invited if the server or they themselves do not want it. `room` is where to, if
    /// it is there already.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>
    pub(super) async fn check_invitable(
        &self,
        user: &UserId,
        inviter: &UserId,
        room: Option<&RoomId>,
    ) -> Result<(), RoomError> {
        if user == inviter {
            return Ok(());
        }
        if let Some(why) = self.policy_against(user, inviter, room).await?
            && !self.is_above_policy(inviter).await?
            // Administrators come into rooms by an invite of whoever is there.
            && !(self.0.history.is_local(inviter) && self.is_above_policy(user).await?)
        {
            return Err(RoomError::forbidden(why));
        }
        match self.0.profiles.judge_invite(user, inviter).await? {
            Verdict::Block => Err(RoomError::InviteBlocked),
            Verdict::Acquainted if !self.share_closed_room(user, inviter).await? => {
                Err(RoomError::InviteBlocked)
            }
            Verdict::Allow | Verdict::Acquainted | Verdict::Ignore => Ok(()),
        }
    }

    /// Why this server does not want `user` invited by `inviter`, if it does not.
    async fn policy_against(
        &self,
        user: &UserId,
        inviter: &UserId,
        room: Option<&RoomId>,
    ) -> Result<Option<&'static str>, RoomError> {
        let (history, moderation) = (&self.0.history, self.moderation());
        let banned = self.banned().await?;
        if banned.has_user(inviter) {
            return Ok(Some("A policy list of the user's server bans you"));
        }
        if let Some(room) = room
            && self.is_banned(&banned, room).await?
        {
            return Ok(Some("A policy list of the user's server bans the room"));
        }
        if moderation.inviters == Inviters::Anyone || moderation.allows(inviter.server_name()) {
            return Ok(None);
        }
        // Whoever knocks wants to be invited.
        if let Some(room) = room
            && let Some(standing) = history.standing(user, room).await?
            && standing.membership == Membership::Knock
        {
            return Ok(None);
        }
        Ok(match moderation.inviters {
            Inviters::Local if history.is_local(inviter) => None,
            Inviters::Local => Some("The user's server takes no invites from your server"),
            _ if history.shares_room(user, inviter).await? => None,
            _ => Some("The user's server takes invites only from those who share a room with the user"),
        })
    }

    async fn is_above_policy(&self, user: &UserId) -> Result<bool, RoomError> {
        Ok(self.0.history.is_local(user) && self.0.profiles.is_above_policy(user).await?)
    }

    /// Whether both are in some room that is not public (MSC4494).
    async fn share_closed_room(&self, user: &UserId, other: &UserId) -> Result<bool, RoomError> {
        #[derive(Deserialize)]
        struct Content {
            join_rule: String,
        }
        let history = &self.0.history;
        for room in history.mutual_rooms(user, other).await? {
            let Some(state) = history.current_state(&room).await? else { continue };
            let rule = history.state_event(state, StateEventType::RoomJoinRules, "").await?;
            let rule = rule.and_then(|rule| rule.pdu.content_as::<Content>().ok());
            if rule.is_none_or(|rule| rule.join_rule != "public") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses to let a user of ours into a room that a policy list bans, unless they are in it or an administrator.
    pub(super) async fn check_welcome(&self, user: &UserId, room: &RoomId) -> Result<(), RoomError> {
        let banned = self.banned().await?;
        if !self.is_banned(&banned, room).await?
            || self.0.history.is_joined(room, user).await?
            || self.is_above_policy(user).await?
        {
            return Ok(());
        }
        Err(RoomError::forbidden("A policy list of this server bans the room"))
    }

    /// As the room that an alias points to would be refused, for an alias that a list bans itself, or whose server it
    /// does: nobody is asked where it points. Who is in the room of an alias of this server stays.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if so.
    pub async fn check_alias_welcome(&self, user: &UserId, alias: &RoomAliasId) -> Result<(), RoomError> {
        if !self.banned().await?.has_alias(alias) || self.is_above_policy(user).await? {
            return Ok(());
        }
        match self.0.history.alias(alias).await? {
            Some(row) if self.0.history.is_joined(&row.room_id, user).await? => Ok(()),
            _ => Err(RoomError::forbidden("A policy list of this server bans the room")),
        }
    }
}
