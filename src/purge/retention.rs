//! Messages whose time is over.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/1763>

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, events::StateEventType};
use serde_json::{Map, Value};

use super::{Purge, PurgeError, Retention, Trouble};
use crate::{
    history::{
        StoredEvent,
        tables::{BACKFILLED, PastRow, RETAINED, RETAINED_PAST},
    },
    limits::{RETENTION_PAGE_EVENTS, RETENTION_PAGES_AHEAD},
    log::{Commit, CommitError, Direction},
    store::Scan,
    types::{Fact, Lane, Position},
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
        let rooms: BTreeSet<OwnedRoomId> = self.0.history.rooms().await?.into_iter().collect();
        self.0.looked.lock().retain(|room, _| rooms.contains(room));
        for room in rooms {
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
        // Should anything fail, the room is looked at from the beginning.
        let mut looked = self.0.looked.lock().remove(room).unwrap_or_default();
        let head = self.log().head();
        if looked.front_ms < before_ms {
            self.end_front(room, (before_ms, head), &mut looked).await?;
        }
        let mut idle = 0;
        while idle < RETENTION_PAGES_AHEAD {
            match self.end_page(room, (looked.upto, head), before_ms).await? {
                Some(page) => {
                    looked.upto = page.last;
                    looked.behind_ms = looked.behind_ms.min(page.oldest_ms);
                    idle += usize::from(!page.has_ended);
                }
                // Something behind the front is over by now: all of that is looked at again.
                None if looked.behind_ms < before_ms => {
                    (looked.upto, looked.behind_ms) = (Position::ZERO, u64::MAX);
                    self.end_front(room, (before_ms, head), &mut looked).await?;
                }
                None => {
                    // From here on the log knows without the store whether there is more.
                    looked.upto = looked.upto.max(head);
                    break;
                }
            }
        }
        self.0.looked.lock().insert(room.clone(), looked);
        Ok(())
    }

    /// Ends what is over at the front of a room's timeline: from where all before is over to the first page in which nothing
    /// is.
    async fn end_front(
        &self,
        room: &OwnedRoomId,
        (before_ms, head): (u64, Position),
        looked: &mut Looked,
    ) -> Result<(), PurgeError> {
        let key = (room.clone(),);
        let begun = self.log().db().row(&RETAINED, &key).await?.unwrap_or(Position::ZERO);
        let (mut over, mut is_whole, mut front) = (begun, true, begun);
        looked.front_ms = u64::MAX;
        while let Some(page) = self.end_page(room, (front, head), before_ms).await? {
            front = page.last;
            looked.front_ms = looked.front_ms.min(page.oldest_ms);
            if is_whole {
                over = page.over.unwrap_or(over);
                is_whole = over == page.last;
            }
            if !is_whole && !page.has_ended {
                break;
            }
        }
        if over > begun {
            let mut commit = Commit::new();
            commit.put(&RETAINED, &key, &over);
            self.log().commit(commit).await?;
        }
        if looked.upto < front {
            (looked.upto, looked.behind_ms) = (front, u64::MAX);
        }
        Ok(())
    }

    /// Ends what is over in the next page of a room's timeline; nothing, if there is none.
    async fn end_page(
        &self,
        room: &OwnedRoomId,
        range: (Position, Position),
        before_ms: u64,
    ) -> Result<Option<EndedPage>, PurgeError> {
        if !self.log().may_have(&Lane::Room(room.clone()), range.0) {
            return Ok(None);
        }
        let facts = self.log().timeline(room, range, Direction::Forward, RETENTION_PAGE_EVENTS).await?;
        let Some((last, _)) = facts.last() else { return Ok(None) };
        let mut page = EndedPage { last: *last, over: None, oldest_ms: u64::MAX, has_ended: false };
        let ids: Vec<OwnedEventId> = facts.iter().filter_map(|(_, fact)| event_id(fact)).collect();
        let events = self.0.history.sound_events_once(&ids).await?.into_iter().flatten();
        let events: HashMap<OwnedEventId, Arc<StoredEvent>> =
            events.map(|event| (event.pdu.event_id().to_owned(), event)).collect();
        let mut ended = Vec::new();
        for (at, fact) in &facts {
            let event = event_id(fact).and_then(|id| events.get(&id));
            let sent_ms = event.map_or(0, |event| u64::from(event.pdu.origin_server_ts().0));
            if sent_ms >= before_ms {
                page.oldest_ms = page.oldest_ms.min(sent_ms);
                continue;
            }
            if page.oldest_ms == u64::MAX {
                page.over = Some(*at);
            }
            // What has been ended is no news.
            let event = event.filter(|event| !event.is_expired() && event.pdu.state_key().is_none());
            ended.extend(event.map(|event| event.pdu.event_id().to_owned()));
        }
        page.has_ended = !ended.is_empty();
        if page.has_ended {
            self.0.rooms.expire(room, &ended).await?;
        }
        Ok(Some(page))
    }
}

/// What has been looked at of a room's timeline, which is not looked at again before something of it is over. Times are in
/// milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// When the oldest event at the front was sent that was not over: there all is looked at that comes before others which
    /// are not over either.
    front_ms: u64,
    /// Up to where has been looked behind that: others may have been sent with a clock that is ahead. However much there
    /// is, a little of it is looked at each time.
    upto: Position,
    /// When the oldest event there was sent that was not over.
    behind_ms: u64,
}

impl Default for Looked {
    fn default() -> Self {
        Self { front_ms: 0, upto: Position::ZERO, behind_ms: u64::MAX }
    }
}

/// A page of a timeline in which everything is ended that was over.
struct EndedPage {
    last: Position,
    /// Up to where all of it was over.
    over: Option<Position>,
    /// When the oldest event was sent that was not, in milliseconds since 1970.
    oldest_ms: u64,
    /// Whether there was anything to end.
    has_ended: bool,
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
