//! What other servers are told of a user's devices.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{DeviceError, Devices};
use crate::{
    account::{DEVICE_CHANGES, DEVICES, read_change},
    limits::{DEVICE_CHANGES_READ_MAX, DEVICES_MAX},
    store::{Scan, StoreError},
    types::Position,
};

/// What changed of one user's devices within an interval of the log.
#[derive(Clone, Debug, Default)]
pub struct ListUpdates {
    /// The devices, in the order in which they last changed.
    pub devices: Vec<DeviceUpdate>,
    /// The cross-signing keys that others see, if one or a signature on it changed.
    pub cross_signing: Option<PublicCrossSigning>,
    /// When more changed than is told one by one: the last change that is left out, all of which are earlier. Whoever is
    /// told that there was one has to ask for all devices.
    pub left_out: Option<Position>,
}

impl ListUpdates {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.cross_signing.is_none()
    }
}

/// The cross-signing keys of a user that others see.
#[derive(Clone, Debug, Default)]
pub struct PublicCrossSigning {
    /// The master key.
    pub master: Option<Raw<CrossSigningKey>>,
    /// The self-signing key.
    pub self_signing: Option<Raw<CrossSigningKey>>,
}

/// One device as it is now.
#[derive(Clone, Debug)]
pub struct DeviceUpdate {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it last changed.
    pub at: Position,
    /// Whether it is gone.
    pub is_gone: bool,
    /// Its name, if it has one.
    pub display_name: Option<String>,
    /// Its keys, if it has uploaded any.
    pub keys: Option<Raw<DeviceKeys>>,
}

/// The changes of one user's devices, and whether each is gone, in the order of their positions.
#[derive(Default)]
struct Changed {
    devices: BTreeSet<(Position, OwnedDeviceId, bool)>,
    has_crossed: bool,
    left_out: Option<Position>,
}

impl Changed {
    /// Adds one; when there are too many, the earliest goes.
    fn add(&mut self, change: (Position, OwnedDeviceId, bool)) {
        self.devices.insert(change);
        if self.devices.len() > DEVICE_CHANGES_READ_MAX
            && let Some((at, ..)) = self.devices.pop_first()
        {
            self.left_out = self.left_out.max(Some(at));
        }
    }
}

impl Devices {
    /// What of the local user's devices changed within `(from, to]`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_updates(
        &self,
        user: &UserId,
        (from, to): (Position, Position),
    ) -> Result<ListUpdates, DeviceError> {
        let owner = user.to_owned();
        let Changed { devices: changed, has_crossed, left_out } = self.changed(&owner, (from, to)).await?;
        let wanted: Vec<OwnedDeviceId> = changed.iter().map(|(_, device, _)| device.clone()).collect();
        let wanted = match wanted.is_empty() && !has_crossed {
            true => return Ok(ListUpdates::default()),
            false => BTreeMap::from([(owner.clone(), wanted)]),
        };
        let mut queried = self.query_keys(None, &wanted).await?;
        let mut keys = queried.device_keys.remove(&owner).unwrap_or_default();
        let names = self.names_of(user).await?;
        let update = |(at, device_id, is_gone): (Position, OwnedDeviceId, bool)| {
            let name = names.get(&device_id);
            // What was signed may be no device; and one that went, is gone whatever the row says.
            (is_gone || name.is_some()).then(|| DeviceUpdate {
                at,
                is_gone: name.is_none(),
                display_name: name.cloned().flatten(),
                keys: keys.remove(&device_id),
                device_id,
            })
        };
        let devices = changed.into_iter().filter_map(update).collect();
        let cross_signing = has_crossed.then(|| PublicCrossSigning {
            master: queried.master_keys.remove(&owner),
            self_signing: queried.self_signing_keys.remove(&owner),
        });
        Ok(ListUpdates { devices, cross_signing, left_out })
    }

    /// What changed within `(from, to]`. Rows are in the order of device ids, and stay when a device is gone: all of them
    /// are read, and the latest changes kept.
    async fn changed(
        &self,
        user: &OwnedUserId,
        (from, to): (Position, Position),
    ) -> Result<Changed, DeviceError> {
        let all = DEVICE_CHANGES.prefix(&(user.clone(),));
        let (mut next, end) = (all.clone(), all.after_prefix());
        let mut changed = Changed::default();
        loop {
            let scan = Scan { from: next, to: end.clone(), reverse: false, limit: DEVICE_CHANGES_READ_MAX };
            let rows = self.log.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
            for (key, value) in &rows {
                let (_, device) = DEVICE_CHANGES.decode_key(key)?;
                let (at, is_gone) = read_change(value)?;
                match at > from && at <= to {
                    true if device.as_str().is_empty() => changed.has_crossed = true,
                    true => changed.add((at, device, is_gone)),
                    false => {}
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == DEVICE_CHANGES_READ_MAX => next = last.successor(),
                _ => return Ok(changed),
            }
        }
    }

    /// An update that has a server ask for all devices of the local user, if it needs them: that of the device which
    /// changed last, with the position of the last change up to `to`, or the first. Nothing if there is no device.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn introduction(
        &self,
        user: &UserId,
        to: Position,
    ) -> Result<Option<DeviceUpdate>, DeviceError> {
        let mut changed = self.list_updates(user, (Position::ZERO, to)).await?.devices;
        let before = changed.last().map_or(Position::ZERO, |update| update.at);
        let last = Some(self.last_change(&user.to_owned()).await?).filter(|last| *last <= to);
        let at = last.unwrap_or(before);
        changed.retain(|update| !update.is_gone);
        if let Some(newest) = changed.pop() {
            return Ok(Some(DeviceUpdate { at, ..newest }));
        }
        // A device that came with the account has not changed.
        let Some((device_id, display_name)) = self.names_of(user).await?.pop_first() else { return Ok(None) };
        let wanted = BTreeMap::from([(user.to_owned(), vec![device_id.clone()])]);
        let keys = self.query_keys(None, &wanted).await?.device_keys.remove(user);
        let keys = keys.and_then(|mut keys| keys.remove(&device_id));
        Ok(Some(DeviceUpdate { device_id, at, is_gone: false, display_name, keys }))
    }

    async fn names_of(&self, user: &UserId) -> Result<BTreeMap<OwnedDeviceId, Option<String>>, StoreError> {
        let rows = self.log.db().range(&DEVICES, &(user.to_owned(),), DEVICES_MAX).await?;
        Ok(rows.into_iter().map(|((_, device), row)| (device, row.display_name)).collect())
    }
}
