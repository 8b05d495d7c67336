//! The one commit that makes bytes a file, and the one that ends it.

use ruma::OwnedServerName;

use super::{
    Media, MediaError,
    blobs::{Blobs, Sort},
    rows::{CONTENTS, Content, GARBAGE, Item, MEDIA, OWNED, RESERVED, SEEN, SUMS, Stored, THUMBNAILS, USAGE},
    staged::Staged,
};
use crate::{
    limits::{MEDIA_ATTEMPTS_MAX, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
};

/// Where a file is: server and media id.
pub(super) type Address = (OwnedServerName, String);

impl Media {
    /// Makes `staged` the file of `item` at `address`, which must be as `before` now. Durable when it returns.
    pub(super) async fn keep(
        &self,
        mut staged: Staged,
        address: &Address,
        (before, item): (Option<Item>, Item),
    ) -> Result<(), MediaError> {
        let mut placed: Option<String> = None;
        let kept = self.try_keep(&mut staged, address, (&before, &item), &mut placed).await;
        // Somebody else was quicker with the same bytes, or there is no file now.
        if let Some(name) = placed {
            self.blobs.remove(&name).await?;
        }
        kept
    }

    async fn try_keep(
        &self,
        staged: &mut Staged,
        address: &Address,
        (before, item): (&Option<Item>, &Item),
        placed: &mut Option<String>,
    ) -> Result<(), MediaError> {
        let key = (staged.hash.0,);
        for _ in 0..MEDIA_ATTEMPTS_MAX {
            let known = self.log.db().row(&CONTENTS, &key).await?;
            let mut content = known.clone().unwrap_or_default();
            let fresh = content.name.is_none();
            if fresh {
                let name = match placed.take() {
                    Some(name) => name,
                    None => {
                        let name = Blobs::new_name(Sort::Whole, staged.hash, self.ports.rng.as_ref());
                        // Even half of it would have to go.
                        *placed = Some(name.clone());
                        self.blobs.put(staged, &name).await?;
                        name
                    }
                };
                *placed = Some(name.clone());
                content.name = Some(name);
            }
            content.size = staged.size;
            content.uses += 1;
            let mut commit = Commit::new();
            self.learn_head(&mut commit, &mut content, &staged.head);
            if let Some(name) = content.name.as_ref().filter(|_| fresh) {
                commit.put(&SUMS, &(name.clone(),), &staged.sums);
            }
            match &known {
                Some(known) => commit.expect_equals(&CONTENTS, &key, known),
                None => commit.expect_absent(&CONTENTS, &key),
            }
            commit.put(&CONTENTS, &key, &content);
            self.put_item(&mut commit, address, (before.as_ref(), item)).await?;
            match self.log.commit(commit).await {
                Ok(_) if fresh => {
                    placed.take();
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) if self.item(address).await? == *before => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MediaError::TooMany(std::time::Duration::from_secs(1)))
    }

    /// The row of an address.
    pub(super) async fn item(&self, address: &Address) -> Result<Option<Item>, MediaError> {
        Ok(self.log.db().row(&MEDIA, address).await?)
    }

    /// Sets the row of an address, and what follows from it in the indexes.
    pub(super) async fn put_item(
        &self,
        commit: &mut Commit,
        address: &Address,
        (before, item): (Option<&Item>, &Item),
    ) -> Result<(), MediaError> {
        match before {
            Some(before) => commit.expect_equals(&MEDIA, address, before),
            None => commit.expect_absent(&MEDIA, address),
        }
        commit.put(&MEDIA, address, item);
        let (server, id) = address;
        if let Some(before) = before.filter(|before| before.stored.is_some()) {
            commit.delete(&SEEN, &(before.kind.class(), before.seen_ms, server.clone(), id.clone()));
        }
        let Some(stored) = &item.stored else { return Ok(()) };
        let seen = (item.kind.class(), item.seen_ms, server.clone(), id.clone());
        commit.put(&SEEN, &seen, &stored.size.saturating_add(item.drawn));
        let is_new = before.is_none_or(|before| before.stored.is_none());
        if let Some(owner) = item.owner.as_ref().filter(|_| is_new) {
            commit.delete(&RESERVED, &(owner.clone(), id.clone()));
            commit.put(&OWNED, &(owner.clone(), stored.uploaded_ms, id.clone()), &stored.size);
            let key = (owner.clone(),);
            let usage = self.log.db().row(&USAGE, &key).await?;
            let mut grown = usage.unwrap_or_default();
            grown.bytes += stored.size;
            grown.files += 1;
            if self.settings.quota_bytes.is_some_and(|quota| grown.bytes > quota) {
                return Err(MediaError::Forbidden("You have uploaded as much as you may"));
            }
            match &usage {
                Some(usage) => commit.expect_equals(&USAGE, &key, usage),
                None => commit.expect_absent(&USAGE, &key),
            }
            commit.put(&USAGE, &key, &grown);
        }
        Ok(())
    }

    /// Ends the file at `address`, and its bytes if no other file consists of them. Whether there was one. That nobody is
    /// to get a file of another server is remembered: it could be fetched again.
    pub(super) async fn end(&self, address: &Address) -> Result<bool, MediaError> {
        for _ in 0..MEDIA_ATTEMPTS_MAX {
            let Some(item) = self.item(address).await? else { return Ok(false) };
            let stays_out = item.quarantined && !self.is_ours(&address.0);
            if stays_out && item.stored.is_none() {
                return Ok(false);
            }
            let mut commit = Commit::new();
            commit.expect_equals(&MEDIA, address, &item);
            match stays_out {
                true => commit.put(&MEDIA, address, &Item { stored: None, drawn: 0, ..item.clone() }),
                false => commit.delete(&MEDIA, address),
            }
            if let Some(owner) = &item.owner {
                commit.delete(&RESERVED, &(owner.clone(), address.1.clone()));
            }
            if let Some(stored) = &item.stored {
                self.take_back(&mut commit, address, (&item, stored)).await?;
                self.release(&mut commit, stored).await?;
            }
            match self.log.commit(commit).await {
                Ok(_) => return Ok(true),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MediaError::TooMany(std::time::Duration::from_secs(1)))
    }

    /// Takes a file out of the indexes.
    async fn take_back(
        &self,
        commit: &mut Commit,
        (server, id): &Address,
        (item, stored): (&Item, &Stored),
    ) -> Result<(), MediaError> {
        commit.delete(&SEEN, &(item.kind.class(), item.seen_ms, server.clone(), id.clone()));
        let Some(owner) = &item.owner else { return Ok(()) };
        commit.delete(&OWNED, &(owner.clone(), stored.uploaded_ms, id.clone()));
        let key = (owner.clone(),);
        if let Some(usage) = self.log.db().row(&USAGE, &key).await? {
            let mut less = usage;
            less.bytes = less.bytes.saturating_sub(stored.size);
            less.files = less.files.saturating_sub(1);
            commit.expect_equals(&USAGE, &key, &usage);
            commit.put(&USAGE, &key, &less);
        }
        Ok(())
    }

    /// One file less consists of these bytes.
    async fn release(&self, commit: &mut Commit, stored: &Stored) -> Result<(), MediaError> {
        let key = (stored.hash.0,);
        let db = self.log.db();
        let Some(known) = db.row(&CONTENTS, &key).await? else { return Ok(()) };
        let mut content = Content { uses: known.uses.saturating_sub(1), ..known.clone() };
        commit.expect_equals(&CONTENTS, &key, &known);
        if content.uses > 0 {
            commit.put(&CONTENTS, &key, &content);
            return Ok(());
        }
        let now_ms = self.ports.clock.now_ms();
        let thumbnails = db.range(&THUMBNAILS, &key, SCAN_ROWS_MAX).await?;
        let names = thumbnails.into_iter().filter_map(|(_, thumbnail)| thumbnail.name);
        for name in names.chain(content.name.take()) {
            commit.put(&GARBAGE, &(name,), &now_ms);
        }
        commit.delete_prefix(&THUMBNAILS, &key);
        match content.quarantined {
            true => commit.put(&CONTENTS, &key, &content),
            false => commit.delete(&CONTENTS, &key),
        }
        Ok(())
    }
}
