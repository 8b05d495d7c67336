//! Taking a report.

use ruma::{EventId, RoomId, UserId};

use super::{
    ReportError, Reports,
    rows::{EVIDENCE, Evidence, REPORTS, Report, Subject},
};
use crate::{
    limits::{REPORT_ATTEMPTS_MAX, REPORT_EVIDENCE_MS, REPORT_REASON_BYTES_MAX, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
    store::Scan,
};

impl Reports {
    /// Takes the report of an event, and keeps it as it is now: whoever sent it may take it back.
    ///
    /// # Errors
    /// [`ReportError::NotFound`] when the reporter is not in the room or may not see such an event in it.
    pub async fn of_event(
        &self,
        reporter: &UserId,
        (room, event): (&RoomId, &EventId),
        reason: String,
    ) -> Result<(), ReportError> {
        let history = &self.0.history;
        if !history.is_joined(room, reporter).await? {
            return Err(ReportError::NotFound);
        }
        let found = history.event(event).await?.filter(|event| event.pdu.room_id() == room);
        let found = found.ok_or(ReportError::NotFound)?;
        if !history.visible(reporter, &found).await? {
            return Err(ReportError::NotFound);
        }
        let subject = Subject::Event {
            room_id: room.to_owned(),
            event_id: event.to_owned(),
            sender: found.pdu.sender().to_owned(),
        };
        let evidence = Evidence { event: found.pdu.text().to_owned() };
        self.keep(subject, reporter, (reason, Some(evidence))).await
    }

    /// Takes the report of a room. The reporter is not told whether this server knows the room.
    ///
    /// # Errors
    /// When the reason is too long or the store fails.
    pub async fn of_room(&self, reporter: &UserId, room: &RoomId, reason: String) -> Result<(), ReportError> {
        check(&reason)?;
        let is_known = self.0.history.room(room).await?.is_some()
            || self.0.history.standing(reporter, room).await?.is_some();
        match is_known {
            true => self.keep(Subject::Room { room_id: room.to_owned() }, reporter, (reason, None)).await,
            false => Ok(()),
        }
    }

    /// Takes the report of a user. The reporter is not told whether there is such a user.
    ///
    /// # Errors
    /// When the reason is too long or the store fails.
    pub async fn of_user(&self, reporter: &UserId, user: &UserId, reason: String) -> Result<(), ReportError> {
        check(&reason)?;
        let is_known = !self.0.history.is_local(user) || self.0.accounts.user(user).await?.is_some();
        match is_known {
            true => self.keep(Subject::User { user_id: user.to_owned() }, reporter, (reason, None)).await,
            false => Ok(()),
        }
    }

    /// Takes the reasons out of the reports of a user who wants to be forgotten. That something was reported stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_reasons(&self, reporter: &UserId) -> Result<(), ReportError> {
        let (all, db) = (REPORTS.prefix(&()), self.0.history.log().db());
        let (mut from, to) = (all.clone(), all.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = db.scan(&REPORTS, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = REPORTS.key(last).successor();
            for (key, report) in rows {
                if report.reporter != reporter || report.reason.is_empty() {
                    continue;
                }
                let mut commit = Commit::new();
                commit.expect_equals(&REPORTS, &key, &report);
                commit.put(&REPORTS, &key, &Report { reason: String::new(), ..report });
                match self.0.history.log().commit(commit).await {
                    // It has just been removed.
                    Err(CommitError::Conflict(_)) => {}
                    other => drop(other?),
                }
            }
        }
    }

    /// Forgets what events were like that were reported too long ago.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_evidence(&self) -> Result<(), ReportError> {
        let (db, over) = (self.0.history.log().db(), EVIDENCE.key(&(self.evidence_from(),)));
        let scan = Scan { from: EVIDENCE.prefix(&()), to: over.clone(), reverse: false, limit: 1 };
        if !db.scan(&EVIDENCE, scan).await?.is_empty() {
            let mut commit = Commit::new();
            commit.delete_range(EVIDENCE.prefix(&()), over);
            self.0.history.log().commit(commit).await?;
        }
        Ok(())
    }

    /// The least number of a report whose event is kept as it was.
    pub(super) fn evidence_from(&self) -> u64 {
        self.0.ports.clock.now_ms().saturating_sub(REPORT_EVIDENCE_MS).saturating_mul(1_000)
    }

    async fn keep(
        &self,
        subject: Subject,
        reporter: &UserId,
        (reason, evidence): (String, Option<Evidence>),
    ) -> Result<(), ReportError> {
        check(&reason)?;
        let received_ms = self.0.ports.clock.now_ms();
        let report = Report { subject, reporter: reporter.to_owned(), reason, received_ms };
        // Numbers rise with time, and a thousand of them fit into a millisecond.
        let first = received_ms.saturating_mul(1_000);
        for number in first..first.saturating_add(REPORT_ATTEMPTS_MAX) {
            let mut commit = Commit::new();
            commit.expect_absent(&REPORTS, &(number,));
            commit.put(&REPORTS, &(number,), &report);
            if let Some(evidence) = &evidence {
                commit.put(&EVIDENCE, &(number,), evidence);
            }
            match self.0.history.log().commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        Err(ReportError::Commit(CommitError::Conflict(REPORTS.key(&(first,)))))
    }
}

fn check(reason: &str) -> Result<(), ReportError> {
    match reason.len() > REPORT_REASON_BYTES_MAX {
        true => Err(ReportError::TooLong),
        false => Ok(()),
    }
}
