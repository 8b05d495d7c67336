//! Browsers that are signed in to the server's pages.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{Oauth, OauthError};
use crate::{
    account::{AccountError, Ticket, TicketKey, Verified},
    limits::{BROWSER_PROOF_MS, BROWSER_SESSION_MS},
    log::Commit,
    store::table::{Rows, TableId},
};

const BROWSERS: Rows<TicketKey, BrowserRow> = Rows::new(TableId::BrowserSession);
/// What cookies of browsers that are signed in begin with.
const PREFIX: &str = "lkb";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BrowserRow {
    user_id: OwnedUserId,
    /// When the user showed who they are, in milliseconds since the epoch.
    proved_ms: u64,
}

/// A browser that is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browser {
    /// Who has signed in.
    pub user_id: OwnedUserId,
    /// Whether that was just now, so that nobody else sits there yet.
    pub is_fresh: bool,
}

impl Oauth {
    /// Signs a browser in, once its user has shown who they are: the cookie.
    ///
    /// # Errors
    /// When the user may not sign in.
    pub async fn sign_in(&self, user: &UserId) -> Result<String, OauthError> {
        let (user_id, _) = self.accounts.admitted(user).await?;
        let ticket = Ticket::new(&self.ports, PREFIX, BROWSER_SESSION_MS);
        let mut commit = Commit::new();
        self.plan_sign_in(&mut commit, &ticket, user_id);
        self.log.commit(commit).await?;
        Ok(ticket.text)
    }

    /// The same, for somebody who has shown their password.
    ///
    /// # Errors
    /// As [`crate::account::Accounts::commit_verified`].
    pub async fn sign_in_by(&self, verified: &Verified) -> Result<String, AccountError> {
        let ticket = Ticket::new(&self.ports, PREFIX, BROWSER_SESSION_MS);
        let plan = |commit: &mut Commit| self.plan_sign_in(commit, &ticket, verified.user_id().to_owned());
        self.accounts.commit_verified(verified, plan).await?;
        Ok(ticket.text)
    }

    fn plan_sign_in(&self, commit: &mut Commit, ticket: &Ticket, user_id: OwnedUserId) {
        let proved_ms = self.ports.clock.now_ms();
        commit.delete_range(BROWSERS.prefix(&()), BROWSERS.prefix(&(proved_ms,)));
        commit.put(&BROWSERS, &ticket.key, &BrowserRow { user_id, proved_ms });
    }

    /// Who is signed in with this cookie; nobody, when they may not sign in any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn browser(&self, cookie: &str) -> Result<Option<Browser>, OauthError> {
        let Some(key) = Ticket::key_of(&self.ports, PREFIX, cookie) else { return Ok(None) };
        let Some(row) = self.log.db().row(&BROWSERS, &key).await? else { return Ok(None) };
        let user = self.accounts.user(&row.user_id).await?;
        let valid = user.is_some_and(|user| user.admit().is_ok() && row.proved_ms >= user.signed_out_ms);
        let is_fresh = row.proved_ms + BROWSER_PROOF_MS > self.ports.clock.now_ms();
        Ok(valid.then_some(Browser { user_id: row.user_id, is_fresh }))
    }

    /// Signs a browser out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), OauthError> {
        let Some(key) = Ticket::key_of(&self.ports, PREFIX, cookie) else { return Ok(()) };
        let mut commit = Commit::new();
        commit.delete(&BROWSERS, &key);
        Ok(self.log.commit(commit).await.map(drop)?)
    }
}
