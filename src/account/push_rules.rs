//! Push rules as stored: account data of the type `m.push_rules`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use ruma::{UserId, push::Ruleset};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{AccountError, Accounts};
use crate::store::StoreError;

const PUSH_RULES: &str = "m.push_rules";

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
        Ok(rules_of(user, self.data(user, None, PUSH_RULES).await?.as_deref()))
    }

    /// Has `change` change the push rules of a user, and tells all their devices; once more if another
    /// request was faster.
    ///
    /// # Errors
    /// What `change` refuses, or when the rules are too large.
    pub async fn change_push_rules<E: From<AccountError>>(
        &self,
        user: &UserId,
        mut change: impl FnMut(&mut Ruleset) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change_data(user, (None, PUSH_RULES), |content| {
            let mut global = rules_of(user, content);
            change(&mut global)?;
            let content = to_raw_value(&PushRules { global });
            content.map(Some).map_err(|error| AccountError::Store(StoreError::engine(error)).into())
        })
        .await
    }
}

fn rules_of(user: &UserId, content: Option<&RawValue>) -> Ruleset {
    let defaults = Ruleset::server_default(user);
    match content.and_then(|content| serde_json::from_str::<PushRules>(content.get()).ok()) {
        Some(PushRules { mut global }) => {
            global.update_with_server_default(defaults);
            global
        }
        None => defaults,
    }
}
