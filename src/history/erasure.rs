//! Users who left for good and asked for what they said to be forgotten.
//!
//! Whoever was in a room before they did keeps seeing it as it was, users and other servers; everybody else is
//! shown what a redaction would have left. The states of a room other servers get whole. What a room is called, what
//! it is about and its picture are told of it to who is not in it, whoever has set them; names, pictures and words in
//! memberships are of those who erased them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use ruma::{OwnedUserId, RoomId, UserId};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{
    History, StoredEvent, Viewer,
    tables::{ERASED, FORGOTTEN, STRIPPED},
};
use crate::{
    dag::redact::prune,
    limits::SCAN_ROWS_MAX,
    log::{Audience, Commit, CommitError},
    store::{Db, Scan, StoreError},
    types::{Lane, Position},
};

/// Who has been erased, and when. There are few of them, and every event that is shown is held against
/// them, so they are all in memory.
#[derive(Default)]
pub(super) struct Erased(RwLock<BTreeMap<OwnedUserId, Position>>);

impl Erased {
    pub(super) async fn load(db: &Db) -> Result<Self, StoreError> {
        let all = ERASED.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut known = BTreeMap::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = db.scan(&ERASED, scan).await?;
            match rows.last() {
                Some((last, _)) => from = ERASED.key(last).successor(),
                None => return Ok(Self(RwLock::new(known))),
            }
            known.extend(rows.into_iter().map(|((user,), at)| (user, at)));
        }
    }
}

impl History {
    /// From now on the events of `user` are shown as a redaction would leave them to whoever has not been
    /// in the room until now; what else is known of the user and rooms goes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase(&self, user: &UserId) -> Result<(), CommitError> {
        let key = (user.to_owned(),);
        if self.0.erased.0.read().contains_key(user) {
            return Ok(());
        }
        let at = self.0.log.head();
        let mut commit = Commit::new();
        commit.put(&ERASED, &key, &at);
        commit.delete_prefix(&FORGOTTEN, &key);
        commit.delete_prefix(&STRIPPED, &key);
        self.0.log.commit(commit).await?;
        self.0.erased.0.write().insert(key.0, at);
        Ok(())
    }
}

impl History {
    /// Whether a user has asked for what they said to be forgotten.
    #[must_use]
    pub fn is_erased(&self, user: &UserId) -> bool {
        self.0.erased.0.read().contains_key(user)
    }

    /// Where the log was when they did.
    #[must_use]
    pub(crate) fn erased_at(&self, user: &UserId) -> Option<Position> {
        self.0.erased.0.read().get(user).copied()
    }

    /// Whether anybody has asked for that.
    #[must_use]
    pub fn has_erased(&self) -> bool {
        !self.0.erased.0.read().is_empty()
    }

    /// What is told of a room to `user`, who is not in it, without what [`without_profile`] takes from those who were
    /// erased before the user was in the room first.
    pub(super) async fn told_without_erased(
        &self,
        user: &UserId,
        room: &RoomId,
        told: Vec<Box<RawValue>>,
    ) -> Result<Vec<Box<RawValue>>, StoreError> {
        if told.is_empty() || !self.has_erased() {
            return Ok(told);
        }
        let lanes = self.log().subscriptions(&Audience::Account(user.to_owned())).await?;
        let came = lanes.intervals(&Lane::Room(room.to_owned())).first().map(|interval| interval.opened);
        let erased = self.0.erased.0.read();
        let is_gone = |name: &str| {
            let at = <&UserId>::try_from(name).ok().and_then(|name| erased.get(name));
            at.is_some_and(|at| came.is_none_or(|came| came > *at))
        };
        Ok(told.into_iter().map(|event| without_profile(&event, is_gone).unwrap_or(event)).collect())
    }
}

impl Viewer {
    /// `events` with what the viewer came too late for taken out of those of erased users.
    pub(super) fn without_erased<'a>(
        &self,
        events: &'a [Arc<StoredEvent>],
    ) -> Result<Cow<'a, [Arc<StoredEvent>]>, StoreError> {
        let erased = self.history.0.erased.0.read();
        let is_hidden = |event: &StoredEvent| {
            let at = erased.get(event.pdu.sender());
            at.is_some_and(|at| event.notes.redacted_by.is_none() && !self.was_in(event.pdu.room_id(), *at))
        };
        if erased.is_empty() || !events.iter().any(|event| is_hidden(event)) {
            return Ok(Cow::Borrowed(events));
        }
        let show = |event: &Arc<StoredEvent>| match is_hidden(event) {
            true => hidden(event),
            false => Ok(event.clone()),
        };
        events.iter().map(show).collect::<Result<Vec<_>, _>>().map(Cow::Owned)
    }

    /// An event as the viewer may see it.
    ///
    /// # Errors
    /// When the stored event is damaged.
    pub fn as_shown(&self, event: &Arc<StoredEvent>) -> Result<Arc<StoredEvent>, StoreError> {
        let shown = self.without_erased(std::slice::from_ref(event))?;
        Ok(shown.first().unwrap_or(event).clone())
    }

    /// Events as other servers get them, in the order of `events`, with nothing that the viewer came too late for.
    ///
    /// # Errors
    /// When a stored event is damaged.
    pub fn render_pdus(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Box<RawValue>>, StoreError> {
        let events = self.without_erased(events)?;
        Ok(events.iter().map(|event| event.pdu.json().to_owned()).collect())
    }

    /// Whether the viewer came too late for what an erased user said in `event`.
    #[must_use]
    pub fn is_kept_from(&self, event: &StoredEvent) -> bool {
        let at = self.history.0.erased.0.read().get(event.pdu.sender()).copied();
        at.is_some_and(|at| !self.was_in(event.pdu.room_id(), at))
    }

    /// Whether the viewer had been in the room at some time before `at`.
    fn was_in(&self, room: &RoomId, at: Position) -> bool {
        let intervals = self.lanes.intervals(&Lane::Room(room.to_owned()));
        intervals.first().is_some_and(|interval| interval.opened <= at)
    }
}

/// A stripped state event without what it says besides the membership, if it is the membership of a user who `is_gone`
/// or was written by one; nothing if it says no more.
#[must_use]
pub fn without_profile(told: &RawValue, is_gone: impl Fn(&str) -> bool) -> Option<Box<RawValue>> {
    let mut event: Map<String, Value> = serde_json::from_str(told.get()).ok()?;
    let text = |field: &str| event.get(field).and_then(Value::as_str);
    let is_theirs = ["sender", "state_key"].into_iter().filter_map(text).any(is_gone);
    if text("type") != Some("m.room.member") || !is_theirs {
        return None;
    }
    let content = event.get_mut("content").and_then(Value::as_object_mut)?;
    let before = content.len();
    content.retain(|name, _| name == "membership");
    if content.len() == before {
        return None;
    }
    to_raw_value(&event).ok()
}

/// An event without what a redaction would take.
pub(super) fn hidden(event: &StoredEvent) -> Result<Arc<StoredEvent>, StoreError> {
    let pdu = prune(&event.pdu, event.rules()).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(Arc::new(StoredEvent { pdu, ..event.clone() }))
}
