//! What must hold once nothing moves any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};

use super::{
    Room, World,
    client::{Believed, Client},
    node::Node,
};
use crate::{
    history::{Status, StoredEvent},
    log::{Audience, Direction},
    types::{Fact, Lane, Membership, Position},
};

/// The state of a room: event ids by type and state key.
pub(super) type State = BTreeMap<(String, String), OwnedEventId>;
/// What a server keeps of a room, by event id.
pub(super) type Kept = BTreeMap<OwnedEventId, Arc<StoredEvent>>;

impl Node {
    pub(super) async fn state(&self, room: &RoomId) -> State {
        let history = &self.app().history;
        let state = history.current_state(room).await.unwrap().unwrap();
        let entries = history.state_of(state, None).await.unwrap().into_iter();
        entries
            .map(|entry| ((entry.key.event_type.to_string(), entry.key.state_key), entry.value.event_id))
            .collect()
    }

    pub(super) async fn heads(&self, room: &RoomId) -> Vec<OwnedEventId> {
        let row = self.app().history.room(room).await.unwrap().unwrap();
        row.heads.iter().map(|head| head.id.clone()).collect()
    }

    /// The timeline from a position on, in the order of the log.
    pub(super) async fn timeline(&self, room: &RoomId, from: Position) -> Vec<OwnedEventId> {
        let range = (Position(from.0.saturating_sub(1)), Position::MAX);
        let facts = self.app().log.timeline(room, range, Direction::Forward, 10_000).await.unwrap();
        let id = |(_, fact)| match fact {
            Fact::Event { event_id } => Some(event_id),
            _ => None,
        };
        facts.into_iter().filter_map(id).collect()
    }

    /// Since when the server has been in the room without a break.
    pub(super) async fn entered(&self, room: &RoomId, users: &BTreeSet<&UserId>) -> Position {
        let mut stays = Vec::new();
        for user in users.iter().filter(|user| user.server_name() == self.name) {
            let audience = Audience::Account((*user).to_owned());
            let lanes = self.app().log.subscriptions(&audience).await.unwrap();
            stays.extend(lanes.intervals(&Lane::Room(room.to_owned())).to_vec());
        }
        stays.sort_by_key(|stay| stay.opened);
        let (mut since, mut until) = (Position::ZERO, Some(Position::ZERO));
        for stay in stays {
            if until.is_some_and(|until| stay.opened > until) {
                since = stay.opened;
            }
            until = match (until, stay.closed) {
                (Some(until), Some(closed)) => Some(until.max(closed)),
                _ => None,
            };
        }
        since
    }

    /// Every event of the ids that the server has, with what comes before it.
    pub(super) async fn kept(&self, ids: impl IntoIterator<Item = OwnedEventId>) -> Kept {
        let history = self.app().history.clone();
        let (mut kept, mut todo) = (Kept::new(), ids.into_iter().collect::<Vec<_>>());
        while let Some(id) = todo.pop() {
            if kept.contains_key(&id) {
                continue;
            }
            if let Some(event) = history.event(&id).await.unwrap() {
                todo.extend(event.pdu.prev_events().iter().cloned());
                kept.insert(id, event);
            }
        }
        kept
    }
}

impl World {
    /// Everybody has the same.
    pub(super) async fn check(&self, rooms: &[Room]) {
        for room in rooms {
            self.check_room(&room.id).await;
        }
        for client in &self.clients {
            self.check_client(client).await;
            self.check_messages(client);
        }
    }

    async fn check_room(&self, room: &RoomId) {
        let mut inside = Vec::new();
        for node in &self.nodes {
            if node.app().rooms.is_here(room).await.unwrap() {
                inside.push(node.clone());
            }
        }
        for node in &inside {
            let members = node.app().history.current_members(room).await.unwrap();
            let row = node.app().history.room(room).await.unwrap().unwrap();
            assert_eq!(row.joined, members.joined_count() as u64, "members of {room} at {}", node.name);
        }
        let parties = self.parties(room, &inside).await;
        for party in &parties {
            check_party(room, party).await;
            self.check_events(room, party).await;
        }
        self.check_owed(room, &parties).await;
    }

    /// Whatever one shows, all others who believe in it have too, if they know of something after it, but for what
    /// lies before their joins.
    async fn check_events(&self, room: &RoomId, party: &[Arc<Node>]) {
        let users: BTreeSet<&UserId> = self.clients.iter().map(|client| &*client.user).collect();
        let (mut all, mut shown) = (Kept::new(), BTreeMap::new());
        for node in party {
            let timeline = node.timeline(room, Position::ZERO).await;
            let unique: BTreeSet<OwnedEventId> = timeline.iter().cloned().collect();
            assert_eq!(unique.len(), timeline.len(), "an event of {room} twice at {}", node.name);
            all.extend(node.kept(timeline).await);
            shown.insert(node.name.clone(), unique);
        }
        for node in party {
            let entered = node.entered(room, &users).await;
            let entry = node.timeline(room, entered).await.into_iter().next();
            let before = ancestors(&all, entry);
            let known = ancestors(&all, node.heads(room).await);
            for (other, ids) in &shown {
                for id in ids.iter().filter(|id| known.contains(*id) && !before.contains(*id)) {
                    let event = node.app().history.event(id).await.unwrap();
                    let status = event.as_ref().map(|event| event.status);
                    let has = match status {
                        // What could not be had when it was missed is had when a client looks back. What was said by
                        // somebody who had gone is not shown where that was known, nor is an invite of somebody who
                        // had come in.
                        Some(Status::Timeline | Status::Backfilled | Status::SoftFailed) => true,
                        _ => false,
                    };
                    let reason = event.as_ref().and_then(|event| event.notes.reason.clone());
                    let text = all[id].pdu.json();
                    assert!(
                        has,
                        "{room}: {id}, shown at {other}, is {status:?} ({reason:?}) at {}: {text}",
                        node.name
                    );
                }
            }
        }
    }

    fn check_messages(&self, client: &Client) {
        let seen = client.seen.lock();
        let owed = self.ledger.lock().get(&(client.user.clone(), client.device.clone())).cloned();
        let by_sender = |messages: &[(String, String, u64)]| {
            let mut sorted: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
            for (user, device, n) in messages {
                sorted.entry((user.clone(), device.clone())).or_default().push(*n);
            }
            sorted
        };
        let (found, expected) = (by_sender(&seen.messages), by_sender(&owed.unwrap_or_default()));
        assert_eq!(found, expected, "to-device messages of {} of {}", client.device, client.user);
    }

    async fn check_client(&self, client: &Client) {
        let app = client.node.app();
        let mut joined = app.history.joined_rooms(&client.user).await.unwrap();
        let mut believed: Vec<_> = client.seen.lock().rooms.keys().cloned().collect();
        for room in joined.clone() {
            if self.is_stuck(&room, &client.node).await {
                joined.retain(|other| *other != room);
                believed.retain(|other| *other != room);
            }
        }
        assert_eq!(believed, joined, "rooms of {} of {}", client.device, client.user);
        for room in &joined {
            let state = client.node.state(room).await;
            let lanes = app.log.subscriptions(&Audience::Account(client.user.clone())).await.unwrap();
            let opened = lanes.intervals(&Lane::Room(room.clone())).last().unwrap().opened;
            let mut timeline = client.node.timeline(room, opened).await;
            let events = app.history.events(&timeline).await.unwrap().into_iter().flatten();
            // What was taken too early, before the members were known, is shown no more.
            let shown: BTreeSet<OwnedEventId> = events
                .filter(|event| event.is_shown())
                .map(|event| event.pdu.event_id().to_owned())
                .collect();
            timeline.retain(|id| shown.contains(id));
            {
                let seen = client.seen.lock();
                let who = format!("{} of {} in {room}", client.device, client.user);
                check_state(&who, &seen.rooms[room], &state);
                check_timeline(&who, &seen.rooms[room], &timeline);
            }
            let members = app.history.current_members(room).await.unwrap();
            for other in members.with(Membership::Join) {
                let theirs = self.nodes.iter().find(|node| node.name == other.server_name()).unwrap();
                // Whose server does not believe in this one being there tells it nothing.
                if theirs.believes_in(room, &client.node.name).await {
                    self.check_list(client, other).await;
                }
            }
        }
    }

    /// Whether a server waits in vain for the members of a room that it has joined: the others do not believe that it is in
    /// the room, and answer it nothing. Until it has the members, clients are not told of the room.
    pub(super) async fn is_stuck(&self, room: &RoomId, node: &Arc<Node>) -> bool {
        if !node.app().history.is_partial(room).await.unwrap() {
            return false;
        }
        for other in self.nodes.iter().filter(|other| other.name != node.name) {
            if other.app().rooms.is_here(room).await.unwrap() && other.believes_in(room, &node.name).await {
                return false;
            }
        }
        true
    }

    /// What a client knows of a user's devices is what the user's own server says.
    async fn check_list(&self, client: &Client, other: &UserId) {
        let theirs = self.clients.iter().find(|theirs| *theirs.user == *other).unwrap();
        let body = json!({ "device_keys": { other.as_str(): [] } });
        let (_, answer) = theirs.ask("POST /keys/query", &body).await.unwrap();
        let told = client.seen.lock().lists.get(other).cloned().flatten();
        let who = format!("devices of {other} as {} of {} knows them", client.device, client.user);
        assert_eq!(told.as_ref(), Some(&answer["device_keys"][other.as_str()]), "{who}");
    }
}

/// Those who believe in one another have the same.
async fn check_party(room: &RoomId, party: &[Arc<Node>]) {
    let Some(first) = party.first() else { return };
    let (state, heads) = (first.state(room).await, first.heads(room).await);
    for node in party {
        let (theirs, their_heads) = (node.state(room).await, node.heads(room).await);
        let both = state.keys().chain(theirs.keys()).collect::<BTreeSet<_>>();
        let differ = both.into_iter().filter(|key| state.get(*key) != theirs.get(*key));
        let differ: Vec<_> = differ.map(|key| (key, state.get(key), theirs.get(key))).collect();
        assert!(
            differ.is_empty() && heads.len() == 1 && their_heads.len() == 1,
            "{room} at {} and {}: {differ:?}, after {heads:?} and {their_heads:?}",
            first.name,
            node.name
        );
        for other in party.iter().filter(|other| other.name != node.name) {
            let reads = node.app().log.servers_of(room).contains(&other.name);
            assert!(reads, "{} gets what happens in {room} at {}", other.name, node.name);
        }
    }
}

/// Nobody takes for a head what something else that they know of follows.
pub(super) fn check_extremities(room: &RoomId, node: &Node, kept: &Kept) {
    for event in kept.values().filter(|event| event.pdu.sender().server_name() == node.name) {
        let prevs = event.pdu.prev_events();
        // What a join follows is told by the server through which the user comes in.
        let comes_in = event.pdu.membership() == Some(Membership::Join);
        if prevs.len() < 2 || event.status != Status::Timeline || comes_in {
            continue;
        }
        // What has come since was not known then, nor what fills a hole.
        let known = |other: &StoredEvent| other.status == Status::Timeline && other.position < event.position;
        let known: Kept =
            kept.iter().filter(|(_, other)| known(other)).map(|(id, e)| (id.clone(), e.clone())).collect();
        for prev in prevs {
            let before = ancestors(&known, prevs.iter().filter(|other| *other != prev).cloned());
            assert!(
                !before.contains(prev),
                "{prev} is before another head of {room} at {}: {:?}",
                node.name,
                event.pdu
            );
        }
    }
}

/// Events with everything before them, as far as anybody knows.
pub(super) fn ancestors(all: &Kept, of: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<OwnedEventId> = of.into_iter().collect();
    while let Some(id) = todo.pop() {
        if let Some(event) = all.get(&id)
            && found.insert(id)
        {
            todo.extend(event.pdu.prev_events().iter().cloned());
        }
    }
    found
}

#[track_caller]
fn check_state(who: &str, believed: &Believed, actual: &State) {
    let id = |event: &Value| OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
    // There is no way to tell a client that nothing stands any more where something stood.
    let stands = |key: &(String, String)| actual.contains_key(key);
    let believed = believed.state.iter().filter(|(key, _)| stands(key));
    let believed: State = believed.map(|(key, event)| (key.clone(), id(event))).collect();
    assert_eq!(&believed, actual, "the state that {who} believes in, and that of its server");
}

/// Every event since the join was given once, or lies in a gap.
#[track_caller]
fn check_timeline(who: &str, believed: &Believed, actual: &[OwnedEventId]) {
    let once: BTreeSet<_> = believed.timeline.iter().map(|(id, _)| id).collect();
    assert_eq!(once.len(), believed.timeline.len(), "an event came twice to {who}");
    let mut next = 0;
    for (id, gap) in &believed.timeline {
        // What came with the join may be from before it.
        let Some(at) = actual.iter().position(|event| event == id) else { continue };
        assert!(at == next || (*gap && at > next), "{who} misses an event before {id}");
        next = at + 1;
    }
    assert_eq!(next, actual.len(), "{who} misses the newest events");
}
