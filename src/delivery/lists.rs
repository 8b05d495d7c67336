//! What a server is told of the devices of our users.
//!
//! A change goes to every server that shares a room with the user. One that comes to share a room by the user's
//! coming in is told what it lacks: the changes since it last heard of the user; or, if it never did, that there is
//! such a user with devices, by one update that builds on none, so that it asks for the list when it needs it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Arguments,
};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::json;

use super::{DeliveryError, courier::Courier, parcel::Parcel};
use crate::{
    device::{DeviceError, DeviceUpdate, ListUpdates, TOLD},
    limits::SCAN_ROWS_MAX,
    log::{Audience, Slice},
    store::StoreError,
    types::{Fact, Lane, Position},
};

/// Users of ours who have come into rooms that the server reads, with these rooms.
pub(super) type Met = BTreeMap<OwnedUserId, BTreeSet<OwnedRoomId>>;

impl Courier<'_> {
    /// The users whom the server meets by what a page tells of rooms, and who are still there.
    pub(super) async fn met(&self, slices: &[Slice]) -> Result<Met, StoreError> {
        let mut met = Met::new();
        for slice in slices {
            let Lane::Egress(room) = &slice.lane else { continue };
            for (_, fact) in &slice.facts {
                if let Fact::Devices { user_id } = fact
                    && self.couriers.0.history.is_joined(room, user_id).await?
                    && self.couriers.log().servers_of(room).contains(self.server)
                {
                    met.entry(user_id.clone()).or_default().insert(room.clone());
                }
            }
        }
        Ok(met)
    }

    /// What has changed of the devices of `met` since the server last heard of them. Those of whom it has never heard
    /// are returned, with those of earlier pages who still wait.
    pub(super) async fn add_met(
        &self,
        parcel: &mut Parcel,
        met: Met,
        (since, to): (Position, Position),
    ) -> Result<Met, DeliveryError> {
        let keys: Vec<_> = met.keys().map(|user| (self.server.clone(), user.clone())).collect();
        let told = self.couriers.log().db().rows(&TOLD, &keys).await?;
        let mut strangers = self.waiting.clone();
        for ((user, rooms), told) in met.into_iter().zip(told) {
            let from = match told {
                Some(told) => Position(told),
                // Since it has met the user there has been nothing to tell.
                None if self.has_met(&user, &rooms).await? => since,
                None => {
                    strangers.entry(user).or_default().extend(rooms);
                    continue;
                }
            };
            let updates = self.list_updates(&user, (from, to)).await?;
            self.add_updates(parcel, user, updates).await?;
        }
        Ok(strangers)
    }

    /// Whether the server shares a room with the user besides those named.
    async fn has_met(&self, user: &UserId, rooms: &BTreeSet<OwnedRoomId>) -> Result<bool, StoreError> {
        let (log, joined) = (self.couriers.log(), self.couriers.0.history.joined_rooms(user).await?);
        let mut others = joined.iter().filter(|room| !rooms.contains(*room));
        Ok(others.any(|room| log.servers_of(room).contains(self.server)))
    }

    /// Tells of the devices of users of whom the server has never heard. That alone is no reason to reach a server: it
    /// waits for what it is sent next, so that a join does not reach thousands of servers.
    pub(super) async fn introduce(
        &self,
        parcel: &mut Parcel,
        strangers: Met,
        span: (Position, Position),
    ) -> Result<(), DeliveryError> {
        let mut goes = !parcel.is_empty();
        for user in strangers.keys() {
            goes = goes || !self.list_updates(user, span).await?.is_empty();
        }
        if !goes {
            parcel.waiting = strangers;
            return Ok(());
        }
        for user in strangers.into_keys() {
            let introduced = self.couriers.0.devices.introduction(&user, span.1).await;
            let introduced = self.undamaged(introduced, format_args!("the devices of {user}"))?;
            let devices = introduced.into_iter().collect();
            let updates = ListUpdates { devices, ..ListUpdates::default() };
            self.add_updates(parcel, user, updates).await?;
        }
        Ok(())
    }

    /// What changed of a user's devices, unless that is damaged: the next update then shows that one is missing.
    pub(super) async fn list_updates(
        &self,
        user: &UserId,
        interval: (Position, Position),
    ) -> Result<ListUpdates, DeliveryError> {
        let updates = self.couriers.0.devices.list_updates(user, interval).await;
        self.undamaged(updates, format_args!("what changed of the devices of {user}"))
    }

    /// What was read, or nothing if it is damaged, which is said.
    fn undamaged<T: Default>(
        &self,
        read: Result<T, DeviceError>,
        what: Arguments<'_>,
    ) -> Result<T, DeliveryError> {
        match read {
            Ok(read) => Ok(read),
            Err(DeviceError::Store(error)) if !matches!(error, StoreError::Corrupt(_)) => Err(error.into()),
            Err(error) => {
                self.say_damaged(what, &error);
                Ok(T::default())
            }
        }
    }

    /// What has changed, since the server asked for them, of the devices of users whom it shares a room with from
    /// this page on, as far as is known here: it was not told of that.
    pub(super) async fn add_missed(
        &self,
        parcel: &mut Parcel,
        met: &Met,
        (from, to): (Position, Position),
    ) -> Result<(), DeliveryError> {
        let log = self.couriers.log();
        let rooms = log.subscriptions(&Audience::Server(self.server.clone())).await?;
        let opened: Vec<&OwnedRoomId> = rooms
            .latest()
            .filter(|(_, interval)| {
                interval.closed.is_none() && interval.opened > from && interval.opened <= to
            })
            .filter_map(|(lane, _)| if let Lane::Egress(room) = lane { Some(room) } else { None })
            .collect();
        if opened.is_empty() {
            return Ok(());
        }
        let asked = log.db().range(&TOLD, &(self.server.clone(),), SCAN_ROWS_MAX).await?;
        for ((_, user), told) in asked.into_iter().filter(|((_, user), _)| !met.contains_key(user)) {
            let mut is_met = false;
            for room in &opened {
                is_met |= self.couriers.0.history.is_joined(room, &user).await?;
            }
            if is_met {
                let updates = self.list_updates(&user, (Position(told), to)).await?;
                self.add_updates(parcel, user, updates).await?;
            }
        }
        Ok(())
    }

    /// Whether a user is one of ours who shares a room with the server.
    pub(super) async fn concerns(&self, user: &OwnedUserId) -> Result<bool, StoreError> {
        if !self.couriers.0.history.is_local(user) {
            return Ok(false);
        }
        Ok(self.couriers.log().servers_sharing(user).await?.contains(self.server))
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#device-management>
    pub(super) async fn add_updates(
        &self,
        parcel: &mut Parcel,
        user: OwnedUserId,
        updates: ListUpdates,
    ) -> Result<(), DeliveryError> {
        let told = self.couriers.log().db().row(&TOLD, &(self.server.clone(), user.clone())).await?;
        // One of which the server has never heard: it misses something, and asks for all devices.
        let mut before = updates.left_out.map(|left_out| left_out.0).or(told);
        for DeviceUpdate { device_id, at, is_gone, display_name, keys } in updates.devices {
            let mut content = json!({
                "user_id": user,
                "device_id": device_id,
                "stream_id": at.0,
                "prev_id": before.into_iter().collect::<Vec<_>>(),
            });
            if is_gone {
                content["deleted"] = true.into();
            }
            if let Some(name) = display_name {
                content["device_display_name"] = name.into();
            }
            if let Some(keys) = keys {
                content["keys"] = serde_json::to_value(keys).map_err(StoreError::engine)?;
            }
            parcel.edu("m.device_list_update", content)?;
            before = Some(at.0);
        }
        if let Some(keys) = updates.cross_signing {
            let mut content = json!({ "user_id": user });
            for (name, key) in [("master_key", keys.master), ("self_signing_key", keys.self_signing)] {
                if let Some(key) = key {
                    content[name] = serde_json::to_value(key).map_err(StoreError::engine)?;
                }
            }
            parcel.edu("m.signing_key_update", content)?;
        }
        if let Some(last) = before.filter(|_| before != told) {
            parcel.told.push((user, Position(last)));
        }
        Ok(())
    }
}
