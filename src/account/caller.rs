//! Who makes a request, and what they may do.

use ruma::{OwnedDeviceId, OwnedUserId};

/// The id in place of a device's where there is none: no device has it.
pub const NO_DEVICE: &str = "";

/// The user and the device that an access token stands for. An application service may act without a
/// device: see [`NO_DEVICE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that the token was issued to.
    pub device_id: OwnedDeviceId,
}

/// What a user may do, as the administrators of the server see it.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    #[default]
    Good,
    /// Read, and put their own things in order, but neither speak nor join.
    Suspended,
    /// What the specification leaves to guests; less still, if they are suspended.
    Guest {
        /// Whether they are.
        suspended: bool,
    },
    /// Nothing but log out.
    Locked,
}
