//! Filters that clients keep here.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{OwnedUserId, UserId, api::client::filter::FilterDefinition};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{AccountError, Accounts};
use crate::{
    limits::{FILTER_BYTES_MAX, FILTERS_MAX, FILTERS_TOTAL_BYTES_MAX},
    log::Commit,
    store::table::{Rows, TableId},
};

/// By user and id.
pub(super) const FILTERS: Rows<(OwnedUserId, String), Box<RawValue>> = Rows::new(TableId::Filter);

impl Accounts {
    /// Keeps a filter; the same filter gets the same id.
    ///
    /// # Errors
    /// When it is not a filter, or it or all that the user keeps is too large.
    pub async fn store_filter(&self, user: &UserId, filter: &RawValue) -> Result<String, AccountError> {
        if filter.get().len() > FILTER_BYTES_MAX {
            return Err(AccountError::TooLarge("The filter is too large"));
        }
        serde_json::from_str::<FilterDefinition>(filter.get())
            .map_err(|error| AccountError::BadJson(format!("Not a filter: {error}")))?;
        let digest = Sha256::digest(filter.get().as_bytes());
        let id: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = (user.to_owned(), id.clone());
        if self.log.db().row(&FILTERS, &key).await?.is_none() {
            let kept = self.measure(&FILTERS.prefix(&(user.to_owned(),))).await?;
            if kept.rows >= FILTERS_MAX || kept.bytes + filter.get().len() > FILTERS_TOTAL_BYTES_MAX {
                return Err(AccountError::TooLarge("There are too many filters"));
            }
            let mut commit = Commit::new();
            commit.put(&FILTERS, &key, &filter.to_owned());
            self.log.commit(commit).await?;
        }
        Ok(id)
    }

    /// A filter that was kept.
    ///
    /// # Errors
    /// When there is no such filter.
    pub async fn filter(&self, user: &UserId, id: &str) -> Result<Box<RawValue>, AccountError> {
        let key = (user.to_owned(), id.to_owned());
        self.log.db().row(&FILTERS, &key).await?.ok_or(AccountError::NotFound("filter"))
    }
}
