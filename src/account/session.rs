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
    AccountError, Accounts, Caller, User, Verified,
    device::{DEVICES, Device, DeviceClient, Family},
    list_change::{ListChange, tell_people},
    password::new_device_id,
    token::{
        FAMILIES, Lineage, REFRESH_PREFIX, REFRESH_TOKENS, RefreshRow, TOKENS, TokenHash, TokenRow, hash,
        new_token,
    },
    user::USERS,
};
use crate::{
    limits::{ACCESS_TOKEN_LIFETIME, ACCOUNT_ATTEMPTS_MAX, DEVICE_NAME_BYTES_MAX, ID_BYTES_MAX},
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
    /// The client that was authorised by the OAuth 2.0 API, if this login is of that kind.
    pub client: Option<DeviceClient>,
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

/// What has let somebody in.
#[derive(Clone, Copy)]
pub(super) enum Allowed<'a> {
    /// Another user of the server, or a program, whose word it is.
    Always,
    /// The user, at a moment, in milliseconds since the epoch.
    At(u64),
    /// What they have shown.
    By(&'a Verified),
}

impl Allowed<'_> {
    /// Whether it lets in the user whose row this is now.
    fn check(self, user: &User) -> Result<(), AccountError> {
        match self {
            Self::Always => Ok(()),
            Self::At(ms) if ms < user.signed_out_ms => Err(AccountError::WrongLoginToken),
            Self::At(_) => Ok(()),
            Self::By(verified) => verified.check(user),
        }
    }
}

/// What tells one way of issuing tokens from another.
#[derive(Clone)]
struct Terms {
    /// The client can refresh its access token.
    refreshes: bool,
    /// The tokens come out of a refresh.
    renewed: bool,
    /// The place of the refresh token among those of its session, where that is kept.
    lineage: Option<Lineage>,
}

impl Terms {
    /// Those of a login that knows nothing of lineages.
    fn first(refreshes: bool) -> Self {
        Self { refreshes, renewed: false, lineage: None }
    }
}

impl Accounts {
    /// Logs in.
    ///
    /// # Errors
    /// When the account is not in use, or the id or name of the device is too long.
    pub async fn start_session(&self, new: NewSession) -> Result<Session, AccountError> {
        self.session((new, Allowed::Always), |_| ()).await
    }

    /// Logs in somebody who has shown their password.
    ///
    /// # Errors
    /// As [`Accounts::start_session`]; [`AccountError::WrongPassword`] when they have another one by now.
    pub async fn start_session_by(
        &self,
        verified: &Verified,
        device: NewDevice,
    ) -> Result<Session, AccountError> {
        let NewDevice { device_id, display_name, refreshes } = device;
        let user_id = verified.user_id().to_owned();
        let new = NewSession { user_id, device_id, display_name, refreshes, client: None };
        self.session((new, Allowed::By(verified)), |_| ()).await
    }

    /// Logs in whom somebody has let in at a moment, in milliseconds since the epoch, in the same commit as what `also`
    /// adds. Another password since then has ended that, as it has ended whatever else was open.
    ///
    /// # Errors
    /// As [`Accounts::start_session`]; [`AccountError::WrongLoginToken`] when the user has got another password since,
    /// and [`AccountError::Contended`] when what `also` expects does not hold.
    pub async fn start_session_with(
        &self,
        (new, allowed_ms): (NewSession, u64),
        also: impl Fn(&mut Commit),
    ) -> Result<Session, AccountError> {
        self.session((new, Allowed::At(allowed_ms)), also).await
    }

    async fn session(
        &self,
        (new, allowed): (NewSession, Allowed<'_>),
        also: impl Fn(&mut Commit),
    ) -> Result<Session, AccountError> {
        let NewSession { user_id, device_id, display_name, refreshes, client } = new;
        let new = self.check_device(NewDevice { device_id, display_name, refreshes })?;
        let device_id = new.device_id.unwrap_or_else(|| new_device_id(&*self.ports.rng).into());
        let (account, owner) = ((user_id.clone(),), (user_id, device_id));
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let user = self.user(&account.0).await?.ok_or(AccountError::NotFound("user"))?;
            user.admit()?;
            allowed.check(&user)?;
            let before = self.log.db().row(&DEVICES, &owner).await?;
            let mut commit = Commit::new();
            also(&mut commit);
            // Whoever is deactivated at this moment gets no device.
            commit.expect_equals(&USERS, &account, &user);
            match &before {
                Some(before) => {
                    commit.expect_equals(&DEVICES, &owner, before);
                    before.forget_tokens(&mut commit);
                }
                None => {
                    commit.expect_absent(&DEVICES, &owner);
                    self.refuse_key_names(&mut commit, &owner).await?;
                }
            }
            let is_new = before.is_none();
            let created_ms = self.ports.clock.now_ms();
            let mut device = before.unwrap_or(Device { created_ms, ..Device::default() });
            device.tokens.clear();
            device.refresh_tokens.clear();
            device.family = None;
            device.client.clone_from(&client);
            let is_named = device.display_name.is_none() && new.display_name.is_some();
            if is_named {
                device.display_name.clone_from(&new.display_name);
            }
            // Those who share rooms with the user are to look for its keys.
            if is_new || is_named {
                tell_people(&mut commit, &owner.0, [ListChange::Device(&owner.1)]);
            }
            let lineage = client.is_some().then(|| Lineage::begin(&*self.ports.rng));
            if let Some(lineage) = &lineage {
                let family = hash(&lineage.family);
                commit.put(&FAMILIES, &(family.clone(),), &owner);
                device.family = Some(Family { hash: family, confirmed: 0 });
            }
            let terms = Terms { lineage, ..Terms::first(refreshes) };
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
        self.refuse_key_names(&mut commit, &owner).await?;
        let device = Device { created_ms, display_name, is_made: true, ..Device::default() };
        commit.put(&DEVICES, &owner, &device);
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
        let session = self.issue(commit, &owner, &mut device, Terms::first(refreshes));
        commit.expect_absent(&DEVICES, &owner);
        commit.put(&DEVICES, &owner, &device);
        Ok(session)
    }

    /// Gives out new tokens for a refresh token. The old access token ends when a new one is used. `client` is the
    /// client of the OAuth 2.0 API that asks, or nothing for a client of the older API.
    ///
    /// # Errors
    /// When the refresh token stands for nobody, or has been replaced by one that was used, or belongs to another
    /// client; [`AccountError::Replayed`] when somebody has it who should not.
    pub async fn refresh(&self, refresh_token: &str, client: Option<&str>) -> Result<Session, AccountError> {
        let unknown = || AccountError::UnknownToken { soft: false };
        let used = hash(refresh_token);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let db = self.log.db();
            let Some(row) = db.row(&REFRESH_TOKENS, &(used.clone(),)).await? else {
                return Err(self.explain_stale(refresh_token).await?);
            };
            let owner = (row.user_id, row.device_id);
            let before = db.row(&DEVICES, &owner).await?.ok_or_else(unknown)?;
            // Whoever is locked keeps the session, and is told of the lock by whatever they do with the new token.
            self.user(&owner.0).await?.filter(|user| !user.deactivated).ok_or_else(unknown)?;
            let is_own = before.client.as_ref().map(|client| client.id.as_str()) == client;
            if !is_own || !before.refresh_tokens.contains(&used) {
                return Err(unknown());
            }
            let mut device = before.clone();
            let mut commit = Commit::new();
            commit.expect_equals(&DEVICES, &owner, &before);
            keep_only(&mut commit, &mut device, (&row.renews, &used));
            device.confirm(row.generation);
            if let Some(token) = db.row(&TOKENS, &(row.renews.clone(),)).await? {
                // It may not have been used yet; what came before it has just ended all the same.
                commit.put(&TOKENS, &(row.renews,), &TokenRow { renewed: false, ..token });
            }
            let lineage = before.family.as_ref().and(Lineage::of(refresh_token)).map(Lineage::next);
            let terms = Terms { refreshes: true, renewed: true, lineage };
            let session = self.issue(&mut commit, &owner, &mut device, terms);
            commit.put(&DEVICES, &owner, &device);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| session)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// Why a refresh token is not known: whether it never was, or is one that its client has replaced long ago.
    async fn explain_stale(&self, refresh_token: &str) -> Result<AccountError, AccountError> {
        let unknown = AccountError::UnknownToken { soft: false };
        let Some(lineage) = Lineage::of(refresh_token) else { return Ok(unknown) };
        let db = self.log.db();
        let Some(owner) = db.row(&FAMILIES, &(hash(&lineage.family),)).await? else { return Ok(unknown) };
        let family = db.row(&DEVICES, &owner).await?.and_then(|device| device.family);
        // A token of the generation that is not confirmed may be one whose answer came late.
        match family.is_some_and(|family| lineage.generation < family.confirmed) {
            true => Ok(AccountError::Replayed(Box::new(Caller { user_id: owner.0, device_id: owner.1 }))),
            false => Ok(unknown),
        }
    }

    /// Whose session an access or refresh token belongs to, whether or not its time is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owner_of(&self, token: &str) -> Result<Option<Caller>, AccountError> {
        let (db, key) = (self.log.db(), (hash(token),));
        if let Some(TokenRow { user_id, device_id, .. }) = db.row(&TOKENS, &key).await? {
            return Ok(Some(Caller { user_id, device_id }));
        }
        let row = db.row(&REFRESH_TOKENS, &key).await?;
        Ok(row.map(|RefreshRow { user_id, device_id, .. }| Caller { user_id, device_id }))
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
        let own = refresh.iter().position(renews);
        let generation = own.and_then(|at| refresh[at].as_ref()).map(|row| row.generation);
        let own = own.map(|at| keys[at].0.clone()).unwrap_or_default();
        let mut device = before.clone();
        device.confirm(generation.unwrap_or_default());
        let mut commit = Commit::new();
        commit.expect_equals(&DEVICES, &owner, &before);
        keep_only(&mut commit, &mut device, (token, &own));
        commit.put(&DEVICES, &owner, &device);
        commit.put(&TOKENS, &(token.clone(),), &TokenRow { renewed: false, ..row.clone() });
        match self.log.commit(commit).await {
            // Another request has done it.
            Err(CommitError::Conflict(_)) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Whether somebody can log in on such a device.
    ///
    /// # Errors
    /// When the id is empty, or the id or the name is too long.
    pub fn check_device(&self, new: NewDevice) -> Result<NewDevice, AccountError> {
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
        let lifetime = self.settings.access_token_lifetime;
        // The OAuth 2.0 API knows no tokens that are valid for ever.
        let lifetime = lifetime.or(terms.lineage.is_some().then_some(ACCESS_TOKEN_LIFETIME));
        let expires_in = lifetime.filter(|_| terms.refreshes);
        let expires_ms = expires_in.map(|lifetime| {
            self.ports.clock.now_ms().saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
        });
        let renewed = terms.renewed;
        let row = TokenRow { user_id: user_id.clone(), device_id: device_id.clone(), expires_ms, renewed };
        commit.put(&TOKENS, &(renews.clone(),), &row);
        device.tokens.push(renews.clone());
        let refresh_token = terms.refreshes.then(|| {
            let lineage = terms.lineage.as_ref();
            let prefix = lineage.map_or_else(|| REFRESH_PREFIX.to_owned(), Lineage::prefix);
            let generation = lineage.map(|lineage| lineage.generation).unwrap_or_default();
            let refresh_token = new_token(&*self.ports.rng, &prefix);
            let known = hash(&refresh_token);
            let (user_id, device_id) = (user_id.clone(), device_id.clone());
            let row = RefreshRow { user_id, device_id, renews, generation };
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
