//! What of a room lists are filtered by: its type, its name, whether it is encrypted.

use std::sync::Arc;

use ruma::{UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::Value;

use super::roster::{Entry, Roster, Standing};
use crate::{
    dag::{StateId, StateKey},
    store::StoreError,
    sync::Sync,
};

/// What of a room lists are filtered by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) room_type: Option<String>,
    pub(super) is_encrypted: bool,
    pub(super) name: Option<String>,
    /// The state that says so.
    state: Option<StateId>,
}

/// The contents that matter, of any of the three events.
#[derive(Default, Deserialize)]
struct Content {
    #[serde(rename = "type")]
    room_type: Option<Value>,
    name: Option<Value>,
    algorithm: Option<Value>,
}

/// A stripped state event.
#[derive(Deserialize)]
struct Stripped {
    #[serde(rename = "type")]
    event_type: String,
    content: Content,
}

impl Traits {
    fn take(&mut self, event_type: &str, content: Content) {
        let text = |value: Option<Value>| value.as_ref().and_then(Value::as_str).map(String::from);
        match event_type {
            "m.room.create" => self.room_type = text(content.room_type),
            "m.room.name" => self.name = text(content.name).filter(|name| !name.is_empty()),
            "m.room.encryption" => self.is_encrypted = content.algorithm.is_some(),
            _ => {}
        }
    }
}

impl Sync {
    /// The roster with the traits of every room; kept for the next time.
    pub(super) async fn with_traits(
        &self,
        user: &UserId,
        roster: Arc<Roster>,
    ) -> Result<Arc<Roster>, StoreError> {
        let lacks = |entry: &&Arc<Entry>| entry.traits.as_ref().is_none_or(|(_, stale)| *stale);
        let lacking: Vec<Arc<Entry>> = roster.order.iter().filter(lacks).cloned().collect();
        if lacking.is_empty() {
            return Ok(roster);
        }
        let mut changed = Vec::with_capacity(lacking.len());
        for entry in lacking {
            let known = entry.traits.as_ref().map(|(traits, _)| traits);
            let traits = match entry.standing {
                Standing::Outside => Arc::new(self.stripped_traits(user, &entry).await?),
                _ => self.room_traits(&entry, known).await?,
            };
            changed.push(Entry { traits: Some((traits, false)), ..Entry::clone(&entry) });
        }
        let roster = Arc::new(roster.with(changed, &Default::default(), roster.at));
        self.sliding.rosters.keep(user, &roster);
        Ok(roster)
    }

    async fn room_traits(
        &self,
        entry: &Entry,
        known: Option<&Arc<Traits>>,
    ) -> Result<Arc<Traits>, StoreError> {
        let state = match entry.standing {
            Standing::Left { closed, .. } => Some(self.history.state_at_position(&entry.room, closed).await?),
            _ => self.history.current_state(&entry.room).await?,
        };
        if let Some(known) = known.filter(|known| known.state == state && state.is_some()) {
            return Ok(known.clone());
        }
        let mut traits = Traits { state, ..Traits::default() };
        let Some(state) = state else { return Ok(Arc::new(traits)) };
        let keys = [StateEventType::RoomCreate, StateEventType::RoomName, StateEventType::RoomEncryption]
            .map(|event_type| StateKey::new(event_type, ""));
        let found = self.history.state_entries(state, &keys).await?;
        let ids: Vec<_> = found.into_iter().flatten().map(|value| value.event_id).collect();
        for event in self.history.events(&ids).await?.into_iter().flatten() {
            let content = event.pdu.content_as().unwrap_or_default();
            traits.take(&event.pdu.event_type().to_string(), content);
        }
        Ok(Arc::new(traits))
    }

    async fn stripped_traits(&self, user: &UserId, entry: &Entry) -> Result<Traits, StoreError> {
        let mut traits = Traits::default();
        for event in self.history.stripped(user, &entry.room).await? {
            if let Ok(event) = serde_json::from_str::<Stripped>(event.get()) {
                traits.take(&event.event_type, event.content);
            }
        }
        Ok(traits)
    }
}
