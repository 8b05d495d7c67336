//! Login tokens: one device lets another one in, or a browser that came back from a provider lets its client in.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>

use ruma::{OwnedUserId, UserId};

use super::{
    AccountError, Accounts, NewDevice, NewSession, Session, Verified,
    token::{Ticket, TicketKey},
};
use crate::{
    limits::LOGIN_TOKEN_MS,
    log::Commit,
    store::table::{Rows, TableId},
};

const LOGIN_TOKENS: Rows<TicketKey, OwnedUserId> = Rows::new(TableId::LoginToken);
/// What login tokens begin with.
const PREFIX: &str = "lkt";

impl Accounts {
    /// A token with which `user` may log in once, within [`LOGIN_TOKEN_MS`].
    ///
    /// # Errors
    /// When the user may not log in.
    pub async fn login_token(&self, user: &UserId) -> Result<String, AccountError> {
        let (user_id, _) = self.admitted(user).await?;
        let ticket = Ticket::new(&self.ports, PREFIX, LOGIN_TOKEN_MS);
        let mut commit = Commit::new();
        self.plan_login_token(&mut commit, &ticket, &user_id);
        self.log.commit(commit).await?;
        Ok(ticket.text)
    }

    /// The same, for somebody who has shown who they are.
    ///
    /// # Errors
    /// As [`Accounts::commit_verified`].
    pub async fn login_token_by(&self, verified: &Verified) -> Result<String, AccountError> {
        let ticket = Ticket::new(&self.ports, PREFIX, LOGIN_TOKEN_MS);
        let user_id = verified.user_id().to_owned();
        let plan = |commit: &mut Commit| self.plan_login_token(commit, &ticket, &user_id);
        self.commit_verified(verified, plan).await?;
        Ok(ticket.text)
    }

    fn plan_login_token(&self, commit: &mut Commit, ticket: &Ticket, user_id: &OwnedUserId) {
        let now_ms = self.ports.clock.now_ms();
        commit.delete_range(LOGIN_TOKENS.prefix(&()), LOGIN_TOKENS.prefix(&(now_ms,)));
        commit.put(&LOGIN_TOKENS, &ticket.key, user_id);
    }

    /// Logs in whom `token` stands for. The token goes in the same commit.
    ///
    /// # Errors
    /// [`AccountError::WrongLoginToken`] when it stands for nobody, has been used, its time is over, or its user
    /// has got another password since.
    pub async fn start_session_by_token(
        &self,
        token: &str,
        device: NewDevice,
    ) -> Result<Session, AccountError> {
        let key = Ticket::key_of(&self.ports, PREFIX, token).ok_or(AccountError::WrongLoginToken)?;
        let user_id = self.log.db().row(&LOGIN_TOKENS, &key).await?.ok_or(AccountError::WrongLoginToken)?;
        let also = |commit: &mut Commit| {
            commit.expect_equals(&LOGIN_TOKENS, &key, &user_id);
            commit.delete(&LOGIN_TOKENS, &key);
        };
        let NewDevice { device_id, display_name, refreshes } = device;
        let user_id = user_id.clone();
        let new = NewSession { user_id, device_id, display_name, refreshes, client: None };
        match self.start_session_with((new, key.0.saturating_sub(LOGIN_TOKEN_MS)), also).await {
            // Somebody else was quicker.
            Err(AccountError::Contended) => Err(AccountError::WrongLoginToken),
            other => other,
        }
    }
}
