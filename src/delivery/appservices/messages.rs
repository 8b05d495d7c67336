//! What an application service gets of what is sent to devices of its users.
//!
//! Devices that are its own read nothing elsewhere: what waits for them goes with the transaction that brings it. Those of
//! users whom it shares with everybody sync, and have to find there what is sent to them: it stays.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4203>

use std::collections::BTreeSet;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};

use super::{
    courier::{Courier, CourierError},
    page::AppservicePage,
};
use crate::{
    device::DeviceError,
    limits::APPSERVICE_MESSAGES_MAX,
    store::StoreError,
    types::{Fact, Lane, Position},
};

type Inbox = (OwnedUserId, OwnedDeviceId);

/// A message that waits, and whether nobody else reads it.
struct Waiting<'a> {
    at: Position,
    inbox: &'a Inbox,
    is_own: bool,
    fact: Fact,
}

impl Courier {
    /// The oldest of what waits in `inboxes` up to `head`, as much as one transaction carries.
    pub(super) async fn add_messages(
        &self,
        page: &mut AppservicePage,
        inboxes: &BTreeSet<Inbox>,
        head: Position,
    ) -> Result<(), CourierError> {
        let mut waiting = Vec::new();
        for inbox in inboxes {
            let is_own = self.has_for_itself(inbox).await?;
            let after = if is_own { Position::ZERO } else { self.messages };
            let lane = Lane::Inbox(inbox.0.clone(), inbox.1.clone());
            let found = self.couriers.log().queued(&lane, after, APPSERVICE_MESSAGES_MAX + 1).await?;
            let found = found.into_iter().filter(|(at, _)| *at <= head);
            waiting.extend(found.map(|(at, fact)| Waiting { at, inbox, is_own, fact }));
            // Whoever has many devices has no more than this in memory.
            waiting.sort_by_key(|waiting| waiting.at);
            waiting.truncate(APPSERVICE_MESSAGES_MAX + 1);
        }
        let is_more = waiting.len() > APPSERVICE_MESSAGES_MAX;
        waiting.truncate(APPSERVICE_MESSAGES_MAX);
        let last = waiting.last().filter(|_| is_more).map(|waiting| waiting.at);
        // No two facts have the same position, so nothing is left behind.
        page.messages = Some(last.map_or(head, |last| last.max(self.messages)));
        if is_more {
            page.is_last = false;
            page.left = inboxes.iter().cloned().collect();
        }
        for Waiting { at, inbox: (user, device), is_own, fact } in waiting {
            if is_own {
                page.inboxes.retain(|(of, on, _)| (of, on) != (user, device));
                page.inboxes.push((user.clone(), device.clone(), at));
            }
            if let Fact::ToDevice { sender, event_type, content } = fact {
                let content: Value = serde_json::from_str(&content).map_err(StoreError::engine)?;
                page.to_device.push(json!({
                    "type": event_type, "sender": sender, "content": content,
                    "to_user_id": user, "to_device_id": device,
                }));
            }
        }
        Ok(())
    }

    /// Whether nobody but the application service reads what is sent to a device: its user belongs to it alone, or it
    /// has made the device by itself and nobody has logged in there since.
    async fn has_for_itself(&self, (user, device): &Inbox) -> Result<bool, CourierError> {
        if self.appservice.keeps(user) {
            return Ok(true);
        }
        match self.couriers.0.devices.device(user, device).await {
            Ok(device) => Ok(device.is_made && !device.is_in_use()),
            Err(DeviceError::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
