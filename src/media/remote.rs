//! Files of other servers: fetched when a user asks for them, kept as long as there is room.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{HeaderMap, StatusCode, header};
use ruma::{api::error::ErrorKind, http_headers::ContentDisposition};
use tokio::time::Instant;
use url::Url;

use super::{
    Body, Door, File, Media, MediaError, Offered, Shape, Wanted,
    arrival::{Arrival, Ending},
    keep::Address,
    multipart::{Part, second_part},
    rows::{Item, Stored},
    upload::stored,
};
use crate::{
    limits::{
        MEDIA_ABSENT_KEEP, MEDIA_FETCH_HEAD_MAX, MEDIA_FETCH_SECONDS_MAX, MEDIA_FETCH_WAIT_MAX,
        MEDIA_NAME_BYTES_MAX, MEDIA_PART_BYTES_MAX, MEDIA_REDIRECTS_MAX, MEDIA_TYPE_BYTES_MAX,
        MEDIA_WAIT_MAX,
    },
    log::CommitError,
    peer::{PeerError, Pieces},
};

/// Why there is nothing; as [`MediaError`], for all who wait for the same file.
#[derive(Clone, Debug)]
pub(super) enum Loss {
    NotFound,
    NotYetUploaded,
    TooLarge(u64),
    Busy(Duration),
    Unreachable(String),
    Trouble(String),
}

impl From<Loss> for MediaError {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::NotFound => Self::NotFound,
            Loss::NotYetUploaded => Self::NotYetUploaded,
            Loss::TooLarge(max) => Self::RemoteTooLarge(max),
            Loss::Busy(pause) => Self::TooMany(pause),
            Loss::Unreachable(why) => Self::Unreachable(why),
            Loss::Trouble(text) => Self::storage(text),
        }
    }
}

impl From<MediaError> for Loss {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::NotFound => Self::NotFound,
            MediaError::TooLarge(max) | MediaError::RemoteTooLarge(max) => Self::TooLarge(max),
            MediaError::TooMany(pause) => Self::Busy(pause),
            MediaError::Unreachable(why) | MediaError::Broken(why) => Self::Unreachable(why),
            error => Self::Trouble(error.to_string()),
        }
    }
}

impl From<PeerError> for Loss {
    fn from(error: PeerError) -> Self {
        match &error {
            PeerError::Refused { errcode: ErrorKind::NotYetUploaded, .. } => Self::NotYetUploaded,
            PeerError::Refused { status, .. } if *status == StatusCode::NOT_FOUND => Self::NotFound,
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// What of a file is fetched.
#[derive(Clone, Copy, Debug)]
enum Extent {
    Whole,
    Thumbnail(Shape),
}

/// An answer with a file in it.
struct Found {
    offered: Offered,
    body: Body,
}

impl Media {
    /// The file of another server.
    pub(super) async fn find_remote(
        &self,
        address: &Address,
        wanted: Wanted<'_>,
    ) -> Result<File, MediaError> {
        self.remote(address, (address, Extent::Whole), wanted).await
    }

    /// A thumbnail that the other server makes, when its file is not here; none when that server makes none.
    pub(super) async fn remote_thumbnail(
        &self,
        address: &Address,
        shape: Shape,
        wanted: Wanted<'_>,
    ) -> Result<Option<File>, MediaError> {
        if wanted.door != Door::User || !wanted.allow_remote || self.item(address).await?.is_some() {
            return Ok(None);
        }
        // No media id contains a question mark.
        let kept_as = (address.0.clone(), format!("{}?{}", address.1, shape.key()));
        match self.remote(address, (&kept_as, Extent::Thumbnail(shape)), wanted).await {
            Ok(file) => Ok(Some(file)),
            Err(error @ (MediaError::NotYetUploaded | MediaError::TooMany(_))) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn remote(
        &self,
        address: &Address,
        (kept_as, extent): (&Address, Extent),
        wanted: Wanted<'_>,
    ) -> Result<File, MediaError> {
        if let Some(item) = self.item(kept_as).await? {
            return self.present(kept_as, item, wanted.door).await;
        }
        // What is fetched now is new: nobody gets it without a token, and nobody has it fetched without one.
        if wanted.door != Door::User || !wanted.allow_remote {
            return Err(MediaError::NotFound);
        }
        let now = self.ports.clock.monotonic();
        if self.absent.get(kept_as).is_some_and(|until| now < until) {
            return Err(MediaError::NotFound);
        }
        let fetched = self.fetched(address, (kept_as, extent), wanted.timeout.min(MEDIA_WAIT_MAX)).await;
        if let Err(Loss::NotFound) = &fetched {
            self.absent.insert(kept_as.clone(), now + MEDIA_ABSENT_KEEP);
        }
        fetched?;
        let item = self.item(kept_as).await?.ok_or(MediaError::NotFound)?;
        self.present(kept_as, item, wanted.door).await
    }

    /// Waits for a fetch, or for that of somebody else. Those who join one have not said the same of how long they wait for
    /// what has not been uploaded: each of them waits as long as they have said.
    async fn fetched(
        &self,
        address: &Address,
        (kept_as, extent): (&Address, Extent),
        timeout: Duration,
    ) -> Result<(), Loss> {
        let (until, mut left) = (Instant::now() + timeout, timeout);
        loop {
            let mine = AtomicBool::new(false);
            let fetching = self.fetches.join(kept_as, || {
                mine.store(true, Ordering::Relaxed);
                async {
                    let (media, address, kept_as) = (self.clone(), address.clone(), kept_as.clone());
                    let task = async move { media.fetch(&address, (&kept_as, extent), left).await };
                    let fetched = self.tasks.spawn(task).await;
                    fetched.unwrap_or_else(|error| Err(Loss::Trouble(error.to_string())))
                }
            });
            let in_vain = async {
                tokio::time::sleep(left + MEDIA_FETCH_HEAD_MAX).await;
                // What is on its way need only arrive.
                if mine.load(Ordering::Relaxed) || self.arrivals.have_begun(kept_as) {
                    std::future::pending().await
                }
            };
            let fetched = tokio::select! {
                fetched = fetching => fetched,
                () = in_vain => return Err(Loss::NotYetUploaded),
            };
            let is_early = matches!(fetched, Err(Loss::NotYetUploaded)) && !mine.load(Ordering::Relaxed);
            left = until.saturating_duration_since(Instant::now());
            if !is_early || left.is_zero() {
                return fetched;
            }
        }
    }

    /// Fetches a file and keeps it; whoever wants the whole of it reads along.
    async fn fetch(
        &self,
        address: &Address,
        (kept_as, extent): (&Address, Extent),
        timeout: Duration,
    ) -> Result<(), Loss> {
        let ending = match extent {
            Extent::Whole => Some(Ending(self.arrivals.at(kept_as))),
            Extent::Thumbnail(_) => None,
        };
        let arrival = ending.as_ref().map(|ending| &*ending.0);
        let fetched = self.receive(address, (kept_as, extent), timeout, arrival).await;
        if let Some(arrival) = arrival {
            arrival.end(fetched.clone());
        }
        fetched
    }

    async fn receive(
        &self,
        address: &Address,
        (kept_as, extent): (&Address, Extent),
        timeout: Duration,
        arrival: Option<&Arrival>,
    ) -> Result<(), Loss> {
        let server = &address.0;
        let down = || Loss::Unreachable(format!("{server} has just not answered"));
        if self.peers.is_down(server) {
            return Err(down());
        }
        let places = async {
            // First a place at the server: who waits for it takes none of those for all. Nobody closes the semaphore.
            let slot = self.fetching_each.enter(server).await;
            (slot, self.fetching.acquire().await.ok())
        };
        let places = tokio::time::timeout(MEDIA_FETCH_WAIT_MAX, places).await;
        let _places = places.map_err(|_| Loss::Busy(MEDIA_FETCH_WAIT_MAX))?;
        // Those who were before may have waited in vain.
        if self.peers.is_down(server) {
            return Err(down());
        }
        let bytes_max = self.settings.remote_bytes_max;
        let work = async {
            let Found { offered, body } = self.ask(address, extent, timeout).await?;
            if offered.size.is_some_and(|size| size > bytes_max) {
                return Err(Loss::TooLarge(bytes_max));
            }
            let (rng, along) = (self.ports.rng.as_ref(), arrival.map(|arrival| (arrival, offered.clone())));
            let staged = self.blobs.receive_along(body, bytes_max, rng, along).await?;
            Ok((offered, staged))
        };
        let received = tokio::time::timeout(MEDIA_FETCH_SECONDS_MAX + timeout, work).await;
        let (offered, staged) =
            received.map_err(|_| Loss::Unreachable(String::from("it took too long")))??;
        let now_ms = self.ports.clock.now_ms();
        let stored = stored(&staged, offered, now_ms);
        // By what it is, whatever the other server says it is.
        let is_picture = infer::get(&staged.head).is_some_and(|kind| PICTURES.contains(&kind.mime_type()));
        if matches!(extent, Extent::Thumbnail(_)) && !(is_picture && says_picture(&stored)) {
            return Err(Loss::Unreachable(String::from("the thumbnail is no picture")));
        }
        self.make_room(stored.size).await?;
        let item = Item::cached(Some(stored), now_ms);
        let hash = staged.hash;
        match self.keep(staged, kept_as, (None, item)).await {
            // Another process has fetched it too, or it is not to be had any more.
            Ok(()) | Err(MediaError::Commit(CommitError::Conflict(_))) => {}
            Err(error) => return Err(error.into()),
        }
        let is_out = match extent {
            Extent::Whole => false,
            // What is shown in small may have been taken away as a whole.
            Extent::Thumbnail(_) => self.item(address).await?.is_some_and(|item| item.quarantined),
        };
        match !is_out && self.may_be_seen(kept_as, hash).await? {
            true => Ok(()),
            false => Err(Loss::NotFound),
        }
    }

    /// Asks the other server, by the older way if it knows no other.
    async fn ask(&self, (server, id): &Address, extent: Extent, timeout: Duration) -> Result<Found, Loss> {
        let wait = format!("timeout_ms={}", timeout.as_millis());
        let (what, query) = match extent {
            Extent::Whole => ("download", wait),
            Extent::Thumbnail(shape) => ("thumbnail", format!("{}&{wait}", shape.query())),
        };
        let target = format!("/_matrix/federation/v1/media/{what}/{id}?{query}");
        let patience = timeout + MEDIA_FETCH_HEAD_MAX;
        match self.peers.open(server, &target, (true, patience)).await {
            Ok(answer) => {
                let (parts, pieces) = answer.into_parts();
                // Two heads, with what may stand before them, are all that is beside the file.
                let bytes_max = self.settings.remote_bytes_max;
                if length(&parts.headers).is_some_and(|all| all > bytes_max + 4 * MEDIA_PART_BYTES_MAX as u64)
                {
                    return Err(Loss::TooLarge(bytes_max));
                }
                let Part { headers, body } = second_part(&parts.headers, pieces).await?;
                match headers.get(header::LOCATION).map(|location| location.to_str()) {
                    None => Ok(Found { offered: offered(&headers), body }),
                    Some(Ok(location)) => self.follow(location, patience).await,
                    Some(Err(_)) => Err(Loss::Unreachable(String::from("it sends us to nowhere"))),
                }
            }
            Err(error) if is_unknown_endpoint(&error) => {
                let target = format!(
                    "/_matrix/media/v3/{what}/{server}/{id}?{query}&allow_remote=false&allow_redirect=true"
                );
                let answer = self.peers.open(server, &target, (false, patience)).await?;
                let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                match (answer.status(), location) {
                    (StatusCode::OK, _) => Ok(found(answer)),
                    (_, Some(location)) => self.follow(location, patience).await,
                    (status, None) => Err(Loss::Unreachable(format!("it answers {status}"))),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gets a file from where the other server says that it is.
    async fn follow(&self, location: &str, patience: Duration) -> Result<Found, Loss> {
        let nowhere = || Loss::Unreachable(String::from("it sends us to nowhere"));
        let mut url = Url::parse(location).map_err(|_| nowhere())?;
        for _ in 0..=MEDIA_REDIRECTS_MAX {
            if url.scheme() != "https" {
                return Err(nowhere());
            }
            let request = http::Request::get(url.as_str()).body(()).map_err(|_| nowhere())?;
            let answer = self.peers.browse(request, patience).await.map_err(Loss::from)?;
            if answer.status() == StatusCode::OK {
                return Ok(found(answer));
            }
            let next = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = next.filter(|_| answer.status().is_redirection()).ok_or(Loss::NotFound)?;
            url = url.join(next).map_err(|_| nowhere())?;
        }
        Err(nowhere())
    }
}

/// Whether the other server knows nothing of what it was asked.
fn is_unknown_endpoint(error: &PeerError) -> bool {
    match error {
        PeerError::Refused { errcode: ErrorKind::Unrecognized, .. } => true,
        // Servers of old, and proxies, say it in other words.
        PeerError::Refused { status, errcode: ErrorKind::Unknown, .. } => {
            matches!(status.as_u16(), 400 | 404 | 405 | 501)
        }
        _ => false,
    }
}

/// What thumbnails may be.
const PICTURES: [&str; 5] = ["image/png", "image/apng", "image/jpeg", "image/gif", "image/webp"];

/// Whether a file is served as a picture.
fn says_picture(stored: &Stored) -> bool {
    let kind = stored.content_type.as_deref().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    PICTURES.contains(&kind.as_str())
}

fn found(answer: http::Response<Pieces>) -> Found {
    use futures_util::{StreamExt, TryStreamExt};
    let (parts, pieces) = answer.into_parts();
    let mut offered = offered(&parts.headers);
    offered.size = length(&parts.headers);
    let body = pieces.map_err(|error| MediaError::Unreachable(error.to_string())).boxed();
    Found { offered, body }
}

/// How long a body is that comes with these headers, if they say so.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What headers say about a file. What is too long is not said at all.
fn offered(headers: &HeaderMap) -> Offered {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let disposition = headers.get(header::CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
    let name = disposition.and_then(|disposition| disposition.filename);
    Offered {
        content_type: kind.filter(|kind| kind.len() <= MEDIA_TYPE_BYTES_MAX).map(String::from),
        filename: name.filter(|name| name.len() <= MEDIA_NAME_BYTES_MAX),
        size: None,
    }
}
