//! Telling of reports.

use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    Reports,
    rows::{EVIDENCE, REPORTS, Report, Subject},
};
use crate::{
    limits::SCAN_ROWS_MAX,
    log::{Commit, CommitError},
    store::{Scan, StoreError},
};

/// Which reports somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those with this in their `kind`: `event`, `room` or `user`.
    pub kind: Option<&'static str>,
    /// Only those about this room.
    pub room: Option<OwnedRoomId>,
    /// Only those by this user.
    pub reporter: Option<OwnedUserId>,
    /// Only those about this user or what they sent.
    pub about: Option<OwnedUserId>,
    /// Oldest first.
    pub oldest_first: bool,
}

impl Wanted {
    fn takes(&self, report: &Report) -> bool {
        let (kind, room, user) = match &report.subject {
            Subject::Event { room_id, sender, .. } => ("event", Some(room_id), Some(sender)),
            Subject::Room { room_id } => ("room", Some(room_id), None),
            Subject::User { user_id } => ("user", None, Some(user_id)),
        };
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.room.as_ref().is_none_or(|wanted| room == Some(wanted))
            && self.about.as_ref().is_none_or(|wanted| user == Some(wanted))
            && self.reporter.as_ref().is_none_or(|wanted| report.reporter == *wanted)
    }
}

impl Reports {
    /// The reports that are `wanted`, with their numbers, at most `limit` after the first `skipped`; and how many
    /// there are in all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        wanted: &Wanted,
        (skipped, limit): (usize, usize),
    ) -> Result<(Vec<(u64, Report)>, usize), StoreError> {
        let all = REPORTS.prefix(&());
        let (mut from, mut to) = (all.clone(), all.after_prefix());
        let (mut found, mut total) = (Vec::new(), 0);
        loop {
            let reverse = !wanted.oldest_first;
            let scan = Scan { from: from.clone(), to: to.clone(), reverse, limit: SCAN_ROWS_MAX };
            let rows = self.0.history.log().db().scan(&REPORTS, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok((found, total)) };
            match reverse {
                true => to = REPORTS.key(last),
                false => from = REPORTS.key(last).successor(),
            }
            for ((number,), report) in rows.into_iter().filter(|(_, report)| wanted.takes(report)) {
                if total >= skipped && found.len() < limit {
                    found.push((number, report));
                }
                total += 1;
            }
        }
    }

    /// One report.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, number: u64) -> Result<Option<Report>, StoreError> {
        self.0.history.log().db().row(&REPORTS, &(number,)).await
    }

    /// The reported event as it was, in canonical JSON, if the report is not too old and about one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn evidence(&self, number: u64) -> Result<Option<String>, StoreError> {
        if number < self.evidence_from() {
            return Ok(None);
        }
        let row = self.0.history.log().db().row(&EVIDENCE, &(number,)).await?;
        Ok(row.map(|row| row.event))
    }

    /// Removes a report, and what is kept with it. Whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(&self, number: u64) -> Result<bool, CommitError> {
        if self.get(number).await?.is_none() {
            return Ok(false);
        }
        let mut commit = Commit::new();
        commit.delete(&REPORTS, &(number,));
        commit.delete(&EVIDENCE, &(number,));
        self.0.history.log().commit(commit).await?;
        Ok(true)
    }
}
