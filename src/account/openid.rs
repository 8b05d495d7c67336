//! OpenID tokens: with one a user proves to another service who they are, and nothing more.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#openid>

use ruma::{OwnedUserId, UserId};

use super::{
    AccountError, Accounts,
    token::{TokenHash, hash, new_token},
};
use crate::{
    limits::OPENID_TOKEN_MS,
    log::Commit,
    store::table::{Rows, TableId},
};

/// By the moment at which they end, so that those whose time is over are one range; the token itself
/// tells that moment too.
const TOKENS: Rows<(u64, TokenHash), OwnedUserId> = Rows::new(TableId::OpenIdToken);

impl Accounts {
    /// A token that says who `user` is, valid for [`OPENID_TOKEN_MS`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn openid_token(&self, user: &UserId) -> Result<String, AccountError> {
        let now_ms = self.ports.clock.now_ms();
        let ends_ms = now_ms + OPENID_TOKEN_MS;
        let token = new_token(&*self.ports.rng, &format!("lko_{ends_ms}_"));
        let mut commit = Commit::new();
        commit.delete_range(TOKENS.prefix(&()), TOKENS.prefix(&(now_ms,)));
        commit.put(&TOKENS, &(ends_ms, hash(&token)), &user.to_owned());
        self.log.commit(commit).await?;
        Ok(token)
    }

    /// Who `token` says somebody is.
    ///
    /// # Errors
    /// When it stands for nobody who may sign in, or its time is over.
    pub async fn openid_user(&self, token: &str) -> Result<OwnedUserId, AccountError> {
        let unknown = || AccountError::UnknownToken { soft: false };
        let ends_ms =
            token.split('_').nth(1).and_then(|text| text.parse::<u64>().ok()).ok_or_else(unknown)?;
        if ends_ms <= self.ports.clock.now_ms() {
            return Err(unknown());
        }
        let user = self.log.db().row(&TOKENS, &(ends_ms, hash(token))).await?.ok_or_else(unknown)?;
        match self.admitted(&user).await {
            Ok((user, _)) => Ok(user),
            Err(AccountError::Deactivated | AccountError::Locked | AccountError::NotFound(_)) => {
                Err(unknown())
            }
            Err(error) => Err(error),
        }
    }
}
