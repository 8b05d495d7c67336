//! Looking up device keys and cross-signing keys.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{
    DeviceError, Devices,
    object::{add_signature, only_key, parse, to_raw},
    rows::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNATURES},
};
use crate::{
    account::DEVICES,
    limits::DEVICES_MAX,
    store::{Key, Row, Scan, StoreError},
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

/// Signatures that the viewer may see, by what is signed.
type Visible = BTreeMap<String, Vec<(OwnedUserId, String, String)>>;

impl Devices {
    /// The keys of the users of `wanted` (all their devices, unless some are named) as `viewer` may see
    /// them: with the signatures by their own keys and by the viewer's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn query_keys(
        &self,
        viewer: Option<&UserId>,
        wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys, DeviceError> {
        let mut queried = QueriedKeys::default();
        let (local, remote): (Vec<_>, Vec<_>) = wanted.iter().partition(|(user, _)| self.is_local(user));
        queried.unreachable = remote.iter().map(|(user, _)| user.server_name().to_owned()).collect();
        let scans: Vec<Scan> = local.iter().flat_map(|(user, _)| scans(viewer, user)).collect();
        let mut found = self.log.db().scan_many(&scans).await?.into_iter();
        let mut next = || found.next().unwrap_or_default();
        for (user, devices) in local {
            let (keys, names, crossed) = (next(), next(), next());
            let mut visible = Visible::new();
            read_signatures(&mut visible, next())?;
            if viewer.is_some_and(|viewer| viewer != user) {
                read_signatures(&mut visible, next())?;
            }
            let names = read_names(names)?;
            let mut of_user = BTreeMap::new();
            for (key, value) in keys {
                let (_, device) = DEVICE_KEYS.decode_key(&key)?;
                if !devices.is_empty() && !devices.contains(&device) {
                    continue;
                }
                let mut object = DEVICE_KEYS.decode(&value)?;
                sign(&mut object, &visible, device.as_str());
                if let Some(name) = names.get(&device) {
                    let unsigned =
                        CanonicalJsonObject::from([("device_display_name".into(), name.clone().into())]);
                    object.insert("unsigned".into(), unsigned.into());
                }
                of_user.insert(device, to_raw(&object)?);
            }
            queried.device_keys.insert(user.clone(), of_user);
            let is_self = viewer == Some(&**user);
            queried.add_cross_signing(user, crossed, &visible, is_self)?;
        }
        Ok(queried)
    }
}

impl Devices {
    /// Adds to the master keys of users of other servers what `viewer` has signed them with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_others(&self, viewer: &UserId, found: &mut QueriedKeys) -> Result<(), DeviceError> {
        let others: Vec<_> = found.master_keys.iter_mut().filter(|(user, _)| !self.is_local(user)).collect();
        let scans: Vec<Scan> = others.iter().map(|(user, _)| signatures_of(user, viewer)).collect();
        let rows = self.log.db().scan_many(&scans).await?;
        for ((_, raw), rows) in others.into_iter().zip(rows) {
            let mut visible = Visible::new();
            read_signatures(&mut visible, rows)?;
            let Ok(mut object) = parse(raw.json()) else { continue };
            let Some(public) = only_key(&object).map(|(_, public)| public.to_owned()) else { continue };
            sign(&mut object, &visible, &public);
            *raw = to_raw(&object)?;
        }
        Ok(())
    }
}

impl QueriedKeys {
    fn add_cross_signing(
        &mut self,
        user: &OwnedUserId,
        rows: Vec<Row>,
        visible: &Visible,
        is_self: bool,
    ) -> Result<(), DeviceError> {
        for (key, value) in rows {
            let (_, usage) = CROSS_SIGNING_KEYS.decode_key(&key)?;
            let mut object = CROSS_SIGNING_KEYS.decode(&value)?;
            if let Some((_, public)) = only_key(&object) {
                let public = public.to_owned();
                sign(&mut object, visible, &public);
            }
            let place = match usage.as_str() {
                "master" => &mut self.master_keys,
                "self_signing" => &mut self.self_signing_keys,
                "user_signing" if is_self => &mut self.user_signing_keys,
                _ => continue,
            };
            place.insert(user.clone(), to_raw(&object)?);
        }
        Ok(())
    }
}

fn scan(from: Key) -> Scan {
    Scan { to: from.after_prefix(), from, reverse: false, limit: DEVICES_MAX }
}

/// What `signer` has signed of the keys of `user`.
fn signatures_of(user: &UserId, signer: &UserId) -> Scan {
    scan(SIGNATURES.prefix(&(user.to_owned(), signer.to_owned())))
}

/// What is read of one user, in the order in which it is taken apart.
fn scans(viewer: Option<&UserId>, user: &OwnedUserId) -> Vec<Scan> {
    let owner = (user.clone(),);
    let mut scans = vec![
        scan(DEVICE_KEYS.prefix(&owner)),
        scan(DEVICES.prefix(&owner)),
        scan(CROSS_SIGNING_KEYS.prefix(&owner)),
        signatures_of(user, user),
    ];
    if let Some(viewer) = viewer.filter(|viewer| *viewer != user) {
        scans.push(signatures_of(user, viewer));
    }
    scans
}

fn read_names(rows: Vec<Row>) -> Result<BTreeMap<OwnedDeviceId, String>, StoreError> {
    let mut names = BTreeMap::new();
    for (key, value) in rows {
        if let Some(name) = DEVICES.decode(&value)?.display_name {
            names.insert(DEVICES.decode_key(&key)?.1, name);
        }
    }
    Ok(names)
}

fn read_signatures(visible: &mut Visible, rows: Vec<Row>) -> Result<(), StoreError> {
    for (key, value) in rows {
        let (_, signer, target, key_id) = SIGNATURES.decode_key(&key)?;
        visible.entry(target).or_default().push((signer, key_id, SIGNATURES.decode(&value)?));
    }
    Ok(())
}

fn sign(object: &mut CanonicalJsonObject, visible: &Visible, target: &str) {
    for (signer, key_id, signature) in visible.get(target).into_iter().flatten() {
        add_signature(object, signer, key_id, signature);
    }
}
