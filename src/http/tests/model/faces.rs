//! What a client believes of profiles.

use std::collections::BTreeMap;

use serde_json::Value;

use super::town::Town;

/// The fields that users have; a name would make events in rooms.
pub(super) const FIELDS: [&str; 2] = ["m.status", "org.x.y"];

/// By user and field.
pub(super) type Profiles = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Clone, Default)]
pub(super) struct Faces(Profiles);

impl Faces {
    /// Takes in the users of an answer of `/v3/sync`.
    pub(super) fn follow(&mut self, users: &Value) {
        for (user, update) in users.as_object().into_iter().flatten() {
            let Some(fields) = update["profile_updates"].as_object() else {
                assert!(update["profile_updates"].is_null(), "{users}");
                self.0.remove(user);
                continue;
            };
            let known = self.0.entry(user.clone()).or_default();
            known.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
            known.retain(|_, value| !value.is_null());
        }
    }

    /// Takes in the users of an answer of sliding sync.
    pub(super) fn slide(&mut self, users: &Value) {
        for (user, changes) in users.as_object().into_iter().flatten() {
            if changes.is_null() {
                self.0.remove(user);
                continue;
            }
            let known = self.0.entry(user.clone()).or_default();
            let updated = changes["updated"].as_object().into_iter().flatten();
            known.extend(updated.map(|(name, value)| (name.clone(), value.clone())));
            for name in changes["removed"].as_array().into_iter().flatten() {
                known.remove(name.as_str().unwrap());
            }
        }
    }

    /// The profiles of those with whom the user shares a room are known, and of nobody else. Of a client that loads members
    /// lazily, what it knows is so.
    pub(super) fn compare(&self, town: &Town, user: &str, lazy: bool) {
        let sharers = town.sharers(user);
        let is_near = |other: &str| other == user || sharers.iter().any(|sharer| sharer == other);
        let filled = |profiles: &Profiles| -> Profiles {
            let mut filled = profiles.clone();
            filled.values_mut().for_each(|fields| fields.retain(|name, _| FIELDS.contains(&name.as_str())));
            filled.retain(|_, fields| !fields.is_empty());
            filled
        };
        let mut wanted = filled(&town.profiles);
        wanted.retain(|other, _| is_near(other));
        let mut known = filled(&self.0);
        if lazy {
            for (other, fields) in &mut known {
                let empty = BTreeMap::new();
                let actual = wanted.get(other).unwrap_or(&empty);
                fields.iter().for_each(|(name, value)| {
                    assert_eq!(actual.get(name), Some(value), "{name} of {other}, as {user} believes");
                });
            }
            wanted.retain(|other, _| other == user);
            known.retain(|other, _| other == user);
        }
        assert_eq!(known, wanted, "the profiles that {user} knows");
    }
}
