//! What one user may see.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{DeviceId, OwnedDeviceId, OwnedEventId, OwnedUserId, RoomId, UserId, events::StateEventType};

use super::{Boundary, History, Status, StoredEvent};
use crate::{
    dag::{
        Pdu, StateId, StateKey,
        visibility::{Standing, Visibility, may_see},
    },
    log::{Audience, Direction, Subscriptions},
    store::StoreError,
    types::{Fact, Lane, Membership, Position},
};

/// One user, perhaps on one device, looking at events: remembers what it has found out, so that looking
/// at a page of events costs little more than looking at one. Make one per request.
pub struct Viewer {
    pub(super) history: History,
    pub(super) user: OwnedUserId,
    pub(super) device: Option<OwnedDeviceId>,
    pub(super) now_ms: u64,
    pub(super) lanes: Arc<Subscriptions>,
    /// Whose events are not told with others.
    pub(super) ignored: BTreeSet<OwnedUserId>,
    /// Whether it is told of rooms that it is not in itself.
    sees_all: bool,
    standings: HashMap<StateId, Standing>,
    /// Where back-filled events are of which that was read already.
    pub(super) places: HashMap<OwnedEventId, Boundary>,
}

impl History {
    /// Somebody who looks at events. Only what the sending device may know depends on `device`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn viewer(&self, user: &UserId, device: Option<&DeviceId>) -> Result<Viewer, StoreError> {
        Ok(Viewer {
            history: self.clone(),
            user: user.to_owned(),
            device: device.map(ToOwned::to_owned),
            now_ms: self.0.ports.clock.now_ms(),
            lanes: self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?,
            ignored: BTreeSet::new(),
            sees_all: false,
            standings: HashMap::new(),
            places: HashMap::new(),
        })
    }

    /// Whether `user` may see `event`. For many events, make a [`Viewer`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn visible(&self, user: &UserId, event: &StoredEvent) -> Result<bool, StoreError> {
        self.viewer(user, None).await?.sees(event).await
    }
}

impl Viewer {
    /// The same, with nothing of these users told with events of others.
    #[must_use]
    pub fn ignoring(self, ignored: &BTreeSet<OwnedUserId>) -> Self {
        Self { ignored: ignored.clone(), ..self }
    }

    /// The same for an application service, which is told of rooms that its own user may not be in: sees all that is
    /// shown to anybody.
    #[must_use]
    pub fn of_service(self) -> Self {
        Self { sees_all: true, ..self }
    }

    /// Who looks.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether the user may see `event`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sees(&mut self, event: &StoredEvent) -> Result<bool, StoreError> {
        Ok(event.is_shown() && self.would_see(&event.pdu, event).await?)
    }

    /// Whether the user would see what an event says if it had come where `place` did.
    async fn would_see(&mut self, pdu: &Pdu, place: &StoredEvent) -> Result<bool, StoreError> {
        if self.sees_all || self.was_joined(place) {
            return Ok(true);
        }
        let Some(states) = place.states else { return Ok(false) };
        let before = self.standing(states.before).await?;
        Ok(may_see(pdu, &self.user, before, false)
            || may_see(pdu, &self.user, before, true) && self.is_joined_after(place).await?)
    }

    /// Whether the user may see what `event` replaced. What came with the state of a room, or with an invite from another
    /// server, has no place in the timeline: it is seen as if it had come where it was replaced.
    pub(super) async fn sees_replaced(
        &mut self,
        event: &StoredEvent,
        replaced: &StoredEvent,
    ) -> Result<bool, StoreError> {
        match replaced.status == Status::Outlier && !replaced.is_expired() {
            true => self.would_see(&replaced.pdu, event).await,
            false => self.sees(replaced).await,
        }
    }

    /// Those of `events` that the user may see.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn filter(
        &mut self,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut seen = Vec::with_capacity(events.len());
        for event in events {
            if self.sees(&event).await? {
                seen.push(event);
            }
        }
        Ok(seen)
    }

    /// The state of a room at a boundary, if the user may see the last event before it, or the first one after it where
    /// the timeline begins: whoever may look into a room now may not know all that it was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_at(&mut self, room: &RoomId, at: Position) -> Result<Option<StateId>, StoreError> {
        let mut to = at;
        loop {
            let range = (Position::ZERO, to);
            let facts = self.history.log().timeline(room, range, Direction::Backward, 1).await?;
            let event_id = match facts.into_iter().next() {
                None => return self.state_before_all(room).await,
                Some((_, Fact::Event { event_id })) => event_id,
                Some((at, _)) => {
                    to = Position(at.0.saturating_sub(1));
                    continue;
                }
            };
            let Some(event) = self.history.event(&event_id).await? else { return Ok(None) };
            return match (self.sees(&event).await?, self.history.grown_after(room, at).await?) {
                (false, _) => Ok(None),
                (true, None) => self.history.state_at_position(room, at).await.map(Some),
                // Then only some of the members were known.
                (true, Some(_)) => Ok(event.states.map(|states| states.after)),
            };
        }
    }

    /// The state before the first event of the timeline: nothing where the room was made here.
    async fn state_before_all(&mut self, room: &RoomId) -> Result<Option<StateId>, StoreError> {
        let mut from = Position::ZERO;
        loop {
            let range = (from, self.history.log().head());
            let facts = self.history.log().timeline(room, range, Direction::Forward, 1).await?;
            let event_id = match facts.into_iter().next() {
                None => return Ok(None),
                Some((_, Fact::Event { event_id })) => event_id,
                Some((at, _)) => {
                    from = at;
                    continue;
                }
            };
            let Some(event) = self.history.event(&event_id).await? else { return Ok(None) };
            let is_seen = self.sees(&event).await?;
            return Ok(event.states.filter(|_| is_seen).map(|states| states.before));
        }
    }

    /// What the user was to the room at `event`, the event included.
    pub(super) async fn membership_at(&mut self, event: &StoredEvent) -> Result<Membership, StoreError> {
        if event.pdu.state_key() == Some(self.user.as_str())
            && let Some(membership) = event.pdu.membership()
        {
            return Ok(membership);
        }
        if self.was_joined(event) {
            return Ok(Membership::Join);
        }
        let Some(states) = event.states else { return Ok(Membership::Leave) };
        let standing = self.standing(states.before).await?;
        Ok(standing.membership.unwrap_or(Membership::Leave))
    }

    /// Whether the user read the room's lane when `event` came: all that joined members get.
    fn was_joined(&self, event: &StoredEvent) -> bool {
        let lane = Lane::Room(event.pdu.room_id().to_owned());
        event.position > Position::ZERO
            && self.lanes.intervals(&lane).iter().any(|interval| {
                interval.opened <= event.position
                    && interval.closed.is_none_or(|closed| event.position <= closed)
            })
    }

    async fn is_joined_after(&self, event: &StoredEvent) -> Result<bool, StoreError> {
        let lane = Lane::Room(event.pdu.room_id().to_owned());
        let Some(last) = self.lanes.intervals(&lane).last() else { return Ok(false) };
        let Some(closed) = last.closed else { return Ok(true) };
        let place = match self.places.get(event.pdu.event_id()) {
            Some(place) => Some(*place),
            None => self.history.place(event).await?,
        };
        Ok(Boundary::at(closed) > place.unwrap_or(Boundary::at(event.position)))
    }

    async fn standing(&mut self, state: StateId) -> Result<Standing, StoreError> {
        if let Some(known) = self.standings.get(&state) {
            return Ok(*known);
        }
        let keys = [
            StateKey::new(StateEventType::RoomHistoryVisibility, ""),
            StateKey::new(StateEventType::RoomMember, self.user.as_str()),
        ];
        let found = self.history.state_entries(state, &keys).await?;
        let setting = match &found[0] {
            Some(value) => self.history.event(&value.event_id).await?,
            None => None,
        };
        let standing = Standing {
            visibility: Visibility::of(setting.as_ref().map(|event| &event.pdu)),
            membership: found[1].as_ref().and_then(|value| value.membership),
        };
        self.standings.insert(state, standing);
        Ok(standing)
    }
}
