//! What other servers tell of the devices of their users.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use ruma::{
    ServerName, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, SigningKeyUpdateContent},
};

use super::list::{LISTS, RemoteList, STALE, StaleList, is_of, named_keys};
use crate::{
    device::{Attempt, DeviceError, Devices},
    limits::DEVICE_ATTEMPTS_MAX,
    log::Commit,
    types::{Fact, Lane, RegisterKey},
};

/// What another server tells of a user of its own.
#[derive(Clone, Debug)]
pub enum Told {
    /// A device changed.
    Device(DeviceListUpdateContent),
    /// Cross-signing keys changed.
    CrossSigning(SigningKeyUpdateContent),
    /// Something changed, in words that make no sense.
    Unclear,
}

/// What comes of it for the list that is kept.
enum Verdict {
    /// The list has it already.
    Known,
    /// The list as it is now.
    Changed(RemoteList),
    /// The list has missed something.
    Gap,
}

impl Devices {
    /// Follows what the server of `user` tells. What builds on something that is not known here has the
    /// list asked for anew. Users here are told to look up the devices in any case but that of a repetition.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn follow_remote(&self, user: &UserId, told: &Told) -> Result<(), DeviceError> {
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let Some(commit) = self.following(user, told).await? else { return Ok(()) };
            if let Attempt::Done = self.attempt(commit).await? {
                self.doubts.forget_found(user);
                self.stale.notify_one();
                return Ok(());
            }
        }
        Err(DeviceError::Contended)
    }

    async fn following(&self, user: &UserId, told: &Told) -> Result<Option<Commit>, DeviceError> {
        let (key, place) = ((user.to_owned(),), (user.server_name().to_owned(), user.to_owned()));
        let (list, stale) = (LISTS.key(&key), STALE.key(&place));
        let mut found = self.log.db().get_many(&[list.clone(), stale.clone()]).await?.into_iter();
        let (kept, known_stale) = (found.next().flatten(), found.next().flatten());
        let mut commit = Commit::new();
        commit.fact(Lane::People, Fact::Devices { user_id: user.to_owned() });
        if let Some(bytes) = &known_stale {
            let before = STALE.decode(bytes)?;
            // The server is there: it is worth asking at once.
            let after = StaleList { marks: before.marks + 1, failures: 0, retry_at_ms: 0 };
            commit.put(&STALE, &place, &after);
        } else if let Some(bytes) = &kept {
            let list = LISTS.decode(bytes)?;
            match judge(&list, user, told) {
                Verdict::Known => {
                    let last = self.log.written(&Lane::People, &[RegisterKey::devices(user)]).await?;
                    // Who asked for the list knows it from there; the others were told nothing yet.
                    if last.first().copied().flatten().is_some_and(|last| !list.is_newer_than(last)) {
                        return Ok(None);
                    }
                }
                Verdict::Changed(list) => commit.put(&LISTS, &key, &list),
                Verdict::Gap => commit.put(&STALE, &place, &StaleList::default()),
            }
        }
        Self::guard(&mut commit, list, kept);
        Self::guard(&mut commit, stale, known_stale);
        Ok(Some(commit))
    }

    /// Nothing is known any more of the devices of `user`.
    pub(super) fn forget_remote(commit: &mut Commit, server: &ServerName, user: &UserId) {
        commit.delete(&LISTS, &(user.to_owned(),));
        commit.delete(&STALE, &(server.to_owned(), user.to_owned()));
    }
}

fn judge(list: &RemoteList, user: &UserId, told: &Told) -> Verdict {
    match told {
        Told::Device(update) => judge_update(list, user, update),
        Told::CrossSigning(update) => {
            let mut after = list.clone();
            let given = [
                (&update.master_key, &mut after.master),
                (&update.self_signing_key, &mut after.self_signing),
            ];
            for (key, place) in given {
                match key {
                    Some(key) if !is_of(key, user) => return Verdict::Gap,
                    Some(key) => *place = Some(key.clone()),
                    None => {}
                }
            }
            Verdict::Changed(after)
        }
        Told::Unclear => Verdict::Gap,
    }
}

fn judge_update(list: &RemoteList, user: &UserId, update: &DeviceListUpdateContent) -> Verdict {
    let Some(last) = list.stream_id else { return Verdict::Gap };
    let id = u64::from(update.stream_id);
    let mut after = list.clone();
    match &update.keys {
        Some(keys) if update.deleted != Some(true) => {
            let name = update.device_display_name.as_deref();
            let Some(keys) = named_keys((user, &update.device_id), keys, name) else { return Verdict::Gap };
            after.devices.insert(update.device_id.clone(), keys);
        }
        _ => drop(after.devices.remove(&update.device_id)),
    }
    if id <= last {
        // What is old must be known; a server that counts anew may not be taken for one that repeats itself.
        return if after.has_devices_of(list) { Verdict::Known } else { Verdict::Gap };
    }
    if update.prev_id.is_empty()
        || update.prev_id.iter().any(|prev| u64::from(*prev) > last)
        || !after.is_small()
    {
        return Verdict::Gap;
    }
    after.stream_id = Some(id);
    Verdict::Changed(after)
}
