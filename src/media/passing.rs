//! Giving out files of other servers while they are on their way here.
//!
//! What is quarantined is known by the hash of all bytes, which is not known yet. So it is also known how the bytes
//! begin; what begins like that waits until all of it is here. Where that is not known of everything, all wait.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{
    Body, Door, File, Hash, Media, MediaError, Wanted,
    arrival::Begun,
    find::is_media_id,
    rows::{CONTENTS, Content, HEADS},
};
use crate::{
    limits::{MEDIA_HEAD_BYTES, SCAN_ROWS_MAX},
    log::Commit,
    store::Scan,
};

/// A file that may be seen.
pub enum Given {
    /// All of it is here.
    Here(File),
    /// It is on its way here.
    Coming(Coming),
}

/// A file of another server that is on its way here.
pub struct Coming {
    /// What it is, as that server says, or as its first bytes look.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
    /// How many bytes it has, if that server says so.
    pub size: Option<u64>,
    /// All of it, as it comes; an error at the end when it does not come, or is larger than allowed.
    pub body: Body,
}

/// The row of [`HEADS`] that says that all heads are known.
const ALL_KNOWN: ([u8; 32],) = ([0; 32],);

impl Media {
    /// As [`Self::find`], but a file of another server that is not here is given while it comes.
    ///
    /// # Errors
    /// As [`Self::find`], as far as the first bytes can tell.
    pub async fn give(&self, wanted: Wanted<'_>) -> Result<Given, MediaError> {
        let address = (wanted.server.to_owned(), String::from(wanted.id));
        let may_come = is_media_id(wanted.id)
            && !self.is_ours(wanted.server)
            && wanted.door == Door::User
            && wanted.allow_remote;
        if !may_come || self.item(&address).await?.is_some() {
            return self.find(wanted).await.map(Given::Here);
        }
        let arrival = self.arrivals.at(&address);
        let (media, timeout) = (self.clone(), wanted.timeout);
        // Whoever asks first may go away; the fetch is for all.
        let mut whole = self.tasks.spawn(async move {
            let (server, id) = (&*address.0, address.1.as_str());
            let wanted = Wanted { server, id, door: Door::User, timeout, allow_remote: true };
            media.find(wanted).await
        });
        let Begun { offered, head, body } = tokio::select! {
            biased;
            found = &mut whole => return found.map_err(MediaError::storage)?.map(Given::Here),
            begun = arrival.begun() => begun?,
        };
        if self.begins_as_quarantined(&head).await? {
            return whole.await.map_err(MediaError::storage)?.map(Given::Here);
        }
        let said = offered.content_type.clone().filter(|kind| !kind.trim().is_empty());
        let guessed = || infer::get(&head).map(|kind| String::from(kind.mime_type()));
        Ok(Given::Coming(Coming {
            content_type: said.or_else(guessed),
            filename: offered.filename.clone().filter(|name| !name.is_empty()),
            size: offered.size,
            body,
        }))
    }

    /// Whether something that is quarantined begins with `head`, or may do so.
    async fn begins_as_quarantined(&self, head: &[u8]) -> Result<bool, MediaError> {
        let rows = self.log.db().rows(&HEADS, &[ALL_KNOWN, (Sha256::digest(head).into(),)]).await?;
        Ok(rows.first().is_none_or(Option::is_none) || rows.get(1).is_none_or(Option::is_some))
    }

    /// Notes how the bytes of `content` begin, which is going to be quarantined.
    pub(super) async fn note_head(&self, commit: &mut Commit, hash: Hash, content: &Content) {
        match self.head_of(hash, content).await {
            Ok(Some(digest)) => commit.put(&HEADS, &(digest,), &self.ports.clock.now_ms()),
            // From now on everybody waits until all of a file is here.
            Ok(None) | Err(_) => commit.delete(&HEADS, &ALL_KNOWN),
        }
    }

    /// The hash of the first bytes of `content`, if they are here.
    async fn head_of(&self, hash: Hash, content: &Content) -> Result<Option<[u8; 32]>, MediaError> {
        let Some(name) = content.name.clone() else { return Ok(None) };
        let file = File { content_type: None, filename: None, size: content.size, hash, name };
        let part = 0..content.size.min(MEDIA_HEAD_BYTES as u64);
        let head: Vec<Bytes> = self.read(&file, Some(part)).await?.try_collect().await?;
        Ok(Some(Sha256::digest(head.concat()).into()))
    }

    /// Finds out how everything begins that was quarantined before that was noted, once and for all.
    pub(super) async fn learn_heads(&self) -> Result<(), MediaError> {
        if self.log.db().row(&HEADS, &ALL_KNOWN).await?.is_some() {
            return Ok(());
        }
        let (mut commit, mut are_all_known) = (Commit::new(), true);
        let now_ms = self.ports.clock.now_ms();
        let mut from = CONTENTS.prefix(&());
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&CONTENTS, scan).await?;
            let Some((last, _)) = rows.last() else { break };
            from = CONTENTS.key(last).successor();
            for (key, content) in rows.into_iter().filter(|(_, content)| content.quarantined) {
                match self.head_of(Hash(key.0), &content).await {
                    Ok(Some(digest)) => commit.put(&HEADS, &(digest,), &now_ms),
                    // Its bytes are gone, or damaged.
                    Ok(None) | Err(_) => are_all_known = false,
                }
            }
        }
        if are_all_known {
            commit.put(&HEADS, &ALL_KNOWN, &now_ms);
        }
        if !commit.is_empty() {
            self.log.commit(commit).await?;
        }
        Ok(())
    }
}
