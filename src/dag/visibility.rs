//! History visibility: may a user see an event?
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use ruma::{UserId, events::TimelineEventType};
use serde::Deserialize;

use super::pdu::Pdu;
use crate::types::Membership;

/// The `m.room.history_visibility` of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Everyone, member or not.
    WorldReadable,
    /// Members, also what was sent before they joined. What counts if nothing is set.
    #[default]
    Shared,
    /// Members, from their invite on.
    Invited,
    /// Members, from their joining on.
    Joined,
}

impl Visibility {
    /// What the state event `pdu` sets; the default if there is none or it is malformed.
    #[must_use]
    pub fn of(pdu: Option<&Pdu>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }
        let content = pdu.and_then(|pdu| pdu.content_as::<Content>().ok());
        match content.as_ref().map(|content| content.history_visibility.as_str()) {
            Some("world_readable") => Self::WorldReadable,
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// What matters of the state before an event, for one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The history visibility.
    pub visibility: Visibility,
    /// The user's membership.
    pub membership: Option<Membership>,
}

impl Standing {
    fn sees(self, joins_later: bool) -> bool {
        match (self.visibility, self.membership) {
            (Visibility::WorldReadable, _) | (_, Some(Membership::Join)) => true,
            (Visibility::Shared, _) => joins_later,
            (Visibility::Invited, Some(Membership::Invite)) => true,
            _ => false,
        }
    }
}

/// Whether `user` may see `event`, given the standing `before` it and whether the user `joins_later`, that
/// is, is joined at some point after it.
///
/// An event that changes the visibility, or the user's own membership, is seen if either side allows it.
#[must_use]
pub fn may_see(event: &Pdu, user: &UserId, before: Standing, joins_later: bool) -> bool {
    if before.sees(joins_later) {
        return true;
    }
    let after = match (event.event_type(), event.state_key()) {
        (TimelineEventType::RoomHistoryVisibility, Some("")) => {
            Standing { visibility: Visibility::of(Some(event)), ..before }
        }
        (TimelineEventType::RoomMember, Some(key)) if key == user.as_str() => {
            Standing { membership: event.membership(), ..before }
        }
        _ => return false,
    };
    after.sees(joins_later)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Standing, Visibility, may_see};
    use crate::{
        dag::world::{World, user},
        types::Membership,
    };

    /// Who sees a message, by visibility: `visibility membership [later] → sees`.
    #[test]
    fn the_table_of_the_specification() {
        let mut world = World::new("12");
        let message = world.build("alice", "m.room.message", None, json!({})).unwrap();
        for (setting, membership, later, expected) in [
            ("world_readable", "", false, true),
            ("world_readable", "ban", false, true),
            ("shared", "", false, false),
            ("shared", "", true, true),
            ("shared", "leave", false, false),
            ("shared", "leave", true, true),
            ("shared", "invite", false, false),
            ("shared", "join", false, true),
            ("invited", "invite", false, true),
            ("invited", "invite", true, true),
            ("invited", "leave", true, false),
            ("invited", "join", false, true),
            ("joined", "invite", true, false),
            ("joined", "join", false, true),
            ("joined", "leave", true, false),
            ("nonsense", "", true, true),
            ("nonsense", "", false, false),
        ] {
            let content = json!({ "history_visibility": setting });
            let set = world.build("alice", "m.room.history_visibility", Some(""), content).unwrap();
            let before = Standing {
                visibility: Visibility::of(Some(&set)),
                membership: Membership::parse(membership),
            };
            let found = may_see(&message, &user("bob"), before, later);
            assert_eq!(found, expected, "{setting} {membership} later: {later}");
        }
    }

    #[test]
    fn a_change_is_seen_from_either_side() {
        let mut world = World::new("12");
        let bob = user("bob");
        let joined = Standing { visibility: Visibility::Joined, membership: None };
        let open = world
            .build(
                "alice",
                "m.room.history_visibility",
                Some(""),
                json!({"history_visibility": "world_readable"}),
            )
            .unwrap();
        assert!(may_see(&open, &bob, joined, false));
        let join =
            world.build("bob", "m.room.member", Some("@bob:a.org"), json!({"membership": "join"})).unwrap();
        assert!(may_see(&join, &bob, joined, false));
        assert!(!may_see(&join, &user("carol"), joined, false));
        let kick = world
            .build("alice", "m.room.member", Some("@bob:a.org"), json!({"membership": "leave"}))
            .unwrap();
        let inside = Standing { visibility: Visibility::Joined, membership: Some(Membership::Join) };
        assert!(may_see(&kick, &bob, inside, false));
        assert!(!may_see(&kick, &bob, joined, false));
    }
}
