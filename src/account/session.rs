//! Logging in and staying logged in. Logging out removes the device: see `device`.
//!
//! A device has one access token in use. A refresh adds a second pair of tokens beside it, and a
//! repeated refresh (whose answer was lost) replaces that second pair; the first use of either of the
//! new tokens ends everything that came before. So a device has two pairs at most, and a refresh token
//! that somebody else used shows: one of the two is logged out.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedUserId};

use super::{
    AccountError, Accounts,
    device::{DEVICES, Device},
    list_change::{ListChange, tell_people},
    password::new_device_id,
    token::{REFRESH_TOKENS, RefreshRow, TOKENS, TokenHash, TokenRow, hash, new_token},
    user::USERS,
};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, DEVICE_NAME_BYTES_MAX, ID_BYTES_MAX},
    log::{Commit, CommitError},
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

/// On which device somebody logs in, and how.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// Its id, or nothing for one that the server makes up.
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

/// What tells one way of issuing tokens from another.
#[derive(Clone, Copy)]
struct Terms {
    /// The client can refresh its access token.
    refreshes: bool,
    /// The tokens come out of a refresh.
    renewed: bool,
}

impl Accounts {
    /// Logs in.
    ///
    /// # Errors
    /// When the account is not in use, or the id or name of the device is too long.
    pub async fn start_session(&self, new: NewSession) -> Result<Session, AccountError> {
        let NewSession { user_id, device_id, display_name, refreshes } = new;
        let new = self.check_device(NewDevice { device_id, display_name, refreshes })?;
        let device_id = new.device_id.unwrap_or_else(|| new_device_id(&*self.ports.rng).into());
        let (account, owner) = ((user_id.clone(),), (user_id, device_id));
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let user = self.user(&account.0).await?.ok_or(AccountError::NotFound("user"))?;
            match (user.deactivated, user.locked) {
                (true, _) => return Err(AccountError::Deactivated),
                (_, true) => return Err(AccountError::Locked),
                (false, false) => {}
            }
            let before = self.log.db().row(&DEVICES, &owner).await?;
            let mut commit = Commit::new();
            // Whoever is deactivated at this moment gets no device.
            commit.expect_equals(&USERS, &account, &user);
            match &before {
                Some(before) => {
                    commit.expect_equals(&DEVICES, &owner, before);
                    before.forget_tokens(&mut commit);
                }
                None => commit.expect_absent(&DEVICES, &owner),
            }
            let is_new = before.is_none();
            let created_ms = self.ports.clock.now_ms();
            let mut device = before.unwrap_or(Device { created_ms, ..Device::default() });
            device.tokens.clear();
            device.refresh_tokens.clear();
            let is_named = device.display_name.is_none() && new.display_name.is_some();
            if is_named {
                device.display_name.clone_from(&new.display_name);
            }
            // Those who share rooms with the user are to look for its keys.
            if is_new || is_named {
                tell_people(&mut commit, &owner.0, [ListChange::Device(&owner.1)]);
            }
            let terms = Terms { refreshes, renewed: false };
            let session = self.issue(&mut commit, &owner, &mut device, terms);
            commit.put(&DEVICES, &owner, &device);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| session)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// Makes a device that has no token, for an application service that acts in the name of its user.
    ///
    /// # Errors
    /// When there is one of that id, or the id or name is too long.
    pub async fn make_device(
        &self,
        user_id: &OwnedUserId,
        device_id: &OwnedDeviceId,
        display_name: Option<String>,
    ) -> Result<(), AccountError> {
        let new = NewDevice { device_id: Some(device_id.clone()), display_name, refreshes: false };
        let NewDevice { display_name, .. } = self.check_device(new)?;
        let user = self.user(user_id).await?.ok_or(AccountError::NotFound("user"))?;
        let owner = (user_id.clone(), device_id.clone());
        let created_ms = self.ports.clock.now_ms();
        let mut commit = Commit::new();
        commit.expect_equals(&USERS, &(user_id.clone(),), &user);
        commit.expect_absent(&DEVICES, &owner);
        commit.put(&DEVICES, &owner, &Device { created_ms, display_name, ..Device::default() });
        tell_people(&mut commit, user_id, [ListChange::Device(device_id)]);
        self.log.commit(commit).await.map(drop).map_err(Into::into)
    }

    /// Adds to `commit`, which makes the account `user_id`, its first login.
    pub(super) fn first_session(
        &self,
        commit: &mut Commit,
        user_id: &OwnedUserId,
        new: NewDevice,
    ) -> Result<Session, AccountError> {
        let NewDevice { device_id, display_name, refreshes } = self.check_device(new)?;
        let device_id = device_id.unwrap_or_else(|| new_device_id(&*self.ports.rng).into());
        let owner = (user_id.clone(), device_id);
        let created_ms = self.ports.clock.now_ms();
        let mut device = Device { created_ms, display_name, ..Device::default() };
        let terms = Terms { refreshes, renewed: false };
        let session = self.issue(commit, &owner, &mut device, terms);
        commit.expect_absent(&DEVICES, &owner);
        commit.put(&DEVICES, &owner, &device);
        Ok(session)
    }

    /// Gives out new tokens for a refresh token. The old access token ends when a new one is used.
    ///
    /// # Errors
    /// When the refresh token stands for nobody, or has been replaced by one that was used.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Session, AccountError> {
        let unknown = || AccountError::UnknownToken { soft: false };
        let used = hash(refresh_token);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let db = self.log.db();
            let row = db.row(&REFRESH_TOKENS, &(used.clone(),)).await?.ok_or_else(unknown)?;
            let owner = (row.user_id, row.device_id);
            let before = db.row(&DEVICES, &owner).await?.ok_or_else(unknown)?;
            match self.user(&owner.0).await? {
                Some(user) if user.locked => return Err(AccountError::Locked),
                Some(user) if !user.deactivated => {}
                _ => return Err(unknown()),
            }
            if !before.refresh_tokens.contains(&used) {
                return Err(unknown());
            }
            let mut device = before.clone();
            let mut commit = Commit::new();
            commit.expect_equals(&DEVICES, &owner, &before);
            keep_only(&mut commit, &mut device, (&row.renews, &used));
            if let Some(token) = db.row(&TOKENS, &(row.renews.clone(),)).await? {
                // It may not have been used yet; what came before it has just ended all the same.
                commit.put(&TOKENS, &(row.renews,), &TokenRow { renewed: false, ..token });
            }
            let terms = Terms { refreshes: true, renewed: true };
            let session = self.issue(&mut commit, &owner, &mut device, terms);
            commit.put(&DEVICES, &owner, &device);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| session)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// A renewed token has arrived, so what came before it is of no more use.
    pub(super) async fn settle(&self, token: &TokenHash, row: &TokenRow) -> Result<(), AccountError> {
        let db = self.log.db();
        let owner = (row.user_id.clone(), row.device_id.clone());
        let Some(before) = db.row(&DEVICES, &owner).await? else { return Ok(()) };
        if !before.tokens.contains(token) {
            return Ok(());
        }
        let keys: Vec<_> = before.refresh_tokens.iter().map(|known| (known.clone(),)).collect();
        let refresh = db.rows(&REFRESH_TOKENS, &keys).await?;
        let renews = |row: &Option<RefreshRow>| row.as_ref().is_some_and(|row| row.renews == *token);
        let own = refresh.iter().position(renews).map(|at| keys[at].0.clone()).unwrap_or_default();
        let mut device = before.clone();
        let mut commit = Commit::new();
        commit.expect_equals(&DEVICES, &owner, &before);
        keep_only(&mut commit, &mut device, (token, &own));
        commit.put(&DEVICES, &owner, &device);
        commit.put(&TOKENS, &(token.clone(),), &TokenRow { renewed: false, ..row.clone() });
        // If it is lost, the next request does it.
        self.log.commit_later(commit);
        Ok(())
    }

    fn check_device(&self, new: NewDevice) -> Result<NewDevice, AccountError> {
        let invalid = |text: &str| Err(AccountError::Invalid(text.to_owned()));
        let id = new.device_id.as_ref().map(|id| id.as_str().len());
        if id.is_some_and(|length| length == 0 || length > ID_BYTES_MAX) {
            return invalid("The device id is empty or too long");
        }
        match new.display_name.as_ref().is_some_and(|name| name.len() > DEVICE_NAME_BYTES_MAX) {
            true => invalid("The name of the device is too long"),
            false => Ok(new),
        }
    }

    fn issue(
        &self,
        commit: &mut Commit,
        (user_id, device_id): &(OwnedUserId, OwnedDeviceId),
        device: &mut Device,
        terms: Terms,
    ) -> Session {
        let (user_id, device_id) = (user_id.clone(), device_id.clone());
        let access_token = new_token(&*self.ports.rng, "lka_");
        let renews = hash(&access_token);
        let expires_in = self.settings.access_token_lifetime.filter(|_| terms.refreshes);
        let expires_ms = expires_in.map(|lifetime| {
            self.ports.clock.now_ms().saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
        });
        let renewed = terms.renewed;
        let row = TokenRow { user_id: user_id.clone(), device_id: device_id.clone(), expires_ms, renewed };
        commit.put(&TOKENS, &(renews.clone(),), &row);
        device.tokens.push(renews.clone());
        let refresh_token = terms.refreshes.then(|| {
            let refresh_token = new_token(&*self.ports.rng, "lkr_");
            let known = hash(&refresh_token);
            let row = RefreshRow { user_id: user_id.clone(), device_id: device_id.clone(), renews };
            commit.put(&REFRESH_TOKENS, &(known.clone(),), &row);
            device.refresh_tokens.push(known);
            refresh_token
        });
        Session { user_id, device_id, access_token, refresh_token, expires_in }
    }
}

/// Ends every token of a device but one access token and one refresh token.
fn keep_only(commit: &mut Commit, device: &mut Device, (access, refresh): (&TokenHash, &TokenHash)) {
    let mut ending = Device::default();
    let part = |known: &mut Vec<TokenHash>, keep: &TokenHash| {
        let (kept, gone) = std::mem::take(known).into_iter().partition(|hash| hash == keep);
        *known = kept;
        gone
    };
    ending.tokens = part(&mut device.tokens, access);
    ending.refresh_tokens = part(&mut device.refresh_tokens, refresh);
    ending.forget_tokens(commit);
}
