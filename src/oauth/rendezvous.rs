//! Rendezvous sessions: two devices that do not know each other yet exchange a few encrypted messages, after one of
//! them has scanned a QR code that the other one shows.
//!
//! MSC4108 (as of 2024) and MSC4388 are two dialects of the same thing: a text that whoever knows its address may
//! read and, knowing what it replaces, replace.

use serde::{Deserialize, Serialize};

use super::{Oauth, OauthError};
use crate::{
    account::{Ticket, TicketKey},
    limits::{RENDEZVOUS_BYTES_MAX, RENDEZVOUS_IDLE_MS, RENDEZVOUS_MS, RENDEZVOUS_PER_MINUTE},
    log::{Commit, CommitError},
    store::table::{Rows, TableId},
    types::random_string,
};

const RENDEZVOUS: Rows<TicketKey, RendezvousRow> = Rows::new(TableId::Rendezvous);
/// What the ids of sessions begin with.
const PREFIX: &str = "lkv";
/// Characters of a sequence token.
const SEQUENCE_CHARS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RendezvousRow {
    data: String,
    /// Names this version of the text.
    sequence: String,
    written_ms: u64,
}

/// A session as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Its id.
    pub id: String,
    /// The text.
    pub data: String,
    /// Names this version of the text.
    pub sequence: String,
    /// When the text was written, in milliseconds since the epoch.
    pub written_ms: u64,
    /// When the session ends if nobody writes, in milliseconds since the epoch.
    pub ends_ms: u64,
}

/// Why a session cannot be written to.
#[derive(Debug)]
pub enum Unwritten {
    /// There is no such session, or its time is over.
    Gone,
    /// Somebody else has written meanwhile.
    Concurrent,
    /// The text is too large.
    TooLarge,
    /// Too many sessions are being begun.
    Busy,
    /// The server failed.
    Failed(OauthError),
}

impl From<OauthError> for Unwritten {
    fn from(error: OauthError) -> Self {
        Self::Failed(error)
    }
}

impl From<CommitError> for Unwritten {
    fn from(error: CommitError) -> Self {
        Self::Failed(error.into())
    }
}

impl Oauth {
    /// Begins a session.
    ///
    /// # Errors
    /// When the text is too large, or too many sessions are begun.
    pub async fn meet(&self, data: String) -> Result<Rendezvous, Unwritten> {
        check(&data)?;
        let now_ms = self.ports.clock.now_ms();
        if !self.count_meeting(now_ms / 60_000) {
            return Err(Unwritten::Busy);
        }
        let ticket = Ticket::new(&self.ports, PREFIX, RENDEZVOUS_MS);
        let row = self.row(data);
        let mut commit = Commit::new();
        commit.delete_range(RENDEZVOUS.prefix(&()), RENDEZVOUS.prefix(&(now_ms,)));
        commit.put(&RENDEZVOUS, &ticket.key, &row);
        self.log.commit(commit).await?;
        Ok(shown(ticket.text, &ticket.key, row))
    }

    /// A session, unless its time is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn meeting(&self, id: &str) -> Result<Option<Rendezvous>, OauthError> {
        let found = self.meeting_row(id).await?;
        Ok(found.map(|(key, row)| shown(id.to_owned(), &key, row)))
    }

    /// Replaces the text of the version that `sequence` names.
    ///
    /// # Errors
    /// When there is no such session, or it has another text by now.
    pub async fn say(&self, id: &str, sequence: &str, data: String) -> Result<Rendezvous, Unwritten> {
        check(&data)?;
        let (key, before) = self.meeting_row(id).await?.ok_or(Unwritten::Gone)?;
        if before.sequence != sequence {
            return Err(Unwritten::Concurrent);
        }
        let row = self.row(data);
        let mut commit = Commit::new();
        commit.expect_equals(&RENDEZVOUS, &key, &before);
        commit.put(&RENDEZVOUS, &key, &row);
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => Err(Unwritten::Concurrent),
            other => Ok(other.map(|_| shown(id.to_owned(), &key, row))?),
        }
    }

    /// Ends a session; `false` when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn part(&self, id: &str) -> Result<bool, OauthError> {
        let Some((key, _)) = self.meeting_row(id).await? else { return Ok(false) };
        let mut commit = Commit::new();
        commit.delete(&RENDEZVOUS, &key);
        Ok(self.log.commit(commit).await.map(|_| true)?)
    }

    async fn meeting_row(&self, id: &str) -> Result<Option<(TicketKey, RendezvousRow)>, OauthError> {
        let Some(key) = Ticket::key_of(&self.ports, PREFIX, id) else { return Ok(None) };
        let row = self.log.db().row(&RENDEZVOUS, &key).await?;
        let now_ms = self.ports.clock.now_ms();
        Ok(row.filter(|row| row.written_ms + RENDEZVOUS_IDLE_MS > now_ms).map(|row| (key, row)))
    }

    fn row(&self, data: String) -> RendezvousRow {
        let sequence = random_string(&*self.ports.rng, SEQUENCE_CHARS);
        RendezvousRow { data, sequence, written_ms: self.ports.clock.now_ms() }
    }

    /// Whether another session may begin in this minute.
    fn count_meeting(&self, minute: u64) -> bool {
        let mut meetings = self.meetings.lock();
        if meetings.0 != minute {
            *meetings = (minute, 0);
        }
        let may_begin = meetings.1 < RENDEZVOUS_PER_MINUTE;
        meetings.1 += u32::from(may_begin);
        may_begin
    }
}

fn check(data: &str) -> Result<(), Unwritten> {
    if data.len() > RENDEZVOUS_BYTES_MAX { Err(Unwritten::TooLarge) } else { Ok(()) }
}

fn shown(id: String, key: &TicketKey, row: RendezvousRow) -> Rendezvous {
    let RendezvousRow { data, sequence, written_ms } = row;
    Rendezvous { id, data, sequence, written_ms, ends_ms: key.0.min(written_ms + RENDEZVOUS_IDLE_MS) }
}
