//! Registration tokens that are kept in the store: they may end, and be good for some accounts only.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration>

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{AccountError, Accounts};
use crate::{
    limits::SCAN_ROWS_MAX,
    log::{Commit, CommitError},
    store::table::{Rows, TableId},
};

const REGISTRATION_TOKENS: Rows<(String,), RegistrationToken> = Rows::new(TableId::RegistrationToken);
/// Characters of a token (the specification).
const CHARACTERS_MAX: usize = 64;

/// What is known of a registration token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationToken {
    /// How many accounts may be made with it; any number, if it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_allowed: Option<u64>,
    /// How many have been made.
    #[serde(default)]
    pub completed: u64,
    /// When it ends, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl RegistrationToken {
    /// Whether an account can be made with it at `now_ms`.
    #[must_use]
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.uses_allowed.is_none_or(|allowed| self.completed < allowed)
            && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

impl Accounts {
    /// Whether `token` lets somebody register.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_registration_token(&self, token: &str) -> Result<bool, AccountError> {
        let known = |known: &String| bool::from(known.as_bytes().ct_eq(token.as_bytes()));
        if token.is_empty() || self.settings.registration_tokens.iter().any(known) {
            return Ok(!token.is_empty());
        }
        let now_ms = self.ports.clock.now_ms();
        Ok(self.registration_token(token).await?.is_some_and(|row| row.is_valid(now_ms)))
    }

    /// A registration token of the store.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>, AccountError> {
        Ok(self.log.db().row(&REGISTRATION_TOKENS, &(token.to_owned(),)).await?)
    }

    /// The registration tokens of the store.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registration_tokens(&self) -> Result<Vec<(String, RegistrationToken)>, AccountError> {
        let rows = self.log.db().range(&REGISTRATION_TOKENS, &(), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((token,), row)| (token, row)).collect())
    }

    /// Makes a registration token.
    ///
    /// # Errors
    /// When it breaks the grammar, or there is one already.
    pub async fn make_registration_token(
        &self,
        token: &str,
        row: &RegistrationToken,
    ) -> Result<(), AccountError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if token.is_empty() || token.len() > CHARACTERS_MAX || !token.bytes().all(allowed) {
            let grammar = "A registration token has 1 to 64 characters of A-Za-z0-9._~-";
            return Err(AccountError::Invalid(String::from(grammar)));
        }
        let (mut commit, key) = (Commit::new(), (token.to_owned(),));
        commit.expect_absent(&REGISTRATION_TOKENS, &key);
        commit.put(&REGISTRATION_TOKENS, &key, row);
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => {
                Err(AccountError::Invalid(String::from("There is such a token already")))
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Changes how long a registration token of the store is good, and for how many accounts; as it is then, if there
    /// is one.
    ///
    /// # Errors
    /// When the store fails, or it is used at this moment.
    pub async fn change_registration_token(
        &self,
        token: &str,
        change: impl FnOnce(&mut RegistrationToken),
    ) -> Result<Option<RegistrationToken>, AccountError> {
        let Some(before) = self.registration_token(token).await? else { return Ok(None) };
        let mut after = before.clone();
        change(&mut after);
        let (mut commit, key) = (Commit::new(), (token.to_owned(),));
        commit.expect_equals(&REGISTRATION_TOKENS, &key, &before);
        commit.put(&REGISTRATION_TOKENS, &key, &after);
        self.log.commit(commit).await?;
        Ok(Some(after))
    }

    /// Removes a registration token of the store; whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_registration_token(&self, token: &str) -> Result<bool, AccountError> {
        let is_there = self.registration_token(token).await?.is_some();
        let mut commit = Commit::new();
        commit.delete(&REGISTRATION_TOKENS, &(token.to_owned(),));
        self.log.commit(commit).await?;
        Ok(is_there)
    }

    /// Has `commit` count that an account is made with a token.
    pub(super) async fn spend(&self, commit: &mut Commit, token: &str) -> Result<(), AccountError> {
        let Some(before) = self.registration_token(token).await? else {
            // A token of the configuration is good for any number; another one has been removed since it was shown.
            return match self.settings.registration_tokens.iter().any(|known| known == token) {
                true => Ok(()),
                false => {
                    Err(AccountError::RegistrationRefused("The registration token is not valid any more"))
                }
            };
        };
        if !before.is_valid(self.ports.clock.now_ms()) {
            return Err(AccountError::RegistrationRefused("The registration token is used up"));
        }
        let key = (token.to_owned(),);
        commit.expect_equals(&REGISTRATION_TOKENS, &key, &before);
        commit.put(
            &REGISTRATION_TOKENS,
            &key,
            &RegistrationToken { completed: before.completed + 1, ..before },
        );
        Ok(())
    }
}
