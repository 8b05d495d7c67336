//! The row of a device: what its sessions are. Its keys belong to the `device` module.

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Accounts,
    token::{REFRESH_TOKENS, TOKENS, TokenHash},
};
use crate::{
    log::Commit,
    store::table::{Rows, TableId},
};

/// Devices by user.
pub const DEVICES: Rows<(OwnedUserId, OwnedDeviceId), Device> = Rows::new(TableId::Device);

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, as the user sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// When it first logged in, in milliseconds since the epoch.
    #[serde(default)]
    pub created_ms: u64,
    /// The hashes of its access tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenHash>,
    /// The hashes of its refresh tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refresh_tokens: Vec<TokenHash>,
}

/// When and from where a device was last heard of; kept in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at_ms: u64,
    pub(super) ip: Option<String>,
}

impl Device {
    /// Adds to `commit` the removal of everything that lets this device in.
    pub fn forget_tokens(&self, commit: &mut Commit) {
        for hash in &self.tokens {
            commit.delete(&TOKENS, &(hash.clone(),));
        }
        for hash in &self.refresh_tokens {
            commit.delete(&REFRESH_TOKENS, &(hash.clone(),));
        }
    }
}

impl Accounts {
    /// When (in milliseconds since the epoch) and from which address a device was last heard of, if
    /// that was since this server started.
    #[must_use]
    pub fn last_seen(&self, user: &UserId, device: &DeviceId) -> Option<(u64, Option<String>)> {
        let seen = self.seen.get(&(user.to_owned(), device.to_owned()))?;
        Some((seen.at_ms, seen.ip))
    }

    /// Notes that a device made a request from `ip`.
    pub fn note_seen(&self, user: &UserId, device: &DeviceId, ip: Option<String>) {
        let at_ms = self.ports.clock.now_ms();
        self.seen.insert((user.to_owned(), device.to_owned()), Seen { at_ms, ip });
    }
}
