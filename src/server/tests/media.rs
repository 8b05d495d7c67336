//! Files of one server for the users of another, and pages of the web, over real sockets.

use std::{future::Future, net::Ipv4Addr, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::federation::Town;
use crate::{
    account::{NewDevice, NewUser},
    http::endpoints,
    mail::{self, Letter, MailError, Post, Smtp},
    server::{Running, tls},
};

pub(super) async fn register(server: &Running, name: &str, admin: bool) -> String {
    let user = NewUser { username: Some(String::from(name)), password: None, admin };
    server.app().accounts.register(user, NewDevice::default()).await.unwrap().access_token
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    fn refusal(&self) -> String {
        format!("{} {}", self.status, self.json()["errcode"].as_str().unwrap_or("-"))
    }
}

async fn ask(server: &Running, token: &str, request: &str, body: impl Into<Body>) -> Answer {
    let (method, path) = request.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).header("content-type", "image/png");
    let request = request.header("authorization", format!("Bearer {token}")).body(body.into()).unwrap();
    let response = endpoints().into_router(server.app().clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
}

pub(super) async fn get(server: &Running, token: &str, what: &str) -> Answer {
    ask(server, token, &format!("GET /_matrix/client/v1/media/{what}"), Body::empty()).await
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 9]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

pub(super) async fn upload(server: &Running, token: &str, query: &str, bytes: Vec<u8>) -> String {
    let answer = ask(server, token, &format!("POST /_matrix/media/v3/upload{query}"), bytes).await;
    answer.json()["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
}

#[tokio::test]
async fn files_of_another_server() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let mut config = town.config("b.test", "b.test");
    config.media.remote_mib = 1;
    let b = town.start(config).await;
    let (alice, bob, root) = (
        register(&a, "alice", false).await,
        register(&b, "bob", false).await,
        register(&b, "root", true).await,
    );
    let image = picture(900, 600);
    let address = upload(&a, &alice, "?filename=%C3%BCber.png", image.clone()).await;
    // A thumbnail comes without the file.
    let small = get(&b, &bob, &format!("thumbnail/{address}?width=90&height=90&method=crop")).await;
    assert_eq!((small.status, small.header("content-type")), (200, "image/png"));
    assert_eq!(image::load_from_memory(&small.bytes).unwrap().width(), 96);
    let path = format!("download/{address}");
    let [first, second] = [get(&b, &bob, &path).await, get(&b, &bob, &path).await];
    for answer in [&first, &second] {
        assert_eq!((answer.status, &answer.bytes[..]), (200, &image[..]));
        assert_eq!(answer.header("content-type"), "image/png");
        assert_eq!(answer.header("content-disposition"), "inline; filename*=utf-8''%C3%BCber.png");
    }
    // Nobody has it fetched, or gets it, without a token.
    let open = ask(&b, "", &format!("GET /_matrix/media/v3/download/{address}"), Body::empty()).await;
    assert_eq!(open.refusal(), "404 M_NOT_FOUND");
    let missing = get(&b, &bob, "download/a.test/unknown").await;
    assert_eq!(missing.refusal(), "404 M_NOT_FOUND");
    assert_eq!(get(&b, &bob, "download/nowhere.test/unknown").await.refusal(), "502 M_UNKNOWN");
    let large = upload(&a, &alice, "", vec![1; 2 << 20]).await;
    assert_eq!(get(&b, &bob, &format!("download/{large}")).await.refusal(), "502 M_TOO_LARGE");
    // Four bytes of a PNG say how wide it is.
    let mut wide = picture(9, 9);
    wide[16..20].copy_from_slice(&[0x10, 0, 0, 0]);
    let crc = crc32fast::hash(&wide[12..29]).to_be_bytes();
    wide[29..33].copy_from_slice(&crc);
    let wide = upload(&a, &alice, "", wide).await;
    let refused = get(&b, &bob, &format!("thumbnail/{wide}?width=9&height=9")).await;
    assert_eq!(refused.refusal(), "502 M_TOO_LARGE");
    let text = upload(&a, &alice, "", b"no picture".to_vec()).await;
    let refused = get(&b, &bob, &format!("thumbnail/{text}?width=9&height=9")).await;
    assert_eq!(refused.refusal(), "400 M_UNKNOWN");
    // One that is not there yet is waited for over there.
    let made = ask(&a, &alice, "POST /_matrix/media/v1/create", Body::empty()).await.json();
    let later = made["content_uri"].as_str().unwrap()["mxc://".len()..].to_owned();
    let early = get(&b, &bob, &format!("download/{later}?timeout_ms=0")).await;
    assert_eq!(early.refusal(), "504 M_NOT_YET_UPLOADED");
    let put = format!("PUT /_matrix/media/v3/upload/{later}");
    let patient = format!("download/{later}?timeout_ms=30000");
    // Whoever waits less, and asks first, has nobody else wait less.
    let brief = format!("download/{later}?timeout_ms=200");
    let brief = async { (get(&b, &bob, &brief).await, ask(&a, &alice, &put, "there").await) };
    let ((gone, sent), waited) = tokio::join!(brief, get(&b, &bob, &patient));
    assert_eq!(gone.refusal(), "504 M_NOT_YET_UPLOADED");
    assert_eq!((sent.status, waited.status, &waited.bytes[..]), (200, 200, &b"there"[..]));
    let other = upload(&a, &alice, "", b"something else".to_vec()).await;
    let other = format!("download/{other}");
    assert_eq!(get(&b, &bob, &other).await.status, 200);
    a.stop().await.unwrap();

    // Row 2.17 of the list of known vulnerabilities: what is quarantined leaves by no door.
    let paths = [path.clone(), format!("thumbnail/{address}?width=90&height=90&method=crop")];
    let admin = |token: String, verb: &'static str| {
        let (request, b) = (format!("POST /_synapse/admin/v1/media/{verb}/{address}"), &b);
        async move { ask(b, &token, &request, Body::empty()).await.status }
    };
    assert_eq!(admin(bob.clone(), "quarantine").await, 403);
    assert_eq!(admin(root.clone(), "quarantine").await, 200);
    for path in &paths {
        assert_eq!(get(&b, &bob, path).await.refusal(), "404 M_NOT_FOUND", "{path}");
    }
    // The same bytes under another address share the fate.
    let again = upload(&b, &bob, "", image.clone()).await;
    assert_eq!(get(&b, &bob, &format!("download/{again}")).await.refusal(), "404 M_NOT_FOUND");
    assert_eq!(admin(root.clone(), "unquarantine").await, 200);
    for path in &paths {
        assert_eq!(get(&b, &bob, path).await.status, 200, "{path}");
    }
    let quarantine = other.replace("download", "POST /_synapse/admin/v1/media/quarantine");
    assert_eq!(ask(&b, &root, &quarantine, Body::empty()).await.status, 200);
    let purge = "POST /_synapse/admin/v1/purge_media_cache?before_ts=99999999999999";
    assert_eq!(ask(&b, &root, purge, Body::empty()).await.json(), json!({ "deleted": 6 }));
    assert_eq!(get(&b, &bob, &path).await.status, 502, "the other server is down");
    assert_eq!(get(&b, &bob, &other).await.refusal(), "404 M_NOT_FOUND", "it is not to be fetched again");
    assert_eq!(ask(&b, &root, purge, Body::empty()).await.json(), json!({ "deleted": 0 }));
    b.stop().await.unwrap();
}

/// One flipped byte on the disk is noticed before anybody gets it, also by whoever draws a thumbnail.
#[tokio::test]
async fn what_the_disk_has_changed_is_not_given_out() {
    let town = Town::new();
    let config = town.config("a.test", "a.test");
    let files = config.data_dir.join("media/files");
    let a = town.start(config).await;
    let alice = register(&a, "alice", false).await;
    let flip = |start: &str, at: usize| {
        let folders = std::fs::read_dir(&files).unwrap().map(Result::unwrap);
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap));
        for file in files.filter(|file| file.file_name().to_str().unwrap().starts_with(start)) {
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes[at] ^= 1;
            std::fs::write(file.path(), bytes).unwrap();
        }
    };
    let image = upload(&a, &alice, "", picture(200, 150)).await;
    let small = format!("thumbnail/{image}?width=32&height=32&method=crop");
    assert_eq!(get(&a, &alice, &small).await.status, 200);
    flip("t", 60);
    assert_eq!(get(&a, &alice, &small).await.refusal(), "500 M_UNKNOWN");
    flip("f", 60);
    assert_eq!(get(&a, &alice, &format!("download/{image}")).await.refusal(), "500 M_UNKNOWN");
    let other = format!("thumbnail/{image}?width=96&height=96&method=crop");
    assert_eq!(get(&a, &alice, &other).await.refusal(), "500 M_UNKNOWN");
    a.stop().await.unwrap();
}

/// Beginnings of paths, and what is answered there.
type Answers<'a> = &'a [(&'a str, Vec<u8>)];

/// Answers each request, whose head is written down, by its path: with the text of the longest beginning that fits.
async fn stand(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    (answers, heads): (Answers<'_>, &Mutex<Vec<String>>),
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream: Box<dyn Stream> = match tls {
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => Box::new(stream),
                Err(_) => continue,
            },
            None => Box::new(stream),
        };
        let mut head = Vec::new();
        let mut buffer = [0; 1024];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => head.extend_from_slice(&buffer[..count]),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        heads.lock().push(head);
        let fitting = answers.iter().filter(|(start, _)| path.starts_with(start));
        let answer = fitting.max_by_key(|(start, _)| start.len());
        let answer =
            answer.map_or_else(|| plain(404, "application/json", b"{}"), |(_, answer)| answer.clone());
        drop(stream.write_all(&answer).await);
        drop(stream.shutdown().await);
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

fn plain(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Does `test` while `stands` answer.
async fn while_standing<T>(stands: impl Future<Output = ()>, test: impl Future<Output = T>) -> T {
    tokio::select! {
        () = stands => unreachable!("a stand stands for ever"),
        done = test => done,
    }
}

#[tokio::test]
async fn servers_of_old_are_asked_by_the_older_way() {
    let town = Town::new();
    let b = town.start(town.config("b.test", "b.test")).await;
    let bob = register(&b, "bob", false).await;
    let (chain, key) = town.config("old.test", "old.test").listen[0].tls.clone().unwrap();
    let tls = tls::acceptor(tls::Certificate::load(&chain, &key).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    town.names.listen("old.test", listener.local_addr().unwrap().port());
    let unknown = br#"{"errcode":"M_UNRECOGNIZED","error":"?"}"#;
    let answers = [
        ("/_matrix/federation/v1/media/", plain(404, "application/json", unknown)),
        ("/_matrix/media/v3/download/old.test/abc", plain(200, "text/plain", b"from of old")),
        ("/_matrix/media/v3/download/old.test/sly", redirect("https://127.0.0.1/secret")),
        ("/_matrix/media/v3/download/old.test/sly2", redirect("http://b.test/secret")),
        ("/_matrix/media/v3/thumbnail/old.test/picture", plain(200, "image/png", &picture(32, 32))),
        ("/_matrix/media/v3/thumbnail/old.test/page", plain(200, "image/png", b"<html><script>")),
    ];
    let heads = Mutex::new(Vec::new());
    while_standing(stand(&listener, Some(&tls), (&answers, &heads)), async {
        let thumbnail = async |id: &str| {
            get(&b, &bob, &format!("thumbnail/old.test/{id}?width=32&height=32&method=crop")).await
        };
        assert_eq!(thumbnail("picture").await.bytes, picture(32, 32));
        // Whatever it is called, a page is no thumbnail.
        let page = thumbnail("page").await;
        assert!(page.status >= 400, "{}", String::from_utf8_lossy(&page.bytes));
        heads.lock().clear();
        let answer = get(&b, &bob, "download/old.test/abc").await;
        assert_eq!((answer.status, &answer.bytes[..]), (200, &b"from of old"[..]));
        let asked = std::mem::take(&mut *heads.lock());
        assert!(
            asked[0].starts_with("GET /_matrix/federation/v1/media/download/abc?timeout_ms=20000 "),
            "{asked:?}"
        );
        assert!(asked[0].contains("X-Matrix"));
        assert!(asked[1].contains("allow_remote=false") && !asked[1].contains("X-Matrix"), "{asked:?}");
        // Row 4.5 of the list of known vulnerabilities: the other server sends us into our own network.
        for id in ["sly", "sly2"] {
            let answer = get(&b, &bob, &format!("download/old.test/{id}")).await;
            assert_eq!(answer.refusal(), "502 M_UNKNOWN", "{id}");
        }
    })
    .await;
    b.stop().await.unwrap();
}

fn preview(url: &str) -> String {
    let url: String = url.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("preview_url?url={url}")
}

#[tokio::test]
async fn a_page_is_previewed_with_its_picture() {
    let town = Town::new();
    let mut config = town.config("b.test", "b.test");
    config.media.url_previews = true;
    config.media.url_preview_allow_ranges = vec!["127.0.0.0/8".parse().unwrap()];
    let b = town.start(config).await;
    let bob = register(&b, "bob", false).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    town.names.listen("page.test", port);
    let page = br#"<html><head><title>A page</title><meta property="og:image" content="/cat.png">
        <meta property="og:description" content="about cats"></head>"#;
    let broken = br#"<title>No picture</title><meta property="og:image" content="/gone.png">"#;
    let answers = [
        ("/cats", plain(200, "text/html; charset=utf-8", page)),
        ("/cat.png", plain(200, "image/png", &picture(30, 20))),
        ("/moved", redirect("/cats")),
        ("/round", redirect("/round")),
        ("/broken", plain(200, "text/html", broken)),
        ("/fake.png", plain(200, "image/png", b"<html>")),
        ("/zip", plain(200, "application/zip", b"PK")),
    ];
    let heads = Mutex::new(Vec::new());
    while_standing(stand(&listener, None, (&answers, &heads)), async {
        let url = |path: &str| preview(&format!("http://page.test:{port}{path}"));
        let first = get(&b, &bob, &url("/moved#part")).await;
        let said = first.json();
        assert_eq!((&said["og:title"], &said["og:description"]), (&json!("A page"), &json!("about cats")));
        assert_eq!((&said["og:image:width"], &said["og:image:height"]), (&json!(30), &json!(20)));
        let image = said["og:image"].as_str().unwrap().strip_prefix("mxc://").unwrap();
        assert_eq!(get(&b, &bob, &format!("download/{image}")).await.bytes, picture(30, 20));
        assert!(heads.lock()[0].contains("Lockstep/"));
        heads.lock().clear();
        assert_eq!(get(&b, &bob, &url("/moved")).await.json(), said);
        assert_eq!(*heads.lock(), Vec::<String>::new(), "it is remembered");
        assert_eq!(get(&b, &bob, &url("/broken")).await.json(), json!({ "og:title": "No picture" }));
        assert_eq!(get(&b, &bob, &url("/zip")).await.json(), json!({}));
        assert_eq!(get(&b, &bob, &url("/cat.png")).await.json()["og:image:type"], "image/png");
        for bad in ["/round", "/nothing", "/fake.png"] {
            assert_eq!(get(&b, &bob, &url(bad)).await.refusal(), "502 M_UNKNOWN", "{bad}");
        }
        for bad in ["ftp://page.test/", "nonsense", "file:///etc/passwd", "http://user@page.test/"] {
            assert_eq!(get(&b, &bob, &preview(bad)).await.refusal(), "400 M_INVALID_PARAM", "{bad}");
        }
        assert_eq!(get(&b, &bob, "preview_url").await.refusal(), "400 M_MISSING_PARAM");
    })
    .await;
    b.stop().await.unwrap();
}

/// A page, whether it is described elsewhere, and the page whose description is not to be had.
#[tokio::test]
async fn a_page_is_previewed_as_its_site_describes_it() {
    let town = Town::new();
    let mut config = town.config("b.test", "b.test");
    config.media.url_previews = true;
    config.media.url_preview_allow_ranges = vec!["127.0.0.0/8".parse().unwrap()];
    let b = town.start(config).await;
    let bob = register(&b, "bob", false).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    town.names.listen("page.test", port);
    let page = |link: &str| {
        let link = format!("<link rel=alternate type=application/json+oembed href='{link}'>");
        let text = format!("<title>Page</title><meta property=og:description content=D>{link}");
        plain(200, "text/html", text.as_bytes())
    };
    let described = json!({ "type": "rich", "title": "Described", "provider_name": "Site",
        "html": "<p>Said <b>so</b>", "thumbnail_url": "cat.png" });
    let large = json!({ "type": "rich", "title": "x".repeat(200_000) });
    let json = |answer: &Value| plain(200, "application/json", answer.to_string().as_bytes());
    let answers = [
        ("/page", page("/about/moved?format=json")),
        ("/about/moved?format=json", redirect("/about/page")),
        ("/about/page", json(&described)),
        ("/about/cat.png", plain(200, "image/png", &picture(30, 20))),
        ("/broken", page("/nothing")),
        ("/large", page("/about/large")),
        ("/about/large", json(&large)),
        ("/nonsense", page("/page")),
    ];
    let heads = Mutex::new(Vec::new());
    while_standing(stand(&listener, None, (&answers, &heads)), async {
        let url = |path: &str| preview(&format!("http://page.test:{port}{path}"));
        let said = get(&b, &bob, &url("/page")).await.json();
        assert_eq!((&said["og:title"], &said["og:site_name"]), (&json!("Described"), &json!("Site")));
        assert_eq!((&said["og:description"], &said["og:image:width"]), (&json!("Said so"), &json!(30)));
        for without in ["/broken", "/large", "/nonsense"] {
            let said = get(&b, &bob, &url(without)).await.json();
            assert_eq!(said, json!({ "og:title": "Page", "og:description": "D" }), "{without}");
        }
    })
    .await;
    b.stop().await.unwrap();
}

/// Row 4.4 of the list of known vulnerabilities (CVE-2023-32683): neither a picture nor a description, nor where these
/// lead, is at a site or an address of which no previews are made.
#[tokio::test]
async fn row_4_4_cve_2023_32683_what_a_page_leads_to_is_judged_as_the_page_is() {
    let town = Town::new();
    let mut config = town.config("b.test", "b.test");
    config.media.url_previews = true;
    config.media.url_preview_allow_ranges = vec!["127.0.0.1/32".parse().unwrap()];
    config.media.url_preview_denied_hosts = vec![String::from("denied.test")];
    let b = town.start(config).await;
    let bob = register(&b, "bob", false).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The same port at an address that previews may not connect to.
    let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await.unwrap();
    town.names.listen("page.test", port);
    town.names.listen("denied.test", port);
    let (denied, private) = (format!("http://a.denied.test:{port}/x"), format!("http://127.0.0.2:{port}/x"));
    let mut answers = Vec::new();
    for (name, target) in [("denied", &denied), ("private", &private)] {
        let picture = format!("<title>Page</title><meta property=og:image content='{target}'>");
        let link = |href: &str| {
            format!("<title>Page</title><link rel=alternate type=application/json+oembed href='{href}'>")
        };
        let about = json!({ "type": "photo", "url": target }).to_string();
        let mut add = |path: &str, answer| answers.push((format!("/{name}/{path}"), answer));
        add("picture", plain(200, "text/html", picture.as_bytes()));
        add("link", plain(200, "text/html", link(target).as_bytes()));
        add("moved", plain(200, "text/html", link(&format!("/{name}/moving")).as_bytes()));
        add("moving", redirect(target));
        add("photo", plain(200, "text/html", link(&format!("/{name}/about")).as_bytes()));
        add("about", plain(200, "application/json", about.as_bytes()));
    }
    let answers: Vec<_> = answers.iter().map(|(path, answer)| (path.as_str(), answer.clone())).collect();
    let (heads, none) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let standing = async {
        tokio::join!(stand(&listener, None, (&answers, &heads)), stand(&other, None, (&[], &none)));
    };
    while_standing(standing, async {
        for name in ["denied", "private"] {
            for path in ["picture", "link", "moved", "photo"] {
                let answer = get(&b, &bob, &preview(&format!("http://page.test:{port}/{name}/{path}"))).await;
                let mut said = answer.json();
                assert_eq!(said["og:title"], "Page", "{name} {path}: {said}");
                said.as_object_mut().unwrap().retain(|field, _| field.starts_with("og:image"));
                assert_eq!(said, json!({}), "{name} {path}");
            }
        }
    })
    .await;
    assert!(heads.lock().iter().all(|head| !head.contains("denied.test")), "{heads:?}");
    assert_eq!(heads.lock().len(), 12, "all pages, redirects and descriptions were looked at: {heads:?}");
    assert_eq!(*none.lock(), Vec::<String>::new(), "nobody has come");
    b.stop().await.unwrap();
}

/// Rows 4.1 to 4.5 of the list of known vulnerabilities: no address, name, redirect or picture leads into our network,
/// although other servers may be there.
#[tokio::test]
async fn previews_do_not_look_into_our_network() {
    let town = Town::new();
    let mut config = town.config("b.test", "b.test");
    config.media.url_previews = true;
    let b = town.start(config).await;
    let bob = register(&b, "bob", false).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    town.names.listen("page.test", port);
    let heads = Arc::new(Mutex::new(Vec::new()));
    let answers = [("/", plain(200, "text/html", b"<title>secret</title>"))];
    while_standing(stand(&listener, None, (&answers, &heads)), async {
        for host in [
            "page.test",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "0.0.0.0",
            "[::]",
            "169.254.169.254",
        ] {
            for scheme in ["http", "https"] {
                let answer = get(&b, &bob, &preview(&format!("{scheme}://{host}:{port}/"))).await;
                assert_eq!(answer.refusal(), "502 M_UNKNOWN", "{scheme} {host}");
            }
        }
    })
    .await;
    assert_eq!(*heads.lock(), Vec::<String>::new(), "nobody has come");
    b.stop().await.unwrap();
    // Where there are none, there is no such endpoint.
    let c = town.start(town.config("c.test", "c.test")).await;
    let carol = register(&c, "carol", false).await;
    assert_eq!(get(&c, &carol, &preview("https://example.org/")).await.refusal(), "404 M_UNRECOGNIZED");
    c.stop().await.unwrap();
}

/// Row 4.9 of the list of known vulnerabilities (CVE-2023-38686: certificates of mail servers were not looked at), and
/// headers through what somebody else has written.
#[tokio::test]
async fn row_4_9_letters_go_to_mail_servers_that_prove_who_they_are() {
    let town = Town::new();
    let (chain, key) = town.config("mail.test", "mail.test").listen[0].tls.clone().unwrap();
    let tls = tls::acceptor(tls::Certificate::load(&chain, &key).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let letter =
        |to: &str| Letter { to: to.into(), subject: "x\r\nbcc: eve@example.org".into(), ..Letter::default() };
    let smtp = |protection| {
        let port = Some(listener.local_addr().unwrap().port());
        let (host, from) = ("localhost".to_owned(), "a@example.org".to_owned());
        Smtp::new(&mail::Settings { host, port, protection, login: None, from }).unwrap()
    };
    let heads = Mutex::new(Vec::new());
    while_standing(stand(&listener, Some(&tls), (&[], &heads)), async {
        // Its certificate is of an authority that nobody knows, and of another name.
        let sent = smtp(mail::Protection::Tls).send(letter("bob@example.org")).await;
        assert!(matches!(sent, Err(MailError::Smtp(_))), "{sent:?}");
        for to in ["bob@example.org, eve@example.org", "bob@example.org\r\nbcc: eve@example.org", ""] {
            let sent = smtp(mail::Protection::Tls).send(letter(to)).await;
            assert!(matches!(sent, Err(MailError::Address(_))), "{to:?}: {sent:?}");
        }
    })
    .await;
    assert!(heads.lock().is_empty(), "nothing was said to it");
}
