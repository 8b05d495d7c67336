//! The auth chain index as it is stored, and the resolution of states by it.
//!
//! One row for each pair of a state event and one of its auth events, written with the state event: the
//! key begins with the hash of the auth event, so that those who name it are a range; then come the hash
//! of the place of the naming event and, if others may name that in turn, its own hash. The value says
//! the place and the event. A collision of hashes, were there one, is seen by reading the value.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, events::TimelineEventType, room_version_rules::RoomVersionRules};
use sha2::{Digest, Sha256};

use super::{History, Status, StoredEvent, state::Nodes};
use crate::{
    dag::{
        Node, NodeId, Pdu, StateId, StateKey,
        resolve::{AtHand, Citer, Merge, MergeStop, Need, authorises, citations},
        tree::Applied,
    },
    limits::{CITERS_PAGE_FIRST, CITERS_PAGE_NEXT, SCAN_ROWS_MAX},
    log::{Commit, CommitError, Log},
    store::{
        Key, KeyWriter, Scan, StoreError,
        table::{Rows, TableId},
    },
};

/// The keys of events.
pub(super) const EVENTS: Rows<(OwnedEventId,), ()> = Rows::new(TableId::Event);

/// What is not stored yet, but may be part of a state.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    /// Nodes of the states.
    pub nodes: &'a HashMap<NodeId, Arc<Node>>,
    /// Events of the room.
    pub events: &'a HashMap<OwnedEventId, StoredEvent>,
}

impl History {
    /// The state that several states of a room resolve to, with the nodes to write for it.
    ///
    /// # Errors
    /// When the store fails, or lacks something that it must have.
    pub async fn merge(
        &self,
        rules: &RoomVersionRules,
        states: &[StateId],
        fresh: Fresh<'_>,
    ) -> Result<Applied, StoreError> {
        let mut nodes = Nodes::new(self, fresh.nodes);
        let mut loader = Loader::new(self, fresh.events);
        let mut merge = Merge::new(rules, states);
        loop {
            match merge.advance(&nodes, &loader.at_hand) {
                Ok(applied) => return Ok(applied),
                Err(MergeStop::Broken(what)) => return Err(StoreError::Corrupt(what)),
                Err(MergeStop::Need(Need { nodes: ids, events, citers })) => {
                    nodes.load(ids.into_iter().collect()).await?;
                    loader.events(events).await?;
                    loader.citers(citers).await?;
                }
            }
        }
    }
}

/// Loads what a resolution asks for.
struct Loader<'a> {
    history: &'a History,
    fresh: &'a HashMap<OwnedEventId, StoredEvent>,
    /// Who names an event, of what is not stored.
    fresh_citers: HashMap<OwnedEventId, Vec<Citer>>,
    at_hand: AtHand,
    /// Where the citers of an event go on, if some were read.
    next: HashMap<OwnedEventId, Key>,
}

impl<'a> Loader<'a> {
    fn new(history: &'a History, fresh: &'a HashMap<OwnedEventId, StoredEvent>) -> Self {
        let mut fresh_citers: HashMap<OwnedEventId, Vec<Citer>> = HashMap::new();
        for event in fresh.values().filter(|event| event.status != Status::Rejected) {
            for (cited, citer) in citations(&event.pdu) {
                fresh_citers.entry(cited).or_default().push(citer);
            }
        }
        Self { history, fresh, fresh_citers, at_hand: AtHand::default(), next: HashMap::new() }
    }

    /// Loads events, and those that power levels stand on: the mainline is walked to its end anyway.
    async fn events(&mut self, wanted: BTreeSet<OwnedEventId>) -> Result<(), StoreError> {
        let mut wanted: Vec<OwnedEventId> = wanted.into_iter().collect();
        while !wanted.is_empty() {
            let found = self.history.events(&wanted).await?;
            let mut next = BTreeSet::new();
            for (id, stored) in wanted.into_iter().zip(found) {
                let pdu = match (self.fresh.get(&id), stored) {
                    (Some(fresh), _) => fresh.pdu.clone(),
                    (None, Some(stored)) => stored.pdu.clone(),
                    (None, None) => {
                        return Err(StoreError::Corrupt(format!("the event {id} of a state is missing")));
                    }
                };
                if *pdu.event_type() == TimelineEventType::RoomPowerLevels {
                    next.extend(pdu.auth_events().iter().cloned());
                }
                self.at_hand.events.insert(id, pdu);
            }
            wanted = next.into_iter().filter(|id| !self.at_hand.events.contains_key(id)).collect();
        }
        Ok(())
    }

    /// Loads the first, or the next, that name each of some events.
    async fn citers(&mut self, wanted: BTreeSet<OwnedEventId>) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let scan = |id: &OwnedEventId| {
            let prefix = citers_prefix(id);
            let to = prefix.after_prefix();
            let (from, limit) = match self.next.get(id) {
                Some(next) => (next.clone(), CITERS_PAGE_NEXT),
                None => (prefix, CITERS_PAGE_FIRST),
            };
            Scan { from, to, reverse: false, limit }
        };
        let scans: Vec<Scan> = wanted.iter().map(scan).collect();
        let pages = self.history.log().db().scan_many(&scans).await?;
        for ((id, scan), page) in wanted.into_iter().zip(scans).zip(pages) {
            let citers = self.at_hand.citers.entry(id.clone()).or_default();
            citers.found.extend(self.fresh_citers.remove(&id).unwrap_or_default());
            citers.is_whole = page.len() < scan.limit;
            if let Some((key, _)) = page.last() {
                self.next.insert(id, key.successor());
            }
            for (_, value) in page {
                citers.found.push(decode(&value)?);
            }
        }
        Ok(())
    }
}

/// Puts what the index holds because of a state event into `commit`.
pub(super) fn record(pdu: &Pdu, commit: &mut Commit) {
    for (cited, citer) in citations(pdu) {
        let mut key = KeyWriter::new(TableId::AuthChain);
        key.raw(&half(&[cited.as_bytes()]));
        let StateKey { event_type, state_key } = &citer.place;
        let type_name = event_type.to_string();
        // The length keeps apart what the type and the key might share.
        let length = u64::try_from(type_name.len()).unwrap_or(u64::MAX).to_be_bytes();
        key.raw(&half(&[&length, type_name.as_bytes(), state_key.as_bytes()]));
        if authorises(event_type) {
            key.raw(&half(&[citer.event_id.as_bytes()]));
        }
        let value = (type_name.as_str(), state_key.as_str(), citer.event_id.as_str());
        // Strings always serialize.
        commit.put_raw(key.finish(), postcard::to_stdvec(&value).expect("strings serialize"));
    }
}

pub(super) fn citers_prefix(cited: &EventId) -> Key {
    let mut key = KeyWriter::new(TableId::AuthChain);
    key.raw(&half(&[cited.as_bytes()]));
    key.finish()
}

fn decode(value: &[u8]) -> Result<Citer, StoreError> {
    let corrupt = |what: &dyn std::fmt::Display| StoreError::Corrupt(format!("the auth chain index: {what}"));
    let (event_type, state_key, id): (&str, &str, &str) =
        postcard::from_bytes(value).map_err(|error| corrupt(&error))?;
    let event_id = OwnedEventId::try_from(id).map_err(|error| corrupt(&error))?;
    Ok(Citer { event_id, place: StateKey::new(event_type.into(), state_key) })
}

fn half(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// Writes the index of a store whose events were written before there was one.
pub(super) async fn complete(log: &Log) -> Result<(), StoreError> {
    let mark = Key::new(TableId::Meta, &(String::from("auth chain index"),));
    if log.db().raw(&mark).await?.is_some() {
        return Ok(());
    }
    let table = EVENTS.prefix(&());
    let (mut from, to) = (table.clone(), table.after_prefix());
    loop {
        let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX / 10 };
        let page = log.db().scan_many(std::slice::from_ref(&scan)).await?.pop().unwrap_or_default();
        let mut commit = Commit::new();
        for (key, row) in &page {
            let (id,) = EVENTS.decode_key(key)?;
            let event = StoredEvent::decode(&id, row)?;
            record(&event.pdu, &mut commit);
        }
        let last = page.last().filter(|_| page.len() == scan.limit).map(|(key, _)| key.successor());
        if last.is_none() {
            commit.put_raw(mark.clone(), vec![1]);
        }
        match log.commit(commit).await {
            Ok(_) => {}
            Err(CommitError::Store(error)) => return Err(error),
            Err(_) => return Err(StoreError::Closed),
        }
        match last {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use ruma::server_name;
    use serde_json::json;
    use tokio_util::task::TaskTracker;

    use super::{Fresh, complete};
    use crate::{
        dag::{StateId, resolve, tree, world::World},
        history::{EventNotes, History, Status, StoredEvent, node_key},
        log::{Commit, Log},
        store::{Db, Key, Memory, table::TableId},
        types::{ManualClock, Ports, Position, SeededRng},
    };

    async fn history() -> History {
        let ports = Ports { clock: Arc::new(ManualClock::at(1_000_000)), rng: Arc::new(SeededRng::new(1)) };
        let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
        History::open(log, ports, server_name!("a.org").to_owned()).await.unwrap()
    }

    fn stored(world: &World, pdu: &crate::dag::Pdu) -> StoredEvent {
        StoredEvent {
            pdu: pdu.clone(),
            position: Position::ZERO,
            status: Status::Outlier,
            version: world.version.clone(),
            states: None,
            notes: EventNotes::default(),
        }
    }

    /// Two branches of a room, stored but for the last event of each.
    #[tokio::test]
    async fn stored_forks_resolve_as_whole_chains_do() {
        for version in ["1", "6", "11", "12"] {
            let history = history().await;
            let mut base = World::new(version);
            for number in 0..50 {
                base.join(&format!("user{number}:b.org"));
            }
            let mut branches = [base.clone(), base.clone()];
            let ban = json!({"membership": "ban"});
            branches[0].send("alice", "m.room.member", Some("@user3:b.org"), ban).unwrap();
            branches[1].now += 1_000;
            branches[1]
                .send("user3:b.org", "m.room.member", Some("@user3:b.org"), json!({"membership": "leave"}))
                .unwrap();
            branches[1].send("alice", "m.room.name", Some(""), json!({"name": "n"})).unwrap();
            let events: HashMap<_, _> = branches.iter().flat_map(|world| world.events.clone()).collect();
            let states: Vec<_> = branches.iter().map(World::state_ids).collect();
            let expected = resolve::resolve(base.rules, &states, &events).unwrap();

            let mut commit = Commit::new();
            let last = branches.each_ref().map(|world| world.heads[0].event_id().to_owned());
            let kept = events.values().filter(|pdu| !last.iter().any(|id| id == pdu.event_id()));
            kept.for_each(|pdu| stored(&base, pdu).record(&mut commit));
            let none = HashMap::new();
            let mut roots = Vec::new();
            for world in &branches {
                let entries: Vec<_> = world
                    .state
                    .values()
                    .filter_map(tree::entry_of)
                    .map(|(key, value)| (key, Some(value)))
                    .collect();
                let applied = history
                    .ask(&none, |nodes| tree::apply(nodes, StateId::EMPTY, entries.clone()))
                    .await
                    .unwrap();
                applied.nodes.iter().for_each(|node| commit.put_raw(node_key(node.id), node.bytes.clone()));
                roots.push(applied.state);
            }
            history.log().commit(commit).await.unwrap();

            // As if the store were older than the index.
            let mut forget = Commit::new();
            forget.delete_key(Key::new(TableId::Meta, &(String::from("auth chain index"),)));
            history.log().commit(forget).await.unwrap();
            complete(history.log()).await.unwrap();

            let fresh = last.iter().map(|id| (id.clone(), stored(&base, &events[id]))).collect();
            let merged =
                history.merge(base.rules, &roots, Fresh { nodes: &none, events: &fresh }).await.unwrap();
            let nodes = merged.nodes.into_iter().map(|node| (node.id, node.node)).collect();
            let found = history.ask(&nodes, |nodes| tree::all(nodes, merged.state)).await.unwrap();
            let found: HashMap<_, _> = found
                .into_iter()
                .map(|entry| ((entry.key.event_type, entry.key.state_key), entry.value.event_id))
                .collect();
            assert_eq!(found, expected, "version {version}");
        }
    }
}
