//! What belongs to a room beside its events: typing, receipts, and the user's own data.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    Sync, SyncError,
    filter::{kind_wanted, type_wanted},
    person::plain,
    response::{Events, Json},
    room::{Place, Scene},
};
use crate::{
    store::StoreError,
    types::{Fact, Lane, Position, ReceiptKind},
};

impl Sync {
    /// Typing and receipts.
    pub(super) async fn ephemeral(&self, scene: &Scene<'_>, place: &Place<'_>) -> Result<Events, SyncError> {
        let filter = &scene.request.filter.room.ephemeral;
        let mut events = Events::default();
        if !kind_wanted(filter, place.room) {
            return Ok(events);
        }
        let facts: Vec<Fact> = match place.is_new {
            true => {
                let to = scene.cut.to.log;
                let account = Lane::Account(scene.caller.user_id.clone());
                let room = Lane::Room(place.room.to_owned());
                let mut facts = self.log.registers(&room, Position::ZERO, to).await?;
                facts.extend(self.log.registers(&account, Position::ZERO, to).await?);
                facts.into_iter().map(|(_, fact)| fact).collect()
            }
            false => {
                let private = scene.cut.private_receipts.get(place.room).into_iter().flatten();
                place.slice.facts.iter().map(|(_, fact)| fact).chain(private).cloned().collect()
            }
        };
        let mut receipts = Receipts::default();
        let mut typing = None;
        for fact in facts {
            match fact {
                Fact::Typing { user_ids } => typing = Some(user_ids),
                Fact::Receipt { ref room_id, .. } if room_id == place.room => receipts.add(fact),
                _ => {}
            }
        }
        if let Some(user_ids) = typing.filter(|_| type_wanted(filter, "m.typing")) {
            events.events.push(value_event("m.typing", &json!({ "user_ids": user_ids }))?);
        }
        if !receipts.0.is_empty() && type_wanted(filter, "m.receipt") {
            events.events.push(value_event("m.receipt", &receipts.content())?);
        }
        Ok(events)
    }

    /// The user's account data of the room, tags among it.
    pub(super) async fn room_account_data(
        &self,
        scene: &Scene<'_>,
        place: &Place<'_>,
    ) -> Result<Events, SyncError> {
        let filter = &scene.request.filter.room.account_data;
        let user = &scene.caller.user_id;
        let mut events = Events::default();
        if !kind_wanted(filter, place.room) {
            return Ok(events);
        }
        let found: Vec<(String, Json)> = match (place.is_new, scene.cut.room_data.get(place.room)) {
            (true, _) => self.accounts.all_data(user, Some(place.room)).await?,
            (false, None) => Vec::new(),
            (false, Some(changed)) => {
                let wanted: Vec<_> =
                    changed.iter().map(|kind| (Some(place.room.to_owned()), kind.clone())).collect();
                let contents = self.accounts.data_of(user, &wanted).await?;
                changed
                    .iter()
                    .cloned()
                    .zip(contents)
                    .filter_map(|(kind, content)| Some((kind, content?)))
                    .collect()
            }
        };
        for (event_type, content) in found {
            if type_wanted(filter, &event_type) {
                events.events.push(plain(&event_type, &content, None)?);
            }
        }
        Ok(events)
    }
}

fn value_event(event_type: &str, content: &Value) -> Result<Json, SyncError> {
    let content = to_raw_value(content).map_err(StoreError::engine)?;
    plain(event_type, &content, None)
}

/// Receipts by event and kind.
#[derive(Default)]
struct Receipts(BTreeMap<String, BTreeMap<&'static str, Map<String, Value>>>);

impl Receipts {
    fn add(&mut self, fact: Fact) {
        let Fact::Receipt { kind, user_id, thread_id, event_id, ts, .. } = fact else { return };
        let kind = match kind {
            ReceiptKind::Read => "m.read",
            ReceiptKind::ReadPrivate => "m.read.private",
        };
        let receipt = match thread_id {
            Some(thread_id) => json!({ "ts": ts, "thread_id": thread_id }),
            None => json!({ "ts": ts }),
        };
        let users = self.0.entry(event_id.to_string()).or_default().entry(kind).or_default();
        users.insert(user_id.to_string(), receipt);
    }

    fn content(&self) -> Value {
        json!(self.0)
    }
}
