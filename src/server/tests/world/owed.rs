//! Who owes what to whom.
//!
//! A server sends what its users do to the servers that are in the room as it sees it, and answers no other. Two
//! servers may come to see the room differently for good: who is banned by somebody who has not heard of their join
//! is not sent the ban, and nobody may tell them later. So servers that do not believe in one another need not
//! have the same, as long as each has sent what it had to send, and has taken what was sent to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName, UserId};

use super::{
    World,
    check::{Kept, check_extremities},
    node::Node,
};
use crate::{
    history::Status,
    log::PageLimits,
    types::{Cursor, Fact, Lane, Membership, Position, Reader},
};

/// What was sent, by who sent it and to whom.
type Owed = BTreeMap<(OwnedServerName, OwnedServerName), BTreeSet<OwnedEventId>>;

impl Node {
    /// Whether another server is in a room as this one sees it.
    pub(super) async fn believes_in(&self, room: &RoomId, other: &ServerName) -> bool {
        let members = self.app().history.current_members(room).await.unwrap();
        members.with(Membership::Join).any(|user| user.server_name() == other)
    }

    /// The events of a room that another server has been sent.
    async fn owes(&self, room: &RoomId, other: &OwnedServerName) -> BTreeSet<OwnedEventId> {
        let limits = PageLimits { append: 10_000, queue: 10_000, before_opening: false, backlog: usize::MAX };
        let (log, reader) = (self.app().log.clone(), Reader::Server(other.clone()));
        let (mut owed, mut from) = (BTreeSet::new(), Cursor::default());
        while from.log < log.head() {
            let page = log.page(&reader, from, &limits).await.unwrap();
            for slice in page.slices.iter().filter(|slice| slice.lane == Lane::Egress(room.to_owned())) {
                assert!(!slice.gap, "so much does not happen");
                owed.extend(slice.facts.iter().filter_map(|(_, fact)| match fact {
                    Fact::Event { event_id } => Some(event_id.clone()),
                    _ => None,
                }));
            }
            from = page.to;
        }
        owed
    }

    /// Whether an event has a place in the room here.
    async fn has(&self, id: &OwnedEventId) -> bool {
        let event = self.app().history.event(id).await.unwrap();
        event.is_some_and(|event| event.status != Status::Outlier)
    }
}

impl World {
    /// Those who are in a room and believe in one another.
    pub(super) async fn parties(&self, room: &RoomId, inside: &[Arc<Node>]) -> Vec<Vec<Arc<Node>>> {
        let mut parties: Vec<Vec<Arc<Node>>> = Vec::new();
        for node in inside {
            let mut home = None;
            for (number, party) in parties.iter().enumerate() {
                for other in party {
                    if node.believes_in(room, &other.name).await && other.believes_in(room, &node.name).await
                    {
                        home = home.or(Some(number));
                    }
                }
            }
            match home {
                Some(number) => parties[number].push(node.clone()),
                None => parties.push(vec![node.clone()]),
            }
        }
        if parties.len() > 1 {
            let names = |party: &Vec<Arc<Node>>| party.iter().map(|node| node.name.to_string()).collect();
            println!("parties in {room}: {:?}", parties.iter().map(names).collect::<Vec<Vec<String>>>());
        }
        parties
    }

    /// Everybody has sent what they had to send, and has taken what they were sent.
    pub(super) async fn check_owed(&self, room: &RoomId, parties: &[Vec<Arc<Node>>]) {
        let (mut owed, mut all) = (Owed::new(), Kept::new());
        for node in &self.nodes {
            if node.app().history.room(room).await.unwrap().is_none() {
                continue;
            }
            let kept = node.kept(node.timeline(room, Position::ZERO).await).await;
            check_extremities(room, node, &kept);
            all.extend(kept);
            for other in self.nodes.iter().filter(|other| other.name != node.name) {
                owed.insert((node.name.clone(), other.name.clone()), node.owes(room, &other.name).await);
            }
        }
        for node in &self.nodes {
            self.check_sent(room, node, &owed).await;
        }
        let users: BTreeSet<&UserId> = self.clients.iter().map(|client| &*client.user).collect();
        for node in parties.iter().flatten() {
            let entered = node.entered(room, &users).await;
            let entry = node.timeline(room, entered).await.into_iter().next();
            let since = entry.and_then(|entry| all.get(&entry)).map(|entry| entry.pdu.origin_server_ts());
            let sent = owed.iter().filter(|((_, to), _)| *to == node.name).flat_map(|(_, sent)| sent);
            let sent: BTreeSet<&OwnedEventId> = sent.collect();
            // What came to a server that had left, it had no reason to take.
            let is_due = |id: &OwnedEventId| all.get(id).map(|event| event.pdu.origin_server_ts()) >= since;
            let due: BTreeSet<&OwnedEventId> = sent.into_iter().filter(|id| is_due(id)).collect();
            for id in &due {
                let has = node.has(id).await || cannot_have(node, id, (&all, &due)).await;
                let text = all.get(*id).map(|event| event.pdu.json());
                assert!(has, "{room}: {id} was sent to {}, which does not have it: {text:?}", node.name);
            }
        }
    }

    /// What users of a server have said, it has sent to all who were there.
    async fn check_sent(&self, room: &RoomId, node: &Node, owed: &Owed) {
        for id in node.timeline(room, Position::ZERO).await {
            let event = node.app().history.event(&id).await.unwrap().unwrap();
            let is_own = event.pdu.sender().server_name() == node.name;
            let Some(states) = event.states.filter(|_| is_own) else { continue };
            let members = node.app().history.members(room, states.before).await.unwrap();
            // Who comes in through another server, or goes without having been there, is passed on by that one.
            let comes_in = event.pdu.membership() == Some(Membership::Join);
            if comes_in || !members.is_joined(event.pdu.sender()) {
                continue;
            }
            // An invite is shown to the invited first. Who has gone by the time that it comes into the room need not have it.
            let then = Position(event.position.0.saturating_sub(1));
            let then = node.app().history.state_at_position(room, then).await.unwrap();
            let then = node.app().history.members(room, then).await.unwrap();
            let then: BTreeSet<&ServerName> =
                then.with(Membership::Join).map(|user| user.server_name()).collect();
            let there = members.with(Membership::Join).map(|user| user.server_name());
            for other in there.filter(|other| *other != node.name && then.contains(other)) {
                let sent = owed.get(&(node.name.clone(), other.to_owned()));
                let mut is_sent = sent.is_some_and(|sent| sent.contains(&id));
                if event.pdu.membership() == Some(Membership::Leave) {
                    // One may go through another server, which passes that on.
                    let node = self.nodes.iter().find(|node| node.name == *other).unwrap();
                    let is_passed_on = owed.iter().any(|((_, to), sent)| to == other && sent.contains(&id));
                    is_sent |= is_passed_on || node.has(&id).await;
                }
                assert!(is_sent, "{room}: {} has not sent {id} to {other}: {}", node.name, event.pdu.json());
            }
        }
    }
}

/// Whether an event cannot be judged by a server that is in the room no more as others see it, since it follows one that
/// nobody had to send to it, or that came when it had no reason to take it, and that nobody will answer about.
async fn cannot_have(node: &Node, id: &OwnedEventId, (all, due): (&Kept, &BTreeSet<&OwnedEventId>)) -> bool {
    let (mut todo, mut seen) = (vec![id.clone()], BTreeSet::new());
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) || node.has(&id).await {
            continue;
        }
        if !due.contains(&id) {
            return true;
        }
        if let Some(event) = all.get(&id) {
            todo.extend(event.pdu.prev_events().iter().cloned());
        }
    }
    false
}
