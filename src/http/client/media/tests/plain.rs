//! What clients do every day.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use ruma::{OwnedServerName, owned_server_name, user_id};
use serde_json::{json, value::RawValue};

use super::scene::Server;
use crate::{
    log::Commit,
    store::table::{Rows, TableId},
};

#[tokio::test]
async fn what_is_uploaded_comes_down_again() {
    let server = Server::new().await;
    let address = server.upload("image/png", "?filename=a%20cat.png", "cat").await;
    let answer = server.download(&address).await;
    assert_eq!((answer.status, &*answer.bytes), (200, &b"cat"[..]));
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(answer.header("content-disposition"), "inline; filename=\"a cat.png\"");
    assert_eq!(answer.header("content-length"), "3");
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
    // Another name, as the path says.
    let named = server.download(&format!("{address}/d%C3%B6g.png")).await;
    assert_eq!(named.header("content-disposition"), "inline; filename*=utf-8''d%C3%B6g.png");
    // Bob is another user of this server.
    let path = format!("/_matrix/client/v1/media/download/{address}");
    assert_eq!(server.get(&server.bob, &path).await.bytes, "cat");
    let head = server.send(&server.bob, &format!("HEAD {path}"), (&[], Body::empty())).await;
    assert_eq!((head.status, head.header("content-length"), head.bytes.len()), (200, "3", 0));
    // Without a name or a type, neither is made up.
    let bare = server.upload("", "", "text").await;
    let answer = server.download(&bare).await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-disposition"), "attachment");
    assert_eq!(server.files().len(), 2, "nothing is left over: {:?}", server.files());
}

#[tokio::test]
async fn parts_of_a_file() {
    let server = Server::new().await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let address = server.upload("video/mp4", "", bytes.clone()).await;
    let path = format!("GET /_matrix/client/v1/media/download/{address}");
    let part = server.send(&server.alice, &path, (&[("range", "bytes=200000-299999")], Body::empty())).await;
    assert_eq!((part.status, &*part.bytes), (206, &bytes[200_000..]));
    assert_eq!(part.header("content-range"), "bytes 200000-299999/300000");
    let beyond = server.send(&server.alice, &path, (&[("range", "bytes=300000-")], Body::empty())).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */300000"));
    let tag = part.header("etag").to_owned();
    let known = server.send(&server.alice, &path, (&[("if-none-match", &tag)], Body::empty())).await;
    assert_eq!((known.status, known.bytes.len()), (304, 0));
    let none = server.upload("text/plain", "", "").await;
    assert_eq!((server.download(&none).await.status, server.download(&none).await.bytes.len()), (200, 0));
}

#[tokio::test]
async fn an_address_first_and_the_file_later() {
    let server = Server::new().await;
    let reserve = || server.send(&server.alice, "POST /_matrix/media/v1/create", (&[], Body::empty()));
    let put = |token: &str, address: &str, text: &'static str| {
        let (token, request) = (token.to_owned(), format!("PUT /_matrix/media/v3/upload/{address}"));
        let server = &server;
        async move { server.send(&token, &request, (&[("content-type", "text/plain")], Body::from(text))).await }
    };
    let made = reserve().await.json();
    assert_eq!(made["unused_expires_at"], 1_700_000_000_000_u64 + 86_400_000);
    let address = made["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let early = format!("/_matrix/client/v1/media/download/{address}?timeout_ms=0");
    assert_eq!(server.get(&server.bob, &early).await.refusal(), "504 M_NOT_YET_UPLOADED");
    // Without a token nothing is waited for, and nothing is given out later.
    let open = format!("/_matrix/media/v3/download/{address}");
    assert_eq!(server.get("", &open).await.refusal(), "504 M_NOT_YET_UPLOADED");
    assert_eq!(put(&server.bob, &address, "no").await.refusal(), "403 M_FORBIDDEN");
    // Whoever waits gets it as soon as it is there.
    let patient = format!("/_matrix/client/v1/media/download/{address}?timeout_ms=60000");
    let (waited, sent) = tokio::join!(server.get(&server.bob, &patient), put(&server.alice, &address, "yes"));
    assert_eq!((sent.status, waited.status, &*waited.bytes), (200, 200, &b"yes"[..]));
    assert_eq!(server.get("", &open).await.refusal(), "404 M_NOT_FOUND");
    assert_eq!(put(&server.alice, &address, "again").await.refusal(), "409 M_CANNOT_OVERWRITE_MEDIA");
    assert_eq!(put(&server.alice, "localhost/unknown", "x").await.refusal(), "404 M_NOT_FOUND");
    assert_eq!(put(&server.alice, "elsewhere.org/unknown", "x").await.refusal(), "404 M_NOT_FOUND");
    // After a day it is too late.
    let address = reserve().await.json()["content_uri"].as_str().unwrap()["mxc://".len()..].to_owned();
    server.clock.advance(Duration::from_secs(86_400));
    assert_eq!(put(&server.alice, &address, "late").await.refusal(), "404 M_NOT_FOUND");
    let late = format!("/_matrix/client/v1/media/download/{address}");
    assert_eq!(server.get(&server.bob, &late).await.refusal(), "404 M_NOT_FOUND");
    let late = format!("/_matrix/media/v3/download/{address}");
    assert_eq!(server.get("", &late).await.refusal(), "404 M_NOT_FOUND");
    // So many, and no more; those that have expired do not count.
    for _ in 0..100 {
        assert_eq!(reserve().await.status, 200);
    }
    assert_eq!(reserve().await.refusal(), "429 M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn limits_are_told_and_kept() {
    let server = Server::with(|config| config.media.quota_mib = 2).await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config", "/_matrix/media/r0/config"] {
        assert_eq!(
            server.get(&server.alice, path).await.json(),
            json!({ "m.upload.size": 1 << 20 }),
            "{path}"
        );
        assert_eq!(server.get("", path).await.refusal(), "401 M_MISSING_TOKEN", "{path}");
    }
    let send = |body: Body| server.send(&server.alice, "POST /_matrix/media/v3/upload", (&[], body));
    assert_eq!(send(Body::from(vec![0; (1 << 20) + 1])).await.refusal(), "413 M_TOO_LARGE");
    // Who does not say how much it will be is cut off.
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16])));
    assert_eq!(send(Body::from_stream(endless)).await.refusal(), "413 M_TOO_LARGE");
    let broken = stream::iter([Ok(Bytes::from("a")), Err(std::io::Error::other("gone"))]);
    assert_eq!(send(Body::from_stream(broken)).await.refusal(), "400 M_UNKNOWN");
    assert_eq!(server.files(), Vec::<std::path::PathBuf>::new());
    for n in 0..2_u8 {
        assert_eq!(send(Body::from(vec![n; 1 << 20])).await.status, 200);
    }
    assert_eq!(send(Body::from("x")).await.refusal(), "403 M_FORBIDDEN");
    let chunked = stream::iter([Ok::<_, std::io::Error>(Bytes::from("x"))]);
    assert_eq!(send(Body::from_stream(chunked)).await.refusal(), "403 M_FORBIDDEN");
    assert_eq!(server.files().len(), 2, "what was refused has left nothing");
    let other = server.send(&server.bob, "POST /_matrix/media/v3/upload", (&[], Body::from("x"))).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn the_same_bytes_are_kept_once_and_as_long_as_somebody_needs_them() {
    let server = Server::new().await;
    let first = server.upload("text/plain", "", "the same").await;
    let second = server.upload("image/png", "", "the same").await;
    assert_ne!(first, second);
    assert_eq!(server.files().len(), 1);
    let id = |address: &str| address.split_once('/').unwrap().1.to_owned();
    let here = owned_server_name!("localhost");
    assert!(server.app.media.delete(&here, &id(&first)).await.unwrap());
    assert_eq!(server.download(&first).await.refusal(), "404 M_NOT_FOUND");
    let still = server.download(&second).await;
    assert_eq!((still.header("content-type"), &*still.bytes), ("image/png", &b"the same"[..]));
    assert!(server.app.media.delete(&here, &id(&second)).await.unwrap());
    assert!(!server.app.media.delete(&here, &id(&second)).await.unwrap());
    assert_eq!(server.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(server.app.media.usage(user_id!("@alice:localhost")).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn what_a_crash_leaves_is_removed_at_the_start() {
    let server = Server::new().await;
    let address = server.upload("text/plain", "", "kept").await;
    let kept = server.files();
    let kept = kept.first().unwrap();
    let folder = kept.ancestors().nth(3).unwrap();
    let incoming = folder.join("incoming");
    // One that arrived halfway; one that was placed but whose row was not written; one whose row was written.
    std::fs::write(incoming.join("new-abc"), "half").unwrap();
    let lost = format!("f{}-abcdefgh", "ab".repeat(32));
    std::fs::write(incoming.join(&lost), "lost").unwrap();
    std::fs::create_dir_all(folder.join("files/ab")).unwrap();
    std::fs::write(folder.join("files/ab").join(&lost), "lost").unwrap();
    std::fs::write(incoming.join(kept.file_name().unwrap()), "kept").unwrap();
    assert_eq!(server.files().len(), 5);
    server.app.media.recover().await.unwrap();
    assert_eq!(server.files(), std::slice::from_ref(kept));
    assert_eq!(server.download(&address).await.bytes, "kept");
}

/// However many thumbnails another server has made of an image, all of them are quarantined and deleted with it.
#[tokio::test]
async fn all_thumbnails_of_another_server_go_the_way_of_their_image() {
    let server = Server::new().await;
    // As they are written, byte for byte.
    let media: Rows<(OwnedServerName, String), Box<RawValue>> = Rows::new(TableId::Media);
    let item = String::from(r#"{"kind":"cached","created_ms":1,"seen_ms":1}"#);
    let item = RawValue::from_string(item).unwrap();
    let (log, name) = (server.app.log.clone(), owned_server_name!("x.org"));
    let mut commit = Commit::new();
    for number in 0..300 {
        commit.put(&media, &(name.clone(), format!("id?{number}x{number}-crop")), &item);
    }
    log.commit(commit).await.unwrap();
    server.app.media.quarantine(&name, "id", true).await.unwrap();
    let rows = log.db().range(&media, &(name.clone(),), 1_000).await.unwrap();
    assert_eq!(rows.len(), 301, "the image and its thumbnails");
    assert!(rows.iter().all(|(_, item)| item.get().ends_with(r#""quarantined":true}"#)));
    server.app.media.quarantine(&name, "id", false).await.unwrap();
    assert!(log.db().range(&media, &(name,), 1_000).await.unwrap().is_empty());
}
