//! Keeping files within their bounds: what nobody has looked at for long, what there is no room for, what expired.

use ruma::OwnedUserId;

use super::{
    Media, MediaError,
    keep::Address,
    rows::{Kind, PREVIEWS, Preview, RESERVED, SEEN},
};
use crate::{
    limits::{PREVIEWS_BYTES_MAX, PREVIEWS_PART, SCAN_ROWS_MAX},
    log::Commit,
    store::Scan,
};

/// Files that are looked at in one go.
const CHUNK: usize = 200;

/// How many bytes are here that can be had again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cached {
    /// Of files, with what was drawn of them.
    files: u64,
    /// Of what pages say about themselves.
    previews: u64,
}

impl Media {
    /// Removes what its time is over for. To be called now and then.
    ///
    /// # Errors
    /// When the storage or the store fails; the next call goes on.
    pub async fn tend(&self) -> Result<(), MediaError> {
        let now_ms = self.ports.clock.now_ms();
        for (kind, keep) in
            [(Kind::Local, self.settings.local_keep_ms), (Kind::Cached, self.settings.remote_keep_ms)]
        {
            if let Some(keep_ms) = keep {
                self.end_unseen(kind, now_ms.saturating_sub(keep_ms)).await?;
            }
        }
        self.end_reserved(now_ms).await?;
        self.end_previews(now_ms).await?;
        // What others have removed meanwhile is found out by counting again.
        *self.cached.lock().await = None;
        self.make_room(0).await?;
        self.empty_bin().await
    }

    /// Ends every file that nobody has looked at since `before_ms`; how many they were.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn end_unseen(&self, kind: Kind, before_ms: u64) -> Result<usize, MediaError> {
        let mut count = 0;
        loop {
            let oldest = self.oldest(kind, before_ms).await?;
            if oldest.is_empty() {
                // What is said by then is tried again later.
                drop(self.empty_bin().await);
                return Ok(count);
            }
            for (address, _) in oldest {
                count += usize::from(self.end(&address).await?);
            }
        }
    }

    /// A few of the files that were looked at least lately, and before `before_ms`, with their sizes.
    async fn oldest(&self, kind: Kind, before_ms: u64) -> Result<Vec<(Address, u64)>, MediaError> {
        let from = SEEN.prefix(&(kind.class(),));
        let to = SEEN.prefix(&(kind.class(), before_ms));
        let rows = self.log.db().scan(&SEEN, Scan { from, to, reverse: false, limit: CHUNK }).await?;
        let mut found = Vec::new();
        for ((class, seen_ms, server, id), size) in rows {
            let address = (server, id);
            let item = self.item(&address).await?;
            if item.is_some_and(|item| item.seen_ms == seen_ms && item.kind == kind) {
                found.push((address, size));
                continue;
            }
            // Nothing stands behind this row.
            let mut commit = Commit::new();
            commit.delete(&SEEN, &(class, seen_ms, address.0, address.1));
            self.log.commit(commit).await?;
        }
        Ok(found)
    }

    async fn end_reserved(&self, now_ms: u64) -> Result<(), MediaError> {
        let mut from = RESERVED.prefix(&());
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows: Vec<((OwnedUserId, String), u64)> = self.log.db().scan(&RESERVED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = RESERVED.key(last).successor();
            for ((_, id), expires_ms) in rows {
                if expires_ms <= now_ms {
                    self.end(&(self.server_name.clone(), id)).await?;
                }
            }
        }
    }

    async fn end_previews(&self, now_ms: u64) -> Result<(), MediaError> {
        let mut from = PREVIEWS.prefix(&());
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: CHUNK };
            let rows = self.log.db().scan(&PREVIEWS, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = PREVIEWS.key(last).successor();
            let mut commit = Commit::new();
            for (key, _) in rows.iter().filter(|(_, preview)| preview.expires_ms <= now_ms) {
                commit.delete(&PREVIEWS, key);
            }
            if !commit.is_empty() {
                self.log.commit(commit).await?;
            }
        }
    }

    /// Removes files of other servers, beginning with what was looked at least lately, until there is room for `size`
    /// more bytes.
    pub(super) async fn make_room(&self, size: u64) -> Result<(), MediaError> {
        let mut cached = self.cached.lock().await;
        let mut now = self.cached_now(*cached).await?;
        self.end_oldest(&mut now.files, now.previews.saturating_add(size)).await?;
        now.files = now.files.saturating_add(size);
        *cached = Some(now);
        Ok(())
    }

    /// The same for `size` more bytes of what a page says. When such have more than their part, half of them go, the oldest
    /// first: there is no order to find these by.
    pub(super) async fn make_room_for_preview(&self, size: u64) -> Result<(), MediaError> {
        let mut cached = self.cached.lock().await;
        let mut now = self.cached_now(*cached).await?;
        let part = (self.settings.cache_bytes_max / PREVIEWS_PART).min(PREVIEWS_BYTES_MAX);
        if now.previews.saturating_add(size) > part {
            now.previews = self.thin_previews(part / 2).await?;
        }
        now.previews = now.previews.saturating_add(size);
        self.end_oldest(&mut now.files, now.previews).await?;
        *cached = Some(now);
        Ok(())
    }

    async fn cached_now(&self, known: Option<Cached>) -> Result<Cached, MediaError> {
        match known {
            Some(known) => Ok(known),
            None => {
                let previews = self.preview_rows().await?;
                let previews = previews.iter().fold(0, |all: u64, (_, size, _)| all.saturating_add(*size));
                Ok(Cached { files: self.count_files().await?, previews })
            }
        }
    }

    /// Removes files of other servers until `files`, which is what they have together, and `beside` fit.
    async fn end_oldest(&self, files: &mut u64, beside: u64) -> Result<(), MediaError> {
        let max = self.settings.cache_bytes_max;
        while *files > 0 && files.saturating_add(beside) > max {
            let oldest = self.oldest(Kind::Cached, u64::MAX).await?;
            if oldest.is_empty() {
                *files = 0;
            }
            for (address, freed) in oldest {
                if files.saturating_add(beside) <= max {
                    break;
                }
                self.end(&address).await?;
                *files = files.saturating_sub(freed);
            }
            // What is said by then keeps nobody from a file of another server.
            drop(self.empty_bin().await);
        }
        Ok(())
    }

    /// Removes the oldest previews until those left have `max` bytes at most; how many they have.
    async fn thin_previews(&self, max: u64) -> Result<u64, MediaError> {
        let mut rows = self.preview_rows().await?;
        rows.sort_unstable_by(|one, other| other.cmp(one));
        let mut left = 0_u64;
        let mut gone = Vec::new();
        for (_, size, url) in rows {
            match left.saturating_add(size) <= max {
                true => left += size,
                false => gone.push(url),
            }
        }
        for urls in gone.chunks(CHUNK) {
            let mut commit = Commit::new();
            for url in urls {
                commit.delete(&PREVIEWS, &(url.clone(),));
            }
            self.log.commit(commit).await?;
        }
        Ok(left)
    }

    /// When each preview was made, how many bytes it has, and of what.
    pub(super) async fn preview_rows(&self) -> Result<Vec<(u64, u64, String)>, MediaError> {
        let mut from = PREVIEWS.prefix(&());
        let to = from.after_prefix();
        let mut found = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: CHUNK };
            let rows = self.log.db().scan(&PREVIEWS, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(found) };
            from = PREVIEWS.key(last).successor();
            let sized = |((url,), row): ((String,), Preview)| (row.fetched_ms, row.bytes(&url), url);
            found.extend(rows.into_iter().map(sized));
        }
    }

    async fn count_files(&self) -> Result<u64, MediaError> {
        let mut from = SEEN.prefix(&(Kind::Cached.class(),));
        let to = from.after_prefix();
        let mut total = 0_u64;
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&SEEN, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(total) };
            from = SEEN.key(last).successor();
            total = rows.iter().fold(total, |total, (_, size)| total.saturating_add(*size));
        }
    }
}
