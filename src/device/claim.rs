//! Giving out one-time keys.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    DeviceId, OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedServerName, OwnedUserId, UserId,
    encryption::OneTimeKey, serde::Raw,
};

use super::{
    Attempt, DeviceError, Devices,
    object::to_raw,
    rows::{FALLBACK_KEYS, KEY_COUNTS, KeyCounts, ONE_TIME_KEY_IDS, ONE_TIME_KEYS, OneTimeKeyRow},
};
use crate::{
    limits::{DEVICE_ATTEMPTS_MAX, KEYS_ASKED_MAX, KEYS_CLAIMED_AT_ONCE},
    log::Commit,
    store::{Scan, StoreError},
};

/// Keys by user and device.
pub type KeysByDevice =
    BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>>>;

/// The keys that a claim came to.
#[derive(Clone, Debug, Default)]
pub struct ClaimedKeys {
    /// One key for each device that had one.
    pub keys: KeysByDevice,
    /// Servers of users that are not ours; their devices were not asked.
    pub unreachable: BTreeSet<OwnedServerName>,
}

/// Which keys are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinds {
    /// One-time keys, and the fallback key where there is none.
    All,
    /// One-time keys alone.
    OneTime,
}

/// One device and the algorithm of the key that is wanted of it.
struct Wanted {
    user: OwnedUserId,
    device: OwnedDeviceId,
    algorithm: String,
}

impl Devices {
    /// Gives out one key of each of `wanted`: the oldest one-time key, or the fallback key. Nobody else
    /// gets the same one-time key.
    ///
    /// # Errors
    /// When too many devices are named, or the store fails before any key is given out.
    pub async fn claim_keys(
        &self,
        wanted: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>,
    ) -> Result<ClaimedKeys, DeviceError> {
        self.claim(wanted, Kinds::All).await
    }

    /// As [`Self::claim_keys`], but no fallback keys: somebody else may have one-time keys of these devices.
    ///
    /// # Errors
    /// As for [`Self::claim_keys`].
    pub async fn claim_one_time_keys(
        &self,
        wanted: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>,
    ) -> Result<ClaimedKeys, DeviceError> {
        self.claim(wanted, Kinds::OneTime).await
    }

    async fn claim(
        &self,
        wanted: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>,
        kinds: Kinds,
    ) -> Result<ClaimedKeys, DeviceError> {
        check_asked(wanted.values().map(BTreeMap::len))?;
        let mut claimed = ClaimedKeys::default();
        let mut local = Vec::new();
        for (user, devices) in wanted {
            if !self.is_local(user) {
                claimed.unreachable.insert(user.server_name().to_owned());
                continue;
            }
            local.extend(devices.iter().map(|(device, algorithm)| Wanted {
                user: user.clone(),
                device: device.clone(),
                algorithm: algorithm.to_string(),
            }));
        }
        let local = self.with_keys(local).await?;
        // Some at a time, so that others have their turn in between.
        for some in local.chunks(KEYS_CLAIMED_AT_ONCE) {
            match self.claim_some(some, kinds).await {
                Ok(keys) => {
                    for (user, devices) in keys {
                        claimed.keys.entry(user).or_default().extend(devices);
                    }
                }
                Err(error) if claimed.keys.is_empty() => return Err(error),
                // Nobody else gets those that are claimed: the rest may be asked for again.
                Err(error) => {
                    tracing::warn!(%error, "not all one-time keys that were asked for are claimed");
                    break;
                }
            }
        }
        Ok(claimed)
    }

    /// Those of `wanted` that have ever had keys; whoever makes up names keeps nobody waiting.
    async fn with_keys(&self, mut wanted: Vec<Wanted>) -> Result<Vec<Wanted>, StoreError> {
        let owners: Vec<_> = wanted.iter().map(|one| (one.user.clone(), one.device.clone())).collect();
        let mut counts = self.log.db().rows(&KEY_COUNTS, &owners).await?.into_iter();
        wanted.retain(|_| counts.next().flatten().is_some());
        Ok(wanted)
    }

    async fn claim_some(&self, wanted: &[Wanted], kinds: Kinds) -> Result<KeysByDevice, DeviceError> {
        let owners = wanted.iter().map(|one| (&*one.user, &*one.device) as (&UserId, &DeviceId));
        let _turns = self.turns.take(owners).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (commit, keys) = self.plan_claim(wanted, kinds).await?;
            if commit.is_empty() {
                return Ok(keys);
            }
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(keys);
            }
        }
        Err(DeviceError::Contended)
    }

    async fn plan_claim(
        &self,
        wanted: &[Wanted],
        kinds: Kinds,
    ) -> Result<(Commit, KeysByDevice), DeviceError> {
        let owners: Vec<_> = wanted.iter().map(|one| (one.user.clone(), one.device.clone())).collect();
        let all_counts = self.log.db().rows(&KEY_COUNTS, &owners).await?;
        let oldest = self.oldest_keys(wanted).await?;
        let mut commit = Commit::new();
        let mut keys = KeysByDevice::new();
        for ((one, counts), oldest) in wanted.iter().zip(all_counts).zip(oldest) {
            let Some(counts) = counts else { continue };
            let found = match oldest {
                Some(oldest) => {
                    take_one_time_key(&mut commit, one, counts, &oldest);
                    Some((oldest.1.key_id, oldest.1.key))
                }
                None if kinds == Kinds::OneTime => None,
                None => self.take_fallback_key(&mut commit, one, counts).await?,
            };
            let Some((key_id, key)) = found else { continue };
            let Ok(key_id) = OwnedOneTimeKeyId::try_from(key_id) else { continue };
            let of_user = keys.entry(one.user.clone()).or_default();
            of_user.entry(one.device.clone()).or_default().insert(key_id, to_raw(&key)?);
        }
        Ok((commit, keys))
    }

    async fn oldest_keys(&self, wanted: &[Wanted]) -> Result<Vec<Option<(u64, OneTimeKeyRow)>>, StoreError> {
        let scans: Vec<Scan> = wanted
            .iter()
            .map(|one| {
                let fields = (one.user.clone(), one.device.clone(), one.algorithm.clone());
                let from = ONE_TIME_KEYS.prefix(&fields);
                Scan { to: from.after_prefix(), from, reverse: false, limit: 1 }
            })
            .collect();
        let found = self.log.db().scan_many(&scans).await?;
        found
            .into_iter()
            .map(|rows| {
                let Some((key, value)) = rows.into_iter().next() else { return Ok(None) };
                let (.., place) = ONE_TIME_KEYS.decode_key(&key)?;
                Ok(Some((place, ONE_TIME_KEYS.decode(&value)?)))
            })
            .collect()
    }

    async fn take_fallback_key(
        &self,
        commit: &mut Commit,
        one: &Wanted,
        mut counts: KeyCounts,
    ) -> Result<Option<(String, ruma::CanonicalJsonValue)>, DeviceError> {
        let key = (one.user.clone(), one.device.clone(), one.algorithm.clone());
        let Some(mut row) = self.log.db().row(&FALLBACK_KEYS, &key).await? else { return Ok(None) };
        if !row.used {
            let owner = (one.user.clone(), one.device.clone());
            commit.expect_equals(&KEY_COUNTS, &owner, &counts);
            counts.unused_fallback.remove(&one.algorithm);
            commit.put(&KEY_COUNTS, &owner, &counts);
            row.used = true;
            commit.put(&FALLBACK_KEYS, &key, &row);
            Self::tell_counts(commit, &one.user, &one.device);
        }
        Ok(Some((row.key_id, row.key)))
    }
}

/// Refuses a request that names too many users and devices; for each user, how many devices it names.
///
/// # Errors
/// [`DeviceError::TooLarge`].
pub fn check_asked(mut devices: impl Iterator<Item = usize>) -> Result<(), DeviceError> {
    // A user without a device is a name too.
    match devices.try_fold(0, |sum, count| Some(sum + count.max(1)).filter(|sum| *sum <= KEYS_ASKED_MAX)) {
        Some(_) => Ok(()),
        None => Err(DeviceError::TooLarge),
    }
}

fn take_one_time_key(
    commit: &mut Commit,
    one: &Wanted,
    mut counts: KeyCounts,
    (place, row): &(u64, OneTimeKeyRow),
) {
    let (user, device) = (one.user.clone(), one.device.clone());
    let owner = (user.clone(), device.clone());
    let key = (user.clone(), device.clone(), one.algorithm.clone(), *place);
    commit.expect_equals(&KEY_COUNTS, &owner, &counts);
    commit.expect_equals(&ONE_TIME_KEYS, &key, row);
    commit.delete(&ONE_TIME_KEYS, &key);
    commit.delete(&ONE_TIME_KEY_IDS, &(user, device, row.key_id.clone()));
    let count = counts.one_time.entry(one.algorithm.clone()).or_default();
    *count = count.saturating_sub(1);
    commit.put(&KEY_COUNTS, &owner, &counts);
    Devices::tell_counts(commit, &one.user, &one.device);
}
