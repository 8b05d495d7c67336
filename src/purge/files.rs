//! Files that were shown by events whose content is gone.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId};
use serde_json::Value;

use super::{Purge, PurgeError, Trouble};
use crate::{
    account::AccountError,
    history::{
        MediaAddress, media_addresses, media_use_key,
        tables::{MEDIA_LET_GO, MEDIA_USES},
    },
    limits::FILES_ENDED_AT_ONCE,
    log::Commit,
    store::{
        Scan,
        table::{Rows, TableId},
    },
};

/// Since when it is written down which events show which file.
const BEGUN: Rows<(String,), u64> = Rows::new(TableId::Meta);

fn begun_key() -> (String,) {
    (String::from("media uses"),)
}

impl Purge {
    /// Notes that from now on it is known which events show a file: of older files it is not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self) -> Result<(), PurgeError> {
        if self.log().db().row(&BEGUN, &begun_key()).await?.is_none() {
            let mut commit = Commit::new();
            commit.put(&BEGUN, &begun_key(), &self.now_ms());
            self.log().commit(commit).await?;
        }
        Ok(())
    }

    /// Removes the files that nothing shows any more. One that fails holds up no other.
    pub(super) async fn end_files(&self, trouble: &mut Trouble) -> Result<(), PurgeError> {
        let all = MEDIA_LET_GO.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: FILES_ENDED_AT_ONCE };
            let rows = self.log().db().scan(&MEDIA_LET_GO, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = MEDIA_LET_GO.key(last).successor();
            let (mut commit, mut has_ended) = (Commit::new(), false);
            for (address, sender) in rows {
                let ended = self.end_file(&address, &sender).await;
                if let Ok(ended) = &ended {
                    has_ended |= ended;
                    commit.delete(&MEDIA_LET_GO, &address);
                }
                trouble.note(format_args!("the file {}/{}", address.0, address.1), ended.map(drop));
            }
            if !commit.is_empty() {
                self.log().commit(commit).await?;
            }
            if has_ended {
                let emptied = self.0.media.empty_bin().await;
                trouble.note("the bytes of files that nothing shows", emptied.map_err(Into::into));
            }
        }
    }

    /// Deletes a file that `sender` has shown, but for its bytes, if nobody needs it. Whether it did.
    async fn end_file(&self, address: &MediaAddress, sender: &OwnedUserId) -> Result<bool, PurgeError> {
        if !self.0.settings.files || !self.is_useless(address, sender).await? {
            return Ok(false);
        }
        Ok(self.0.media.put_away(&address.0, &address.1).await?)
    }

    /// Whether nobody needs a file that `sender` has shown. Files of other servers can be had again, as long as these
    /// are there.
    async fn is_useless(
        &self,
        (server, id): &(OwnedServerName, String),
        sender: &OwnedUserId,
    ) -> Result<bool, PurgeError> {
        let db = self.log().db();
        // What administrators have taken away they decide about.
        if self.0.media.is_quarantined(server, id).await? {
            return Ok(false);
        }
        if server != self.0.history.server() {
            // Whoever shows what users of another server have uploaded does not decide about it.
            let key = media_use_key(self.0.history.server(), (server, id));
            return Ok(sender.server_name() == server && db.range(&MEDIA_USES, &(key,), 1).await?.is_empty());
        }
        let Some((owner, created_ms)) = self.0.media.owner(server, id).await? else { return Ok(false) };
        let begun = db.row(&BEGUN, &begun_key()).await?.unwrap_or(u64::MAX);
        // Whoever shows what somebody else has uploaded does not decide about it.
        if owner != *sender || created_ms < begun {
            return Ok(false);
        }
        if !db.range(&MEDIA_USES, &(id.clone(),), 1).await?.is_empty() {
            return Ok(false);
        }
        Ok(!self.is_noted(&owner, &(server.to_owned(), id.to_owned())).await?)
    }

    /// Whether a file is in the profile of its owner, or in what their clients keep with the account: pictures of
    /// packs of stickers and emoji, of bookmarks and notes. No event tells when it goes from there.
    async fn is_noted(&self, owner: &OwnedUserId, address: &MediaAddress) -> Result<bool, PurgeError> {
        let shows = |value: &Value| media_addresses(&value.to_string()).contains(address);
        let profile = match self.0.accounts.profile(owner).await {
            Err(AccountError::NotFound(_)) => BTreeMap::new(),
            profile => profile?,
        };
        if profile.values().any(shows) {
            return Ok(true);
        }
        let data = self.0.accounts.data_of_all_rooms(owner).await?;
        // Read, since clients may write one text in several ways.
        let mut contents = data.iter().filter_map(|(_, _, content)| serde_json::from_str(content.get()).ok());
        Ok(contents.any(|content: Value| shows(&content)))
    }
}
