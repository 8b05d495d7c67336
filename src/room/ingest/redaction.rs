//! Redactions from outside: those that come before their target wait for it.
//!
//! <https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions>

use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use crate::{
    dag::{
        Pdu, StateId, StateKey,
        redact::{prune, takes_effect},
    },
    history::{
        EventNotes, Status, StoredEvent,
        tables::{FORGOTTEN_TEXTS, REDACTIONS},
    },
    limits::REDACTIONS_LOOKED_AT_MAX,
    room::{RoomError, turn::Turn},
};

impl Turn {
    /// Lets an accepted redaction take effect, or wait for its target. `before` is the state before it.
    pub(super) async fn apply_redaction(
        &mut self,
        redaction: &Pdu,
        before: StateId,
    ) -> Result<(), RoomError> {
        let Some(target) = redaction.redacts().map(ToOwned::to_owned) else { return Ok(()) };
        let Some(found) = self.known(&target).await? else {
            let key = (target, redaction.event_id().to_owned());
            self.extra.push(Box::new(move |commit| commit.put(&REDACTIONS, &key, &())));
            return Ok(());
        };
        // The first redaction is the one that clients are told of.
        if found.notes.redacted_by.is_some() || !self.reaches(redaction, &found.pdu, before).await? {
            return Ok(());
        }
        self.take_back(found, redaction.event_id().to_owned()).await
    }

    /// Has an event be redacted by another one.
    pub(in crate::room) async fn take_back(
        &mut self,
        found: StoredEvent,
        by: OwnedEventId,
    ) -> Result<(), RoomError> {
        let target = found.pdu.event_id().to_owned();
        self.let_go(&found);
        let mut redacted = found.clone();
        redacted.pdu = prune(&found.pdu, self.rules)?;
        redacted.notes.redacted_by = Some(by);
        self.untell(&found.pdu, &redacted.pdu).await?;
        self.fresh.insert(target.clone(), redacted.clone());
        let is_target = |pdu: &Pdu| pdu.event_id() == target;
        if let Some(written) = self.written.iter_mut().find(|written| is_target(&written.event.pdu)) {
            written.event = redacted;
            written.related = None;
        } else if let Some(hidden) = self.hidden.iter_mut().find(|hidden| is_target(&hidden.pdu)) {
            *hidden = redacted;
        } else {
            self.unrelate(&found).await?;
            self.rewritten.push(redacted);
        }
        Ok(())
    }

    /// Has the search forget what a redaction takes back that is no news, so that nobody who reads the timeline learns of it.
    pub(super) fn forget_text_of(&mut self, redaction: &Pdu) {
        if let Some(target) = redaction.redacts() {
            let key = (self.rooms.0.ports.clock.now_ms(), target.to_string());
            self.extra.push(Box::new(move |commit| commit.put(&FORGOTTEN_TEXTS, &key, &())));
        }
    }

    /// An event as it is once the redactions that wait for it have taken effect.
    pub(super) async fn redact_on_arrival(
        &mut self,
        pdu: Pdu,
        notes: EventNotes,
    ) -> Result<(Pdu, EventNotes), RoomError> {
        let db = self.rooms.0.history.log().db().clone();
        let target = pdu.event_id().to_owned();
        let waiting = db.range(&REDACTIONS, &(target.clone(),), REDACTIONS_LOOKED_AT_MAX).await?;
        if waiting.is_empty() || notes.redacted_by.is_some() {
            return Ok((pdu, notes));
        }
        let waiting: Vec<OwnedEventId> = waiting.into_iter().map(|((_, redaction), ())| redaction).collect();
        let mut by = None;
        for id in &waiting {
            if let Some(redaction) = self.known(id).await?
                && matches!(redaction.status, Status::Timeline | Status::Backfilled)
                && let Some(states) = redaction.states
                && self.reaches(&redaction.pdu, &pdu, states.before).await?
            {
                by = Some(id.clone());
                break;
            }
        }
        self.extra.push(Box::new(move |commit| {
            waiting.into_iter().for_each(|id| commit.delete(&REDACTIONS, &(target.clone(), id)));
        }));
        match by {
            Some(by) => Ok((prune(&pdu, self.rules)?, EventNotes { redacted_by: Some(by), ..notes })),
            None => Ok((pdu, notes)),
        }
    }

    /// Whether a redaction that stands at `before` takes effect on `target`.
    async fn reaches(&self, redaction: &Pdu, target: &Pdu, before: StateId) -> Result<bool, RoomError> {
        if *target.event_type() == TimelineEventType::RoomCreate {
            return Ok(false);
        }
        let keys = [StateEventType::RoomCreate, StateEventType::RoomPowerLevels]
            .map(|event_type| StateKey::new(event_type, ""));
        let places = self.places_in(before, &keys).await?;
        Ok(takes_effect(redaction, target, |event_type, key| places.get(event_type, key), self.rules))
    }
}
