//! The one way in which a device goes.

use std::collections::BTreeSet;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Attempt, DeviceError, Devices,
    object::ed25519,
    rows::{BACKUP_KEYS, BACKUPS, CROSS_SIGNING_KEYS, DEHYDRATED, DEVICE_KEYS, KEY_COUNTS, SIGNATURES},
    upload::{drop_one_time_keys, drop_signatures_on},
};
use crate::{
    account::{DEVICES, ListChange, forget_data, tell_people},
    limits::{DEVICE_ATTEMPTS_MAX, DEVICES_REMOVED_AT_ONCE, SCAN_ROWS_MAX},
    log::Commit,
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
};

/// The rows belong to `push`, which stands above; all that is known of them here is whose they are, what they are
/// known by to their gateways, and which device made them.
const PUSHERS: Rows<(OwnedUserId, String, String), PusherOwner> = Rows::new(TableId::Pusher);
/// The same, to be found by what they are known by.
const PUSHER_KEYS: Rows<(String, String, OwnedUserId), ()> = Rows::new(TableId::PusherKey);

/// The rows belong to `sync`, which stands above; here only that their keys begin with user and device.
const CONNECTIONS: Rows<(OwnedUserId, OwnedDeviceId), ()> = Rows::new(TableId::Connection);

/// Account data about one device, whose id follows.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3890>
const NOTIFICATION_SETTINGS: [&str; 2] =
    ["m.local_notification_settings", "org.matrix.msc3890.local_notification_settings"];

/// The part of a pusher's row that says which device made it.
#[derive(Deserialize, Serialize)]
struct PusherOwner {
    device_id: Option<OwnedDeviceId>,
}

impl Devices {
    /// Removes devices of `user` with all that is theirs: tokens, pushers, waiting messages, keys and
    /// signatures. Devices that do not exist are passed over, and nobody is told of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(&self, user: &UserId, devices: &[OwnedDeviceId]) -> Result<(), DeviceError> {
        let named: Vec<&OwnedDeviceId> = devices.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let _turn = self.turns.take([user]).await;
        for some in named.chunks(DEVICES_REMOVED_AT_ONCE) {
            self.remove_some(user, some).await?;
        }
        Ok(())
    }

    async fn remove_some(&self, user: &UserId, devices: &[&OwnedDeviceId]) -> Result<(), DeviceError> {
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let mut commit = Commit::new();
            let found = self.plan_removal(&mut commit, user, devices).await?;
            if found.is_empty() {
                return Ok(());
            }
            tell_people(&mut commit, user, found.into_iter().map(ListChange::Gone));
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    /// Removes all devices of `user` but `keep` and the dehydrated one, as long as nobody is logged in there: whoever has
    /// lost all others has their messages from it. It goes when another takes its place, when a client removes it, or with
    /// the account.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_all(&self, user: &UserId, keep: Option<&DeviceId>) -> Result<(), DeviceError> {
        let mut last = None;
        loop {
            let mut devices = self.some_after(user, last.as_ref()).await?;
            last = devices.last().cloned();
            if last.is_none() {
                return Ok(());
            }
            // Read after the list, so that one which is new in the list is known here.
            let dehydrated =
                self.log.db().row(&DEHYDRATED, &(user.to_owned(),)).await?.map(|row| row.device_id);
            let dehydrated = match dehydrated {
                Some(device) => {
                    let row = self.log.db().row(&DEVICES, &(user.to_owned(), device.clone())).await?;
                    (!row.is_some_and(|row| row.is_in_use())).then_some(device)
                }
                None => None,
            };
            devices.retain(|device| keep != Some(device) && dehydrated.as_ref() != Some(device));
            self.remove(user, &devices).await?;
        }
    }

    /// Some devices of `user` in the order of their ids, the first after `last`.
    async fn some_after(
        &self,
        user: &UserId,
        last: Option<&OwnedDeviceId>,
    ) -> Result<Vec<OwnedDeviceId>, DeviceError> {
        let all = DEVICES.prefix(&(user.to_owned(),));
        let from = match last {
            Some(device) => DEVICES.key(&(user.to_owned(), device.clone())).successor(),
            None => all.clone(),
        };
        let scan = Scan { from, to: all.after_prefix(), reverse: false, limit: DEVICES_REMOVED_AT_ONCE };
        let rows = self.log.db().scan(&DEVICES, scan).await?;
        Ok(rows.into_iter().map(|((_, device), _)| device).collect())
    }

    /// Removes all that this module and `push` know of a user who leaves for good: devices, cross-signing
    /// keys, signatures on keys, backups, the dehydrated device and pushers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retire(&self, user: &UserId) -> Result<(), DeviceError> {
        loop {
            let devices = self.some_after(user, None).await?;
            if devices.is_empty() {
                break;
            }
            self.remove(user, &devices).await?;
        }
        let _turn = self.turns.take([user]).await;
        let mut commit = Commit::new();
        let user = (user.to_owned(),);
        commit.delete_prefix(&CROSS_SIGNING_KEYS, &user);
        commit.delete_prefix(&SIGNATURES, &user);
        commit.delete_prefix(&BACKUPS, &user);
        commit.delete_prefix(&BACKUP_KEYS, &user);
        commit.delete_prefix(&DEHYDRATED, &user);
        self.drop_pushers(&mut commit, &user.0, |_| true).await?;
        tell_people(&mut commit, &user.0, [ListChange::CrossSigning]);
        self.log.commit(commit).await.map(drop).map_err(DeviceError::Commit)
    }

    /// Writes the removal of those devices that exist, and says which.
    pub(super) async fn plan_removal<'a>(
        &self,
        commit: &mut Commit,
        user: &UserId,
        devices: &[&'a OwnedDeviceId],
    ) -> Result<Vec<&'a DeviceId>, DeviceError> {
        let mut found: Vec<&'a DeviceId> = Vec::new();
        for device in devices {
            if self.plan_removal_of_one(commit, user, device).await? {
                found.push(device);
            }
        }
        if found.is_empty() {
            return Ok(found);
        }
        // Once for all of them.
        let keys = found.iter().map(|device| ed25519(device.as_str())).collect();
        self.drop_signatures_by(commit, user, &keys).await?;
        self.drop_pushers(commit, user, |by| by.is_some_and(|by| found.contains(&by))).await?;
        let owner = (user.to_owned(),);
        if let Some(row) = self.log.db().row(&DEHYDRATED, &owner).await?
            && found.contains(&&*row.device_id)
        {
            commit.expect_equals(&DEHYDRATED, &owner, &row);
            commit.delete(&DEHYDRATED, &owner);
        }
        Ok(found)
    }

    /// Writes the removal of what is kept by device; whether there is such a device.
    async fn plan_removal_of_one(
        &self,
        commit: &mut Commit,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<bool, DeviceError> {
        let owner = (user.to_owned(), device.to_owned());
        let row = DEVICES.key(&owner);
        let Some(found) = self.log.db().raw(&row).await? else { return Ok(false) };
        Self::guard(commit, row, Some(found.clone()));
        DEVICES.decode(&found)?.forget(commit, &owner);
        commit.delete(&DEVICE_KEYS, &owner);
        commit.delete(&KEY_COUNTS, &owner);
        commit.delete_prefix(&CONNECTIONS, &owner);
        drop_one_time_keys(commit, &owner);
        drop_signatures_on(commit, user, device.as_str());
        for kind in NOTIFICATION_SETTINGS {
            forget_data(&self.log, commit, user, &format!("{kind}.{device}")).await?;
        }
        commit.drop_inbox(user, device);
        Ok(true)
    }

    /// Removes the signatures that the user's keys of these ids put on the user's own keys.
    pub(super) async fn drop_signatures_by(
        &self,
        commit: &mut Commit,
        user: &UserId,
        key_ids: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let own = SIGNATURES.prefix(&(user.to_owned(), user.to_owned()));
        let (mut from, to) = (own.clone(), own.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&SIGNATURES, scan).await?;
            for (key, _) in rows.iter().filter(|(key, _)| key_ids.contains(&key.3)) {
                commit.delete(&SIGNATURES, key);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS_MAX => from = SIGNATURES.key(last).successor(),
                _ => return Ok(()),
            }
        }
    }

    /// Removes the pushers that such a device made.
    async fn drop_pushers(
        &self,
        commit: &mut Commit,
        user: &UserId,
        is_made_by: impl Fn(Option<&DeviceId>) -> bool,
    ) -> Result<(), StoreError> {
        let rows = self.log.db().range(&PUSHERS, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        for ((user, app_id, pushkey), owner) in rows {
            if is_made_by(owner.device_id.as_deref()) {
                commit.delete(&PUSHERS, &(user.clone(), app_id.clone(), pushkey.clone()));
                commit.delete(&PUSHER_KEYS, &(app_id, pushkey, user));
            }
        }
        Ok(())
    }
}
