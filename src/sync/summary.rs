//! How many are in a room, and by whom it is called if it has no name.

use std::collections::HashMap;

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{Sync, SyncError, response::Summary, rooms::Scene, timeline::Span};
use crate::{
    dag::StateId,
    limits::{PAGE_EVENTS_MAX, SYNC_HEROES_EVENTS_MAX, SYNC_HEROES_LOOKED_AT, SYNC_HEROES_MAX},
    log::Direction,
    types::{Fact, Membership, Position},
};

impl Sync {
    /// The summary of a room where the page ends.
    pub(super) async fn summary(
        &self,
        scene: &Scene<'_>,
        room: &RoomId,
        span: &Span,
    ) -> Result<Summary, SyncError> {
        let heroes = self.heroes(&scene.caller.user_id, room, span).await?;
        let state = self.state_where_it_ends(room, span).await?;
        let (joined, invited) = self.member_counts(room, state).await?.unzip();
        // Without heroes the room has a name of its own.
        Ok(Summary { heroes: (!heroes.is_empty()).then_some(heroes), joined, invited })
    }

    /// How many are joined and how many are invited in a state of a room; nothing as long as that is not known.
    pub(super) async fn member_counts(
        &self,
        room: &RoomId,
        state: StateId,
    ) -> Result<Option<(u64, u64)>, SyncError> {
        let row = self.history.room(room).await?;
        if row.as_ref().is_some_and(|row| row.partial) {
            return Ok(None);
        }
        Ok(Some(match row.filter(|row| row.state == state) {
            Some(row) => (row.joined, row.invited),
            None => {
                let members = self.history.members(room, state).await?;
                (members.joined_count() as u64, members.invited_count() as u64)
            }
        }))
    }

    /// The first few others who are joined or invited; without any, those who have left. Nobody if the
    /// room has a name.
    pub(super) async fn heroes(
        &self,
        user: &UserId,
        room: &RoomId,
        span: &Span,
    ) -> Result<Vec<OwnedUserId>, SyncError> {
        let state = self.state_where_it_ends(room, span).await?;
        match self.is_named(state).await? {
            true => Ok(Vec::new()),
            false => self.heroes_in(user, room, state).await,
        }
    }

    /// The same, whether or not the room has a name.
    pub(super) async fn heroes_in(
        &self,
        user: &UserId,
        room: &RoomId,
        state: StateId,
    ) -> Result<Vec<OwnedUserId>, SyncError> {
        let members = self.history.members(room, state).await?;
        let among = |wanted: &[Membership]| -> (Vec<_>, Vec<_>) {
            let others = members.iter().filter(|(other, _)| *other != user);
            let fit = others.filter(|(_, member)| wanted.contains(&member.membership));
            fit.map(|(user, member)| (user.clone(), member.event_id.clone())).unzip()
        };
        let (mut users, mut ids) = among(&[Membership::Join, Membership::Invite]);
        if users.is_empty() {
            (users, ids) = among(&[Membership::Leave, Membership::Ban]);
        }
        if users.len() > SYNC_HEROES_LOOKED_AT {
            let first = self.first_of(room, &users, &ids).await?;
            if first.len() >= SYNC_HEROES_MAX {
                return Ok(first);
            }
            // Whoever came first has changed since; a few of the rest have to do.
            let (rest, rest_ids) = users
                .into_iter()
                .zip(ids)
                .filter(|(user, _)| !first.contains(user))
                .take(SYNC_HEROES_LOOKED_AT)
                .unzip();
            let rest = self.in_order(rest, rest_ids).await?;
            return Ok(first.into_iter().chain(rest).take(SYNC_HEROES_MAX).collect());
        }
        if users.len() > SYNC_HEROES_MAX {
            users = self.in_order(users, ids).await?;
        }
        Ok(users)
    }

    /// The first of `users` by where their member events, `ids`, are in the log.
    async fn in_order(
        &self,
        users: Vec<OwnedUserId>,
        ids: Vec<OwnedEventId>,
    ) -> Result<Vec<OwnedUserId>, SyncError> {
        let events = self.history.events(&ids).await?;
        let places = events.iter().map(|event| event.as_ref().map(|event| event.position));
        let mut ordered: Vec<_> = places.zip(users).collect();
        ordered.sort();
        Ok(ordered.into_iter().map(|(_, user)| user).take(SYNC_HEROES_MAX).collect())
    }

    /// The same for many: looks for their member events where they are likely to be, at the beginning of
    /// the room, so that not all of them must be read.
    async fn first_of(
        &self,
        room: &RoomId,
        users: &[OwnedUserId],
        ids: &[OwnedEventId],
    ) -> Result<Vec<OwnedUserId>, SyncError> {
        let sought: HashMap<&OwnedEventId, &OwnedUserId> = ids.iter().zip(users).collect();
        let (log, mut from, mut looked_at) = (self.history.log(), Position::ZERO, 0);
        let mut found = Vec::new();
        while looked_at < SYNC_HEROES_EVENTS_MAX && found.len() < SYNC_HEROES_MAX {
            let range = (from, log.head());
            let facts = log.timeline(room, range, Direction::Forward, PAGE_EVENTS_MAX).await?;
            let Some((last, _)) = facts.last() else { break };
            from = *last;
            looked_at += facts.len();
            let named = facts.iter().filter_map(|(_, fact)| match fact {
                Fact::Event { event_id } => sought.get(event_id).map(|user| (*user).clone()),
                _ => None,
            });
            found.extend(named);
        }
        found.truncate(SYNC_HEROES_MAX);
        Ok(found)
    }

    async fn is_named(&self, state: StateId) -> Result<bool, SyncError> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(alias = "alias")]
            name: Option<String>,
        }
        for kind in [StateEventType::RoomName, StateEventType::RoomCanonicalAlias] {
            let event = self.history.state_event(state, kind, "").await?;
            let named =
                event.and_then(|event| event.pdu.content_as::<Named>().ok()).and_then(|named| named.name);
            if named.is_some_and(|name| !name.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn state_where_it_ends(&self, room: &RoomId, span: &Span) -> Result<StateId, SyncError> {
        let last = span.covered.last().and_then(|event| event.states).filter(|_| !span.jumps);
        match last {
            Some(states) => Ok(states.current),
            None => Ok(self.history.state_at_position(room, span.ends).await?),
        }
    }
}
