//! What the random clients of sliding sync meet besides: rooms that nobody can render for a while, and threads to which
//! users subscribe.

use std::collections::BTreeMap;

use rand::{Rng, seq::IndexedRandom};
use ruma::{OwnedRoomId, RoomId};
use serde_json::Value;

use super::{
    place_of,
    sliding_model::{Client, Model},
    user,
};
use crate::{store::Key, types::Position};

const THREADS: [&str; 2] = ["thread_subscriptions", "io.element.msc4308.thread_subscriptions"];

/// An event whose row says nothing for a while, and what it said.
pub(super) struct Damage {
    room: OwnedRoomId,
    key: Key,
    row: Vec<u8>,
}

/// By room and root: when the user said something of the thread, and whether they subscribed.
pub(super) type Threads = BTreeMap<(String, String), (u64, bool)>;

impl Model {
    /// Damages the newest message of a room, or mends what is damaged.
    pub(super) async fn damage_or_mend(&mut self) {
        if self.damage.is_some() {
            return self.mend().await;
        }
        let room = self.rooms.choose(&mut self.rng).unwrap().clone();
        let newest = self.events_after(&room, Position::ZERO).await.pop().unwrap().1;
        let event = self.world().history().event(&newest).await.unwrap().unwrap();
        if event.pdu.event_type().to_string() != "m.room.message" {
            return;
        }
        let key = place_of(&newest);
        let row = self.put(&key, b"rubbish").await;
        self.damage = Some(Damage { room, key, row });
    }

    /// Everything can be read again.
    pub(super) async fn mend(&mut self) {
        if let Some(Damage { key, row, .. }) = self.damage.take() {
            self.put(&key, &row).await;
        }
    }

    /// As [`World::rewrite`].
    ///
    /// [`World::rewrite`]: super::World::rewrite
    async fn put(&mut self, key: &Key, row: &[u8]) -> Vec<u8> {
        let (world, before) = self.world.take().unwrap().rewrite(key, row).await;
        self.world = Some(world);
        self.narrow();
        before
    }

    /// Whether a room cannot be rendered.
    pub(super) fn is_damaged(&self, room: &RoomId) -> bool {
        self.damage.as_ref().is_some_and(|damage| damage.room == room)
    }

    /// Somebody subscribes to a thread, or does not want to hear of it any more.
    pub(super) async fn follow_thread(&mut self, name: &str, room: &RoomId) {
        let Some(root) = self.said.get(room).and_then(|said| said.choose(&mut self.rng)).cloned() else {
            return;
        };
        let (me, thread, ephemeral) = (user(name), (room, &*root), self.world().ephemeral.clone());
        // What they do not see they cannot follow.
        match self.rng.random_ratio(2, 3) {
            true => drop(ephemeral.subscribe(&me, thread, None).await),
            false => drop(ephemeral.unsubscribe(&me, thread).await),
        }
    }

    /// A client takes in what it is told of threads, and asks for what did not fit.
    pub(super) async fn take_threads(&mut self, index: usize, extensions: &Value) {
        let told = THREADS.iter().map(|name| &extensions[*name]).find(|told| told.is_object());
        let Some(told) = told else { return };
        let client = &mut self.clients[index];
        for (what, subscribed) in [("subscribed", true), ("unsubscribed", false)] {
            for (room, roots) in told[what].as_object().into_iter().flatten() {
                for (root, said) in roots.as_object().unwrap() {
                    let at = said["bump_stamp"].as_u64().unwrap();
                    client.note_thread((room.clone(), root.clone()), (at, subscribed));
                }
            }
        }
        let Some(more) = told["prev_batch"].as_str() else { return };
        let more = Position(more.trim_start_matches('t').parse().unwrap());
        let (me, span) = (user(client.name), (Position::ZERO, more));
        let page = self.world().ephemeral.subscriptions(&me, span, None).await.unwrap();
        assert_eq!(page.more, None);
        for (at, change) in page.changes {
            let thread = (change.room_id.to_string(), change.thread_root.to_string());
            self.clients[index].note_thread(thread, (at.0, change.subscribed));
        }
    }

    /// A client knows to which of the threads that it may see its user is subscribed.
    pub(super) async fn compare_threads(&self, client: &Client, joined: &[OwnedRoomId]) {
        for room in joined {
            for root in self.said.get(room).into_iter().flatten() {
                let found = self.world().ephemeral.subscription(&user(client.name), (room, root)).await;
                let Ok(found) = found else { continue };
                let known = client.threads.get(&(room.to_string(), root.to_string()));
                let known = known.is_some_and(|(_, subscribed)| *subscribed);
                let wanted = found.is_some_and(|found| found.subscribed);
                assert_eq!(known, wanted, "{} on the thread {root} of {room}", client.device);
            }
        }
    }
}

impl Client {
    fn note_thread(&mut self, thread: (String, String), said: (u64, bool)) {
        let known = self.threads.entry(thread).or_insert(said);
        if known.0 < said.0 {
            *known = said;
        }
    }
}
