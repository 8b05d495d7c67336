//! What the log remembers in memory for its readers: lane heads, subscriptions, volatile facts, and
//! who waits for what. All of it can be rebuilt from the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId};
use tokio::sync::Notify;

use super::{
    Audience, Commit, Subscriptions,
    commit::{SubscriptionChange, Touch, VolatileFact},
    followers::Followers,
    heads::Heads,
    servers::{News, Servers},
    waiters::Waiters,
};
use crate::{
    limits::SUBSCRIPTION_CACHE_MAX,
    types::{Cursor, Fact, Lane, Position, RegisterKey},
};

/// The memory of the log. One lock, held for map operations only and never over an await.
#[derive(Default)]
pub(super) struct Readers(Mutex<State>);

#[derive(Default)]
struct State {
    heads: Heads,
    volatile: HashMap<Lane, Volatile>,
    subscriptions: HashMap<Audience, Arc<Subscriptions>>,
    /// Counts subscription changes, so that a load from the store that raced with one is noticed.
    generation: u64,
    waiters: Waiters,
    to_wake: Vec<Arc<Notify>>,
    servers: Servers,
    /// Woken when there is something for a remote server.
    couriers: Arc<Notify>,
    followers: Followers,
    /// Woken when there is something for a followed user.
    pushers: Arc<Notify>,
}

/// The facts in memory of a lane, one for each register.
#[derive(Default)]
struct Volatile {
    facts: BTreeMap<Position, Fact>,
    places: HashMap<RegisterKey, Position>,
}

impl Volatile {
    fn insert(&mut self, at: Position, register: RegisterKey, fact: Fact) {
        if let Some(before) = self.places.insert(register, at) {
            self.facts.remove(&before);
        }
        self.facts.insert(at, fact);
    }

    /// Those in `(from, to]`.
    fn between(&self, from: Position, to: Position) -> Vec<(Position, Fact)> {
        self.facts.range(from.next()..=to).map(|(at, fact)| (*at, fact.clone())).collect()
    }
}

impl Readers {
    /// Starts with nothing known below `head`.
    pub(super) fn new(head: Position) -> Self {
        Self(Mutex::new(State { heads: Heads::new(head), ..State::default() }))
    }

    /// Follows a commit that is durable but not published yet.
    pub(super) fn record(&self, commit: &Commit, first: Position) {
        if commit.touches.is_empty() && commit.changes.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        // Who leaves still has to be woken by this very commit, and who enters too.
        for change in commit.changes.iter().filter(|change| change.opens) {
            state.note_change(change);
        }
        for touch in &commit.touches {
            state.touch(touch, Position(first.0 + u64::from(touch.slot)));
        }
        for change in &commit.changes {
            let at = Position(first.0 + u64::from(change.slot));
            state.generation += 1;
            state.heads.touch(&change.lane, at);
            if let Some(known) = state.subscriptions.get_mut(&change.audience) {
                Arc::make_mut(known).change(change.lane.clone(), change.opens, at);
            }
        }
        // One commit may close a lane and open it again: the last change stands.
        for change in &commit.changes {
            state.note_change(change);
        }
    }

    /// Keeps a fact in memory, in place of the register's older one.
    pub(super) fn record_volatile(&self, at: Position, volatile: VolatileFact) {
        let VolatileFact { lane, register, fact } = volatile;
        let mut state = self.0.lock();
        let facts = state.volatile.entry(lane.clone()).or_default();
        let person = match &fact {
            Fact::Presence { user_id, .. } => Some(user_id.clone()),
            _ => None,
        };
        facts.insert(at, register, fact);
        state.touch(&Touch { lane, slot: 0, person }, at);
    }

    /// The facts in memory of a lane in `(from, to]`.
    pub(super) fn volatile(&self, lane: &Lane, from: Position, to: Position) -> Vec<(Position, Fact)> {
        // A client may ask for a span that is empty or the wrong way round.
        if from >= to {
            return Vec::new();
        }
        let state = self.0.lock();
        let Some(facts) = state.volatile.get(lane) else { return Vec::new() };
        facts.between(from, to)
    }

    /// Wakes those whom the recorded commits concern; called after the head has been published.
    pub(super) fn wake(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.waiters.settle();
            std::mem::take(&mut state.to_wake)
        };
        for notify in waiting {
            notify.notify_one();
        }
    }

    /// Wakes everyone, for shutdown.
    pub(super) fn wake_all(&self) {
        let mut waiting = Vec::new();
        {
            let state = self.0.lock();
            state.waiters.all(&mut waiting);
            waiting.push(state.couriers.clone());
            waiting.push(state.pushers.clone());
        }
        for notify in waiting {
            notify.notify_one();
        }
    }

    /// Whether `lane` may have something above `from`; never wrong when it says no.
    pub(super) fn may_have(&self, lane: &Lane, from: Position) -> bool {
        self.0.lock().heads.may_have(lane, from)
    }

    /// Of the lanes in `subscriptions`, those that may have something above `from`.
    pub(super) fn beyond(&self, from: Position, subscriptions: &Subscriptions) -> Vec<Lane> {
        self.0.lock().heads.beyond(from, subscriptions)
    }

    /// The lanes that were written to above `from`; nothing if that is not known.
    pub(super) fn touched(&self, from: Position) -> Option<Vec<Lane>> {
        self.0.lock().heads.since(from)
    }

    /// Whether there may be something for a device beyond `seen`; never wrong when it says no.
    pub(super) fn has_news(
        &self,
        (user, device): (&OwnedUserId, &OwnedDeviceId),
        seen: Cursor,
        subscriptions: &Subscriptions,
    ) -> bool {
        let state = self.0.lock();
        let heads = &state.heads;
        heads.may_have(&Lane::Inbox(user.clone(), device.clone()), seen.queue)
            || heads.may_have(&Lane::Account(user.clone()), seen.log)
            || [Lane::People, Lane::Profiles].iter().any(|lane| heads.may_have(lane, seen.log))
            || heads.beyond(seen.log, subscriptions).iter().any(|lane| {
                let last = subscriptions.intervals(lane).last();
                last.is_some_and(|last| last.closed.is_none_or(|closed| closed > seen.log))
            })
    }

    /// The cached subscriptions, or the generation that a load from the store must report back.
    pub(super) fn subscriptions(&self, audience: &Audience) -> Result<Arc<Subscriptions>, u64> {
        let state = self.0.lock();
        state.subscriptions.get(audience).cloned().ok_or(state.generation)
    }

    /// Caches what was loaded, unless a change came in between; then it must be loaded again.
    pub(super) fn cache(&self, audience: &Audience, loaded: &Arc<Subscriptions>, generation: u64) -> bool {
        let mut state = self.0.lock();
        if state.generation != generation {
            return false;
        }
        if state.subscriptions.len() >= SUBSCRIPTION_CACHE_MAX {
            let State { subscriptions, waiters, .. } = &mut *state;
            subscriptions.retain(|known, _| matches!(known, Audience::Account(user) if waiters.knows(user)));
            if subscriptions.len() >= SUBSCRIPTION_CACHE_MAX {
                subscriptions.clear();
            }
        }
        state.subscriptions.insert(audience.clone(), loaded.clone());
        true
    }

    /// Takes which servers read which rooms, unless a change came in between (see [`Self::subscriptions`]).
    pub(super) fn load_servers(
        &self,
        reading: Vec<(OwnedServerName, OwnedRoomId)>,
        generation: u64,
    ) -> Result<(), u64> {
        let mut state = self.0.lock();
        if state.generation != generation {
            return Err(state.generation);
        }
        state.servers.load(reading);
        Ok(())
    }

    /// What is new for remote servers since this was last asked.
    pub(super) fn take_news(&self) -> News {
        self.0.lock().servers.take()
    }

    /// Woken when there is something for a remote server.
    pub(super) fn couriers(&self) -> Arc<Notify> {
        self.0.lock().couriers.clone()
    }

    /// Succeeds if `user` is followed; else the generation that [`Self::follow`] wants to be told.
    pub(super) fn follows(&self, user: &OwnedUserId) -> Result<(), u64> {
        let state = self.0.lock();
        match state.followers.has(user) {
            true => Ok(()),
            false => Err(state.generation),
        }
    }

    /// Follows `user`, unless a change came in between (see [`Self::subscriptions`]).
    pub(super) fn follow(&self, user: &OwnedUserId, rooms: &Subscriptions, generation: u64) {
        let mut state = self.0.lock();
        if state.generation == generation {
            state.followers.add(user, rooms);
        }
    }

    /// The followed users for whom there is something new since this was last asked.
    pub(super) fn take_followed(&self) -> BTreeSet<OwnedUserId> {
        self.0.lock().followers.take()
    }

    /// Woken when there is something for a followed user.
    pub(super) fn pushers(&self) -> Arc<Notify> {
        self.0.lock().pushers.clone()
    }

    /// The servers that read a room now.
    pub(super) fn servers_of(&self, room: &RoomId) -> BTreeSet<OwnedServerName> {
        self.0.lock().servers.of_room(room)
    }

    /// Registers a waiter; from now on every commit that concerns the device notifies it.
    pub(super) fn register(
        &self,
        user: &OwnedUserId,
        device: &OwnedDeviceId,
        rooms: &Subscriptions,
    ) -> Waiting<'_> {
        let notify = Arc::new(Notify::new());
        let mut state = self.0.lock();
        // A room may have been opened since `rooms` was read, which was not noted of somebody who did not wait.
        let known = state.subscriptions.get(&Audience::Account(user.clone())).cloned();
        let id = state.waiters.add((user, device), &notify, known.as_deref().unwrap_or(rooms));
        drop(state);
        Waiting { readers: self, user: user.clone(), id, notify }
    }

    fn unregister(&self, user: &OwnedUserId, id: u64) {
        self.0.lock().waiters.remove(user, id);
    }
}

impl State {
    fn note_change(&mut self, change: &SubscriptionChange) {
        match (&change.audience, &change.lane) {
            (Audience::Account(user), Lane::Room(room)) => {
                self.waiters.change(user, room, change.opens);
                self.followers.change(user, room, change.opens);
            }
            (Audience::Server(server), lane) => self.servers.change(server, lane, change.opens),
            _ => {}
        }
    }

    fn touch(&mut self, touch: &Touch, at: Position) {
        self.heads.touch(&touch.lane, at);
        if self.servers.touch(&touch.lane, touch.person.as_ref()) {
            self.to_wake.push(self.couriers.clone());
        }
        if self.followers.touch(&touch.lane) {
            self.to_wake.push(self.pushers.clone());
        }
        let State { waiters, to_wake, subscriptions, servers, .. } = self;
        match &touch.lane {
            Lane::Room(room) => waiters.of_room(room, to_wake),
            Lane::Account(user) => waiters.of_user(user, None, to_wake),
            Lane::Inbox(user, device) => waiters.of_user(user, Some(device), to_wake),
            Lane::People | Lane::Profiles => match &touch.person {
                Some(person) => {
                    let rooms = match subscriptions.get(&Audience::Account(person.clone())) {
                        Some(rooms) => Some(rooms.open_rooms().collect()),
                        // Of somebody elsewhere it is known in which rooms their server is.
                        None => servers.rooms_of(person.server_name()),
                    };
                    waiters.of_person(person, rooms, to_wake);
                }
                None => waiters.all(to_wake),
            },
            Lane::Egress(_) | Lane::Outbox(_) => {}
        }
    }
}

/// A registered waiter; dropping it unregisters.
pub(super) struct Waiting<'a> {
    readers: &'a Readers,
    user: OwnedUserId,
    id: u64,
    notify: Arc<Notify>,
}

impl Waiting<'_> {
    /// Resolves at the next commit that concerns the device.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.readers.unregister(&self.user, self.id);
    }
}
