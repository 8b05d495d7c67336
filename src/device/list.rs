//! The devices of a user.

use ruma::{DeviceId, OwnedDeviceId, UserId};

use super::{Attempt, DeviceError, Devices};
use crate::{
    account::{DEVICES, Device, ListChange, tell_people},
    limits::{DEVICE_ATTEMPTS_MAX, DEVICE_NAME_BYTES_MAX, DEVICES_MAX},
    log::Commit,
};

impl Devices {
    /// The devices of `user`, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, user: &UserId) -> Result<Vec<(OwnedDeviceId, Device)>, DeviceError> {
        let rows = self.log.db().range(&DEVICES, &(user.to_owned(),), DEVICES_MAX).await?;
        Ok(rows.into_iter().map(|((_, id), device)| (id, device)).collect())
    }

    /// One device.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Device, DeviceError> {
        let key = (user.to_owned(), device.to_owned());
        self.log.db().row(&DEVICES, &key).await?.ok_or(DeviceError::NotFound("device"))
    }

    /// Gives a device another name, which everybody who sees its keys sees too.
    ///
    /// # Errors
    /// When there is no such device or the name is too long.
    pub async fn rename(&self, user: &UserId, device: &DeviceId, name: &str) -> Result<(), DeviceError> {
        if name.len() > DEVICE_NAME_BYTES_MAX {
            return Err(DeviceError::TooLarge);
        }
        let key = (user.to_owned(), device.to_owned());
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let before = self.device(user, device).await?;
            if before.display_name.as_deref() == Some(name) {
                return Ok(());
            }
            let after = Device { display_name: Some(name.to_owned()), ..before.clone() };
            let mut commit = Commit::new();
            commit.expect_equals(&DEVICES, &key, &before);
            commit.put(&DEVICES, &key, &after);
            tell_people(&mut commit, user, [ListChange::Device(device)]);
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    /// Has `commit` refused if the device is gone by then.
    pub(super) async fn expect_device(
        &self,
        commit: &mut Commit,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<(), DeviceError> {
        let key = DEVICES.key(&(user.to_owned(), device.to_owned()));
        let Some(found) = self.log.db().raw(&key).await? else {
            return Err(DeviceError::NotFound("device"));
        };
        Self::guard(commit, key, Some(found));
        Ok(())
    }
}
