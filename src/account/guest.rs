//! Guests: accounts that nobody has registered, which may do little, and may be registered later.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#guest-access>

use ruma::{OwnedUserId, UserId};

use super::{AccountError, Accounts, DEVICES, Device, NewDevice, Session, Shown, User, user::USERS};
use crate::{
    limits::{GUEST_NAME_CHARS, REGISTRATION_CONFLICTS_MAX, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
    types::random_string,
};

impl Accounts {
    /// Makes an account for a guest and logs it in, on a device that the server names.
    ///
    /// # Errors
    /// When guests are not let in, or the name of the device is too long.
    pub async fn register_guest(&self, display_name: Option<String>) -> Result<Session, AccountError> {
        self.check_guests()?;
        let username = random_string(&*self.ports.rng, GUEST_NAME_CHARS).to_ascii_lowercase();
        let user_id = self.available(&username).await?;
        let row = User { guest: true, created_ms: self.ports.clock.now_ms(), ..User::default() };
        let mut commit = self.plan_row(&user_id, &row);
        let device = NewDevice { device_id: None, display_name, refreshes: false };
        let session = self.first_session(&mut commit, &user_id, device)?;
        self.commit_user(commit).await.map(|()| session)
    }

    /// Whether `user` is a guest of this server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_guest(&self, user: &UserId) -> Result<bool, AccountError> {
        Ok(self.user(user).await?.is_some_and(|user| user.guest))
    }

    /// The guest whose access token `token` is and whose id `username` means, who wants to register.
    ///
    /// # Errors
    /// When the token is not that of this guest.
    pub async fn guest_of(&self, token: &str, username: &str) -> Result<OwnedUserId, AccountError> {
        let (caller, user) = self.recognize(token).await?;
        user.admit()?;
        let named = self.local_id(username)?;
        match user.guest && named == caller.user_id {
            true => Ok(named),
            false => Err(AccountError::NotTheCaller),
        }
    }

    /// Makes an ordinary account out of that of a guest, for somebody who has shown what newcomers have to. It is worth
    /// more than before, so what let the guest's devices in does so no more.
    ///
    /// # Errors
    /// When they are no guest any more, or what was shown is used up, or the password is too long.
    pub async fn upgrade_guest(
        &self,
        guest: &OwnedUserId,
        password: Option<&str>,
        shown: &Shown,
    ) -> Result<(), AccountError> {
        let password_hash = match password {
            Some(password) => Some(self.hash_password(password).await?),
            None => None,
        };
        let key = (guest.clone(),);
        for _ in 0..REGISTRATION_CONFLICTS_MAX {
            let before = self.user(guest).await?.filter(|user| user.guest).ok_or(AccountError::UserInUse)?;
            before.admit()?;
            let accepted = if shown.terms { self.acceptances() } else { before.accepted.clone() };
            let password_hash = password_hash.clone();
            let after = User { guest: false, password_hash, accepted, ..before.clone() };
            let mut commit = Commit::new();
            commit.expect_equals(&USERS, &key, &before);
            commit.put(&USERS, &key, &after);
            // A device that comes at this moment conflicts over the user's row.
            for (owner, before) in self.log.db().range(&DEVICES, &key, SCAN_ROWS_MAX).await? {
                commit.expect_equals(&DEVICES, &owner, &before);
                before.forget_tokens(&mut commit);
                let after = Device { tokens: Vec::new(), refresh_tokens: Vec::new(), family: None, ..before };
                commit.put(&DEVICES, &owner, &after);
            }
            self.use_up(&mut commit, guest, shown).await?;
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                done => return Ok(done.map(drop)?),
            }
        }
        Err(AccountError::Contended)
    }
}
