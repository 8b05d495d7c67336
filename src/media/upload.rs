//! Files of our users.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::time::Duration;

use ruma::{OwnedMxcUri, ServerName, UserId};

use super::{
    Body, Media, MediaError,
    keep::Address,
    rows::{Item, Kind, RESERVED, Stored, USAGE},
    staged::Staged,
};
use crate::{
    limits::{
        MEDIA_ID_CHARACTERS, MEDIA_NAME_BYTES_MAX, MEDIA_RESERVED_MAX, MEDIA_RESERVED_MS,
        MEDIA_TYPE_BYTES_MAX,
    },
    log::Commit,
    types::random_string,
};

/// What somebody says about a file beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// What it is.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
    /// How large it is going to be, if that is known.
    pub size: Option<u64>,
}

/// An address that waits for an upload.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The address.
    pub uri: OwnedMxcUri,
    /// When it can no longer be used, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Media {
    /// Takes a file in; its address.
    ///
    /// # Errors
    /// When it is too large, does not arrive, or the user has no more room.
    pub async fn upload(
        &self,
        user: &UserId,
        offered: Offered,
        body: Body,
    ) -> Result<OwnedMxcUri, MediaError> {
        let _place = self.begin_upload(user)?;
        self.admit(user, &offered).await?;
        let rng = self.ports.rng.as_ref();
        let staged = self.blobs.receive(body, self.settings.upload_bytes_max, rng).await?;
        let address = (self.server_name.clone(), random_string(rng, MEDIA_ID_CHARACTERS));
        let uri = uri(&address);
        let now_ms = self.ports.clock.now_ms();
        let item = Item {
            kind: Kind::Local,
            owner: Some(user.to_owned()),
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: None,
            stored: Some(stored(&staged, offered, now_ms)),
            drawn: 0,
            quarantined: false,
        };
        self.finish(staged, address, (None, item)).await?;
        Ok(uri)
    }

    /// Gives out an address to which `user` may upload a file later.
    ///
    /// # Errors
    /// When the user has too many of them.
    pub async fn reserve(&self, user: &UserId) -> Result<Reserved, MediaError> {
        let now_ms = self.ports.clock.now_ms();
        let prefix = (user.to_owned(),);
        let waiting = self.log.db().range(&RESERVED, &prefix, MEDIA_RESERVED_MAX * 2).await?;
        let (waiting, expired): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, expires_ms)| *expires_ms > now_ms);
        if waiting.len() >= MEDIA_RESERVED_MAX {
            return Err(MediaError::TooMany(Duration::from_secs(60)));
        }
        for ((_, id), _) in expired {
            self.end(&(self.server_name.clone(), id)).await?;
        }
        let id = random_string(self.ports.rng.as_ref(), MEDIA_ID_CHARACTERS);
        let address = (self.server_name.clone(), id.clone());
        let expires_ms = now_ms + MEDIA_RESERVED_MS;
        let item = Item {
            kind: Kind::Local,
            owner: Some(user.to_owned()),
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: Some(expires_ms),
            stored: None,
            drawn: 0,
            quarantined: false,
        };
        let mut commit = Commit::new();
        self.put_item(&mut commit, &address, (None, &item)).await?;
        commit.put(&RESERVED, &(user.to_owned(), id), &expires_ms);
        self.log.commit(commit).await?;
        Ok(Reserved { uri: uri(&address), expires_ms })
    }

    /// Takes the file in for which an address was given out.
    ///
    /// # Errors
    /// As [`Self::upload`]; also when the address is unknown or has expired, somebody else's, or used already.
    pub async fn upload_to(
        &self,
        user: &UserId,
        (server, id): (&ServerName, &str),
        (offered, body): (Offered, Body),
    ) -> Result<(), MediaError> {
        let address = (server.to_owned(), String::from(id));
        let before = self.reserved(user, &address).await?;
        let _place = self.begin_upload(user)?;
        self.admit(user, &offered).await?;
        let rng = self.ports.rng.as_ref();
        let staged = self.blobs.receive(body, self.settings.upload_bytes_max, rng).await?;
        let now_ms = self.ports.clock.now_ms();
        let item = Item {
            seen_ms: now_ms,
            expires_ms: None,
            stored: Some(stored(&staged, offered, now_ms)),
            ..before.clone()
        };
        let finished = self.finish(staged, address.clone(), (Some(before), item)).await;
        if finished.is_err() {
            // Another upload to the same address may have been quicker.
            self.reserved(user, &address).await?;
        }
        finished?;
        self.uploaded.notify_waiters();
        Ok(())
    }

    /// The row of an address that `user` may upload to.
    async fn reserved(&self, user: &UserId, address: &Address) -> Result<Item, MediaError> {
        let item = match self.is_ours(&address.0) {
            true => self.item(address).await?,
            false => None,
        };
        let item = item.ok_or(MediaError::NotFound)?;
        if item.owner.as_deref() != Some(user) {
            return Err(MediaError::Forbidden("Somebody else may upload to this address"));
        }
        if item.stored.is_some() {
            return Err(MediaError::CannotOverwrite);
        }
        match item.expires_ms.is_some_and(|expires_ms| expires_ms > self.ports.clock.now_ms()) {
            true => Ok(item),
            false => Err(MediaError::NotFound),
        }
    }

    /// Refuses at once what would be refused in the end.
    async fn admit(&self, user: &UserId, offered: &Offered) -> Result<(), MediaError> {
        let size = offered.size.unwrap_or_default();
        if size > self.settings.upload_bytes_max {
            return Err(MediaError::TooLarge(self.settings.upload_bytes_max));
        }
        let too_long = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.len() > max);
        if too_long(&offered.filename, MEDIA_NAME_BYTES_MAX) {
            return Err(MediaError::Invalid("The name of the file is too long"));
        }
        if too_long(&offered.content_type, MEDIA_TYPE_BYTES_MAX) {
            return Err(MediaError::Invalid("The type of the file is too long"));
        }
        let Some(quota) = self.settings.quota_bytes else { return Ok(()) };
        let usage = self.log.db().row(&USAGE, &(user.to_owned(),)).await?.unwrap_or_default();
        match usage.bytes.saturating_add(size) > quota {
            true => Err(MediaError::Forbidden("You have uploaded as much as you may")),
            false => Ok(()),
        }
    }

    /// As [`Self::keep`], whoever goes away meanwhile.
    pub(super) async fn finish(
        &self,
        staged: Staged,
        address: Address,
        (before, item): (Option<Item>, Item),
    ) -> Result<(), MediaError> {
        let media = self.clone();
        let keeping = self.tasks.spawn(async move { media.keep(staged, &address, (before, item)).await });
        keeping.await.map_err(MediaError::storage)?
    }
}

/// The address as users write it.
pub(super) fn uri((server, id): &Address) -> OwnedMxcUri {
    format!("mxc://{server}/{id}").into()
}

/// What is kept of what was offered.
pub(super) fn stored(staged: &Staged, offered: Offered, now_ms: u64) -> Stored {
    let guessed = || infer::get(&staged.head).map(|kind| String::from(kind.mime_type()));
    Stored {
        hash: staged.hash,
        size: staged.size,
        uploaded_ms: now_ms,
        content_type: offered.content_type.filter(|kind| !kind.trim().is_empty()).or_else(guessed),
        filename: offered.filename.filter(|name| !name.is_empty()),
    }
}
