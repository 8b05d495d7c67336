//! Keys that application services keep of their own users, and that are asked for when somebody wants them.
//!
//! Only those are asked whose registration says so, and only of users that they have for themselves. What they answer is
//! given on as they say it; where they do not answer in time it is as if they had nothing.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3983>
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3984>

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedUserId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde::Deserialize;

use super::{App, Failure};
use crate::{
    appservice::{Appservice, Registration},
    device::{ClaimedKeys, KeysByDevice, QueriedKeys, check_asked},
};

type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;
type Queries = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What an application service answers when device keys are wanted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
    master_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    self_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    user_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
}

/// Gives out keys of local users: those that are here, then those that application services have, then the fallback keys.
///
/// # Errors
/// When too many devices are named, or the store fails.
pub(super) async fn claim(app: &App, wanted: &Claims) -> Result<ClaimedKeys, Failure> {
    let bridged = parts(app, wanted, Registration::gives_keys);
    if bridged.is_empty() {
        return Ok(app.devices.claim_keys(wanted).await?);
    }
    check_asked(wanted.values().map(BTreeMap::len))?;
    let theirs = |user: &UserId| bridged.iter().any(|(_, claims)| claims.contains_key(user));
    let rest = wanted.iter().filter(|(user, _)| !theirs(user));
    let mut claimed = app.devices.claim_keys(&rest.map(cloned).collect()).await?;
    let asking = bridged.iter().map(async |(to, claims)| -> Result<KeysByDevice, Failure> {
        let mut found = app.devices.claim_one_time_keys(claims).await?.keys;
        let missing = missing(claims, &found);
        if !missing.is_empty() {
            let asked: BTreeMap<_, BTreeMap<_, _>> =
                missing.iter().map(|(user, devices)| (user, lists(devices))).collect();
            let answer = app.appservice_client.claim_keys::<KeysByDevice>(to, &asked).await;
            merge(&mut found, fitting(&missing, answer.unwrap_or_default()));
        }
        let fallback = app.devices.claim_keys(&self::missing(claims, &found)).await?.keys;
        merge(&mut found, fallback);
        Ok(found)
    });
    for found in join_all(asking).await {
        merge(&mut claimed.keys, found?);
    }
    Ok(claimed)
}

/// Adds to `found` what application services know of the keys of their users.
///
/// # Errors
/// When the store fails.
pub(super) async fn query(
    app: &App,
    viewer: Option<&UserId>,
    (wanted, found): (&Queries, &mut QueriedKeys),
) -> Result<(), Failure> {
    let bridged = parts(app, wanted, Registration::knows_keys);
    if bridged.is_empty() {
        return Ok(());
    }
    let asking = bridged.iter().map(async |(to, asked)| {
        (asked, app.appservice_client.query_keys::<Known>(to, asked).await.unwrap_or_default())
    });
    for (asked, known) in join_all(asking).await {
        for (user, devices) in known.device_keys {
            let Some(named) = asked.get(&user) else { continue };
            let is_theirs = |device: &OwnedDeviceId, keys: &Raw<DeviceKeys>| {
                let says =
                    keys.deserialize().is_ok_and(|keys| keys.user_id == user && keys.device_id == *device);
                says && (named.is_empty() || named.contains(device))
            };
            let devices =
                devices.into_iter().filter(|(device, keys)| is_theirs(device, keys)).collect::<Vec<_>>();
            found.device_keys.entry(user).or_default().extend(devices);
        }
        let theirs = |keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>| {
            keys.into_iter().filter(|(user, _)| asked.contains_key(user))
        };
        found.master_keys.extend(theirs(known.master_keys));
        found.self_signing_keys.extend(theirs(known.self_signing_keys));
        // Nobody else is shown that one.
        found
            .user_signing_keys
            .extend(theirs(known.user_signing_keys).filter(|(user, _)| viewer == Some(&**user)));
    }
    match viewer {
        Some(viewer) => Ok(app.devices.sign_bridged(viewer, found).await?),
        None => Ok(()),
    }
}

/// What is wanted of the users of each application service that is such.
fn parts<T: Clone>(
    app: &App,
    wanted: &BTreeMap<OwnedUserId, T>,
    is_such: impl Fn(&Registration) -> bool,
) -> Vec<(Arc<Appservice>, BTreeMap<OwnedUserId, T>)> {
    let mut parts: Vec<(Arc<Appservice>, BTreeMap<OwnedUserId, T>)> = Vec::new();
    if app.appservices.is_empty() {
        return parts;
    }
    for (user, what) in wanted.iter().filter(|(user, _)| app.history.is_local(user)) {
        let Some(keeper) = app.appservices.keeper(user, &is_such) else { continue };
        match parts.iter_mut().find(|(known, _)| *known == keeper) {
            Some((_, part)) => drop(part.insert(user.clone(), what.clone())),
            None => parts.push((keeper, BTreeMap::from([(user.clone(), what.clone())]))),
        }
    }
    parts
}

fn cloned<T: Clone>((user, what): (&OwnedUserId, &T)) -> (OwnedUserId, T) {
    (user.clone(), what.clone())
}

/// As many algorithms as keys are wanted of each device: one.
fn lists(
    devices: &BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>,
) -> BTreeMap<&OwnedDeviceId, [&OneTimeKeyAlgorithm; 1]> {
    devices.iter().map(|(device, algorithm)| (device, [algorithm])).collect()
}

/// The devices of `wanted` without a key in `found`.
fn missing(wanted: &Claims, found: &KeysByDevice) -> Claims {
    let mut missing = wanted.clone();
    for (user, devices) in &mut missing {
        devices
            .retain(|device, _| found.get(user).and_then(|of| of.get(device)).is_none_or(BTreeMap::is_empty));
    }
    missing.retain(|_, devices| !devices.is_empty());
    missing
}

/// Of what was answered, one key of the right algorithm for each device that was asked for.
fn fitting(wanted: &Claims, answer: KeysByDevice) -> KeysByDevice {
    let mut fitting = KeysByDevice::new();
    for (user, devices) in answer {
        let Some(asked) = wanted.get(&user) else { continue };
        for (device, keys) in devices {
            let Some(algorithm) = asked.get(&device) else { continue };
            let key = keys.into_iter().find(|(id, _)| id.algorithm() == *algorithm);
            if let Some(key) = key {
                fitting.entry(user.clone()).or_default().insert(device, BTreeMap::from([key]));
            }
        }
    }
    fitting
}

fn merge(into: &mut KeysByDevice, from: KeysByDevice) {
    for (user, devices) in from {
        into.entry(user).or_default().extend(devices);
    }
}
