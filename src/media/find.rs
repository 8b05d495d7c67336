//! Giving files out.

use std::{ops::Range, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use ruma::ServerName;
use tokio::time::Instant;

use super::{
    Body, Hash, Media, MediaError,
    keep::Address,
    rows::{CONTENTS, Item, SUMS},
    sums::Sums,
};
use crate::{
    limits::{MEDIA_ID_BYTES_MAX, MEDIA_LOOK_AGAIN, MEDIA_SEEN_KEEP_MS, MEDIA_WAIT_MAX},
    log::Commit,
};

/// Who wants a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A user of this server.
    User,
    /// Another server: only what was uploaded here.
    Server,
    /// Anybody: only what came here before that was closed.
    Open,
}

/// A file that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The server of its address.
    pub server: &'a ServerName,
    /// The media id of its address.
    pub id: &'a str,
    /// Who asks.
    pub door: Door,
    /// How long to wait for a file that has not been uploaded yet.
    pub timeout: Duration,
    /// Whether other servers may be asked.
    pub allow_remote: bool,
}

/// A file that is here and may be seen.
#[derive(Clone, Debug)]
pub struct File {
    /// What it is, as whoever uploaded it says.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
    /// How many bytes it has.
    pub size: u64,
    /// What stands for its bytes.
    pub hash: Hash,
    pub(super) name: String,
}

impl File {
    /// What stands for exactly these bytes, for whoever has them already.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.name
    }
}

impl Media {
    /// The file that is wanted.
    ///
    /// # Errors
    /// When there is none, it may not be seen, or another server does not give it.
    pub async fn find(&self, wanted: Wanted<'_>) -> Result<File, MediaError> {
        if !is_media_id(wanted.id) {
            return Err(MediaError::NotFound);
        }
        let address = (wanted.server.to_owned(), String::from(wanted.id));
        match self.is_ours(wanted.server) {
            true => self.find_ours(&address, wanted).await,
            false => self.find_remote(&address, wanted).await,
        }
    }

    async fn find_ours(&self, address: &Address, wanted: Wanted<'_>) -> Result<File, MediaError> {
        let deadline = Instant::now() + wanted.timeout.min(MEDIA_WAIT_MAX);
        loop {
            let uploaded = self.uploaded.notified();
            let item = self.item(address).await?.ok_or(MediaError::NotFound)?;
            if item.stored.is_some() {
                return self.present(address, item, wanted.door).await;
            }
            let is_expired = item.expires_ms.is_none_or(|at| at <= self.ports.clock.now_ms());
            if is_expired || item.quarantined {
                return Err(MediaError::NotFound);
            }
            // Whoever comes without a token would not be given it when it is there, so they need not wait.
            if wanted.door == Door::Open || Instant::now() >= deadline {
                return Err(MediaError::NotYetUploaded);
            }
            // Another process of the same server may have taken it in: nobody tells us then.
            let again = deadline.min(Instant::now() + MEDIA_LOOK_AGAIN);
            drop(tokio::time::timeout_at(again, uploaded).await);
        }
    }

    /// The file of `item`, if it may leave by this door.
    pub(super) async fn present(
        &self,
        address: &Address,
        item: Item,
        door: Door,
    ) -> Result<File, MediaError> {
        let stored = item.stored.clone().filter(|_| !item.quarantined).ok_or(MediaError::NotFound)?;
        if door == Door::Open && stored.uploaded_ms >= self.settings.unauthenticated_before_ms {
            return Err(MediaError::NotFound);
        }
        let content = self.log.db().row(&CONTENTS, &(stored.hash.0,)).await?;
        let content = content.filter(|content| !content.quarantined).ok_or(MediaError::NotFound)?;
        let name = content.name.ok_or(MediaError::NotFound)?;
        self.note_seen(address, item).await?;
        Ok(File {
            content_type: stored.content_type,
            filename: stored.filename,
            size: stored.size,
            hash: stored.hash,
            name,
        })
    }

    /// Takes note that somebody looks at a file, now and then.
    async fn note_seen(&self, address: &Address, item: Item) -> Result<(), MediaError> {
        let now_ms = self.ports.clock.now_ms();
        if now_ms.saturating_sub(item.seen_ms) < MEDIA_SEEN_KEEP_MS {
            return Ok(());
        }
        let seen = Item { seen_ms: now_ms, ..item.clone() };
        let mut commit = Commit::new();
        self.put_item(&mut commit, address, (Some(&item), &seen)).await?;
        // If somebody else changes the row meanwhile, they do it.
        self.log.commit_later(commit);
        Ok(())
    }

    /// The bytes of `file`, or a part of them. The first piece has been checked when this returns; if a later one is
    /// not what was kept, the body ends with an error before it.
    ///
    /// # Errors
    /// When the storage fails, or the first piece is not what was kept.
    pub async fn read(&self, file: &File, range: Option<Range<u64>>) -> Result<Body, MediaError> {
        let part = range.unwrap_or(0..file.size);
        let sums = self.log.db().row(&SUMS, &(file.name.clone(),)).await?;
        let Some(sums) = sums else {
            tracing::error!(media.name = %file.name, "a file has no check sums");
            return Err(MediaError::Damaged);
        };
        let body = self.blobs.read(&file.name, Sums::span(file.size, &part)).await?;
        let name = file.name.clone();
        let mut body = sums.checked(body, file.size, part).inspect_err(move |error| {
            tracing::error!(media.name = %name, "a file cannot be read: {error}");
        });
        let first = body.try_next().await?;
        Ok(stream::iter(first.map(Ok)).chain(body).boxed())
    }
}

/// Whether `id` is what the specification allows as a media id.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations>
pub(super) fn is_media_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !id.is_empty() && id.len() <= MEDIA_ID_BYTES_MAX && id.bytes().all(allowed)
}
