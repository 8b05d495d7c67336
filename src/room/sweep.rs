//! Kicks and bans that take back what their user has said in the room.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4293>

use std::sync::{Arc, atomic::Ordering};

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId, events::TimelineEventType};
use serde_json::{Map, Value};

use super::{RoomError, Rooms, membership::member_content, turn::Turn};
use crate::{
    dag::{Pdu, StateId},
    history::{
        StoredEvent,
        tables::{BACKFILLED, FORGOTTEN_TEXTS},
    },
    limits::{RETENTION_PAGE_EVENTS, SWEEP_EVENTS_MAX, SWEEP_LOOKED_AT_MAX},
    log::Direction,
    store::Scan,
    types::{Fact, Membership, Position},
};

/// What such a membership says.
const REDACT_EVENTS: &str = "org.matrix.msc4293.redact_events";

impl Rooms {
    /// Whether kicks and bans that want it, of this server and of others, take back what their user has said; not until
    /// this is called.
    pub fn heed_sweeps(&self, heeds: bool) {
        self.0.sweeps.store(heeds, Ordering::Relaxed);
    }

    /// Kicks or bans a user, and takes back what they have said since they came into the room.
    ///
    /// # Errors
    /// Why they cannot be kicked or banned. Who may do that but may not redact, takes back nothing.
    pub async fn sweep(
        &self,
        sender: &UserId,
        room: &RoomId,
        (user, to): (&UserId, Membership),
        reason: Option<&str>,
    ) -> Result<(), RoomError> {
        let mut content = member_content(to, None, reason);
        content.insert(REDACT_EVENTS.to_owned(), true.into());
        self.put_out(sender, room, (user, to), content).await
    }
}

impl Turn {
    /// If `pdu`, which is shown now and stands at `before`, wants it and may, takes back what its user has said since they
    /// came into the room, as far as it is here: the newest of it, within bounds. What comes later is not shown anyway.
    pub(super) async fn sweep(&mut self, pdu: &Pdu, before: StateId) -> Result<(), RoomError> {
        let Some(user) = self.swept(pdu, before).await? else { return Ok(()) };
        let by = pdu.event_id().to_owned();
        for event in self.of_this_stay(&user, &by).await? {
            let key = (self.rooms.0.ports.clock.now_ms(), event.pdu.event_id().to_string());
            self.extra.push(Box::new(move |commit| commit.put(&FORGOTTEN_TEXTS, &key, &())));
            self.take_back(event, by.clone()).await?;
        }
        Ok(())
    }

    /// Whose words it takes back.
    async fn swept(&self, pdu: &Pdu, before: StateId) -> Result<Option<OwnedUserId>, RoomError> {
        if !self.rooms.0.sweeps.load(Ordering::Relaxed)
            || !matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban))
        {
            return Ok(None);
        }
        let content: Map<String, Value> = pdu.content_as().unwrap_or_default();
        let user = pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok());
        let Some(user) = user.filter(|user| user != pdu.sender()) else { return Ok(None) };
        if content.get(REDACT_EVENTS) != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let power = self.power_in(before).await?;
        let may = power.may_redact_others(pdu.sender())
            && power.user(pdu.sender()) >= power.to_send(&TimelineEventType::RoomRedaction, None);
        Ok(may.then_some(user))
    }

    /// What a user has sent since they came into the room last, the newest first; then what was filled in of that.
    async fn of_this_stay(&self, user: &UserId, by: &OwnedEventId) -> Result<Vec<StoredEvent>, RoomError> {
        if let Some(guard) = &self.guard {
            guard.rest().await;
        }
        let log = self.rooms.0.history.log();
        let new = self.written.iter().map(|written| &written.event);
        let found = new.filter(|event| is_theirs(event, user)).cloned().collect();
        let mut stay = Stay { user, by, found, left: SWEEP_LOOKED_AT_MAX, begins_at: None };
        let mut to = log.head();
        while !stay.is_over() {
            let range = (Position::ZERO, to);
            let facts =
                log.timeline(&self.room_id, range, Direction::Backward, RETENTION_PAGE_EVENTS).await?;
            let Some((last, _)) = facts.last() else { break };
            to = Position(last.0.saturating_sub(1));
            stay.left = stay.left.saturating_sub(facts.len());
            let id = |(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            };
            let ids: Vec<OwnedEventId> = facts.into_iter().filter_map(id).collect();
            stay.add(self.rooms.0.history.sound_events(&ids).await?);
        }
        // What was filled in before the stay began is of an earlier one.
        let from =
            BACKFILLED.prefix(&(self.room_id.clone(), stay.begins_at.take().unwrap_or(Position::ZERO)));
        let mut to = BACKFILLED.prefix(&(self.room_id.clone(),)).after_prefix();
        while !stay.is_over() {
            let scan = Scan { from: from.clone(), to, reverse: true, limit: RETENTION_PAGE_EVENTS };
            let page = log.db().scan(&BACKFILLED, scan).await?;
            let Some((last, _)) = page.last() else { break };
            to = BACKFILLED.key(last);
            stay.left = stay.left.saturating_sub(page.len());
            let ids: Vec<OwnedEventId> = page.into_iter().map(|(_, id)| id).collect();
            stay.add(self.rooms.0.history.sound_events(&ids).await?);
        }
        Ok(stay.found)
    }
}

/// What has been found of somebody's stay in a room.
struct Stay<'a> {
    user: &'a UserId,
    /// What ends the stay.
    by: &'a OwnedEventId,
    found: Vec<StoredEvent>,
    /// How many events are looked at yet.
    left: usize,
    /// Where the user was outside last before.
    begins_at: Option<Position>,
}

impl Stay<'_> {
    fn is_over(&self) -> bool {
        self.begins_at.is_some() || self.left == 0 || self.found.len() >= SWEEP_EVENTS_MAX
    }

    /// Adds those of a page that are of the stay, the newest first.
    fn add(&mut self, page: Vec<Option<Arc<StoredEvent>>>) {
        for event in page.into_iter().flatten() {
            let is_membership =
                event.pdu.state_key() == Some(self.user.as_str()) && event.pdu.event_id() != self.by;
            let was_out = matches!(event.pdu.membership(), Some(Membership::Leave | Membership::Ban));
            if is_membership && was_out {
                self.begins_at = Some(event.position);
            }
            if self.is_over() {
                return;
            }
            if is_theirs(&event, self.user) {
                self.found.push((*event).clone());
            }
        }
    }
}

/// Whether an event is what the user has said, or their own membership: other state holds for the room, whoever has set it.
/// An access list without entries denies every server.
fn is_theirs(event: &StoredEvent, user: &UserId) -> bool {
    let is_said = match event.pdu.state_key() {
        None => true,
        Some(key) => key == user.as_str() && *event.pdu.event_type() == TimelineEventType::RoomMember,
    };
    is_said && event.pdu.sender() == user && event.notes.redacted_by.is_none() && !event.is_expired()
}
