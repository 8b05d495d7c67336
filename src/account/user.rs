//! The row of a local user.

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use super::Standing;
use crate::{
    store::table::{Rows, TableId},
    types::Position,
};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) const USERS: Rows<(OwnedUserId,), User> = Rows::new(TableId::User);

/// What is known of a local user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The hash of the password in PHC form; without one, nobody logs in by password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// When the account was made, in milliseconds since the epoch.
    #[serde(default)]
    pub created_ms: u64,
    /// May use the administration API.
    #[serde(default)]
    pub admin: bool,
    /// May do nothing but log out.
    #[serde(default)]
    pub locked: bool,
    /// Where the log was when the account was last unlocked: what came before is not told by notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlocked_at: Option<Position>,
    /// May read, but neither write nor join.
    #[serde(default)]
    pub suspended: bool,
    /// Has left for good; the name is never given to anybody else.
    #[serde(default)]
    pub deactivated: bool,
    /// Browsers that signed in to the server's pages before this moment are signed out, in milliseconds since the
    /// epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub signed_out_ms: u64,
    /// Until when cross-signing keys may be replaced, because the user has allowed it on the account page; in
    /// milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cross_signing_reset_until_ms: u64,
    /// Asked for their messages to be hidden from those who join later.
    #[serde(default)]
    pub erased: bool,
    /// The policies that they have accepted, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted: BTreeMap<String, Acceptance>,
    /// Has not registered, and may do little.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
}

/// That somebody has accepted a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The version of its text.
    pub version: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
}

impl User {
    /// What the user may do.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.locked, self.suspended) {
            (true, _) => Standing::Locked,
            (false, suspended) if self.guest => Standing::Guest { suspended },
            (false, true) => Standing::Suspended,
            (false, false) => Standing::Good,
        }
    }
}
