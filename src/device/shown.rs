//! What of the keys of local users everybody may see, ready to be sent.
//!
//! It is kept in memory with the position at which the user's devices last changed. Whatever others see of
//! them changes only together with that position, so what is kept is good as long as that is the same.

use std::{collections::BTreeMap, sync::Arc};

use quick_cache::{Weighter, sync::Cache};
use ruma::{
    CanonicalJsonObject, OwnedDeviceId, OwnedUserId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{
    DeviceError, Devices,
    object::{add_signature, only_key, to_raw},
    rows::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNATURES},
};
use crate::{
    account::DEVICES,
    limits::{DEVICES_MAX, SHOWN_KEYS_BYTES},
    store::{Key, Row, Scan, StoreError},
    types::{Lane, Position, RegisterKey},
};

/// The keys of one user with the signatures that they made themselves.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// When the user's devices last changed.
    at: Option<Position>,
    pub(super) devices: BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>,
    pub(super) master: Option<Raw<CrossSigningKey>>,
    pub(super) self_signing: Option<Raw<CrossSigningKey>>,
    /// For the user alone.
    pub(super) user_signing: Option<Raw<CrossSigningKey>>,
}

/// What a user costs beside the keys, about.
const OVERHEAD_BYTES: usize = 300;
/// A guess of how many users fit; it only sizes bookkeeping.
const USERS: usize = 4_096;

#[derive(Clone)]
struct Weight;

impl Weighter<OwnedUserId, Arc<Shown>> for Weight {
    fn weight(&self, user: &OwnedUserId, shown: &Arc<Shown>) -> u64 {
        let devices = shown.devices.values().map(|keys| keys.json().get().len() + OVERHEAD_BYTES);
        let crossed = [&shown.master, &shown.self_signing, &shown.user_signing];
        let crossed = crossed.into_iter().flatten().map(|key| key.json().get().len());
        (user.as_str().len() + OVERHEAD_BYTES + devices.chain(crossed).sum::<usize>()) as u64
    }
}

/// What is kept in memory.
pub(super) struct ShownKeys(Cache<OwnedUserId, Arc<Shown>, Weight>);

impl Default for ShownKeys {
    fn default() -> Self {
        Self(Cache::with_weighter(USERS, SHOWN_KEYS_BYTES, Weight))
    }
}

/// Signatures that somebody may see, by what is signed.
pub(super) type Visible = BTreeMap<String, Vec<(OwnedUserId, String, String)>>;

/// Scans for each user that has to be read.
const SCANS: usize = 4;

impl Devices {
    /// The keys of local users, in the order of `users`.
    pub(super) async fn shown(&self, users: &[&OwnedUserId]) -> Result<Vec<Arc<Shown>>, DeviceError> {
        let registers: Vec<RegisterKey> = users.iter().map(|user| RegisterKey::devices(user)).collect();
        // Read first: what changes from here on has a later position, and is read again the next time.
        let places = self.log.written(&Lane::People, &registers).await?;
        let known = users.iter().zip(&places).map(|(user, at)| {
            let shown = self.shown.0.get(*user);
            shown.filter(|shown| shown.at == *at)
        });
        let known: Vec<Option<Arc<Shown>>> = known.collect();
        let missing = users.iter().zip(&known).filter(|(_, known)| known.is_none());
        let scans: Vec<Scan> = missing.flat_map(|(user, _)| scans(user)).collect();
        let mut found = match scans.is_empty() {
            true => Vec::new(),
            false => self.log.db().scan_many(&scans).await?,
        }
        .into_iter();
        let mut all = Vec::with_capacity(users.len());
        for ((user, known), at) in users.iter().zip(known).zip(places) {
            all.push(match known {
                Some(shown) => shown,
                None => {
                    let rows: Vec<Vec<Row>> = found.by_ref().take(SCANS).collect();
                    let shown = Arc::new(Shown::read(at, rows)?);
                    self.shown.0.insert((*user).clone(), shown.clone());
                    shown
                }
            });
        }
        Ok(all)
    }
}

impl Shown {
    /// From the rows of [`scans`].
    fn read(at: Option<Position>, rows: Vec<Vec<Row>>) -> Result<Self, DeviceError> {
        let mut rows = rows.into_iter();
        let mut next = || rows.next().unwrap_or_default();
        let (keys, names, crossed, signatures) = (next(), next(), next(), next());
        let visible = read_signatures(signatures)?;
        let names = read_names(names)?;
        let mut shown = Self { at, ..Self::default() };
        for (key, value) in keys {
            let (_, device) = DEVICE_KEYS.decode_key(&key)?;
            let mut object = DEVICE_KEYS.decode(&value)?;
            sign(&mut object, &visible, device.as_str());
            if let Some(name) = names.get(&device) {
                let unsigned =
                    CanonicalJsonObject::from([("device_display_name".into(), name.clone().into())]);
                object.insert("unsigned".into(), unsigned.into());
            }
            shown.devices.insert(device, to_raw(&object)?);
        }
        for (key, value) in crossed {
            let (_, usage) = CROSS_SIGNING_KEYS.decode_key(&key)?;
            let mut object = CROSS_SIGNING_KEYS.decode(&value)?;
            sign_only_key(&mut object, &visible);
            let place = match usage.as_str() {
                "master" => &mut shown.master,
                "self_signing" => &mut shown.self_signing,
                "user_signing" => &mut shown.user_signing,
                _ => continue,
            };
            *place = Some(to_raw(&object)?);
        }
        Ok(shown)
    }
}

/// What is read of one user, in the order in which it is taken apart.
fn scans(user: &OwnedUserId) -> [Scan; SCANS] {
    let owner = (user.clone(),);
    [
        scan(DEVICE_KEYS.prefix(&owner)),
        scan(DEVICES.prefix(&owner)),
        scan(CROSS_SIGNING_KEYS.prefix(&owner)),
        signatures_of(user, user),
    ]
}

fn scan(from: Key) -> Scan {
    Scan { to: from.after_prefix(), from, reverse: false, limit: DEVICES_MAX }
}

/// What `signer` has signed of the keys of `user`.
pub(super) fn signatures_of(user: &UserId, signer: &UserId) -> Scan {
    scan(SIGNATURES.prefix(&(user.to_owned(), signer.to_owned())))
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

/// The rows of [`signatures_of`].
pub(super) fn read_signatures(rows: Vec<Row>) -> Result<Visible, StoreError> {
    let mut visible = Visible::new();
    for (key, value) in rows {
        let (_, signer, target, key_id) = SIGNATURES.decode_key(&key)?;
        visible.entry(target).or_default().push((signer, key_id, SIGNATURES.decode(&value)?));
    }
    Ok(visible)
}

fn sign(object: &mut CanonicalJsonObject, visible: &Visible, target: &str) {
    for (signer, key_id, signature) in visible.get(target).into_iter().flatten() {
        add_signature(object, signer, key_id, signature);
    }
}

/// Adds the signatures on a cross-signing key.
pub(super) fn sign_only_key(object: &mut CanonicalJsonObject, visible: &Visible) {
    if let Some(public) = only_key(object).map(|(_, public)| public.to_owned()) {
        sign(object, visible, &public);
    }
}
