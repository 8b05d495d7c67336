//! What a user was notified of, newest first: judged again from the log, since nothing is kept of it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, UserId, push::Action};

use super::{Push, PushError, unread::Marks};
use crate::{
    history::StoredEvent,
    limits::{NOTIFICATION_EVENTS_MAX, NOTIFICATION_EVENTS_READ},
    log::{Audience, Direction},
    types::{Fact, Lane, Position},
};

/// An event of which the user was notified.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What the user's rules say.
    pub actions: Vec<Action>,
    /// The user has read it.
    pub is_read: bool,
}

impl Push {
    /// The newest notifications of `user` below `before`, at most `limit`, of the rooms that they are in;
    /// and where to go on, if there may be more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn notifications(
        &self,
        user: &UserId,
        mut before: Position,
        limit: usize,
        only_highlights: bool,
    ) -> Result<(Vec<Notification>, Option<Position>), PushError> {
        let person = self.person(user).await?;
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let open = lanes.latest().filter_map(|(lane, interval)| match (lane, interval.closed) {
            (Lane::Room(room), None) => Some((room.clone(), interval.opened)),
            _ => None,
        });
        let open: Vec<(OwnedRoomId, Position)> = open.collect();
        let rooms: Vec<OwnedRoomId> = open.iter().map(|(room, _)| room.clone()).collect();
        let marks = self.marks(user, &rooms).await?;
        let marks: HashMap<OwnedRoomId, Marks> = rooms.into_iter().zip(marks).collect();
        let (mut found, mut judged) = (Vec::new(), 0);
        loop {
            // A round costs a look into each room, however few are wanted.
            let (events, floor) = self.newest(&open, before, limit.max(NOTIFICATION_EVENTS_READ)).await?;
            for event in events {
                let at = event.position;
                judged += 1;
                let notification = self.judge_one(user, &person, (event, &marks)).await?;
                let is_wanted =
                    |found: &Notification| !only_highlights || found.actions.iter().any(Action::is_highlight);
                found.extend(notification.filter(is_wanted));
                if found.len() >= limit || judged >= NOTIFICATION_EVENTS_MAX {
                    return Ok((found, Some(at)));
                }
            }
            match floor {
                Some(floor) => before = floor,
                None => return Ok((found, None)),
            }
        }
    }

    /// Events below `before`, newest first; and from where on there are more, if there are.
    async fn newest(
        &self,
        open: &[(OwnedRoomId, Position)],
        before: Position,
        limit: usize,
    ) -> Result<(Vec<Arc<StoredEvent>>, Option<Position>), PushError> {
        let to = Position(before.0.saturating_sub(1));
        let below = open.iter().filter(|(_, opened)| *opened < to);
        let wanted: Vec<_> = below.map(|(room, opened)| (room.clone(), *opened, to)).collect();
        let found = self.0.log.timelines(&wanted, Direction::Backward, limit).await?;
        let full = found.iter().filter(|facts| facts.len() >= limit);
        let floor = full.filter_map(|facts| facts.last().map(|(at, _)| *at)).max();
        let mut ids: Vec<(Position, OwnedEventId)> = Vec::new();
        for (at, fact) in found.into_iter().flatten().filter(|(at, _)| Some(*at) >= floor) {
            if let Fact::Event { event_id } = fact {
                ids.push((at, event_id));
            }
        }
        ids.sort_by(|a, b| b.cmp(a));
        let ids: Vec<OwnedEventId> = ids.into_iter().map(|(_, id)| id).collect();
        Ok((self.0.history.sound_events(&ids).await?.into_iter().flatten().collect(), floor))
    }

    async fn judge_one(
        &self,
        user: &UserId,
        person: &super::Person,
        (event, marks): (Arc<StoredEvent>, &HashMap<OwnedRoomId, Marks>),
    ) -> Result<Option<Notification>, PushError> {
        if !event.is_shown() || event.notes.redacted_by.is_some() {
            return Ok(None);
        }
        let actions = self.judge(user, person, &event).await?;
        if !actions.iter().any(Action::should_notify) {
            return Ok(None);
        }
        let thread = self.0.history.thread_of(&event).await?;
        let read = marks.get(event.pdu.room_id()).map(|marks| marks.of(&thread)).unwrap_or_default();
        let is_read = event.position <= read;
        Ok(Some(Notification { event, actions, is_read }))
    }
}
