//! What the client of a connection has been sent: kept so that the next answer can build on it.
//!
//! Most answers change nothing of this: a room that the client has, and has up to the position, is just
//! that, however far the position moves. So rows are written only when something else changes: a room
//! comes in, falls behind because it is outside the window, or is wanted differently. Each such state has
//! a name, which is made of its content and is part of the token. A state is kept until a token of a later
//! one comes back.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::wanted::RoomConfig;
use crate::{
    limits::{SCAN_ROWS_MAX, SLIDING_CACHED_ROOMS_MAX, SLIDING_CONNECTIONS_MAX, SLIDING_STATES_MAX},
    log::{Commit, Log},
    store::{
        KeyFields, Scan, StoreError,
        table::{Rows, TableId},
    },
    sync::{ProfileFields, SyncError},
    types::Position,
};

/// The states of connections, by user, device, connection and name. The values are postcard, not JSON.
const CONNECTIONS: Rows<(OwnedUserId, OwnedDeviceId, String, u64), ()> = Rows::new(TableId::Connection);

/// Names a connection.
pub(super) type ConnectionKey = (OwnedUserId, OwnedDeviceId, String);

/// How much of something the client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mark {
    /// Nothing.
    #[default]
    Never,
    /// All up to the position of the token.
    Live,
    /// All up to a position before that.
    Behind(Position),
}

impl Mark {
    /// Up to where the client has it, when its token is at `at`.
    pub(super) fn upto(self, at: Position) -> Option<Position> {
        match self {
            Self::Never => None,
            Self::Live => Some(at),
            Self::Behind(position) => Some(position),
        }
    }

    /// There was news after `at` that the client is not given.
    pub(super) fn leave_behind(&mut self, at: Position) {
        if *self == Self::Live {
            *self = Self::Behind(at);
        }
    }
}

/// How much the client has of the profiles of a room's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Faces {
    /// Nothing for certain.
    #[default]
    None,
    /// Those of the members whom it has been sent.
    Shown,
    /// All.
    All,
}

/// What the client has of the profiles of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProfilesSent {
    /// Up to where it has been told of changes.
    pub(super) mark: Mark,
    /// What it wanted last.
    pub(super) fields: ProfileFields,
}

/// What the client has of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its events, state, counts.
    pub(super) room: Mark,
    /// The user's account data of it.
    pub(super) data: Mark,
    pub(super) receipts: Mark,
    pub(super) typing: Mark,
    /// What the client wanted of it last.
    pub(super) config: Arc<RoomConfig>,
    /// At least so many of the newest events.
    pub(super) have: usize,
    /// What it was told of whether this is a direct chat.
    pub(super) is_dm: bool,
    pub(super) faces: Faces,
}

/// What the client of a connection has been sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Counts the states of a connection.
    pub(super) serial: u64,
    pub(super) rooms: BTreeMap<OwnedRoomId, Sent>,
    pub(super) global_data: Mark,
    pub(super) threads: Mark,
    pub(super) device_lists: Mark,
    pub(super) profiles: ProfilesSent,
}

/// A state as it is stored: configurations once each.
#[derive(Serialize, Deserialize)]
struct Stored {
    serial: u64,
    configs: Vec<RoomConfig>,
    rooms: Vec<StoredRoom>,
    globals: [Mark; 3],
}

/// What follows a state if the client has ever wanted profiles.
#[derive(Serialize, Deserialize)]
struct StoredProfiles {
    mark: Mark,
    fields: ProfileFields,
    /// Of each room, in order.
    faces: Vec<Faces>,
}

#[derive(Serialize, Deserialize)]
struct StoredRoom {
    room: OwnedRoomId,
    marks: [Mark; 4],
    config: usize,
    have: usize,
    is_dm: bool,
}

impl State {
    /// The configurations that the client has had last, each once.
    pub(super) fn configs(&self) -> Vec<Arc<RoomConfig>> {
        let mut known: Vec<Arc<RoomConfig>> = Vec::new();
        for sent in self.rooms.values() {
            if !known.iter().any(|other| Arc::ptr_eq(other, &sent.config)) {
                known.push(sent.config.clone());
            }
        }
        known
    }

    fn encode(&self) -> Vec<u8> {
        let mut configs: Vec<RoomConfig> = Vec::new();
        let rooms = self.rooms.iter().map(|(room, sent)| {
            let known = configs.iter().position(|config| *config == *sent.config);
            let config = known.unwrap_or_else(|| {
                configs.push(RoomConfig::clone(&sent.config));
                configs.len() - 1
            });
            let marks = [sent.room, sent.data, sent.receipts, sent.typing];
            StoredRoom { room: room.clone(), marks, config, have: sent.have, is_dm: sent.is_dm }
        });
        let rooms = rooms.collect();
        let globals = [self.global_data, self.threads, self.device_lists];
        let stored = Stored { serial: self.serial, configs, rooms, globals };
        // Plain data; postcard fails only on types that it cannot represent.
        let mut bytes = postcard::to_stdvec(&stored).expect("a state serializes");
        if self.profiles.mark != Mark::Never {
            let ProfilesSent { mark, fields } = self.profiles.clone();
            let faces = self.rooms.values().map(|sent| sent.faces).collect();
            let profiles = StoredProfiles { mark, fields, faces };
            bytes.extend(postcard::to_stdvec(&profiles).expect("a state serializes"));
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Corrupt(format!("a connection: {what}"));
        let wrong_bytes = |error: postcard::Error| wrong(&error.to_string());
        let (stored, rest): (Stored, &[u8]) = postcard::take_from_bytes(bytes).map_err(wrong_bytes)?;
        let configs: Vec<Arc<RoomConfig>> = stored.configs.into_iter().map(Arc::new).collect();
        let room = |row: StoredRoom| -> Result<(OwnedRoomId, Sent), StoreError> {
            let config = configs.get(row.config).cloned().ok_or_else(|| wrong("no such configuration"))?;
            let [room, data, receipts, typing] = row.marks;
            let (have, is_dm, faces) = (row.have, row.is_dm, Faces::None);
            Ok((row.room, Sent { room, data, receipts, typing, config, have, is_dm, faces }))
        };
        let mut rooms = stored.rooms.into_iter().map(room).collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        let mut profiles = ProfilesSent::default();
        if !rest.is_empty() {
            let stored: StoredProfiles = postcard::from_bytes(rest).map_err(wrong_bytes)?;
            rooms.values_mut().zip(stored.faces).for_each(|(sent, faces)| sent.faces = faces);
            profiles = ProfilesSent { mark: stored.mark, fields: stored.fields };
        }
        let [global_data, threads, device_lists] = stored.globals;
        Ok(Self { serial: stored.serial, rooms, global_data, threads, device_lists, profiles })
    }
}

/// The states of one connection, oldest first, each under its name.
type Known = Vec<(u64, Arc<State>)>;

#[derive(Clone)]
struct ByRooms;

impl Weighter<ConnectionKey, Arc<Known>> for ByRooms {
    fn weight(&self, _: &ConnectionKey, known: &Arc<Known>) -> u64 {
        known.iter().map(|(_, state)| state.rooms.len() as u64 + 1).sum::<u64>().max(1)
    }
}

/// The states of connections in memory; all of them are stored as well.
pub(super) struct Connections {
    known: Cache<ConnectionKey, Arc<Known>, ByRooms>,
    /// Held while what is known of a connection is read and replaced.
    changing: Mutex<()>,
}

impl Default for Connections {
    fn default() -> Self {
        let estimated = usize::try_from(SLIDING_CACHED_ROOMS_MAX / 100).unwrap_or(usize::MAX);
        let known = Cache::with_weighter(estimated, SLIDING_CACHED_ROOMS_MAX, ByRooms);
        Self { known, changing: Mutex::new(()) }
    }
}

impl Connections {
    /// The state that a token names, if the connection has it. What was before it goes.
    pub(super) async fn open(
        &self,
        log: &Log,
        key: &ConnectionKey,
        name: u64,
    ) -> Result<Option<Arc<State>>, StoreError> {
        let known = self.known(log, key).await?;
        let Some((_, state)) = known.iter().find(|(other, _)| *other == name) else { return Ok(None) };
        let dropped = self.change(key, &known, |known| {
            let index = known.iter().position(|(other, _)| *other == name).unwrap_or_default();
            known.drain(..index).map(|(name, _)| name).collect::<Vec<u64>>()
        });
        if !dropped.is_empty() {
            let mut commit = Commit::new();
            for old in dropped {
                commit.delete_key(row(key, old));
            }
            // What stays by accident is found again when the connection is next read from the store.
            log.commit_later(commit);
        }
        Ok(Some(state.clone()))
    }

    /// Replaces what is known of a connection; `fallback` stands if memory has lost it since.
    fn change<T>(
        &self,
        key: &ConnectionKey,
        fallback: &Arc<Known>,
        change: impl FnOnce(&mut Known) -> T,
    ) -> T {
        let _changing = self.changing.lock();
        let mut known = Known::clone(&self.known.get(key).unwrap_or_else(|| fallback.clone()));
        let result = change(&mut known);
        self.known.insert(key.clone(), Arc::new(known));
        result
    }

    /// Forgets all that a client has been sent on a connection that it begins anew, and connections that
    /// were changed longest ago if the device has too many.
    pub(super) async fn begin(&self, log: &Log, key: &ConnectionKey) -> Result<(), SyncError> {
        let (user, device, conn_id) = key;
        let all = scan(log, &(user.clone(), device.clone())).await?;
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut commit = Commit::new();
        for (name, bytes) in &all {
            let (_, _, other, _) = name;
            let (changed, _): (u64, &[u8]) = split(bytes)?;
            let last = newest.entry(other.clone()).or_default();
            *last = changed.max(*last);
        }
        newest.remove(conn_id);
        let mut by_age: Vec<(u64, String)> =
            newest.into_iter().map(|(conn, changed)| (changed, conn)).collect();
        by_age.sort();
        let too_many = (by_age.len() + 1).saturating_sub(SLIDING_CONNECTIONS_MAX);
        let gone = by_age.into_iter().take(too_many).map(|(_, conn)| conn).chain([conn_id.clone()]);
        for conn in gone {
            let key = (user.clone(), device.clone(), conn);
            commit.delete_prefix(&CONNECTIONS, &key);
            self.known.remove(&key);
        }
        match all.is_empty() {
            true => Ok(()),
            false => Ok(log.commit(commit).await.map(drop)?),
        }
    }

    /// Whether a state is the one of the given name.
    pub(super) async fn is_same(
        &self,
        log: &Log,
        key: &ConnectionKey,
        (name, state): (u64, &State),
    ) -> Result<bool, StoreError> {
        let known = self.known(log, key).await?;
        Ok(known.iter().any(|(other, known)| *other == name && **known == *state))
    }

    /// Keeps a state and gives its name. When this returns, a token with the name can be given out.
    pub(super) async fn keep(
        &self,
        log: &Log,
        key: &ConnectionKey,
        mut state: State,
    ) -> Result<u64, SyncError> {
        let known = self.known(log, key).await?;
        state.serial += 1;
        let bytes = state.encode();
        let name = name_of(key, &bytes);
        if known.iter().any(|(other, _)| *other == name) {
            return Ok(name);
        }
        // The first is what the client has; of what it may have, the oldest goes.
        let too_many = (known.len() + 1).saturating_sub(SLIDING_STATES_MAX);
        let gone: Vec<u64> = known.iter().skip(1).take(too_many).map(|(name, _)| *name).collect();
        let mut commit = Commit::new();
        gone.iter().for_each(|old| commit.delete_key(row(key, *old)));
        commit.put_raw(row(key, name), [log.head().to_bytes().as_slice(), &bytes].concat());
        log.commit(commit).await?;
        self.change(key, &known, |known| {
            known.retain(|(other, _)| !gone.contains(other));
            known.push((name, Arc::new(state)));
        });
        Ok(name)
    }

    async fn known(&self, log: &Log, key: &ConnectionKey) -> Result<Arc<Known>, StoreError> {
        if let Some(known) = self.known.get(key) {
            return Ok(known);
        }
        let mut states = Known::new();
        for ((_, _, _, name), bytes) in scan(log, key).await? {
            let (_, bytes) = split(&bytes)?;
            states.push((name, Arc::new(State::decode(bytes)?)));
        }
        states.sort_by_key(|(_, state)| state.serial);
        let known = Arc::new(states);
        let _changing = self.changing.lock();
        self.known.insert(key.clone(), known.clone());
        Ok(known)
    }
}

type StateRow = ((OwnedUserId, OwnedDeviceId, String, u64), Vec<u8>);

async fn scan<P: KeyFields>(log: &Log, prefix: &P) -> Result<Vec<StateRow>, StoreError> {
    let from = CONNECTIONS.prefix(prefix);
    let scan = Scan { to: from.after_prefix(), from, reverse: false, limit: SCAN_ROWS_MAX };
    let rows = log.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
    rows.into_iter().map(|(key, value)| Ok((CONNECTIONS.decode_key(&key)?, value))).collect()
}

fn row((user, device, conn): &ConnectionKey, name: u64) -> crate::store::Key {
    CONNECTIONS.key(&(user.clone(), device.clone(), conn.clone(), name))
}

/// When a row was written, by the head of the log, and the state in it.
fn split(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    match bytes.split_first_chunk() {
        Some((at, rest)) => Ok((u64::from_be_bytes(*at), rest)),
        None => Err(StoreError::Corrupt(String::from("a connection without a position"))),
    }
}

/// The name of a state: the same state of the same connection has the same, and nobody else's has it.
fn name_of((user, device, conn): &ConnectionKey, bytes: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    for part in [user.as_str(), device.as_str(), conn] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update(bytes);
    let hash = hash.finalize();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;

    #[test]
    fn a_state_reads_back_as_it_was() {
        let config = Arc::new(RoomConfig { timeline_limit: 7, ..RoomConfig::default() });
        let sent = |have| Sent {
            room: Mark::Live,
            data: Mark::Behind(Position(9)),
            config: config.clone(),
            have,
            is_dm: true,
            ..Sent::default()
        };
        let rooms = [(owned_room_id!("!a:b"), sent(1)), (owned_room_id!("!c:d"), sent(2))].into();
        let mut state = State { serial: 3, rooms, threads: Mark::Live, ..State::default() };
        assert_eq!(State::decode(&state.encode()).unwrap(), state);
        state.profiles = ProfilesSent { mark: Mark::Live, fields: ProfileFields::All };
        state.rooms.values_mut().for_each(|sent| sent.faces = Faces::Shown);
        assert_eq!(State::decode(&state.encode()).unwrap(), state);
        assert!(State::decode(&[1, 2, 3]).is_err());
    }
}
