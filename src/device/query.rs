//! Looking up device keys and cross-signing keys.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{
    DeviceError, Devices,
    claim::check_asked,
    object::{parse, to_raw},
    shown::{read_signatures, sign_only_key, signatures_of},
};
use crate::{
    limits::KEYS_READ_AT_ONCE,
    store::Scan,
    types::{Fact, Lane, RegisterKey},
};

/// What a look-up came to.
#[derive(Clone, Debug, Default)]
pub struct QueriedKeys {
    /// Device keys; a local user without any has an empty map.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
    /// Master keys.
    pub master_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// Self-signing keys.
    pub self_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// The user-signing key of the viewer alone.
    pub user_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// Servers of users that are not ours; they were not asked.
    pub unreachable: BTreeSet<OwnedServerName>,
}

impl Devices {
    /// The keys of the users of `wanted` (all their devices, unless some are named) as `viewer` may see
    /// them: with the signatures by their own keys and by the viewer's.
    ///
    /// # Errors
    /// When too many users and devices are named, or the store fails.
    pub async fn query_keys(
        &self,
        viewer: Option<&UserId>,
        wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys, DeviceError> {
        check_asked(wanted.values().map(Vec::len))?;
        let mut queried = QueriedKeys::default();
        let (local, remote): (Vec<_>, Vec<_>) = wanted.iter().partition(|(user, _)| self.is_local(user));
        queried.unreachable = remote.iter().map(|(user, _)| user.server_name().to_owned()).collect();
        for some in local.chunks(KEYS_READ_AT_ONCE) {
            self.read_some(viewer, some, &mut queried).await?;
        }
        if let Some(viewer) = viewer {
            self.sign_for(viewer, &mut queried, true).await?;
        }
        Ok(queried)
    }

    /// Adds the keys of some local users.
    async fn read_some(
        &self,
        viewer: Option<&UserId>,
        wanted: &[(&OwnedUserId, &Vec<OwnedDeviceId>)],
        queried: &mut QueriedKeys,
    ) -> Result<(), DeviceError> {
        let users: Vec<&OwnedUserId> = wanted.iter().map(|(user, _)| *user).collect();
        for (shown, (user, devices)) in self.shown(&users).await?.into_iter().zip(wanted) {
            let devices: BTreeSet<&OwnedDeviceId> = devices.iter().collect();
            let is_wanted = |device: &OwnedDeviceId| devices.is_empty() || devices.contains(device);
            let keys = shown.devices.iter().filter(|(device, _)| is_wanted(device));
            let keys = keys.map(|(device, keys)| (device.clone(), keys.clone())).collect();
            queried.device_keys.insert((*user).clone(), keys);
            let put = |place: &mut BTreeMap<_, _>, key: &Option<Raw<CrossSigningKey>>| {
                place.extend(key.iter().map(|key| ((*user).clone(), key.clone())));
            };
            put(&mut queried.master_keys, &shown.master);
            put(&mut queried.self_signing_keys, &shown.self_signing);
            if viewer == Some(&***user) {
                put(&mut queried.user_signing_keys, &shown.user_signing);
            }
        }
        Ok(())
    }

    /// Adds to the master keys of users of other servers what `viewer` has signed them with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_others(&self, viewer: &UserId, found: &mut QueriedKeys) -> Result<(), DeviceError> {
        self.sign_for(viewer, found, false).await
    }

    /// Adds the same to those of users of this server that were found elsewhere.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_bridged(&self, viewer: &UserId, found: &mut QueriedKeys) -> Result<(), DeviceError> {
        self.sign_for(viewer, found, true).await
    }

    /// Adds to the master keys of others, of this server or not, what `viewer` has signed them with.
    async fn sign_for(
        &self,
        viewer: &UserId,
        found: &mut QueriedKeys,
        local: bool,
    ) -> Result<(), DeviceError> {
        let others = found.master_keys.iter_mut();
        let others = others.filter(|(user, _)| self.is_local(user) == local && **user != viewer);
        let mut others: Vec<_> = others.collect();
        if others.is_empty() {
            return Ok(());
        }
        let verified = self.verified_by(viewer).await?;
        others.retain(|(user, _)| verified.contains(*user));
        let scans: Vec<Scan> = others.iter().map(|(user, _)| signatures_of(user, viewer)).collect();
        let rows = self.log.db().scan_many(&scans).await?;
        for ((_, raw), rows) in others.into_iter().zip(rows) {
            let visible = read_signatures(rows)?;
            let Ok(mut object) = parse(raw.json()) else { continue };
            sign_only_key(&mut object, &visible);
            *raw = to_raw(&object)?;
        }
        Ok(())
    }

    /// Whose keys `viewer` has ever signed, beside the own ones.
    async fn verified_by(&self, viewer: &UserId) -> Result<BTreeSet<OwnedUserId>, DeviceError> {
        let lane = Lane::Account(viewer.to_owned());
        let found = self.log.registers_with(&[(lane, RegisterKey::all_devices())]).await?;
        let user = |fact| match fact {
            Fact::Devices { user_id } => Some(user_id),
            _ => None,
        };
        Ok(found.into_iter().flatten().filter_map(|(_, fact)| user(fact)).collect())
    }
}
