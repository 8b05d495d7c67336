//! The service: what it is made of.

use std::{ops::Deref, sync::Arc};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::{
    Code, OauthError, Site,
    provider::{Provider, ProviderSettings},
};
use crate::{account::Accounts, device::Devices, limits::OAUTH_POLLS_MAX, log::Log, peer::Net, types::Ports};

/// What the service stands on.
pub struct Foundation {
    /// The log.
    pub log: Log,
    /// Time and randomness.
    pub ports: Ports,
    /// The door to the network, for providers.
    pub net: Arc<dyn Net>,
    /// Whom sessions are of.
    pub accounts: Accounts,
    /// What sessions are on.
    pub devices: Devices,
    /// Where the server's pages are; the API is off without.
    pub site: Option<Site>,
    /// Providers of identities.
    pub providers: Vec<ProviderSettings>,
}

/// The built-in OAuth 2.0 API. Cheap to clone.
#[derive(Clone)]
pub struct Oauth(Arc<Inner>);

/// What the service holds.
pub struct Inner {
    pub(super) log: Log,
    pub(super) ports: Ports,
    pub(super) accounts: Accounts,
    pub(super) devices: Devices,
    /// When device codes were last asked for, by their hashes.
    pub(super) polls: Cache<String, u64>,
    /// How many rendezvous sessions were begun in which minute.
    pub(super) meetings: Mutex<(u64, u32)>,
    /// How many clients by which nobody has signed in were written in which hour.
    pub(super) unused_clients: Mutex<(u64, u32)>,
    pub(super) net: Arc<dyn Net>,
    pub(super) providers: Vec<Provider>,
    site: Option<Site>,
}

impl Deref for Oauth {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Oauth {
    /// Builds it.
    #[must_use]
    pub fn new(foundation: Foundation) -> Self {
        let Foundation { log, ports, net, accounts, devices, site, providers } = foundation;
        let providers = providers.into_iter().map(Provider::new).collect();
        Self(Arc::new(Inner {
            log,
            ports,
            accounts,
            devices,
            polls: Cache::new(OAUTH_POLLS_MAX),
            meetings: Mutex::default(),
            unused_clients: Mutex::default(),
            net,
            providers,
            site,
        }))
    }

    /// Where the server's pages are, unless the API is off.
    #[must_use]
    pub fn site(&self) -> Option<&Site> {
        self.site.as_ref()
    }

    pub(super) fn needed_site(&self) -> Result<&Site, OauthError> {
        self.site().ok_or_else(|| OauthError::refused(Code::InvalidRequest, "The OAuth 2.0 API is off"))
    }
}
