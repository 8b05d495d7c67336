//! From received texts to events whose signatures are good.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId, RoomId,
    UInt, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::ReceiveFailure;
use crate::{
    dag::{Pdu, Signed, judge::ReceiveError},
    history::{Status, StoredEvent},
    keys::{self, PublicKeyMap, VerifyError},
    limits::{EVENTS_LOOKED_THROUGH_AT_ONCE, VERIFY_CHUNK, VERIFY_CHUNKS_AT_ONCE},
    peer::{Validity, Wanted},
    room::{RoomError, Rooms},
};

/// What is left of some texts.
#[derive(Default)]
pub(in crate::room) struct Checked {
    /// Events that need no second look: they are in the room, or were refused, and stay so.
    pub(in crate::room) known: Vec<OwnedEventId>,
    /// Events with good signatures.
    pub(in crate::room) events: Vec<Signed>,
    /// As much as good signatures cover of events whose content is not what was signed; with the others in the end.
    pruned: Vec<Signed>,
    /// Events whose keys could not be had: nothing is said about them. They are among the failures too.
    pub(in crate::room) unverified: Vec<Pdu>,
    /// Events that are dropped.
    pub(in crate::room) failures: Vec<(OwnedEventId, ReceiveFailure)>,
    /// The id of each text, in their order; nothing for what is malformed.
    pub(super) ids: Vec<Option<OwnedEventId>>,
    /// How many texts are so malformed that they have no id.
    pub(in crate::room) nameless: usize,
}

/// The ids that room versions 1 and 2 put into an event, for answers about rooms that are not known.
pub(super) fn ids_of(pdus: &[Box<RawValue>]) -> impl Iterator<Item = OwnedEventId> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: OwnedEventId,
    }
    pdus.iter().filter_map(|pdu| serde_json::from_str::<Named>(pdu.get()).ok()).map(|named| named.event_id)
}

/// The ids of events of a room.
pub(super) fn ids_in(pdus: &[Box<RawValue>], rules: &RoomVersionRules) -> BTreeSet<OwnedEventId> {
    let pdus = pdus.iter().filter_map(|text| Pdu::parse(text.get(), rules).ok());
    pdus.map(|pdu| pdu.event_id().to_owned()).collect()
}

impl Rooms {
    /// Reads events of `room` and checks their signatures. Those that are stored are not checked again, whatever the
    /// text says. Of an event that comes more than once, the best text counts: a bad one hides no good one.
    pub(in crate::room) async fn check(
        &self,
        room: &RoomId,
        rules: &'static RoomVersionRules,
        texts: Vec<Box<RawValue>>,
    ) -> Result<Checked, RoomError> {
        self.check_some(room, rules, texts, &|_| true).await
    }

    /// As [`Self::check`], for those that are wanted; the others are as if they had not been given.
    pub(in crate::room) async fn check_some(
        &self,
        room: &RoomId,
        rules: &'static RoomVersionRules,
        texts: Vec<Box<RawValue>>,
        is_wanted: &(dyn Fn(&EventId) -> bool + Sync),
    ) -> Result<Checked, RoomError> {
        let mut checked = Checked::default();
        let mut pdus: BTreeMap<OwnedEventId, Vec<Pdu>> = BTreeMap::new();
        for text in texts {
            let pdu = Pdu::parse(text.get(), rules);
            checked.ids.push(pdu.as_ref().ok().map(|pdu| pdu.event_id().to_owned()));
            match pdu {
                Ok(pdu) if !is_wanted(pdu.event_id()) => {}
                Ok(pdu) if pdu.room_id() == room => {
                    let texts = pdus.entry(pdu.event_id().to_owned()).or_default();
                    // A state and its auth chain may tell of the same.
                    if texts.last() != Some(&pdu) {
                        texts.push(pdu);
                    }
                }
                Ok(pdu) => {
                    let failure = ReceiveFailure::Malformed(String::from("it is of another room"));
                    checked.failures.push((pdu.event_id().to_owned(), failure));
                }
                Err(error) => {
                    tracing::debug!(room.id = %room, %error, "dropped a malformed event of {room}");
                    let id = keys::parse_object(text.get()).ok();
                    let id = id.and_then(|object| keys::event_id(&object, rules).ok());
                    let failure = ReceiveFailure::Malformed(error.to_string());
                    match id {
                        Some(id) => checked.failures.push((id, failure)),
                        None => checked.nameless += 1,
                    }
                }
            }
        }
        let ids: Vec<OwnedEventId> = pdus.keys().cloned().collect();
        for part in ids.chunks(EVENTS_LOOKED_THROUGH_AT_ONCE) {
            let stored = self.0.history.events_once(part).await?;
            stored.into_iter().flatten().for_each(|event| checked.note_stored(&event, room, &mut pdus));
        }
        self.verify(pdus.into_values().flatten().collect(), rules, &mut checked).await?;
        checked.settle();
        Ok(checked)
    }

    /// Whether an event is whole and signed by all who must sign it. This text is looked at, whatever is stored.
    pub(in crate::room) async fn is_signed(
        &self,
        pdu: &Pdu,
        rules: &'static RoomVersionRules,
    ) -> Result<bool, RoomError> {
        let mut checked = Checked::default();
        self.verify(vec![pdu.clone()], rules, &mut checked).await?;
        Ok(checked.events.first().is_some_and(|signed| signed.pdu() == pdu))
    }

    async fn verify(
        &self,
        pdus: Vec<Pdu>,
        rules: &'static RoomVersionRules,
        checked: &mut Checked,
    ) -> Result<(), RoomError> {
        let mut wanting = Vec::new();
        for pdu in pdus {
            match wanted(&pdu, rules) {
                Ok(wanted) => wanting.push((pdu, wanted)),
                Err(error) => {
                    let failure = ReceiveFailure::Signatures(error.to_string());
                    checked.failures.push((pdu.event_id().to_owned(), failure));
                }
            }
        }
        let mut ring = KeyRing::default();
        ring.gather(self, &wanting, rules).await;
        // Earliest first: a key that was not valid at one moment was not valid at any later one.
        wanting.sort_by_key(|(pdu, _)| pdu.origin_server_ts());
        let is_little = wanting.len() <= VERIFY_CHUNK;
        let (mut wanting, mut tasks) = (wanting.into_iter().peekable(), VecDeque::new());
        while wanting.peek().is_some() {
            let mut chunk = Vec::with_capacity(VERIFY_CHUNK);
            for (pdu, wanted) in wanting.by_ref().take(VERIFY_CHUNK) {
                let keys = ring.keys_for(self, &pdu, wanted, rules).await;
                chunk.push((pdu, keys));
            }
            let check = move || {
                let mut part = Checked::default();
                chunk.into_iter().for_each(|(pdu, keys)| part.note(pdu, &keys, rules));
                part
            };
            if is_little {
                checked.add(check());
                continue;
            }
            // Each takes a thread, and each event a copy of the keys.
            if tasks.len() >= VERIFY_CHUNKS_AT_ONCE
                && let Some(task) = tasks.pop_front()
            {
                checked.add(done(task).await?);
            }
            tasks.push_back(self.0.tasks.spawn_blocking(check));
        }
        for task in tasks {
            checked.add(done(task).await?);
        }
        Ok(())
    }
}

async fn done(task: JoinHandle<Checked>) -> Result<Checked, RoomError> {
    task.await.map_err(|_| RoomError::Closed)
}

impl Checked {
    fn add(&mut self, part: Self) {
        self.events.extend(part.events);
        self.pruned.extend(part.pruned);
        self.unverified.extend(part.unverified);
        self.failures.extend(part.failures);
    }

    /// Takes out of `pdus` what is stored, and has it among what it is.
    fn note_stored(
        &mut self,
        event: &StoredEvent,
        room: &RoomId,
        pdus: &mut BTreeMap<OwnedEventId, Vec<Pdu>>,
    ) {
        let id = event.pdu.event_id();
        pdus.remove(id);
        if event.pdu.room_id() != room {
            // In the first room versions senders choose the ids.
            let failure = ReceiveFailure::Malformed(String::from("its id is that of another room's event"));
            self.failures.push((id.to_owned(), failure));
            return;
        }
        match event.status {
            // Its signatures were good when it was stored.
            Status::Outlier | Status::Rejected if event.states.is_none() => {
                self.events.push(Signed::ours(event.pdu.clone()));
            }
            Status::Rejected => {
                let reason = event.notes.reason.clone().unwrap_or_default();
                self.failures.push((id.to_owned(), ReceiveFailure::Rejected(reason)));
            }
            _ => self.known.push(id.to_owned()),
        }
    }

    /// Leaves one result for each event: whole rather than pruned, pruned rather than unverified, and that rather than
    /// refused.
    fn settle(&mut self) {
        let mut seen: BTreeSet<OwnedEventId> = self.known.iter().cloned().collect();
        self.events.append(&mut self.pruned);
        self.events.retain(|event| seen.insert(event.pdu().event_id().to_owned()));
        let mut waiting = BTreeSet::new();
        self.unverified.retain(|pdu| {
            let id = pdu.event_id();
            !seen.contains(id) && waiting.insert(id.to_owned())
        });
        self.failures.retain(|(id, failure)| match failure {
            ReceiveFailure::Unverified(_) => !seen.contains(id),
            _ => !seen.contains(id) && !waiting.contains(id),
        });
    }

    fn note(&mut self, pdu: Pdu, keys: &PublicKeyMap, rules: &RoomVersionRules) {
        let id = pdu.event_id().to_owned();
        match Signed::verify(pdu.clone(), keys, rules) {
            Ok(event) if *event.pdu() == pdu => self.events.push(event),
            Ok(event) => self.pruned.push(event),
            Err(error @ ReceiveError::Verify(VerifyError::MissingKeys(_))) => {
                tracing::debug!(event.id = %id, %error, "left {id} unverified");
                self.unverified.push(pdu);
                self.failures.push((id, ReceiveFailure::Unverified(error.to_string())));
            }
            Err(error) => {
                tracing::debug!(event.id = %id, %error, "dropped {id} for its signatures");
                self.failures.push((id, ReceiveFailure::Signatures(error.to_string())));
            }
        }
    }
}

/// The keys that are needed to check an event.
fn wanted(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Wanted, ReceiveError> {
    let missing = match Signed::verify(pdu.clone(), &PublicKeyMap::new(), rules) {
        Err(ReceiveError::Verify(VerifyError::MissingKeys(missing))) => missing,
        Err(error) => return Err(error),
        // Nobody had to sign it.
        Ok(_) => return Ok(Wanted::new()),
    };
    let ids =
        |ids: BTreeSet<String>| ids.into_iter().filter_map(|id| OwnedServerSigningKeyId::try_from(id).ok());
    Ok(missing.into_iter().map(|(server, keys)| (server, ids(keys).collect())).collect())
}

/// The keys for many events, with as few questions as possible.
#[derive(Default)]
struct KeyRing {
    /// Keys that are valid at this moment, and so at all before it.
    keys: PublicKeyMap,
    upto: Option<MilliSecondsSinceUnixEpoch>,
    /// Servers whose keys could not be had for this moment, nor then for any later one.
    without: HashMap<OwnedServerName, MilliSecondsSinceUnixEpoch>,
}

impl KeyRing {
    async fn gather(&mut self, rooms: &Rooms, events: &[(Pdu, Wanted)], rules: &RoomVersionRules) {
        let now = UInt::try_from(rooms.0.ports.clock.now_ms()).unwrap_or(UInt::MAX);
        let mut all = Wanted::new();
        // A key that is valid then was valid before. Events from the future are asked for by themselves.
        let mut latest = MilliSecondsSinceUnixEpoch(UInt::MIN);
        for (pdu, wanted) in events {
            let ts = pdu.origin_server_ts();
            latest = latest.max(ts.min(MilliSecondsSinceUnixEpoch(now)));
            for (server, ids) in wanted {
                all.entry(server.clone()).or_default().extend(ids.iter().cloned());
            }
        }
        self.upto = Some(latest);
        self.keys = rooms.0.peers.keys(all, Validity::of(rules, latest)).await;
    }

    async fn keys_for(
        &mut self,
        rooms: &Rooms,
        pdu: &Pdu,
        wanted: Wanted,
        rules: &RoomVersionRules,
    ) -> PublicKeyMap {
        let ts = pdu.origin_server_ts();
        let mut found = PublicKeyMap::new();
        for (server, ids) in wanted {
            let is_covered = !rules.enforce_key_validity || self.upto.is_some_and(|upto| ts <= upto);
            let known = self.keys.get(server.as_str()).filter(|_| is_covered);
            if let Some(known) = known.filter(|known| ids.iter().any(|id| known.contains_key(id.as_str()))) {
                found.insert(server.to_string(), known.clone());
                continue;
            }
            let is_hopeless =
                !rules.enforce_key_validity || self.without.get(&server).is_some_and(|since| *since <= ts);
            if is_hopeless {
                continue;
            }
            let question = Wanted::from([(server.clone(), ids.clone())]);
            let mut answer = rooms.0.peers.keys(question, Validity::of(rules, ts)).await;
            match answer.remove(server.as_str()) {
                Some(keys) if ids.iter().any(|id| keys.contains_key(id.as_str())) => {
                    found.insert(server.to_string(), keys);
                }
                _ => drop(self.without.entry(server).or_insert(ts)),
            }
        }
        found
    }
}
