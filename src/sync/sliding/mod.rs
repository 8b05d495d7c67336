//! Sliding sync: a client names the rooms that it wants to hear of, and is told what is new of those.
//!
//! The page is the same as in `/v3/sync`; what differs is that not all of it is sent. So the server keeps
//! for each connection how far its client has each room ([`connection`]): as far as the token says, or, if
//! the room was outside of the window when something came, up to before that. Invariants: an answer builds
//! on what the token that the client presents says that it has, and on nothing else; whatever is not sent
//! is left behind, not lost; a token is given out when what it stands for is stored.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>

mod connection;
mod extensions;
mod lists;
mod profiles;
mod request;
mod response;
mod rooms;
mod roster;
mod state;
mod sticky;
mod traits;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::OwnedRoomId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use request::{Shape, SlidingBody, SlidingRequest};
pub use response::SlidingResponse;

use self::{
    connection::{ConnectionKey, Connections, Mark, Sent, State},
    lists::Habits,
    request::Pos,
    response::ListResult,
    rooms::{Rendered, Task},
    roster::{Roster, Rosters},
};
use super::{Sync, SyncError, SyncRequest, lazy::Sendings, person::Cut, rooms::Scene};
use crate::{
    account::Caller,
    device::ListChanges,
    limits::{SLIDING_ROOMS_BYTES_MAX, SYNC_ROOMS_AT_ONCE, SYNC_WAIT_MAX},
    log::Audience,
    types::{Cursor, Lane, Position, Reader},
};

/// What is kept in memory between requests.
#[derive(Default)]
pub(super) struct Memory {
    connections: Connections,
    rosters: Rosters,
    pub(super) portion: Portion,
}

/// How much of its rooms an answer has.
pub(super) struct Portion {
    /// Rooms that are rendered at once.
    pub(super) rooms: usize,
    /// Bytes of rooms beyond which the others are left for the next answer.
    pub(super) bytes: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { rooms: SYNC_ROOMS_AT_ONCE, bytes: SLIDING_ROOMS_BYTES_MAX }
    }
}

/// One look at the log on behalf of a connection.
struct Turn<'a> {
    caller: &'a Caller,
    request: &'a SlidingRequest,
    /// The client begins.
    is_initial: bool,
    /// Where the request began.
    began: Position,
    /// Up to where has been looked already.
    from: Position,
    to: Position,
    roster: Arc<Roster>,
    habits: Habits,
    /// The account's share of the page.
    cut: Cut,
    /// Rooms in whose lanes something may have come.
    moved: BTreeSet<OwnedRoomId>,
    /// Something came of people's devices.
    people_moved: bool,
    /// Something came of profiles.
    profiles_moved: bool,
    /// Whom the user met and from whom they parted since a position, once that was looked up.
    met: Option<(Position, Arc<ListChanges>)>,
    /// What the client will have been sent.
    draft: State,
    /// Up to where to-device messages have been given.
    queue: Position,
    members: Sendings,
    /// Rooms of lists that are in no window, if something is wanted of them.
    beyond: BTreeSet<OwnedRoomId>,
}

impl Sync {
    /// What `caller` missed on a connection since its token, of what it wants to hear; waits for something
    /// if there is nothing yet.
    ///
    /// # Errors
    /// When the token is not one of this connection, the caller is locked or logged out meanwhile, too much is wanted of
    /// too many rooms, or the store fails.
    pub async fn slide(
        &self,
        caller: &Caller,
        request: &SlidingRequest,
        stopping: &CancellationToken,
    ) -> Result<SlidingResponse, SyncError> {
        let key: ConnectionKey = (caller.user_id.clone(), caller.device_id.clone(), request.conn_id.clone());
        let reader = Reader::Device(caller.user_id.clone(), caller.device_id.clone());
        let channel = channel(request);
        let mut base = self.opened(&key, request).await?;
        let began = request.pos.map_or(Position::ZERO, |pos| pos.log);
        self.lazy.rewind((caller, &channel), request.pos.map(|pos| (pos.log, pos.state)));
        let wait = request.timeout.min(SYNC_WAIT_MAX);
        self.note_presence(caller, request.set_presence.as_ref(), wait).await?;
        let deadline = Instant::now() + wait;
        let mut from = began;
        loop {
            let mut turn = self.turn(caller, request, &base, from).await?;
            if from == began {
                self.forget_messages(&reader, &turn).await?;
            }
            let response = self.answer(&mut turn, &channel).await?;
            let seen = Cursor { log: turn.to, queue: turn.queue };
            let ends = !response.is_empty() || request.pos.is_none() || Instant::now() >= deadline;
            if ends || !self.waits(&reader, seen, (deadline, stopping)).await? {
                return self.give(&key, turn, response).await;
            }
            self.accounts.confirm(caller).await?;
            from = turn.to;
            base = Arc::new(turn.draft);
        }
    }

    /// What the client has, by the token that it presents.
    async fn opened(&self, key: &ConnectionKey, request: &SlidingRequest) -> Result<Arc<State>, SyncError> {
        let connections = &self.sliding.connections;
        match request.pos {
            Some(pos) if pos.log > self.log.head() => Err(SyncError::UnknownPos),
            Some(pos) => connections.open(&self.log, key, pos.state).await?.ok_or(SyncError::UnknownPos),
            None => {
                connections.begin(&self.log, key).await?;
                Ok(Arc::default())
            }
        }
    }

    /// Waits for something beyond `seen`; says no when it is time to answer.
    async fn waits(
        &self,
        reader: &Reader,
        seen: Cursor,
        (deadline, stopping): (Instant, &CancellationToken),
    ) -> Result<bool, SyncError> {
        tokio::select! {
            waited = self.log.wait(reader, seen) => Ok(waited.map(|()| true)?),
            () = tokio::time::sleep_until(deadline) => Ok(false),
            () = stopping.cancelled() => Ok(false),
        }
    }

    /// Stores what the token of an answer will stand for, and completes the answer with it.
    async fn give(
        &self,
        key: &ConnectionKey,
        turn: Turn<'_>,
        mut response: SlidingResponse,
    ) -> Result<SlidingResponse, SyncError> {
        let known = turn.request.pos.filter(|_| turn.draft.serial > 0);
        let connections = &self.sliding.connections;
        let state = match known {
            Some(pos) if connections.is_same(&self.log, key, (pos.state, &turn.draft)).await? => pos.state,
            _ => connections.keep(&self.log, key, turn.draft).await?,
        };
        let channel = channel(turn.request);
        self.lazy.note((turn.caller, &channel), turn.members, (turn.to, state));
        response.pos = Pos { log: turn.to, state }.to_string();
        response.txn_id.clone_from(&turn.request.txn_id);
        Ok(response)
    }

    /// To-device messages before the token that the client gives are done with.
    async fn forget_messages(&self, reader: &Reader, turn: &Turn<'_>) -> Result<(), SyncError> {
        match self.to_device_since(turn)? {
            Some(since) => Ok(self.log.ack(reader, Cursor::at(since)).await?),
            None => Ok(()),
        }
    }

    /// What there is to look at, from `from` to the head.
    async fn turn<'a>(
        &self,
        caller: &'a Caller,
        request: &'a SlidingRequest,
        base: &Arc<State>,
        from: Position,
    ) -> Result<Turn<'a>, SyncError> {
        let user = &caller.user_id;
        let roster = self.roster(user).await?;
        let to = roster.at.max(from);
        let is_initial = request.pos.is_none();
        let mut cut = Cut { from: Cursor::at(from), to: Cursor::at(to), ..Cut::default() };
        let mut moved = BTreeSet::new();
        if !is_initial {
            let account = Lane::Account(user.clone());
            if self.log.may_have(&account, from) {
                for (at, fact) in self.log.registers(&account, from, to).await? {
                    cut.account(at, fact);
                }
            }
            let lanes = self.log.subscriptions(&Audience::Account(user.clone())).await?;
            moved.extend(self.log.beyond(from, &lanes).into_iter().filter_map(|lane| match lane {
                Lane::Room(room) => Some(room),
                _ => None,
            }));
        }
        Ok(Turn {
            caller,
            request,
            is_initial,
            began: request.pos.map_or(to, |pos| pos.log),
            from,
            to,
            roster,
            habits: self.habits(user).await?,
            cut,
            moved,
            people_moved: !is_initial && self.log.may_have(&Lane::People, from),
            profiles_moved: !is_initial && self.log.may_have(&Lane::Profiles, from),
            met: None,
            draft: State::clone(base),
            queue: to,
            members: Sendings::new(),
            beyond: BTreeSet::new(),
        })
    }

    /// Renders what the request wants of what there is.
    async fn answer(&self, turn: &mut Turn<'_>, channel: &str) -> Result<SlidingResponse, SyncError> {
        let mut roster = turn.roster.clone();
        let looks = (&mut roster, &turn.habits);
        let selection = self.selection(turn.caller, turn.request, looks, &turn.draft).await?;
        (turn.roster, turn.beyond) = (roster, selection.beyond);
        let mut tasks = Vec::new();
        for (room, found) in &selection.rooms {
            tasks.extend(turn.roster.entry(room).and_then(|entry| turn.task(entry, found)));
        }
        let mut rendered = BTreeMap::new();
        if !tasks.is_empty() {
            let (plain, user) = (SyncRequest::default(), &turn.caller.user_id);
            let person = self.push.person(user).await?;
            let viewer = self.history.viewer(user, Some(&turn.caller.device_id)).await?;
            let mut scene = Scene {
                caller: turn.caller,
                request: &plain,
                cut: &turn.cut,
                viewer: viewer.ignoring(&person.ignored),
                person,
                lanes: self.log.subscriptions(&Audience::Account(user.clone())).await?,
                channel,
                members: Sendings::new(),
                shown: BTreeSet::new(),
                data: BTreeMap::new(),
            };
            rendered = self.sliding_rooms(&mut scene, (turn, &tasks)).await;
            turn.members = std::mem::take(&mut scene.members);
        }
        turn.note_rooms(&selection.rooms, &tasks, &rendered);
        let extensions = self.extensions(turn, (&selection.rooms, &rendered)).await?;
        let shape = turn.request.shape;
        let rooms = rendered.into_iter().filter(|(_, room)| !room.result.is_empty());
        Ok(SlidingResponse {
            lists: selection.counts.into_iter().map(|(name, count)| (name, ListResult { count })).collect(),
            rooms: rooms.map(|(room, rendered)| (room, rendered.result.into_shape(shape))).collect(),
            extensions,
            ..SlidingResponse::default()
        })
    }
}

impl Turn<'_> {
    /// Notes what the client will have of each room.
    fn note_rooms(
        &mut self,
        selected: &BTreeMap<OwnedRoomId, lists::Match>,
        tasks: &[Task],
        rendered: &BTreeMap<OwnedRoomId, Rendered>,
    ) {
        let from = self.from;
        let failed: BTreeSet<&OwnedRoomId> =
            tasks.iter().map(|task| &task.entry.room).filter(|room| !rendered.contains_key(*room)).collect();
        // What failed, or is left for the next answer, is tried again with what is wanted then.
        for (room, found) in selected.iter().filter(|(room, _)| !failed.contains(room)) {
            if let Some(sent) = self.draft.rooms.get_mut(room)
                && !Arc::ptr_eq(&sent.config, &found.config)
            {
                sent.config = found.config.clone();
            }
        }
        for task in tasks {
            let room = &task.entry.room;
            let Some(rendered) = rendered.get(room) else { continue };
            let sent = self.draft.rooms.entry(room.clone()).or_default();
            if task.since.is_none() {
                // The client keeps nothing of what it had.
                *sent = Sent::default();
            }
            sent.room = Mark::Live;
            sent.config = task.config.clone();
            sent.have = rendered.have.unwrap_or(sent.have);
            sent.is_dm = task.is_dm;
        }
        let news =
            self.moved.iter().chain(self.cut.memberships.keys()).chain(self.cut.private_receipts.keys());
        // Of a room that was left before there is no news, however much is said in it.
        let roster = self.roster.clone();
        let is_over = |room: &OwnedRoomId| roster.entry(room).is_some_and(|entry| entry.is_over(from));
        let mut left_out: Vec<&OwnedRoomId> =
            news.filter(|room| !selected.contains_key(*room) || failed.contains(room)).collect();
        let all: Vec<OwnedRoomId> = match self.recounts() {
            true => self.draft.rooms.keys().cloned().collect(),
            false => Vec::new(),
        };
        left_out.extend(all.iter().filter(|room| !selected.contains_key(*room) || failed.contains(room)));
        for room in left_out.into_iter().filter(|room| !is_over(room)) {
            if let Some(sent) = self.draft.rooms.get_mut(room) {
                sent.room.leave_behind(from);
            }
        }
    }
}

/// The name under which the members that go out on a connection are noted.
fn channel(request: &SlidingRequest) -> String {
    format!("sliding {}", request.conn_id)
}
