//! What belongs to a room beside its events: typing, receipts, and the user's own data.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    Sync, SyncError,
    filter::{kind_wanted, type_wanted},
    person::{plain, removed},
    response::{Events, Json},
    rooms::{Place, Scene},
};
use crate::{
    store::StoreError,
    types::{Fact, Lane, ReceiptKind, RegisterKey},
};

impl Sync {
    /// Typing and receipts of each room.
    pub(super) async fn ephemerals(
        &self,
        scene: &Scene<'_>,
        places: &[Place<'_>],
    ) -> Result<Vec<Events>, SyncError> {
        let older = self.older_private_receipts(scene, places).await?;
        let mut all = Vec::with_capacity(places.len());
        for place in places {
            let private = scene.cut.private_receipts.get(&place.room).into_iter().flatten();
            let older = older.get(&place.room).into_iter().flatten();
            all.push(self.ephemeral(scene, place, older.chain(private))?);
        }
        Ok(all)
    }

    fn ephemeral<'f>(
        &self,
        scene: &Scene<'_>,
        place: &'f Place<'_>,
        private: impl Iterator<Item = &'f Fact>,
    ) -> Result<Events, SyncError> {
        let filter = &scene.request.filter.room.ephemeral;
        let mut events = Events::default();
        if !place.is_joined || !kind_wanted(filter, &place.room) {
            return Ok(events);
        }
        let mut typing = match self.is_from_before_start(scene.cut) {
            true => Some(self.ephemeral.typing(&place.room)),
            false => None,
        };
        let mut receipts = Receipts::default();
        for fact in place.facts().chain(private) {
            match fact {
                Fact::Typing { user_ids } => typing = Some(user_ids.clone()),
                Fact::Receipt { user_id, .. } if !scene.person.ignored.contains(user_id) => {
                    receipts.add(fact)
                }
                _ => {}
            }
        }
        // A client that has nothing yet takes it that nobody types.
        let typing = typing.filter(|users| !place.is_new || place.returns || !users.is_empty());
        if let Some(mut user_ids) = typing.filter(|_| type_wanted(filter, "m.typing")) {
            user_ids.retain(|user| !scene.person.ignored.contains(user));
            events.events.push(value_event("m.typing", &json!({ "user_ids": user_ids }))?);
        }
        if type_wanted(filter, "m.receipt") {
            for content in receipts.0 {
                events.events.push(value_event("m.receipt", &json!(content))?);
            }
        }
        Ok(events)
    }

    /// For rooms that are new to a client that is not: the user's private receipts from before.
    async fn older_private_receipts(
        &self,
        scene: &Scene<'_>,
        places: &[Place<'_>],
    ) -> Result<BTreeMap<OwnedRoomId, Vec<Fact>>, SyncError> {
        let new: Vec<&Place<'_>> =
            places.iter().filter(|place| place.is_new && !scene.cut.is_initial()).collect();
        if new.is_empty() {
            return Ok(BTreeMap::new());
        }
        let lane = Lane::Account(scene.caller.user_id.clone());
        // The keys of all receipts of the room begin like this; see `Fact::retention`.
        let key = |place: &&Place<'_>| RegisterKey(format!("r\u{0}{}\u{0}", place.room).into_bytes());
        let wanted: Vec<_> = new.iter().map(|place| (lane.clone(), key(place))).collect();
        let found = self.log.registers_with(&wanted).await?;
        let facts = found.into_iter().map(|facts| facts.into_iter().map(|(_, fact)| fact).collect());
        Ok(new.into_iter().map(|place| place.room.clone()).zip(facts).collect())
    }

    /// The user's account data of each room, tags among it.
    pub(super) async fn room_account_data(
        &self,
        scene: &Scene<'_>,
        places: &[Place<'_>],
    ) -> Result<Vec<Events>, SyncError> {
        let user = &scene.caller.user_id;
        let mut found: BTreeMap<OwnedRoomId, Vec<(String, Json)>> = BTreeMap::new();
        if scene.cut.is_initial() {
            let all = places.iter().filter_map(|place| scene.data.get_key_value(&place.room));
            found.extend(all.map(|(room, data)| (room.clone(), data.clone())));
        } else {
            for place in places.iter().filter(|place| place.is_whole(scene.request)) {
                found.insert(place.room.clone(), self.accounts.all_data(user, Some(&place.room)).await?);
            }
            let changed = scene.cut.room_data.iter().filter(|(room, _)| !found.contains_key(*room));
            let wanted: Vec<_> = changed
                .flat_map(|(room, kinds)| kinds.iter().map(|kind| (Some(room.clone()), kind.clone())))
                .collect();
            let contents = self.accounts.data_of(user, &wanted).await?;
            for ((room, kind), content) in wanted.into_iter().zip(contents) {
                if let Some(room) = room {
                    found.entry(room).or_default().push((kind, content.unwrap_or_else(removed)));
                }
            }
        }
        let filter = &scene.request.filter.room.account_data;
        let mut all = Vec::with_capacity(places.len());
        for place in places {
            let mut events = Events::default();
            for (kind, content) in found.remove(&place.room).unwrap_or_default() {
                if kind_wanted(filter, &place.room) && type_wanted(filter, &kind) {
                    events.events.push(plain(&kind, &content, None)?);
                }
            }
            all.push(events);
        }
        Ok(all)
    }
}

impl Sync {
    /// The account data of `user` of all rooms, by type.
    pub(super) async fn data_of_rooms(
        &self,
        user: &UserId,
    ) -> Result<BTreeMap<OwnedRoomId, Vec<(String, Json)>>, SyncError> {
        let mut found: BTreeMap<OwnedRoomId, Vec<(String, Json)>> = BTreeMap::new();
        for (room, kind, content) in self.accounts.data_of_all_rooms(user).await? {
            if let Some(room) = room {
                found.entry(room).or_default().push((kind, content));
            }
        }
        Ok(found)
    }
}

pub(super) fn value_event(event_type: &str, content: &Value) -> Result<Json, SyncError> {
    let content = to_raw_value(content).map_err(StoreError::engine)?;
    plain(event_type, &content, None)
}

/// Receipts by event, kind and user. A user who has read up to an event twice, say in a thread and in
/// all of the room, does not fit into one content; then there are several.
#[derive(Default)]
pub(super) struct Receipts(pub(super) Vec<ReceiptContent>);

/// By event and kind; then by user.
pub(super) type ReceiptContent = BTreeMap<String, BTreeMap<&'static str, Map<String, Value>>>;

impl Receipts {
    pub(super) fn add(&mut self, fact: &Fact) {
        let Fact::Receipt { kind, user_id, thread_id, event_id, ts, .. } = fact else { return };
        let kind = match kind {
            ReceiptKind::Read => "m.read",
            ReceiptKind::ReadPrivate => "m.read.private",
        };
        let receipt = match thread_id {
            Some(thread_id) => json!({ "ts": ts, "thread_id": thread_id }),
            None => json!({ "ts": ts }),
        };
        let taken = self.0.iter().position(|content| {
            let users = content.get(event_id.as_str()).and_then(|kinds| kinds.get(kind));
            users.is_none_or(|users| !users.contains_key(user_id.as_str()))
        });
        let place = taken.unwrap_or_else(|| {
            self.0.push(BTreeMap::new());
            self.0.len() - 1
        });
        let users = self.0[place].entry(event_id.to_string()).or_default().entry(kind).or_default();
        users.insert(user_id.to_string(), receipt);
    }
}
