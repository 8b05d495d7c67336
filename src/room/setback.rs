//! What a resolution takes away that had stood: noticed, counted and told, so that whoever runs the server knows of it
//! before the users ask.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use ruma::{EventId, OwnedEventId, RoomId, UserId, events::StateEventType};

use super::{RoomError, Rooms, turn::Turn};
use crate::{
    dag::{StateKey, StateValue, tree::Change},
    history::Status,
    limits::SETBACK_CHAIN_MAX,
    types::{Membership, Position},
};

/// A place of the current state that went back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setback {
    pub(super) key: StateKey,
    /// What had stood there.
    pub(super) old: OwnedEventId,
    /// What stands there now: something older, or nothing.
    pub(super) new: Option<OwnedEventId>,
    /// The event with which that came, if it was one.
    pub(super) with: Option<OwnedEventId>,
}

/// How often it has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Setbacks(AtomicU64);

impl Setbacks {
    /// Counts and tells what was just written.
    pub(super) fn tell(&self, room: &RoomId, setbacks: &[Setback]) {
        for Setback { key, old, new, with } in setbacks {
            self.0.fetch_add(1, Ordering::Relaxed);
            let StateKey { event_type, state_key } = key;
            let name = |id: &Option<OwnedEventId>| {
                id.as_ref().map_or_else(|| String::from("nothing"), ToString::to_string)
            };
            let (new, with) = (name(new), name(with));
            tracing::warn!(
                room.id = %room, state.kind = %event_type, state.key = %state_key,
                event.old = %old, event.new = %new, event.with = %with,
                "the state of {room} went back: in place of {old} as {event_type} {state_key:?} there is {new} since {with} \
                 came; `lockstep room explain` says why"
            );
        }
    }
}

impl Rooms {
    /// How often since the start a resolution has taken away, without an event that says so, the membership of a user of
    /// ours, or has put something older in the place of the power levels, the create event or the join rules.
    #[must_use]
    pub fn setbacks(&self) -> u64 {
        self.0.setbacks.0.load(Ordering::Relaxed)
    }
}

impl Turn {
    /// Notes which of `changes`, which come with an event or by themselves, set the room back.
    pub(super) async fn mind_setbacks(
        &mut self,
        changes: &[Change],
        with: Option<&EventId>,
    ) -> Result<(), RoomError> {
        // What is known of a room without its members is provisional. And where nobody of ours is in the room, what is
        // known of it is from an earlier stay: whoever comes back has not seen what has changed since.
        if self.base.as_ref().is_none_or(|base| base.partial || base.joined <= base.remote) {
            return Ok(());
        }
        for Change { key, before, after } in changes {
            let Some(before) = before.as_ref().filter(|before| self.is_dear(key, before)) else { continue };
            let new = after.as_ref().map(|after| &*after.event_id);
            if new.is_some() && new == with {
                continue;
            }
            let is_back = match new {
                Some(new) => self.is_older(new, &before.event_id).await?,
                None => true,
            };
            if is_back {
                self.setbacks.push(Setback {
                    key: key.clone(),
                    old: before.event_id.clone(),
                    new: new.map(ToOwned::to_owned),
                    with: with.map(ToOwned::to_owned),
                });
            }
        }
        Ok(())
    }

    /// Whether somebody would miss it.
    fn is_dear(&self, key: &StateKey, value: &StateValue) -> bool {
        match key.event_type {
            StateEventType::RoomMember => {
                let user = <&UserId>::try_from(key.state_key.as_str());
                value.membership == Some(Membership::Join)
                    && user.is_ok_and(|user| self.rooms.history().is_local(user))
            }
            StateEventType::RoomCreate | StateEventType::RoomPowerLevels | StateEventType::RoomJoinRules => {
                key.state_key.is_empty()
            }
            _ => false,
        }
    }

    /// Whether `new` is from before `old`.
    async fn is_older(&self, new: &EventId, old: &EventId) -> Result<bool, RoomError> {
        Ok(match (self.age(new).await?, self.age(old).await?) {
            (Some(new), Some(old)) => new < old,
            // What came as part of a state may be from before or after: only what it was allowed by tells.
            _ => self.is_allowed_by(old, new).await?,
        })
    }

    /// When an event came here, and how far it is from the room's beginning; none for what is no part of the log.
    async fn age(&self, id: &EventId) -> Result<Option<(Position, u64)>, RoomError> {
        let is_new = self.fresh.get(id).is_some_and(|event| event.status != Status::Outlier);
        let event = self.known(id).await?;
        Ok(event.and_then(|event| match (is_new, event.position) {
            (true, _) => Some((Position::MAX, event.pdu.depth())),
            (false, Position::ZERO) => None,
            (false, position) => Some((position, event.pdu.depth())),
        }))
    }

    /// Whether `cause` is in the auth chain of `event`, as far as that is looked at.
    async fn is_allowed_by(&self, event: &EventId, cause: &EventId) -> Result<bool, RoomError> {
        let mut met = HashSet::from([event.to_owned()]);
        let mut level = vec![event.to_owned()];
        while !level.is_empty() && met.len() < SETBACK_CHAIN_MAX {
            let (fresh, stored): (Vec<_>, Vec<_>) =
                level.into_iter().partition(|id| self.fresh.contains_key(id));
            let stored = self.rooms.0.history.events(&stored).await?;
            let fresh = fresh.iter().filter_map(|id| self.fresh.get(id)).map(|event| &event.pdu);
            let pdus = fresh.chain(stored.iter().flatten().map(|event| &event.pdu));
            let causes = pdus.flat_map(|pdu| pdu.auth_events().iter());
            level = causes.filter(|id| met.insert((*id).clone())).cloned().collect();
            if level.iter().any(|id| id == cause) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
