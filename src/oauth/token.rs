//! The token endpoint: what is exchanged for tokens; and how tokens end.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#grant-types>

use serde::Deserialize;

use super::{Code, Oauth, OauthError, Scope, code::Redemption};
use crate::{
    account::{AccountError, Session},
    log::Commit,
};

/// The parameters of a token request, as they come.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the standards")]
pub struct TokenParams {
    pub grant_type: Option<String>,
    pub client_id: Option<String>,
    pub code: Option<String>,
    pub redirect_uri: Option<String>,
    pub code_verifier: Option<String>,
    pub refresh_token: Option<String>,
    pub device_code: Option<String>,
}

/// A session that a client is given.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The tokens.
    pub session: Session,
    /// What they are good for.
    pub scope: String,
}

impl Oauth {
    /// Gives out tokens.
    ///
    /// # Errors
    /// When a parameter is missing, or what is offered for the tokens is not good.
    pub async fn token(&self, params: &TokenParams) -> Result<Granted, OauthError> {
        let missing = || OauthError::refused(Code::InvalidRequest, "A parameter is missing");
        let needed = |value: &'_ Option<String>| value.clone().ok_or_else(missing);
        let client_id = needed(&params.client_id)?;
        let granted = match needed(&params.grant_type)?.as_str() {
            "authorization_code" => {
                self.redeem(Redemption {
                    code: &needed(&params.code)?,
                    client_id: &client_id,
                    redirect_uri: &needed(&params.redirect_uri)?,
                    verifier: &needed(&params.code_verifier)?,
                })
                .await
            }
            "refresh_token" => self.renew(&needed(&params.refresh_token)?, &client_id).await,
            "urn:ietf:params:oauth:grant-type:device_code" => {
                self.redeem_device_code(&needed(&params.device_code)?, &client_id).await
            }
            _ => Err(OauthError::refused(Code::UnsupportedGrantType, "This grant is not supported")),
        };
        granted.map_err(|error| match error {
            // Who may not sign in is told no more than whoever has a wrong code.
            OauthError::Account(
                AccountError::Deactivated
                | AccountError::Locked
                | AccountError::WrongLoginToken
                | AccountError::NotFound(_)
                | AccountError::UnknownToken { .. },
            ) => OauthError::invalid_grant(),
            error => error,
        })
    }

    async fn renew(&self, refresh_token: &str, client_id: &str) -> Result<Granted, OauthError> {
        let session = match self.accounts.refresh(refresh_token, Some(client_id)).await {
            Ok(session) => session,
            Err(AccountError::Replayed(owner)) => {
                let user = &owner.user_id;
                tracing::warn!(user.id = %user, "an old refresh token of {user} came back: the session ends");
                self.devices.remove(user, &[owner.device_id]).await?;
                return Err(OauthError::invalid_grant());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(row) = self.client_row(client_id).await? {
            let mut commit = Commit::new();
            self.note_use(&mut commit, client_id, &row);
            if !commit.is_empty() {
                // Once a day; if it is lost, tomorrow does it.
                self.log.commit_later(commit);
            }
        }
        let scope = Scope::of(session.device_id.clone()).text;
        Ok(Granted { session, scope })
    }

    /// Ends the session that `token` belongs to, with its device. Whoever has a token may: that it is out of its
    /// client's hands is reason enough.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#token-revocation>
    ///
    /// # Errors
    /// When the store fails. A token that stands for nothing is no error.
    pub async fn revoke(&self, token: &str) -> Result<(), OauthError> {
        match self.accounts.owner_of(token).await? {
            Some(owner) => Ok(self.devices.remove(&owner.user_id, &[owner.device_id]).await?),
            None => Ok(()),
        }
    }
}
