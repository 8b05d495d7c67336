//! What concerns the user and the device, whatever the room: account data, to-device messages, device
//! lists, key counts, presence.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Sync, SyncError, SyncRequest, SyncResponse,
    filter::{global_type_wanted, presence_wanted},
    is_initial,
    response::{DeviceLists, Json},
    rooms::Moved,
};
use crate::{
    account::Caller,
    device::ListChanges,
    log::{Page, Slice},
    push::decides_counts,
    store::StoreError,
    types::{Cursor, Fact, Lane, Membership, Position},
};

/// A page, cut by what its facts are about.
#[derive(Default)]
pub(super) struct Cut {
    pub(super) from: Cursor,
    pub(super) to: Cursor,
    pub(super) rooms: BTreeMap<OwnedRoomId, Slice>,
    /// What the user has become to rooms, with the event that says so.
    pub(super) memberships: BTreeMap<OwnedRoomId, (Membership, OwnedEventId, Position)>,
    /// Private receipts by room.
    pub(super) private_receipts: BTreeMap<OwnedRoomId, Vec<Fact>>,
    /// Changed account data by room.
    pub(super) room_data: BTreeMap<OwnedRoomId, Vec<String>>,
    pub(super) global_data: Vec<String>,
    pub(super) people: Vec<Fact>,
    /// A thread was subscribed to, or no longer.
    pub(super) threads: bool,
    /// Keys that the user's own devices signed of others: told to the user alone.
    pub(super) own_lists: bool,
    pub(super) inbox: Vec<Fact>,
}

impl Cut {
    pub(super) fn of(page: Page) -> Self {
        let mut cut = Self { from: page.from, to: page.to, ..Self::default() };
        for slice in page.slices {
            match slice.lane.clone() {
                Lane::Room(room) => drop(cut.rooms.insert(room, slice)),
                Lane::Account(_) => slice.facts.into_iter().for_each(|(at, fact)| cut.account(at, fact)),
                Lane::People => cut.people.extend(slice.facts.into_iter().map(|(_, fact)| fact)),
                Lane::Inbox(..) => cut.inbox.extend(slice.facts.into_iter().map(|(_, fact)| fact)),
                // Profiles are looked up by where they changed last: see `account::profile_news`.
                Lane::Profiles | Lane::Egress(_) | Lane::Outbox(_) => {}
            }
        }
        cut
    }

    pub(super) fn account(&mut self, at: Position, fact: Fact) {
        match fact {
            Fact::Membership { room_id, membership, event_id } => {
                self.memberships.insert(room_id, (membership, event_id, at));
            }
            Fact::AccountData { room_id: Some(room), event_type } => {
                self.room_data.entry(room).or_default().push(event_type);
            }
            Fact::AccountData { room_id: None, event_type } => self.global_data.push(event_type),
            Fact::Receipt { ref room_id, .. } => {
                self.private_receipts.entry(room_id.clone()).or_default().push(fact);
            }
            Fact::Devices { .. } => self.own_lists = true,
            Fact::ThreadSubscription { .. } => self.threads = true,
            _ => {}
        }
    }

    /// Whose presence changed.
    fn come_and_gone(&self) -> impl Iterator<Item = OwnedUserId> + '_ {
        self.people.iter().filter_map(|fact| match fact {
            Fact::Presence { user_id, .. } => Some(user_id.clone()),
            _ => None,
        })
    }

    /// Whether the user wants to be told of other things than before, so that any room's counts may be others.
    pub(super) fn changes_counts(&self) -> bool {
        self.global_data.iter().any(|event_type| decides_counts(event_type))
    }

    /// Whether the page is the first of its client.
    pub(super) fn is_initial(&self) -> bool {
        is_initial(self.from)
    }
}

#[derive(Serialize)]
struct PlainEvent<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
}

/// What devices are told of account data that is gone.
pub(super) fn removed() -> Json {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

/// An event of a type and a content, as account data and to-device messages are.
pub(super) fn plain(event_type: &str, content: &RawValue, sender: Option<&str>) -> Result<Json, SyncError> {
    let event = PlainEvent { event_type, content, sender };
    Ok(to_raw_value(&event).map_err(StoreError::engine)?)
}

impl Sync {
    /// Adds everything that is not about a room.
    pub(super) async fn add_person(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        (cut, moved): (&Cut, &Moved),
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        self.add_account_data(caller, request, cut, response).await?;
        add_inbox(cut, response)?;
        let changes = self.list_changes(caller, (cut, moved)).await?;
        self.add_profiles(caller, request, (cut, moved, &changes), response).await?;
        self.add_device_lists((cut, moved), changes, response).await?;
        self.add_presence(caller, request, cut, response).await?;
        let counts = self.devices.key_counts(&caller.user_id, &caller.device_id).await?;
        response.device_one_time_keys_count = counts.one_time;
        // Clients take a missing count for "unknown"; zero says that keys are wanted.
        response.device_one_time_keys_count.entry("signed_curve25519".to_owned()).or_default();
        response.device_unused_fallback_key_types = counts.unused_fallback;
        response.unstable_fallback_key_types.clone_from(&response.device_unused_fallback_key_types);
        response.keys_changed = cut.inbox.iter().any(|fact| matches!(fact, Fact::KeyCounts));
        Ok(())
    }

    async fn add_account_data(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        cut: &Cut,
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        let changed = (!cut.is_initial()).then_some(&*cut.global_data);
        let found = self.global_data(&caller.user_id, changed).await?;
        for (event_type, content) in found {
            if global_type_wanted(&request.filter.account_data, &event_type) {
                response.account_data.events.push(plain(&event_type, &content, None)?);
            }
        }
        Ok(())
    }

    /// Global account data of the types that changed, or all of it.
    pub(super) async fn global_data(
        &self,
        user: &UserId,
        changed: Option<&[String]>,
    ) -> Result<BTreeMap<String, Json>, SyncError> {
        let mut found: BTreeMap<String, Json> = BTreeMap::new();
        match changed {
            None => found.extend(self.accounts.all_data(user, None).await?),
            Some(changed) => {
                let wanted: Vec<_> = changed.iter().map(|kind| (None, kind.clone())).collect();
                let contents = self.accounts.data_of(user, &wanted).await?;
                let named = changed.iter().cloned().zip(contents);
                found.extend(named.map(|(kind, content)| (kind, content.unwrap_or_else(removed))));
            }
        }
        if changed.is_none() || found.contains_key("m.push_rules") {
            // What is stored lacks the defaults that came with newer versions.
            let rules = self.accounts.push_rules(user).await?;
            let content = serde_json::json!({ "global": rules });
            found.insert("m.push_rules".to_owned(), to_raw_value(&content).map_err(StoreError::engine)?);
        }
        Ok(found)
    }

    async fn add_presence(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        cut: &Cut,
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        if !self.ephemeral.has_presence() {
            return Ok(());
        }
        // Someone whom the client meets only now may have come long before.
        let meets = cut.is_initial() || cut.rooms.values().any(|slice| slice.opened.is_some());
        let people: BTreeSet<OwnedUserId> = match meets {
            true => self.ephemeral.present().into_iter().chain(cut.come_and_gone()).collect(),
            false => {
                let met = &response.device_lists.changed;
                let there = self.ephemeral.present().into_iter().filter(|user| met.contains(user));
                cut.come_and_gone().chain(there).collect()
            }
        };
        for user in people {
            if presence_wanted(&request.filter.presence, &user)
                && self.history.shares_room(&caller.user_id, &user).await?
            {
                let content = to_raw_value(&self.ephemeral.presence(&user)).map_err(StoreError::engine)?;
                response.presence.events.push(plain("m.presence", &content, Some(user.as_str()))?);
            }
        }
        Ok(())
    }

    /// Whom the user met, from whom they parted, and whose devices changed.
    async fn list_changes(
        &self,
        caller: &Caller,
        (cut, moved): (&Cut, &Moved),
    ) -> Result<ListChanges, SyncError> {
        let told = cut.own_lists || cut.people.iter().any(|fact| matches!(fact, Fact::Devices { .. }));
        if cut.is_initial() || (!told && moved.rooms.is_empty()) {
            return Ok(ListChanges::default());
        }
        let span = (cut.from.log, cut.to.log);
        Ok(self.devices.list_changes(&self.history, &caller.user_id, span, Some(&moved.rooms)).await?)
    }

    async fn add_device_lists(
        &self,
        (cut, moved): (&Cut, &Moved),
        changes: ListChanges,
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        if cut.is_initial() {
            return Ok(());
        }
        response.device_lists.changed = changes.changed;
        response.device_lists.left = changes.left;
        for room in &moved.revealed {
            let state = self.history.state_at_position(room, cut.to.log).await?;
            let members = self.history.members(room, state).await?;
            response.device_lists.changed.extend(members.with(Membership::Join).cloned());
        }
        let DeviceLists { changed, left } = &mut response.device_lists;
        left.retain(|user| !changed.contains(user));
        Ok(())
    }
}

fn add_inbox(cut: &Cut, response: &mut SyncResponse) -> Result<(), SyncError> {
    for fact in &cut.inbox {
        let Fact::ToDevice { sender, event_type, content } = fact else { continue };
        let content: &RawValue = serde_json::from_str(content).map_err(StoreError::engine)?;
        response.to_device.events.push(plain(event_type, content, Some(sender.as_str()))?);
    }
    Ok(())
}
