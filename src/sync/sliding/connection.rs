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
    account::{AccountError, DEVICES, NO_DEVICE},
    limits::{
        DEVICE_ATTEMPTS_MAX, SCAN_ROWS_MAX, SLIDING_CACHED_BYTES_MAX, SLIDING_CONNECTIONS_MAX,
        SLIDING_STATES_MAX,
    },
    log::{Commit, CommitError, Log},
    store::{
        Expect, KeyFields, Scan, StoreError,
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
        let (mut configs, mut places) = (Vec::new(), BTreeMap::new());
        let rooms = self.rooms.iter().map(|(room, sent)| {
            let config = *places.entry(&*sent.config).or_insert_with(|| {
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

/// A state under its name.
#[derive(Clone)]
struct Kept {
    name: u64,
    state: Arc<State>,
    /// About how much memory it takes.
    bytes: u64,
}

impl Kept {
    /// A state that is `stored` bytes long in the store.
    fn new(name: u64, state: State, stored: usize) -> Self {
        let rooms = state.rooms.len() * size_of::<(OwnedRoomId, Sent)>();
        Self { name, bytes: (stored + rooms) as u64, state: Arc::new(state) }
    }
}

/// The states of one connection, oldest first.
type Known = Vec<Kept>;

fn has(known: &[Kept], name: u64) -> bool {
    known.iter().any(|kept| kept.name == name)
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<ConnectionKey, Arc<Known>> for ByBytes {
    fn weight(&self, _: &ConnectionKey, known: &Arc<Known>) -> u64 {
        known.iter().map(|kept| kept.bytes).sum::<u64>().max(1)
    }
}

/// The states of connections in memory; all of them are stored as well.
pub(super) struct Connections {
    known: Cache<ConnectionKey, Arc<Known>, ByBytes>,
    /// Held while what is known of a connection is read and replaced.
    changing: Mutex<()>,
}

impl Default for Connections {
    fn default() -> Self {
        // One has 100 rooms or so.
        let estimated = usize::try_from(SLIDING_CACHED_BYTES_MAX / 25_000).unwrap_or(usize::MAX);
        let known = Cache::with_weighter(estimated, SLIDING_CACHED_BYTES_MAX, ByBytes);
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
        let mut known = self.known(log, key).await?;
        if !has(&known, name) {
            // What another request has kept meanwhile may have been lost from memory.
            known = self.take_in(key, load(log, key).await?, |known| has(known, name));
        }
        let Some(found) = known.iter().find(|kept| kept.name == name) else { return Ok(None) };
        let dropped = self.change(key, &known, |known| {
            let index = known.iter().position(|kept| kept.name == name).unwrap_or_default();
            known.drain(..index).map(|kept| kept.name).collect::<Vec<u64>>()
        });
        if !dropped.is_empty() {
            let mut commit = Commit::new();
            for old in dropped {
                commit.delete_key(row(key, old));
            }
            // What stays by accident is found again when the connection is next read from the store.
            log.commit_later(commit);
        }
        Ok(Some(found.state.clone()))
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
        let gone: Vec<ConnectionKey> = gone.map(|conn| (user.clone(), device.clone(), conn)).collect();
        gone.iter().for_each(|key| commit.delete_prefix(&CONNECTIONS, key));
        if !all.is_empty() {
            log.commit(commit).await?;
        }
        // Afterwards, so that nobody takes from the store in between what goes.
        gone.iter().for_each(|key| drop(self.known.remove(key)));
        Ok(())
    }

    /// Whether a state is the one of the given name.
    pub(super) async fn is_same(
        &self,
        log: &Log,
        key: &ConnectionKey,
        (name, state): (u64, &State),
    ) -> Result<bool, StoreError> {
        let known = self.known(log, key).await?;
        Ok(known.iter().any(|kept| kept.name == name && *kept.state == *state))
    }

    /// Keeps a state and gives its name. When this returns, a token with the name can be given out.
    ///
    /// # Errors
    /// When the device has been removed, with all of its connections, or the store fails.
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
        if has(&known, name) {
            return Ok(name);
        }
        // The first is what the client has; of what it may have, the oldest goes.
        let too_many = (known.len() + 1).saturating_sub(SLIDING_STATES_MAX);
        let gone: Vec<u64> = known.iter().skip(1).take(too_many).map(|kept| kept.name).collect();
        let mut attempts = 1;
        loop {
            let mut commit = Commit::new();
            expect_device(log, &mut commit, key).await?;
            gone.iter().for_each(|old| commit.delete_key(row(key, *old)));
            commit.put_raw(row(key, name), [log.head().to_bytes().as_slice(), &bytes].concat());
            match log.commit(commit).await {
                // The device has another name, or another token.
                Err(CommitError::Conflict(_)) if attempts < DEVICE_ATTEMPTS_MAX => attempts += 1,
                other => {
                    other?;
                    break;
                }
            }
        }
        self.change(key, &known, |known| {
            known.retain(|kept| !gone.contains(&kept.name));
            known.push(Kept::new(name, state, bytes.len()));
        });
        Ok(name)
    }

    async fn known(&self, log: &Log, key: &ConnectionKey) -> Result<Arc<Known>, StoreError> {
        match self.known.get(key) {
            Some(known) => Ok(known),
            None => Ok(self.take_in(key, load(log, key).await?, |_| true)),
        }
    }

    /// Takes in what was found in the store, unless something that `suffices` is in memory by now, which may be newer.
    fn take_in(&self, key: &ConnectionKey, found: Known, suffices: impl Fn(&[Kept]) -> bool) -> Arc<Known> {
        let _changing = self.changing.lock();
        if let Some(known) = self.known.get(key).filter(|known| suffices(known)) {
            return known;
        }
        let found = Arc::new(found);
        self.known.insert(key.clone(), found.clone());
        found
    }
}

/// Has `commit` refused if the device is gone by then: its connections went with it, and nothing would remove another row.
async fn expect_device(
    log: &Log,
    commit: &mut Commit,
    (user, device, _): &ConnectionKey,
) -> Result<(), SyncError> {
    if device.as_str() == NO_DEVICE {
        return Ok(());
    }
    let row = DEVICES.key(&(user.clone(), device.clone()));
    let found = log.db().raw(&row).await?.ok_or(AccountError::UnknownToken { soft: false })?;
    commit.expect_raw(Expect::Equals(row, found));
    Ok(())
}

/// The states of a connection that are stored.
async fn load(log: &Log, key: &ConnectionKey) -> Result<Known, StoreError> {
    let mut states = Known::new();
    for ((_, _, _, name), bytes) in scan(log, key).await? {
        let (_, bytes) = split(&bytes)?;
        states.push(Kept::new(name, State::decode(bytes)?, bytes.len()));
    }
    states.sort_by_key(|kept| kept.state.serial);
    Ok(states)
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
    use ruma::{owned_device_id, owned_room_id, owned_user_id};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        account::Device,
        store::{Db, memory::Memory},
    };

    /// A log, and a connection of a device that is there.
    async fn connection() -> (Log, ConnectionKey) {
        let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
        let key = (owned_user_id!("@a:b"), owned_device_id!("D"), String::new());
        let mut commit = Commit::new();
        commit.put(&DEVICES, &(key.0.clone(), key.1.clone()), &Device::default());
        log.commit(commit).await.unwrap();
        (log, key)
    }

    fn state(serial: u64) -> State {
        State { serial, ..State::default() }
    }

    #[tokio::test]
    async fn what_is_newer_than_the_store_is_not_overwritten() {
        let (log, key) = connection().await;
        let connections = Connections::default();
        connections.keep(&log, &key, state(1)).await.unwrap();
        // One request has read the store when another one keeps a state.
        connections.known.remove(&key);
        let found = load(&log, &key).await.unwrap();
        let name = connections.keep(&log, &key, state(2)).await.unwrap();
        assert_eq!(connections.take_in(&key, found, |_| true).len(), 2);
        assert!(connections.open(&log, &key, name).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_state_that_only_the_store_has_is_found() {
        let (log, key) = connection().await;
        let connections = Connections::default();
        let name = connections.keep(&log, &key, state(1)).await.unwrap();
        connections.known.insert(key.clone(), Arc::default());
        assert_eq!(connections.open(&log, &key, name).await.unwrap().unwrap().serial, 2);
        assert!(connections.open(&log, &key, 7).await.unwrap().is_none());
        assert!(
            connections.open(&log, &key, name).await.unwrap().is_some(),
            "nothing is lost by asking for another"
        );
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_device_that_is_gone() {
        let (log, key) = connection().await;
        let connections = Connections::default();
        let mut commit = Commit::new();
        commit.delete(&DEVICES, &(key.0.clone(), key.1.clone()));
        log.commit(commit).await.unwrap();
        let refused = connections.keep(&log, &key, state(1)).await;
        assert!(matches!(refused, Err(SyncError::Account(AccountError::UnknownToken { soft: false }))));
        assert!(scan(&log, &key).await.unwrap().is_empty());
        // An application service may act without one.
        let nameless = (key.0.clone(), NO_DEVICE.into(), String::new());
        connections.keep(&log, &nameless, state(1)).await.unwrap();
    }

    #[test]
    fn a_connection_weighs_what_its_client_wants() {
        let pattern = super::super::wanted::Pattern { event_type: Some("x".repeat(9_999)), state_key: None };
        let wanted = super::super::wanted::Wanted { include: vec![pattern], ..Default::default() };
        let config = Arc::new(RoomConfig { timeline_limit: 1, wanted: [wanted].into() });
        let sent = Sent { config, ..Sent::default() };
        let mut state = state(1);
        state.rooms = [(owned_room_id!("!a:b"), sent.clone()), (owned_room_id!("!c:d"), sent)].into();
        let stored = state.encode().len();
        assert!((10_000..10_200).contains(&stored), "what both rooms want is stored once: {stored}");
        let key = (owned_user_id!("@a:b"), owned_device_id!("D"), String::new());
        let weight = ByBytes.weight(&key, &Arc::new(vec![Kept::new(1, state, stored)]));
        assert!(weight > 10_000, "{weight}");
    }

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
