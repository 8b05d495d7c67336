//! Authorisation codes: what a browser takes back to the client, and the client exchanges for tokens.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Authorization, Granted, Oauth, OauthError, client::ClientRow};
use crate::{
    account::{AccountError, NewSession, Ticket, TicketKey},
    limits::OAUTH_CODE_MS,
    log::Commit,
    store::table::{Rows, TableId},
};

const CODES: Rows<TicketKey, CodeRow> = Rows::new(TableId::OauthCode);
/// What codes begin with.
const PREFIX: &str = "lkc";

/// What a code is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CodeRow {
    client_id: String,
    redirect_uri: String,
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    scope: String,
    challenge: String,
    /// It has become a session. The row stays until its time is over, so that a second use shows.
    redeemed: bool,
}

/// What a client says when it redeems a code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redemption<'a> {
    pub(super) code: &'a str,
    pub(super) client_id: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: &'a str,
}

impl CodeRow {
    fn is_for(&self, given: Redemption<'_>) -> bool {
        let verifier = given.verifier.as_bytes();
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        let sound = (43..=128).contains(&verifier.len()) && verifier.iter().all(allowed);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let proved = bool::from(challenge.as_bytes().ct_eq(self.challenge.as_bytes()));
        sound && proved && self.client_id == given.client_id && self.redirect_uri == given.redirect_uri
    }
}

impl Oauth {
    /// The user has agreed: the code for the client.
    ///
    /// # Errors
    /// When the user may not sign in.
    pub async fn grant(&self, asked: &Authorization, user: &UserId) -> Result<String, OauthError> {
        let (user_id, _) = self.accounts.admitted(user).await?;
        let ticket = Ticket::new(&self.ports, PREFIX, OAUTH_CODE_MS);
        let row = CodeRow {
            client_id: asked.client_id.clone(),
            redirect_uri: asked.redirect_uri.clone(),
            user_id,
            device_id: asked.scope.device_id.clone(),
            scope: asked.scope.text.clone(),
            challenge: asked.challenge.clone(),
            redeemed: false,
        };
        let mut commit = Commit::new();
        commit.delete_range(CODES.prefix(&()), CODES.prefix(&(self.ports.clock.now_ms(),)));
        commit.put(&CODES, &ticket.key, &row);
        self.log.commit(commit).await?;
        Ok(ticket.text)
    }

    /// Exchanges a code for a session. A second exchange ends the session: one of the two who have the code stole it.
    ///
    /// # Errors
    /// When the code is not good, or not for this client.
    pub(super) async fn redeem(&self, given: Redemption<'_>) -> Result<Granted, OauthError> {
        let client = self.client_row(given.client_id).await?.ok_or_else(OauthError::invalid_client)?;
        let key = Ticket::key_of(&self.ports, PREFIX, given.code).ok_or_else(OauthError::invalid_grant)?;
        for _ in 0..2 {
            let row = self.log.db().row(&CODES, &key).await?.filter(|row| row.is_for(given));
            let row = row.ok_or_else(OauthError::invalid_grant)?;
            if row.redeemed {
                tracing::warn!(user.id = %row.user_id, "an authorisation code of {} came twice", row.user_id);
                self.devices.remove(&row.user_id, &[row.device_id]).await?;
                return Err(OauthError::invalid_grant());
            }
            match self.log_in(&row, &client, (&key, given.client_id)).await {
                // Somebody else was quicker.
                Err(OauthError::Account(AccountError::Contended)) => {}
                other => return other,
            }
        }
        Err(AccountError::Contended.into())
    }

    async fn log_in(
        &self,
        row: &CodeRow,
        client: &ClientRow,
        (key, client_id): (&TicketKey, &str),
    ) -> Result<Granted, OauthError> {
        let new = NewSession {
            user_id: row.user_id.clone(),
            device_id: Some(row.device_id.clone()),
            display_name: Some(client.client.shown_name()),
            refreshes: true,
            client: Some(client.client.of_device(client_id)),
        };
        let also = |commit: &mut Commit| {
            commit.expect_equals(&CODES, key, row);
            commit.put(&CODES, key, &CodeRow { redeemed: true, ..row.clone() });
            self.note_use(commit, client_id, client);
        };
        let allowed_ms = key.0.saturating_sub(OAUTH_CODE_MS);
        let session = self.accounts.start_session_with((new, allowed_ms), also).await?;
        Ok(Granted { session, scope: row.scope.clone() })
    }
}
