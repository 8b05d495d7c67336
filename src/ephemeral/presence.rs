//! Who is present.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::collections::HashMap;

use parking_lot::Mutex;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{Ephemeral, EphemeralError};
use crate::{
    limits::{
        PRESENCE_ACTIVE_MS, PRESENCE_GONE_MS, PRESENCE_IDLE_MS, PRESENCE_TOLD_EVERY_MS, STATUS_BYTES_MAX,
    },
    log::Commit,
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::{Fact, Lane},
};

/// What outlives the process.
const PRESENCE: Rows<(OwnedUserId,), Kept> = Rows::new(TableId::Presence);

/// What is kept of a user's presence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// What the user says of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    /// The last activity, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_ms: Option<u64>,
}

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
    /// Milliseconds since the last activity, if there was any.
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
    /// By the monotonic clock; below zero if it was before the process started.
    active_at: Option<i64>,
    status_msg: Option<String>,
    told: Seen,
    /// When, by the monotonic clock.
    told_at: u64,
}

/// What a device says, and until when it holds without another word.
struct Claim {
    said: Said,
    until: u64,
}

/// News of somebody.
struct News {
    user: OwnedUserId,
    seen: Seen,
    /// The user has just said something else of themselves, which must not be lost.
    status_changed: bool,
}

impl Person {
    /// Somebody who was here before, by both clocks.
    fn remembered(kept: Kept, now: u64, wall_ms: u64) -> Self {
        let ago = |at: u64| i64::try_from(wall_ms.saturating_sub(at)).unwrap_or(i64::MAX);
        let active_at = kept.active_ms.map(|at| signed(now).saturating_sub(ago(at)));
        let mut person = Self { active_at, status_msg: kept.status_msg, ..Self::default() };
        person.told = person.seen(now);
        person
    }

    fn seen(&self, now: u64) -> Seen {
        let alive = self.devices.values().filter(|claim| claim.until > now);
        let said = alive.map(|claim| claim.said).max().unwrap_or_default();
        let ago = self.active_at.map(|at| u64::try_from(signed(now).saturating_sub(at)).unwrap_or_default());
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
    fn news(&mut self, user: &UserId, now: u64) -> Option<News> {
        self.devices.retain(|_, claim| claim.until > now);
        let seen = self.seen(now);
        let is_new = (seen.presence, seen.currently_active, &seen.status_msg)
            != (self.told.presence, self.told.currently_active, &self.told.status_msg);
        let status_changed = seen.status_msg != self.told.status_msg;
        let is_due = seen.presence != Said::Offline && self.told_again_at().is_some_and(|at| at <= now);
        self.told = seen.clone();
        if !is_new && !is_due {
            return None;
        }
        self.told_at = now;
        Some(News { user: user.to_owned(), seen, status_changed })
    }

    /// When others are to be told again of somebody who is still there: their servers take them for gone at some time.
    fn told_again_at(&self) -> Option<u64> {
        let is_told_by_us = !self.devices.is_empty() && !self.devices.contains_key(remote());
        is_told_by_us.then(|| self.told_at.saturating_add(PRESENCE_TOLD_EVERY_MS))
    }

    fn next_change(&self, now: u64) -> Option<u64> {
        let after = |at: i64, ms: u64| u64::try_from(at.saturating_add(signed(ms))).ok();
        let active = self
            .active_at
            .into_iter()
            .flat_map(|at| [PRESENCE_ACTIVE_MS, PRESENCE_IDLE_MS].map(|ms| after(at, ms)));
        let active = active.flatten();
        let ends = self.devices.values().map(|claim| claim.until).chain(active);
        ends.chain(self.told_again_at()).filter(|at| *at > now).min()
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
                person.active_at = Some(signed(now));
            }
            person.status_msg = status_msg;
        })
        .await
    }

    /// Forgets what a user has said of themselves who has left for good, and tells others that nothing is known.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn forget(&self, user: &UserId) -> Result<(), EphemeralError> {
        self.change(user, |person, _| {
            *person = Person { told: std::mem::take(&mut person.told), ..Person::default() };
        })
        .await?;
        let mut commit = Commit::new();
        commit.delete(&PRESENCE, &(user.to_owned(),));
        self.0.log.commit(commit).await?;
        Ok(())
    }

    /// The user has just done something.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn note_activity(&self, user: &UserId) -> Result<(), EphemeralError> {
        self.change(user, |person, now| {
            if !person.devices.is_empty() {
                person.active_at = Some(signed(now));
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
        if !self.0.history.shares_room(asking, user).await? {
            return Err(EphemeralError::Forbidden("You share no room with this user"));
        }
        if !self.0.has_presence || self.knows(user) {
            return Ok(self.presence(user));
        }
        let (now, wall_ms) = (self.now_ms(), self.0.ports.clock.now_ms());
        Ok(Person::remembered(self.kept(user).await?, now, wall_ms).seen(now))
    }

    fn knows(&self, user: &UserId) -> bool {
        self.0.people.0.lock().contains_key(user)
    }

    async fn kept(&self, user: &UserId) -> Result<Kept, StoreError> {
        Ok(self.0.log.db().row(&PRESENCE, &(user.to_owned(),)).await?.unwrap_or_default())
    }

    /// Tells of everyone who has become idle or gone.
    pub(super) async fn expire_presence(&self) -> Result<(), EphemeralError> {
        let now = self.now_ms();
        let mut news = Vec::new();
        self.0.people.0.lock().retain(|user, person| {
            news.extend(person.news(user, now));
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
        let kept = match self.knows(user) {
            true => Kept::default(),
            false => self.kept(user).await?,
        };
        let (now, wall_ms) = (self.now_ms(), self.0.ports.clock.now_ms());
        let (news, is_new) = {
            let mut people = self.0.people.0.lock();
            let is_new = !people.contains_key(user);
            let person =
                people.entry(user.to_owned()).or_insert_with(|| Person::remembered(kept, now, wall_ms));
            change(person, now);
            (person.news(user, now), is_new)
        };
        if is_new {
            self.0.sooner.notify_one();
        }
        self.tell_presence(news.into_iter().collect()).await
    }

    async fn tell_presence(&self, news: Vec<News>) -> Result<(), EphemeralError> {
        if news.is_empty() {
            return Ok(());
        }
        let wall_ms = self.0.ports.clock.now_ms();
        let (mut commit, mut later) = (Commit::new(), Commit::new());
        for News { user, seen, status_changed } in news {
            let active_ms = seen.last_active_ago.map(|ago| wall_ms.saturating_sub(ago));
            let kept = Kept { status_msg: seen.status_msg.clone(), active_ms };
            // Nobody waits for the disk because somebody comes or goes; a crash loses a little of it.
            let keeping = if status_changed { &mut commit } else { &mut later };
            keeping.put(&PRESENCE, &(user.clone(),), &kept);
            let content = serde_json::to_string(&seen).map_err(StoreError::engine)?;
            commit.fact(Lane::People, Fact::Presence { user_id: user, content });
        }
        self.0.log.commit(commit).await?;
        if !later.is_empty() {
            self.0.log.commit_later(later);
        }
        Ok(())
    }
}

/// Stands for all devices of a user of another server.
fn remote() -> &'static DeviceId {
    "remote".into()
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Person {
    /// Another server says it of one of its users; it holds for `for_ms` without another word.
    pub(super) fn is_said(&mut self, said: Said, what: (u64, Option<String>), now: u64, for_ms: u64) {
        self.devices.clear();
        self.claim(remote(), said, now, for_ms);
        self.active_at = Some(signed(now).saturating_sub(signed(what.0)));
        self.status_msg = what.1.filter(|text| !text.is_empty());
    }

    fn claim(&mut self, device: &DeviceId, said: Said, now: u64, for_ms: u64) {
        let before = self.devices.get(device).filter(|claim| claim.until > now).map(|claim| claim.said);
        // A client that only goes on syncing is no sign of a person; one that comes (back) is.
        if said == Said::Online && before != Some(Said::Online) {
            self.active_at = Some(signed(now));
        }
        let until = now.saturating_add(for_ms).saturating_add(PRESENCE_GONE_MS);
        self.devices.insert(device.to_owned(), Claim { said, until });
    }
}
