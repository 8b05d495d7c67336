//! The handle on the history of all rooms.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{
    RoomRow, StoredEvent,
    cache::Caches,
    chains,
    damage::{Damaged, Reading},
    erasure::Erased,
    event,
    tables::{
        ALIASES, AliasRow, FORGOTTEN, GROWN, PUBLISHED, PUBLISHED_IN, PublishedRow, ROOM_ALIASES, ROOMS,
        STRIPPED,
    },
};
use crate::{
    limits::{ALIASES_PER_ROOM_MAX, EVENTS_LOOKED_THROUGH_AT_ONCE, SCAN_ROWS_MAX},
    log::{Commit, CommitError, Log},
    store::{Expect, Key, Scan, StoreError, table::TableId},
    types::{Ports, Position},
};

/// The history of all rooms. Cheap to clone.
#[derive(Clone)]
pub struct History(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) log: Log,
    pub(super) ports: Ports,
    pub(super) server: ruma::OwnedServerName,
    pub(super) caches: Caches,
    /// All rows of [`super::tables::ERASED`].
    pub(super) erased: Erased,
    /// Whether this process alone writes, so that events and rooms may be kept in memory.
    pub(super) exclusive: bool,
    /// See [`crate::dag::NodeSource::salt`].
    pub(super) salt: [u8; 16],
    /// Events of which it was said in the log that they are damaged.
    pub(super) damaged: Damaged,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

impl History {
    /// Opens the history; on the first start it settles how state trees of this store are shaped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(log: Log, ports: Ports, server: ruma::OwnedServerName) -> Result<Self, StoreError> {
        let key = Key::new(TableId::Meta, &(String::from("state salt"),));
        let salt = match log.db().raw(&key).await? {
            Some(salt) => salt,
            None => {
                let mut salt = vec![0; 16];
                ports.rng.fill(&mut salt);
                let mut commit = Commit::new();
                commit.expect_raw(Expect::Absent(key.clone()));
                commit.put_raw(key.clone(), salt.clone());
                match log.commit(commit).await {
                    Ok(_) => salt,
                    Err(CommitError::Conflict(_)) => log.db().raw(&key).await?.unwrap_or(salt),
                    Err(CommitError::Store(error)) => return Err(error),
                    Err(_) => return Err(StoreError::Closed),
                }
            }
        };
        let salt = salt.try_into().map_err(|_| StoreError::Corrupt(String::from("the state salt")))?;
        chains::complete(&log).await?;
        let exclusive = log.db().is_exclusive();
        let erased = Erased::load(log.db()).await?;
        let (caches, damaged) = (Caches::new(), Damaged::default());
        Ok(Self(Arc::new(Inner { log, ports, server, caches, erased, exclusive, salt, damaged })))
    }

    /// The log below.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The name of this server.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.0.server
    }

    /// Whether `user` belongs to this server.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.0.server
    }

    /// One event, if it is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        let id = event_id.to_owned();
        if let Some(event) = self.0.caches.event(&id) {
            return Ok(Some(event));
        }
        Ok(self.events(&[id]).await?.pop().flatten())
    }

    /// Events in the order of `ids`, `None` for those that are not stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events(&self, ids: &[OwnedEventId]) -> Result<Vec<Option<Arc<StoredEvent>>>, StoreError> {
        self.read_events(ids, Reading::KEPT).await
    }

    /// As [`Self::events`], when many are looked through of which few will be wanted again soon.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events_once(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Option<Arc<StoredEvent>>>, StoreError> {
        self.read_events(ids, Reading { keeps: false, ..Reading::KEPT }).await
    }

    pub(super) async fn read_events(
        &self,
        ids: &[OwnedEventId],
        reading: Reading,
    ) -> Result<Vec<Option<Arc<StoredEvent>>>, StoreError> {
        let mut found: Vec<_> = ids.iter().map(|id| self.0.caches.event(id)).collect();
        let absent: Vec<usize> = (0..ids.len()).filter(|index| found[*index].is_none()).collect();
        if absent.is_empty() {
            return Ok(found);
        }
        let rewrites = self.0.caches.rewrites();
        let keys: Vec<Key> = absent.iter().map(|index| event::key(&ids[*index])).collect();
        let rows = self.0.log.db().get_many(&keys).await?;
        let mut read = Vec::new();
        for (index, row) in absent.into_iter().zip(rows) {
            let Some(row) = row else { continue };
            let event = match StoredEvent::decode(&ids[index], &row) {
                Err(error) if reading.spares => {
                    self.note_damaged(&ids[index], &error);
                    continue;
                }
                event => event?,
            };
            // A row above what the log has published is not there yet.
            if event.position <= self.0.log.head() {
                read.push(event.clone());
                found[index] = Some(event);
            }
        }
        if self.0.exclusive && reading.keeps {
            self.0.caches.add_events(&read, rewrites);
        }
        Ok(found)
    }

    /// Those of `ids` that are not stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn not_stored(&self, ids: Vec<OwnedEventId>) -> Result<Vec<OwnedEventId>, StoreError> {
        let mut absent = Vec::new();
        for part in ids.chunks(EVENTS_LOOKED_THROUGH_AT_ONCE) {
            let stored = self.events_once(part).await?;
            absent.extend(
                part.iter().zip(stored).filter(|(_, event)| event.is_none()).map(|(id, _)| id.clone()),
            );
        }
        Ok(absent)
    }

    /// The events of `ids` that are stored, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event_map(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let found = self.events(ids).await?;
        Ok(found.into_iter().flatten().map(|event| (event.pdu.event_id().to_owned(), event)).collect())
    }

    /// The room as it is now, if this server knows it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn room(&self, room: &RoomId) -> Result<Option<Arc<RoomRow>>, StoreError> {
        match self.0.caches.room(room) {
            Some(row) if self.0.exclusive => Ok(Some(row)),
            _ => self.reload_room(room).await,
        }
    }

    /// Whether most members of a room are not known yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_partial(&self, room: &RoomId) -> Result<bool, StoreError> {
        let row = self.room(room).await?;
        match row.is_some_and(|row| row.partial) {
            // It may have been written meanwhile that it is whole.
            true => Ok(self.reload_room(room).await?.is_some_and(|row| row.partial)),
            false => Ok(false),
        }
    }

    /// Where after `from` a room became whole for the first time, if it did.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn grown_after(&self, room: &RoomId, from: Position) -> Result<Option<Position>, StoreError> {
        if !self.room(room).await?.is_some_and(|row| row.grown) {
            return Ok(None);
        }
        let to = GROWN.prefix(&(room.to_owned(),)).after_prefix();
        let from = GROWN.key(&(room.to_owned(), from.next()));
        let scan = Scan { from, to, reverse: false, limit: 1 };
        Ok(self.log().db().scan(&GROWN, scan).await?.pop().map(|((_, at), ())| at))
    }

    /// As [`Self::room`], from the store itself.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reload_room(&self, room: &RoomId) -> Result<Option<Arc<RoomRow>>, StoreError> {
        let row = self.0.log.db().row(&ROOMS, &(room.to_owned(),)).await?.map(Arc::new);
        if let Some(row) = row.as_ref().filter(|_| self.0.exclusive) {
            self.0.caches.note_room(room, row);
        }
        Ok(row)
    }

    /// To be called by whoever wrote to a room, once the commit is done: what the room is now, the
    /// events that were `written` with their positions, and whether some were there before in another
    /// form. Never forgotten by a caller that goes away: it runs on a task of its own.
    pub fn note(&self, room: &RoomId, row: &Arc<RoomRow>, written: &[Arc<StoredEvent>], rewritten: bool) {
        if self.0.exclusive {
            self.0.caches.note_events(written, rewritten);
            self.0.caches.note_room(room, row);
        }
    }

    /// Where an alias of this server points.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<AliasRow>, StoreError> {
        self.0.log.db().row(&ALIASES, &(alias.to_owned(),)).await
    }

    /// The aliases that this server has for a room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn aliases(&self, room: &RoomId) -> Result<Vec<ruma::OwnedRoomAliasId>, StoreError> {
        let rows = self.0.log.db().range(&ROOM_ALIASES, &(room.to_owned(),), ALIASES_PER_ROOM_MAX).await?;
        Ok(rows.into_iter().map(|((_, alias), ())| alias).collect())
    }

    /// Who published a room in the public directory, if it is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published(&self, room: &RoomId) -> Result<Option<PublishedRow>, StoreError> {
        self.0.log.db().row(&PUBLISHED, &(room.to_owned(),)).await
    }

    /// The rooms of the public directory, at most [`SCAN_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published_rooms(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rows = self.0.log.db().range(&PUBLISHED, &(), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((room,), _)| room).collect())
    }

    /// The rooms in the directory of a network beyond Matrix, at most [`SCAN_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published_in(&self, network: &str) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rows = self.0.log.db().range(&PUBLISHED_IN, &(network.to_owned(),), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((_, room), ())| room).collect())
    }

    /// The rooms in the directories of all networks beyond Matrix, at most [`SCAN_ROWS_MAX`] entries.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published_anywhere(&self) -> Result<BTreeSet<OwnedRoomId>, StoreError> {
        let rows = self.0.log.db().range(&PUBLISHED_IN, &(), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((_, room), ())| room).collect())
    }

    /// All rooms that this server knows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rooms(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let all = ROOMS.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut rooms: Vec<OwnedRoomId> = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.0.log.db().scan(&ROOMS, scan).await?;
            let is_full = rows.len() == SCAN_ROWS_MAX;
            rooms.extend(rows.into_iter().map(|((room,), _)| room));
            match rooms.last() {
                Some(last) if is_full => from = ROOMS.key(&(last.clone(),)).successor(),
                _ => return Ok(rooms),
            }
        }
    }

    /// The stripped state of a room to which `user` is invited or where they knock, without the names, pictures and
    /// words of users who have been erased.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stripped(&self, user: &UserId, room: &RoomId) -> Result<Vec<Box<RawValue>>, StoreError> {
        let row = self.0.log.db().row(&STRIPPED, &(user.to_owned(), room.to_owned())).await?;
        self.told_without_erased(user, room, row.map(|row| row.state).unwrap_or_default()).await
    }

    /// An event of the state of a room, as it is told to `user`, who is not in it; nothing if there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stripped_event(
        &self,
        user: &UserId,
        event: Option<&StoredEvent>,
    ) -> Result<Vec<Box<RawValue>>, StoreError> {
        let Some(event) = event else { return Ok(Vec::new()) };
        let told = vec![super::stripped(&event.pdu)?];
        self.told_without_erased(user, event.pdu.room_id(), told).await
    }

    /// Servers that are in a room where `user` is invited or knocks and which this server is not in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stripped_via(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Vec<ruma::OwnedServerName>, StoreError> {
        let row = self.0.log.db().row(&STRIPPED, &(user.to_owned(), room.to_owned())).await?;
        Ok(row.map(|row| row.via).unwrap_or_default())
    }

    /// Whether `user` has forgotten `room`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_forgotten(&self, user: &UserId, room: &RoomId) -> Result<bool, StoreError> {
        let row = self.0.log.db().row(&FORGOTTEN, &(user.to_owned(), room.to_owned())).await?;
        Ok(row.is_some())
    }
}
