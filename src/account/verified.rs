//! Somebody who has shown who they are, and by what: what they do with that holds only as long as it is theirs.
//!
//! Hashing a password takes long, and somebody may wait for it while the owner of the account gets another one and shuts
//! everybody out. So whatever is done by a proof names the proof, and the commit that does it expects it to hold.

use ruma::{OwnedUserId, UserId};

use super::{AccountError, Accounts, User, user::USERS};
use crate::{
    limits::ACCOUNT_ATTEMPTS_MAX,
    log::{Commit, CommitError},
};

/// What somebody had when they showed who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    user_id: OwnedUserId,
    password_hash: Option<String>,
    signed_out_ms: u64,
}

impl Verified {
    pub(super) fn of(user_id: &UserId, row: &User) -> Self {
        let (password_hash, signed_out_ms) = (row.password_hash.clone(), row.signed_out_ms);
        Self { user_id: user_id.to_owned(), password_hash, signed_out_ms }
    }

    /// Who it is.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// Whether the user has the same password still, and has shut nobody out since.
    pub(super) fn holds(&self, row: &User) -> bool {
        self.password_hash == row.password_hash && self.signed_out_ms == row.signed_out_ms
    }

    /// Has `row`, as it is now, refused if the proof does not hold for it.
    pub(super) fn check(&self, row: &User) -> Result<(), AccountError> {
        match (row.deactivated, self.holds(row)) {
            (true, _) => Err(AccountError::Deactivated),
            (false, true) => Ok(()),
            (false, false) => Err(AccountError::WrongPassword),
        }
    }
}

impl Accounts {
    /// Commits what `plan` adds, for somebody who may sign in, as long as what they have shown holds.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`] when it does not any more; when the account is not in use; and
    /// [`AccountError::Contended`] when what `plan` expects does not hold, or others keep changing the account.
    pub async fn commit_verified(
        &self,
        verified: &Verified,
        plan: impl Fn(&mut Commit),
    ) -> Result<(), AccountError> {
        let key = (verified.user_id.clone(),);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let row = self.user(&key.0).await?.ok_or(AccountError::NotFound("user"))?;
            verified.check(&row)?;
            row.admit()?;
            let mut commit = Commit::new();
            plan(&mut commit);
            commit.expect_equals(&USERS, &key, &row);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// What somebody has who has no password, and shows in another way who they are; nothing for whoever has one.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn without_password(&self, user: &UserId) -> Result<Option<Verified>, AccountError> {
        let row = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
        Ok(row.password_hash.is_none().then(|| Verified::of(user, &row)))
    }

    /// What a user has now, for a proof that comes from elsewhere.
    pub(super) async fn verified_now(&self, user: &UserId) -> Result<Verified, AccountError> {
        let row = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
        Ok(Verified::of(user, &row))
    }
}
