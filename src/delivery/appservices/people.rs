//! What an application service hears of people: who is present, and whose devices are to be known.
//!
//! It hears of those with whom one of its users shares a room, or who are in a room of its namespaces.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#pushing-ephemeral-data>
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3202>

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde_json::{Value, json};

use super::{
    courier::Courier,
    page::{AppservicePage, Touched},
};
use crate::{
    history::StoredEvent,
    log::Audience,
    store::StoreError,
    types::{Fact, Lane, Membership, Position},
};

/// Bytes of a user id, as they mostly are.
const USER_BYTES: usize = 40;

impl Courier {
    /// Whether a user is in a room that the application service hears of.
    async fn meets(&mut self, user: &UserId) -> Result<bool, StoreError> {
        let history = self.couriers.0.history.clone();
        let rooms = match history.is_local(user) {
            true => history.joined_rooms(user).await?,
            false => {
                let server = Audience::Server(user.server_name().to_owned());
                let lanes = self.couriers.log().subscriptions(&server).await?;
                let open = lanes.latest().filter(|(_, last)| last.closed.is_none());
                let room = |lane: &Lane| match lane {
                    Lane::Egress(room) => Some(room.clone()),
                    _ => None,
                };
                open.filter_map(|(lane, _)| room(lane)).collect()
            }
        };
        for room in rooms {
            let wanted = self.interests.wants_room((&history, &self.appservice), &room).await?;
            if wanted && (history.is_local(user) || history.current_members(&room).await?.is_joined(user)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who has come, gone, or said something of themselves.
    pub(super) async fn add_presence(
        &mut self,
        page: &mut AppservicePage,
        touched: &Touched,
        (from, to): (Position, Position),
    ) -> Result<(), StoreError> {
        if !touched.people {
            return Ok(());
        }
        for (at, fact) in self.couriers.log().registers(&Lane::People, from, to).await? {
            let Fact::Presence { user_id, content } = fact else { continue };
            if self.meets(&user_id).await? {
                let content: Value = serde_json::from_str(&content).map_err(StoreError::engine)?;
                page.add_edu(at, json!({ "type": "m.presence", "sender": user_id, "content": content }));
            }
        }
        Ok(())
    }

    /// Whose devices are to be looked up anew and whose need not be known any more, and how many keys those devices
    /// of its own have left that something was written to. `events` are those of the page.
    pub(super) async fn add_devices(
        &mut self,
        page: &mut AppservicePage,
        (touched, events): (&Touched, &[(Position, Arc<StoredEvent>)]),
        (from, to): (Position, Position),
    ) -> Result<(), StoreError> {
        if touched.people {
            for (at, fact) in self.couriers.log().registers(&Lane::People, from, to).await? {
                if let Fact::Devices { user_id } = fact
                    && self.meets(&user_id).await?
                {
                    page.weights.add(at, user_id.as_str().len(), None);
                    page.changed.insert(user_id);
                }
            }
        }
        let mut parted = BTreeSet::new();
        for (at, event) in events {
            let before = page.changed.len() + parted.len();
            self.note_move(event, (&mut page.changed, &mut parted)).await?;
            let more = page.changed.len() + parted.len() - before;
            page.weights.add(*at, more * USER_BYTES, None);
        }
        for user in parted {
            if !self.meets(&user).await? {
                page.changed.remove(&user);
                page.parted.insert(user);
            }
        }
        for (user, device) in &touched.inboxes {
            let inbox = Lane::Inbox(user.clone(), device.clone());
            let facts = self.couriers.log().registers(&inbox, from, to).await?;
            let Some((at, _)) = facts.last() else { continue };
            let counts = self.couriers.0.devices.key_counts(user, device).await?;
            let (one_time, fallback) = (json!(counts.one_time), json!(counts.unused_fallback));
            // They stand under two names.
            let bytes = 2 * one_time.to_string().len() + fallback.to_string().len();
            page.weights.add(*at, bytes + 3 * (user.as_str().len() + device.as_str().len()), None);
            page.key_counts.entry(user.clone()).or_default().insert(device.clone(), one_time);
            page.fallback_keys.entry(user.clone()).or_default().insert(device.clone(), fallback);
        }
        Ok(())
    }

    /// Whom an event brings together with users of the application service, and whom it may part from them.
    async fn note_move(
        &self,
        event: &StoredEvent,
        (met, parted): (&mut BTreeSet<OwnedUserId>, &mut BTreeSet<OwnedUserId>),
    ) -> Result<(), StoreError> {
        let user = event.pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
        let (Some(user), Some(membership), Some(states)) = (user, event.pdu.membership(), event.states)
        else {
            return Ok(());
        };
        let history = &self.couriers.0.history;
        let before = history.state_entry(states.before, StateEventType::RoomMember, user.as_str()).await?;
        let was_in = before.is_some_and(|before| before.membership == Some(Membership::Join));
        let found = match (was_in, membership == Membership::Join) {
            (false, true) => met,
            (true, false) => parted,
            _ => return Ok(()),
        };
        found.insert(user.to_owned());
        if self.appservice.owns(user) {
            let members = history.current_members(event.pdu.room_id()).await?;
            found.extend(members.with(Membership::Join).cloned());
        }
        Ok(())
    }
}
