//! The rows of pushers: where a user's notifications are to go, and how far that has got.
//!
//! A row begins with the user and says which device made it: `device` removes it with the device.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use http::Uri;
use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::client::push::{Pusher, PusherIds, PusherKind},
    push::HttpPusherData,
};
use serde::{Deserialize, Serialize};

use super::{Push, PushError};
use crate::{
    account::{Caller, DEVICES},
    limits::{
        ACCOUNT_ATTEMPTS_MAX, PUSHER_APP_ID_BYTES_MAX, PUSHER_BYTES_MAX, PUSHERS_PER_USER_MAX,
        PUSHKEY_BYTES_MAX, SCAN_ROWS_MAX,
    },
    log::{Commit, CommitError},
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
    types::Position,
};

const PUSHERS: Rows<(OwnedUserId, String, String), PusherRow> = Rows::new(TableId::Pusher);
/// By `app_id` and `pushkey`, so that other users of the same app on the same phone are found. A row may
/// outlive its pusher.
const PUSHER_KEYS: Rows<(String, String, OwnedUserId), ()> = Rows::new(TableId::PusherKey);

/// The one path that a gateway may have.
///
/// <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>
const GATEWAY_PATH: &str = "/_matrix/push/v1/notify";

/// The `app_id` of pushers that write letters.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>
pub const MAIL_APP: &str = "m.email";

/// Names a pusher.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PusherId {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The app, as the gateway knows it.
    pub app_id: String,
    /// The device, as the gateway knows it.
    pub pushkey: String,
}

impl PusherId {
    fn key(&self) -> (OwnedUserId, String, String) {
        (self.user_id.clone(), self.app_id.clone(), self.pushkey.clone())
    }

    fn reverse_key(&self) -> (String, String, OwnedUserId) {
        (self.app_id.clone(), self.pushkey.clone(), self.user_id.clone())
    }
}

/// How a pusher is to be, beside what the client says of it.
#[derive(Clone, Copy, Debug)]
pub struct PusherSetting {
    /// Other users of the same app on the same phone keep theirs.
    pub append: bool,
    /// It is there and tells of nothing.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/3881>
    pub disabled: bool,
    /// Now, in milliseconds since the epoch.
    pub now_ms: u64,
}

/// How a pusher stands whose gateway did not take something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when, in milliseconds since the epoch.
    pub failing_since_ms: u64,
    /// When it is tried again, in milliseconds since the epoch.
    pub retry_at_ms: u64,
    /// How often it has failed without a success in between.
    pub failures: u32,
    /// What happened last.
    pub last_error: String,
}

/// What is kept of a pusher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PusherRow {
    /// The device that made it.
    pub device_id: OwnedDeviceId,
    /// What the client said, in the form of `GET /pushers`.
    pub pusher: String,
    /// Whether it is switched off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// When the client last said so, in milliseconds since the epoch.
    pub set_ms: u64,
    /// Up to where the log has been told of.
    pub cursor: Position,
    /// The count that the gateway was last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge: Option<u64>,
    /// When the gateway last took something, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_ms: Option<u64>,
    /// When it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// For one that writes letters: how that stands.
    #[serde(default, skip_serializing_if = "Writing::is_idle")]
    pub writing: Writing,
}

/// How a pusher stands that writes letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Writing {
    /// When the next letter is written, unless everything is read by then; in milliseconds since the epoch.
    pub due_ms: Option<u64>,
    /// How many have been written since the user last had read everything.
    pub unanswered: u32,
}

impl Writing {
    fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

impl PusherRow {
    /// What the client said.
    ///
    /// # Errors
    /// When the row is broken.
    pub fn pusher(&self) -> Result<Pusher, StoreError> {
        serde_json::from_str(&self.pusher).map_err(|error| StoreError::Corrupt(format!("a pusher: {error}")))
    }

    /// Before when nothing is to be done for it, in milliseconds since the epoch.
    #[must_use]
    pub fn waits_until_ms(&self) -> Option<u64> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at_ms).max(self.writing.due_ms)
    }

    /// Whether it writes letters: a pusher of the kind `email`.
    ///
    /// # Errors
    /// When the row is broken.
    pub fn writes_letters(&self) -> Result<bool, StoreError> {
        Ok(matches!(self.pusher()?.kind, PusherKind::Email(_)))
    }

    /// The host of its gateway in lower case; empty where there is none.
    #[must_use]
    pub fn gateway_host(&self) -> String {
        let gateway = self.gateway().ok().flatten();
        let uri: Option<Uri> = gateway.and_then(|gateway| gateway.url.parse().ok());
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        host.trim_end_matches('.').to_ascii_lowercase()
    }

    /// Where the gateway is, and what it wants to be told, for a pusher of the kind `http`.
    ///
    /// # Errors
    /// When the row is broken.
    pub fn gateway(&self) -> Result<Option<HttpPusherData>, StoreError> {
        Ok(match self.pusher()?.kind {
            PusherKind::Http(data) => Some(data),
            _ => None,
        })
    }
}

impl Push {
    /// The pushers of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pushers(&self, user: &UserId) -> Result<Vec<(PusherId, PusherRow)>, StoreError> {
        let rows = self.0.log.db().range(&PUSHERS, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        let named = |((user_id, app_id, pushkey), row)| (PusherId { user_id, app_id, pushkey }, row);
        Ok(rows.into_iter().map(named).collect())
    }

    /// The users who have pushers, in order, the first after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users_with_pushers(
        &self,
        after: Option<&OwnedUserId>,
    ) -> Result<Vec<OwnedUserId>, StoreError> {
        let all = PUSHERS.prefix(&());
        let from = match after {
            Some(user) => PUSHERS.prefix(&(user.clone(),)).after_prefix(),
            None => all.clone(),
        };
        let scan = Scan { from, to: all.after_prefix(), reverse: false, limit: SCAN_ROWS_MAX };
        let rows = self.0.log.db().scan(&PUSHERS, scan).await?;
        let mut users: Vec<OwnedUserId> = rows.into_iter().map(|((user, ..), _)| user).collect();
        users.dedup();
        Ok(users)
    }

    /// One pusher, if it is still there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pusher(&self, id: &PusherId) -> Result<Option<PusherRow>, StoreError> {
        self.0.log.db().row(&PUSHERS, &id.key()).await
    }

    /// Makes or replaces a pusher of the caller's device. Unless it is to be one of several (`append`), the
    /// same app on the same phone is not told of other users any more.
    ///
    /// # Errors
    /// When it is not one that could work, or there are too many.
    pub async fn set_pusher(
        &self,
        caller: &Caller,
        pusher: &Pusher,
        setting: PusherSetting,
    ) -> Result<(), PushError> {
        let PusherSetting { append, disabled, now_ms } = setting;
        let text = check(pusher)?;
        if matches!(pusher.kind, PusherKind::Email(_)) {
            self.check_address(&caller.user_id, &pusher.ids.pushkey).await?;
        }
        let owner = (caller.user_id.clone(), caller.device_id.clone());
        let PusherIds { pushkey, app_id, .. } = pusher.ids.clone();
        let id = PusherId { user_id: caller.user_id.clone(), app_id, pushkey };
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let db = self.0.log.db();
            let device = db.row(&DEVICES, &owner).await?.ok_or(PushError::Contended)?;
            let before = self.pusher(&id).await?;
            if before.is_none() && self.pushers(&caller.user_id).await?.len() >= PUSHERS_PER_USER_MAX {
                return Err(PushError::Invalid("There are too many pushers"));
            }
            let mut commit = Commit::new();
            // A device that is removed at this moment leaves no pusher behind.
            commit.expect_equals(&DEVICES, &owner, &device);
            let cursor = match &before {
                Some(before) => {
                    commit.expect_equals(&PUSHERS, &id.key(), before);
                    // What came while it was switched off is not told of.
                    if before.disabled { self.0.log.head() } else { before.cursor }
                }
                None => {
                    commit.expect_absent(&PUSHERS, &id.key());
                    self.0.log.head()
                }
            };
            let row = PusherRow {
                device_id: caller.device_id.clone(),
                pusher: text.clone(),
                disabled,
                set_ms: now_ms,
                cursor,
                badge: before.as_ref().and_then(|before| before.badge),
                told_ms: before.as_ref().and_then(|before| before.told_ms),
                writing: before.map(|before| before.writing).unwrap_or_default(),
                trouble: None,
            };
            commit.put(&PUSHERS, &id.key(), &row);
            commit.put(&PUSHER_KEYS, &id.reverse_key(), &());
            if !append {
                self.drop_others(&mut commit, &id).await?;
            }
            match self.0.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => {
                    other?;
                    return Ok(self.0.log.follow(&id.user_id).await?);
                }
            }
        }
        Err(PushError::Contended)
    }

    /// Whether letters to `address` reach `user`: they have proved it, written just so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_address_of(&self, user: &UserId, address: &str) -> Result<bool, PushError> {
        // Another spelling may be another mailbox.
        Ok(self.0.accounts.addresses(user).await?.iter().any(|(own, _)| own == address))
    }

    async fn check_address(&self, user: &UserId, address: &str) -> Result<(), PushError> {
        match self.is_address_of(user, address).await? {
            true => Ok(()),
            false => Err(PushError::Invalid("The address is not one of the account")),
        }
    }

    /// Removes a pusher; nothing happens if it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_pusher(&self, id: &PusherId) -> Result<(), PushError> {
        let mut commit = Commit::new();
        commit.delete(&PUSHERS, &id.key());
        commit.delete(&PUSHER_KEYS, &id.reverse_key());
        self.0.log.commit(commit).await?;
        Ok(())
    }

    /// Writes how far a pusher has got, unless it has changed or gone meanwhile; whether it was written.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn advance_pusher(
        &self,
        id: &PusherId,
        before: &PusherRow,
        after: &PusherRow,
    ) -> Result<bool, PushError> {
        let mut commit = Commit::new();
        commit.expect_equals(&PUSHERS, &id.key(), before);
        commit.put(&PUSHERS, &id.key(), after);
        match self.0.log.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn drop_others(&self, commit: &mut Commit, id: &PusherId) -> Result<(), StoreError> {
        let same = (id.app_id.clone(), id.pushkey.clone());
        let rows = self.0.log.db().range(&PUSHER_KEYS, &same, SCAN_ROWS_MAX).await?;
        for ((app_id, pushkey, user_id), ()) in rows {
            let other = PusherId { user_id, app_id, pushkey };
            if other.user_id != id.user_id {
                commit.delete(&PUSHERS, &other.key());
                commit.delete(&PUSHER_KEYS, &other.reverse_key());
            }
        }
        Ok(())
    }
}

/// What is stored of a pusher that could work.
fn check(pusher: &Pusher) -> Result<String, PushError> {
    let PusherIds { pushkey, app_id, .. } = &pusher.ids;
    if pushkey.is_empty() || pushkey.len() > PUSHKEY_BYTES_MAX {
        return Err(PushError::Invalid("The pushkey is empty or longer than 512 bytes"));
    }
    if app_id.is_empty() || app_id.len() > PUSHER_APP_ID_BYTES_MAX {
        return Err(PushError::Invalid("The app_id is empty or longer than 64 bytes"));
    }
    match &pusher.kind {
        // It would take the place of somebody's who has letters sent to this address.
        PusherKind::Http(_) if app_id == MAIL_APP => {
            return Err(PushError::Invalid("The app_id m.email is for letters"));
        }
        PusherKind::Http(data) => check_gateway(data)?,
        PusherKind::Email(_) if app_id == MAIL_APP => {}
        PusherKind::Email(_) => return Err(PushError::Invalid("The app_id of letters is m.email")),
        _ => return Err(PushError::Invalid("This kind of pusher is not supported")),
    }
    let text = serde_json::to_string(pusher).map_err(StoreError::engine)?;
    match text.len() > PUSHER_BYTES_MAX {
        true => Err(PushError::Invalid("The pusher is too large")),
        false => Ok(text),
    }
}

fn check_gateway(data: &HttpPusherData) -> Result<(), PushError> {
    let uri: Uri = data.url.parse().map_err(|_| PushError::Invalid("The URL of the gateway is none"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(PushError::Invalid("The URL of the gateway must be an HTTPS URL"));
    }
    if uri.path() != GATEWAY_PATH {
        return Err(PushError::Invalid("The path of the gateway must be /_matrix/push/v1/notify"));
    }
    Ok(())
}
