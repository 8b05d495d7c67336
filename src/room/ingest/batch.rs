//! Events that are on their way into one room, and what they lack.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, RoomId};

use crate::{
    dag::{Node, NodeId, Pdu, Signed, StateId, pdu::create_of_room, tree::NewNode},
    history::{RoomRow, Status},
    room::{RoomError, Rooms},
};

/// Events that are on their way into one room, with what was fetched for them.
pub(in crate::room) struct Batch<'a> {
    pub(super) rooms: &'a Rooms,
    pub(super) room: &'a RoomId,
    pub(in crate::room) row: Arc<RoomRow>,
    events: BTreeMap<OwnedEventId, Signed>,
    /// States that other servers gave.
    claimed: Claimed,
    /// The depth before which nothing is fetched, but for the states there: it is left to clients that look back.
    pub(super) floor: u64,
    /// The one event that our join followed, and the state after it as far as it is known, where members are not.
    pub(super) entry: Option<(OwnedEventId, StateId)>,
    nodes: Vec<NewNode>,
}

/// States by the word of other servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    /// After events that are not here.
    pub(super) after: HashMap<OwnedEventId, StateId>,
    /// Before events of the batch that follow on such as nobody gives.
    pub(super) before: HashMap<OwnedEventId, StateId>,
}

/// What a batch lacks: events by those that need them.
#[derive(Debug, Default)]
pub(in crate::room) struct Lack {
    /// Previous events whose state is not known, with those of the batch that follow them.
    pub(super) prev: BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
    /// Auth events.
    pub(super) auth: BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
}

impl Lack {
    pub(super) fn is_lacking(&self) -> bool {
        !self.prev.is_empty() || !self.auth.is_empty()
    }
}

impl<'a> Batch<'a> {
    pub(in crate::room) fn new(rooms: &'a Rooms, room: &'a RoomId, row: Arc<RoomRow>) -> Self {
        let (events, claimed) = (BTreeMap::new(), Claimed::default());
        Self { rooms, room, row, events, claimed, floor: 0, entry: None, nodes: Vec::new() }
    }

    pub(in crate::room) fn extend(&mut self, events: impl IntoIterator<Item = Signed>) -> usize {
        let before = self.events.len();
        for event in events {
            self.events.entry(event.pdu().event_id().to_owned()).or_insert(event);
        }
        self.events.len() - before
    }

    /// The events.
    pub(in crate::room) fn events(&self) -> impl Iterator<Item = &Pdu> {
        self.events.values().map(Signed::pdu)
    }

    /// Takes another text of an event in place of the one that is here.
    pub(in crate::room) fn replace(&mut self, event: Signed) {
        self.events.insert(event.pdu().event_id().to_owned(), event);
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// An event of the batch.
    pub(super) fn get(&self, id: &EventId) -> Option<&Signed> {
        self.events.get(id)
    }

    /// The events of the batch that follow on one.
    pub(super) fn following(&self, id: &EventId) -> Vec<OwnedEventId> {
        let follows = |event: &&Pdu| event.prev_events().iter().any(|prev| prev == id);
        self.events().filter(follows).map(|event| event.event_id().to_owned()).collect()
    }

    /// Takes a state for the one that another server gave: before an event of the batch, or after one that is not here.
    pub(super) fn give(&mut self, event: OwnedEventId, state: StateId, nodes: Vec<NewNode>) {
        match self.events.contains_key(&event) {
            true => self.claimed.before.insert(event, state),
            false => self.claimed.after.insert(event, state),
        };
        self.nodes.extend(nodes);
    }

    pub(super) fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// The nodes of the states that were given.
    pub(super) fn nodes(&self) -> &[NewNode] {
        &self.nodes
    }

    pub(super) fn node_map(&self) -> HashMap<NodeId, Arc<Node>> {
        self.nodes.iter().map(|node| (node.id, node.node.clone())).collect()
    }

    /// What the events lack that is neither stored nor in the batch. Previous events that are stored
    /// without their place in the graph are taken into the batch, so that they get it, unless they lie too far back.
    pub(super) async fn look(&mut self) -> Result<Lack, RoomError> {
        let mut lack = Lack::default();
        let mut todo: Vec<OwnedEventId> = self.events.keys().cloned().collect();
        while !todo.is_empty() {
            let mut prev: BTreeMap<OwnedEventId, Vec<OwnedEventId>> = BTreeMap::new();
            let mut auth: BTreeMap<OwnedEventId, Vec<OwnedEventId>> = BTreeMap::new();
            for id in &todo {
                let Some(pdu) = self.events.get(id).map(Signed::pdu) else { continue };
                let is_given = self.claimed.before.contains_key(id);
                let named = pdu.prev_events().iter().filter(|named| !is_given && !self.is_at_hand(named));
                for named in named {
                    prev.entry(named.clone()).or_default().push(id.clone());
                }
                let implied = create_of_room(self.room).filter(|_| {
                    self.row.rules().authorization.room_create_event_id_as_room_id && *id != self.row.create
                });
                let named = pdu.auth_events().iter().chain(&implied);
                for named in named.filter(|named| !self.events.contains_key(*named)) {
                    auth.entry(named.clone()).or_default().push(id.clone());
                }
            }
            todo.clear();
            let ids: BTreeSet<OwnedEventId> = prev.keys().chain(auth.keys()).cloned().collect();
            let ids: Vec<OwnedEventId> = ids.into_iter().collect();
            for stored in self.rooms.history().events(&ids).await?.into_iter().flatten() {
                let id = stored.pdu.event_id().to_owned();
                auth.remove(&id);
                if prev.contains_key(&id) && stored.pdu.room_id() == self.room {
                    let is_placed = stored.states.is_some()
                        && matches!(
                            stored.status,
                            Status::Timeline | Status::Backfilled | Status::SoftFailed | Status::Rejected
                        );
                    if stored.notes.unsound || !is_placed && stored.pdu.depth() < self.floor {
                        continue;
                    }
                    prev.remove(&id);
                    if !is_placed {
                        // Its signatures were good when it was stored.
                        self.events.insert(id.clone(), Signed::ours(stored.pdu.clone()));
                        todo.push(id);
                    }
                }
            }
            for (id, by) in prev {
                lack.prev.entry(id).or_default().extend(by);
            }
            for (id, by) in auth {
                lack.auth.entry(id).or_default().extend(by);
            }
        }
        lack.prev.retain(|id, _| !self.events.contains_key(id));
        lack.auth.retain(|id, _| !self.events.contains_key(id));
        Ok(lack)
    }

    fn is_at_hand(&self, id: &OwnedEventId) -> bool {
        let is_entry = self.entry.as_ref().is_some_and(|(entry, _)| entry == id);
        is_entry || self.events.contains_key(id) || self.claimed.after.contains_key(id)
    }

    /// The events, each after those of the batch that it names.
    pub(super) fn in_order(&self) -> Vec<&Signed> {
        let mut by_age: Vec<&OwnedEventId> = self.events.keys().collect();
        by_age.sort_by_key(|id| {
            let pdu = self.events[*id].pdu();
            (pdu.depth(), pdu.origin_server_ts(), pdu.event_id().to_owned())
        });
        let named = |id| {
            let pdu = self.events.get(id).map(Signed::pdu);
            pdu.into_iter().flat_map(|pdu| pdu.auth_events().iter().chain(pdu.prev_events()))
        };
        let order = ordered(by_age.into_iter(), named);
        order.into_iter().filter_map(|id| self.events.get(id)).collect()
    }
}

/// `ids` and whatever they name, each after what it names. What goes round in circles, as malicious events
/// of the first room versions may, comes out in some order.
pub(super) fn ordered<'e, I>(
    ids: impl Iterator<Item = &'e OwnedEventId>,
    named: impl Fn(&'e OwnedEventId) -> I,
) -> Vec<&'e OwnedEventId>
where
    I: IntoIterator<Item = &'e OwnedEventId>,
{
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    let mut stack: Vec<(&'e OwnedEventId, bool)> = Vec::new();
    for id in ids {
        stack.push((id, false));
        while let Some((id, is_done)) = stack.pop() {
            if is_done {
                order.push(id);
            } else if seen.insert(id) {
                stack.push((id, true));
                stack.extend(named(id).into_iter().filter(|id| !seen.contains(id)).map(|id| (id, false)));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ruma::OwnedEventId;

    use super::ordered;

    #[track_caller]
    fn check(edges: &str, expected: &str) {
        let id = |name: &str| OwnedEventId::try_from(format!("${}", name.trim())).unwrap();
        let edges: BTreeMap<OwnedEventId, Vec<OwnedEventId>> = edges
            .split(';')
            .map(|edge| edge.split_once(':').unwrap())
            .map(|(event, named)| (id(event), named.split_whitespace().map(id).collect()))
            .collect();
        let order = ordered(edges.keys(), |id| edges.get(id).into_iter().flatten());
        let order: Vec<&str> = order.into_iter().map(|id| &id.as_str()[1..]).collect();
        assert_eq!(order.join(" "), expected);
    }

    #[test]
    fn what_is_named_comes_first() {
        check("a:", "a");
        check("a: b; b: c; c:", "c b a");
        check("a: x; b: a", "x a b");
        check("a: b; b: a", "b a");
        check("a: a", "a");
        check("a: c b; b: d; c: d; d:", "d b c a");
    }
}
