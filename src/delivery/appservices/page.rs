//! What of the log an application service gets next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    budget::{Budget, Edu, Weights},
    courier::{Courier, CourierError},
    messages::Inbox,
    row::Mark,
};
use crate::{
    history::{Bundles, Shape, Status, StoredEvent},
    limits::{APPSERVICE_EVENTS_MAX, APPSERVICE_LANE_EVENTS, APPSERVICE_LANES_AT_ONCE},
    log::Direction,
    store::StoreError,
    types::{Fact, Lane, Membership, Position, ReceiptKind},
};

/// The next piece of the log.
#[derive(Default)]
pub(super) struct AppservicePage {
    /// Up to where.
    pub(super) to: Position,
    /// Whether that is where the log ends.
    pub(super) is_last: bool,
    /// Up to where messages to devices are in it, if they are wanted.
    pub(super) messages: Option<Mark>,
    /// The inboxes that nobody else reads of which messages are in it, up to which position.
    pub(super) inboxes: Vec<(OwnedUserId, OwnedDeviceId, Position)>,
    /// The inboxes of which more waits.
    pub(super) left: BTreeSet<Inbox>,
    /// What is in it beside messages to devices.
    pub(super) weights: Weights,
    events: Vec<Box<RawValue>>,
    ephemeral: Vec<Value>,
    pub(super) to_device: Vec<Value>,
    /// Users whose devices are to be looked up anew.
    pub(super) changed: BTreeSet<OwnedUserId>,
    /// Users whose devices need not be known any more.
    pub(super) parted: BTreeSet<OwnedUserId>,
    pub(super) key_counts: ByDevice,
    pub(super) fallback_keys: ByDevice,
}

/// A transaction as it is sent.
#[derive(Serialize)]
struct Body<'a> {
    events: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ephemeral: &'a [Value],
    #[serde(rename = "de.sorunome.msc2409.ephemeral", skip_serializing_if = "<[_]>::is_empty")]
    msc2409_ephemeral: &'a [Value],
    #[serde(rename = "de.sorunome.msc2409.to_device", skip_serializing_if = "<[_]>::is_empty")]
    to_device: &'a [Value],
    #[serde(rename = "org.matrix.msc3202.device_lists", skip_serializing_if = "Option::is_none")]
    changed: Option<Value>,
    #[serde(
        rename = "org.matrix.msc3202.device_one_time_keys_count",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    key_counts: &'a ByDevice,
    #[serde(
        rename = "org.matrix.msc3202.device_one_time_key_counts",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    key_counts_too: &'a ByDevice,
    #[serde(
        rename = "org.matrix.msc3202.device_unused_fallback_key_types",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    fallback_keys: &'a ByDevice,
}

pub(super) type ByDevice = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Value>>;

/// Lanes that may have something new.
#[derive(Default)]
pub(super) struct Touched {
    rooms: Vec<OwnedRoomId>,
    users: Vec<OwnedUserId>,
    pub(super) inboxes: BTreeSet<Inbox>,
    pub(super) people: bool,
}

type Found = (Position, OwnedRoomId, Fact);

impl AppservicePage {
    /// Whether there is only one item in it, so that nothing can be taken out.
    pub(super) fn is_single(&self) -> bool {
        self.weights.items() + self.to_device.len() <= 1
    }

    /// Adds an ephemeral event.
    pub(super) fn add_edu(&mut self, at: Position, edu: Value) {
        // It stands under two names.
        self.weights.add(at, 2 * edu.to_string().len(), Some(Edu::Alone));
        self.ephemeral.push(edu);
    }

    /// The body of the transaction, if there is anything in it.
    pub(super) fn body(&self) -> Option<String> {
        let is_empty = self.events.is_empty()
            && self.ephemeral.is_empty()
            && self.to_device.is_empty()
            && self.changed.is_empty()
            && self.parted.is_empty()
            && self.key_counts.is_empty();
        if is_empty {
            return None;
        }
        let moved = !self.changed.is_empty() || !self.parted.is_empty();
        let changed = moved.then(|| json!({ "changed": self.changed, "left": self.parted }));
        let body = Body {
            events: &self.events,
            ephemeral: &self.ephemeral,
            msc2409_ephemeral: &self.ephemeral,
            to_device: &self.to_device,
            changed,
            key_counts: &self.key_counts,
            key_counts_too: &self.key_counts,
            fallback_keys: &self.fallback_keys,
        };
        // Our own types have string keys and no failing serializers.
        Some(serde_json::to_string(&body).expect("a transaction serializes"))
    }
}

impl Courier {
    /// What comes after `from`: at most so many events as one transaction carries, and what else belongs
    /// to that piece of the log; as much of that as `budget` allows.
    pub(super) async fn page(
        &mut self,
        from: Position,
        budget: Budget,
    ) -> Result<AppservicePage, CourierError> {
        let head = self.couriers.log().head();
        // Where its registration was replaced, nobody remembers what did not fit.
        let wants_messages = self.appservice.registration.wants_messages();
        let since = if wants_messages { from.min(self.messages.upto) } else { from };
        let mut touched = self.touched(since).await?;
        // What did not fit into the last transaction comes now.
        touched.inboxes.extend(self.left.iter().cloned());
        let mut upto = head;
        let mut page = loop {
            let mut page = self.piece(&touched, (from, upto)).await?;
            match page.weights.cut(budget) {
                Some(fits) => upto = fits,
                None => break page,
            }
            // Who is in these rooms was followed beyond there.
            self.interests.take_page_back();
        };
        page.is_last = page.to == head;
        if wants_messages && budget.is_single() && page.weights.items() > 0 {
            // They are yet to come.
            (page.messages, page.left) = (Some(self.messages.clone()), touched.inboxes);
            page.is_last = false;
        } else if wants_messages {
            self.add_messages(&mut page, &touched.inboxes, (head, budget)).await?;
        }
        Ok(page)
    }

    /// What there is after `from` and up to `upto` at most, without messages to devices.
    async fn piece(
        &mut self,
        touched: &Touched,
        (from, upto): (Position, Position),
    ) -> Result<AppservicePage, CourierError> {
        self.interests.turn_page();
        let (mut found, mut to) = self.timelines(&touched.rooms, (from, upto)).await?;
        self.add_invites(&touched.users, (from, upto), &mut found).await?;
        found.retain(|(at, ..)| *at <= to);
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let events = self.wanted(found, &mut to).await?;
        let mut page = AppservicePage { to, ..AppservicePage::default() };
        let (places, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let history = &self.couriers.0.history;
        let mut viewer = history.viewer(&self.appservice.sender, None).await?.of_service();
        page.events = viewer.render(&events, Shape::Full, &Bundles::new()).await?;
        for (at, event) in places.iter().zip(&page.events) {
            page.weights.add(*at, event.get().len(), None);
        }
        if self.appservice.registration.wants_ephemeral() {
            for room in &touched.rooms {
                self.add_ephemeral(&mut page, room, (from, to)).await?;
            }
            for user in &touched.users {
                self.add_private_receipts(&mut page, user, (from, to)).await?;
            }
            self.add_presence(&mut page, touched, (from, to)).await?;
        }
        if self.appservice.registration.wants_devices() {
            let events: Vec<_> = places.into_iter().zip(events).collect();
            self.add_devices(&mut page, (touched, &events), (from, to)).await?;
        }
        Ok(page)
    }

    /// Where to look: where something was written, or everywhere if that is not known (after a start).
    async fn touched(&self, from: Position) -> Result<Touched, CourierError> {
        let log = self.couriers.log();
        let history = &self.couriers.0.history;
        let mut touched = Touched::default();
        if let Some(lanes) = log.touched(from) {
            for lane in lanes {
                match lane {
                    Lane::Room(room) => touched.rooms.push(room),
                    Lane::Account(user) if self.appservice.owns(&user) => touched.users.push(user),
                    Lane::Inbox(user, device) if self.appservice.owns(&user) => {
                        touched.inboxes.insert((user, device));
                    }
                    Lane::People => touched.people = true,
                    _ => {}
                }
            }
            return Ok(touched);
        }
        touched.people = true;
        touched.rooms = history.rooms().await?;
        let mut last: Option<OwnedUserId> = None;
        loop {
            let users = self.couriers.0.accounts.users(last.as_deref(), usize::MAX).await?;
            let Some((end, _)) = users.last() else { break };
            last = Some(end.clone());
            let own = users.into_iter().map(|(user, _)| user).filter(|user| self.appservice.owns(user));
            touched.users.extend(own);
        }
        for user in &touched.users {
            let devices = self.couriers.0.devices.list(user).await?;
            touched.inboxes.extend(devices.into_iter().map(|(device, _)| (user.clone(), device)));
        }
        Ok(touched)
    }

    /// What was written to the timelines of `rooms`, and up to where all of it is there.
    async fn timelines(
        &self,
        rooms: &[OwnedRoomId],
        (from, head): (Position, Position),
    ) -> Result<(Vec<Found>, Position), StoreError> {
        let (mut found, mut to) = (Vec::new(), head);
        for rooms in rooms.chunks(APPSERVICE_LANES_AT_ONCE) {
            let wanted: Vec<_> = rooms.iter().map(|room| (room.clone(), from, head)).collect();
            let limit = APPSERVICE_LANE_EVENTS;
            let lanes = self.couriers.log().timelines(&wanted, Direction::Forward, limit + 1).await?;
            for (room, facts) in rooms.iter().zip(lanes) {
                if let Some((beyond, _)) = facts.get(limit) {
                    to = to.min(Position(beyond.0.saturating_sub(1)));
                }
                found.extend(facts.into_iter().map(|(at, fact)| (at, room.clone(), fact)));
            }
            found.retain(|(at, ..)| *at <= to);
        }
        Ok((found, to))
    }

    /// Invites of its users into rooms that this server is not in, and how these end.
    async fn add_invites(
        &self,
        users: &[OwnedUserId],
        (from, head): (Position, Position),
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        for user in users {
            let lane = Lane::Account(user.clone());
            for (at, fact) in self.couriers.log().registers(&lane, from, head).await? {
                let Fact::Membership { room_id, membership, event_id } = fact else { continue };
                if !matches!(membership, Membership::Invite | Membership::Leave | Membership::Ban) {
                    continue;
                }
                // What is in a timeline comes from there.
                let event = self.couriers.0.history.sound_event(&event_id).await?;
                if event.is_some_and(|event| event.status == Status::Outlier) {
                    found.push((at, room_id, Fact::Event { event_id }));
                }
            }
        }
        Ok(())
    }

    /// The events that are wanted, as many as one transaction carries; `to` goes down to where they end.
    async fn wanted(
        &mut self,
        found: Vec<Found>,
        to: &mut Position,
    ) -> Result<Vec<(Position, Arc<StoredEvent>)>, StoreError> {
        let history = self.couriers.0.history.clone();
        let mut wanted = Vec::new();
        let mut last = Position::ZERO;
        for facts in found.chunks(APPSERVICE_EVENTS_MAX) {
            let ids: Vec<OwnedEventId> = facts.iter().filter_map(|(.., fact)| event_id(fact)).collect();
            let events = history.sound_event_map(&ids).await?;
            for (at, room, fact) in facts {
                if wanted.len() >= APPSERVICE_EVENTS_MAX && *at > last {
                    *to = Position(at.0 - 1);
                    return Ok(wanted);
                }
                last = *at;
                match event_id(fact).and_then(|id| events.get(&id)) {
                    Some(event) => {
                        if self.interests.wants((&history, &self.appservice), event).await? {
                            wanted.push((*at, event.clone()));
                        }
                    }
                    None => self.interests.forget(room),
                }
            }
        }
        Ok(wanted)
    }

    /// What a user of its own has read without telling others. Nobody else's private receipts concern it.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#pushing-ephemeral-data>
    async fn add_private_receipts(
        &self,
        page: &mut AppservicePage,
        user: &OwnedUserId,
        (from, to): (Position, Position),
    ) -> Result<(), StoreError> {
        for (at, fact) in self.couriers.log().registers(&Lane::Account(user.clone()), from, to).await? {
            let Fact::Receipt { kind: ReceiptKind::ReadPrivate, room_id, thread_id, event_id, ts, .. } = fact
            else {
                continue;
            };
            let data = receipt_data(ts, thread_id);
            let content = json!({ event_id.as_str(): { "m.read.private": { user.as_str(): data } } });
            page.add_edu(at, json!({ "type": "m.receipt", "room_id": room_id, "content": content }));
        }
        Ok(())
    }

    /// Typing and receipts of a room; never private ones, which are in no room's lane.
    async fn add_ephemeral(
        &mut self,
        page: &mut AppservicePage,
        room: &OwnedRoomId,
        (from, to): (Position, Position),
    ) -> Result<(), StoreError> {
        let facts = self.couriers.log().registers(&Lane::Room(room.clone()), from, to).await?;
        if facts.is_empty() {
            return Ok(());
        }
        let history = self.couriers.0.history.clone();
        if !self.interests.wants_room((&history, &self.appservice), room).await? {
            return Ok(());
        }
        let (mut receipts, mut typing) = (json!({}), None);
        for (at, fact) in facts {
            match fact {
                Fact::Receipt { kind: ReceiptKind::Read, user_id, thread_id, event_id, ts, .. } => {
                    let data = receipt_data(ts, thread_id);
                    let bytes = data.to_string().len() + event_id.as_str().len() + user_id.as_str().len();
                    // All of them are one event, which stands under two names.
                    page.weights.add(at, 2 * bytes, Some(Edu::Receipts(room.clone())));
                    receipts[event_id.as_str()]["m.read"][user_id.as_str()] = data;
                }
                Fact::Typing { user_ids } => {
                    let content = json!({ "user_ids": user_ids });
                    typing = Some((at, json!({ "type": "m.typing", "room_id": room, "content": content })));
                }
                _ => {}
            }
        }
        if receipts.as_object().is_some_and(|receipts| !receipts.is_empty()) {
            page.ephemeral.push(json!({ "type": "m.receipt", "room_id": room, "content": receipts }));
        }
        if let Some((at, typing)) = typing {
            page.add_edu(at, typing);
        }
        Ok(())
    }
}

fn event_id(fact: &Fact) -> Option<OwnedEventId> {
    match fact {
        Fact::Event { event_id } => Some(event_id.clone()),
        _ => None,
    }
}

/// What a receipt says beside whose and of what it is.
fn receipt_data(ts: u64, thread_id: Option<String>) -> Value {
    let mut data = json!({ "ts": ts });
    if let Some(thread_id) = thread_id {
        data["thread_id"] = thread_id.into();
    }
    data
}
