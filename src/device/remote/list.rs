//! What is kept of the devices of users of other servers, and when it still holds.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
    api::federation::device::get_devices::v1::Response,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    device::object::{parse, to_raw},
    history::{History, Members},
    limits::{DEVICE_LIST_BYTES_MAX, DEVICE_LIST_MEMBERS_LOOKED_AT, KEY_OBJECT_BYTES_MAX},
    log::Audience,
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::{Lane, Membership, Position},
};

/// The devices of users of other servers.
pub(super) const LISTS: Rows<(OwnedUserId,), RemoteList> = Rows::new(TableId::RemoteDevices);

/// Lists that have missed something and are to be asked for anew.
pub(super) const STALE: Rows<(OwnedServerName, OwnedUserId), StaleList> = Rows::new(TableId::StaleDevices);

/// A user's devices as their server has told them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RemoteList {
    /// The last update that is contained, by its server's count; nothing if that was not told.
    pub(super) stream_id: Option<u64>,
    /// The head of the log before the server was asked.
    at: Position,
    /// Why the server tells us of changes.
    basis: Basis,
    /// Keys with the names of their devices in `unsigned`. Devices without keys are left out.
    pub(super) devices: BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>,
    pub(super) master: Option<Raw<CrossSigningKey>>,
    pub(super) self_signing: Option<Raw<CrossSigningKey>>,
}

/// That a user is in a room with one of ours: as long as this holds, their server tells us of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Basis {
    room: OwnedRoomId,
    /// The user's join.
    join: OwnedEventId,
}

/// How the attempts stand to ask for a list anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StaleList {
    /// How often it was found to miss something since it was last complete.
    pub(super) marks: u64,
    /// How often the server was asked in vain.
    pub(super) failures: u32,
    /// When it is asked again, in milliseconds since the epoch.
    pub(super) retry_at_ms: u64,
}

impl RemoteList {
    /// An empty list, asked for at `at`.
    pub(super) fn new((at, basis): (Position, Basis), stream_id: Option<u64>) -> Self {
        let devices = BTreeMap::new();
        Self { stream_id, at, basis, devices, master: None, self_signing: None }
    }

    /// What a server answers about `user`; what does not belong to the user is left out.
    pub(super) fn read(since: (Position, Basis), user: &UserId, answer: Response) -> Self {
        let mut list = Self::new(since, Some(u64::from(answer.stream_id)));
        for device in answer.devices {
            let name = device.device_display_name.as_deref();
            if let Some(keys) = named_keys((user, &device.device_id), &device.keys, name) {
                list.devices.insert(device.device_id, keys);
            }
        }
        list.master = answer.master_key.filter(|key| is_of(key, user));
        list.self_signing = answer.self_signing_key.filter(|key| is_of(key, user));
        list
    }

    /// Whether it is small enough to be kept.
    pub(super) fn is_small(&self) -> bool {
        let keys = self.master.iter().chain(&self.self_signing).map(|key| key.json().get().len());
        let devices = self.devices.values().map(|keys| keys.json().get().len());
        devices.chain(keys).sum::<usize>() <= DEVICE_LIST_BYTES_MAX
    }

    /// Whether both tell the same devices and keys.
    pub(super) fn tells_the_same_as(&self, other: &Self) -> bool {
        let texts = |list: &Self| {
            let keys = [&list.master, &list.self_signing];
            keys.map(|key| key.as_ref().map(|key| String::from(key.json().get())))
        };
        self.has_devices_of(other) && texts(self) == texts(other)
    }

    /// Whether it was asked for after `told`.
    pub(super) fn is_newer_than(&self, told: Position) -> bool {
        told <= self.at
    }

    /// Whether both tell the same devices.
    pub(super) fn has_devices_of(&self, other: &Self) -> bool {
        let texts = |list: &Self| -> Vec<(OwnedDeviceId, String)> {
            list.devices.iter().map(|(id, keys)| (id.clone(), String::from(keys.json().get()))).collect()
        };
        texts(self) == texts(other)
    }
}

/// Keys as they are kept: with the device's name, if they belong to the user and the device and are not
/// too large.
pub(super) fn named_keys(
    (user, device): (&UserId, &OwnedDeviceId),
    keys: &Raw<DeviceKeys>,
    name: Option<&str>,
) -> Option<Raw<DeviceKeys>> {
    if !belongs(keys, user, device) {
        return None;
    }
    let mut object = parse(keys.json()).ok()?;
    object.remove("unsigned");
    if let Some(name) = name {
        let unsigned = json!({ "device_display_name": name }).try_into().ok()?;
        object.insert(String::from("unsigned"), unsigned);
    }
    to_raw(&object).ok()
}

/// Whether device keys name the user and the device under which they came.
pub(super) fn belongs(keys: &Raw<DeviceKeys>, user: &UserId, device: &OwnedDeviceId) -> bool {
    keys.get_field::<OwnedUserId>("user_id").is_ok_and(|named| named.as_deref() == Some(user))
        && keys.get_field::<OwnedDeviceId>("device_id").is_ok_and(|named| named.as_ref() == Some(device))
}

/// Whether a cross-signing key is the user's, and not too large.
pub(super) fn is_of(key: &Raw<CrossSigningKey>, user: &UserId) -> bool {
    key.json().get().len() <= KEY_OBJECT_BYTES_MAX
        && key.get_field::<OwnedUserId>("user_id").is_ok_and(|named| named.as_deref() == Some(user))
}

/// What is looked up of rooms for one question about several users.
pub(super) struct Rooms<'a> {
    history: &'a History,
    members: BTreeMap<OwnedRoomId, Arc<Members>>,
    since: BTreeMap<OwnedRoomId, Option<Position>>,
}

impl<'a> Rooms<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        Self { history, members: BTreeMap::new(), since: BTreeMap::new() }
    }

    /// Whether the user's server has told us of every change since `list` was asked for: the user has not
    /// left the room meanwhile, and neither have we.
    pub(super) async fn hold(&mut self, user: &UserId, list: &RemoteList) -> Result<bool, StoreError> {
        let Basis { room, join } = &list.basis;
        let members = self.members(room).await?;
        let is_the_same = members
            .get(user)
            .is_some_and(|member| member.membership == Membership::Join && member.event_id == *join);
        Ok(is_the_same && self.since(room).await?.is_some_and(|since| since <= list.at))
    }

    /// The first of `rooms` that the user is in together with one of ours.
    pub(super) async fn basis(
        &mut self,
        user: &UserId,
        rooms: &[OwnedRoomId],
    ) -> Result<Option<Basis>, StoreError> {
        for room in rooms {
            let members = self.members(room).await?;
            let join = members.get(user).filter(|member| member.membership == Membership::Join);
            if let Some(join) = join
                && self.since(room).await?.is_some()
            {
                return Ok(Some(Basis { room: room.clone(), join: join.event_id.clone() }));
            }
        }
        Ok(None)
    }

    async fn members(&mut self, room: &RoomId) -> Result<Arc<Members>, StoreError> {
        if let Some(members) = self.members.get(room) {
            return Ok(members.clone());
        }
        let members = self.history.current_members(room).await?;
        self.members.insert(room.to_owned(), members.clone());
        Ok(members)
    }

    /// Since when one of ours has been in a room without a break.
    async fn since(&mut self, room: &RoomId) -> Result<Option<Position>, StoreError> {
        if let Some(since) = self.since.get(room) {
            return Ok(*since);
        }
        let members = self.members(room).await?;
        let ours = members.with(Membership::Join).filter(|user| self.history.is_local(user));
        let lane = Lane::Room(room.to_owned());
        let mut since = None;
        for user in ours.take(DEVICE_LIST_MEMBERS_LOOKED_AT) {
            let reading = self.history.log().subscriptions(&Audience::Account(user.clone())).await?;
            let open = reading.intervals(&lane).last().filter(|interval| interval.closed.is_none());
            let opened = open.map(|interval| interval.opened);
            since = since.into_iter().chain(opened).min();
        }
        self.since.insert(room.to_owned(), since);
        Ok(since)
    }
}
