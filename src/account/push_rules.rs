//! Push rules as stored: account data of the type `m.push_rules`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use ruma::{UserId, push::Ruleset};
use serde::{Deserialize, Serialize};

use super::{AccountError, Accounts, DataChange};
use crate::{log::Commit, store::StoreError};

/// The content of `m.push_rules`.
#[derive(Serialize, Deserialize)]
struct PushRules {
    global: Ruleset,
}

impl Accounts {
    /// The push rules of a user: the server's defaults with what the user changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn push_rules(&self, user: &UserId) -> Result<Ruleset, AccountError> {
        let stored: Option<PushRules> = self.read_data(user, "m.push_rules").await?;
        let defaults = Ruleset::server_default(user);
        Ok(match stored {
            Some(PushRules { mut global }) => {
                global.update_with_server_default(defaults);
                global
            }
            None => defaults,
        })
    }

    /// Keeps the push rules of a user and tells all their devices.
    ///
    /// # Errors
    /// When the rules are too large.
    pub async fn set_push_rules(&self, user: &UserId, global: Ruleset) -> Result<(), AccountError> {
        let content = serde_json::value::to_raw_value(&PushRules { global }).map_err(StoreError::engine)?;
        let mut commit = Commit::new();
        let change = DataChange { room_id: None, event_type: "m.push_rules".to_owned(), content };
        self.put_data(&mut commit, user, change)?;
        Ok(self.log.commit(commit).await.map(|_| ())?)
    }
}
