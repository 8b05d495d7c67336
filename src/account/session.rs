//! Logging in and staying logged in. Logging out removes the device: see `device`.

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedUserId};

use super::{
    AccountError, Accounts,
    device::{DEVICES, Device},
    password::new_device_id,
    token::{REFRESH_TOKENS, RefreshRow, TOKENS, TokenRow, hash, new_token},
};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, ID_BYTES_MAX},
    log::{Commit, CommitError},
    types::{Fact, Lane},
};

/// A login that has been authenticated.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who logs in.
    pub user_id: OwnedUserId,
    /// The device, or nothing for a new one. The tokens of a device that is logged in already end.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub display_name: Option<String>,
    /// Whether the client can refresh its token.
    pub refreshes: bool,
}

/// What a client that has logged in is given.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who has logged in.
    pub user_id: OwnedUserId,
    /// On which device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// For a client that can refresh.
    pub refresh_token: Option<String>,
    /// How long the access token is valid; for ever if nothing is said.
    pub expires_in: Option<Duration>,
}

impl Accounts {
    /// Logs in.
    ///
    /// # Errors
    /// When the id of the device is too long.
    pub async fn start_session(&self, new: NewSession) -> Result<Session, AccountError> {
        let device_id = new.device_id.unwrap_or_else(|| new_device_id(&*self.ports.rng).into());
        if device_id.as_str().len() > ID_BYTES_MAX || device_id.as_str().is_empty() {
            return Err(AccountError::Invalid("The device id is empty or too long".to_owned()));
        }
        let owner = (new.user_id.clone(), device_id.clone());
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.log.db().row(&DEVICES, &owner).await?;
            let mut commit = Commit::new();
            match &before {
                Some(before) => {
                    commit.expect_equals(&DEVICES, &owner, before);
                    before.forget_tokens(&mut commit);
                }
                None => {
                    commit.expect_absent(&DEVICES, &owner);
                    // Those who share rooms with the user are to look for its keys.
                    commit.fact(Lane::People, Fact::Devices { user_id: new.user_id.clone() });
                }
            }
            let created_ms = self.ports.clock.now_ms();
            let mut device = before.unwrap_or(Device { created_ms, ..Device::default() });
            device.tokens.clear();
            device.refresh_tokens.clear();
            device.display_name = device.display_name.or_else(|| new.display_name.clone());
            let session = self.issue(&mut commit, &owner, &mut device, (new.refreshes, None));
            commit.put(&DEVICES, &owner, &device);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| session)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// A new access token and refresh token for a refresh token. The old ones end when the new access
    /// token is first used, so that a lost answer does not log the client out.
    ///
    /// # Errors
    /// When the refresh token stands for nobody.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Session, AccountError> {
        let spent = hash(refresh_token);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let unknown = AccountError::UnknownToken { soft: false };
            let row = self.log.db().row(&REFRESH_TOKENS, &(spent.clone(),)).await?.ok_or(unknown)?;
            let owner = (row.user_id.clone(), row.device_id.clone());
            let unknown = AccountError::UnknownToken { soft: false };
            let before = self.log.db().row(&DEVICES, &owner).await?.ok_or(unknown)?;
            if self.user(&row.user_id).await?.is_none_or(|user| user.locked) {
                return Err(AccountError::Locked);
            }
            let mut device = before.clone();
            let mut commit = Commit::new();
            commit.expect_equals(&DEVICES, &owner, &before);
            commit.expect_equals(&REFRESH_TOKENS, &(spent.clone(),), &row);
            let session = self.issue(&mut commit, &owner, &mut device, (true, Some(spent.clone())));
            commit.put(&DEVICES, &owner, &device);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| session)?),
            }
        }
        Err(AccountError::Contended)
    }

    fn issue(
        &self,
        commit: &mut Commit,
        (user_id, device_id): &(OwnedUserId, OwnedDeviceId),
        device: &mut Device,
        (refreshes, spends): (bool, Option<String>),
    ) -> Session {
        let access_token = new_token(&*self.ports.rng, "lka_");
        let access_hash = hash(&access_token);
        let expires_in = self.settings.access_token_lifetime.filter(|_| refreshes);
        let expires_ms = expires_in.map(|lifetime| {
            self.ports.clock.now_ms().saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
        });
        let (user_id, device_id) = (user_id.clone(), device_id.clone());
        let token = TokenRow { user_id: user_id.clone(), device_id: device_id.clone(), expires_ms, spends };
        commit.put(&TOKENS, &(access_hash.clone(),), &token);
        device.tokens.push(access_hash.clone());
        let refresh_token = refreshes.then(|| {
            let refresh_token = new_token(&*self.ports.rng, "lkr_");
            let refresh_hash = hash(&refresh_token);
            let row =
                RefreshRow { user_id: user_id.clone(), device_id: device_id.clone(), renews: access_hash };
            commit.put(&REFRESH_TOKENS, &(refresh_hash.clone(),), &row);
            device.refresh_tokens.push(refresh_hash);
            refresh_token
        });
        Session { user_id, device_id, access_token, refresh_token, expires_in }
    }
}
