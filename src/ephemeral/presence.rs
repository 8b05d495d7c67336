//! Who is present.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::collections::HashMap;

use parking_lot::Mutex;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{Ephemeral, EphemeralError};
use crate::{
    limits::{PRESENCE_ACTIVE_MS, PRESENCE_GONE_MS, PRESENCE_IDLE_MS, STATUS_BYTES_MAX},
    log::Commit,
    store::StoreError,
    types::{Fact, Lane},
};

/// A state of presence, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// Not there.
    #[default]
    Offline,
    /// There, but not at the keyboard.
    Unavailable,
    /// There.
    Online,
}

/// What others see of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The state.
    pub presence: Said,
    /// Whether there was activity just now.
    pub currently_active: bool,
    /// Milliseconds since the last activity, if there was any since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_ago: Option<u64>,
    /// What the user says of themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_msg: Option<String>,
}

/// Everyone who was seen since the server started.
#[derive(Default)]
pub(super) struct People(Mutex<HashMap<OwnedUserId, Person>>);

#[derive(Default)]
pub(super) struct Person {
    devices: HashMap<OwnedDeviceId, Claim>,
    active_at: Option<u64>,
    status_msg: Option<String>,
    told: Seen,
}

/// What a device says, and until when it holds without another word.
struct Claim {
    said: Said,
    until: u64,
}

impl Person {
    fn seen(&self, now: u64) -> Seen {
        let alive = self.devices.values().filter(|claim| claim.until > now);
        let said = alive.map(|claim| claim.said).max().unwrap_or_default();
        let ago = self.active_at.map(|at| now.saturating_sub(at));
        let presence = match said {
            Said::Online if ago.is_none_or(|ago| ago >= PRESENCE_IDLE_MS) => Said::Unavailable,
            said => said,
        };
        Seen {
            presence,
            currently_active: presence == Said::Online && ago.is_some_and(|ago| ago < PRESENCE_ACTIVE_MS),
            last_active_ago: ago,
            status_msg: self.status_msg.clone(),
        }
    }

    /// What there is to tell others, if it is something new.
    fn news(&mut self, now: u64) -> Option<Seen> {
        self.devices.retain(|_, claim| claim.until > now);
        let seen = self.seen(now);
        let is_new = (seen.presence, seen.currently_active, &seen.status_msg)
            != (self.told.presence, self.told.currently_active, &self.told.status_msg);
        self.told = seen.clone();
        is_new.then_some(seen)
    }

    fn next_change(&self, now: u64) -> Option<u64> {
        let active =
            self.active_at.into_iter().flat_map(|at| [at + PRESENCE_ACTIVE_MS, at + PRESENCE_IDLE_MS]);
        self.devices.values().map(|claim| claim.until).chain(active).filter(|at| *at > now).min()
    }
}

impl Ephemeral {
    /// Whether this server has presence at all.
    #[must_use]
    pub fn has_presence(&self) -> bool {
        self.0.has_presence
    }

    /// A device syncs and will be heard of again within `for_ms` and a little more.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn note_sync(
        &self,
        user: &UserId,
        device: &DeviceId,
        said: Said,
        for_ms: u64,
    ) -> Result<(), EphemeralError> {
        if said == Said::Offline {
            return Ok(());
        }
        self.change(user, |person, now| person.claim(device, said, now, for_ms)).await
    }

    /// The user says how they are.
    ///
    /// # Errors
    /// When the message is too long or the log fails.
    pub async fn set_presence(
        &self,
        user: &UserId,
        device: &DeviceId,
        said: Said,
        status_msg: Option<String>,
    ) -> Result<(), EphemeralError> {
        if status_msg.as_ref().is_some_and(|text| text.len() > STATUS_BYTES_MAX) {
            return Err(EphemeralError::Invalid("The status message is too long"));
        }
        let status_msg = status_msg.filter(|text| !text.is_empty());
        self.change(user, |person, now| {
            person.claim(device, said, now, 0);
            if said == Said::Online {
                person.active_at = Some(now);
            }
            person.status_msg = status_msg;
        })
        .await
    }

    /// The user has just done something.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn note_activity(&self, user: &UserId) -> Result<(), EphemeralError> {
        self.change(user, |person, now| {
            if !person.devices.is_empty() {
                person.active_at = Some(now);
            }
        })
        .await
    }

    /// What others see of `user`.
    #[must_use]
    pub fn presence(&self, user: &UserId) -> Seen {
        let now = self.now_ms();
        self.0.people.0.lock().get(user).map(|person| person.seen(now)).unwrap_or_default()
    }

    /// Everyone who is not offline.
    #[must_use]
    pub fn present(&self) -> Vec<OwnedUserId> {
        let now = self.now_ms();
        let people = self.0.people.0.lock();
        let present = people.iter().filter(|(_, person)| person.seen(now).presence != Said::Offline);
        present.map(|(user, _)| user.clone()).collect()
    }

    /// What `asking` sees of `user`, whom they must share a room with.
    ///
    /// # Errors
    /// When they share none.
    pub async fn presence_for(&self, asking: &UserId, user: &UserId) -> Result<Seen, EphemeralError> {
        match self.0.history.shares_room(asking, user).await? {
            true => Ok(self.presence(user)),
            false => Err(EphemeralError::Forbidden("You share no room with this user")),
        }
    }

    /// Tells of everyone who has become idle or gone.
    pub(super) async fn expire_presence(&self) -> Result<(), EphemeralError> {
        let now = self.now_ms();
        let mut news = Vec::new();
        self.0.people.0.lock().retain(|user, person| {
            news.extend(person.news(now).map(|seen| (user.clone(), seen)));
            !person.devices.is_empty() || person.status_msg.is_some()
        });
        self.tell_presence(news).await
    }

    pub(super) fn next_presence_change(&self) -> Option<u64> {
        let now = self.now_ms();
        self.0.people.0.lock().values().filter_map(|person| person.next_change(now)).min()
    }

    pub(super) async fn change(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut Person, u64),
    ) -> Result<(), EphemeralError> {
        if !self.0.has_presence {
            return Ok(());
        }
        let now = self.now_ms();
        let (seen, is_new) = {
            let mut people = self.0.people.0.lock();
            let is_new = !people.contains_key(user);
            let person = people.entry(user.to_owned()).or_default();
            change(person, now);
            (person.news(now), is_new)
        };
        if is_new {
            self.0.sooner.notify_one();
        }
        self.tell_presence(seen.map(|seen| (user.to_owned(), seen)).into_iter().collect()).await
    }

    async fn tell_presence(&self, news: Vec<(OwnedUserId, Seen)>) -> Result<(), EphemeralError> {
        if news.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        for (user_id, seen) in news {
            let content = serde_json::to_string(&seen).map_err(StoreError::engine)?;
            commit.fact(Lane::People, Fact::Presence { user_id, content });
        }
        self.0.log.commit(commit).await?;
        Ok(())
    }
}

impl Person {
    /// Another server says it of one of its users; it holds for `for_ms` without another word.
    pub(super) fn is_said(&mut self, said: Said, what: (u64, Option<String>), now: u64, for_ms: u64) {
        self.devices.clear();
        self.claim("remote".into(), said, now, for_ms);
        self.active_at = Some(now.saturating_sub(what.0));
        self.status_msg = what.1.filter(|text| !text.is_empty());
    }

    fn claim(&mut self, device: &DeviceId, said: Said, now: u64, for_ms: u64) {
        let before = self.devices.get(device).filter(|claim| claim.until > now).map(|claim| claim.said);
        // A client that only goes on syncing is no sign of a person; one that comes (back) is.
        if said == Said::Online && before != Some(Said::Online) {
            self.active_at = Some(now);
        }
        let until = now.saturating_add(for_ms).saturating_add(PRESENCE_GONE_MS);
        self.devices.insert(device.to_owned(), Claim { said, until });
    }
}
