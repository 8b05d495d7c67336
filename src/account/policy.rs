//! Who may come in. Every way of making an account and of signing in to one asks here, so that a rule cannot hold
//! on one of them and not on another.

use ruma::{OwnedUserId, UserId};

use super::{AccountError, Accounts, Registration, RegistrationEmail, Stage, User};

impl Accounts {
    /// What somebody has to show before they get an account, each way by itself. Those who prove that they act for the
    /// server (the shared secret, an application service) are not asked.
    ///
    /// # Errors
    /// When registration is closed.
    pub fn newcomer_flows(&self) -> Result<Vec<Vec<Stage>>, AccountError> {
        let settings = self.settings();
        let token = match settings.registration {
            Registration::Closed => return Err(AccountError::RegistrationRefused("Registration is closed")),
            Registration::Token => Some(Stage::RegistrationToken),
            Registration::Open => None,
        };
        let captcha = settings.captcha.as_ref().map(|_| Stage::Captcha);
        let terms = (!settings.terms.policies.is_empty()).then_some(Stage::Terms);
        // A way of no stages could not be told of, and one that another begins with would always end before that.
        // <https://spec.matrix.org/v1.19/client-server-api/#dummy-auth>
        let is_prefix =
            captcha.is_none() || (settings.email == RegistrationEmail::Offered && terms.is_none());
        let dummy = (token.is_none() && is_prefix).then_some(Stage::Dummy);
        // The address comes before what may complete another way.
        let stages = [captcha.clone(), Some(Stage::Email), terms.clone(), token.clone()];
        let with_address = stages.into_iter().flatten().collect();
        let plain = [captcha, terms, token, dummy].into_iter().flatten().collect();
        Ok(match settings.email {
            RegistrationEmail::Off => vec![plain],
            RegistrationEmail::Offered => vec![plain, with_address],
            RegistrationEmail::Required => vec![with_address],
        })
    }

    /// What somebody has to show on a page of the server, who proves an address or does not; what there is, if only
    /// one of the two can be done.
    ///
    /// # Errors
    /// When registration is closed.
    pub fn newcomer_stages(&self, with_address: bool) -> Result<Vec<Stage>, AccountError> {
        let mut flows = self.newcomer_flows()?;
        let wanted = flows.iter().position(|flow| flow.contains(&Stage::Email) == with_address);
        Ok(flows.swap_remove(wanted.unwrap_or_default()))
    }

    /// Whether guests are let in.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_guests(&self) -> Result<(), AccountError> {
        match self.settings().guests {
            true => Ok(()),
            false => Err(AccountError::GuestsRefused("Guests are not let in")),
        }
    }

    /// Whether newcomers can prove a mail address.
    ///
    /// # Errors
    /// When registration is closed, or nobody asks for it.
    pub fn check_newcomer_address(&self) -> Result<(), AccountError> {
        match self.newcomer_flows()?.iter().flatten().any(|stage| *stage == Stage::Email) {
            true => Ok(()),
            false => Err(AccountError::RegistrationRefused("No mail address is asked for")),
        }
    }

    /// Whether accounts can be made by strangers at all.
    ///
    /// # Errors
    /// When registration is closed.
    pub fn check_registration(&self) -> Result<(), AccountError> {
        self.newcomer_flows().map(drop)
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
