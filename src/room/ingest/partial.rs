//! Rooms whose members are not all known yet: a user of ours has just joined, and the other server has left most
//! member events out of its answer.
//!
//! The user may read and write there at once. What needs to know the members waits ([`Rooms::whole`]), and what comes
//! from other servers is judged by what is known, see [`super::early`]. The whole state is asked for in the background, again and
//! again and over restarts; once it is here, everything that was written meanwhile is judged again, see [`super::replay`], as if
//! it had been there from the beginning, and the log tells of the members who were added.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, events::StateEventType,
};

use super::{Batch, claim::sound_state, fetch::Fetch, later::Kept, outlier};
use crate::{
    dag::{
        Signed, StateKey,
        tree::{self, Applied},
    },
    history::{
        Status, StoredEvent,
        tables::{GROWN, PARTIAL, Part, PartialRow, RETRIES, RetryRow, UNJUDGED},
    },
    limits::{
        FETCH_ONE_BY_ONE_MAX, PARTIAL_INTRODUCED_MAX, PARTIAL_JOIN_PATIENCE, PARTIAL_REFUSALS_MAX,
        PARTIAL_WAIT_MAX, UNJUDGED_PAUSE_FIRST,
    },
    log::{Audience, Commit, CommitError},
    room::{RoomError, Rooms, turn::Turn, until_settled},
    types::{Fact, Lane, Membership},
};

/// What became of an attempt to get the members of a room.
enum Completion {
    /// They are all known.
    Whole,
    /// Everybody who was asked says that this server is not in the room, or that its join is not.
    Refused,
    /// They could not be had now.
    Open,
}

impl Rooms {
    /// Waits until all members of a room are known, at most [`PARTIAL_WAIT_MAX`].
    ///
    /// # Errors
    /// [`RoomError::Partial`] when they are not by then.
    pub async fn whole(&self, room: &RoomId) -> Result<(), RoomError> {
        match tokio::time::timeout(PARTIAL_WAIT_MAX, self.wait_until_whole(room)).await {
            Ok(done) => done,
            Err(_) => Err(RoomError::Partial),
        }
    }

    async fn wait_until_whole(&self, room: &RoomId) -> Result<(), RoomError> {
        loop {
            let completed = self.0.completed.notified();
            if !self.0.history.is_partial(room).await? {
                return Ok(());
            }
            completed.await;
        }
    }

    /// Asks for the members of a room in which a user of ours has just come. Small rooms are whole when this returns;
    /// of others the rest comes later.
    pub(super) async fn begin_to_complete(&self, room: &RoomId) {
        self.complete_soon(room);
        drop(tokio::time::timeout(PARTIAL_JOIN_PATIENCE, self.wait_until_whole(room)).await);
    }

    pub(super) fn complete_soon(&self, room: &RoomId) {
        let (rooms, room) = (self.clone(), room.to_owned());
        self.0.tasks.spawn(async move {
            if let Err(error) = rooms.complete(&room).await {
                tracing::warn!(room.id = %room, %error, "could not get the members of {room}");
            }
        });
    }

    /// Tries again to complete a room; see [`Self::judge_due`].
    pub(super) async fn complete_again(&self, room: &RoomId, retry: RetryRow) -> Result<(), RoomError> {
        let done = self.complete(room).await;
        if let Err(error) = &done {
            tracing::info!(room.id = %room, %error, "could not get the members of {room} yet");
        }
        if matches!(done, Ok(Completion::Refused)) && retry.failures >= PARTIAL_REFUSALS_MAX {
            self.forsake(room).await?;
        }
        match done {
            Err(error @ RoomError::Store(_)) => Err(error),
            Ok(Completion::Whole) => {
                self.note_tried((room, Part::Members), (&Kept::new(), BTreeSet::new()), retry).await
            }
            _ => self.put_off((room, Part::Members), retry).await,
        }
    }

    /// How we have come into a room whose members are not known, with the join of ours.
    pub(super) async fn entry_into(
        &self,
        room: &RoomId,
    ) -> Result<Option<(PartialRow, Arc<StoredEvent>)>, RoomError> {
        let history = &self.0.history;
        let Some(partial) = history.log().db().row(&PARTIAL, &(room.to_owned(),)).await? else {
            return Ok(None);
        };
        let join = history.event(&partial.join).await?;
        Ok(join.map(|join| (partial, join)))
    }

    /// Has our users leave a room in which nobody knows that they have come in, not even whoever let us in. They may
    /// come in again, which they could not as long as they seem to be in.
    async fn forsake(&self, room: &RoomId) -> Result<(), RoomError> {
        tracing::warn!(room.id = %room, "nobody in {room} knows of our join: our users leave it");
        let members = self.0.history.current_members(room).await?;
        let us = self.0.history.server();
        for user in members.with(Membership::Join).filter(|user| user.server_name() == us) {
            self.leave_if_possible(user, room).await?;
        }
        self.complete_soon(room);
        Ok(())
    }

    /// Gets the members that are lacking.
    async fn complete(&self, room: &RoomId) -> Result<Completion, RoomError> {
        // What is taken meanwhile may have to be fetched too.
        let _completing = self.0.completions.lock(room).await;
        let Some(row) = self.0.history.room(room).await? else { return Ok(Completion::Whole) };
        if !row.partial {
            self.leave_again(room).await?;
            return Ok(Completion::Whole);
        }
        let Some((partial, join)) = self.entry_into(room).await? else { return Ok(Completion::Open) };
        if row.joined == row.remote {
            // Nobody of ours is there any more.
            return until_settled!(self.try_make_whole(room, (&join, None)));
        }
        let mut batch = Batch::new(self, room, row);
        let mut fetch = Fetch::new(&mut batch, &partial.origin).await?;
        fetch.also_ask(&partial.servers);
        let mut asked = Vec::new();
        while let Some(server) = fetch.next(&mut asked) {
            // Whoever let us in has just had our join follow that event; others may see what is before it differently.
            let before = match join.pdu.prev_events() {
                [before] if server == partial.origin => Some(&**before),
                _ => None,
            };
            for at in before.into_iter().chain([join.pdu.event_id()]) {
                // What is not answered while this server stops is asked again after it has started.
                if self.0.tasks.is_closed() {
                    return Ok(Completion::Open);
                }
                if let Some(applied) = fetch.whole_state(&server, at, &join).await? {
                    let done = until_settled!(self.try_make_whole(room, (&join, Some(&applied))))?;
                    if matches!(done, Completion::Whole) {
                        self.leave_again(room).await?;
                    }
                    return Ok(done);
                }
            }
        }
        // The word of the one that let us in counts, whatever others have heard yet.
        let is_refused =
            asked.contains(&partial.origin) && asked.iter().all(|server| fetch.has_refused(server));
        match is_refused && self.is_entry(room, &join).await? {
            true => Ok(Completion::Refused),
            false => Ok(Completion::Open),
        }
    }

    /// Whether it is by `join` that we have come into a room whose members are not known. While these are asked for we
    /// may have left, and come in again elsewhere.
    async fn is_entry(&self, room: &RoomId, join: &StoredEvent) -> Result<bool, RoomError> {
        let entry = self.entry_into(room).await?;
        Ok(entry.is_some_and(|(_, entry)| entry.pdu.event_id() == join.pdu.event_id()))
    }

    /// Begins to write to a room whose members are not known since `join`.
    async fn turn_since(
        &self,
        room: &RoomId,
        join: &StoredEvent,
    ) -> Result<Result<Turn, Completion>, RoomError> {
        let turn = Turn::begin_at_rest(self, room).await?;
        Ok(match turn.row.partial {
            false => Err(Completion::Whole),
            true if self.is_entry(room, join).await? => Ok(turn),
            true => Err(Completion::Open),
        })
    }

    /// Puts the state before our join, as it is now known, under everything that happened since.
    async fn try_make_whole(
        &self,
        room: &RoomId,
        (join, found): (&Arc<StoredEvent>, Option<&Applied>),
    ) -> Result<Completion, RoomError> {
        let mut replayed = Vec::new();
        if let Some(applied) = found {
            // Whoever reads may remember the states from before for a moment, so that the room is told to be another,
            // and whole, only after that.
            let mut turn = match self.turn_since(room, join).await? {
                Ok(turn) => turn,
                Err(completion) => return Ok(completion),
            };
            turn.adopt(&applied.nodes);
            turn.note_leavers(join).await?;
            turn.replay_since(join, applied.state).await?;
            replayed.clone_from(&turn.row.heads);
            turn.close().await?;
        }
        let mut turn = match self.turn_since(room, join).await? {
            Ok(turn) => turn,
            Err(completion) => return Ok(completion),
        };
        match found {
            // What came in between was built on the state as it is told.
            Some(applied) if turn.row.heads != replayed => {
                turn.adopt(&applied.nodes);
                turn.replay_since(join, applied.state).await?;
            }
            Some(_) => {}
            None => turn.distrust_since(join).await?,
        }
        turn.row.partial = false;
        if found.is_some() {
            let current = turn.state_of_heads().await?;
            turn.move_state(current).await?;
            turn.row.grown = true;
            let (grown, lane) = (GROWN.prefix(&(room.to_owned(),)), Lane::Room(room.to_owned()));
            turn.extra.push(Box::new(move |commit| {
                commit.put_at_position(grown, GROWN.encode(&()));
                // Whoever waits for the room looks at it.
                commit.fact(lane, Fact::StateMoved);
            }));
        }
        let (joined, ours) = turn.joined().await?;
        if found.is_some() {
            // Some servers may not have been known to be there when our users came in.
            turn.introduced = ours.into_iter().take(PARTIAL_INTRODUCED_MAX).collect();
        }
        let mut gone = self.0.history.log().stored_servers_of(room).await?;
        gone.retain(|server| !joined.contains(server));
        let news = (room.to_owned(), Part::News.number());
        let waiting = self.0.history.log().db().range(&UNJUDGED, &news, 1).await?;
        let (key, members) = ((room.to_owned(),), (room.to_owned(), Part::Members.number()));
        let leavers = self.leavers(room).await?;
        turn.extra.push(Box::new(move |commit| {
            for server in gone.drain(..) {
                commit.close(Audience::Server(server), Lane::Egress(key.0.clone()));
            }
            match leavers {
                // They leave over restarts too.
                Some(_) => commit.put(&RETRIES, &members, &RetryRow::default()),
                None => {
                    commit.delete(&PARTIAL, &key);
                    commit.delete(&RETRIES, &members);
                }
            }
            if !waiting.is_empty() {
                commit.put(&RETRIES, &news, &RetryRow::default());
            }
        }));
        turn.close().await?;
        self.0.completed.notify_waiters();
        self.0.unjudged.notify_one();
        Ok(Completion::Whole)
    }
}

impl Rooms {
    /// The row of a room in which users of ours may be who have left.
    async fn leavers(&self, room: &RoomId) -> Result<Option<PartialRow>, RoomError> {
        let row = self.0.history.log().db().row(&PARTIAL, &(room.to_owned(),)).await?;
        Ok(row.filter(|row| !row.leavers.is_empty()))
    }

    /// Has those of ours leave a room, all members of which are known now, who had left before our join, and are there by
    /// what others tell, who have not heard of it.
    async fn leave_again(&self, room: &RoomId) -> Result<(), RoomError> {
        let history = &self.0.history;
        let Some(row) = self.leavers(room).await? else { return Ok(()) };
        let (members, join) = (history.current_members(room).await?, history.event(&row.join).await?);
        for user in &row.leavers {
            let back = members.get(user).filter(|member| member.membership == Membership::Join);
            let (Some(back), Some(join)) = (back, &join) else { continue };
            let event = history.event(&back.event_id).await?;
            // Who has come in since is there.
            if event.is_none_or(|event| event.status != Status::Timeline || event.position < join.position) {
                self.leave_if_possible(user, room).await?;
            }
        }
        let (key, mut commit) = ((room.to_owned(),), Commit::new());
        commit.expect_equals(&PARTIAL, &key, &row);
        commit.delete(&PARTIAL, &key);
        commit.delete(&RETRIES, &(room.to_owned(), Part::Members.number()));
        match history.log().commit(commit).await {
            // Somebody has come in anew.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Fetch<'_, '_> {
    /// The state before our join as `server` tells it: what it says of the state at `at`, which is the join or the one
    /// event before it, without what cannot be checked, over what is known already.
    async fn whole_state(
        &mut self,
        server: &ServerName,
        at: &EventId,
        join: &Arc<StoredEvent>,
    ) -> Result<Option<Applied>, RoomError> {
        let at = at.to_owned();
        let Some(answer) = self.state_ids(server, &at).await else { return Ok(None) };
        let all: BTreeSet<OwnedEventId> =
            answer.pdu_ids.iter().chain(&answer.auth_chain_ids).cloned().collect();
        let lacking = self.not_stored(all.into_iter().collect()).await?;
        let Some(mut events) = self.all_of(lacking, (server, &at)).await? else { return Ok(None) };
        let itself = self.not_stored(vec![at.clone()]).await?;
        events.extend(self.events(itself).await?);
        self.deepen(&mut events).await?;
        let (rooms, room, row) = (self.batch.rooms, self.batch.room, self.batch.row.clone());
        outlier::store(rooms, room, row.clone(), events).await?;
        self.keep_unverified(Part::State).await?;
        let state = sound_state(rooms.history(), (&answer.pdu_ids, false), (room, &row.create)).await?;
        let itself = rooms.history().event(&at).await?;
        let (Some(mut state), Some(states), Some(itself)) = (state, join.states, itself) else {
            return Ok(None);
        };
        // The join itself comes after this.
        if itself.status != Status::Rejected
            && itself.pdu.event_id() != join.pdu.event_id()
            && let Some((key, value)) = tree::entry_of(&itself.pdu)
        {
            state.insert(key, value);
        }
        // That one of ours has left counts only if others know of it.
        let known = rooms.history().state_of(states.before, Some(&StateEventType::RoomMember)).await?;
        let is_ours = |key: &StateKey| {
            <&UserId>::try_from(key.state_key.as_str()).is_ok_and(|user| rooms.history().is_local(user))
        };
        let told_by_nobody =
            known.into_iter().map(|entry| entry.key).filter(|key| is_ours(key) && !state.contains_key(key));
        let mut edits: Vec<_> = told_by_nobody.map(|key| (key, None)).collect();
        edits.extend(state.into_iter().map(|(key, value)| (key, Some(value))));
        let fresh = HashMap::new();
        let applied =
            rooms.history().ask(&fresh, |nodes| tree::apply(nodes, states.before, edits.clone())).await?;
        Ok(Some(applied))
    }

    /// What is lacking of the state at an event, as `server` gives it: one by one if it is little, else all at once. Nothing if
    /// it could not be had; but what came and is no good is no reason to go without the rest.
    async fn all_of(
        &mut self,
        lacking: Vec<OwnedEventId>,
        (server, at): (&ServerName, &OwnedEventId),
    ) -> Result<Option<Vec<Signed>>, RoomError> {
        if lacking.len() <= FETCH_ONE_BY_ONE_MAX {
            let events = self.events(lacking.clone()).await?;
            let has = |id: &OwnedEventId| {
                events.iter().any(|event| event.pdu().event_id() == id) || self.is_unverified(id)
            };
            if lacking.iter().all(has) {
                return Ok(Some(events));
            }
        }
        self.state(server, at, lacking).await
    }
}

impl Turn {
    /// Notes who of ours had left before `join`, as long as the state before it is the one that we knew.
    async fn note_leavers(&mut self, join: &StoredEvent) -> Result<(), RoomError> {
        let (rooms, Some(states)) = (self.rooms.clone(), join.states) else { return Ok(()) };
        let history = rooms.history();
        let before = history.state_of(states.before, Some(&StateEventType::RoomMember)).await?;
        let gone = before.iter().filter(|entry| entry.value.membership != Some(Membership::Join));
        let gone = gone.filter_map(|entry| UserId::parse(entry.key.state_key.as_str()).ok());
        let gone: BTreeSet<OwnedUserId> = gone.filter(|user| history.is_local(user)).collect();
        let key = (self.room_id.clone(),);
        if let Some(mut row) = history.log().db().row(&PARTIAL, &key).await?
            && !gone.is_subset(&row.leavers)
        {
            row.leavers.extend(gone);
            self.extra.push(Box::new(move |commit| commit.put(&PARTIAL, &key, &row)));
        }
        Ok(())
    }

    /// Has a room begin without most of its members; `servers` are in it.
    pub(super) fn begin_partial(
        &mut self,
        join: OwnedEventId,
        origin: OwnedServerName,
        servers: BTreeSet<OwnedServerName>,
    ) {
        self.row.partial = true;
        let key = (self.room_id.clone(),);
        let members = (self.room_id.clone(), Part::Members.number());
        let pause = u64::try_from(UNJUDGED_PAUSE_FIRST.as_millis()).unwrap_or(u64::MAX);
        let retry_at_ms = self.rooms.now_ms().saturating_add(pause);
        let row = PartialRow { join, origin, servers, leavers: BTreeSet::new() };
        self.extra.push(Box::new(move |commit| {
            commit.put(&PARTIAL, &key, &row);
            commit.put(&RETRIES, &members, &RetryRow { retry_at_ms, ..RetryRow::default() });
        }));
    }
}
