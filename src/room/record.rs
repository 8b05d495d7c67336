//! From a turn to a commit, and what is remembered once it is written.

use std::{collections::BTreeSet, mem, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, events::StateEventType};

use super::{
    RoomError, Rooms,
    guard::{Lasting, RoomGuard},
    setback::Setback,
    turn::{Turn, Written},
};
use crate::{
    dag::tree::{Change, NewNode},
    history::{
        History, RoomRow, StoredEvent, sticky_until_ms,
        tables::{
            BACKFILLED, FORGOTTEN, FORGOTTEN_TEXTS, LATE, PLACES, RETAINED_PAST, ROOMS, STICKY, STRIPPED,
            StrippedRow,
        },
    },
    log::{Audience, Commit, CommitError, OnceKey},
    types::{Fact, Lane, Membership, Position},
};

/// What is remembered of a turn once it is written.
struct Memory {
    room_id: OwnedRoomId,
    row: Arc<RoomRow>,
    /// Each with the number of positions that lie between it and the next.
    written: Vec<(StoredEvent, u64)>,
    rewritten: Vec<StoredEvent>,
    /// How many positions after the last event's have no event.
    after: u64,
    /// Whether events may have been here before in another form.
    replaces: bool,
    /// Whether the room may want no more guests.
    moves_guests: bool,
    setbacks: Vec<Setback>,
}

impl Turn {
    /// Writes everything in one commit and answers with the id of the last event. With `once`, a
    /// repeated request is answered with the id that it got the first time.
    pub(super) async fn finish(mut self, once: Option<OnceKey>) -> Result<OwnedEventId, RoomError> {
        self.index().await?;
        let last = self.written.last().map(|written| written.event.pdu.event_id().to_owned());
        let last = last.ok_or(RoomError::NotFound("There is nothing to do"))?;
        let mut commit = match once {
            Some(key) => Commit::once(key, last.as_bytes().to_vec()),
            None => Commit::new(),
        };
        let is_plain = self.is_plain();
        self.fill(&mut commit);
        let (rooms, guard) = (self.rooms.clone(), self.guard.take());
        let memory = self.into_memory();
        let result = match guard {
            Some(guard) if is_plain => memory.pass_on(&rooms, guard, commit).await,
            guard => memory.hold(rooms, guard, commit).await,
        };
        match result {
            Ok(_) => Ok(last),
            Err(CommitError::AlreadyDone(reply)) => first_answer(&reply),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what came of events from outside, if there is anything; see [`Self::finish`].
    pub(super) async fn close(mut self) -> Result<(), RoomError> {
        self.index().await?;
        let is_nothing = self.written.is_empty() && self.hidden.is_empty() && self.rewritten.is_empty();
        if is_nothing && self.extra.is_empty() && self.moved.is_none() {
            return Ok(());
        }
        let mut commit = Commit::new();
        self.fill(&mut commit);
        let (rooms, guard) = (self.rooms.clone(), self.guard.take());
        let memory = Memory { replaces: true, ..self.into_memory() };
        Ok(memory.hold(rooms, guard, commit).await.map(drop)?)
    }

    /// Writes the turns of two rooms in one commit.
    pub(super) async fn finish_both(mut self, mut other: Self) -> Result<(), RoomError> {
        let mut commit = Commit::new();
        self.fill(&mut commit);
        other.fill(&mut commit);
        let (rooms, guards) = (self.rooms.clone(), [self.guard.take(), other.guard.take()]);
        let memories = [self.into_memory(), other.into_memory()];
        let tasks = rooms.0.tasks.clone();
        let work = async move {
            let result = rooms.0.history.log().commit(commit).await;
            for (memory, guard) in memories.into_iter().zip(guards) {
                let row = memory.row.clone();
                if result.is_ok() {
                    // Events of two rooms may share positions; the history reads them when it needs them.
                    rooms.0.history.note(&memory.room_id, &row, &[], true);
                }
                settle(&rooms, &memory.room_id, guard, result.is_ok().then_some(row)).await;
            }
            result
        };
        let result = Lasting::new(&tasks, work).await;
        Ok(result.map(drop)?)
    }

    /// Whether nothing that others build on is written, but for the room's heads.
    fn is_plain(&self) -> bool {
        let plain = |written: &Written| {
            written.changes.is_empty() && written.related.as_ref().is_none_or(|related| related.is_plain())
        };
        self.rewritten.is_empty()
            && self.extra.is_empty()
            && self.moved.is_none()
            && self.written.iter().all(plain)
    }

    /// Puts everything of this turn into `commit`.
    pub(super) fn fill(&mut self, commit: &mut Commit) {
        let key = (self.room_id.clone(),);
        match &self.base {
            Some(base) => commit.expect_equals(&ROOMS, &key, base),
            None => commit.expect_absent(&ROOMS, &key),
        }
        // An amended state is that of the room once an event tells of it.
        self.row.state = self.shown;
        commit.put(&ROOMS, &key, &self.row);
        let was_remote = self.base.as_ref().is_some_and(|base| base.remote > 0);
        let mut arrived = mem::take(&mut self.introduced);
        for written in &self.written {
            let event_id = written.event.pdu.event_id().to_owned();
            commit.fact(Lane::Room(self.room_id.clone()), Fact::Event { event_id: event_id.clone() });
            if written.egress && (was_remote || self.row.remote > 0 || self.row.partial) {
                commit.fact(Lane::Egress(self.room_id.clone()), Fact::Event { event_id });
            }
            written.event.record(commit);
            put_nodes(commit, &written.nodes);
            for change in &written.changes {
                let is_own =
                    change.after.as_ref().is_some_and(|value| value.event_id == written.event.pdu.event_id());
                let stripped = written.stripped.as_ref().filter(|_| is_own);
                arrived.extend(follow(&self.rooms.0.history, commit, &self.room_id, change, stripped));
                if written.egress && is_own {
                    withdraw(&self.rooms.0.history, commit, change, &written.event);
                }
            }
            pass(commit, &self.room_id, &written.servers);
            let now_ms = self.rooms.0.ports.clock.now_ms();
            if let Some(until_ms) = sticky_until_ms(&written.event.pdu, now_ms) {
                let (room, id) = (self.room_id.clone(), written.event.pdu.event_id().to_owned());
                commit.delete_range(STICKY.prefix(&(room.clone(),)), STICKY.prefix(&(room.clone(), now_ms)));
                commit.put(&STICKY, &(room, until_ms, id), &());
            }
            if let Some(related) = &written.related {
                related.record(commit, &self.room_id, &written.event.pdu);
            }
            if written.moves_elsewhere() {
                commit.fact(Lane::Room(self.room_id.clone()), Fact::StateMoved);
            }
        }
        put_nodes(commit, &self.new_nodes);
        if let Some(moved) = &self.moved {
            for change in &moved.changes {
                arrived.extend(follow(&self.rooms.0.history, commit, &self.room_id, change, None));
            }
            pass(commit, &self.room_id, &moved.servers);
            commit.fact(Lane::Room(self.room_id.clone()), Fact::StateIs { state: self.row.state.0 });
        }
        let server = self.rooms.0.history.server();
        let shown = self.written.iter().map(|written| &written.event).chain(&self.hidden);
        shown.filter(|event| event.is_shown()).for_each(|event| event.use_media(server, commit));
        self.hidden.iter().chain(&self.rewritten).for_each(|event| event.record(commit));
        let now_ms = self.rooms.0.ports.clock.now_ms();
        for (anchor, number, event_id) in &self.filled {
            commit.put(&BACKFILLED, &(self.room_id.clone(), *anchor, *number), event_id);
            commit.put(&PLACES, &(event_id.clone(),), &(*anchor, *number));
            commit.put(&FORGOTTEN_TEXTS, &(now_ms, format!("{LATE}{event_id}")), &());
        }
        if !self.filled.is_empty() {
            // Some of it may be older than what is allowed to stay.
            commit.delete(&RETAINED_PAST, &key);
        }
        self.note_guests(commit);
        self.extra.drain(..).for_each(|extra| extra(commit));
        self.introduce(commit, arrived);
    }

    /// Has the other servers in the room told of the devices of users who have come in; once it is known who is there.
    fn introduce(&mut self, commit: &mut Commit, arrived: BTreeSet<OwnedUserId>) {
        if self.row.remote == 0 || self.row.partial {
            return;
        }
        let before = commit.positions();
        for user_id in arrived {
            commit.fact(Lane::Egress(self.room_id.clone()), Fact::Devices { user_id });
        }
        self.after += commit.positions().saturating_sub(before);
    }

    /// Lets the files go that an event shows whose content goes.
    pub(super) fn let_go(&mut self, event: &StoredEvent) {
        if event.has_media() {
            let (server, event) = (self.rooms.0.history.server().to_owned(), event.clone());
            self.extra.push(Box::new(move |commit| event.let_media_go(&server, commit)));
        }
    }

    fn into_memory(self) -> Memory {
        let history = &self.rooms.0.history;
        let nodes = self.written.iter().flat_map(|written| &written.nodes).chain(&self.new_nodes);
        nodes.for_each(|node| history.note_node(node.id, &node.node));
        let written = |written: Written| {
            let more = u64::from(written.moves_elsewhere());
            (written.event, more)
        };
        Memory {
            moves_guests: self.moves_guests(),
            setbacks: self.setbacks,
            room_id: self.room_id,
            row: Arc::new(self.row),
            after: self.after + u64::from(self.moved.is_some()),
            written: self.written.into_iter().map(written).collect(),
            replaces: !self.rewritten.is_empty(),
            rewritten: self.hidden.into_iter().chain(self.rewritten).collect(),
        }
    }
}

impl Memory {
    /// Queues the commit, lets the next writer build on it, and waits until it is written.
    async fn pass_on(
        self,
        rooms: &Rooms,
        mut guard: RoomGuard,
        commit: Commit,
    ) -> Result<Position, CommitError> {
        let queued = guard.queue().await;
        let ticket = rooms.0.history.log().submit(commit).await?;
        guard.ahead.row = Some(self.row.clone());
        let epoch = guard.ahead.epoch;
        let stay = guard.release();
        let history = rooms.0.history.clone();
        let work = async move {
            let result = ticket.done().await;
            match &result {
                Ok(position) => {
                    self.note(&history, *position);
                    drop(queued);
                }
                Err(_) => {
                    // Whoever has the room may be waiting for this.
                    drop(queued);
                    let Some(mut ahead) = stay.lock().await else { return result };
                    // Whoever notices first begins anew; the others find that done.
                    if ahead.epoch == epoch {
                        ahead.epoch += 1;
                        ahead.row = history.reload_room(&self.room_id).await.unwrap_or_default();
                    }
                }
            }
            result
        };
        Lasting::new(&rooms.0.tasks, work).await
    }

    /// Has the commit written before anybody else may write. It goes on if the caller goes away: what is written
    /// must be remembered, and what it replaces be forgotten.
    async fn hold(
        self,
        rooms: Rooms,
        guard: Option<RoomGuard>,
        commit: Commit,
    ) -> Result<Position, CommitError> {
        let tasks = rooms.0.tasks.clone();
        let work = async move {
            let _rewriting = self.replaces.then(|| {
                let written = self.written.iter().map(|(event, _)| event).chain(&self.rewritten);
                let ids = written.map(|event| event.pdu.event_id().to_owned()).collect();
                rooms.0.history.rewriting(ids)
            });
            let result = rooms.0.history.log().commit(commit).await;
            let (room_id, row) = (self.room_id.clone(), self.row.clone());
            if let Ok(position) = &result {
                if self.moves_guests {
                    rooms.0.guests.notify_one();
                }
                rooms.0.setbacks.tell(&room_id, &self.setbacks);
                let is_rewritten = self.replaces;
                self.note(&rooms.0.history, *position);
                if is_rewritten {
                    rooms.moderation().forget(&room_id);
                }
            }
            settle(&rooms, &room_id, guard, result.is_ok().then_some(row)).await;
            result
        };
        Lasting::new(&tasks, work).await
    }

    /// Tells the history. Each event has a position of its own; `last` is that of the last fact.
    fn note(self, history: &History, last: Position) {
        let mut events: Vec<_> = self.rewritten.into_iter().map(Arc::new).collect();
        let mut next = last.0.saturating_add(1).saturating_sub(self.after);
        for (event, more) in self.written.into_iter().rev() {
            next = next.saturating_sub(1 + more);
            events.push(Arc::new(StoredEvent { position: Position(next), ..event }));
        }
        history.note(&self.room_id, &self.row, &events, self.replaces);
    }
}

/// Has servers that are in the room read it from now on, and those that are not any more, no more.
fn pass(commit: &mut Commit, room: &RoomId, servers: &[(OwnedServerName, bool)]) {
    for (server, enters) in servers {
        let (audience, lane) = (Audience::Server(server.clone()), Lane::Egress(room.to_owned()));
        match enters {
            true => commit.open(audience, lane),
            false => commit.close(audience, lane),
        }
    }
}

fn put_nodes(commit: &mut Commit, nodes: &[NewNode]) {
    for node in nodes {
        commit.put_raw(crate::history::node_key(node.id), node.bytes.clone());
    }
}

/// Leaves the room to the next writer, as it is now.
async fn settle(rooms: &Rooms, room: &RoomId, guard: Option<RoomGuard>, row: Option<Arc<RoomRow>>) {
    let Some(mut guard) = guard else { return };
    match row {
        Some(row) => guard.ahead.row = Some(row),
        None => {
            guard.ahead.epoch += 1;
            guard.ahead.row = rooms.0.history.reload_room(room).await.unwrap_or_default();
        }
    }
}

/// What follows from a change of a room's state for the user whose membership it is. Who has come in, if
/// it is one of ours.
///
/// Membership is not always an event: where a fork is resolved, call this for each difference of the
/// states before and after, with the position of the event that joined the fork.
fn follow(
    history: &History,
    commit: &mut Commit,
    room: &OwnedRoomId,
    change: &Change,
    stripped: Option<&StrippedRow>,
) -> Option<OwnedUserId> {
    if change.key.event_type != StateEventType::RoomMember {
        return None;
    }
    let user = OwnedUserId::try_from(change.key.state_key.as_str()).ok()?;
    if !history.is_local(&user) {
        return None;
    }
    let membership =
        |value: &Option<_>| value.as_ref().and_then(|value: &crate::dag::StateValue| value.membership);
    let (before, after) = (membership(&change.before), membership(&change.after));
    let event_id = change.after.as_ref().or(change.before.as_ref())?.event_id.clone();
    let (was_in, is_in) = (before == Some(Membership::Join), after == Some(Membership::Join));
    if was_in && is_in {
        return None;
    }
    let key = (user.clone(), room.clone());
    let membership = after.unwrap_or(Membership::Leave);
    let fact = Fact::Membership { room_id: room.clone(), membership, event_id };
    commit.fact(Lane::Account(user.clone()), fact);
    match (was_in, is_in) {
        (false, true) => commit.open(Audience::Account(user.clone()), Lane::Room(room.clone())),
        (true, false) => commit.close(Audience::Account(user.clone()), Lane::Room(room.clone())),
        _ => {}
    }
    match stripped {
        Some(stripped) => commit.put(&STRIPPED, &key, stripped),
        // What an invite has told from outside stays while it stands, whoever brings this server in.
        None if matches!(membership, Membership::Invite | Membership::Knock) => {}
        // There may be a row although the state knew of no invite: from before this server was there.
        None => commit.delete(&STRIPPED, &key),
    }
    if matches!(membership, Membership::Join | Membership::Invite | Membership::Knock) {
        commit.delete(&FORGOTTEN, &key);
    }
    is_in.then_some(user)
}

/// A server that is not in the room is told that its user is no longer invited, or need not knock on.
fn withdraw(history: &History, commit: &mut Commit, change: &Change, event: &StoredEvent) {
    let membership =
        |value: &Option<crate::dag::StateValue>| value.as_ref().and_then(|value| value.membership);
    let was_waiting = matches!(membership(&change.before), Some(Membership::Invite | Membership::Knock));
    let is_out = matches!(membership(&change.after), Some(Membership::Leave | Membership::Ban));
    let Ok(user) = OwnedUserId::try_from(change.key.state_key.as_str()) else { return };
    let server = user.server_name();
    let knows = server == event.pdu.sender().server_name();
    if was_waiting && is_out && !knows && !history.is_local(&user) {
        let event_id = event.pdu.event_id().to_owned();
        commit.fact(Lane::Outbox(server.to_owned()), Fact::Directed { event_id });
    }
}

pub(super) fn first_answer(reply: &[u8]) -> Result<OwnedEventId, RoomError> {
    let id = std::str::from_utf8(reply).ok().and_then(|id| OwnedEventId::try_from(id).ok());
    let corrupt = || crate::store::StoreError::Corrupt(String::from("the answer of a transaction"));
    Ok(id.ok_or_else(corrupt)?)
}
