//! Passwords: argon2id, off the asynchronous threads and not too many at once.

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use ruma::UserId;

use super::{AccountError, Accounts, User, user::USERS};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, PASSWORD_BYTES_MAX},
    log::{Commit, CommitError},
    store::StoreError,
    types::Rng,
};

impl Accounts {
    /// The hash of `password`, in PHC form.
    ///
    /// # Errors
    /// When the password is longer than the limit.
    pub(super) async fn hash_password(&self, password: &str) -> Result<String, AccountError> {
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

    /// Whether `password` is the one of `user`. Takes as long when there is no such user.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`] when it is not.
    pub async fn check_password(&self, user: &UserId, password: &str) -> Result<User, AccountError> {
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
            Some(row) if known && right => Ok(row),
            _ => Err(AccountError::WrongPassword),
        }
    }

    /// Gives `user` another password.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn set_password(&self, user: &UserId, password: &str) -> Result<(), AccountError> {
        let hash = self.hash_password(password).await?;
        self.change_user(user, |row| row.password_hash = Some(hash.clone())).await
    }

    /// Ends the account: the password goes, the name stays taken. Its devices are removed by
    /// `device`, its memberships by `room`.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn deactivate(&self, user: &UserId, erase: bool) -> Result<(), AccountError> {
        self.change_user(user, |row| {
            row.password_hash = None;
            row.deactivated = true;
            row.erased = erase;
        })
        .await?;
        self.drop_profile(user).await
    }

    /// Changes the row of a user.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn change_user(&self, user: &UserId, change: impl Fn(&mut User)) -> Result<(), AccountError> {
        let key = (user.to_owned(),);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
            let mut after = before.clone();
            change(&mut after);
            let mut commit = Commit::new();
            commit.expect_equals(&USERS, &key, &before);
            commit.put(&USERS, &key, &after);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
        Err(AccountError::Contended)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let _turn = self.hashing.acquire().await.map_err(|_| CommitError::Closed)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| AccountError::Store(StoreError::engine(error)))
    }
}

/// Eight random characters out of `A-Z`, as other servers name devices.
pub(super) fn new_device_id(rng: &dyn Rng) -> String {
    let mut bytes = [0_u8; 10];
    rng.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(b'A' + byte % 26)).collect()
}
