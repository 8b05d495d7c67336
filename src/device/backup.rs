//! Server-side key backups.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Attempt, DeviceError, Devices,
    rows::{BACKUP_KEYS, BACKUPS, BackupAuth, BackupRow},
};
use crate::{
    limits::{
        BACKUP_AUTH_BYTES_MAX, BACKUP_KEY_BYTES_MAX, BACKUP_KEYS_MAX, BACKUP_KEYS_PAGE,
        BACKUP_KEYS_PER_REQUEST_MAX, BACKUP_VERSIONS_MAX, DEVICE_ATTEMPTS_MAX, ID_BYTES_MAX,
    },
    log::Commit,
    store::{Key, Scan, StoreError},
};

/// Keys by room and session.
pub type BackupKeys = BTreeMap<OwnedRoomId, BTreeMap<String, Box<RawValue>>>;

/// Keys of a backup that are read a page at a time: a backup may be larger than what should be in memory.
#[derive(Clone, Debug)]
pub struct BackupRange {
    next: Option<(Key, Key)>,
}

/// A backup as its client described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The version.
    pub version: String,
    /// The algorithm.
    pub algorithm: String,
    /// Its data.
    pub auth_data: Value,
    /// Its size and state.
    pub state: BackupState,
}

/// How large a backup is, and whether it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupState {
    /// Differs from before when keys were added, replaced or deleted.
    pub etag: String,
    /// How many keys there are.
    pub count: u64,
}

/// The part of a key by which the better of two is told.
#[derive(Debug, Deserialize)]
struct Quality {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: BTreeMap<String, Value>,
}

impl BackupRow {
    fn state(&self) -> BackupState {
        BackupState { etag: self.etag.to_string(), count: self.count }
    }
}

impl Devices {
    /// Creates a backup, which becomes the current one, and gives its version.
    ///
    /// # Errors
    /// When it or the number of backups is too large.
    pub async fn create_backup(
        &self,
        user: &UserId,
        algorithm: String,
        auth_data: Value,
    ) -> Result<String, DeviceError> {
        check_auth(&algorithm, &auth_data)?;
        let row = BackupRow { auth: Some(BackupAuth { algorithm, auth_data }), etag: 0, count: 0 };
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let known = self.backup_rows(user, None, BACKUP_VERSIONS_MAX).await?;
            if known.iter().filter(|(_, row)| row.auth.is_some()).count() == BACKUP_VERSIONS_MAX {
                return Err(DeviceError::TooLarge);
            }
            let version = known.first().map_or(1, |(version, _)| version + 1);
            let key = (user.to_owned(), version);
            let mut commit = Commit::new();
            commit.expect_absent(&BACKUPS, &key);
            // From now on it is the new one which says what version comes next.
            for (deleted, _) in known.iter().filter(|(_, row)| row.auth.is_none()) {
                commit.delete(&BACKUPS, &(user.to_owned(), *deleted));
            }
            commit.put(&BACKUPS, &key, &row);
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(version.to_string());
            }
        }
        Err(DeviceError::Contended)
    }

    /// The current backup.
    ///
    /// # Errors
    /// When there is none.
    pub async fn latest_backup(&self, user: &UserId) -> Result<BackupInfo, DeviceError> {
        let (version, row) = self.current(user).await?.ok_or(DeviceError::NotFound("backup"))?;
        info(version, row)
    }

    /// A backup.
    ///
    /// # Errors
    /// When there is none of that version.
    pub async fn backup(&self, user: &UserId, version: &str) -> Result<BackupInfo, DeviceError> {
        let (version, row) = self.existing(user, version).await?;
        info(version, row)
    }

    /// Changes the `auth_data` of a backup.
    ///
    /// # Errors
    /// When there is none of that version, the algorithm is another, or the data is too large.
    pub async fn update_backup(
        &self,
        user: &UserId,
        version: &str,
        (algorithm, auth_data): (&str, &Value),
    ) -> Result<(), DeviceError> {
        check_auth(algorithm, auth_data)?;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (version, before) = self.existing(user, version).await?;
            if before.auth.as_ref().is_none_or(|auth| auth.algorithm != algorithm) {
                return Err(DeviceError::Invalid("the algorithm of a backup cannot change".into()));
            }
            let auth = BackupAuth { algorithm: algorithm.to_owned(), auth_data: auth_data.clone() };
            let after = BackupRow { auth: Some(auth), ..before.clone() };
            if let Attempt::Done = self.change_backup(Commit::new(), user, version, (before, after)).await? {
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    /// Deletes a backup with its keys.
    ///
    /// # Errors
    /// When there is none of that version.
    pub async fn delete_backup(&self, user: &UserId, version: &str) -> Result<(), DeviceError> {
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (version, before) = self.existing(user, version).await?;
            let mut commit = Commit::new();
            commit.delete_prefix(&BACKUP_KEYS, &(user.to_owned(), version));
            let after = BackupRow { auth: None, etag: 0, count: 0 };
            if let Attempt::Done = self.change_backup(commit, user, version, (before, after)).await? {
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    /// Stores keys in the current backup. Of two keys for one session the better one stays.
    ///
    /// # Errors
    /// When `version` is not the current one or a key is malformed.
    pub async fn put_backup_keys(
        &self,
        user: &UserId,
        version: &str,
        keys: &BackupKeys,
    ) -> Result<BackupState, DeviceError> {
        let checked = check_keys(keys)?;
        let _turn = self.turns.take([(user, "backup")]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (version, before) = self.writable(user, version).await?;
            let ids: Vec<_> = checked
                .iter()
                .map(|(room, session, ..)| (user.to_owned(), version, (*room).clone(), (*session).clone()))
                .collect();
            let stored = self.log.db().rows(&BACKUP_KEYS, &ids).await?;
            let mut commit = Commit::new();
            let mut after = before.clone();
            for ((id, (.., quality, key)), stored) in ids.iter().zip(&checked).zip(stored) {
                match stored {
                    Some(stored) if !quality.is_better_than(&stored)? => continue,
                    Some(_) => {}
                    None => after.count += 1,
                }
                after.etag = before.etag + 1;
                commit.put(&BACKUP_KEYS, id, *key);
            }
            if after.count > before.count.max(BACKUP_KEYS_MAX) {
                return Err(DeviceError::TooLarge);
            }
            if after == before {
                return Ok(before.state());
            }
            let state = after.state();
            if let Attempt::Done = self.change_backup(commit, user, version, (before, after)).await? {
                return Ok(state);
            }
        }
        Err(DeviceError::Contended)
    }

    /// The key of a session, if it is in a backup.
    ///
    /// # Errors
    /// When there is no backup of that version.
    pub async fn backup_key(
        &self,
        user: &UserId,
        version: &str,
        (room, session): (&RoomId, &str),
    ) -> Result<Option<Box<RawValue>>, DeviceError> {
        let (version, _) = self.existing(user, version).await?;
        let key = (user.to_owned(), version, room.to_owned(), session.to_owned());
        Ok(self.log.db().row(&BACKUP_KEYS, &key).await?)
    }

    /// The keys of a backup, or those of a room, to be read by [`Self::next_backup_keys`].
    ///
    /// # Errors
    /// When there is no backup of that version.
    pub async fn backup_range(
        &self,
        user: &UserId,
        version: &str,
        room: Option<&RoomId>,
    ) -> Result<BackupRange, DeviceError> {
        let (version, _) = self.existing(user, version).await?;
        Ok(BackupRange { next: Some(key_range(user, version, (room, None))) })
    }

    /// The next keys of a range: room, session and key, by room and session. There are none after the last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next_backup_keys(
        &self,
        range: &mut BackupRange,
    ) -> Result<Vec<(OwnedRoomId, String, Box<RawValue>)>, DeviceError> {
        let Some((from, to)) = range.next.take() else { return Ok(Vec::new()) };
        let scan = Scan { from, to: to.clone(), reverse: false, limit: BACKUP_KEYS_PAGE };
        let rows = self.log.db().scan(&BACKUP_KEYS, scan).await?;
        let last = rows.last().filter(|_| rows.len() == BACKUP_KEYS_PAGE);
        range.next = last.map(|(key, _)| (BACKUP_KEYS.key(key).successor(), to));
        Ok(rows.into_iter().map(|((.., room, session), key)| (room, session, key)).collect())
    }

    /// Deletes keys of a backup: all, those of a room, or the one of a session.
    ///
    /// # Errors
    /// When there is no backup of that version.
    pub async fn delete_backup_keys(
        &self,
        user: &UserId,
        version: &str,
        of: (Option<&RoomId>, Option<&str>),
    ) -> Result<BackupState, DeviceError> {
        let _turn = self.turns.take([(user, "backup")]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (number, before) = self.existing(user, version).await?;
            let gone = match of {
                (None, _) => before.count,
                of => self.count_keys(key_range(user, number, of)).await?,
            };
            if gone == 0 {
                return Ok(before.state());
            }
            let mut commit = Commit::new();
            let (from, to) = key_range(user, number, of);
            commit.delete_range(from, to);
            let count = before.count.saturating_sub(gone);
            let after = BackupRow { count, etag: before.etag + 1, ..before.clone() };
            let state = after.state();
            if let Attempt::Done = self.change_backup(commit, user, number, (before, after)).await? {
                return Ok(state);
            }
        }
        Err(DeviceError::Contended)
    }

    async fn count_keys(&self, range: (Key, Key)) -> Result<u64, DeviceError> {
        let (mut range, mut count) = (BackupRange { next: Some(range) }, 0);
        while range.next.is_some() {
            count += self.next_backup_keys(&mut range).await?.len() as u64;
        }
        Ok(count)
    }

    /// Commits, with the version's row as the one that all writers of the backup expect and rewrite.
    async fn change_backup(
        &self,
        mut commit: Commit,
        user: &UserId,
        version: u64,
        (before, after): (BackupRow, BackupRow),
    ) -> Result<Attempt, DeviceError> {
        let key = (user.to_owned(), version);
        commit.expect_equals(&BACKUPS, &key, &before);
        commit.put(&BACKUPS, &key, &after);
        self.attempt(commit).await
    }

    /// The newest version that is not deleted. Mostly it is the newest of all.
    async fn current(&self, user: &UserId) -> Result<Option<(u64, BackupRow)>, StoreError> {
        let mut below = None;
        loop {
            let rows = self.backup_rows(user, below, 1).await?;
            match rows.into_iter().next() {
                Some((version, row)) if row.auth.is_none() => below = Some(version),
                other => return Ok(other),
            }
        }
    }

    /// A version that is not deleted.
    async fn existing(&self, user: &UserId, version: &str) -> Result<(u64, BackupRow), DeviceError> {
        let absent = || DeviceError::NotFound("backup");
        let number: u64 = version.parse().map_err(|_| absent())?;
        let row = self.log.db().row(&BACKUPS, &(user.to_owned(), number)).await?;
        match row.filter(|row| row.auth.is_some()) {
            Some(row) => Ok((number, row)),
            None => Err(absent()),
        }
    }

    /// A version that keys may be written to: the current one.
    async fn writable(&self, user: &UserId, version: &str) -> Result<(u64, BackupRow), DeviceError> {
        let found = self.existing(user, version).await?;
        match self.current(user).await? {
            Some((current, _)) if current != found.0 => {
                Err(DeviceError::WrongBackupVersion { current: current.to_string() })
            }
            _ => Ok(found),
        }
    }

    /// Versions with their rows, newest first; those below one.
    async fn backup_rows(
        &self,
        user: &UserId,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, BackupRow)>, StoreError> {
        let from = BACKUPS.prefix(&(user.to_owned(),));
        let to = match below {
            Some(version) => BACKUPS.key(&(user.to_owned(), version)),
            None => from.after_prefix(),
        };
        let rows = self.log.db().scan(&BACKUPS, Scan { from, to, reverse: true, limit }).await?;
        Ok(rows.into_iter().map(|((_, version), row)| (version, row)).collect())
    }
}

fn check_auth(algorithm: &str, auth_data: &Value) -> Result<(), DeviceError> {
    match algorithm.len() > ID_BYTES_MAX || auth_data.to_string().len() > BACKUP_AUTH_BYTES_MAX {
        true => Err(DeviceError::TooLarge),
        false => Ok(()),
    }
}

fn info(version: u64, row: BackupRow) -> Result<BackupInfo, DeviceError> {
    let state = row.state();
    let BackupAuth { algorithm, auth_data } = row.auth.ok_or(DeviceError::NotFound("backup"))?;
    Ok(BackupInfo { version: version.to_string(), algorithm, auth_data, state })
}

fn key_range(user: &UserId, version: u64, (room, session): (Option<&RoomId>, Option<&str>)) -> (Key, Key) {
    let user = user.to_owned();
    let from = match (room, session) {
        (None, _) => BACKUP_KEYS.prefix(&(user, version)),
        (Some(room), None) => BACKUP_KEYS.prefix(&(user, version, room.to_owned())),
        (Some(room), Some(session)) => {
            BACKUP_KEYS.prefix(&(user, version, room.to_owned(), session.to_owned()))
        }
    };
    (from.clone(), from.after_prefix())
}

type CheckedKey<'a> = (&'a OwnedRoomId, &'a String, Quality, &'a Box<RawValue>);

fn check_keys(keys: &BackupKeys) -> Result<Vec<CheckedKey<'_>>, DeviceError> {
    let mut checked = Vec::new();
    for (room, sessions) in keys {
        for (session, key) in sessions {
            if session.len() > ID_BYTES_MAX {
                return Err(DeviceError::Invalid("a session id is too long".into()));
            }
            if key.get().len() > BACKUP_KEY_BYTES_MAX || checked.len() == BACKUP_KEYS_PER_REQUEST_MAX {
                return Err(DeviceError::TooLarge);
            }
            checked.push((room, session, Quality::of(key)?, key));
        }
    }
    Ok(checked)
}

impl Quality {
    fn of(key: &RawValue) -> Result<Self, DeviceError> {
        let quality: Self = serde_json::from_str(key.get())
            .map_err(|error| DeviceError::BadJson(format!("a backup key: {error}")))?;
        match quality.session_data.is_empty() {
            true => Err(DeviceError::BadJson("a backup key has no `session_data`".into())),
            false => Ok(quality),
        }
    }

    /// Whether this key replaces the stored one: if it is verified and the other is not, else if it
    /// begins earlier, else if it was forwarded less often.
    fn is_better_than(&self, stored: &RawValue) -> Result<bool, DeviceError> {
        let stored: Self = serde_json::from_str(stored.get())
            .map_err(|error| StoreError::Corrupt(format!("a backup key: {error}")))?;
        let rank = |key: &Self| (!key.is_verified, key.first_message_index, key.forwarded_count);
        Ok(rank(self) < rank(&stored))
    }
}
