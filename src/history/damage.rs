//! Events whose rows are damaged: they are left out and said in the log, so that one of them holds up nothing else.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId};

use super::{History, StoredEvent};
use crate::{limits::DAMAGED_EVENTS_TOLD_MAX, store::StoreError};

/// What was said to be damaged; each is said once, however often it is read.
#[derive(Default)]
pub(super) struct Damaged(Mutex<HashSet<OwnedEventId>>);

/// How events are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// They are kept in memory, since they may be wanted again soon.
    pub(super) keeps: bool,
    /// What is damaged is left out; or else nothing is answered.
    pub(super) spares: bool,
}

impl Reading {
    pub(super) const KEPT: Self = Self { keeps: true, spares: false };
    pub(super) const SOUND: Self = Self { keeps: true, spares: true };
}

impl History {
    /// As [`Self::event`]; nothing if it is damaged.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sound_event(&self, id: &EventId) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        Ok(self.sound_events(&[id.to_owned()]).await?.pop().flatten())
    }

    /// As [`Self::events`], without what is damaged: for whoever follows everything, and would get no further.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sound_events(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Option<Arc<StoredEvent>>>, StoreError> {
        self.read_events(ids, Reading::SOUND).await
    }

    /// As [`Self::sound_events`], when many are looked through of which few will be wanted again soon.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sound_events_once(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Option<Arc<StoredEvent>>>, StoreError> {
        self.read_events(ids, Reading { keeps: false, ..Reading::SOUND }).await
    }

    /// As [`Self::event_map`], without what is damaged.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sound_event_map(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let found = self.sound_events(ids).await?.into_iter().flatten();
        Ok(found.map(|event| (event.pdu.event_id().to_owned(), event)).collect())
    }

    /// Says that something of an event is damaged and that it is left out, unless that was said.
    pub fn note_damaged(&self, id: &EventId, error: &StoreError) {
        let mut told = self.0.damaged.0.lock();
        if told.len() < DAMAGED_EVENTS_TOLD_MAX && told.insert(id.to_owned()) {
            tracing::error!(event.id = %id, %error, "{id} is damaged, and left out");
        }
    }
}
