//! The one way in which a device goes.

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
    limits::{DEVICE_ATTEMPTS_MAX, SCAN_ROWS_MAX},
    log::Commit,
    store::{
        StoreError,
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
    /// signatures. Devices that do not exist are passed over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(&self, user: &UserId, devices: &[OwnedDeviceId]) -> Result<(), DeviceError> {
        let _turn = self.turns.take([user]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let mut commit = Commit::new();
            for device in devices {
                self.plan_removal(&mut commit, user, device).await?;
            }
            if commit.is_empty() {
                return Ok(());
            }
            tell_people(&mut commit, user, devices.iter().map(|device| ListChange::Gone(device)));
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
        let mut devices = self.device_ids(user).await?;
        // Read after the list, so that one which is new in the list is known here.
        let dehydrated = self.log.db().row(&DEHYDRATED, &(user.to_owned(),)).await?.map(|row| row.device_id);
        let dehydrated = match dehydrated {
            Some(device) => {
                let row = self.log.db().row(&DEVICES, &(user.to_owned(), device.clone())).await?;
                (!row.is_some_and(|row| row.is_in_use())).then_some(device)
            }
            None => None,
        };
        devices.retain(|device| keep != Some(device) && dehydrated.as_ref() != Some(device));
        self.remove(user, &devices).await
    }

    async fn device_ids(&self, user: &UserId) -> Result<Vec<OwnedDeviceId>, DeviceError> {
        Ok(self.list(user).await?.into_iter().map(|(device, _)| device).collect())
    }

    /// Removes all that this module and `push` know of a user who leaves for good: devices, cross-signing
    /// keys, signatures on keys, backups, the dehydrated device and pushers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retire(&self, user: &UserId) -> Result<(), DeviceError> {
        let devices = self.device_ids(user).await?;
        self.remove(user, &devices).await?;
        let _turn = self.turns.take([user]).await;
        let mut commit = Commit::new();
        let user = (user.to_owned(),);
        commit.delete_prefix(&CROSS_SIGNING_KEYS, &user);
        commit.delete_prefix(&SIGNATURES, &user);
        commit.delete_prefix(&BACKUPS, &user);
        commit.delete_prefix(&BACKUP_KEYS, &user);
        commit.delete_prefix(&DEHYDRATED, &user);
        self.drop_pushers(&mut commit, &user.0, None).await?;
        tell_people(&mut commit, &user.0, [ListChange::CrossSigning]);
        self.log.commit(commit).await.map(drop).map_err(DeviceError::Commit)
    }

    /// Writes the removal of one device, if it exists.
    pub(super) async fn plan_removal(
        &self,
        commit: &mut Commit,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<(), DeviceError> {
        let owner = (user.to_owned(), device.to_owned());
        let row = DEVICES.key(&owner);
        let Some(found) = self.log.db().raw(&row).await? else { return Ok(()) };
        Self::guard(commit, row, Some(found.clone()));
        DEVICES.decode(&found)?.forget(commit, &owner);
        commit.delete(&DEVICE_KEYS, &owner);
        commit.delete(&KEY_COUNTS, &owner);
        commit.delete_prefix(&CONNECTIONS, &owner);
        drop_one_time_keys(commit, &owner);
        drop_signatures_on(commit, user, device.as_str());
        self.drop_signatures_by(commit, user, &ed25519(device.as_str())).await?;
        self.drop_pushers(commit, user, Some(device)).await?;
        for kind in NOTIFICATION_SETTINGS {
            forget_data(&self.log, commit, user, &format!("{kind}.{device}")).await?;
        }
        if let Some(row) = self.log.db().row(&DEHYDRATED, &(user.to_owned(),)).await?
            && row.device_id == device
        {
            commit.expect_equals(&DEHYDRATED, &(user.to_owned(),), &row);
            commit.delete(&DEHYDRATED, &(user.to_owned(),));
        }
        commit.drop_inbox(user, device);
        Ok(())
    }

    /// Removes the signatures that the user's key `key_id` put on the user's own keys.
    pub(super) async fn drop_signatures_by(
        &self,
        commit: &mut Commit,
        user: &UserId,
        key_id: &str,
    ) -> Result<(), StoreError> {
        let own = (user.to_owned(), user.to_owned());
        for (key, _) in self.log.db().range(&SIGNATURES, &own, SCAN_ROWS_MAX).await? {
            if key.3 == key_id {
                commit.delete(&SIGNATURES, &key);
            }
        }
        Ok(())
    }

    /// Removes the pushers that the device made, or all.
    async fn drop_pushers(
        &self,
        commit: &mut Commit,
        user: &UserId,
        device: Option<&DeviceId>,
    ) -> Result<(), StoreError> {
        let rows = self.log.db().range(&PUSHERS, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        for ((user, app_id, pushkey), owner) in rows {
            if device.is_none() || owner.device_id.as_deref() == device {
                commit.delete(&PUSHERS, &(user.clone(), app_id.clone(), pushkey.clone()));
                commit.delete(&PUSHER_KEYS, &(app_id, pushkey, user));
            }
        }
        Ok(())
    }
}
