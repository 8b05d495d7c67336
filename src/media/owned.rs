//! What users have uploaded, and how it goes.

use ruma::{ServerName, UserId};

use super::{
    Media, MediaError,
    rows::{OWNED, RESERVED, USAGE},
};
use crate::log::Commit;

/// Files that are looked at in one go.
const CHUNK: usize = 200;

impl Media {
    /// How many bytes and how many files `user` has uploaded that are still here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn usage(&self, user: &UserId) -> Result<(u64, u64), MediaError> {
        let usage = self.log.db().row(&USAGE, &(user.to_owned(),)).await?.unwrap_or_default();
        Ok((usage.bytes, usage.files))
    }

    /// Deletes the file at an address, with its bytes if no other file consists of them. Whether there was one.
    ///
    /// # Errors
    /// When the storage or the store fails.
    pub async fn delete(&self, server: &ServerName, id: &str) -> Result<bool, MediaError> {
        let ended = self.end(&(server.to_owned(), String::from(id))).await?;
        self.empty_bin().await?;
        Ok(ended)
    }

    /// Deletes everything that `user` has uploaded; how many files that were.
    ///
    /// # Errors
    /// When the storage or the store fails; what is left can be deleted by another call.
    pub async fn delete_of(&self, user: &UserId) -> Result<usize, MediaError> {
        let (db, prefix) = (self.log.db(), (user.to_owned(),));
        let mut count = 0;
        loop {
            let files = db.range(&OWNED, &prefix, CHUNK).await?;
            if files.is_empty() {
                break;
            }
            for (key, _) in files {
                match self.end(&(self.server_name.clone(), key.2.clone())).await? {
                    true => count += 1,
                    // Nothing stands behind this row.
                    false => {
                        let mut commit = Commit::new();
                        commit.delete(&OWNED, &key);
                        self.log.commit(commit).await?;
                    }
                }
            }
        }
        for ((_, id), _) in db.range(&RESERVED, &prefix, CHUNK).await? {
            self.end(&(self.server_name.clone(), id)).await?;
        }
        self.empty_bin().await?;
        Ok(count)
    }
}
