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
    limits::{MEDIA_ATTEMPTS_MAX, MEDIA_HEAD_BYTES, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
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
/// The row of [`HEADS`] that says when something was last quarantined whose head is not known.
const SOME_UNKNOWN: ([u8; 32],) = ([1; 32],);

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
    pub(super) async fn note_head(&self, commit: &mut Commit, hash: Hash, content: &mut Content) {
        let now_ms = self.ports.clock.now_ms();
        if content.head.is_none() {
            content.head = self.head_of(hash, content).await.ok().flatten();
        }
        match content.head {
            Some(head) => commit.put(&HEADS, &(head.0,), &now_ms),
            // From now on everybody waits until all of a file is here.
            None => {
                commit.delete(&HEADS, &ALL_KNOWN);
                commit.put(&HEADS, &SOME_UNKNOWN, &now_ms);
            }
        }
    }

    /// Notes that quarantined bytes begin with `head`, where that was not known: they have come once more.
    pub(super) fn learn_head(&self, commit: &mut Commit, content: &mut Content, head: &[u8]) {
        if content.quarantined && content.head.is_none() {
            let head = Hash(Sha256::digest(head).into());
            content.head = Some(head);
            commit.put(&HEADS, &(head.0,), &self.ports.clock.now_ms());
        }
    }

    /// The hash of the first bytes of `content`, if they are here.
    async fn head_of(&self, hash: Hash, content: &Content) -> Result<Option<Hash>, MediaError> {
        let Some(name) = content.name.clone() else { return Ok(None) };
        let file = File { content_type: None, filename: None, size: content.size, hash, name };
        let part = 0..content.size.min(MEDIA_HEAD_BYTES as u64);
        let head: Vec<Bytes> = self.read(&file, Some(part)).await?.try_collect().await?;
        Ok(Some(Hash(Sha256::digest(head.concat()).into())))
    }

    /// Finds out how everything begins that was quarantined before that was noted, once and for all. Until then, and as
    /// long as there is something of which it cannot be found out, files of other servers are given when all of them is
    /// here. How many such files there are.
    ///
    /// # Errors
    /// When the store fails; the next call starts anew.
    pub async fn learn_heads(&self) -> Result<u64, MediaError> {
        let rows = self.log.db().rows(&HEADS, &[ALL_KNOWN, SOME_UNKNOWN]).await?;
        if rows.first().is_some_and(Option::is_some) {
            return Ok(0);
        }
        let noted = rows.get(1).copied().flatten();
        let mut unknown = 0;
        let mut from = CONTENTS.prefix(&());
        let to = from.after_prefix();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&CONTENTS, scan).await?;
            let Some((last, _)) = rows.last() else { break };
            from = CONTENTS.key(last).successor();
            for (key, _) in rows.into_iter().filter(|(_, content)| is_unknown(content)) {
                unknown += u64::from(!self.learn_head_of(Hash(key.0)).await?);
            }
        }
        if unknown == 0 {
            let mut commit = Commit::new();
            // Something may have been quarantined meanwhile of which it is not known.
            match &noted {
                Some(noted) => commit.expect_equals(&HEADS, &SOME_UNKNOWN, noted),
                None => commit.expect_absent(&HEADS, &SOME_UNKNOWN),
            }
            commit.put(&HEADS, &ALL_KNOWN, &self.ports.clock.now_ms());
            match self.log.commit(commit).await {
                Ok(_) => {}
                Err(CommitError::Conflict(_)) => return Ok(1),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(unknown)
    }

    /// Finds out how the bytes with `hash` begin, if they are quarantined. Whether nothing is unknown now.
    async fn learn_head_of(&self, hash: Hash) -> Result<bool, MediaError> {
        for _ in 0..MEDIA_ATTEMPTS_MAX {
            let known = self.log.db().row(&CONTENTS, &(hash.0,)).await?;
            let Some(known) = known.filter(is_unknown) else { return Ok(true) };
            // Its bytes are gone, or damaged.
            let Ok(Some(head)) = self.head_of(hash, &known).await else { return Ok(false) };
            let mut commit = Commit::new();
            commit.expect_equals(&CONTENTS, &(hash.0,), &known);
            commit.put(&CONTENTS, &(hash.0,), &Content { head: Some(head), ..known });
            commit.put(&HEADS, &(head.0,), &self.ports.clock.now_ms());
            match self.log.commit(commit).await {
                Ok(_) => return Ok(true),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// Whether something is quarantined of which it is not known how it begins.
fn is_unknown(content: &Content) -> bool {
    content.quarantined && content.head.is_none()
}

#[cfg(test)]
impl Media {
    /// Makes the rows as they were before heads were noted in them.
    pub(crate) async fn forget_heads(&self) {
        let mut commit = Commit::new();
        commit.delete_prefix(&HEADS, &());
        for (key, content) in self.log.db().range(&CONTENTS, &(), SCAN_ROWS_MAX).await.unwrap() {
            commit.put(&CONTENTS, &key, &Content { head: None, ..content });
        }
        self.log.commit(commit).await.unwrap();
    }

    /// Makes it unknown whether all heads are known, as it is after a start of old.
    pub(crate) async fn doubt_heads(&self) {
        let mut commit = Commit::new();
        commit.delete(&HEADS, &ALL_KNOWN);
        self.log.commit(commit).await.unwrap();
    }
}
