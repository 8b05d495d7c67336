//! What other servers send to the devices here.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;

use super::{
    DeviceError, Devices, Messages,
    send::{Sending, check_contents},
};
use crate::{
    limits::DEVICE_ATTEMPTS_MAX,
    log::{Commit, CommitError, OnceKey},
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
            let mut commit = Commit::once(once, Vec::new());
            self.put_local(&mut commit, &sending, messages).await?;
            match self.log.commit(commit).await {
                Ok(_) | Err(CommitError::AlreadyDone(_)) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(DeviceError::Commit(error)),
            }
        }
        Err(DeviceError::Contended)
    }
}
