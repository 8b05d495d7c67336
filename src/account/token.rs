//! Access and refresh tokens: random text for the client, its hash for the store.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    store::table::{Rows, TableId},
    types::{Rng, random_string},
};

/// SHA-256 of a token, in hexadecimal.
pub(super) type TokenHash = String;

pub(super) const TOKENS: Rows<(TokenHash,), TokenRow> = Rows::new(TableId::Token);
pub(super) const REFRESH_TOKENS: Rows<(TokenHash,), RefreshRow> = Rows::new(TableId::RefreshToken);

/// Characters of a token: 238 bits.
const TOKEN_CHARS: usize = 40;

/// Whom an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRow {
    pub(super) user_id: OwnedUserId,
    pub(super) device_id: OwnedDeviceId,
    /// When it ceases to be valid, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_ms: Option<u64>,
    /// It was had for a refresh token and has not been used: once it is, what came before it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) renewed: bool,
}

/// Whom a refresh token stands for, and the access token that it renews.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RefreshRow {
    pub(super) user_id: OwnedUserId,
    pub(super) device_id: OwnedDeviceId,
    pub(super) renews: TokenHash,
}

/// A new token; `prefix` tells people who find it what it is.
pub(super) fn new_token(rng: &dyn Rng, prefix: &str) -> String {
    format!("{prefix}{}", random_string(rng, TOKEN_CHARS))
}

/// What is stored of a token.
pub(super) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
