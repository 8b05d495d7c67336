//! What pages of the web say about themselves.
//!
//! The address comes from a user, and everything after it from a stranger. What a name resolves to is judged at every
//! connection ([`crate::peer::Reach::pages`]), redirects, pictures and descriptions ([`oembed`]) included.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>

mod fetch;
mod html;
mod oembed;

use image::{ImageFormat, ImageReader};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Media, MediaError, Offered,
    rows::{Item, PREVIEWS, Preview},
    upload::{stored, uri},
};
use crate::{
    limits::{
        MEDIA_ID_CHARACTERS, PREVIEW_BYTES_MAX, PREVIEW_EMBED_SECONDS_MAX, PREVIEW_FAILED_MS,
        PREVIEW_IMAGE_BYTES_MAX, PREVIEW_KEPT_MS, PREVIEW_SECONDS_MAX, PREVIEW_URL_BYTES_MAX,
        PREVIEW_WAIT_MAX,
    },
    log::Commit,
    types::random_string,
};
use fetch::{Fetched, Page};
use oembed::Embed;

/// How previews are made.
#[derive(Clone, Debug, Default)]
pub struct Previews {
    /// Hosts of which none are made, nor of what is below them.
    pub denied_hosts: Vec<String>,
    /// In which languages pages are asked for, most wanted first.
    pub languages: String,
}

/// Fields of a preview, as the specification calls them.
pub type Fields = Map<String, Value>;

/// What clients show of a preview: if not all of it can be kept, this is.
const SHOWN: [&str; 9] = [
    "og:image",
    "og:image:type",
    "og:image:width",
    "og:image:height",
    "matrix:image:size",
    "og:title",
    "og:description",
    "og:site_name",
    "og:url",
];

/// As many of the fields as are kept, those that are shown before the others.
fn fit(fields: Fields) -> Fields {
    let mut left = PREVIEW_BYTES_MAX;
    let (shown, others): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(name, _)| SHOWN.contains(&name.as_str()));
    let mut all = shown;
    all.sort_by_key(|(name, _)| SHOWN.iter().position(|shown| shown == name));
    all.extend(others);
    let fits = |(name, value): &(String, Value)| {
        let bytes = name.len() + value.to_string().len();
        let fits = bytes <= left;
        left -= if fits { bytes } else { 0 };
        fits
    };
    all.into_iter().filter(fits).collect()
}

impl Media {
    /// What the page at `url` says about itself; nothing if it says nothing.
    ///
    /// # Errors
    /// When no previews are made, the address is none, or the page cannot be had.
    pub async fn preview(&self, url: &str) -> Result<Fields, MediaError> {
        let settings = self.settings.previews.as_ref().ok_or(MediaError::NotFound)?;
        if url.len() > PREVIEW_URL_BYTES_MAX {
            return Err(MediaError::Invalid("The address is too long"));
        }
        let mut url = Url::parse(url).map_err(|_| MediaError::Invalid("The address is none"))?;
        url.set_fragment(None);
        settings.admit(&url)?;
        let key = (String::from(url.as_str()),);
        if let Some(known) = self.log.db().row(&PREVIEWS, &key).await?
            && known.expires_ms > self.ports.clock.now_ms()
        {
            return known.data.ok_or_else(|| MediaError::Unreachable(String::from("it has just failed")));
        }
        let looking = self.previews.join(&key.0, || async {
            let (media, url) = (self.clone(), url.clone());
            let looked = self.tasks.spawn(async move { media.look(&url).await.map_err(super::Loss::from) });
            looked.await.unwrap_or_else(|error| Err(super::Loss::Trouble(error.to_string())))
        });
        Ok(looking.await?)
    }

    /// Looks at a page and keeps what it says, also that it could not be had.
    async fn look(&self, url: &Url) -> Result<Fields, MediaError> {
        let waiting = tokio::time::timeout(PREVIEW_WAIT_MAX, self.previewing.acquire()).await;
        // Nobody closes the semaphore. That there was no place says nothing about the page.
        let _share = waiting.map_err(|_| MediaError::TooMany(PREVIEW_WAIT_MAX))?;
        let looked = tokio::time::timeout(PREVIEW_SECONDS_MAX, self.fetch_fields(url)).await;
        let looked = looked
            .unwrap_or_else(|_| Err(MediaError::Unreachable(String::from("it took too long"))))
            .map(fit);
        let now_ms = self.ports.clock.now_ms();
        let kept_ms = if looked.is_ok() { PREVIEW_KEPT_MS } else { PREVIEW_FAILED_MS };
        let data = looked.as_ref().ok().cloned();
        let row = Preview { fetched_ms: now_ms, expires_ms: now_ms + kept_ms, data };
        self.make_room_for_preview(row.bytes(url.as_str())).await?;
        let mut commit = Commit::new();
        commit.put(&PREVIEWS, &(String::from(url.as_str()),), &row);
        self.log.commit(commit).await?;
        looked
    }

    async fn fetch_fields(&self, url: &Url) -> Result<Fields, MediaError> {
        if let Some((at, embed)) = self.fetch_embed(oembed::endpoint(url)).await {
            return Ok(self.with_picture(embed.fields, (&at, embed.picture)).await);
        }
        match self.fetch_page(url).await? {
            Fetched::Page(Page { url, text }) => {
                let parsing = tokio::task::spawn_blocking(move || html::read(&text));
                let mut said = parsing.await.map_err(MediaError::storage)?;
                let (picture, link) = (said.picture.take(), said.oembed.take());
                let embed = self.fetch_embed(link.and_then(|link| url.join(&link).ok())).await;
                let mut fields = said.fields();
                // The description is made to be shown elsewhere.
                let picture = match embed {
                    Some((at, embed)) => {
                        fields.extend(embed.fields);
                        embed.picture.map_or((url, picture), |found| (at, Some(found)))
                    }
                    None => (url, picture),
                };
                Ok(self.with_picture(fields, (&picture.0, picture.1)).await)
            }
            Fetched::Picture(found) => self.keep_picture(found).await,
            Fetched::Other => Ok(Fields::new()),
        }
    }

    /// What a site says of a page at this address, and where that was in the end. A page without it is better than none.
    async fn fetch_embed(&self, address: Option<Url>) -> Option<(Url, Embed)> {
        let address = address?;
        let fetched = tokio::time::timeout(PREVIEW_EMBED_SECONDS_MAX, self.fetch_json(&address)).await;
        let (url, bytes) = match fetched {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the description of a page could not be had");
                return None;
            }
            Err(_) => return None,
        };
        let parsing = tokio::task::spawn_blocking(move || oembed::read(&bytes));
        Some((url, parsing.await.ok()??))
    }

    /// Fields with those of the picture, whose address may be a relative one. A page without its picture is better than
    /// none.
    async fn with_picture(&self, mut fields: Fields, (at, picture): (&Url, Option<String>)) -> Fields {
        let Some(picture) = picture.and_then(|picture| at.join(&picture).ok()) else { return fields };
        match self.fetch_picture(&picture).await {
            Ok(found) => fields.extend(found),
            Err(error) => tracing::debug!(%error, "the picture of a preview could not be had"),
        }
        fields
    }

    async fn fetch_picture(&self, url: &Url) -> Result<Fields, MediaError> {
        match self.fetch_page(url).await? {
            Fetched::Picture(found) => self.keep_picture(found).await,
            Fetched::Page(_) | Fetched::Other => {
                Err(MediaError::Unreachable(String::from("it is no picture")))
            }
        }
    }

    /// Keeps a picture like a file of another server; what a preview says of it.
    async fn keep_picture(&self, body: super::Body) -> Result<Fields, MediaError> {
        let rng = self.ports.rng.as_ref();
        let staged = self.blobs.receive(body, PREVIEW_IMAGE_BYTES_MAX, rng).await?;
        let path = staged.path().to_owned();
        let measuring = tokio::task::spawn_blocking(move || -> Option<(&'static str, u32, u32)> {
            let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
            let kind = match reader.format()? {
                ImageFormat::Png => "image/png",
                ImageFormat::Jpeg => "image/jpeg",
                ImageFormat::Gif => "image/gif",
                ImageFormat::WebP => "image/webp",
                _ => return None,
            };
            let (width, height) = reader.into_dimensions().ok()?;
            Some((kind, width, height))
        });
        let measured = measuring.await.map_err(MediaError::storage)?;
        let (kind, width, height) =
            measured.ok_or_else(|| MediaError::Unreachable(String::from("it is no picture")))?;
        let now_ms = self.ports.clock.now_ms();
        let offered = Offered { content_type: Some(String::from(kind)), ..Offered::default() };
        let stored = stored(&staged, offered, now_ms);
        let size = stored.size;
        self.make_room(size).await?;
        let address = (self.server_name.clone(), random_string(rng, MEDIA_ID_CHARACTERS));
        let item = Item::cached(Some(stored), now_ms);
        self.finish(staged, address.clone(), (None, item)).await?;
        let mut fields = Fields::new();
        fields.insert(String::from("og:image"), Value::from(uri(&address).to_string()));
        fields.insert(String::from("og:image:type"), Value::from(kind));
        fields.insert(String::from("og:image:width"), Value::from(width));
        fields.insert(String::from("og:image:height"), Value::from(height));
        fields.insert(String::from("matrix:image:size"), Value::from(size));
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Fields, PREVIEW_BYTES_MAX, fit};

    fn bytes(fields: &Fields) -> usize {
        fields.iter().map(|(name, value)| name.len() + value.to_string().len()).sum()
    }

    #[test]
    fn what_is_kept_of_a_page_is_what_is_shown() {
        let long = Value::from("\u{1d11e}".repeat(1_000));
        let mut fields: Fields = (0..50).map(|n| (format!("og:a{n}"), long.clone())).collect();
        for name in ["og:title", "og:description", "og:image"] {
            fields.insert(String::from(name), Value::from(name));
        }
        let kept = fit(fields);
        assert!(bytes(&kept) <= PREVIEW_BYTES_MAX, "{}", bytes(&kept));
        assert_eq!(kept["og:title"], "og:title");
        assert_eq!(kept.len(), 5, "and two of the others");
        let few: Fields = [(String::from("og:type"), Value::from("x"))].into_iter().collect();
        assert_eq!(fit(few.clone()), few);
    }
}
