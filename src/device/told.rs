//! Up to where other servers know the devices of our users.
//!
//! A server that shares a room with a user is told of every change. But one may ask for devices before this
//! server has heard that it is in a room with their owner, and what changes in between would reach it never:
//! so it is noted who has asked, and the courier makes up for it once the server comes into sight.

use ruma::{OwnedServerName, OwnedUserId, ServerName};

use super::{DeviceError, Devices};
use crate::{
    account::DEVICES,
    limits::DEVICE_LISTS_ASKED_MAX,
    log::Commit,
    store::table::{Rows, TableId},
    types::{Lane, Position, RegisterKey},
};

/// The last change of a user's devices that a server has: the `prev_id` of the next.
pub(crate) const TOLD: Rows<(OwnedServerName, OwnedUserId), u64> = Rows::new(TableId::DeliveredDevices);

impl Devices {
    /// Takes note that `server` is about to read the devices of `users`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_asked<'a>(
        &self,
        server: &ServerName,
        users: impl Iterator<Item = &'a OwnedUserId> + Send,
    ) -> Result<(), DeviceError> {
        let mut commit = Commit::new();
        for user in users.filter(|user| self.is_local(user)).take(DEVICE_LISTS_ASKED_MAX) {
            let key = (server.to_owned(), user.clone());
            let told = self.log.db().row(&TOLD, &key).await?;
            // Who has been told needs no note, but for one from where on. What it is answered now may not arrive, so that it is told
            // of all that has changed since, when it comes into sight.
            if told.is_some() {
                continue;
            }
            let has_devices = !self.log.db().range(&DEVICES, &(user.clone(),), 1).await?.is_empty();
            let at = self.last_change(user).await?.0;
            if has_devices {
                commit.put(&TOLD, &key, &at);
            }
        }
        match commit.is_empty() {
            true => Ok(()),
            false => self.log.commit(commit).await.map(drop).map_err(DeviceError::Commit),
        }
    }

    /// Where the devices of a local user last changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_change(&self, user: &OwnedUserId) -> Result<Position, DeviceError> {
        let written = self.log.written(&Lane::People, &[RegisterKey::devices(user)]).await?;
        Ok(written.first().copied().flatten().unwrap_or(Position::ZERO))
    }
}
