//! Keys of users of other servers, asked for there.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::federation::keys::{claim_keys, get_keys},
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::{ClaimedKeys, Devices, QueriedKeys};
use crate::{
    limits::{KEY_ANSWER_BYTES_MAX, KEY_SERVERS_AT_ONCE, LOOK_UP_MAX},
    peer::{Bounds, Peers},
};

/// Devices by their users.
type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;
/// Algorithms of the keys that are wanted, by user and device.
type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

impl Devices {
    /// Adds to `found` the keys of users of other servers. Servers that do not answer in time stay among
    /// the unreachable; none holds the others up.
    pub async fn query_others(
        &self,
        peers: &Peers,
        wanted: &Wanted,
        (timeout, found): (Option<Duration>, &mut QueriedKeys),
    ) {
        let bounds = bounds(timeout);
        let questions = self.grouped(wanted).into_iter().map(|(server, device_keys)| {
            let peers = peers.clone();
            async move {
                if peers.is_down(&server) {
                    return (server, None);
                }
                let request = get_keys::v1::Request::new(device_keys);
                let answer = peers.call(&server, request, bounds).await.ok();
                (server, answer)
            }
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(KEY_SERVERS_AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            let Some(answer) = answer else { continue };
            found.unreachable.remove(&server);
            let is_asked = |user: &OwnedUserId| user.server_name() == server && wanted.contains_key(user);
            for (user, mut devices) in answer.device_keys {
                if is_asked(&user) {
                    devices.retain(|device, keys| belongs(keys, &user, device));
                    found.device_keys.insert(user, devices);
                }
            }
            let keep = |keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>| {
                keys.into_iter().filter(|(user, key)| is_asked(user) && is_of(key, user)).collect::<Vec<_>>()
            };
            found.master_keys.extend(keep(answer.master_keys));
            found.self_signing_keys.extend(keep(answer.self_signing_keys));
        }
    }

    /// Adds to `claimed` one-time keys of users of other servers, as [`Self::query_others`] does.
    pub async fn claim_from_others(
        &self,
        peers: &Peers,
        wanted: &Claims,
        (timeout, claimed): (Option<Duration>, &mut ClaimedKeys),
    ) {
        let bounds = bounds(timeout);
        let questions = self.grouped(wanted).into_iter().map(|(server, claims)| {
            let peers = peers.clone();
            async move {
                if peers.is_down(&server) {
                    return (server, None);
                }
                let answer = peers.call(&server, claim_keys::v1::Request::new(claims), bounds).await.ok();
                (server, answer)
            }
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(KEY_SERVERS_AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            let Some(answer) = answer else { continue };
            claimed.unreachable.remove(&server);
            for (user, mut devices) in answer.one_time_keys {
                let Some(asked) = wanted.get(&user).filter(|_| user.server_name() == server) else {
                    continue;
                };
                devices.retain(|device, _| asked.contains_key(device));
                claimed.keys.insert(user, devices);
            }
        }
    }

    fn grouped<T: Clone>(
        &self,
        wanted: &BTreeMap<OwnedUserId, T>,
    ) -> BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>> {
        let mut grouped: BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>> = BTreeMap::new();
        for (user, what) in wanted.iter().filter(|(user, _)| !self.is_local(user)) {
            let of_server = grouped.entry(user.server_name().to_owned()).or_default();
            of_server.insert(user.clone(), what.clone());
        }
        grouped
    }
}

fn bounds(timeout: Option<Duration>) -> Bounds {
    let timeout = timeout.unwrap_or(LOOK_UP_MAX).min(LOOK_UP_MAX);
    Bounds::new(timeout, KEY_ANSWER_BYTES_MAX)
}

/// Whether device keys name the user and the device under which they came.
fn belongs(keys: &Raw<DeviceKeys>, user: &UserId, device: &OwnedDeviceId) -> bool {
    keys.get_field::<OwnedUserId>("user_id").is_ok_and(|named| named.as_deref() == Some(user))
        && keys.get_field::<OwnedDeviceId>("device_id").is_ok_and(|named| named.as_ref() == Some(device))
}

fn is_of(key: &Raw<CrossSigningKey>, user: &UserId) -> bool {
    key.get_field::<OwnedUserId>("user_id").is_ok_and(|named| named.as_deref() == Some(user))
}
