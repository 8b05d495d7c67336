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
    budget::Budget,
    courier::{Courier, CourierError},
    page::AppservicePage,
    row::Mark,
};
use crate::{
    device::DeviceError,
    store::StoreError,
    types::{Fact, Lane, Position},
};

pub(super) type Inbox = (OwnedUserId, OwnedDeviceId);

/// Bytes of a message beside its content, at least.
const MESSAGE_BYTES: usize = 150;

/// A message that waits, and whether nobody else reads it.
struct Waiting<'a> {
    at: Position,
    inbox: &'a Inbox,
    is_own: bool,
    fact: Fact,
}

impl Waiting<'_> {
    fn bytes(&self) -> usize {
        match &self.fact {
            Fact::ToDevice { content, .. } => content.len() + MESSAGE_BYTES,
            _ => 0,
        }
    }
}

/// How many of those that wait are brought at once: as many as fit, but one at least.
fn fitting(waiting: &[Waiting<'_>], budget: Budget) -> usize {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting<'_>| {
        bytes += waiting.bytes();
        bytes <= budget.bytes
    };
    waiting.iter().take(budget.messages()).take_while(fits).count().max(1)
}

/// Where an application service is that has `last`, but not `next`.
fn between(last: &Waiting<'_>, next: &Waiting<'_>) -> Mark {
    match last.at < next.at {
        true => Mark::at(last.at),
        // Facts of one commit share a position.
        false => Mark {
            upto: Position(last.at.0.saturating_sub(1)),
            part: Some((last.at, last.inbox.0.clone(), last.inbox.1.clone())),
        },
    }
}

impl Courier {
    /// The oldest of what waits in `inboxes` up to `head`, as much as one transaction carries.
    pub(super) async fn add_messages(
        &self,
        page: &mut AppservicePage,
        inboxes: &BTreeSet<Inbox>,
        (head, budget): (Position, Budget),
    ) -> Result<(), CourierError> {
        let most = budget.messages() + 1;
        let mut waiting = Vec::new();
        for inbox in inboxes {
            let is_own = self.has_for_itself(inbox).await?;
            let after = if is_own { Position::ZERO } else { self.messages.upto };
            let lane = Lane::Inbox(inbox.0.clone(), inbox.1.clone());
            // One of them may be there already.
            let found = self.couriers.log().queued(&lane, after, most + 1).await?;
            let is_new = |at| at <= head && (is_own || !self.messages.has(at, inbox));
            let found = found.into_iter().filter(|(at, _)| is_new(*at));
            waiting.extend(found.map(|(at, fact)| Waiting { at, inbox, is_own, fact }));
            // Whoever has many devices has no more than this in memory.
            waiting.sort_by_key(|waiting| (waiting.at, waiting.inbox));
            waiting.truncate(most);
        }
        let fits = fitting(&waiting, budget);
        page.messages = Some(match waiting.get(fits) {
            Some(next) => {
                page.is_last = false;
                page.left = inboxes.clone();
                between(&waiting[fits - 1], next).max(self.messages.clone())
            }
            None => Mark::at(head),
        });
        waiting.truncate(fits);
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
