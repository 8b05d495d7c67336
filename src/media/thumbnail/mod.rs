//! Thumbnails: made when they are first asked for, kept beside the image that they show.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

mod draw;
mod shape;
mod webp;

pub use shape::{Method, Shape};

use draw::{Drawn, draw};
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::{
    File, Hash, Media, MediaError, Wanted,
    blobs::{Blobs, Sort},
    find::is_media_id,
    keep::Address,
    rows::{CONTENTS, GARBAGE, Item, Kind, SUMS, THUMBNAILS, Thumbnail},
    sums::Sums,
};
use crate::{
    limits::{
        MEDIA_ATTEMPTS_MAX, MEDIA_THUMBNAIL_SOURCE_BYTES_MAX, MEDIA_THUMBNAIL_WAIT_MAX,
        MEDIA_THUMBNAILS_OF_IMAGE_MAX, MEDIA_UNFIT_KEEP,
    },
    log::{Commit, CommitError},
};

/// A thumbnail to be made.
pub(super) type Job = (Hash, Shape);

/// Why there is no thumbnail; as [`MediaError`], for all who wait for the same one.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    TooManyPixels,
    NoThumbnail(String),
    Gone,
    Busy,
    Trouble(String),
}

impl From<Refusal> for MediaError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManyPixels => Self::TooManyPixels,
            Refusal::NoThumbnail(why) => Self::NoThumbnail(why),
            Refusal::Gone => Self::NotFound,
            Refusal::Busy => Self::TooMany(MEDIA_THUMBNAIL_WAIT_MAX),
            Refusal::Trouble(text) => Self::storage(text),
        }
    }
}

impl From<MediaError> for Refusal {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::NotFound => Self::Gone,
            error => Self::Trouble(error.to_string()),
        }
    }
}

impl Media {
    /// A smaller image of the file that is wanted; the file itself, if it is small enough. `asker` has one made at a time.
    ///
    /// # Errors
    /// As [`Self::find`]; also when the file is no image, or too large a one.
    pub async fn thumbnail(
        &self,
        wanted: Wanted<'_>,
        shape: Shape,
        asker: Option<&str>,
    ) -> Result<File, MediaError> {
        if !is_media_id(wanted.id) {
            return Err(MediaError::NotFound);
        }
        let address = (wanted.server.to_owned(), String::from(wanted.id));
        // A large file need not come here for a small picture of it.
        if !self.is_ours(wanted.server)
            && let Some(file) = self.remote_thumbnail(&address, shape, wanted).await?
        {
            return Ok(file);
        }
        let file = self.find(wanted).await?;
        match self.made(&address, (&file, shape), asker).await {
            Err(MediaError::TooLarge(max)) if !self.is_ours(wanted.server) => {
                Err(MediaError::RemoteTooLarge(max))
            }
            Err(MediaError::TooManyPixels) if !self.is_ours(wanted.server) => {
                Err(MediaError::RemoteTooManyPixels)
            }
            made => made,
        }
    }

    /// The thumbnail of a file that is here; it is made if it was not before.
    async fn made(
        &self,
        address: &Address,
        (file, shape): (&File, Shape),
        asker: Option<&str>,
    ) -> Result<File, MediaError> {
        if let Some(known) = self.drawn(file, shape).await? {
            return Ok(known);
        }
        if file.size > MEDIA_THUMBNAIL_SOURCE_BYTES_MAX {
            return Err(MediaError::TooLarge(MEDIA_THUMBNAIL_SOURCE_BYTES_MAX));
        }
        self.fit(&(file.hash, shape))?;
        let (media, address, image) = (self.clone(), address.clone(), file.clone());
        let asker = asker.map(String::from);
        // Whoever asks may go away: then they wait no more, but what they have begun counts until it is done.
        let (gone, _asking) = oneshot::channel();
        let drawing = async move { media.draw(&address, (&image, shape), (asker.as_deref(), gone)).await };
        let drawn = self.tasks.spawn(drawing).await;
        drawn.unwrap_or_else(|error| Err(Refusal::Trouble(error.to_string())))?;
        self.drawn(file, shape).await?.ok_or(MediaError::NotFound)
    }

    /// The thumbnail, if it has been made.
    async fn drawn(&self, file: &File, shape: Shape) -> Result<Option<File>, MediaError> {
        let row = self.log.db().row(&THUMBNAILS, &(file.hash.0, shape.key())).await?;
        Ok(row.map(|row| match row.name {
            // It is what it is, whatever whoever uploaded it says; rows of old do not know.
            None if row.content_type.is_empty() => file.clone(),
            None => File { content_type: Some(row.content_type), ..file.clone() },
            Some(name) => {
                let content_type = Some(row.content_type);
                File { content_type, filename: None, size: row.size, hash: file.hash, name }
            }
        }))
    }

    /// Whether the thumbnail has not just turned out to be impossible.
    fn fit(&self, job: &Job) -> Result<(), Refusal> {
        let now = self.ports.clock.monotonic();
        self.unfit.get(job).filter(|(until, _)| now < *until).map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    /// Waits for a place and makes the thumbnail, unless somebody else has made it meanwhile.
    async fn draw(
        &self,
        address: &Address,
        (file, shape): (&File, Shape),
        (asker, mut gone): (Option<&str>, oneshot::Sender<()>),
    ) -> Result<(), Refusal> {
        let places = async {
            // First that of whoever asks: however much they want made, others are next to them and not behind them.
            let own = match asker {
                Some(asker) => Some(self.drawing_each.enter(asker).await),
                None => None,
            };
            (own, self.drawing.acquire().await.ok())
        };
        let _places = tokio::select! {
            biased;
            places = places => places,
            () = gone.closed() => return Err(Refusal::Busy),
            () = tokio::time::sleep(MEDIA_THUMBNAIL_WAIT_MAX) => return Err(Refusal::Busy),
        };
        let job = (file.hash, shape);
        self.fit(&job)?;
        let drawn = self.drawings.join(&job, || self.draw_now(address, file, shape)).await;
        if let Err(refusal @ (Refusal::TooManyPixels | Refusal::NoThumbnail(_))) = &drawn {
            let until = self.ports.clock.monotonic() + MEDIA_UNFIT_KEEP;
            self.unfit.insert(job, (until, refusal.clone()));
        }
        drawn
    }

    async fn draw_now(&self, address: &Address, file: &File, shape: Shape) -> Result<(), Refusal> {
        if self.drawn(file, shape).await?.is_some() {
            return Ok(());
        }
        let rng = self.ports.rng.as_ref();
        let (path, held) = self.blobs.as_file(&file.name, self.read(file, None).await?, rng).await?;
        let clock = self.ports.clock.clone();
        let drawing = tokio::task::spawn_blocking(move || draw(&path, shape, clock.as_ref())).await;
        drop(held);
        // A decoder that panics has met an image that is none.
        let drawn = drawing.map_err(|error| Refusal::NoThumbnail(error.to_string()))??;
        let (bytes, content_type) = match drawn {
            Drawn::Original(content_type) => {
                let content_type = String::from(content_type);
                let row = Thumbnail { name: None, size: file.size, content_type };
                return Ok(self.keep_thumbnail(address, (file, shape), row, None).await?);
            }
            Drawn::Smaller(bytes, content_type) => (bytes, String::from(content_type)),
        };
        let size = bytes.len() as u64;
        let body = futures_util::stream::once(async move { Ok(bytes::Bytes::from(bytes)) }).boxed();
        let mut staged = self.blobs.receive(body, u64::MAX, rng).await?;
        let name = Blobs::new_name(Sort::Thumbnail, file.hash, rng);
        self.blobs.put(&mut staged, &name).await?;
        let row = Thumbnail { name: Some(name.clone()), size, content_type };
        let kept = self.keep_thumbnail(address, (file, shape), row, Some(&staged.sums)).await;
        if kept.is_err() {
            self.blobs.remove(&name).await?;
        }
        Ok(kept?)
    }

    /// Writes the row of a thumbnail, as long as there is the image that it shows. Of an image that can be had again it is
    /// counted with that, so that what other servers have stays within its bound with all that is made of it.
    async fn keep_thumbnail(
        &self,
        address: &Address,
        (file, shape): (&File, Shape),
        row: Thumbnail,
        sums: Option<&Sums>,
    ) -> Result<(), MediaError> {
        let (db, key) = (self.log.db(), (file.hash.0,));
        let is_cached = self.item(address).await?.is_some_and(|item| item.kind == Kind::Cached);
        if is_cached && sums.is_some() {
            self.make_room(row.size).await?;
        }
        for _ in 0..MEDIA_ATTEMPTS_MAX {
            let content = db.row(&CONTENTS, &key).await?.ok_or(MediaError::NotFound)?;
            if content.name.as_ref() != Some(&file.name) {
                return Err(MediaError::NotFound);
            }
            let mut commit = Commit::new();
            commit.expect_equals(&CONTENTS, &key, &content);
            commit.expect_absent(&THUMBNAILS, &(file.hash.0, shape.key()));
            let mut replaced = 0;
            let others = db.range(&THUMBNAILS, &key, MEDIA_THUMBNAILS_OF_IMAGE_MAX).await?;
            if others.len() == MEDIA_THUMBNAILS_OF_IMAGE_MAX
                && let Some((key, other)) = others.into_iter().next()
            {
                commit.delete(&THUMBNAILS, &key);
                if let Some(name) = other.name {
                    replaced = other.size;
                    commit.put(&GARBAGE, &(name,), &self.ports.clock.now_ms());
                }
            }
            let item = self.item(address).await?.filter(|item| item.kind == Kind::Cached);
            if let Some(item) = item.filter(|_| sums.is_some()) {
                let drawn = item.drawn.saturating_add(row.size).saturating_sub(replaced);
                let after = Item { drawn, ..item.clone() };
                self.put_item(&mut commit, address, (Some(&item), &after)).await?;
            }
            if let Some((name, sums)) = row.name.clone().zip(sums) {
                commit.put(&SUMS, &(name,), sums);
            }
            commit.put(&THUMBNAILS, &(file.hash.0, shape.key()), &row);
            match self.log.commit(commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MediaError::TooMany(MEDIA_THUMBNAIL_WAIT_MAX))
    }
}
