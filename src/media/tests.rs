//! Files without HTTP: who waits for whom, and what is kept within which bounds.

use std::{
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, poll, stream};
use http::{Request, Response};
use image::{DynamicImage, ImageFormat, RgbImage};
use ruma::{ServerName, owned_server_name, server_name, user_id};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    Door, Media, MediaError, Method, Offered, Place, Settings, Shape, Wanted,
    rows::{PREVIEWS, Preview},
};
use crate::{
    keys::SigningKey,
    limits::{MEDIA_FETCHES_EACH_MAX, MEDIA_FETCHES_MAX, MEDIA_UNFIT_KEEP},
    log::{Commit, Log},
    peer::{self, Net, NetError, Peers, Pieces},
    store::{BoxFuture, Db, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

/// A network in which `slow.test` answers nobody until it fails, and all others have one file.
struct Slow {
    asked: AtomicUsize,
    fails: Semaphore,
}

const HEAD: &str =
    "--abc\r\ncontent-type: application/json\r\n\r\n{}\r\n--abc\r\ncontent-type: text/plain\r\n\r\n";

impl Net for Slow {
    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        _: Request<Bytes>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Response<Pieces>, NetError>> {
        Box::pin(async move {
            if server == "slow.test" {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let _ = self.fails.acquire().await;
                return Err(NetError::Timeout);
            }
            let answer = Response::builder().header("content-type", "multipart/mixed; boundary=abc");
            let body = Bytes::from(format!("{HEAD}hello\r\n--abc--\r\n"));
            Ok(answer.body(stream::iter([Ok(body)]).boxed()).unwrap())
        })
    }
}

struct World {
    media: Media,
    net: Arc<Slow>,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl World {
    async fn new(cache_bytes_max: u64) -> Self {
        let (folder, tasks) = (TempDir::new().unwrap(), TaskTracker::new());
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)) };
        let log = Log::open(Db::new(Arc::new(Memory::new())), &tasks).await.unwrap();
        let net = Arc::new(Slow { asked: AtomicUsize::new(0), fails: Semaphore::new(0) });
        let key = Arc::new(SigningKey::from_seed(owned_server_name!("here.test"), "1", [1; 32]).unwrap());
        let peers = Peers::new(net.clone(), log.clone(), ports.clone(), key, peer::Settings::default());
        let settings = Settings {
            place: Place {
                folder: folder.path().join("media"),
                url: None,
                options: std::collections::BTreeMap::default(),
            },
            upload_bytes_max: 1 << 20,
            quota_bytes: None,
            remote_bytes_max: 1 << 20,
            cache_bytes_max,
            local_keep_ms: None,
            remote_keep_ms: None,
            previews: None,
            unauthenticated_before_ms: 0,
        };
        let media = Media::open(log, ports, peers, settings, tasks).unwrap();
        Self { media, net, clock, _folder: folder }
    }

    /// The media id of what alice uploads.
    async fn upload(&self, bytes: Vec<u8>) -> String {
        let body = stream::iter([Ok(Bytes::from(bytes))]).boxed();
        let uploaded = self.media.upload(user_id!("@alice:here.test"), Offered::default(), body).await;
        uploaded.unwrap().media_id().unwrap().to_owned()
    }
}

fn wanted<'a>(server: &'a ServerName, id: &'a str) -> Wanted<'a> {
    Wanted { server, id, door: Door::User, timeout: Duration::from_secs(1), allow_remote: true }
}

#[tokio::test]
async fn one_slow_server_keeps_nobody_from_the_files_of_others() {
    let world = World::new(1 << 30).await;
    let ids: Vec<String> = (0..MEDIA_FETCHES_MAX + 10).map(|number| number.to_string()).collect();
    let slow = server_name!("slow.test");
    let mut waiting: Vec<_> = ids.iter().map(|id| Box::pin(world.media.find(wanted(slow, id)))).collect();
    while world.net.asked.load(Ordering::SeqCst) < MEDIA_FETCHES_EACH_MAX {
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        tokio::task::yield_now().await;
    }
    let quick = world.media.find(wanted(server_name!("quick.test"), "abc"));
    let file = tokio::time::timeout(Duration::from_secs(30), quick).await.unwrap().unwrap();
    assert_eq!(file.size, 5);
    // Those who come after it has failed do not ask it again.
    world.net.fails.add_permits(MEDIA_FETCHES_EACH_MAX);
    for one in waiting {
        assert!(matches!(one.await, Err(MediaError::Unreachable(_))));
    }
    assert_eq!(world.net.asked.load(Ordering::SeqCst), MEDIA_FETCHES_EACH_MAX);
}

fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::new(400, 400)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn shape(side: u64) -> Shape {
    Shape::fitting(side, side, Method::Crop, false).unwrap()
}

#[tokio::test]
async fn each_has_one_thumbnail_made_at_a_time() {
    let world = World::new(1 << 30).await;
    let here = server_name!("here.test");
    let id = world.upload(picture()).await;
    let busy = world.media.drawing_each.enter("alice").await;
    let mut second = Box::pin(world.media.thumbnail(wanted(here, &id), shape(96), Some("alice")));
    for _ in 0..20 {
        assert!(poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    // Not even for the same one has anybody to wait for those who ask much.
    for asker in [Some("bob"), None] {
        assert!(world.media.thumbnail(wanted(here, &id), shape(96), asker).await.is_ok());
    }
    drop(busy);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn what_has_no_thumbnail_is_not_looked_at_again_and_again() {
    let world = World::new(1 << 30).await;
    let here = server_name!("here.test");
    let id = world.upload(b"no image".to_vec()).await;
    let ask = async || world.media.thumbnail(wanted(here, &id), shape(96), None).await;
    assert!(matches!(ask().await, Err(MediaError::NoThumbnail(_))));
    // Nothing can be drawn at the moment, and nothing is.
    let all = world.media.drawing.acquire_many(2).await.unwrap();
    assert!(matches!(ask().await, Err(MediaError::NoThumbnail(_))));
    world.clock.advance(MEDIA_UNFIT_KEEP);
    let mut again = Box::pin(ask());
    for _ in 0..20 {
        assert!(poll!(&mut again).is_pending(), "it is tried again");
        tokio::task::yield_now().await;
    }
    drop(all);
    assert!(matches!(again.await, Err(MediaError::NoThumbnail(_))));
}

#[tokio::test]
async fn previews_have_a_part_of_the_room_and_the_oldest_go() {
    let world = World::new(80_000).await;
    let url = |number: u64| format!("https://example.org/{}", number * 7_919 % 100);
    for number in 0..100 {
        world.clock.advance(Duration::from_secs(1));
        let fetched_ms = 1_000 * number;
        let data = [(String::from("og:title"), "x".repeat(1_000).into())].into_iter().collect();
        let row = Preview { fetched_ms, expires_ms: fetched_ms + 1_000_000, data: Some(data) };
        world.media.make_room_for_preview(row.bytes(&url(number))).await.unwrap();
        let mut commit = Commit::new();
        commit.put(&PREVIEWS, &(url(number),), &row);
        world.media.log.commit(commit).await.unwrap();
        let rows = world.media.preview_rows().await.unwrap();
        let bytes: u64 = rows.iter().map(|(_, bytes, _)| bytes).sum();
        assert!(bytes <= 10_000, "{number}: {bytes}");
        let oldest = rows.iter().map(|(fetched_ms, ..)| fetched_ms / 1_000).min();
        let count = u64::try_from(rows.len()).unwrap();
        assert_eq!(oldest, Some(number + 1 - count), "the latest are here");
        assert!(count >= 4 || number < 4, "{number}: {count}");
    }
}
