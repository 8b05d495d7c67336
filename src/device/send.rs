//! To-device messages.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use ruma::{
    DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId, events::AnyToDeviceEventContent,
    serde::Raw, to_device::DeviceIdOrAllDevices,
};
use serde_json::{json, value::RawValue};

use super::{DeviceError, Devices};
use crate::{
    account::DEVICES,
    limits::{
        DEVICE_ATTEMPTS_MAX, DEVICES_MAX, TO_DEVICE_BYTES_MAX, TO_DEVICE_EDU_BYTES_MAX,
        TO_DEVICE_STRANGERS_MAX, TO_DEVICE_TARGETS_MAX,
    },
    log::{Commit, CommitError, OnceKey},
    store::{Key, Scan},
    types::{Fact, Lane, random_string},
};

/// Contents by user and device.
pub type Messages = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>;

/// Who sends, and under which transaction.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The sender.
    pub user: &'a UserId,
    /// The sender's device.
    pub device: &'a DeviceId,
    /// The type of all the events.
    pub event_type: &'a str,
    /// Makes a repetition harmless.
    pub txn_id: &'a str,
}

/// One message for one device that exists.
struct Target<'a> {
    user: &'a OwnedUserId,
    device: OwnedDeviceId,
    content: &'a RawValue,
    /// The device's row as it was found.
    row: (Key, Vec<u8>),
}

impl Devices {
    /// Puts each message into the inbox of its device, or the outbox of its server; once, however often
    /// the transaction is repeated. Devices that do not exist are passed over.
    ///
    /// # Errors
    /// When a content is no object, or there is too much.
    pub async fn send_to_device(
        &self,
        sending: &Sending<'_>,
        messages: &Messages,
    ) -> Result<(), DeviceError> {
        check_contents(messages)?;
        let kind = format!("sendToDevice/{}", sending.event_type);
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let once = OnceKey::txn(sending.user, sending.device, &kind, sending.txn_id);
            let mut commit = Commit::once(once, Vec::new());
            self.put_local(&mut commit, sending, messages).await?;
            let parts = self.by_server(messages);
            self.check_strangers(parts.keys()).await?;
            for (server, part) in parts {
                for part in pieces(part) {
                    commit.fact(Lane::Outbox(server.clone()), self.edu(sending, &part));
                }
            }
            match self.log.commit(commit).await {
                Ok(_) | Err(CommitError::AlreadyDone(_)) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(DeviceError::Commit(error)),
            }
        }
        Err(DeviceError::Contended)
    }

    /// Puts the messages for local devices into their inboxes.
    pub(super) async fn put_local(
        &self,
        commit: &mut Commit,
        sending: &Sending<'_>,
        messages: &Messages,
    ) -> Result<bool, DeviceError> {
        let targets = self.targets(messages).await?;
        let is_for_somebody = !targets.is_empty();
        for target in targets {
            // A device that goes meanwhile must not leave a queue behind.
            Self::guard(commit, target.row.0, Some(target.row.1));
            let fact = Fact::ToDevice {
                sender: sending.user.to_owned(),
                event_type: sending.event_type.to_owned(),
                content: target.content.get().to_owned(),
            };
            commit.fact(Lane::Inbox(target.user.clone(), target.device), fact);
        }
        Ok(is_for_somebody)
    }

    /// The local devices that `messages` reach, with all devices for `*`.
    async fn targets<'a>(&self, messages: &'a Messages) -> Result<Vec<Target<'a>>, DeviceError> {
        let (mut keys, mut named) = (Vec::new(), Vec::new());
        let (mut scans, mut everywhere) = (Vec::new(), Vec::new());
        let local = messages.iter().filter(|(user, _)| self.is_local(user));
        for (user, by_device) in local {
            for (device, content) in by_device {
                match device {
                    DeviceIdOrAllDevices::AllDevices => {
                        let from = DEVICES.prefix(&(user.clone(),));
                        let to = from.after_prefix();
                        scans.push(Scan { from, to, reverse: false, limit: DEVICES_MAX });
                        everywhere.push((user, content.json()));
                    }
                    DeviceIdOrAllDevices::DeviceId(device) => {
                        keys.push(DEVICES.key(&(user.clone(), device.clone())));
                        named.push((user, device, content.json()));
                    }
                }
            }
        }
        let mut targets = Vec::with_capacity(keys.len());
        let rows = self.log.db().get_many(&keys).await?;
        for ((key, row), (user, device, content)) in keys.into_iter().zip(rows).zip(named) {
            let target = |row| Target { user, device: device.clone(), content, row: (key, row) };
            targets.extend(row.map(target));
        }
        let found = self.log.db().scan_many(&scans).await?;
        for ((user, content), rows) in everywhere.into_iter().zip(found) {
            for (key, value) in rows {
                let (_, device) = DEVICES.decode_key(&key)?;
                targets.push(Target { user, device, content, row: (key, value) });
            }
        }
        match targets.len() > TO_DEVICE_TARGETS_MAX {
            true => Err(DeviceError::TooLarge),
            false => Ok(targets),
        }
    }

    fn by_server(&self, messages: &Messages) -> BTreeMap<OwnedServerName, Messages> {
        let mut parts: BTreeMap<OwnedServerName, Messages> = BTreeMap::new();
        for (user, by_device) in messages.iter().filter(|(user, _)| !self.is_local(user)) {
            let part = parts.entry(user.server_name().to_owned()).or_default();
            part.insert(user.clone(), by_device.clone());
        }
        parts
    }

    /// Whoever makes up names of servers has something kept for each of them, which is tried to be delivered.
    async fn check_strangers(
        &self,
        servers: impl Iterator<Item = &OwnedServerName>,
    ) -> Result<(), DeviceError> {
        let servers: Vec<&OwnedServerName> = servers.collect();
        if servers.len() <= TO_DEVICE_STRANGERS_MAX {
            return Ok(());
        }
        let mut strangers = 0;
        for server in servers {
            if !self.log.shares_a_room(server).await? {
                strangers += 1;
            }
            if strangers > TO_DEVICE_STRANGERS_MAX {
                return Err(DeviceError::TooLarge);
            }
        }
        Ok(())
    }

    fn edu(&self, sending: &Sending<'_>, part: &Messages) -> Fact {
        let content = json!({
            "sender": sending.user,
            "type": sending.event_type,
            "message_id": random_string(&*self.ports.rng, 32),
            "messages": part,
        });
        Fact::Edu { edu_type: "m.direct_to_device".into(), content: content.to_string() }
    }
}

/// Cuts messages into pieces of some size, since one EDU must not be more than a server takes; contents stay whole.
fn pieces(messages: Messages) -> Vec<Messages> {
    let (mut pieces, mut bytes) = (Vec::new(), usize::MAX);
    for (user, by_device) in messages {
        for (device, content) in by_device {
            let size = content.json().get().len() + user.as_str().len();
            if bytes.saturating_add(size) > TO_DEVICE_EDU_BYTES_MAX {
                pieces.push(Messages::new());
                bytes = 0;
            }
            bytes += size;
            if let Some(piece) = pieces.last_mut() {
                piece.entry(user.clone()).or_default().insert(device, content);
            }
        }
    }
    pieces
}

pub(super) fn check_contents(messages: &Messages) -> Result<(), DeviceError> {
    let mut named = 0;
    for content in messages.values().flat_map(BTreeMap::values) {
        named += 1;
        let text = content.json().get();
        if !text.starts_with('{') {
            return Err(DeviceError::BadJson("the content of a message is not an object".into()));
        }
        if text.len() > TO_DEVICE_BYTES_MAX {
            return Err(DeviceError::TooLarge);
        }
    }
    match named > TO_DEVICE_TARGETS_MAX {
        true => Err(DeviceError::TooLarge),
        false => Ok(()),
    }
}
