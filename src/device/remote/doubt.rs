//! Devices that nobody has told of.
//!
//! A message tells by which device it was sent. If the list that is kept does not have that device, an update was lost, or the
//! server has begun anew: the list is asked for again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{DeviceId, OwnedUserId, UserId};

use super::{Told, list::LISTS};
use crate::{
    device::{DeviceError, Devices},
    limits::{DEVICE_DOUBT_EVERY_MS, DEVICE_DOUBTS_MAX, DEVICES_FOUND_KEPT},
};

/// Devices that have been looked for.
pub(in crate::device) struct Doubts {
    /// When the list of a user was doubted last, in milliseconds since the epoch.
    last: Mutex<HashMap<OwnedUserId, u64>>,
    /// Ids and keys of devices that were found in the list of a user since it was changed: who speaks often is not looked
    /// for each time.
    found: Cache<OwnedUserId, BTreeSet<String>>,
    /// How often something was forgotten of it: what was read before that is not noted after it.
    forgotten: Mutex<u64>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self { last: Mutex::default(), found: Cache::new(DEVICES_FOUND_KEPT), forgotten: Mutex::default() }
    }
}

impl Doubts {
    /// The list of a user is another one: to be called when that can be read.
    pub(super) fn forget_found(&self, user: &UserId) {
        let mut forgotten = self.forgotten.lock();
        *forgotten += 1;
        self.found.remove(user);
    }

    fn forgotten(&self) -> u64 {
        *self.forgotten.lock()
    }

    /// These are in the list of a user as it was when [`Self::forgotten`] was `read_at`.
    fn note_found(&self, user: &UserId, names: BTreeSet<String>, read_at: u64) {
        let forgotten = self.forgotten.lock();
        if *forgotten == read_at {
            self.found.insert(user.to_owned(), names);
        }
    }

    /// Whether the list may be doubted now. Anybody may name any device, so that is not often.
    fn may_doubt(&self, user: &UserId, now_ms: u64) -> bool {
        let mut doubts = self.last.lock();
        let is_recent = |at: u64| now_ms.saturating_sub(at) < DEVICE_DOUBT_EVERY_MS;
        if doubts.get(user).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if doubts.len() >= DEVICE_DOUBTS_MAX {
            doubts.retain(|_, at| is_recent(*at));
        }
        if doubts.len() >= DEVICE_DOUBTS_MAX {
            return false;
        }
        doubts.insert(user.to_owned(), now_ms);
        true
    }
}

impl Devices {
    /// The user of another server has sent something by `device`, or by the one whose Curve25519 key is `key`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn meet_device(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        key: Option<&str>,
    ) -> Result<(), DeviceError> {
        let named = device.map(DeviceId::as_str).or(key).unwrap_or_default();
        let read_at = self.doubts.forgotten();
        let found = self.doubts.found.get(user).unwrap_or_default();
        if found.contains(named) {
            return Ok(());
        }
        let Some(list) = self.log.db().row(&LISTS, &(user.to_owned(),)).await? else { return Ok(()) };
        let has_key = |key: &str| {
            list.devices.values().any(|keys| {
                let keys = keys.get_field::<BTreeMap<String, String>>("keys").ok().flatten();
                keys.into_iter().flatten().any(|(id, value)| id.starts_with("curve25519:") && value == key)
            })
        };
        let is_known =
            device.is_none_or(|device| list.devices.contains_key(device)) && key.is_none_or(has_key);
        if is_known {
            let found = found.into_iter().chain([named.to_owned()]).collect();
            self.doubts.note_found(user, found, read_at);
            return Ok(());
        }
        match self.doubts.may_doubt(user, self.ports.clock.now_ms()) {
            true => self.follow_remote(user, &Told::Unclear).await,
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ruma::user_id;

    use super::Doubts;

    #[test]
    fn what_was_read_before_a_change_is_not_noted_after_it() {
        let (doubts, user) = (Doubts::default(), user_id!("@bob:b.org"));
        let names = BTreeSet::from([String::from("ABC")]);
        let read_at = doubts.forgotten();
        doubts.forget_found(user);
        doubts.note_found(user, names.clone(), read_at);
        assert_eq!(doubts.found.get(user), None);
        doubts.note_found(user, names.clone(), doubts.forgotten());
        assert_eq!(doubts.found.get(user), Some(names));
        doubts.forget_found(user);
        assert_eq!(doubts.found.get(user), None);
    }
}
