//! Messages whose time is over.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/1763>

use ruma::{OwnedEventId, OwnedRoomId, events::StateEventType};
use serde_json::{Map, Value};

use super::{Purge, PurgeError, Retention, Trouble};
use crate::{
    history::tables::{BACKFILLED, PastRow, RETAINED, RETAINED_PAST},
    limits::{RETENTION_PAGE_EVENTS, RETENTION_PAGES_AHEAD},
    log::{Commit, CommitError, Direction},
    store::Scan,
    types::{Fact, Position},
};

impl Retention {
    /// How long messages are kept in a room that says so much of it; nothing: for ever.
    #[must_use]
    pub fn of(&self, said_ms: Option<u64>) -> Option<u64> {
        let kept_ms = match said_ms.or(self.usual_ms) {
            Some(kept_ms) => kept_ms.max(self.shortest_ms.unwrap_or_default()),
            None => return self.longest_ms,
        };
        Some(self.longest_ms.map_or(kept_ms, |longest_ms| kept_ms.min(longest_ms)))
    }
}

impl Purge {
    /// Takes the content out of the messages of every room whose time is over.
    pub(super) async fn end_messages(&self, trouble: &mut Trouble) -> Result<(), PurgeError> {
        if self.0.settings.retention.is_none() {
            return Ok(());
        }
        for room in self.0.history.rooms().await? {
            let ended = self.end_messages_in(&room).await;
            trouble.note(format_args!("messages of {room} whose time is over"), ended);
        }
        Ok(())
    }

    async fn end_messages_in(&self, room: &OwnedRoomId) -> Result<(), PurgeError> {
        let Some(before_ms) = self.before_ms(room).await? else { return Ok(()) };
        self.end_messages_of(room, before_ms).await?;
        self.end_past_of(room, before_ms).await
    }

    /// The messages of a room that were sent before this moment are over, in milliseconds since 1970; nothing: none is.
    pub(super) async fn before_ms(&self, room: &OwnedRoomId) -> Result<Option<u64>, PurgeError> {
        let Some(retention) = &self.0.settings.retention else { return Ok(None) };
        let kept_ms = retention.of(self.said_ms(room).await?);
        Ok(kept_ms.map(|kept_ms| self.now_ms().saturating_sub(kept_ms)))
    }

    /// How long a room wants its messages to be kept.
    async fn said_ms(&self, room: &OwnedRoomId) -> Result<Option<u64>, PurgeError> {
        let history = &self.0.history;
        let Some(state) = history.current_state(room).await? else { return Ok(None) };
        let event = history.state_event(state, StateEventType::from("m.room.retention"), "").await?;
        let content: Map<String, Value> =
            event.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default();
        Ok(content.get("max_lifetime").and_then(Value::as_u64).filter(|kept_ms| *kept_ms > 0))
    }

    async fn end_messages_of(&self, room: &OwnedRoomId, before_ms: u64) -> Result<(), PurgeError> {
        let key = (room.clone(),);
        let begun = self.log().db().row(&RETAINED, &key).await?.unwrap_or(Position::ZERO);
        // Up to where everything is over; what comes next may have been sent with a clock that is ahead.
        let (mut over, mut is_whole, mut from) = (begun, true, begun);
        // However much of that there is, others behind it may be over: a little of it is looked at each time.
        let (mut idle, mut ahead) = (0, self.0.retained_ahead.lock().remove(room));
        loop {
            let range = (from, self.log().head());
            let facts = self.log().timeline(room, range, Direction::Forward, RETENTION_PAGE_EVENTS).await?;
            let Some((last, _)) = facts.last() else { break };
            from = *last;
            let ids: Vec<OwnedEventId> = facts.iter().filter_map(|(_, fact)| event_id(fact)).collect();
            let events = self.0.history.sound_event_map(&ids).await?;
            let mut ended = Vec::new();
            for (at, fact) in &facts {
                let event = event_id(fact).and_then(|id| events.get(&id));
                let is_over = event.is_none_or(|event| u64::from(event.pdu.origin_server_ts().0) < before_ms);
                is_whole &= is_over;
                over = if is_whole { *at } else { over };
                // What has been ended is no news.
                let event = event.filter(|event| is_over && !event.is_expired());
                ended.extend(event.filter(|event| event.pdu.state_key().is_none()));
            }
            if !ended.is_empty() {
                let ended: Vec<_> = ended.into_iter().map(|event| event.pdu.event_id().to_owned()).collect();
                self.0.rooms.expire(room, &ended).await?;
            } else if !is_whole {
                if idle == RETENTION_PAGES_AHEAD {
                    self.0.retained_ahead.lock().insert(room.clone(), from);
                    break;
                }
                idle += 1;
                from = ahead.take().map_or(from, |ahead| from.max(ahead));
            }
        }
        if over > begun {
            let mut commit = Commit::new();
            commit.put(&RETAINED, &key, &over);
            self.log().commit(commit).await?;
        }
        Ok(())
    }
}

impl Purge {
    /// As [`Self::end_messages_of`], for what was filled in later. What is over has no place there any more; of the rest
    /// it is written down how old it is, so that it is looked at again when that is too old, or when there is more.
    async fn end_past_of(&self, room: &OwnedRoomId, before_ms: u64) -> Result<(), PurgeError> {
        let key = (room.clone(),);
        let known = self.log().db().row(&RETAINED_PAST, &key).await?;
        if known.is_some_and(|past| past.whole && past.oldest_ms >= before_ms) {
            return Ok(());
        }
        let begun = PastRow { whole: false, oldest_ms: 0 };
        let mut commit = Commit::new();
        commit.put(&RETAINED_PAST, &key, &begun);
        self.log().commit(commit).await?;
        let oldest_ms = self.walk_past_of(room, before_ms).await?;
        let mut commit = Commit::new();
        commit.expect_equals(&RETAINED_PAST, &key, &begun);
        commit.put(&RETAINED_PAST, &key, &PastRow { whole: true, oldest_ms });
        match self.log().commit(commit).await {
            // More has come meanwhile.
            Err(CommitError::Conflict(_)) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Ends what is over of a room's past; when the oldest message of the rest was sent.
    async fn walk_past_of(&self, room: &OwnedRoomId, before_ms: u64) -> Result<u64, PurgeError> {
        let all = BACKFILLED.prefix(&(room.clone(),));
        let (mut from, to, mut oldest_ms) = (all.clone(), all.after_prefix(), u64::MAX);
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: RETENTION_PAGE_EVENTS };
            let rows = self.log().db().scan(&BACKFILLED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(oldest_ms) };
            from = BACKFILLED.key(last).successor();
            let ids: Vec<OwnedEventId> = rows.into_iter().map(|(_, id)| id).collect();
            let events = self.0.history.sound_events_once(&ids).await?.into_iter().flatten();
            let mut ended = Vec::new();
            for event in events.filter(|event| event.pdu.state_key().is_none()) {
                let sent_ms = u64::from(event.pdu.origin_server_ts().0);
                match sent_ms < before_ms {
                    true => ended.push(event.pdu.event_id().to_owned()),
                    false => oldest_ms = oldest_ms.min(sent_ms),
                }
            }
            if !ended.is_empty() {
                self.0.rooms.expire(room, &ended).await?;
            }
        }
    }
}

fn event_id(fact: &Fact) -> Option<OwnedEventId> {
    match fact {
        Fact::Event { event_id } => Some(event_id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Retention;

    #[test]
    fn a_room_has_its_will_within_bounds() {
        let bounds = Retention { usual_ms: Some(50), shortest_ms: Some(10), longest_ms: Some(100) };
        for (said, expected) in [(None, 50), (Some(20), 20), (Some(1), 10), (Some(1_000), 100)] {
            assert_eq!(bounds.of(said), Some(expected), "{said:?}");
        }
        assert_eq!(Retention::default().of(None), None);
        assert_eq!(Retention::default().of(Some(7)), Some(7));
        assert_eq!(Retention { longest_ms: Some(9), ..Retention::default() }.of(None), Some(9));
    }
}
