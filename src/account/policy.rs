//! Who may come in. Every way of making an account and of signing in to one asks here, so that a rule cannot hold
//! on one of them and not on another.

use ruma::{OwnedUserId, UserId};

use super::{AccountError, Accounts, Registration, Stage, User};

impl Accounts {
    /// What somebody has to show before they get an account, whether a client asks for it or a page of the server.
    /// Those who prove that they act for the server (the shared secret, an application service) are not asked.
    ///
    /// # Errors
    /// When registration is closed.
    pub fn newcomer_stages(&self) -> Result<Vec<Stage>, AccountError> {
        let last = match self.settings().registration {
            Registration::Closed => return Err(AccountError::RegistrationRefused("Registration is closed")),
            Registration::Token => Stage::RegistrationToken,
            Registration::Open => Stage::Dummy,
        };
        let terms = (!self.settings().terms.policies.is_empty()).then_some(Stage::Terms);
        Ok(terms.into_iter().chain([last]).collect())
    }

    /// Whether accounts can be made by strangers at all.
    ///
    /// # Errors
    /// When registration is closed.
    pub fn check_registration(&self) -> Result<(), AccountError> {
        self.newcomer_stages().map(drop)
    }

    /// Whether somebody gets an account whom a provider of identities knows.
    ///
    /// # Errors
    /// When the operator lets nobody in like this.
    pub fn check_provider_registration(&self) -> Result<(), AccountError> {
        match self.settings().provider_registration {
            true => Ok(()),
            false => Err(AccountError::RegistrationRefused("No accounts are made for newcomers")),
        }
    }

    /// The row of a user who may sign in.
    ///
    /// # Errors
    /// When there is no such user, or they may not.
    pub async fn admitted(&self, user: &UserId) -> Result<(OwnedUserId, User), AccountError> {
        let row = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
        row.admit()?;
        Ok((user.to_owned(), row))
    }
}

impl User {
    /// Whether the user may sign in, by whatever way, or go on with a session that has to be renewed. A user who is
    /// suspended may.
    ///
    /// # Errors
    /// When the account is deactivated or locked.
    pub fn admit(&self) -> Result<(), AccountError> {
        match (self.deactivated, self.locked) {
            (true, _) => Err(AccountError::Deactivated),
            (false, true) => Err(AccountError::Locked),
            (false, false) => Ok(()),
        }
    }
}
