//! Which device of a user changed when, so that other servers are told of that one alone.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{
    log::Commit,
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::{Fact, Lane, Position},
};

/// The rows are bytes: the position of the last change, then 1 if the device is gone. The empty id stands
/// for the user's cross-signing keys.
pub const DEVICE_CHANGES: Rows<(OwnedUserId, OwnedDeviceId), ()> = Rows::new(TableId::DeviceChange);

/// What of a user's devices and keys changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListChange<'a> {
    /// A device is new, or others see it differently.
    Device(&'a DeviceId),
    /// A device is gone.
    Gone(&'a DeviceId),
    /// The cross-signing keys, or signatures on them.
    CrossSigning,
}

/// Tells everyone who shares rooms with `user` that something of their devices changed.
pub fn tell_people<'a>(
    commit: &mut Commit,
    user: &UserId,
    changes: impl IntoIterator<Item = ListChange<'a>>,
) {
    commit.fact(Lane::People, Fact::Devices { user_id: user.to_owned() });
    for change in changes {
        let (device, gone): (OwnedDeviceId, bool) = match change {
            ListChange::Device(device) => (device.to_owned(), false),
            ListChange::Gone(device) => (device.to_owned(), true),
            ListChange::CrossSigning => ("".into(), false),
        };
        commit.put_stamped(DEVICE_CHANGES.key(&(user.to_owned(), device)), Vec::new(), &[u8::from(gone)]);
    }
}

/// Reads a row of [`DEVICE_CHANGES`]: when, and whether the device is gone.
///
/// # Errors
/// When the row is damaged.
pub fn read_change(row: &[u8]) -> Result<(Position, bool), StoreError> {
    match row.split_first_chunk::<8>() {
        Some((at, [gone])) => Ok((Position(u64::from_be_bytes(*at)), *gone == 1)),
        _ => Err(StoreError::Corrupt(format!("a change of a device: {row:02x?}"))),
    }
}
