//! What the log remembers in memory for its readers: lane heads, subscriptions, volatile facts, and
//! who waits for what. All of it can be rebuilt from the store.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use tokio::sync::Notify;

use super::{
    Audience, Commit, Subscriptions,
    commit::{Touch, VolatileFact},
};
use crate::{
    limits::{LANE_HEADS_MAX, SUBSCRIPTION_CACHE_MAX},
    types::{Fact, Lane, Position, RegisterKey},
};

/// The memory of the log. One lock, held for map operations only and never over an await.
#[derive(Default)]
pub(super) struct Readers(Mutex<State>);

#[derive(Default)]
struct State {
    /// The latest position of every lane touched above `floor`.
    heads: HashMap<Lane, Position>,
    /// Lanes missing from `heads` have nothing above this position.
    floor: Position,
    volatile: HashMap<Lane, BTreeMap<Position, (RegisterKey, Fact)>>,
    subscriptions: HashMap<Audience, Arc<Subscriptions>>,
    /// Counts subscription changes, so that a load from the store that raced with one is noticed.
    generation: u64,
    /// Users with a waiter, by the rooms that they read.
    room_users: HashMap<OwnedRoomId, HashSet<OwnedUserId>>,
    waiters: HashMap<OwnedUserId, Vec<Waiter>>,
    next_waiter: u64,
    to_wake: Vec<Arc<Notify>>,
}

struct Waiter {
    id: u64,
    device: OwnedDeviceId,
    notify: Arc<Notify>,
}

impl Readers {
    /// Starts with nothing known below `head`.
    pub(super) fn new(head: Position) -> Self {
        Self(Mutex::new(State { floor: head, ..State::default() }))
    }

    /// Follows a commit that is durable but not published yet.
    pub(super) fn record(&self, commit: &Commit, first: Position) {
        if commit.touches.is_empty() && commit.changes.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        for touch in &commit.touches {
            state.touch(touch, Position(first.0 + u64::from(touch.slot)));
        }
        for change in &commit.changes {
            let at = Position(first.0 + u64::from(change.slot));
            state.generation += 1;
            if let Some(known) = state.subscriptions.get_mut(&change.audience) {
                Arc::make_mut(known).change(change.lane.clone(), change.opens, at);
            }
            let (Audience::Account(user), Lane::Room(room)) = (&change.audience, &change.lane) else {
                continue;
            };
            if change.opens && state.waiters.contains_key(user) {
                state.room_users.entry(room.clone()).or_default().insert(user.clone());
            }
            // A user who left still has to be woken by this very commit; their next wait tidies up.
        }
    }

    /// Keeps a fact in memory, in place of the register's older one.
    pub(super) fn record_volatile(&self, at: Position, volatile: VolatileFact) {
        let VolatileFact { lane, register, fact } = volatile;
        let mut state = self.0.lock();
        let facts = state.volatile.entry(lane.clone()).or_default();
        facts.retain(|_, (key, _)| *key != register);
        let person = match &fact {
            Fact::Presence { user_id, .. } => Some(user_id.clone()),
            _ => None,
        };
        facts.insert(at, (register, fact));
        state.touch(&Touch { lane, slot: 0, person }, at);
    }

    /// The facts in memory of a lane in `(from, to]`.
    pub(super) fn volatile(&self, lane: &Lane, from: Position, to: Position) -> Vec<(Position, Fact)> {
        let state = self.0.lock();
        let Some(facts) = state.volatile.get(lane) else { return Vec::new() };
        facts.range(from.next()..=to).map(|(at, (_, fact))| (*at, fact.clone())).collect()
    }

    /// Wakes those whom the recorded commits concern; called after the head has been published.
    pub(super) fn wake(&self) {
        let waiting = std::mem::take(&mut self.0.lock().to_wake);
        for notify in waiting {
            notify.notify_one();
        }
    }

    /// Wakes everyone, for shutdown.
    pub(super) fn wake_all(&self) {
        let state = self.0.lock();
        for waiter in state.waiters.values().flatten() {
            waiter.notify.notify_one();
        }
    }

    /// Whether `lane` may have something above `from`; never wrong when it says no.
    pub(super) fn may_have(&self, lane: &Lane, from: Position) -> bool {
        self.0.lock().may_have(lane, from)
    }

    /// Of `lanes`, those that may have something above the position beside them.
    pub(super) fn filter(&self, lanes: Vec<(Lane, Position)>) -> Vec<(Lane, Position)> {
        let state = self.0.lock();
        lanes.into_iter().filter(|(lane, from)| state.may_have(lane, *from)).collect()
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
            subscriptions
                .retain(|known, _| matches!(known, Audience::Account(user) if waiters.contains_key(user)));
        }
        state.subscriptions.insert(audience.clone(), loaded.clone());
        true
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
        let id = state.next_waiter;
        state.next_waiter += 1;
        if !state.waiters.contains_key(user) {
            for (lane, interval) in rooms.latest() {
                if let (Lane::Room(room), None) = (lane, interval.closed) {
                    state.room_users.entry(room.clone()).or_default().insert(user.clone());
                }
            }
        }
        let waiter = Waiter { id, device: device.clone(), notify: notify.clone() };
        state.waiters.entry(user.clone()).or_default().push(waiter);
        Waiting { readers: self, user: user.clone(), id, notify }
    }

    fn unregister(&self, user: &OwnedUserId, id: u64) {
        let mut state = self.0.lock();
        let Some(waiters) = state.waiters.get_mut(user) else { return };
        waiters.retain(|waiter| waiter.id != id);
        if !waiters.is_empty() {
            return;
        }
        state.waiters.remove(user);
        let rooms = state.subscriptions.get(&Audience::Account(user.clone())).cloned();
        match rooms {
            Some(rooms) => {
                for (lane, _) in rooms.latest() {
                    if let Lane::Room(room) = lane {
                        state.forget(room, user);
                    }
                }
            }
            None => state.room_users.retain(|_, users| {
                users.remove(user);
                !users.is_empty()
            }),
        }
    }
}

impl State {
    fn may_have(&self, lane: &Lane, from: Position) -> bool {
        match self.heads.get(lane) {
            Some(head) => *head > from,
            None => from < self.floor,
        }
    }

    fn forget(&mut self, room: &OwnedRoomId, user: &OwnedUserId) {
        if let Some(users) = self.room_users.get_mut(room) {
            users.remove(user);
            if users.is_empty() {
                self.room_users.remove(room);
            }
        }
    }

    fn touch(&mut self, touch: &Touch, at: Position) {
        if self.heads.len() >= LANE_HEADS_MAX && !self.heads.contains_key(&touch.lane) {
            // Forgetting everything is exact as long as the floor says so; it costs some scans.
            self.floor = self.heads.values().copied().max().unwrap_or(self.floor).max(self.floor);
            self.heads.clear();
        }
        self.heads.insert(touch.lane.clone(), at);
        let State { waiters, room_users, to_wake, .. } = self;
        let mut wake = |user: &OwnedUserId, device: Option<&OwnedDeviceId>| {
            for waiter in waiters.get(user).into_iter().flatten() {
                if device.is_none_or(|device| *device == waiter.device) {
                    to_wake.push(waiter.notify.clone());
                }
            }
        };
        match &touch.lane {
            Lane::Room(room) => {
                room_users.get(room).into_iter().flatten().for_each(|user| wake(user, None));
            }
            Lane::Account(user) => wake(user, None),
            Lane::Inbox(user, device) => wake(user, Some(device)),
            Lane::People => match touch.person.as_ref().filter(|person| waiters.contains_key(*person)) {
                // The person's own rooms are indexed, so only those who share one need to look.
                Some(person) => {
                    let sharing: HashSet<&OwnedUserId> =
                        room_users.values().filter(|users| users.contains(person)).flatten().collect();
                    sharing.into_iter().for_each(|user| wake(user, None));
                    wake(person, None);
                }
                None => to_wake.extend(waiters.values().flatten().map(|waiter| waiter.notify.clone())),
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
