//! The device authorisation grant: a client without a browser shows a code, which the user types elsewhere.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-flow>, RFC 8628

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{Client, Code, Granted, Oauth, OauthError, Scope};
use crate::{
    account::{AccountError, NewSession, Ticket, TicketKey, token_hash},
    limits::{OAUTH_DEVICE_CODE_MS, OAUTH_POLL_SECONDS, OAUTH_SWEEP_ROWS, OAUTH_USER_CODE_CHARS},
    log::{Commit, CommitError},
    store::{
        Scan,
        table::{Rows, TableId},
    },
    types::Rng,
};

const DEVICE_CODES: Rows<TicketKey, DeviceCodeRow> = Rows::new(TableId::OauthDeviceCode);
const USER_CODES: Rows<(String,), TicketKey> = Rows::new(TableId::OauthUserCode);
/// What device codes begin with.
const PREFIX: &str = "lkd";
/// The grant that a client must have registered.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Letters that are not taken for others and make no words (RFC 8628, 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// What a device code is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceCodeRow {
    client_id: String,
    device_id: OwnedDeviceId,
    scope: String,
    /// The hash of the code that the user types.
    user_code: String,
    decision: Decision,
    /// When the user has decided, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided_ms: Option<u64>,
}

/// What the user says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Pending,
    Granted(OwnedUserId),
    Denied,
}

/// What a client is told that asks for a device code.
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// For the client.
    pub device_code: String,
    /// For the user, with a dash in the middle.
    pub user_code: String,
}

/// A code that the user has typed: who asks for what.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// The client.
    pub client: Client,
    /// The device that is to be logged in.
    pub device_id: OwnedDeviceId,
}

impl Oauth {
    /// Makes a device code.
    ///
    /// # Errors
    /// When there is no such client, or what it asks for cannot be granted.
    pub async fn device_authorization(
        &self,
        client_id: &str,
        scope: &str,
    ) -> Result<DeviceAuthorization, OauthError> {
        let client = self.client(client_id).await?;
        if !client.may_use(GRANT) {
            return Err(OauthError::refused(
                Code::UnauthorizedClient,
                "The client has not registered this grant",
            ));
        }
        let scope = Scope::parse(scope)?;
        let user_code = new_user_code(&*self.ports.rng);
        let hidden = token_hash(&user_code);
        let ticket = Ticket::new(&self.ports, PREFIX, OAUTH_DEVICE_CODE_MS);
        let row = DeviceCodeRow {
            client_id: client_id.to_owned(),
            device_id: scope.device_id,
            scope: scope.text,
            user_code: hidden.clone(),
            decision: Decision::Pending,
            decided_ms: None,
        };
        let mut commit = Commit::new();
        self.sweep_device_codes(&mut commit).await?;
        commit.put(&DEVICE_CODES, &ticket.key, &row);
        commit.put(&USER_CODES, &(hidden,), &ticket.key);
        self.log.commit(commit).await?;
        let (first, second) = user_code.split_at(OAUTH_USER_CODE_CHARS / 2);
        Ok(DeviceAuthorization { device_code: ticket.text, user_code: format!("{first}-{second}") })
    }

    /// What the code that a user has typed is about; nothing if it is not good, or has been decided on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_code(&self, user_code: &str) -> Result<Option<DeviceCode>, OauthError> {
        let Some((_, row)) = self.pending(user_code).await? else { return Ok(None) };
        let client = self.client(&row.client_id).await?;
        Ok(Some(DeviceCode { client, device_id: row.device_id }))
    }

    /// The user has decided. `false` when there is nothing to decide on.
    ///
    /// # Errors
    /// When the user may not sign in.
    pub async fn decide(&self, user_code: &str, user: &UserId, grant: bool) -> Result<bool, OauthError> {
        let (user_id, _) = self.accounts.admitted(user).await?;
        let Some((key, row)) = self.pending(user_code).await? else { return Ok(false) };
        let decision = if grant { Decision::Granted(user_id) } else { Decision::Denied };
        let mut commit = Commit::new();
        commit.expect_equals(&DEVICE_CODES, &key, &row);
        let decided_ms = Some(self.ports.clock.now_ms());
        commit.put(&DEVICE_CODES, &key, &DeviceCodeRow { decision, decided_ms, ..row.clone() });
        commit.delete(&USER_CODES, &(row.user_code,));
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => Ok(false),
            other => Ok(other.map(|_| true)?),
        }
    }

    async fn pending(&self, user_code: &str) -> Result<Option<(TicketKey, DeviceCodeRow)>, OauthError> {
        let typed: String = user_code
            .chars()
            .filter(char::is_ascii_alphabetic)
            .map(|letter| letter.to_ascii_uppercase())
            .collect();
        let db = self.log.db();
        let Some(key) = db.row(&USER_CODES, &(token_hash(&typed),)).await? else { return Ok(None) };
        if key.0 <= self.ports.clock.now_ms() {
            return Ok(None);
        }
        let row = db.row(&DEVICE_CODES, &key).await?;
        Ok(row.filter(|row| row.decision == Decision::Pending).map(|row| (key, row)))
    }

    /// Exchanges a device code for a session, once the user has agreed.
    ///
    /// # Errors
    /// When the user has not decided yet, has refused, or the code is not good.
    pub(super) async fn redeem_device_code(
        &self,
        device_code: &str,
        client_id: &str,
    ) -> Result<Granted, OauthError> {
        let client = self.client_row(client_id).await?.ok_or_else(OauthError::invalid_client)?;
        let bad = || match Ticket::is_over(&self.ports, PREFIX, device_code) {
            true => OauthError::refused(Code::ExpiredToken, "The time of the device code is over"),
            false => OauthError::invalid_grant(),
        };
        let key = Ticket::key_of(&self.ports, PREFIX, device_code).ok_or_else(bad)?;
        let row = self.log.db().row(&DEVICE_CODES, &key).await?.filter(|row| row.client_id == client_id);
        let row = row.ok_or_else(OauthError::invalid_grant)?;
        let user_id = match &row.decision {
            Decision::Pending => return Err(self.pause(&key)),
            Decision::Denied => return Err(OauthError::refused(Code::AccessDenied, "The user has refused")),
            Decision::Granted(user_id) => user_id.clone(),
        };
        let new = NewSession {
            user_id,
            device_id: Some(row.device_id.clone()),
            display_name: Some(client.client.shown_name()),
            refreshes: true,
            client: Some(client.client.of_device(client_id)),
        };
        let also = |commit: &mut Commit| {
            commit.expect_equals(&DEVICE_CODES, &key, &row);
            commit.delete(&DEVICE_CODES, &key);
            self.note_use(commit, client_id, &client);
        };
        match self.accounts.start_session_with((new, row.decided_ms.unwrap_or_default()), also).await {
            // Somebody else was quicker.
            Err(AccountError::Contended) => Err(OauthError::invalid_grant()),
            other => Ok(Granted { session: other?, scope: row.scope.clone() }),
        }
    }

    /// What a client is told that comes before the user has decided.
    fn pause(&self, key: &TicketKey) -> OauthError {
        let now_ms = self.ports.clock.now_ms();
        let last_ms = self.polls.get(&key.1);
        self.polls.insert(key.1.clone(), now_ms);
        // A second less than was asked for: packets do not travel evenly.
        let soon = last_ms.is_some_and(|last_ms| last_ms + (OAUTH_POLL_SECONDS - 1) * 1_000 > now_ms);
        match soon {
            true => OauthError::refused(Code::SlowDown, "That was too soon"),
            false => OauthError::refused(Code::AuthorizationPending, "The user has not decided yet"),
        }
    }

    /// Removes some device codes whose time is over.
    async fn sweep_device_codes(&self, commit: &mut Commit) -> Result<(), OauthError> {
        let (from, to) = (DEVICE_CODES.prefix(&()), DEVICE_CODES.prefix(&(self.ports.clock.now_ms(),)));
        let scan = Scan { from, to, reverse: false, limit: OAUTH_SWEEP_ROWS };
        for (key, row) in self.log.db().scan(&DEVICE_CODES, scan).await? {
            commit.delete(&DEVICE_CODES, &key);
            commit.delete(&USER_CODES, &(row.user_code,));
        }
        Ok(())
    }
}

fn new_user_code(rng: &dyn Rng) -> String {
    let mut code = String::new();
    while code.len() < OAUTH_USER_CODE_CHARS {
        let mut bytes = [0_u8; 16];
        rng.fill(&mut bytes);
        // Values from 240 on would make some letters likelier than others.
        let fair = bytes.iter().filter(|byte| **byte < 240).map(|byte| LETTERS[usize::from(byte % 20)]);
        code.extend(fair.take(OAUTH_USER_CODE_CHARS - code.len()).map(char::from));
    }
    code
}
