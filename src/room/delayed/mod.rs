//! Delayed events: what a user wants to be sent later, unless they say otherwise until then.
//!
//! A row holds each of them until long after its end, so that a client can ask what came of it; the
//! [`desk`] knows in memory when which is due. Start reading at [`Delayed`], then [`run`], which sends.
//! One that is sent leaves the key of its transaction with the event, in one commit; so it is sent once,
//! also when the server dies before the row says so.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

mod desk;
mod run;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, UserId, api::error::ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::desk::Desk;
use super::{RoomError, Rooms, Txn, guard::Lasting};
use crate::{
    account::{AccountError, Accounts},
    history::DELAY_ID,
    limits::{
        DELAYED_EVENT_MS_MAX, DELAYED_EVENT_RESTART_MS, DELAYED_EVENTS_PER_USER_MAX, DELAYED_ID_CHARS,
        EVENT_BYTES_MAX, SCAN_ROWS_MAX,
    },
    log::{Commit, CommitError, OnceKey},
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
    types::{Membership, Ports, random_string},
    upkeep,
};

pub(in crate::room) const DELAYED: Rows<(String,), Row> = Rows::new(TableId::Delayed);

/// Something that is to be sent later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event type.
    pub event_type: String,
    /// The state key, of a state event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// The content.
    pub content: Box<RawValue>,
    /// How long it waits, in milliseconds.
    pub delay_ms: u64,
    /// For how long it is told to those who come later, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_ms: Option<u64>,
}

/// A delayed event as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Who wants it sent.
    pub user_id: OwnedUserId,
    /// What.
    pub intent: Intent,
    /// Since when it waits, in milliseconds since the epoch.
    pub since_ms: u64,
    /// How and when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// The end of a delayed event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is this event.
    Sent(OwnedEventId),
    /// Somebody who knows its id did not want it any more.
    Cancelled,
    /// It could not be sent.
    Failed {
        /// The `errcode`.
        errcode: String,
        /// The reason, for people.
        error: String,
    },
}

/// What may be done about a delayed event by whoever knows its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is sent now.
    Send,
    /// It is never sent.
    Cancel,
    /// It waits for its whole time again.
    Restart,
}

/// Why a delayed event cannot be scheduled, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum DelayedError {
    /// There is none of this id, or it ended long ago.
    #[error("there is no such delayed event")]
    NotFound,
    /// It has ended otherwise.
    #[error("the delayed event has already been {0}")]
    Ended(&'static str),
    /// The delay is too long.
    #[error("events can be delayed by at most {DELAYED_EVENT_MS_MAX} ms")]
    TooLong,
    /// The user has as many as one may have; the next is due in so many milliseconds.
    #[error("you have as many delayed events as you may have")]
    TooMany(u64),
    /// The room does not take it.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The account cannot be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Nothing was written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The delayed events of this server's users. Cheap to clone.
#[derive(Clone)]
pub struct Delayed(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    accounts: Accounts,
    ports: Ports,
    desk: Mutex<Desk>,
    /// Told when something is due earlier than was known.
    sooner: Notify,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl fmt::Debug for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delayed")
    }
}

impl Delayed {
    /// Reads what is scheduled and begins to send it on `tasks`, until `stopping`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(
        rooms: Rooms,
        accounts: Accounts,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Result<Self, StoreError> {
        let this = Self::idle(rooms, accounts, (tasks, stopping.clone()));
        this.load().await?;
        let (inner, until) = (Arc::downgrade(&this.0), stopping.clone());
        let sending = move || run::run(inner.clone(), until.clone());
        tasks.spawn(upkeep::keep("the sending of delayed events", stopping, sending));
        Ok(this)
    }

    /// Does nothing by itself.
    pub(super) fn idle(
        rooms: Rooms,
        accounts: Accounts,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let ports = rooms.0.ports.clone();
        let (tasks, sooner) = (tasks.clone(), Notify::new());
        Self(Arc::new(Inner { rooms, accounts, ports, desk: Mutex::default(), sooner, tasks, stopping }))
    }

    /// Puts what is stored on the desk.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let to = DELAYED.prefix(&()).after_prefix();
        let mut from = DELAYED.prefix(&());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.0.rooms.0.history.log().db().scan(&DELAYED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = DELAYED.key(last).successor();
            let mut desk = self.0.desk.lock();
            for ((id,), row) in &rows {
                desk.put(id, row);
            }
        }
    }

    /// Schedules an event; answers with the id by which it is known, which is a secret of the user's.
    /// A repeated `txn` is answered the same again.
    ///
    /// # Errors
    /// When the user is not in the room, the delay is too long or there are too many.
    pub async fn schedule(
        &self,
        user: &UserId,
        intent: Intent,
        txn: Option<&Txn>,
    ) -> Result<String, DelayedError> {
        let once = once(user, (&intent.room_id, &intent.event_type), txn);
        if let Some(known) = self.scheduled(once.as_ref()).await? {
            return Ok(known);
        }
        self.check(user, &intent).await?;
        let id = format!("{DELAY_ID}{}", random_string(&*self.0.ports.rng, DELAYED_ID_CHARS));
        let since_ms = self.now_ms();
        let row = Row { user_id: user.to_owned(), intent, since_ms, end: None };
        let mut commit = match once {
            Some(key) => Commit::once(key, id.clone().into_bytes()),
            None => Commit::new(),
        };
        commit.put(&DELAYED, &(id.clone(),), &row);
        match self.put(id.clone(), row, commit).await {
            Ok(()) => Ok(id),
            Err(CommitError::AlreadyDone(reply)) => text(&reply),
            Err(error) => Err(error.into()),
        }
    }

    /// The id that a transaction was given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn repeated(
        &self,
        user: &UserId,
        (room, event_type): (&ruma::RoomId, &str),
        txn: &Txn,
    ) -> Result<Option<String>, DelayedError> {
        self.scheduled(once(user, (room, event_type), Some(txn)).as_ref()).await
    }

    async fn scheduled(&self, once: Option<&OnceKey>) -> Result<Option<String>, DelayedError> {
        let Some(OnceKey(key)) = once else { return Ok(None) };
        let reply = self.0.rooms.0.history.log().db().raw(&crate::store::Key(key.clone())).await?;
        reply.map(|reply| text(&reply)).transpose()
    }

    async fn check(&self, user: &UserId, intent: &Intent) -> Result<(), DelayedError> {
        if intent.delay_ms > DELAYED_EVENT_MS_MAX {
            return Err(DelayedError::TooLong);
        }
        if intent.content.get().len() > EVENT_BYTES_MAX {
            return Err(RoomError::TooLarge(String::from("The content is too large")).into());
        }
        let full = {
            let desk = self.0.desk.lock();
            (desk.waiting(user) >= DELAYED_EVENTS_PER_USER_MAX).then(|| desk.next_due_ms(user))
        };
        if let Some(due_ms) = full {
            return Err(DelayedError::TooMany(due_ms.saturating_sub(self.now_ms())));
        }
        match self.0.rooms.0.history.membership(&intent.room_id, user).await? {
            Some(Membership::Join) => Ok(()),
            _ => Err(RoomError::forbidden("You are not in the room").into()),
        }
    }

    /// Those of `user` that wait, the one that is due first in front.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(&self, user: &UserId) -> Result<Vec<(String, Row)>, DelayedError> {
        let ids = self.0.desk.lock().of(user);
        let keys: Vec<(String,)> = ids.iter().cloned().map(|id| (id,)).collect();
        let rows = self.0.rooms.0.history.log().db().rows(&DELAYED, &keys).await?;
        let found = ids.into_iter().zip(rows).filter_map(|(id, row)| Some((id, row?)));
        Ok(found.filter(|(_, row)| row.end.is_none()).collect())
    }

    /// One of `user`, or what came of it; of one that was sent, the content as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, user: &UserId, id: &str) -> Result<Row, DelayedError> {
        let mut row = self.row(id).await?;
        if row.user_id != user {
            return Err(DelayedError::NotFound);
        }
        if let Some(End { outcome: Outcome::Sent(event), .. }) = &row.end
            && let Some(event) = self.0.rooms.0.history.event(event).await?
        {
            row.intent.content = event.pdu.content().to_owned();
        }
        Ok(row)
    }

    /// Since when one waits and for how long, both in milliseconds; none, if it does not wait any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waiting(&self, id: &str) -> Result<Option<(u64, u64)>, DelayedError> {
        match self.row(id).await {
            Ok(row) => Ok(row.end.is_none().then_some((row.since_ms, row.intent.delay_ms))),
            Err(DelayedError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does `action`, on nobody's behalf: who knows the id may. Done twice it is done once; and to the end, even if the
    /// caller goes away.
    ///
    /// # Errors
    /// When there is none, it has ended otherwise, or it cannot be sent; then it goes on waiting.
    pub async fn act(&self, id: &str, action: Action) -> Result<(), DelayedError> {
        let (this, id) = (self.clone(), String::from(id));
        Lasting::new(&self.0.tasks, async move { this.try_act(&id, action).await }).await
    }

    async fn try_act(&self, id: &str, action: Action) -> Result<(), DelayedError> {
        let turn = self.0.desk.lock().turn_of(id).ok_or(DelayedError::NotFound)?;
        let _turn = turn.lock().await;
        let row = self.row(id).await?;
        match (row.end.as_ref().map(|end| &end.outcome), action) {
            (None, Action::Send) => {
                // What stands in its way may be gone when it is due.
                let event = self.try_send(id, &row).await?;
                self.end(id, row, Outcome::Sent(event)).await
            }
            (None, Action::Cancel) => self.end(id, row, Outcome::Cancelled).await,
            (None, Action::Restart) if row.has_just_begun(self.now_ms()) => Ok(()),
            (None, Action::Restart) => {
                let row = Row { since_ms: self.now_ms(), ..row };
                self.write(id, row).await
            }
            (Some(Outcome::Sent(_)), Action::Send)
            | (Some(Outcome::Cancelled | Outcome::Failed { .. }), Action::Cancel) => Ok(()),
            (Some(Outcome::Sent(_)), _) => Err(DelayedError::Ended("sent")),
            (Some(_), _) => Err(DelayedError::Ended("cancelled")),
        }
    }

    async fn row(&self, id: &str) -> Result<Row, DelayedError> {
        let found = self.0.rooms.0.history.log().db().row(&DELAYED, &(String::from(id),)).await?;
        found.ok_or(DelayedError::NotFound)
    }

    async fn end(&self, id: &str, mut row: Row, outcome: Outcome) -> Result<(), DelayedError> {
        if let Outcome::Sent(_) = outcome {
            // From now on it is told by the event, which may be redacted.
            row.intent.content = RawValue::from_string(String::from("{}")).map_err(StoreError::engine)?;
        }
        let end = Some(End { at_ms: self.now_ms(), outcome });
        self.write(id, Row { end, ..row }).await
    }

    async fn write(&self, id: &str, row: Row) -> Result<(), DelayedError> {
        let mut commit = Commit::new();
        commit.put(&DELAYED, &(String::from(id),), &row);
        Ok(self.put(String::from(id), row, commit).await?)
    }

    /// Writes a row and puts it on the desk, even if the caller goes away: what is not there is not sent before the
    /// next start.
    async fn put(&self, id: String, row: Row, commit: Commit) -> Result<(), CommitError> {
        let this = self.clone();
        let work = async move {
            this.0.rooms.0.history.log().commit(commit).await?;
            this.0.desk.lock().put(&id, &row);
            this.0.sooner.notify_one();
            Ok(())
        };
        Lasting::new(&self.0.tasks, work).await
    }

    fn now_ms(&self) -> u64 {
        self.0.ports.clock.now_ms()
    }
}

impl Row {
    /// Whether it has waited for so short a time that to begin anew would make no difference. A clock that is set back does.
    fn has_just_begun(&self, now_ms: u64) -> bool {
        let short_ms = DELAYED_EVENT_RESTART_MS.min(self.intent.delay_ms / 4);
        now_ms.checked_sub(self.since_ms).is_some_and(|waited_ms| waited_ms < short_ms)
    }

    /// When it is to be sent, in milliseconds since the epoch.
    fn due_ms(&self) -> u64 {
        self.since_ms.saturating_add(self.intent.delay_ms)
    }
}

fn once(user: &UserId, (room, event_type): (&ruma::RoomId, &str), txn: Option<&Txn>) -> Option<OnceKey> {
    let kind = format!("delayed_event/{room}/{event_type}");
    txn.map(|txn| OnceKey::txn(user, &txn.device, &kind, &txn.id))
}

/// The transaction under which a delayed event is sent: of no device, under its own id.
fn sending(id: &str) -> Txn {
    Txn { device: OwnedDeviceId::from(crate::account::NO_DEVICE), id: String::from(id) }
}

fn text(reply: &[u8]) -> Result<String, DelayedError> {
    let corrupt = |_| StoreError::Corrupt(String::from("the id of a delayed event is not text"));
    String::from_utf8(reply.to_vec()).map_err(corrupt).map_err(DelayedError::from)
}

/// The code by which a client is told later why an event was not sent.
fn errcode(error: &RoomError) -> ErrorKind {
    match error {
        RoomError::NotFound(_) => ErrorKind::NotFound,
        RoomError::Forbidden(_) => ErrorKind::Forbidden,
        RoomError::InviteBlocked => ErrorKind::InviteBlocked,
        RoomError::Invalid(_) => ErrorKind::InvalidParam,
        RoomError::BadJson(_) => ErrorKind::BadJson,
        RoomError::BadState(_) => ErrorKind::BadState,
        RoomError::BadAlias(_) => ErrorKind::BadAlias,
        RoomError::TooLarge(_) => ErrorKind::TooLarge,
        RoomError::DuplicateAnnotation => ErrorKind::DuplicateAnnotation,
        _ => ErrorKind::Unknown,
    }
}
