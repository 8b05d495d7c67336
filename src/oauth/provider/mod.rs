//! Providers of identities (OpenID Connect): somebody who is known there signs in here.
//!
//! OpenID Connect Core 1.0, 3.1, with PKCE (RFC 7636) and a redirect URI for each provider, so that no provider can
//! stand in for another one (RFC 9700, 4.4).

mod claims;
mod flow;
mod remote;

pub use claims::ProviderError;
pub use flow::{Newcomer, Returned};

use parking_lot::Mutex;

use remote::Known;

/// What the operator says about a provider.
#[derive(Clone)]
pub struct ProviderSettings {
    /// Its id, as it is part of addresses.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Its issuer identifier.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// How this server proves that.
    pub client_secret: Option<String>,
    /// What is asked for, `openid` included.
    pub scopes: Vec<String>,
    /// The user name that is proposed, with claims in braces.
    pub localpart: String,
}

/// A provider, and what it has told about itself.
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    known: Mutex<Option<Known>>,
}

impl Provider {
    pub(super) fn new(settings: ProviderSettings) -> Self {
        Self { settings, known: Mutex::new(None) }
    }
}
