//! Passwords: argon2id, off the asynchronous threads and not too many at once.

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use ruma::UserId;

use super::{
    AccountError, Accounts, Proved, User, Verified, address::forget_addresses, data::ACCOUNT_DATA,
    filter::FILTERS, profile::PROFILES, profile_news::PROFILE_CHANGES, user::USERS, words::drop_words,
};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, PASSWORD_BYTES_MAX},
    log::{Commit, CommitError},
    store::StoreError,
    types::{Fact, Lane, Rng},
};

impl Accounts {
    /// The hash of `password`, in PHC form.
    ///
    /// # Errors
    /// When the password is empty or longer than the limit.
    pub(super) async fn hash_password(&self, password: &str) -> Result<String, AccountError> {
        if password.is_empty() {
            return Err(AccountError::Invalid("The password is empty".to_owned()));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::TooLarge("The password is too long"));
        }
        let mut salt = [0_u8; 16];
        self.ports.rng.fill(&mut salt);
        let password = password.to_owned();
        self.off_thread(move || {
            Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string())
        })
        .await?
        .map_err(|error| AccountError::Store(StoreError::engine(error.to_string())))
    }

    /// Whether `password` is the one of `user`. Takes as long when there is no such user. What is done by it names what
    /// comes of this, since the user may have got another password meanwhile.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`] when it is not; [`AccountError::Busy`] when too many are being checked.
    pub async fn check_password(&self, user: &UserId, password: &str) -> Result<Verified, AccountError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::WrongPassword);
        }
        let row = self.user(user).await?;
        let stored = row.as_ref().and_then(|row| row.password_hash.clone());
        let (known, password) = (stored.is_some(), password.to_owned());
        let right = self
            .off_thread(move || match stored {
                Some(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
                // Work for as long as if there had been something to compare with.
                None => Argon2::default().hash_password_with_salt(password.as_bytes(), &[0; 16]).is_err(),
            })
            .await?;
        match row {
            Some(row) if row.deactivated => Err(AccountError::Deactivated),
            Some(row) if known && right => Ok(Verified::of(user, &row)),
            _ => Err(AccountError::WrongPassword),
        }
    }

    /// Whether `user` has a password to sign in with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_password(&self, user: &UserId) -> Result<bool, AccountError> {
        Ok(self.user(user).await?.is_some_and(|user| user.password_hash.is_some()))
    }

    /// Gives `user` another password.
    ///
    /// # Errors
    /// When there is no such user, or the password is empty or too long.
    pub async fn set_password(&self, user: &UserId, password: &str) -> Result<(), AccountError> {
        let hash = self.hash_password(password).await?;
        let now_ms = self.ports.clock.now_ms();
        self.change_user(user, |row| {
            if !row.deactivated {
                row.password_hash = Some(hash.clone());
                row.signed_out_ms = now_ms;
            }
        })
        .await
    }

    /// Gives somebody another password who has shown who they are; what they have then.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`] when what they have shown does not hold any more; when the password is empty or too
    /// long.
    pub async fn replace_password(
        &self,
        verified: &Verified,
        password: &str,
    ) -> Result<Verified, AccountError> {
        let hash = self.hash_password(password).await?;
        let signed_out_ms = self.ports.clock.now_ms();
        let change = |row: &mut User| {
            verified.check(row)?;
            row.password_hash = Some(hash.clone());
            row.signed_out_ms = signed_out_ms;
            Ok(())
        };
        let row = self.change_user_with(verified.user_id(), change, |_| ()).await?;
        Ok(Verified::of(verified.user_id(), &row))
    }

    /// Gives `user` another password because they have proved an address; the proof is used up in the same commit, and
    /// with it those that were begun before. What they have then.
    ///
    /// # Errors
    /// When there is no such user, the password is empty or too long, the proof has been used, or the user has another
    /// password since it was begun.
    pub async fn reset_password(
        &self,
        user: &UserId,
        password: &str,
        proved: &Proved,
    ) -> Result<Verified, AccountError> {
        let hash = self.hash_password(password).await?;
        let now_ms = self.ports.clock.now_ms();
        let change = |row: &mut User| {
            if proved.is_before_password(row) {
                return Err(AccountError::Contended);
            }
            if !row.deactivated {
                row.password_hash = Some(hash.clone());
                row.signed_out_ms = now_ms;
            }
            Ok(())
        };
        let row = self.change_user_with(user, change, |commit| proved.use_up(commit)).await?;
        Ok(Verified::of(user, &row))
    }

    /// Ends the account: the password, the profile, account data, filters, addresses and identities at providers go,
    /// the name stays taken and no token is good any more. Its devices are removed by `device`, its memberships by `room`.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn deactivate(&self, user: &UserId, erase: bool) -> Result<(), AccountError> {
        let end = |row: &mut User| {
            row.password_hash = None;
            row.deactivated = true;
            row.erased |= erase;
            Ok(())
        };
        let (name, _) = self.display(user).await?;
        let reached = self.reached(user).await?;
        let identities = self.identities(user).await?;
        let drop_data = |commit: &mut Commit| {
            drop_words(commit, user, name.as_deref());
            forget_addresses(commit, user, &reached);
            Self::forget_identities(commit, user, &identities);
            let user = (user.to_owned(),);
            commit.delete(&PROFILES, &user);
            commit.delete_prefix(&PROFILE_CHANGES, &user);
            commit.delete_prefix(&ACCOUNT_DATA, &user);
            commit.delete_prefix(&FILTERS, &user);
        };
        self.change_user_with(user, end, drop_data).await.map(drop)
    }

    /// Changes the row of a user.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn change_user(&self, user: &UserId, change: impl Fn(&mut User)) -> Result<(), AccountError> {
        let change = |row: &mut User| {
            change(row);
            Ok(())
        };
        self.change_user_with(user, change, |_| ()).await.map(drop)
    }

    /// Changes the row of a user, and what else `also` puts into the same commit; nothing if `change` refuses. The row as it is then.
    async fn change_user_with(
        &self,
        user: &UserId,
        change: impl Fn(&mut User) -> Result<(), AccountError>,
        also: impl Fn(&mut Commit),
    ) -> Result<User, AccountError> {
        let key = (user.to_owned(),);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
            let mut after = before.clone();
            change(&mut after)?;
            if before.locked && !after.locked {
                after.unlocked_at = Some(self.log.head());
            }
            let mut commit = Commit::new();
            commit.expect_equals(&USERS, &key, &before);
            commit.put(&USERS, &key, &after);
            if after.standing() != before.standing() {
                // Whoever waits for news of the account is to look whether they still may.
                commit.fact(Lane::Account(user.to_owned()), Fact::Standing);
            }
            also(&mut commit);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| after)?),
            }
        }
        Err(AccountError::Contended)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        // Whoever waits holds a share of what the server answers at once.
        let place = self.hashing_line.try_acquire().map_err(|_| AccountError::Busy)?;
        let turn = self.hashing.clone().acquire_owned().await.map_err(|_| CommitError::Closed)?;
        drop(place);
        // The work goes on when the request is given up, so the turn goes with it.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| AccountError::Store(StoreError::engine(error)))
    }
}

/// Eight random characters out of `A-Z`, as other servers name devices.
pub(super) fn new_device_id(rng: &dyn Rng) -> String {
    let mut bytes = [0_u8; 10];
    rng.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(b'A' + byte % 26)).collect()
}
