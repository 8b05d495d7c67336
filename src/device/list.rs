//! The devices of a user.

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{Attempt, DeviceError, Devices};
use crate::{
    limits::{DEVICE_ATTEMPTS_MAX, DEVICE_NAME_BYTES_MAX, DEVICES_MAX},
    log::Commit,
    store::table::{Rows, TableId},
};

/// Devices by user.
pub(super) const DEVICE_ROWS: Rows<(OwnedUserId, OwnedDeviceId), Device> = Rows::new(TableId::Device);

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, as the user sees it.
    pub display_name: Option<String>,
}

impl Devices {
    /// The devices of `user`, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, user: &UserId) -> Result<Vec<(OwnedDeviceId, Device)>, DeviceError> {
        let rows = self.log.db().range(&DEVICE_ROWS, &(user.to_owned(),), DEVICES_MAX).await?;
        Ok(rows.into_iter().map(|((_, id), device)| (id, device)).collect())
    }

    /// One device.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Device, DeviceError> {
        let key = (user.to_owned(), device.to_owned());
        self.log.db().row(&DEVICE_ROWS, &key).await?.ok_or(DeviceError::NotFound("device"))
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
            commit.expect_equals(&DEVICE_ROWS, &key, &before);
            commit.put(&DEVICE_ROWS, &key, &after);
            Self::tell_people(&mut commit, user);
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
        let key = DEVICE_ROWS.key(&(user.to_owned(), device.to_owned()));
        let Some(found) = self.log.db().raw(&key).await? else {
            return Err(DeviceError::NotFound("device"));
        };
        Self::guard(commit, key, Some(found));
        Ok(())
    }
}
