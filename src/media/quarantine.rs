//! Files that nobody is to get: for administrators.

use ruma::ServerName;

use super::{
    Hash, Media, MediaError,
    keep::Address,
    rows::{CONTENTS, Item, MEDIA},
};
use crate::{
    limits::{MEDIA_ATTEMPTS_MAX, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
    store::Scan,
};

impl Media {
    /// Gives the file at an address to nobody any more, or to those who may see it again. All files of the same bytes
    /// share its fate, and the bytes keep it: whoever uploads them again shows nothing. A file of another server that
    /// is not here will not be fetched.
    ///
    /// # Errors
    /// When there is no such file of this server, or the store fails.
    pub async fn quarantine(&self, server: &ServerName, id: &str, is_out: bool) -> Result<(), MediaError> {
        let address = (server.to_owned(), String::from(id));
        if !super::find::is_media_id(id) {
            return Err(MediaError::NotFound);
        }
        self.set_quarantine(&address, is_out).await?;
        for address in self.thumbnails_from_there(&address).await? {
            self.set_quarantine(&address, is_out).await?;
        }
        Ok(())
    }

    async fn set_quarantine(&self, address: &Address, is_out: bool) -> Result<(), MediaError> {
        for _ in 0..MEDIA_ATTEMPTS_MAX {
            let before = self.item(address).await?;
            if before.is_none() && (self.is_ours(&address.0) || !is_out) {
                return Err(MediaError::NotFound);
            }
            let now_ms = self.ports.clock.now_ms();
            let unknown = Item::cached(None, now_ms);
            let mut commit = Commit::new();
            let item = Item { quarantined: is_out, ..before.clone().unwrap_or(unknown) };
            match &before {
                Some(before) => commit.expect_equals(&MEDIA, address, before),
                None => commit.expect_absent(&MEDIA, address),
            }
            match item.stored.is_none() && item.owner.is_none() && !is_out {
                // It was only there to say that it is not to be fetched.
                true => commit.delete(&MEDIA, address),
                false => commit.put(&MEDIA, address, &item),
            }
            if let Some(stored) = &item.stored {
                let key = (stored.hash.0,);
                if let Some(known) = self.log.db().row(&CONTENTS, &key).await? {
                    let mut content = known.clone();
                    if is_out && !known.quarantined {
                        self.note_head(&mut commit, stored.hash, &mut content).await;
                    }
                    content.quarantined = is_out;
                    commit.expect_equals(&CONTENTS, &key, &known);
                    commit.put(&CONTENTS, &key, &content);
                }
            }
            match self.log.commit(commit).await {
                Ok(_) => {
                    if is_out {
                        self.arrivals.cut(address);
                    }
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MediaError::TooMany(std::time::Duration::from_secs(1)))
    }

    /// Whether what has just been kept at `address`, bytes with `hash`, may be seen. Somebody may have decided otherwise
    /// while it came: then nobody reads it to its end.
    pub(super) async fn may_be_seen(&self, address: &Address, hash: Hash) -> Result<bool, MediaError> {
        let Some(item) = self.item(address).await?.filter(|item| !item.quarantined) else { return Ok(false) };
        let hashes = [(hash.0,), (item.stored.map_or(hash, |stored| stored.hash).0,)];
        let contents = self.log.db().rows(&CONTENTS, &hashes).await?;
        Ok(contents.iter().flatten().all(|content| !content.quarantined))
    }

    /// Thumbnails of a file that the other server has made.
    pub(super) async fn thumbnails_from_there(
        &self,
        (server, id): &Address,
    ) -> Result<Vec<Address>, MediaError> {
        // They are kept as `id?shape`; `@` is what comes after `?`.
        let from = MEDIA.key(&(server.clone(), format!("{id}?")));
        let to = MEDIA.key(&(server.clone(), format!("{id}@")));
        let (mut from, mut found) = (from, Vec::new());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&MEDIA, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(found) };
            from = MEDIA.key(last).successor();
            found.extend(rows.into_iter().map(|(address, _)| address));
        }
    }
}
