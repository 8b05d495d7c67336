//! Redacting what a user said, whichever server they belong to: other servers redact it too.
//!
//! What has become of it is kept in memory, as long as the server runs.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, events::TimelineEventType};

use super::{Purge, PurgeError};
use crate::{
    history::{StoredEvent, tables::BACKFILLED},
    limits::{RETENTION_PAGE_EVENTS, USER_REDACTIONS_KEPT_MAX, USER_REDACTIONS_KEPT_MS},
    log::Direction,
    room::RoomError,
    store::Scan,
    types::{Fact, Membership, Position, random_string},
};

/// Characters of an id.
const ID_CHARS: usize = 24;

/// What is to be redacted.
#[derive(Clone, Debug)]
pub struct UserRedaction {
    /// Whose words.
    pub user: OwnedUserId,
    /// In which rooms; in all that the user is or was a member of, if there is none.
    pub rooms: Vec<OwnedRoomId>,
    /// Why, for everybody to read.
    pub reason: Option<String>,
    /// How many of the user's events are looked at in each room, the newest first.
    pub limit: usize,
    /// Only what was sent then or later, in milliseconds since the epoch,
    pub after_ms: Option<u64>,
    /// and then or earlier.
    pub before_ms: Option<u64>,
    /// Who asks.
    pub by: Option<OwnedUserId>,
    /// Nobody but them redacts.
    pub by_alone: bool,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRedactionStatus {
    /// It goes on.
    Active,
    /// It has ended. Which events could not be redacted, and why.
    Complete(BTreeMap<OwnedEventId, String>),
    /// It was broken off, for this reason.
    Failed(String),
}

#[derive(Default)]
pub(super) struct UserRedactions(Mutex<BTreeMap<String, Task>>);

struct Task {
    user: OwnedUserId,
    begun_ms: u64,
    status: UserRedactionStatus,
}

/// What one task has come to.
struct Progress<'a> {
    wanted: &'a UserRedaction,
    failed: BTreeMap<OwnedEventId, String>,
}

impl Purge {
    /// Notes that what a user said is to be redacted; the id under which to do it and to ask for it. Nothing if that is
    /// being done already.
    #[must_use]
    pub fn begin_user_redaction(&self, user: &OwnedUserId) -> Option<String> {
        let now_ms = self.now_ms();
        let mut tasks = self.0.redactions.0.lock();
        let is_active = |task: &Task| task.status == UserRedactionStatus::Active;
        if tasks.values().any(|task| is_active(task) && task.user == *user) {
            return None;
        }
        tasks.retain(|_, task| is_active(task) || now_ms < task.begun_ms + USER_REDACTIONS_KEPT_MS);
        while tasks.len() >= USER_REDACTIONS_KEPT_MAX {
            let ended = tasks.iter().filter(|(_, task)| !is_active(task));
            let oldest = ended.min_by_key(|(_, task)| task.begun_ms).map(|(id, _)| id.clone())?;
            tasks.remove(&oldest);
        }
        let id = random_string(&*self.0.ports.rng, ID_CHARS);
        let status = UserRedactionStatus::Active;
        tasks.insert(id.clone(), Task { user: user.clone(), begun_ms: now_ms, status });
        Some(id)
    }

    /// What has become of it.
    #[must_use]
    pub fn user_redaction(&self, id: &str) -> Option<UserRedactionStatus> {
        self.0.redactions.0.lock().get(id).map(|task| task.status.clone())
    }

    /// Redacts what is wanted, and notes under `id` what has become of it.
    pub async fn redact_user(&self, id: &str, wanted: &UserRedaction) {
        let mut progress = Progress { wanted, failed: BTreeMap::new() };
        let mut ending = Ending { redactions: &self.0.redactions, id, status: None };
        ending.status = Some(match self.redact_everywhere(&mut progress).await {
            Ok(()) => UserRedactionStatus::Complete(progress.failed),
            Err(error) => {
                tracing::error!(user.id = %wanted.user, %error, "not all that {} said is redacted", wanted.user);
                UserRedactionStatus::Failed(error.to_string())
            }
        });
    }

    async fn redact_everywhere(&self, progress: &mut Progress<'_>) -> Result<(), PurgeError> {
        let wanted = progress.wanted;
        if !wanted.rooms.is_empty() {
            let rooms: BTreeSet<&OwnedRoomId> = wanted.rooms.iter().collect();
            for room in rooms {
                self.redact_in(room, progress).await?;
            }
            return Ok(());
        }
        for room in self.0.history.rooms().await? {
            if self.0.history.membership(&room, &wanted.user).await?.is_some() {
                self.redact_in(&room, progress).await?;
            }
        }
        Ok(())
    }

    async fn redact_in(&self, room: &OwnedRoomId, progress: &mut Progress<'_>) -> Result<(), PurgeError> {
        let by = match self.redactor_in(room, progress.wanted).await {
            Err(RoomError::Store(error)) => return Err(error.into()),
            by => by,
        };
        let (mut to, mut left) = (self.log().head(), progress.wanted.limit);
        while left > 0 {
            let range = (Position::ZERO, to);
            let facts = self.log().timeline(room, range, Direction::Backward, RETENTION_PAGE_EVENTS).await?;
            let Some((last, _)) = facts.last() else { break };
            to = Position(last.0.saturating_sub(1));
            let id = |(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            };
            let ids: Vec<OwnedEventId> = facts.into_iter().filter_map(id).collect();
            self.redact_those((room, &by), (&ids, &mut left), progress).await?;
        }
        let past = BACKFILLED.prefix(&(room.clone(),));
        let (from, mut to) = (past.clone(), past.after_prefix());
        while left > 0 {
            let scan = Scan { from: from.clone(), to, reverse: true, limit: RETENTION_PAGE_EVENTS };
            let page = self.log().db().scan(&BACKFILLED, scan).await?;
            let Some((last, _)) = page.last() else { break };
            to = BACKFILLED.key(last);
            let ids: Vec<OwnedEventId> = page.into_iter().map(|(_, id)| id).collect();
            self.redact_those((room, &by), (&ids, &mut left), progress).await?;
        }
        Ok(())
    }

    /// Who redacts in a room; or why nobody does, which is so for all that was said there.
    async fn redactor_in(&self, room: &RoomId, wanted: &UserRedaction) -> Result<OwnedUserId, RoomError> {
        match &wanted.by {
            Some(by) if wanted.by_alone => Ok(by.clone()),
            by => self.0.rooms.redactor(room, &wanted.user, by.as_deref()).await,
        }
    }

    async fn redact_those(
        &self,
        (room, by): (&RoomId, &Result<OwnedUserId, RoomError>),
        (ids, left): (&[OwnedEventId], &mut usize),
        progress: &mut Progress<'_>,
    ) -> Result<(), PurgeError> {
        for event in self.0.history.sound_events(ids).await?.into_iter().flatten() {
            if *left == 0 {
                return Ok(());
            }
            if !progress.wanted.is_meant(&event) {
                continue;
            }
            *left -= 1;
            let id = event.pdu.event_id();
            let failure = match by {
                Ok(by) => {
                    let reason = (progress.wanted.reason.clone(), None);
                    match self.0.rooms.redact(by, room, id, reason).await {
                        Ok(_) => continue,
                        Err(RoomError::Store(error)) => return Err(error.into()),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            progress.failed.insert(id.to_owned(), failure);
        }
        Ok(())
    }
}

/// What is noted when a task ends, however it does.
struct Ending<'a> {
    redactions: &'a UserRedactions,
    id: &'a str,
    /// Nothing as long as it goes on.
    status: Option<UserRedactionStatus>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let broken_off = || UserRedactionStatus::Failed(String::from("it was broken off"));
        if let Some(task) = self.redactions.0.lock().get_mut(self.id) {
            task.status = self.status.take().unwrap_or_else(broken_off);
        }
    }
}

impl UserRedaction {
    /// Whether an event is a message of the user, or one of their joins, which show a name and a picture.
    fn is_meant(&self, event: &StoredEvent) -> bool {
        let pdu = &event.pdu;
        let sent_ms = u64::from(pdu.origin_server_ts().0);
        let is_said = match pdu.state_key() {
            None => *pdu.event_type() != TimelineEventType::RoomRedaction,
            Some(_) => pdu.membership() == Some(Membership::Join),
        };
        pdu.sender() == self.user
            && is_said
            && event.notes.redacted_by.is_none()
            && !event.is_expired()
            && self.after_ms.is_none_or(|after_ms| sent_ms >= after_ms)
            && self.before_ms.is_none_or(|before_ms| sent_ms <= before_ms)
    }
}
