//! Publishing device keys, one-time keys and fallback keys.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, DeviceId, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, UserId,
    encryption::{DeviceKeys, OneTimeKey},
    serde::Raw,
};

use super::{
    Attempt, DeviceError, Devices,
    object::{is_signed, only_key, parse_device_keys, parse_one_time_key},
    rows::{
        CROSS_SIGNING_KEYS, DEVICE_KEYS, FALLBACK_KEYS, FallbackKeyRow, KEY_COUNTS, KeyCounts,
        ONE_TIME_KEY_IDS, ONE_TIME_KEYS, OneTimeKeyRow, SIGNATURES,
    },
};
use crate::{
    account::{ListChange, tell_people},
    limits::{DEVICE_ATTEMPTS_MAX, ID_BYTES_MAX, KEY_ALGORITHMS_MAX, ONE_TIME_KEYS_MAX, SCAN_ROWS_MAX},
    log::Commit,
    store::StoreError,
};

/// The algorithm whose count clients always want to know, even if it is zero.
const USUAL_ALGORITHM: &str = "signed_curve25519";

/// What a device publishes.
#[derive(Clone, Debug, Default)]
pub struct KeyUpload {
    /// Its identity keys, if they are new.
    pub device_keys: Option<Raw<DeviceKeys>>,
    /// Keys that are given out once each.
    pub one_time_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
    /// Keys that are given out when no one-time key is left, one for each algorithm.
    pub fallback_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

/// A checked one-time or fallback key.
struct NamedKey {
    algorithm: String,
    key_id: String,
    key: CanonicalJsonValue,
}

/// An upload whose shape and signatures are right.
pub(super) struct CheckedUpload {
    device_keys: Option<(CanonicalJsonObject, Vec<(String, String)>)>,
    one_time: Vec<NamedKey>,
    fallback: Vec<NamedKey>,
}

/// What the store holds of what an upload touches.
#[derive(Default)]
pub(super) struct Held {
    counts: Option<KeyCounts>,
    /// Whether the counts are those of an older device of the same id.
    is_fresh: bool,
    device_keys: Option<CanonicalJsonObject>,
    /// By key id.
    one_time: BTreeMap<String, CanonicalJsonValue>,
    /// By algorithm, all that the device has when it uploads one.
    fallback: BTreeMap<String, FallbackKeyRow>,
    self_signing: Option<CanonicalJsonObject>,
    self_signature: Option<String>,
}

impl Held {
    /// What a device finds that is written in the same commit as its keys.
    pub(super) fn of_new_device(
        counts: Option<KeyCounts>,
        self_signing: Option<CanonicalJsonObject>,
    ) -> Self {
        Self { counts, is_fresh: true, self_signing, ..Self::default() }
    }
}

impl CheckedUpload {
    /// Checks what `device` wants to publish.
    pub(super) fn new(user: &UserId, device: &DeviceId, upload: &KeyUpload) -> Result<Self, DeviceError> {
        let device_keys =
            upload.device_keys.as_ref().map(|keys| parse_device_keys(user, device, keys)).transpose()?;
        let fallback = named_keys(&upload.fallback_keys)?;
        if fallback.windows(2).any(|pair| pair[0].algorithm == pair[1].algorithm) {
            return Err(DeviceError::Invalid("more than one fallback key for an algorithm".into()));
        }
        Ok(Self { device_keys, one_time: named_keys(&upload.one_time_keys)?, fallback })
    }
}

fn named_keys(keys: &BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>) -> Result<Vec<NamedKey>, DeviceError> {
    let named = |(id, raw): (&OwnedOneTimeKeyId, &Raw<OneTimeKey>)| {
        if id.as_str().len() > ID_BYTES_MAX {
            return Err(DeviceError::Invalid("a key id is too long".into()));
        }
        let algorithm = id.as_str().split(':').next().unwrap_or_default().to_owned();
        Ok(NamedKey { algorithm, key_id: id.to_string(), key: parse_one_time_key(raw)? })
    };
    keys.iter().map(named).collect()
}

impl Devices {
    /// Publishes keys of `device` and gives the one-time keys that it has now.
    ///
    /// # Errors
    /// When the keys are malformed, not the device's own, not signed by it, or clash with a one-time
    /// key of the same id that is still there.
    pub async fn upload_keys(
        &self,
        user: &UserId,
        device: &DeviceId,
        upload: &KeyUpload,
    ) -> Result<KeyCounts, DeviceError> {
        let checked = CheckedUpload::new(user, device, upload)?;
        let _turn = self.turns.take([(user, device)]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let held = self.held(user, device, &checked).await?;
            let mut commit = Commit::new();
            self.expect_device(&mut commit, user, device).await?;
            let counts = checked.write(&mut commit, (user, device), held)?;
            match self.attempt(commit).await? {
                Attempt::Done => return Ok(counts.told()),
                Attempt::Again => {}
            }
        }
        Err(DeviceError::Contended)
    }

    /// The stock of keys of a device, as `/sync` tells it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn key_counts(&self, user: &UserId, device: &DeviceId) -> Result<KeyCounts, StoreError> {
        let key = (user.to_owned(), device.to_owned());
        Ok(self.log.db().row(&KEY_COUNTS, &key).await?.unwrap_or_default().told())
    }

    async fn held(
        &self,
        user: &UserId,
        device: &DeviceId,
        upload: &CheckedUpload,
    ) -> Result<Held, DeviceError> {
        let db = self.log.db();
        let owner = (user.to_owned(), device.to_owned());
        let counts = db.row(&KEY_COUNTS, &owner).await?;
        let mut held = Held { counts, ..Held::default() };
        if upload.device_keys.is_some() {
            held.device_keys = db.row(&DEVICE_KEYS, &owner).await?;
            held.self_signing =
                db.row(&CROSS_SIGNING_KEYS, &(user.to_owned(), "self_signing".into())).await?;
            if let Some((id, _)) = held.self_signing.as_ref().and_then(only_key) {
                let key = (user.to_owned(), user.to_owned(), device.to_string(), id.to_owned());
                held.self_signature = db.row(&SIGNATURES, &key).await?;
            }
        }
        let (user, device) = owner;
        let id_keys: Vec<_> =
            upload.one_time.iter().map(|key| (user.clone(), device.clone(), key.key_id.clone())).collect();
        let places = db.rows(&ONE_TIME_KEY_IDS, &id_keys).await?;
        let known: Vec<_> = upload
            .one_time
            .iter()
            .zip(places)
            .filter_map(|(key, place)| Some((user.clone(), device.clone(), key.algorithm.clone(), place?)))
            .collect();
        let rows = db.rows(&ONE_TIME_KEYS, &known).await?;
        held.one_time = rows.into_iter().flatten().map(|row| (row.key_id, row.key)).collect();
        if !upload.fallback.is_empty() {
            // There may be more from before there was a limit.
            let rows = db.range(&FALLBACK_KEYS, &(user, device), SCAN_ROWS_MAX).await?;
            held.fallback = rows.into_iter().map(|((.., algorithm), row)| (algorithm, row)).collect();
        }
        Ok(held)
    }
}

impl CheckedUpload {
    /// Writes the keys of `(user, device)` and gives the counts that they lead to.
    pub(super) fn write(
        &self,
        commit: &mut Commit,
        (user, device): (&UserId, &DeviceId),
        mut held: Held,
    ) -> Result<KeyCounts, DeviceError> {
        let owner = (user.to_owned(), device.to_owned());
        match &held.counts {
            Some(counts) => commit.expect_equals(&KEY_COUNTS, &owner, counts),
            None => commit.expect_absent(&KEY_COUNTS, &owner),
        }
        let before = held.counts.clone();
        let is_news = self.write_device_keys(commit, &owner, &mut held);
        let mut counts = held.counts.take().unwrap_or_default();
        if held.is_fresh {
            counts = KeyCounts { next: counts.next, ..KeyCounts::default() };
        }
        if !self.one_time.is_empty() {
            counts.one_time.retain(|_, count| *count > 0);
        }
        for named in &self.one_time {
            match held.one_time.get(&named.key_id) {
                Some(known) if *known == named.key => continue,
                Some(_) => {
                    let text = format!("the one-time key {} exists with another value", named.key_id);
                    return Err(DeviceError::Invalid(text));
                }
                None => write_one_time_key(commit, &owner, named, &mut counts)?,
            }
        }
        for named in &self.fallback {
            let known = held.fallback.get(&named.algorithm);
            if known.is_some_and(|row| row.key_id == named.key_id && row.key == named.key) {
                continue;
            }
            if known.is_none() && held.fallback.len() >= KEY_ALGORITHMS_MAX {
                return Err(DeviceError::Invalid("the device has keys of too many algorithms".into()));
            }
            let row = FallbackKeyRow { key_id: named.key_id.clone(), key: named.key.clone(), used: false };
            commit.put(&FALLBACK_KEYS, &(owner.0.clone(), owner.1.clone(), named.algorithm.clone()), &row);
            held.fallback.insert(named.algorithm.clone(), row);
            counts.unused_fallback.insert(named.algorithm.clone());
        }
        if before.as_ref() != Some(&counts) || held.is_fresh {
            commit.put(&KEY_COUNTS, &owner, &counts);
            Devices::tell_counts(commit, user, device);
        }
        if is_news {
            tell_people(commit, user, [ListChange::Device(device)]);
        }
        Ok(counts)
    }

    /// Writes the device keys if they are new, and says whether anybody sees a difference.
    fn write_device_keys(
        &self,
        commit: &mut Commit,
        owner: &(OwnedUserId, OwnedDeviceId),
        held: &mut Held,
    ) -> bool {
        let Some((object, others)) = &self.device_keys else { return false };
        let is_new = held.device_keys.as_ref() != Some(object);
        let is_other = held.device_keys.as_ref().is_some_and(|old| old.get("keys") != object.get("keys"));
        if is_other {
            // Another identity: what belonged to the old one cannot be used with the new one.
            drop_one_time_keys(commit, owner);
            drop_signatures_on(commit, &owner.0, owner.1.as_str());
            held.one_time.clear();
            held.fallback.clear();
            held.self_signature = None;
            held.is_fresh = true;
        }
        if is_new {
            commit.put(&DEVICE_KEYS, owner, object);
        }
        let Some((id, public)) = held.self_signing.as_ref().and_then(only_key) else { return is_new };
        // A device may come with the signature of its user, as dehydrated ones do.
        let signature = others.iter().find(|(by, text)| by == id && is_signed(object, text, public));
        match signature {
            Some((id, text)) if held.self_signature.as_ref() != Some(text) => {
                let key = (owner.0.clone(), owner.0.clone(), owner.1.to_string(), id.clone());
                commit.put(&SIGNATURES, &key, text);
                true
            }
            _ => is_new,
        }
    }
}

fn write_one_time_key(
    commit: &mut Commit,
    (user, device): &(OwnedUserId, OwnedDeviceId),
    named: &NamedKey,
    counts: &mut KeyCounts,
) -> Result<(), DeviceError> {
    if counts.one_time.len() >= KEY_ALGORITHMS_MAX && !counts.one_time.contains_key(&named.algorithm) {
        return Err(DeviceError::Invalid("the device has keys of too many algorithms".into()));
    }
    let count = counts.one_time.entry(named.algorithm.clone()).or_default();
    if *count >= ONE_TIME_KEYS_MAX {
        return Err(DeviceError::Invalid("the device has too many one-time keys".into()));
    }
    *count += 1;
    let place = counts.next;
    counts.next += 1;
    let row = OneTimeKeyRow { key_id: named.key_id.clone(), key: named.key.clone() };
    commit.put(&ONE_TIME_KEYS, &(user.clone(), device.clone(), named.algorithm.clone(), place), &row);
    commit.put(&ONE_TIME_KEY_IDS, &(user.clone(), device.clone(), named.key_id.clone()), &place);
    Ok(())
}

/// Removes all one-time and fallback keys of a device, but not their counts.
pub(super) fn drop_one_time_keys(commit: &mut Commit, owner: &(OwnedUserId, OwnedDeviceId)) {
    commit.delete_prefix(&ONE_TIME_KEYS, owner);
    commit.delete_prefix(&ONE_TIME_KEY_IDS, owner);
    commit.delete_prefix(&FALLBACK_KEYS, owner);
}

/// Removes what the user's own keys signed of the device or key `target`.
pub(super) fn drop_signatures_on(commit: &mut Commit, user: &UserId, target: &str) {
    commit.delete_prefix(&SIGNATURES, &(user.to_owned(), user.to_owned(), target.to_owned()));
}

impl KeyCounts {
    /// With the algorithm that clients always want to know about.
    fn told(mut self) -> Self {
        self.one_time.entry(USUAL_ALGORITHM.into()).or_default();
        self
    }
}
