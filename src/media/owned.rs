//! What users have uploaded, and how it goes.

use ruma::{OwnedUserId, ServerName, UserId};

use super::{
    Media, MediaError,
    rows::{CONTENTS, Kind, MEDIA, OWNED, RESERVED, USAGE},
};
use crate::{
    limits::{SCAN_ROWS_MAX, SERVER_FILES_FORGOTTEN_MAX},
    log::Commit,
    store::Scan,
};

/// Files that are looked at in one go.
const CHUNK: usize = 200;

/// One file that a user has uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its media id.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is, as the user says.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub uploaded_ms: u64,
    /// When it was last looked at, roughly.
    pub seen_ms: u64,
    /// Whether nobody gets it.
    pub is_quarantined: bool,
}

impl Media {
    /// What `user` has uploaded from `from_ms` on, oldest first, at most `limit` files.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn uploads_of(
        &self,
        user: &UserId,
        from_ms: u64,
        limit: usize,
    ) -> Result<Vec<Upload>, MediaError> {
        let from = OWNED.prefix(&(user.to_owned(), from_ms));
        let to = OWNED.prefix(&(user.to_owned(),)).after_prefix();
        let scan = Scan { from, to, reverse: false, limit: limit.min(SCAN_ROWS_MAX) };
        let mut found = Vec::new();
        for ((_, _, id), _) in self.log.db().scan(&OWNED, scan).await? {
            let item = self.item(&(self.server_name.clone(), id.clone())).await?;
            let Some((seen_ms, is_quarantined, stored)) =
                item.and_then(|item| Some((item.seen_ms, item.quarantined, item.stored?)))
            else {
                continue;
            };
            found.push(Upload {
                id,
                size: stored.size,
                content_type: stored.content_type,
                filename: stored.filename,
                uploaded_ms: stored.uploaded_ms,
                seen_ms,
                is_quarantined,
            });
        }
        Ok(found)
    }

    /// Removes files of other servers that nobody has looked at since `before_ms`; how many they were.
    ///
    /// # Errors
    /// When the storage or the store fails.
    pub async fn purge_cache(&self, before_ms: u64) -> Result<usize, MediaError> {
        self.end_unseen(Kind::Cached, before_ms).await
    }

    /// Removes files of another server that are kept here, 5,000 at most: how many they were, and whether there may be
    /// others. What of it is quarantined stays so, and they can be had again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_server(&self, server: &ServerName) -> Result<(usize, bool), MediaError> {
        if self.is_ours(server) {
            return Ok((0, false));
        }
        let all = MEDIA.prefix(&(server.to_owned(),));
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut count = 0;
        let more = loop {
            let limit = CHUNK.min(SERVER_FILES_FORGOTTEN_MAX.saturating_sub(count));
            if limit == 0 {
                break true;
            }
            let rows =
                self.log.db().scan(&MEDIA, Scan { from, to: to.clone(), reverse: false, limit }).await?;
            let Some((last, _)) = rows.last() else { break false };
            from = MEDIA.key(last).successor();
            for (address, item) in rows {
                if item.kind == Kind::Cached && item.stored.is_some() {
                    count += usize::from(self.end(&address).await?);
                }
            }
        };
        // What is said by then is tried again later.
        drop(self.empty_bin().await);
        Ok((count, more))
    }

    /// How many bytes and how many files `user` has uploaded that are still here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn usage(&self, user: &UserId) -> Result<(u64, u64), MediaError> {
        let usage = self.log.db().row(&USAGE, &(user.to_owned(),)).await?.unwrap_or_default();
        Ok((usage.bytes, usage.files))
    }

    /// Who has uploaded a file of this server, and when its address was made, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owner(
        &self,
        server: &ServerName,
        id: &str,
    ) -> Result<Option<(OwnedUserId, u64)>, MediaError> {
        let item = self.item(&(server.to_owned(), String::from(id))).await?;
        Ok(item.and_then(|item| Some((item.owner?, item.created_ms))))
    }

    /// Whether nobody is to get the file at an address, or what consists of the same bytes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_quarantined(&self, server: &ServerName, id: &str) -> Result<bool, MediaError> {
        let Some(item) = self.item(&(server.to_owned(), String::from(id))).await? else { return Ok(false) };
        let Some(stored) = item.stored.filter(|_| !item.quarantined) else { return Ok(item.quarantined) };
        let content = self.log.db().row(&CONTENTS, &(stored.hash.0,)).await?;
        Ok(content.is_some_and(|content| content.quarantined))
    }

    /// Deletes the file at an address, with its bytes if no other file consists of them. Whether there was one.
    ///
    /// # Errors
    /// When the storage or the store fails.
    pub async fn delete(&self, server: &ServerName, id: &str) -> Result<bool, MediaError> {
        let ended = self.put_away(server, id).await?;
        self.empty_bin().await?;
        Ok(ended)
    }

    /// As [`Self::delete`], but the bytes go with the next [`Self::empty_bin`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_away(&self, server: &ServerName, id: &str) -> Result<bool, MediaError> {
        let address = (server.to_owned(), String::from(id));
        for thumbnail in self.thumbnails_from_there(&address).await? {
            self.end(&thumbnail).await?;
        }
        self.end(&address).await
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
