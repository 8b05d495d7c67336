//! Rooms in a few words, for directories and previews.

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, ServerName, UInt, UserId,
    events::StateEventType,
    room::{JoinRule, JoinRuleKind, JoinRuleSummary, RoomSummary},
    room_version_rules::AuthorizationRules,
};
use serde_json::{Map, Value};

use super::{History, Member, RoomRow};
use crate::{dag::StateKey, store::StoreError, types::Membership};

/// How many state events a summary is made of.
const COUNT: usize = 9;
/// Those, in this order.
const KINDS: [StateEventType; COUNT] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomTopic,
    StateEventType::RoomAvatar,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomJoinRules,
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomGuestAccess,
    StateEventType::RoomEncryption,
];

type Content = Map<String, Value>;

impl History {
    /// A room in a few words; `None` if this server does not know it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn summary(&self, room: &RoomId) -> Result<Option<RoomSummary>, StoreError> {
        let Some(row) = self.room(room).await? else { return Ok(None) };
        let keys = KINDS.map(|kind| StateKey::new(kind, ""));
        let mut contents: [Option<Content>; COUNT] = Default::default();
        for (content, value) in contents.iter_mut().zip(self.state_entries(row.state, &keys).await?) {
            if let Some(value) = value
                && let Some(event) = self.event(&value.event_id).await?
            {
                *content = event.pdu.content_as().ok();
            }
        }
        Ok(Some(summarize(room, &row, contents)))
    }

    /// Whether `user` may know of a room by its summary: it is open to them in some way, or they are in
    /// it or invited.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn may_preview(
        &self,
        user: Option<&UserId>,
        summary: &RoomSummary,
    ) -> Result<bool, StoreError> {
        if is_open(summary) {
            return Ok(true);
        }
        let Some(user) = user else { return Ok(false) };
        let membership = self.membership(&summary.room_id, user).await?;
        if matches!(membership, Some(Membership::Join | Membership::Invite)) {
            return Ok(true);
        }
        // An invite to a room that this server is not in is in no state that is known here.
        let standing = self.standing(user, &summary.room_id).await?;
        if standing.is_some_and(|standing| standing.membership == Membership::Invite) {
            return Ok(true);
        }
        if let JoinRuleSummary::Restricted(restricted) = &summary.join_rule {
            for room in &restricted.allowed_room_ids {
                if self.is_joined(room, user).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// As [`Self::may_preview`], for the users of another server.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>
    ///
    /// # Errors
    /// When the store fails.
    pub async fn may_server_preview(
        &self,
        server: &ServerName,
        summary: &RoomSummary,
    ) -> Result<bool, StoreError> {
        if is_open(summary) {
            return Ok(true);
        }
        let members = self.current_members(&summary.room_id).await?;
        let is_of = |(user, member): (&OwnedUserId, &Member)| {
            matches!(member.membership, Membership::Join | Membership::Invite) && user.server_name() == server
        };
        if members.iter().any(is_of) {
            return Ok(true);
        }
        if let JoinRuleSummary::Restricted(restricted) = &summary.join_rule {
            for room in &restricted.allowed_room_ids {
                if self.has_server(room, server).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The rooms of the public directory those with most members first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn directory(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rooms = self.published_rooms().await?;
        self.by_size(rooms).await
    }

    /// As [`Self::directory`], with the rooms of all networks beyond Matrix.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn directory_of_all_networks(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let mut rooms = self.published_anywhere().await?;
        rooms.extend(self.published_rooms().await?);
        self.by_size(rooms).await
    }

    async fn by_size(
        &self,
        rooms: impl IntoIterator<Item = OwnedRoomId>,
    ) -> Result<Vec<OwnedRoomId>, StoreError> {
        let mut counted = Vec::new();
        for room in rooms {
            if let Some(row) = self.room(&room).await? {
                counted.push((row.joined, room));
            }
        }
        counted.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.cmp(y)));
        Ok(counted.into_iter().map(|(_, room)| room).collect())
    }
}

/// Whether everybody may know of the room.
#[must_use]
pub fn is_open(summary: &RoomSummary) -> bool {
    let kind = summary.join_rule.kind();
    summary.world_readable
        || matches!(kind, JoinRuleKind::Public | JoinRuleKind::Knock | JoinRuleKind::KnockRestricted)
}

/// A join rule as it can be written. ruma's type cannot write one that it does not know; as far as the rules of rooms
/// go, such a one lets nobody in, as does `private`.
///
/// <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>
#[must_use]
pub fn tellable(rule: JoinRuleSummary) -> JoinRuleSummary {
    let is_known = matches!(
        rule,
        JoinRuleSummary::Invite
            | JoinRuleSummary::Knock
            | JoinRuleSummary::Private
            | JoinRuleSummary::Restricted(_)
            | JoinRuleSummary::KnockRestricted(_)
            | JoinRuleSummary::Public
    );
    if is_known { rule } else { JoinRuleSummary::Private }
}

/// A join rule as far as rooms of a version know it; in the others it lets nobody in either.
fn counting(rule: JoinRuleSummary, rules: &AuthorizationRules) -> JoinRuleSummary {
    let counts = match rule.kind() {
        JoinRuleKind::Knock => rules.knocking,
        JoinRuleKind::Restricted => rules.restricted_join_rule,
        JoinRuleKind::KnockRestricted => rules.knock_restricted_join_rule,
        _ => true,
    };
    if counts { rule } else { JoinRuleSummary::Private }
}

fn summarize(room: &RoomId, row: &RoomRow, contents: [Option<Content>; COUNT]) -> RoomSummary {
    let text = |index: usize, name: &str| {
        let value = contents[index].as_ref()?.get(name)?.as_str()?;
        (!value.is_empty()).then(|| String::from(value))
    };
    let rule = contents[5].clone().and_then(|content| serde_json::from_value(Value::Object(content)).ok());
    let rule = tellable(JoinRuleSummary::from(rule.unwrap_or(JoinRule::Invite)));
    let rule = counting(rule, &row.rules().authorization);
    let guests = text(7, "guest_access").as_deref() == Some("can_join");
    let world_readable = text(6, "history_visibility").as_deref() == Some("world_readable");
    let joined = UInt::new_saturating(row.joined);
    let mut summary = RoomSummary::new(room.to_owned(), rule, guests, joined, world_readable);
    summary.name = text(1, "name");
    summary.topic = text(2, "topic");
    summary.avatar_url = text(3, "url").map(Into::into);
    summary.canonical_alias = text(4, "alias").and_then(|alias| alias.try_into().ok());
    summary.room_type = text(0, "type").map(Into::into);
    summary.encryption = text(8, "algorithm").map(Into::into);
    summary.room_version = Some(row.version.clone());
    summary
}
