//! Access and refresh tokens: random text for the client, its hash for the store.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::user::is_zero;
use crate::{
    store::table::{Rows, TableId},
    types::{Ports, Rng, random_string},
};

/// SHA-256 of a token, in hexadecimal.
pub(super) type TokenHash = String;

/// Whose session the refresh tokens of a family belong to, by the hash of what they have in common.
pub(super) const FAMILIES: Rows<(TokenHash,), (OwnedUserId, OwnedDeviceId)> = Rows::new(TableId::TokenFamily);

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
    /// How many refreshes lie between the login and this token.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) generation: u64,
}

/// What a refresh token says about its place among those of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The part that all of them have.
    pub(super) family: String,
    /// How many refreshes lie between the login and this token.
    pub(super) generation: u64,
}

impl Lineage {
    /// That of the first token of a session.
    pub(super) fn begin(rng: &dyn Rng) -> Self {
        Self { family: random_string(rng, FAMILY_CHARS), generation: 0 }
    }

    /// That of a token, unless it has none.
    pub(super) fn of(token: &str) -> Option<Self> {
        let mut parts = token.strip_prefix(REFRESH_PREFIX)?.split('_');
        let (family, generation, _) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { family: family.to_owned(), generation: generation.parse().ok()? })
    }

    /// That of the token that replaces it.
    pub(super) fn next(self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self }
    }

    /// What its token begins with.
    pub(super) fn prefix(&self) -> String {
        format!("{REFRESH_PREFIX}{}_{}_", self.family, self.generation)
    }
}

/// What refresh tokens begin with.
pub(super) const REFRESH_PREFIX: &str = "lkr_";
/// Characters of the part that the refresh tokens of a session have in common: 142 bits.
const FAMILY_CHARS: usize = 24;

/// A secret that tells by itself when it ends: `PREFIX_MILLISECONDS_RANDOM`. Its row has that moment in front, so
/// that the rows whose time is over are one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The secret.
    pub text: String,
    /// The key of its row.
    pub key: TicketKey,
}

/// When a ticket ends, in milliseconds since the epoch, and its hash.
pub type TicketKey = (u64, String);

impl Ticket {
    /// A new one, which is good for `lifetime_ms`.
    #[must_use]
    pub fn new(ports: &Ports, prefix: &str, lifetime_ms: u64) -> Self {
        let ends_ms = ports.clock.now_ms().saturating_add(lifetime_ms);
        let text = new_token(&*ports.rng, &format!("{prefix}_{ends_ms}_"));
        let key = (ends_ms, hash(&text));
        Self { text, key }
    }

    /// The key of a ticket's row, unless its time is over or it is none.
    #[must_use]
    pub fn key_of(ports: &Ports, prefix: &str, text: &str) -> Option<TicketKey> {
        let ends_ms = Self::end_of(prefix, text)?;
        (ends_ms > ports.clock.now_ms()).then(|| (ends_ms, hash(text)))
    }

    /// Whether it is one by its looks, and its time is over.
    #[must_use]
    pub fn is_over(ports: &Ports, prefix: &str, text: &str) -> bool {
        Self::end_of(prefix, text).is_some_and(|ends_ms| ends_ms <= ports.clock.now_ms())
    }

    fn end_of(prefix: &str, text: &str) -> Option<u64> {
        text.strip_prefix(prefix)?.split('_').nth(1)?.parse().ok()
    }
}

/// A new token; `prefix` tells people who find it what it is.
pub(super) fn new_token(rng: &dyn Rng, prefix: &str) -> String {
    format!("{prefix}{}", random_string(rng, TOKEN_CHARS))
}

/// What is stored of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
