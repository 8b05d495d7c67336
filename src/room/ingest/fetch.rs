//! Getting what a batch lacks from other servers: bounded in requests, events and time.
//!
//! What comes back is material like any other: it is checked before it is looked at.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, ServerName, UInt,
    api::{
        OutgoingRequest,
        federation::{
            authorization::get_event_authorization,
            event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
        },
        path_builder::SinglePath,
    },
};
use serde_json::value::RawValue;

use super::{
    batch::{Batch, Lack},
    claim::Claim,
    outlier,
};
use crate::{
    dag::{Pdu, Signed},
    history::tables::Part,
    limits::{
        CLAIMED_STATES_MAX, FETCH_ANSWER_BYTES_MAX, FETCH_AT_ONCE, FETCH_CALL_MAX, FETCH_EVENTS_MAX,
        FETCH_MAX, FETCH_REQUESTS_MAX, FETCH_SOURCES_MAX, FETCH_SPARE_MAX, GAP_ANSWER_EVENTS_LEAST,
        GAP_EVENTS_MAX, GAP_PAGE_EVENTS, HEDGE_AFTER, STATE_ANSWER_BYTES_MAX, STATE_EVENTS_MAX,
    },
    peer::{Bounds, Hedge, PeerError, Proof},
    room::RoomError,
};

/// What a server has answered to questions for events.
type Answers = Vec<Result<get_event::v1::Response, PeerError>>;

fn is_bounded(answer: &get_room_state_ids::v1::Response) -> bool {
    answer.pdu_ids.len() + answer.auth_chain_ids.len() <= STATE_EVENTS_MAX
}

/// Gets what one batch lacks.
pub(in crate::room) struct Fetch<'b, 'a> {
    pub(super) batch: &'b mut Batch<'a>,
    /// Whom to ask: first who sent the events, then others in the room. Who does not answer, or says that we are not in
    /// the room, is struck off.
    sources: Vec<OwnedServerName>,
    /// Who takes the place of one that is struck off.
    spare: VecDeque<OwnedServerName>,
    /// Who says that we are not in the room, or that what we have asked for is not.
    refused: BTreeSet<OwnedServerName>,
    /// Who is taken for the source of what could not be checked, whether they answer or not.
    origin: Option<OwnedServerName>,
    /// By the clock that never goes back.
    deadline: Duration,
    requests: usize,
    /// What came and could not be checked.
    unverified: Vec<Pdu>,
    /// How many texts came that are no events, not even by their ids.
    nameless: usize,
}

impl<'b, 'a> Fetch<'b, 'a> {
    pub(in crate::room) async fn new(
        batch: &'b mut Batch<'a>,
        origin: &ServerName,
    ) -> Result<Self, RoomError> {
        let inner = &batch.rooms.0;
        let mut spare = VecDeque::from([origin.to_owned()]);
        for server in inner.history.servers_by_members(batch.room).await? {
            if spare.len() >= FETCH_SPARE_MAX {
                break;
            }
            if server != origin && !inner.peers.is_down(&server) {
                spare.push_back(server);
            }
        }
        spare.retain(|server| server != inner.history.server());
        let sources: Vec<OwnedServerName> = spare.drain(..spare.len().min(FETCH_SOURCES_MAX)).collect();
        let deadline = inner.ports.clock.monotonic() + FETCH_MAX;
        let (origin, requests) = (sources.first().cloned(), FETCH_REQUESTS_MAX);
        let (refused, unverified) = (BTreeSet::new(), Vec::new());
        Ok(Self { batch, sources, spare, refused, origin, deadline, requests, unverified, nameless: 0 })
    }

    /// Has others asked too, should those known not do.
    pub(super) fn also_ask<'s>(&mut self, servers: impl IntoIterator<Item = &'s OwnedServerName>) {
        let places = FETCH_SPARE_MAX.saturating_sub(self.sources.len() + self.spare.len());
        let us = self.batch.rooms.history().server();
        let is_new = |server: &&OwnedServerName| {
            *server != us && !self.sources.contains(*server) && !self.spare.contains(*server)
        };
        let new: Vec<OwnedServerName> = servers.into_iter().filter(is_new).take(places).cloned().collect();
        self.spare.extend(new);
        self.fill_up();
    }

    fn fill_up(&mut self) {
        let places = FETCH_SOURCES_MAX.saturating_sub(self.sources.len()).min(self.spare.len());
        self.sources.extend(self.spare.drain(..places));
    }

    /// Gets as much as can be had. What is lacking afterwards could not be had now.
    pub(in crate::room) async fn complete(&mut self) -> Result<(), RoomError> {
        self.close_gaps().await?;
        self.keep_unverified(Part::News).await?;
        self.claim_states().await?;
        self.unverified.retain(|pdu| pdu.membership().is_some());
        self.keep_unverified(Part::State).await?;
        self.complete_auth().await
    }

    /// Has what could not be checked tried again later.
    pub(super) async fn keep_unverified(&mut self, part: Part) -> Result<(), RoomError> {
        let unverified = std::mem::take(&mut self.unverified);
        let Some(origin) = &self.origin else { return Ok(()) };
        let from = (self.batch.room, &**origin);
        self.batch.rooms.keep_unjudged(from, (part, part == Part::State), &unverified).await?;
        Ok(())
    }

    /// Whether the keys for a membership could not be had, so that a state may be taken without it.
    pub(super) fn is_unverified_member(&self, id: &EventId) -> bool {
        self.unverified.iter().any(|pdu| pdu.event_id() == id && pdu.membership().is_some())
    }

    /// Whether an event came, and the keys for it could not be had.
    pub(super) fn is_unverified(&self, id: &EventId) -> bool {
        self.unverified.iter().any(|pdu| pdu.event_id() == id)
    }

    /// Gets the states after the events before those of the batch that could not be had. Where nobody gives one, those
    /// before the events that follow may be had.
    pub(super) async fn claim_states(&mut self) -> Result<(), RoomError> {
        let lack = self.batch.look().await?;
        if lack.prev.len() <= self.nameless {
            // That is what they are: no server will have better ones.
            return Ok(());
        }
        let mut queue: VecDeque<OwnedEventId> = lack.prev.into_keys().collect();
        let mut seen: HashSet<OwnedEventId> = queue.iter().cloned().collect();
        for _ in 0..CLAIMED_STATES_MAX {
            let Some(event) = queue.pop_front() else { break };
            let claim = self.claim(&event).await?;
            if claim == Claim::Given {
                continue;
            }
            let (room, followers) = (self.batch.room, self.batch.following(&event));
            tracing::info!(
                room.id = %room, event.id = %event, ?followers,
                "no server gave the state at {event} in {room}"
            );
            // Whoever gives a state that cannot be taken would not give a better one for what follows.
            if claim == Claim::Nowhere {
                queue.extend(followers.into_iter().filter(|follower| seen.insert(follower.clone())));
            }
        }
        Ok(())
    }

    /// Asks for the events between those of the batch and what is here.
    async fn close_gaps(&mut self) -> Result<(), RoomError> {
        let heads: Vec<OwnedEventId> = self.batch.row.heads.iter().map(|head| head.id.clone()).collect();
        let mut round = self.round();
        loop {
            let lack = self.batch.look().await?;
            let room_left = GAP_EVENTS_MAX.saturating_sub(self.batch.len());
            if lack.prev.is_empty() || room_left == 0 {
                return Ok(());
            }
            let latest: BTreeSet<OwnedEventId> = lack.prev.values().flatten().cloned().collect();
            let mut request = get_missing_events::v1::Request::new(
                self.batch.room.to_owned(),
                heads.clone(),
                latest.into_iter().collect(),
            );
            let limit = GAP_PAGE_EVENTS.min(room_left);
            request.limit = UInt::try_from(limit).unwrap_or(UInt::MAX);
            request.min_depth = UInt::try_from(self.batch.floor).unwrap_or_default();
            let Some((server, answer)) = self.ask_next(&mut round, &request).await else { return Ok(()) };
            let Some(mut answer) = answer else { continue };
            answer.events.truncate(limit);
            let given = answer.events.len();
            let events = self.check(answer.events).await?;
            let added = self.batch.extend(self.between(&lack, events));
            // Who gives less than any server's bound has no more to give.
            if added > 0 && given >= limit.min(GAP_ANSWER_EVENTS_LEAST) {
                round.again(server);
            }
        }
    }

    /// Gets the auth events that events of the batch name.
    pub(super) async fn complete_auth(&mut self) -> Result<(), RoomError> {
        for round in 0..2 {
            let Lack { auth, .. } = self.batch.look().await?;
            if auth.is_empty() {
                return Ok(());
            }
            let mut found = Vec::new();
            if round == 0 {
                // One answer has the whole chain of an event, so one event that lacks most will do for many.
                let mut lacking: BTreeMap<&OwnedEventId, usize> = BTreeMap::new();
                auth.values().flatten().for_each(|id| *lacking.entry(id).or_default() += 1);
                let most = lacking.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id.clone());
                if let Some(event) = most {
                    found = self.auth_chain(&event).await?;
                }
            } else {
                found = self.events(auth.into_keys().collect()).await?;
                self.deepen(&mut found).await?;
            }
            outlier::store(self.batch.rooms, self.batch.room, self.batch.row.clone(), found).await?;
        }
        Ok(())
    }

    /// Adds to `events` what their auth events name, and so on, as long as something is lacking.
    pub(super) async fn deepen(&mut self, events: &mut Vec<Signed>) -> Result<(), RoomError> {
        loop {
            let known: BTreeSet<&_> = events.iter().map(|event| event.pdu().event_id()).collect();
            let named: BTreeSet<OwnedEventId> = events
                .iter()
                .flat_map(|event| event.pdu().auth_events())
                .filter(|id| !known.contains(&***id))
                .cloned()
                .collect();
            let lacking = self.not_stored(named.into_iter().collect()).await?;
            if lacking.is_empty() || events.len() + lacking.len() > FETCH_EVENTS_MAX {
                return Ok(());
            }
            let more = self.events(lacking).await?;
            if more.is_empty() {
                return Ok(());
            }
            events.extend(more);
        }
    }

    /// Those of `ids` that are not stored.
    pub(super) async fn not_stored(&self, ids: Vec<OwnedEventId>) -> Result<Vec<OwnedEventId>, RoomError> {
        Ok(self.batch.rooms.history().not_stored(ids).await?)
    }

    /// Events by their ids, each from the first server that gives it.
    pub(super) async fn events(&mut self, ids: Vec<OwnedEventId>) -> Result<Vec<Signed>, RoomError> {
        let mut wanted = ids;
        let mut found = Vec::new();
        let (mut asked, mut slow) = (Vec::new(), VecDeque::new());
        loop {
            wanted.truncate(self.requests);
            let (server, patience) = match self.next(&mut asked) {
                Some(server) => (server, HEDGE_AFTER),
                // Nobody else has it: who is slow may have the time that it takes.
                None => match slow.pop_front() {
                    Some(server) => (server, FETCH_CALL_MAX),
                    None => break,
                },
            };
            let Some((answers, is_slow)) = self.ask_for_events(&server, &wanted, patience).await else {
                break;
            };
            if is_slow && patience == HEDGE_AFTER {
                slow.push_back(server.clone());
            }
            let mut texts = Vec::new();
            for answer in answers {
                match answer {
                    Ok(answer) => texts.push(answer.pdu),
                    Err(error) => self.note(&server, &error),
                }
            }
            let given: BTreeSet<OwnedEventId> = wanted.iter().cloned().collect();
            let mut events = self.check(texts).await?;
            events.retain(|event| given.contains(event.pdu().event_id()));
            let got: BTreeSet<&_> = events.iter().map(|event| event.pdu().event_id()).collect();
            wanted.retain(|id| !got.contains(&**id));
            found.extend(events);
            if wanted.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Asks a server for some events, within the bounds of each and of this fetch, until nothing has come for as long as
    /// `patience`. What came, and whether it fell silent.
    async fn ask_for_events(
        &mut self,
        server: &OwnedServerName,
        wanted: &[OwnedEventId],
        patience: Duration,
    ) -> Option<(Answers, bool)> {
        let bounds = self.spend_many(wanted.len())?;
        let sent = Arc::new(AtomicUsize::new(0));
        let questions: Vec<_> = wanted
            .iter()
            .map(|id| {
                let (peers, server) = (self.batch.rooms.0.peers.clone(), server.clone());
                let (request, sent) = (get_event::v1::Request::new(id.clone()), sent.clone());
                async move {
                    sent.fetch_add(1, Ordering::Relaxed);
                    peers.call(&server, request, bounds).await
                }
            })
            .collect();
        let time = Box::pin(tokio::time::sleep(self.time_left()));
        let mut coming = stream::iter(questions).buffer_unordered(FETCH_AT_ONCE).take_until(time);
        let mut answers = Answers::new();
        let is_slow = loop {
            match tokio::time::timeout(patience, coming.next()).await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        drop(coming);
        // What was not asked costs nothing.
        self.requests += wanted.len().saturating_sub(sent.load(Ordering::Relaxed));
        Some((answers, is_slow))
    }

    /// The auth chain of an event.
    async fn auth_chain(&mut self, event: &OwnedEventId) -> Result<Vec<Signed>, RoomError> {
        let room = self.batch.room.to_owned();
        let request = get_event_authorization::v1::Request::new(room, event.clone());
        let mut round = self.round();
        while let Some((_, answer)) = self.ask_next(&mut round, &request).await {
            if let Some(mut answer) = answer {
                answer.auth_chain.truncate(FETCH_EVENTS_MAX);
                return self.check(answer.auth_chain).await;
            }
        }
        Ok(Vec::new())
    }

    /// The ids of the state before an event, and of its auth chain, as `server` says.
    pub(super) async fn state_ids(
        &mut self,
        server: &ServerName,
        event: &OwnedEventId,
    ) -> Option<get_room_state_ids::v1::Response> {
        let request = get_room_state_ids::v1::Request::new(event.clone(), self.batch.room.to_owned());
        self.ask(server, request).await.filter(is_bounded)
    }

    /// As [`Self::state_ids`], of the next server that gives them, and who that is.
    pub(super) async fn next_state_ids(
        &mut self,
        round: &mut Hedge<get_room_state_ids::v1::Response>,
        event: &OwnedEventId,
    ) -> Option<(OwnedServerName, get_room_state_ids::v1::Response)> {
        let request = get_room_state_ids::v1::Request::new(event.clone(), self.batch.room.to_owned());
        while let Some((server, answer)) = self.ask_next(round, &request).await {
            if let Some(answer) = answer.filter(is_bounded) {
                return Some((server, answer));
            }
        }
        None
    }

    /// What is lacking of the state before an event, and of its auth chain, as `server` gives them. Nothing
    /// if it does not give the state.
    pub(super) async fn state(
        &mut self,
        server: &ServerName,
        event: &OwnedEventId,
        lacking: Vec<OwnedEventId>,
    ) -> Result<Option<Vec<Signed>>, RoomError> {
        let request = get_room_state::v1::Request::new(event.clone(), self.batch.room.to_owned());
        let answer = self.ask_for(server, request, STATE_ANSWER_BYTES_MAX).await;
        let Some(mut answer) = answer.filter(|answer| !answer.pdus.is_empty()) else { return Ok(None) };
        answer.pdus.append(&mut answer.auth_chain);
        answer.pdus.truncate(STATE_EVENTS_MAX);
        let lacking: HashSet<OwnedEventId> = lacking.into_iter().collect();
        Ok(Some(self.check_some(answer.pdus, &|id| lacking.contains(id)).await?))
    }

    /// Asks `server` one thing, within the bounds of this fetch.
    pub(super) async fn ask<R>(&mut self, server: &ServerName, request: R) -> Option<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Send,
    {
        self.ask_for(server, request, FETCH_ANSWER_BYTES_MAX).await
    }

    /// As [`Self::ask`], for an answer of up to `bytes_max`.
    async fn ask_for<R>(
        &mut self,
        server: &ServerName,
        request: R,
        bytes_max: usize,
    ) -> Option<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Send,
    {
        let bounds = self.spend_many(1).map(|bounds| Bounds { bytes_max, ..bounds })?;
        let answer = self.batch.rooms.0.peers.call(server, request, bounds).await;
        self.heard(server, answer)
    }

    /// All servers that may be asked, for one question.
    pub(super) fn round<A, E>(&self) -> Hedge<A, E> {
        Hedge::new(&self.batch.rooms.0.peers, self.sources.iter().cloned())
    }

    /// Asks those of a round for one thing, within the bounds of this fetch; what comes first. Nothing when all have
    /// been asked.
    pub(super) async fn ask_next<R>(
        &mut self,
        round: &mut Hedge<R::IncomingResponse>,
        request: &R,
    ) -> Option<(OwnedServerName, Option<R::IncomingResponse>)>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Clone + Send + 'static,
    {
        // Some may have been struck off meanwhile, and others have taken their places.
        round.only(&self.sources);
        let peers = self.batch.rooms.0.peers.clone();
        let ask = |server: OwnedServerName| {
            let bounds = Bounds { bytes_max: FETCH_ANSWER_BYTES_MAX, ..self.spend_many(1)? };
            let (peers, request) = (peers.clone(), request.clone());
            Some(async move { peers.call(&server, request, bounds).await })
        };
        let (server, answer) = round.next(ask).await?;
        let answer = self.heard(&server, answer);
        Some((server, answer))
    }

    /// Takes note of what a failure says of a server.
    fn heard<A>(&mut self, server: &ServerName, answer: Result<A, PeerError>) -> Option<A> {
        let error = match answer {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        self.note(server, &error);
        if error.is_forbidden() || error.is_not_found() {
            self.refused.insert(server.to_owned());
        }
        if error.is_forbidden() {
            self.strike_off(server);
        }
        None
    }

    /// Whom to ask next, after those that were `asked`.
    pub(super) fn next(&self, asked: &mut Vec<OwnedServerName>) -> Option<OwnedServerName> {
        let next = self.sources.iter().find(|server| !asked.contains(server)).cloned();
        asked.extend(next.clone());
        next
    }

    /// Whether a server has said that we are not in the room, or that something that we have asked for is not.
    pub(super) fn has_refused(&self, server: &ServerName) -> bool {
        self.refused.contains(server)
    }

    pub(super) async fn check(&mut self, texts: Vec<Box<RawValue>>) -> Result<Vec<Signed>, RoomError> {
        self.check_some(texts, &|_| true).await
    }

    async fn check_some(
        &mut self,
        texts: Vec<Box<RawValue>>,
        is_wanted: &(dyn Fn(&EventId) -> bool + Sync),
    ) -> Result<Vec<Signed>, RoomError> {
        let (rooms, room, rules) = (self.batch.rooms, self.batch.room, self.batch.row.rules());
        let checked = rooms.check_some(room, rules, texts, is_wanted).await?;
        self.unverified.extend(checked.unverified);
        self.nameless += checked.nameless;
        Ok(checked.events)
    }

    /// The bounds of the next requests, or nothing if there may be no more.
    fn spend_many(&mut self, count: usize) -> Option<Bounds> {
        let left = self.time_left();
        if left.is_zero() || count == 0 || self.requests < count {
            return None;
        }
        self.requests -= count;
        Some(Bounds { timeout: left.min(FETCH_CALL_MAX), ..Bounds::default() })
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_sub(self.batch.rooms.0.ports.clock.monotonic())
    }

    fn note(&mut self, server: &ServerName, error: &PeerError) {
        let room = self.batch.room;
        tracing::debug!(room.id = %room, server.name = %server, %error, "{server} did not help with {room}");
        if error.is_outage() {
            // Nobody waits for it again and again.
            self.strike_off(server);
        }
    }

    fn strike_off(&mut self, server: &ServerName) {
        self.sources.retain(|source| source != server);
        self.fill_up();
    }
}
