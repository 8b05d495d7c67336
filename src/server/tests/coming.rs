//! Files of another server that are given out while they come, over real sockets.

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use super::{federation::Town, media::register};
use crate::{config::Config, http::endpoints, server::Running};

/// The server `slow.test`, which says what the test has it say.
struct Slow {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Slow {
    async fn new(town: &Town) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        town.names.listen("slow.test", listener.local_addr().unwrap().port());
        Self { listener, tls: town.acceptor("slow.test") }
    }

    /// Waits for the next request for a file, and answers with what there is before the file, and its `start`.
    async fn begin(&self, start: &[u8]) -> TlsStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = self.tls.accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"GET /_matrix/federation/v1/media/download/"));
        let before = "HTTP/1.1 200 X\r\ncontent-type: multipart/mixed; boundary=abc\r\nconnection: close\r\n\r\n\
                      --abc\r\ncontent-type: application/json\r\n\r\n{}\r\n--abc\r\ncontent-type: image/png\r\n\
                      content-disposition: attachment; filename=\"a.png\"\r\n\r\n";
        stream.write_all(&[before.as_bytes(), start].concat()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// The same, with all of a file.
    async fn all(&self, bytes: &[u8]) {
        let mut stream = self.begin(bytes).await;
        end(&mut stream, b"").await;
    }
}

/// The rest of a file, and what comes after it.
async fn end(stream: &mut TlsStream<TcpStream>, rest: &[u8]) {
    stream.write_all(&[rest, b"\r\n--abc--\r\n"].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
}

fn wish(token: &str, id: &str) -> Request<Body> {
    let request = Request::builder().uri(format!("/_matrix/client/v1/media/download/slow.test/{id}"));
    request.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap()
}

/// A server that knows how everything begins that is quarantined.
async fn start(town: &Town, config: Config) -> Running {
    let server = town.start(config).await;
    assert_eq!(server.app().media.learn_heads().await.unwrap(), 0);
    server
}

async fn ask(server: &Running, request: Request<Body>) -> Response<Body> {
    endpoints().into_router(server.app().clone()).oneshot(request).await.unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn read(body: &mut Body, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    bytes
}

async fn whole(response: Response<Body>) -> Result<Bytes, axum::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn the_first_bytes_are_given_before_the_last_have_come_to_all_who_ask() {
    let town = Town::new();
    let b = start(&town, town.config("b.test", "b.test")).await;
    let bob = register(&b, "bob", false).await;
    let slow = Slow::new(&town).await;
    let bytes = content(300_000);
    // Only one request is answered.
    let (mut stream, first, second) =
        tokio::join!(slow.begin(&bytes[..1_000]), ask(&b, wish(&bob, "abc")), ask(&b, wish(&bob, "abc")));
    for response in [&first, &second] {
        assert_eq!(response.status(), 200);
        assert_eq!(header(response, "content-type"), Some("image/png"));
        assert_eq!(header(response, "content-disposition"), Some("inline; filename=a.png"));
        assert_eq!(header(response, "x-content-type-options"), Some("nosniff"));
        assert!(header(response, "content-security-policy").is_some_and(|policy| policy.contains("sandbox")));
        assert_eq!(header(response, "cache-control"), Some("private, max-age=86400"));
        assert_eq!((header(response, "content-length"), header(response, "etag")), (None, None));
    }
    let mut first = first.into_body();
    // The delimiter might begin in the last few bytes, so those are kept back.
    let start = read(&mut first, 990).await;
    assert_eq!(start, bytes[..start.len()]);
    let (third, ()) = tokio::join!(ask(&b, wish(&bob, "abc")), end(&mut stream, &bytes[1_000..]));
    let rest = first.collect().await.unwrap().to_bytes();
    assert!([start.as_slice(), &rest].concat() == bytes);
    assert!(whole(second).await.unwrap() == bytes && whole(third).await.unwrap() == bytes);
    // Now it is here.
    let kept = ask(&b, wish(&bob, "abc")).await;
    assert_eq!(header(&kept, "content-length"), Some("300000"));
    assert!(header(&kept, "etag").is_some() && whole(kept).await.unwrap() == bytes);
    b.stop().await.unwrap();
}

#[tokio::test]
async fn what_breaks_off_or_is_too_large_breaks_off_for_all_and_is_not_kept() {
    let town = Town::new();
    let mut config = town.config("b.test", "b.test");
    config.media.remote_mib = 1;
    let media = config.data_dir.join("media");
    let b = start(&town, config).await;
    let bob = register(&b, "bob", false).await;
    let slow = Slow::new(&town).await;
    let bytes = content(2 << 20);
    for (id, more) in [("broken", 0), ("large", bytes.len())] {
        let (mut stream, first, second) =
            tokio::join!(slow.begin(&bytes[..1_000]), ask(&b, wish(&bob, id)), ask(&b, wish(&bob, id)));
        assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
        // Nobody reads all of it, so not all of it can be written.
        let ((), first, second) = tokio::join!(
            async {
                drop(stream.write_all(&bytes[..more]).await);
                drop(stream.shutdown().await);
            },
            whole(first),
            whole(second)
        );
        assert!(first.is_err() && second.is_err(), "{id}");
        assert!(!media.join("files").exists(), "{id}");
        assert_eq!(std::fs::read_dir(media.join("incoming")).unwrap().count(), 0, "{id}");
    }
    // The next one who asks has it fetched anew.
    let ((), again) = tokio::join!(slow.all(b"now it is here"), ask(&b, wish(&bob, "broken")));
    assert_eq!(whole(again).await.unwrap(), "now it is here");
    b.stop().await.unwrap();
}

#[tokio::test]
async fn who_could_not_tell_a_part_from_the_whole_waits() {
    let town = Town::new();
    let b = start(&town, town.config("b.test", "b.test")).await;
    let bob = register(&b, "bob", false).await;
    let slow = Slow::new(&town).await;
    let bytes = content(5_000);
    let mut old = wish(&bob, "one");
    *old.version_mut() = Version::HTTP_10;
    let mut part = wish(&bob, "two");
    part.headers_mut().insert("range", "bytes=100-199".parse().unwrap());
    let mut player = wish(&bob, "three");
    player.headers_mut().insert("range", "bytes=0-".parse().unwrap());
    for (request, status, length) in [(old, 200, Some("5000")), (part, 206, Some("100")), (player, 200, None)]
    {
        let sending = async {
            let mut stream = slow.begin(&bytes[..1_000]).await;
            if length.is_some() {
                end(&mut stream, &bytes[1_000..]).await;
                return None;
            }
            Some(stream)
        };
        let (stream, response) = tokio::join!(sending, ask(&b, request));
        assert_eq!((response.status().as_u16(), header(&response, "content-length")), (status, length));
        if let Some(mut stream) = stream {
            end(&mut stream, &bytes[1_000..]).await;
        }
        assert_eq!(whole(response).await.unwrap().len(), if status == 206 { 100 } else { 5_000 });
    }
    b.stop().await.unwrap();
}

async fn quarantine(server: &Running, admin: &str, id: &str) {
    let request = Request::builder().method("POST");
    let request = request.uri(format!("/_synapse/admin/v1/media/quarantine/slow.test/{id}"));
    let request = request.header("authorization", format!("Bearer {admin}")).body(Body::empty());
    assert_eq!(ask(server, request.unwrap()).await.status(), 200);
}

/// Row 2.17 of the list of known vulnerabilities: what is quarantined leaves by no door, whoever else has it.
#[tokio::test]
async fn row_2_17_what_is_quarantined_does_not_come_from_elsewhere_either() {
    let town = Town::new();
    let b = start(&town, town.config("b.test", "b.test")).await;
    let (bob, root) = (register(&b, "bob", false).await, register(&b, "root", true).await);
    let slow = Slow::new(&town).await;
    let bytes = content(5_000);
    let ((), response) = tokio::join!(slow.all(&bytes), ask(&b, wish(&bob, "bad")));
    assert_eq!(whole(response).await.unwrap().len(), 5_000);
    quarantine(&b, &root, "bad").await;
    let ((), response) = tokio::join!(slow.all(&bytes), ask(&b, wish(&bob, "bad-too")));
    assert_eq!(response.status(), 404);
    // What only begins like it is given, when all of it is here.
    let other = content(6_000);
    let ((), response) = tokio::join!(slow.all(&other), ask(&b, wish(&bob, "good")));
    assert_eq!(header(&response, "content-length"), Some("6000"));
    assert!(whole(response).await.unwrap() == other);
    b.stop().await.unwrap();
}

/// The same for what is on its way while somebody decides that.
#[tokio::test]
async fn row_2_17_what_is_quarantined_while_it_comes_is_read_no_further() {
    let town = Town::new();
    let b = start(&town, town.config("b.test", "b.test")).await;
    let (bob, root) = (register(&b, "bob", false).await, register(&b, "root", true).await);
    let slow = Slow::new(&town).await;
    let bytes = content(300_000);
    let (mut stream, response) = tokio::join!(slow.begin(&bytes[..1_000]), ask(&b, wish(&bob, "bad")));
    assert_eq!(response.status(), 200);
    quarantine(&b, &root, "bad").await;
    // Nothing more has come, and nothing has ended there.
    assert!(whole(response).await.is_err());
    let ((), again) = tokio::join!(end(&mut stream, &bytes[1_000..]), ask(&b, wish(&bob, "bad")));
    assert_eq!(again.status(), 404);
    // The same bytes come from two addresses: what becomes of one becomes of the other.
    let bytes = content(4_000);
    let ((), response) = tokio::join!(slow.all(&bytes), ask(&b, wish(&bob, "one")));
    assert_eq!(whole(response).await.unwrap().len(), 4_000);
    let (mut stream, response) = tokio::join!(slow.begin(&bytes[..1_000]), ask(&b, wish(&bob, "two")));
    assert_eq!(response.status(), 200);
    quarantine(&b, &root, "one").await;
    let ((), read) = tokio::join!(end(&mut stream, &bytes[1_000..]), whole(response));
    assert!(read.is_err(), "it does not end as what has come well");
    assert_eq!(ask(&b, wish(&bob, "two")).await.status(), 404);
    b.stop().await.unwrap();
}

/// How something begins is known though its bytes are gone; where it is not, everybody waits until all is here.
#[tokio::test]
async fn heads_outlive_what_they_are_of() {
    let town = Town::new();
    let b = start(&town, town.config("b.test", "b.test")).await;
    let (bob, root) = (register(&b, "bob", false).await, register(&b, "root", true).await);
    let media = &b.app().media;
    let slow = Slow::new(&town).await;
    let (bad, other) = (content(5_000), content(5_000).into_iter().rev().collect::<Vec<u8>>());
    let ((), response) = tokio::join!(slow.all(&bad), ask(&b, wish(&bob, "bad")));
    assert_eq!(whole(response).await.unwrap().len(), 5_000);
    quarantine(&b, &root, "bad").await;
    // Files that were there before heads were noted.
    media.forget_heads().await;
    assert_eq!(media.learn_heads().await.unwrap(), 0);
    assert_eq!(media.purge_cache(u64::MAX).await.unwrap(), 1);
    media.doubt_heads().await;
    assert_eq!(media.learn_heads().await.unwrap(), 0, "its bytes are not needed");
    let (mut stream, response) = tokio::join!(slow.begin(&other[..1_000]), ask(&b, wish(&bob, "one")));
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, None));
    end(&mut stream, &other[1_000..]).await;
    assert!(whole(response).await.unwrap() == other);
    let ((), response) = tokio::join!(slow.all(&bad), ask(&b, wish(&bob, "bad-too")));
    assert_eq!(response.status(), 404);

    // Those are gone of which it was never noted.
    media.purge_cache(u64::MAX).await.unwrap();
    media.forget_heads().await;
    assert_eq!(media.learn_heads().await.unwrap(), 1);
    let ((), response) = tokio::join!(slow.all(&other), ask(&b, wish(&bob, "two")));
    assert_eq!(header(&response, "content-length"), Some("5000"), "it was waited for");
    // They come once more, which is of no use but for this.
    let ((), response) = tokio::join!(slow.all(&bad), ask(&b, wish(&bob, "bad-again")));
    assert_eq!(response.status(), 404);
    assert_eq!(media.learn_heads().await.unwrap(), 0);
    b.stop().await.unwrap();
}
