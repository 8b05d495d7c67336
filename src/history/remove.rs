//! Removing a room from the store.
//!
//! What begins with the room's id goes at once, with a row that says that the rest is still there: events are named by
//! ids of their own, so all of them are looked at, a page at a time, over restarts too. With each event goes what
//! leads from it, and the state trees around it that no event before it has taken along. The last words of its members
//! are kept until the other servers in the room have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, events::TimelineEventType};

use super::{
    History, StoredEvent,
    chains::{EVENTS, citers_prefix},
    state::node_key,
    tables::{
        ALIASES, AMENDMENTS, BACKFILLED, BLOCKED, FORGOTTEN_TEXTS, GAPS, GROWN, OPEN_ROOMS, PARTIAL, PLACES,
        PUBLISHED, PUBLISHED_IN, REDACTIONS, RELATIONS, REMOVALS, RETAINED, RETAINED_PAST, RETRIES,
        ROOM_ALIASES, ROOMS, RemovalRow, RemovalStage, STICKY, THREADS, UNJUDGED,
    },
};
use crate::{
    dag::{Node, NodeId, StateId, relates},
    limits::{REMOVAL_PAGE_EVENTS, REMOVAL_PARTING_MS, REMOVAL_UNWRITTEN_PAGES, SCAN_ROWS_MAX},
    log::{Audience, Commit, CommitError, Log},
    store::{Key, Scan, StoreError},
    types::{Fact, Lane, Membership, Position},
};

/// A walk over all events, on which those of the rooms go that are to go then.
#[derive(Debug, Default)]
pub struct RemovalWalk {
    is_begun: bool,
    /// The rooms, and since when each is to go.
    began: BTreeMap<OwnedRoomId, Position>,
    /// Last words, which other servers are to get.
    kept: BTreeSet<OwnedEventId>,
    after: Option<OwnedEventId>,
    /// Pages since it was written down how far this is.
    unwritten: usize,
}

impl History {
    /// The rooms that are to go.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removals(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rows = self.log().db().range(&REMOVALS, &(), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((room,), _)| room).collect())
    }

    /// How far the removal of a room has come, if it is to go.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removal(&self, room: &RoomId) -> Result<Option<RemovalRow>, StoreError> {
        self.log().db().row(&REMOVALS, &(room.to_owned(),)).await
    }

    /// Whether users of this server may not come into a room: it is blocked, or is being removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_closed(&self, room: &RoomId) -> Result<bool, StoreError> {
        Ok(self.is_blocked(room).await? || self.removal(room).await?.is_some())
    }

    /// Whether a room is blocked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_blocked(&self, room: &RoomId) -> Result<bool, StoreError> {
        Ok(self.log().db().row(&BLOCKED, &(room.to_owned(),)).await?.is_some())
    }

    /// Removes what is kept by the room's id, so that nobody knows the room any more. `row` says how far its removal
    /// has come by then.
    ///
    /// # Errors
    /// When the store fails, or the room moves meanwhile.
    pub(crate) async fn begin_removal(
        &self,
        room: &RoomId,
        row: RemovalRow,
        now_ms: u64,
    ) -> Result<(), CommitError> {
        let key = (room.to_owned(),);
        let db = self.log().db();
        let mut commit = Commit::new();
        if let Some(row) = db.row(&ROOMS, &key).await? {
            commit.expect_equals(&ROOMS, &key, &row);
            let loose = self.loose_states(room, row.state).await?;
            self.remove_states(&mut commit, loose).await?;
        }
        for ((_, alias), ()) in db.range(&ROOM_ALIASES, &key, SCAN_ROWS_MAX).await? {
            commit.delete(&ALIASES, &(alias,));
        }
        for ((network, published), ()) in db.range(&PUBLISHED_IN, &(), SCAN_ROWS_MAX).await? {
            if published == room {
                commit.delete(&PUBLISHED_IN, &(network, published));
            }
        }
        for (user, member) in self.current_members(room).await?.iter() {
            if member.membership == Membership::Join && self.is_local(user) {
                // They could not leave; still nobody is in what is not there.
                let (room_id, event_id) = (room.to_owned(), member.event_id.clone());
                let fact = Fact::Membership { room_id, membership: Membership::Leave, event_id };
                commit.fact(Lane::Account(user.clone()), fact);
                commit.close(Audience::Account(user.clone()), Lane::Room(room.to_owned()));
            }
        }
        commit.delete(&ROOMS, &key);
        commit.delete(&PUBLISHED, &key);
        commit.delete(&RETAINED, &key);
        commit.delete(&RETAINED_PAST, &key);
        commit.delete(&OPEN_ROOMS, &key);
        commit.delete_prefix(&ROOM_ALIASES, &key);
        commit.delete_prefix(&THREADS, &key);
        commit.delete_prefix(&GAPS, &key);
        commit.delete_prefix(&BACKFILLED, &key);
        commit.delete_prefix(&STICKY, &key);
        commit.delete_prefix(&UNJUDGED, &key);
        commit.delete_prefix(&RETRIES, &key);
        commit.delete_prefix(&AMENDMENTS, &key);
        commit.delete(&PARTIAL, &key);
        commit.delete_prefix(&GROWN, &key);
        for (from, to) in Log::lane_rows(&Lane::Room(room.to_owned())) {
            commit.delete_range(from, to);
        }
        let (from, to) = Log::rows_up_to(&Lane::Egress(room.to_owned()), row.began);
        commit.delete_range(from, to);
        commit.put(&REMOVALS, &key, &RemovalRow { stage: RemovalStage::Events, ..row });
        commit.put(&FORGOTTEN_TEXTS, &(now_ms, room.to_string()), &());
        self.log().commit(commit).await?;
        self.0.caches.forget_room(room);
        Ok(())
    }

    /// Removes a page of the events of the rooms that are to go; whether there may be more. All rooms share one `walk`
    /// over the events: it begins with the room that has come least far. How far it is is written with what it removes, and
    /// now and then.
    ///
    /// # Errors
    /// When the store fails; another walk goes on.
    pub(crate) async fn remove_some(&self, walk: &mut RemovalWalk) -> Result<bool, CommitError> {
        if !walk.is_begun {
            *walk = self.begin_walk().await?;
        }
        // Another process may have come further with a room, which may be there again by now.
        let mut going = self.going().await?;
        going.retain(|room, row| walk.began.get(room) == Some(&row.began));
        if going.is_empty() {
            return Ok(false);
        }
        let (page, last) = self.stored_after(walk.after.as_ref(), REMOVAL_PAGE_EVENTS).await?;
        let goes = |event: &Arc<StoredEvent>| {
            going.contains_key(event.pdu.room_id()) && !walk.kept.contains(event.pdu.event_id())
        };
        let gone: Vec<Arc<StoredEvent>> = page.into_iter().filter(goes).collect();
        let is_last = last.is_none();
        if gone.is_empty() && !is_last && walk.unwritten < REMOVAL_UNWRITTEN_PAGES {
            walk.after = last;
            walk.unwritten += 1;
            return Ok(true);
        }
        let mut commit = Commit::new();
        self.remove_events(&mut commit, &gone).await?;
        for (room, row) in &mut going {
            let count = gone.iter().filter(|event| event.pdu.room_id() == room).count();
            row.removed += u64::try_from(count).unwrap_or_default();
            row.stage = if is_last { RemovalStage::Parting } else { RemovalStage::Events };
            row.after = if is_last { None } else { row.after.take().max(last.clone()) };
            row.error = None;
            commit.put(&REMOVALS, &(room.clone(),), row);
        }
        self.log().commit(commit).await?;
        (walk.after, walk.unwritten) = (last, 0);
        let ids: Vec<OwnedEventId> = gone.iter().map(|event| event.pdu.event_id().to_owned()).collect();
        self.0.caches.forget_events(&ids);
        Ok(!is_last)
    }

    /// The rooms whose events go now.
    async fn going(&self) -> Result<BTreeMap<OwnedRoomId, RemovalRow>, StoreError> {
        let rows = self.log().db().range(&REMOVALS, &(), SCAN_ROWS_MAX).await?.into_iter();
        let rows = rows.filter(|(_, row)| row.stage == RemovalStage::Events);
        Ok(rows.map(|((room,), row)| (room, row)).collect())
    }

    async fn begin_walk(&self) -> Result<RemovalWalk, StoreError> {
        let going = self.going().await?;
        let mut walk = RemovalWalk { is_begun: true, ..RemovalWalk::default() };
        walk.after = going.values().map(|row| row.after.clone()).min().flatten();
        for (room, row) in going {
            walk.kept.extend(self.last_words(&room, row.began).await?.into_iter().map(|(_, id)| id));
            walk.began.insert(room, row.began);
        }
        Ok(walk)
    }

    /// Events of all rooms in the order of their ids, the first after `after`, at most `limit`, without those that are
    /// damaged; and the id of the last of them all, unless there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stored_after(
        &self,
        after: Option<&OwnedEventId>,
        limit: usize,
    ) -> Result<(Vec<Arc<StoredEvent>>, Option<OwnedEventId>), StoreError> {
        let all = EVENTS.prefix(&());
        let from = after.map_or_else(|| all.clone(), |id| EVENTS.key(&(id.clone(),)).successor());
        let scan = Scan { from, to: all.after_prefix(), reverse: false, limit };
        let page = self.log().db().scan_many(&[scan]).await?.pop().unwrap_or_default();
        let (mut events, mut last) = (Vec::with_capacity(page.len()), None);
        for (key, value) in page {
            let (id,) = EVENTS.decode_key(&key)?;
            match StoredEvent::decode(&id, &value) {
                Ok(event) => events.push(event),
                // Nobody knows to which room it belongs.
                Err(error) => self.note_damaged(&id, &error),
            }
            last = Some(id);
        }
        Ok((events, last))
    }

    /// Removes what is left of a room whose events are gone, if all other servers have heard that its members have
    /// left, or had time enough for that. Whether it is gone now.
    ///
    /// # Errors
    /// When the store fails; the next call goes on.
    pub(crate) async fn end_removal(&self, room: &RoomId, now_ms: u64) -> Result<bool, CommitError> {
        let row = self.removal(room).await?.filter(|row| row.stage == RemovalStage::Parting);
        let Some(row) = row else { return Ok(false) };
        let words = self.last_words(room, row.began).await?;
        let is_late = now_ms.saturating_sub(row.began_ms) >= REMOVAL_PARTING_MS;
        let servers = self.log().stored_servers_of(room).await?;
        if let Some((last, _)) = words.last().filter(|_| !is_late) {
            for server in &servers {
                if self.log().cursor_of(server).await?.log < *last {
                    return Ok(false);
                }
            }
        }
        let ids: Vec<OwnedEventId> = words.into_iter().map(|(_, id)| id).collect();
        let events: Vec<Arc<StoredEvent>> = self.sound_events(&ids).await?.into_iter().flatten().collect();
        let (lane, mut commit) = (Lane::Egress(room.to_owned()), Commit::new());
        self.remove_events(&mut commit, &events).await?;
        for (from, to) in Log::lane_rows(&lane) {
            commit.delete_range(from, to);
        }
        servers.into_iter().for_each(|server| commit.close(Audience::Server(server), lane.clone()));
        commit.delete(&REMOVALS, &(room.to_owned(),));
        self.log().commit(commit).await?;
        self.0.caches.forget_events(&ids);
        // Somebody may have read the room's row before it went, and kept it after that.
        self.0.caches.forget_room(room);
        Ok(true)
    }

    /// What members of ours did last in a room that is to go, as other servers hear of it: they left.
    async fn last_words(
        &self,
        room: &RoomId,
        began: Position,
    ) -> Result<Vec<(Position, OwnedEventId)>, StoreError> {
        let lane = Lane::Egress(room.to_owned());
        let facts = self.log().facts_after(&lane, began).await?;
        let event = |(at, fact)| match fact {
            Fact::Event { event_id } => Some((at, event_id)),
            _ => None,
        };
        let mut words: Vec<(Position, OwnedEventId)> = facts.into_iter().filter_map(event).collect();
        let ids: Vec<OwnedEventId> = words.iter().map(|(_, id)| id.clone()).collect();
        let events = self.sound_event_map(&ids).await?;
        words.retain(|(_, id)| {
            events.get(id).is_some_and(|event| *event.pdu.event_type() == TimelineEventType::RoomMember)
        });
        Ok(words)
    }

    /// Has `commit` remove events with all that leads from them.
    async fn remove_events(
        &self,
        commit: &mut Commit,
        events: &[Arc<StoredEvent>],
    ) -> Result<(), StoreError> {
        for event in events {
            let id = (event.pdu.event_id().to_owned(),);
            // What it relates to may never have been here.
            if let Some((rel_type, parent)) = relates::of(&event.pdu).and_then(|relation| relation.parent)
                && let Some(place) = self.place(event).await?
            {
                commit.delete(&RELATIONS, &(parent, rel_type, place));
            }
            commit.delete_key(super::event::key(&id.0));
            commit.delete_prefix(&RELATIONS, &id);
            commit.delete_prefix(&REDACTIONS, &id);
            commit.delete(&PLACES, &id);
            let citers = citers_prefix(&id.0);
            commit.delete_range(citers.clone(), citers.after_prefix());
            event.let_media_go(self.server(), commit);
        }
        let states = events.iter().filter_map(|event| event.states);
        self.remove_states(commit, states.flat_map(|states| [states.before, states.after, states.current]))
            .await
    }

    /// The states of a room that belong to no event: where it was moved without one.
    async fn loose_states(&self, room: &RoomId, current: StateId) -> Result<Vec<StateId>, StoreError> {
        let (mut states, mut from) = (vec![current], Position::ZERO);
        loop {
            let facts = self.log().facts_after(&Lane::Room(room.to_owned()), from).await?;
            let Some((last, _)) = facts.last() else { return Ok(states) };
            from = *last;
            states.extend(facts.into_iter().filter_map(|(_, fact)| match fact {
                Fact::StateIs { state } => Some(StateId(state)),
                _ => None,
            }));
        }
    }

    /// Has `commit` remove the trees of states. No other room has a part in them, since their leaves name events.
    async fn remove_states(
        &self,
        commit: &mut Commit,
        states: impl IntoIterator<Item = StateId>,
    ) -> Result<(), StoreError> {
        let mut next: BTreeSet<NodeId> = states.into_iter().filter_map(StateId::root).collect();
        let mut seen = next.clone();
        while !next.is_empty() {
            let ids: Vec<NodeId> = std::mem::take(&mut next).into_iter().collect();
            for ids in ids.chunks(SCAN_ROWS_MAX) {
                let keys: Vec<Key> = ids.iter().copied().map(node_key).collect();
                let rows = self.log().db().get_many(&keys).await?;
                for ((id, key), row) in ids.iter().zip(keys).zip(rows) {
                    // What is not there has gone with an earlier event.
                    let Some(row) = row else { continue };
                    commit.delete_key(key);
                    match Node::decode(id, &row) {
                        Ok(node) => next.extend(node.children().filter(|child| seen.insert(*child))),
                        // What it led to and nothing else leads to stays; the rest of the room goes.
                        Err(error) => tracing::error!(%error, "the state node {id:?} is damaged"),
                    }
                }
            }
        }
        Ok(())
    }
}
