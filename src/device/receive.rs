//! What other servers send to the devices here.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;

use super::{
    DeviceError, Devices, Messages,
    send::{Sending, check_contents},
};
use crate::{
    limits::{DEVICE_ATTEMPTS_MAX, RECEIVED_KEPT_MS, SCAN_ROWS_MAX},
    log::{Commit, CommitError, OnceKey},
    store::Scan,
};

/// The content of an `m.direct_to_device` EDU.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>
#[derive(Debug, Deserialize)]
pub struct DirectToDevice {
    /// Who sends.
    pub sender: OwnedUserId,
    /// The type of all the events.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Makes a repetition harmless.
    pub message_id: String,
    /// The contents.
    pub messages: Messages,
}

impl Devices {
    /// Puts the messages that `origin` brings into the inboxes of their devices; once, however often they
    /// are brought. What is not for local devices is passed over.
    ///
    /// # Errors
    /// When the sender is of another server than `origin`, a content is no object, or there is too much.
    pub async fn receive_to_device(
        &self,
        origin: &ServerName,
        mut direct: DirectToDevice,
    ) -> Result<(), DeviceError> {
        if direct.sender.server_name() != origin {
            return Err(DeviceError::Forbidden("the sender is of another server"));
        }
        direct.messages.retain(|user, _| self.is_local(user));
        check_contents(&direct.messages)?;
        let DirectToDevice { sender, event_type, message_id, messages } = &direct;
        if event_type == "m.room.encrypted" {
            // All of them are sent by one device.
            let first = messages.values().flat_map(BTreeMap::values).next();
            let key = first.and_then(|content| content.get_field::<String>("sender_key").ok().flatten());
            self.meet_device(sender, None, key.as_deref()).await?;
        }
        let sending = Sending { user: sender, device: "".into(), event_type, txn_id: message_id };
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let once = OnceKey::server(origin, "m.direct_to_device", message_id);
            // When it came says when the id may be forgotten; see [`Self::forget_received`].
            let came = self.ports.clock.now_ms().to_be_bytes();
            let mut commit = Commit::once(once, came.to_vec());
            if !self.put_local(&mut commit, &sending, messages).await? {
                return Ok(());
            }
            match self.log.commit(commit).await {
                Ok(_) | Err(CommitError::AlreadyDone(_)) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(DeviceError::Commit(error)),
            }
        }
        Err(DeviceError::Contended)
    }

    /// Forgets the ids of what other servers have brought [`RECEIVED_KEPT_MS`] ago and longer: nobody brings it again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_received(&self) -> Result<(), DeviceError> {
        let Some(before) = self.ports.clock.now_ms().checked_sub(RECEIVED_KEPT_MS) else { return Ok(()) };
        let mut from = OnceKey::servers_prefix();
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = last.successor();
            let mut commit = Commit::new();
            for (key, came) in rows {
                let came = came.as_slice().try_into().map_or(0, u64::from_be_bytes);
                if came < before {
                    commit.delete_key(key);
                }
            }
            if !commit.is_empty() {
                self.log.commit(commit).await.map_err(DeviceError::Commit)?;
            }
        }
    }
}
