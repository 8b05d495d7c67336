//! Making accounts.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};

use super::{Acceptance, AccountError, Accounts, NewDevice, Proved, Session, User, user::USERS};
use crate::{
    limits::{ID_BYTES_MAX, REGISTRATION_CONFLICTS_MAX},
    log::{Commit, CommitError},
    types::random_string,
};

/// An account to be made.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// The part of the user id between `@` and `:`; without one, the server makes one up.
    pub username: Option<String>,
    /// Without one, nobody can log in by password.
    pub password: Option<String>,
    /// Whether it may use the administration API.
    pub admin: bool,
}

/// What a newcomer has shown that is used up by the account that is made, or kept with it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// A registration token, which is counted.
    pub token: Option<String>,
    /// A mail address, which is theirs then.
    pub address: Option<Proved>,
    /// The policies are accepted, as they are now.
    pub terms: bool,
}

impl Accounts {
    /// The id that `username` would get.
    ///
    /// # Errors
    /// When the name breaks the grammar, is too long, or is taken.
    pub async fn available(&self, username: &str) -> Result<OwnedUserId, AccountError> {
        let user_id = self.local_id(username)?;
        if self.settings.reserved.iter().any(|reserved| user_id.localpart() == reserved) {
            return Err(AccountError::UserInUse);
        }
        self.free(user_id).await
    }

    async fn free(&self, user_id: OwnedUserId) -> Result<OwnedUserId, AccountError> {
        match self.user(&user_id).await? {
            Some(_) => Err(AccountError::UserInUse),
            None => Ok(user_id),
        }
    }

    /// Makes an account, whoever asks: who may is decided before.
    ///
    /// # Errors
    /// When the name breaks the grammar, is too long, or is taken.
    pub async fn create_user(&self, new: NewUser) -> Result<OwnedUserId, AccountError> {
        self.create_invited(new, &Shown::default()).await
    }

    /// As [`Accounts::create_user`], for somebody who has shown something.
    ///
    /// # Errors
    /// As [`Accounts::create_user`]; when what was shown is used up.
    pub async fn create_invited(&self, new: NewUser, shown: &Shown) -> Result<OwnedUserId, AccountError> {
        let mut left = REGISTRATION_CONFLICTS_MAX;
        loop {
            let (mut commit, user_id) = self.plan_user(new.clone(), shown.terms).await?;
            self.use_up(&mut commit, &user_id, shown).await?;
            match self.commit_user(commit).await {
                // It may be what was shown that somebody else has used meanwhile.
                Err(AccountError::UserInUse) if shown.is_something() && left > 0 => left -= 1,
                done => return done.map(|()| user_id),
            }
        }
    }

    /// Makes an account with a name that nobody else can have, for the server itself; nobody can log in to it.
    ///
    /// # Errors
    /// When the name breaks the grammar, is too long, or is taken.
    pub async fn create_own_user(&self, username: &str) -> Result<OwnedUserId, AccountError> {
        let user_id = self.free(self.local_id(username)?).await?;
        let commit = self.plan_account(&user_id, &NewUser::default(), false).await?;
        self.commit_user(commit).await.map(|()| user_id)
    }

    /// Makes an account and logs it in, both or neither: a client that never hears of its account can
    /// ask again.
    ///
    /// # Errors
    /// As [`Accounts::create_user`] and [`Accounts::start_session`].
    pub async fn register(&self, new: NewUser, device: NewDevice) -> Result<Session, AccountError> {
        self.register_invited((new, &Shown::default()), device).await
    }

    /// As [`Accounts::register`], for somebody who has shown something.
    ///
    /// # Errors
    /// As [`Accounts::register`]; when what was shown is used up.
    pub async fn register_invited(
        &self,
        (new, shown): (NewUser, &Shown),
        device: NewDevice,
    ) -> Result<Session, AccountError> {
        let mut left = REGISTRATION_CONFLICTS_MAX;
        loop {
            let (mut commit, user_id) = self.plan_user(new.clone(), shown.terms).await?;
            let session = self.first_session(&mut commit, &user_id, device.clone())?;
            self.use_up(&mut commit, &user_id, shown).await?;
            match self.commit_user(commit).await {
                Err(AccountError::UserInUse) if shown.is_something() && left > 0 => left -= 1,
                done => return done.map(|()| session),
            }
        }
    }

    /// Has `commit`, which makes the account `user`, use up what its owner has shown.
    ///
    /// # Errors
    /// When it is used up already.
    pub(super) async fn use_up(
        &self,
        commit: &mut Commit,
        user: &UserId,
        shown: &Shown,
    ) -> Result<(), AccountError> {
        if let Some(token) = &shown.token {
            self.spend(commit, token).await?;
        }
        if let Some(proved) = &shown.address {
            self.still_proved(proved).await?;
            self.plan_address(commit, user, proved);
        }
        Ok(())
    }

    pub(super) async fn plan_user(
        &self,
        new: NewUser,
        terms: bool,
    ) -> Result<(Commit, OwnedUserId), AccountError> {
        let username =
            new.username.clone().unwrap_or_else(|| random_string(&*self.ports.rng, 12).to_ascii_lowercase());
        let user_id = self.available(&username).await?;
        Ok((self.plan_account(&user_id, &new, terms).await?, user_id))
    }

    async fn plan_account(
        &self,
        user_id: &OwnedUserId,
        new: &NewUser,
        terms: bool,
    ) -> Result<Commit, AccountError> {
        let password_hash = match &new.password {
            Some(password) => Some(self.hash_password(password).await?),
            None => None,
        };
        let created_ms = self.ports.clock.now_ms();
        let accepted = if terms { self.acceptances() } else { BTreeMap::new() };
        let row = User { password_hash, created_ms, admin: new.admin, accepted, ..User::default() };
        Ok(self.plan_row(user_id, &row))
    }

    /// That the policies, as they are now, are accepted at this moment.
    pub(super) fn acceptances(&self) -> BTreeMap<String, Acceptance> {
        let at_ms = self.ports.clock.now_ms();
        let policies = self.settings.terms.policies.iter();
        let accept = |version: &String| Acceptance { version: version.clone(), at_ms };
        policies.map(|(id, policy)| (id.clone(), accept(&policy.version))).collect()
    }

    /// What makes an account of this row.
    pub(super) fn plan_row(&self, user_id: &OwnedUserId, row: &User) -> Commit {
        let mut commit = Commit::new();
        let key = (user_id.clone(),);
        commit.expect_absent(&USERS, &key);
        commit.put(&USERS, &key, row);
        self.put_first_profile(&mut commit, user_id);
        commit
    }

    pub(super) async fn commit_user(&self, commit: Commit) -> Result<(), AccountError> {
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => Err(AccountError::UserInUse),
            other => Ok(other.map(|_| ())?),
        }
    }

    pub(super) fn local_id(&self, username: &str) -> Result<OwnedUserId, AccountError> {
        let invalid = AccountError::InvalidUsername;
        // What a user types with capitals is the same name to everybody who reads it.
        let username = username.to_ascii_lowercase();
        let localpart = match username.strip_prefix('@') {
            Some(rest) => rest
                .strip_suffix(self.server_name.as_str())
                .and_then(|rest| rest.strip_suffix(':'))
                .ok_or(invalid("The user id belongs to another server"))?,
            None => &username,
        };
        if localpart.is_empty() {
            return Err(invalid("The user name is empty"));
        }
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
        if !localpart.bytes().all(allowed) {
            return Err(invalid("A user name consists of a-z, 0-9, and ._=-/+"));
        }
        let user_id = format!("@{localpart}:{}", self.server_name);
        if user_id.len() > ID_BYTES_MAX {
            return Err(invalid("The user name is too long"));
        }
        UserId::parse(user_id).map_err(|_| invalid("The user name is not valid"))
    }
}

impl Shown {
    /// Whether there is something that others may use up.
    pub(super) fn is_something(&self) -> bool {
        self.token.is_some() || self.address.is_some()
    }
}
