//! The service: what it is made of, and whom a token stands for.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, UserId, api::client::uiaa::LoginTermsParams};
use tokio::sync::Semaphore;

use super::{
    AccountError, Caller, Captcha, DEVICES, NO_DEVICE, User,
    device::SeenMark,
    measure::Tally,
    shared_secret::Nonces,
    token::{TOKENS, hash},
    uia::Uia,
    user::USERS,
};
use crate::{
    limits::{
        ACCESS_TOKEN_LIFETIME, ACCOUNT_DATA_USERS_MAX, LAST_SEEN_MAX, PASSWORD_HASHES_AT_ONCE,
        PASSWORD_HASHES_WAITING_MAX, SCAN_ROWS_MAX,
    },
    log::Log,
    store::Scan,
    types::Ports,
};

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Nobody, but by the shared secret.
    #[default]
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Everybody.
    Open,
}

/// Whether newcomers prove a mail address (`m.login.email.identity`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationEmail {
    /// They are not asked.
    #[default]
    Off,
    /// They may, and the address is theirs then.
    Offered,
    /// They have to.
    Required,
}

/// How accounts are run; see the `registration` part of the configuration. Part of it is secret, so it is not printed.
#[derive(Clone)]
pub struct Settings {
    /// Who may make an account.
    pub registration: Registration,
    /// The registration tokens.
    pub registration_tokens: Vec<String>,
    /// What newcomers have to accept.
    pub terms: LoginTermsParams,
    /// Whether guests are let in.
    pub guests: bool,
    /// Whether newcomers prove a mail address.
    pub email: RegistrationEmail,
    /// How newcomers show that they are no programs, if they have to.
    pub captcha: Option<Captcha>,
    /// Whether there are pages on which somebody without a password can prove who they are.
    pub pages: bool,
    /// Whether those get an account whom a provider of identities knows, whatever `registration` says.
    pub provider_registration: bool,
    /// Names that nobody can register.
    pub reserved: Vec<String>,
    /// Who tells users what the server has to say, and whom nobody can refuse to hear.
    pub announcer: Option<OwnedUserId>,
    /// How long an access token that can be refreshed is valid.
    pub access_token_lifetime: Option<Duration>,
    /// Whether users are told only of threads to which they have subscribed.
    pub thread_subscriptions: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registration: Registration::default(),
            registration_tokens: Vec::new(),
            terms: LoginTermsParams::default(),
            guests: false,
            email: RegistrationEmail::default(),
            captcha: None,
            pages: false,
            provider_registration: true,
            reserved: Vec::new(),
            announcer: None,
            access_token_lifetime: Some(ACCESS_TOKEN_LIFETIME),
            thread_subscriptions: false,
        }
    }
}

/// Local accounts. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

/// What the service holds.
pub struct Inner {
    pub(super) log: Log,
    pub(super) ports: Ports,
    pub(super) server_name: OwnedServerName,
    pub(super) settings: Settings,
    /// Who hashes a password.
    pub(super) hashing: Arc<Semaphore>,
    /// Who waits to.
    pub(super) hashing_line: Semaphore,
    pub(super) uia: Uia,
    pub(super) nonces: Nonces,
    pub(super) seen: Cache<(OwnedUserId, OwnedDeviceId), SeenMark>,
    /// How many bytes of account data each user has at most.
    pub(super) data_bytes: Cache<OwnedUserId, Arc<Tally>>,
    /// How many types of account data there are in a place at most.
    pub(super) data_types: Cache<(OwnedUserId, String), Arc<Tally>>,
}

impl std::ops::Deref for Accounts {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Accounts {
    /// The accounts of `server_name`.
    #[must_use]
    pub fn new(log: Log, ports: Ports, server_name: OwnedServerName, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            log,
            ports,
            server_name,
            settings,
            hashing: Arc::new(Semaphore::new(PASSWORD_HASHES_AT_ONCE)),
            hashing_line: Semaphore::new(PASSWORD_HASHES_WAITING_MAX),
            uia: Uia::default(),
            nonces: Nonces::default(),
            seen: Cache::new(LAST_SEEN_MAX),
            data_bytes: Cache::new(ACCOUNT_DATA_USERS_MAX),
            data_types: Cache::new(ACCOUNT_DATA_USERS_MAX),
        }))
    }

    /// How accounts are run.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The row of a local user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user(&self, user: &UserId) -> Result<Option<User>, AccountError> {
        Ok(self.log.db().row(&USERS, &(user.to_owned(),)).await?)
    }

    /// Whether `user` has an account here that is in use.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_active(&self, user: &UserId) -> Result<bool, AccountError> {
        Ok(self.user(user).await?.is_some_and(|user| !user.deactivated))
    }

    /// Local users in the order of their ids, the first after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(OwnedUserId, User)>, AccountError> {
        let all = USERS.prefix(&());
        let from = match after {
            Some(user) => USERS.key(&(user.to_owned(),)).successor(),
            None => all.clone(),
        };
        let scan = Scan { from, to: all.after_prefix(), reverse: false, limit: limit.min(SCAN_ROWS_MAX) };
        let rows = self.log.db().scan(&USERS, scan).await?;
        Ok(rows.into_iter().map(|((user,), row)| (user, row)).collect())
    }

    /// Whom `token` stands for. Their account may be locked or suspended: see [`User::standing`].
    ///
    /// # Errors
    /// When it stands for nobody, or its time is over.
    pub async fn recognize(&self, token: &str) -> Result<(Caller, User), AccountError> {
        let hash = hash(token);
        let unknown = || AccountError::UnknownToken { soft: false };
        let row = self.log.db().row(&TOKENS, &(hash.clone(),)).await?.ok_or_else(unknown)?;
        let user = self.user(&row.user_id).await?.filter(|user| !user.deactivated).ok_or_else(unknown)?;
        if row.expires_ms.is_some_and(|expires| expires <= self.ports.clock.now_ms()) {
            // A lock does not end the session: the client is not to take it for an end.
            return Err(if user.locked {
                AccountError::Locked
            } else {
                AccountError::UnknownToken { soft: true }
            });
        }
        if row.renewed {
            self.settle(&hash, &row).await?;
        }
        Ok((Caller { user_id: row.user_id, device_id: row.device_id }, user))
    }

    /// Refuses a caller who was let in a while ago and would not be any more: for whoever waits for something.
    ///
    /// # Errors
    /// When the account is locked or at its end, or the device has been removed.
    pub async fn confirm(&self, caller: &Caller) -> Result<(), AccountError> {
        let gone = || AccountError::UnknownToken { soft: false };
        let user = self.user(&caller.user_id).await?.filter(|user| !user.deactivated).ok_or_else(gone)?;
        if user.locked {
            return Err(AccountError::Locked);
        }
        if caller.device_id.as_str() != NO_DEVICE {
            let device = DEVICES.key(&(caller.user_id.clone(), caller.device_id.clone()));
            self.log.db().raw(&device).await?.ok_or_else(gone)?;
        }
        Ok(())
    }
}
