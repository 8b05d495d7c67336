//! Keys of users of other servers: kept here as long as their servers tell of changes, and asked for
//! there otherwise.
//!
//! A list is kept for users who share a room with one of ours. It is what their server has answered, with
//! the updates applied that it has sent since; an update that does not follow on what is here marks the
//! list as stale, and it is asked for anew until that succeeds. A list that is stale, or whose user has
//! left the room on which it rests, answers nothing.

mod apply;
mod doubt;
mod list;
mod renew;

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId,
    api::federation::keys::{claim_keys, get_keys},
    encryption::DeviceKeys,
    serde::Raw,
};
use serde::Deserialize;

pub use apply::Told;
pub(super) use doubt::Doubts;
pub(super) use renew::Asking;

use super::{ClaimedKeys, DeviceError, Devices, QueriedKeys};
use crate::{
    history::History,
    limits::{DEVICE_LISTS_ASKED_SINGLY_MAX, KEY_ANSWER_BYTES_MAX, KEY_SERVERS_AT_ONCE, LOOK_UP_MAX},
    log::Commit,
    peer::{Bounds, PeerError, Peers},
};
use list::{Basis, LISTS, RemoteList, Rooms, STALE, belongs, is_of, named_keys};

/// Devices by their users.
type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;
/// Algorithms of the keys that are wanted, by user and device.
type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;
/// Users who are asked about, with what their lists can rest on.
type Asked = BTreeMap<OwnedUserId, Option<Basis>>;

impl Devices {
    /// Adds to `found` the keys of users of other servers: from what is kept, and where that does not do,
    /// from their servers. Those that do not answer in time stay among the unreachable; none holds the
    /// others up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn query_others(
        &self,
        (peers, history): (&Peers, &History),
        viewer: &UserId,
        wanted: &Wanted,
        (timeout, found): (Option<Duration>, &mut QueriedKeys),
    ) -> Result<(), DeviceError> {
        let others: Vec<OwnedUserId> = wanted.keys().filter(|user| !self.is_local(user)).cloned().collect();
        let mut asked = Asked::new();
        let joined = history.joined_rooms(viewer).await?;
        let mut rooms = Rooms::new(history);
        for (user, kept) in others.iter().zip(self.kept(&others).await?) {
            match kept {
                Some(list) if rooms.hold(user, &list).await? => found.add_list(user, list),
                _ => drop(asked.insert(user.clone(), rooms.basis(user, &joined).await?)),
            }
        }
        found.unreachable = asked.keys().map(|user| user.server_name().to_owned()).collect();
        let timeout = timeout.unwrap_or(LOOK_UP_MAX).min(LOOK_UP_MAX);
        let questions = self.grouped(&asked).into_iter().map(|(server, asked)| async move {
            let mut answer = QueriedKeys::default();
            let asked = (&*server, asked);
            let done = self.ask_lists((peers, history), asked, (wanted, timeout), &mut answer).await;
            (server, answer, done)
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(KEY_SERVERS_AT_ONCE);
        while let Some((server, answer, done)) = answers.next().await {
            if done?.is_ok() {
                found.unreachable.remove(&server);
            }
            found.device_keys.extend(answer.device_keys);
            found.master_keys.extend(answer.master_keys);
            found.self_signing_keys.extend(answer.self_signing_keys);
        }
        drop(answers);
        for (user, devices) in &mut found.device_keys {
            let wanted = wanted.get(user).filter(|wanted| !self.is_local(user) && !wanted.is_empty());
            if let Some(wanted) = wanted {
                devices.retain(|device, _| wanted.contains(device));
            }
        }
        Ok(())
    }

    /// The lists that are kept of `users` and miss nothing, as far as is known.
    async fn kept(&self, users: &[OwnedUserId]) -> Result<Vec<Option<RemoteList>>, DeviceError> {
        let keys: Vec<_> = users.iter().map(|user| (user.clone(),)).collect();
        let places: Vec<_> = users.iter().map(|user| (user.server_name().to_owned(), user.clone())).collect();
        // In this order: a list that is stale by then is not taken for one that is not.
        let lists = self.log.db().rows(&LISTS, &keys).await?;
        let stale = self.log.db().rows(&STALE, &places).await?;
        Ok(lists.into_iter().zip(stale).map(|(list, stale)| list.filter(|_| stale.is_none())).collect())
    }

    /// Asks one server about some of its users. Adds to `answer` what it says, in the end perhaps not of all.
    async fn ask_lists(
        &self,
        (peers, history): (&Peers, &History),
        (server, mut asked): (&ServerName, Asked),
        (wanted, timeout): (&Wanted, Duration),
        answer: &mut QueriedKeys,
    ) -> Result<Result<(), PeerError>, DeviceError> {
        if peers.is_down(server) {
            return Ok(Err(PeerError::Timeout));
        }
        let known: Vec<_> =
            asked.iter().filter_map(|(user, basis)| Some((user.clone(), basis.clone()?))).collect();
        if known.len() <= DEVICE_LISTS_ASKED_SINGLY_MAX {
            let lists = known.into_iter().map(|(user, basis)| async move {
                let list = self.renew((peers, history), &user, (basis, timeout)).await;
                (user, list)
            });
            for (user, list) in futures_util::future::join_all(lists).await {
                match list? {
                    Ok(list) => {
                        asked.remove(&user);
                        answer.add_list(&user, list);
                    }
                    Err(error) if error.is_outage() => return Ok(Err(error)),
                    // Perhaps it answers the other question.
                    Err(_) => {}
                }
            }
        }
        match asked.is_empty() {
            true => Ok(Ok(())),
            false => self.ask_keys((peers, server), asked, (wanted, timeout), answer).await,
        }
    }

    /// Asks one server about many of its users at once. What it says is kept for those of whom it tells us
    /// changes, although it does not say how far its answer goes: the next change has it asked anew.
    async fn ask_keys(
        &self,
        (peers, server): (&Peers, &ServerName),
        asked: Asked,
        (wanted, timeout): (&Wanted, Duration),
        answer: &mut QueriedKeys,
    ) -> Result<Result<(), PeerError>, DeviceError> {
        let mut before = BTreeMap::new();
        let mut question = Wanted::new();
        for (user, basis) in &asked {
            let devices = match basis {
                Some(basis) => {
                    before.insert(user.clone(), (basis.clone(), self.before(user).await?));
                    Vec::new()
                }
                None => wanted.get(user).cloned().unwrap_or_default(),
            };
            question.insert(user.clone(), devices);
        }
        let bounds = Bounds::new(timeout, KEY_ANSWER_BYTES_MAX);
        let told = match peers.call(server, get_keys::v1::Request::new(question), bounds).await {
            Ok(told) => told,
            Err(error) => return Ok(Err(error)),
        };
        let get_keys::v1::Response { device_keys, mut master_keys, mut self_signing_keys, .. } = told;
        let (mut commit, mut changed) = (Commit::new(), Vec::new());
        for (user, devices) in device_keys.into_iter().filter(|(user, _)| asked.contains_key(user)) {
            let (master, own) = (master_keys.remove(&user), self_signing_keys.remove(&user));
            let master = master.filter(|key| is_of(key, &user));
            let self_signing = own.filter(|key| is_of(key, &user));
            let Some((basis, before)) = before.remove(&user) else {
                let mut devices = devices;
                devices.retain(|device, keys| belongs(keys, &user, device));
                answer.device_keys.insert(user.clone(), devices);
                answer.master_keys.extend(master.map(|key| (user.clone(), key)));
                answer.self_signing_keys.extend(self_signing.map(|key| (user.clone(), key)));
                continue;
            };
            let mut list = RemoteList::new((before.at(), basis), None);
            let named = devices.into_iter().filter_map(|(device, keys)| {
                let keys = named_keys((&user, &device), &keys, name_of(&keys).as_deref())?;
                Some((device, keys))
            });
            list.devices = named.collect();
            (list.master, list.self_signing) = (master, self_signing);
            Self::keep(&mut commit, &user, &list, before);
            answer.add_list(&user, list);
            changed.push(user);
        }
        // Where something is told meanwhile, nothing is kept.
        self.attempt(commit).await?;
        for user in &changed {
            self.doubts.forget_found(user);
        }
        Ok(Ok(()))
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

fn name_of(keys: &Raw<DeviceKeys>) -> Option<String> {
    #[derive(Deserialize)]
    struct Unsigned {
        device_display_name: Option<String>,
    }
    keys.get_field::<Unsigned>("unsigned").ok()??.device_display_name
}

impl QueriedKeys {
    fn add_list(&mut self, user: &UserId, list: RemoteList) {
        self.device_keys.insert(user.to_owned(), list.devices);
        self.master_keys.extend(list.master.map(|key| (user.to_owned(), key)));
        self.self_signing_keys.extend(list.self_signing.map(|key| (user.to_owned(), key)));
    }
}
