//! Dehydrated devices: a device without a client, whose messages another device reads later.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Value, json};

use super::{
    Attempt, DeviceError, Devices, KeyUpload,
    rows::{DEHYDRATED, DehydratedRow},
    upload::{CheckedUpload, Held},
};
use crate::{
    account::{DEVICES, Device},
    limits::{
        DEHYDRATED_BYTES_MAX, DEVICE_ATTEMPTS_MAX, DEVICE_NAME_BYTES_MAX, ID_BYTES_MAX, TO_DEVICE_PAGE_MAX,
    },
    log::Commit,
    types::{Fact, Lane, Position},
};

/// A dehydrated device that is to be stored.
#[derive(Clone, Debug)]
pub struct NewDehydrated {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// The secret part, encrypted by the client.
    pub device_data: Value,
    /// Its name.
    pub display_name: Option<String>,
    /// Its keys.
    pub keys: KeyUpload,
}

/// A stored dehydrated device.
#[derive(Clone, Debug, PartialEq)]
pub struct Dehydrated {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// The secret part, encrypted by the client.
    pub device_data: Value,
}

impl Devices {
    /// Stores a dehydrated device in place of the one before.
    ///
    /// # Errors
    /// When its keys are not right or an ordinary device has its id.
    pub async fn dehydrate(&self, user: &UserId, new: &NewDehydrated) -> Result<(), DeviceError> {
        let device = &*new.device_id;
        if new.device_data.to_string().len() > DEHYDRATED_BYTES_MAX
            || new.display_name.as_ref().is_some_and(|name| name.len() > DEVICE_NAME_BYTES_MAX)
        {
            return Err(DeviceError::TooLarge);
        }
        if device.as_str().is_empty() || device.as_str().len() > ID_BYTES_MAX {
            return Err(DeviceError::Invalid("the device id is empty or too long".into()));
        }
        if new.keys.device_keys.is_none() {
            return Err(DeviceError::Missing("device_keys are missing"));
        }
        let checked = CheckedUpload::new(user, device, &new.keys)?;
        let _turns = self.turns.take([user]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let mut commit = Commit::new();
            let owner = (user.to_owned(),);
            let before = self.log.db().row(&DEHYDRATED, &owner).await?;
            let is_same = before.as_ref().is_some_and(|row| row.device_id == device);
            match &before {
                Some(row) => commit.expect_equals(&DEHYDRATED, &owner, row),
                None => commit.expect_absent(&DEHYDRATED, &owner),
            }
            if let Some(row) = &before {
                self.plan_removal(&mut commit, user, &[&row.device_id]).await?;
            }
            let key = (user.to_owned(), device.to_owned());
            if !is_same && self.log.db().row(&DEVICES, &key).await?.is_some() {
                return Err(DeviceError::Invalid("an ordinary device has this id".into()));
            }
            self.refuse_key_ids(user, device).await?;
            let held = self.held_for_new(user, device, is_same).await?;
            let row = Device {
                display_name: new.display_name.clone(),
                created_ms: self.ports.clock.now_ms(),
                ..Device::default()
            };
            commit.put(&DEVICES, &key, &row);
            checked.write(&mut commit, (user, device), held)?;
            let row = DehydratedRow { device_id: device.to_owned(), device_data: new.device_data.clone() };
            commit.put(&DEHYDRATED, &owner, &row);
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    /// What a new dehydrated device finds: the user's self-signing key, and of an older device of the
    /// same id the counts, which the commit expects.
    async fn held_for_new(
        &self,
        user: &UserId,
        device: &DeviceId,
        is_same: bool,
    ) -> Result<Held, DeviceError> {
        let counts = match is_same {
            true => {
                self.log.db().row(&super::rows::KEY_COUNTS, &(user.to_owned(), device.to_owned())).await?
            }
            false => None,
        };
        Ok(Held::of_new_device(counts, self.cross_signing_keys(user).await?.self_signing))
    }

    /// The dehydrated device of `user`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn dehydrated(&self, user: &UserId) -> Result<Dehydrated, DeviceError> {
        let row = self.log.db().row(&DEHYDRATED, &(user.to_owned(),)).await?;
        let DehydratedRow { device_id, device_data } =
            row.ok_or(DeviceError::NotFound("dehydrated device"))?;
        Ok(Dehydrated { device_id, device_data })
    }

    /// Removes the dehydrated device of `user` and gives its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_dehydrated(&self, user: &UserId) -> Result<OwnedDeviceId, DeviceError> {
        let device = self.dehydrated(user).await?.device_id;
        self.remove(user, std::slice::from_ref(&device)).await?;
        Ok(device)
    }

    /// Some of the messages that wait for the dehydrated device, after those that `next_batch` of an
    /// earlier answer stands for. Nothing is deleted: a rehydration that breaks off can be repeated.
    ///
    /// # Errors
    /// When `device` is not the dehydrated device or the token is not ours.
    pub async fn dehydrated_events(
        &self,
        user: &OwnedUserId,
        device: &DeviceId,
        next_batch: Option<&str>,
    ) -> Result<(Vec<Value>, String), DeviceError> {
        let stored = self.log.db().row(&DEHYDRATED, &(user.clone(),)).await?;
        if stored.is_none_or(|row| row.device_id != device) {
            return Err(DeviceError::Forbidden("not the dehydrated device"));
        }
        let from = match next_batch {
            Some(token) => match token.strip_prefix('d').and_then(|digits| digits.parse().ok()) {
                Some(position) => Position(position),
                None => return Err(DeviceError::Invalid("next_batch is not one of ours".into())),
            },
            None => Position::ZERO,
        };
        let inbox = Lane::Inbox(user.clone(), device.to_owned());
        let facts = self.log.queued(&inbox, from, TO_DEVICE_PAGE_MAX).await?;
        let last = facts.last().map_or(from, |(position, _)| *position);
        let events = facts.into_iter().filter_map(|(_, fact)| render(fact)).collect();
        Ok((events, format!("d{last}")))
    }
}

fn render(fact: Fact) -> Option<Value> {
    let Fact::ToDevice { sender, event_type, content } = fact else { return None };
    let content: Value = serde_json::from_str(&content).ok()?;
    Some(json!({ "sender": sender, "type": event_type, "content": content }))
}
