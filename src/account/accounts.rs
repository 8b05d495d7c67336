//! The service: what it is made of, and whom a token stands for.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, UserId};
use tokio::sync::Semaphore;

use super::{
    AccountError, Caller, User,
    device::{DEVICES, Seen},
    token::{REFRESH_TOKENS, TOKENS, TokenHash, TokenRow, hash},
    uia::Uia,
    user::USERS,
};
use crate::{
    limits::{LAST_SEEN_MAX, PASSWORD_HASHES_AT_ONCE},
    log::{Commit, Log},
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

/// How accounts are run; see the `registration` part of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who may make an account.
    pub registration: Registration,
    /// The registration tokens.
    pub registration_tokens: Vec<String>,
    /// How long an access token that can be refreshed is valid.
    pub access_token_lifetime: Option<Duration>,
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
    pub(super) hashing: Semaphore,
    pub(super) uia: Uia,
    pub(super) seen: Cache<(OwnedUserId, OwnedDeviceId), Seen>,
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
            hashing: Semaphore::new(PASSWORD_HASHES_AT_ONCE),
            uia: Uia::default(),
            seen: Cache::new(LAST_SEEN_MAX),
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

    /// The local users, in the order of their ids, from `after` on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self, limit: usize) -> Result<Vec<(OwnedUserId, User)>, AccountError> {
        let rows = self.log.db().range(&USERS, &(), limit).await?;
        Ok(rows.into_iter().map(|((user,), row)| (user, row)).collect())
    }

    /// Whom `token` stands for.
    ///
    /// # Errors
    /// When it stands for nobody, its time is over, or the account is locked.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, AccountError> {
        let hash = hash(token);
        let unknown = AccountError::UnknownToken { soft: false };
        let row = self.log.db().row(&TOKENS, &(hash.clone(),)).await?.ok_or(unknown)?;
        if row.expires_ms.is_some_and(|expires| expires <= self.ports.clock.now_ms()) {
            return Err(AccountError::UnknownToken { soft: true });
        }
        let user = self.user(&row.user_id).await?.unwrap_or_default();
        if user.locked {
            return Err(AccountError::Locked);
        }
        if let Some(spent) = &row.spends {
            self.spend(&hash, &row, spent).await?;
        }
        Ok(Caller { user_id: row.user_id, device_id: row.device_id })
    }

    /// The new token has arrived, so the refresh token that it was had for, and the access token
    /// before it, are of no more use.
    async fn spend(&self, hash: &TokenHash, row: &TokenRow, spent: &TokenHash) -> Result<(), AccountError> {
        let db = self.log.db();
        let owner = (row.user_id.clone(), row.device_id.clone());
        let (refresh, device) =
            (db.row(&REFRESH_TOKENS, &(spent.clone(),)).await?, db.row(&DEVICES, &owner).await?);
        let (Some(refresh), Some(before)) = (refresh, device) else { return Ok(()) };
        let mut device = before.clone();
        device.refresh_tokens.retain(|known| known != spent);
        device.tokens.retain(|known| *known != refresh.renews);
        let mut commit = Commit::new();
        commit.expect_equals(&DEVICES, &owner, &before);
        commit.put(&DEVICES, &owner, &device);
        commit.delete(&REFRESH_TOKENS, &(spent.clone(),));
        commit.delete(&TOKENS, &(refresh.renews,));
        commit.put(&TOKENS, &(hash.clone(),), &TokenRow { spends: None, ..row.clone() });
        // If it is lost, the next request does it.
        self.log.commit_later(commit);
        Ok(())
    }
}
