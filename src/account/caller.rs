//! Who makes a request.

use ruma::{OwnedDeviceId, OwnedUserId};

/// The user and the device that an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that the token was issued to.
    pub device_id: OwnedDeviceId,
}
