//! What attackers do.

use axum::body::Body;
use image::ImageFormat;
use ruma::server_name;

use super::{scene::Server, thumbnails::picture};
use crate::{
    http::endpoints,
    media::{Door, MediaError, Method, Shape, Wanted},
};

/// Every path by which clients get a file, or a thumbnail of it.
fn doors(address: &str) -> Vec<String> {
    let (server, id) = address.split_once('/').unwrap();
    let routes = endpoints();
    let paths = routes.listed().iter().map(|(_, path)| *path).filter(|path| {
        let is_file = path.contains("/media/download/") || path.contains("/media/thumbnail/");
        let is_old = path.contains("/download/{server_name}") || path.contains("/thumbnail/{server_name}");
        (is_file || is_old) && !path.contains("/federation/")
    });
    let path = |path: &str| {
        let path = path.replace("{server_name}", server).replace("{media_id}", id);
        let path = path.replace("{filename}", "name.png");
        if path.contains("/thumbnail/") { format!("{path}?width=32&height=32&method=crop") } else { path }
    };
    let found: Vec<String> = paths.map(path).collect();
    assert_eq!(found.len(), 15, "{found:?}");
    found
}

/// Row 6.1: paths made of addresses.
#[tokio::test]
async fn row_6_1_an_address_never_becomes_a_path() {
    let server = Server::new().await;
    let address = server.upload("text/plain", "?filename=..%2F..%2Fx", "bait").await;
    // A name is only ever a header.
    let disposition = server.download(&address).await.header("content-disposition").to_owned();
    assert!(disposition.starts_with("inline; filename=") && disposition.contains("../../x"), "{disposition}");
    let (_, id) = address.split_once('/').unwrap();
    for bad in [
        format!("localhost/..%2F{id}"),
        String::from("localhost/..%2F..%2Fsigning.key"),
        String::from("localhost/%2e%2e"),
        String::from("localhost/a%00b"),
        format!("..%2F..%2Fetc/{id}"),
        format!("localhost%2F../{id}"),
        String::from("localhost/%F0%9F%92%A5"),
        format!("localhost/{}", "a".repeat(256)),
    ] {
        for path in [
            format!("/_matrix/client/v1/media/download/{bad}"),
            format!("/_matrix/client/v1/media/thumbnail/{bad}?width=32&height=32"),
            format!("/_matrix/media/v3/download/{bad}"),
        ] {
            let answer = server.get(&server.alice, &path).await;
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(answer.json()["errcode"].is_string(), "{path}");
        }
    }
}

/// Row 6.2: only formats that are known are looked into.
#[tokio::test]
async fn row_6_2_odd_formats_have_no_thumbnails() {
    let server = Server::new().await;
    let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"/>"#;
    let ico = b"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00\x68\x04\x00\x00\x16\x00\x00\x00";
    let bmp =
        b"BM\x1e\x00\x00\x00\x00\x00\x00\x00\x1a\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x01\x00\x01\x00\x18\x00";
    let cut = picture(900, 900, ImageFormat::Png);
    for bytes in [&svg[..], &ico[..], &bmp[..], b"%PDF-1.7", b"%!PS", b"", b"GIF89a", &cut[..cut.len() / 2]] {
        let address = server.upload("image/png", "", bytes.to_vec()).await;
        let answer = server.thumbnail(&address, "width=32&height=32").await;
        assert_eq!(answer.refusal(), "400 M_UNKNOWN", "{:?}", &bytes[..bytes.len().min(8)]);
    }
}

/// Row 6.4: however its type is spelt, no file is a page of ours.
#[tokio::test]
async fn row_6_4_headers_do_not_depend_on_how_a_type_is_spelt() {
    let server = Server::with(|config| config.media.unauthenticated_before_ts = u64::MAX).await;
    for (kind, expected) in [
        ("text/html", "attachment"),
        ("Text/HTML; charset=utf-8", "attachment"),
        ("text/html;image/png", "attachment"),
        ("image/svg+xml", "attachment"),
        ("IMAGE/SVG+XML", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("text/xml", "attachment"),
        ("application/pdf", "attachment"),
        ("application/javascript", "attachment"),
        ("multipart/mixed; boundary=x", "attachment"),
        ("nonsense", "attachment"),
        ("image/png", "inline"),
        ("IMAGE/PNG", "inline"),
        ("image/png; charset=\"text/html\"", "inline"),
        (" text/plain ; charset=utf-8", "inline"),
    ] {
        // As a picture it has a thumbnail; that is what it is, whatever the file is called.
        let address = server.upload(kind, "", picture(20, 20, ImageFormat::Png)).await;
        let mut answers = Vec::new();
        for door in doors(&address) {
            let is_small = door.contains("/thumbnail/");
            for headers in [&[][..], &[("range", "bytes=0-5")], &[("if-none-match", "*")]] {
                let request = format!("GET {door}");
                let answer = server.send(&server.alice, &request, (headers, Body::empty())).await;
                answers.push((if is_small { "inline" } else { expected }, answer));
            }
        }
        for (expected, answer) in answers {
            assert!(matches!(answer.status, 200 | 206 | 304), "{kind}: {}", answer.status);
            let disposition = answer.header("content-disposition");
            assert_eq!(disposition.split(';').next(), Some(expected), "{kind}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{kind}");
            assert!(
                answer.header("content-security-policy").starts_with("sandbox; default-src 'none'"),
                "{kind}"
            );
            assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
        }
    }
    // Names cannot break out of their header.
    for name in ["a%0D%0Aset-cookie:%20x", "a%22;%20x=%22", "%E2%80%AEgpj.exe", "%00"] {
        let address = server.upload("image/png", &format!("?filename={name}"), "x").await;
        let answer = server.download(&address).await;
        assert!(answer.header("content-disposition").starts_with("inline"), "{name}");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
}

/// Row 2.17 of the list of known vulnerabilities: what is quarantined leaves by no door, neither whole nor in part nor
/// in small, and comes back by none.
#[tokio::test]
async fn row_2_17_what_is_quarantined_leaves_by_no_door() {
    let server = Server::with(|config| config.media.unauthenticated_before_ts = u64::MAX).await;
    let image = picture(200, 200, ImageFormat::Png);
    let address = server.upload("image/png", "", image.clone()).await;
    let (_, id) = address.split_once('/').unwrap();
    for door in doors(&address) {
        assert_eq!(server.get(&server.bob, &door).await.status, 200, "{door}");
    }
    let media = &server.app.media;
    let shape = Shape::fitting(32, 32, Method::Crop, false).unwrap();
    let timeout = std::time::Duration::ZERO;
    let wanted = |door| Wanted { server: server_name!("localhost"), id, door, timeout, allow_remote: true };
    assert!(media.find(wanted(Door::Server)).await.is_ok());
    media.quarantine(server_name!("localhost"), id, true).await.unwrap();
    for door in doors(&address) {
        // Its owner gets it no more than others.
        for token in ["", &server.alice, &server.bob] {
            for headers in [&[][..], &[("range", "bytes=0-5")], &[("if-none-match", "*")]] {
                let answer = server.send(token, &format!("GET {door}"), (headers, Body::empty())).await;
                assert!(matches!(answer.status, 401 | 404), "{door}: {}", answer.status);
                assert_eq!(answer.status == 401, token.is_empty() && door.contains("/client/"), "{door}");
            }
        }
        let other = door.replace("width=32&height=32&method=crop", "width=96&height=96");
        assert_eq!(server.get(&server.bob, &other).await.refusal(), "404 M_NOT_FOUND", "{other}");
    }
    for door in [Door::Server, Door::User, Door::Open] {
        assert!(matches!(media.find(wanted(door)).await, Err(MediaError::NotFound)), "{door:?}");
        assert!(
            matches!(media.thumbnail(wanted(door), shape, None).await, Err(MediaError::NotFound)),
            "{door:?}"
        );
    }
    // Nor do the same bytes help, whichever way they come.
    let again = server.upload("image/png", "", image.clone()).await;
    let made = server.send(&server.bob, "POST /_matrix/media/v1/create", (&[], Body::empty())).await;
    let made = made.json()["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let put = format!("PUT /_matrix/media/v3/upload/{made}");
    assert_eq!(server.send(&server.bob, &put, (&[], Body::from(image))).await.status, 200);
    for address in [again, made] {
        for door in doors(&address) {
            assert_eq!(server.get(&server.bob, &door).await.refusal(), "404 M_NOT_FOUND", "{door}");
        }
    }
}

/// Row 6.6: nothing that is new is given to whoever has no token.
#[tokio::test]
async fn row_6_6_new_files_are_for_users_only() {
    let paths = |address: &str| {
        ["v3", "r0", "v1"].map(|version| {
            [
                format!("/_matrix/media/{version}/download/{address}"),
                format!("/_matrix/media/{version}/download/{address}/name.png"),
                format!("/_matrix/media/{version}/thumbnail/{address}?width=32&height=32"),
            ]
        })
    };
    let server = Server::with(|config| config.media.unauthenticated_before_ts = 1_700_000_001_000).await;
    let old = server.upload("image/png", "", picture(9, 9, ImageFormat::Png)).await;
    server.clock.advance(std::time::Duration::from_secs(1));
    let new = server.upload("image/png", "", picture(9, 9, ImageFormat::Png)).await;
    for path in paths(&old).iter().flatten() {
        let answer = server.get("", path).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=86400"), "{path}");
    }
    for path in paths(&new).iter().flatten() {
        assert_eq!(server.get("", path).await.refusal(), "404 M_NOT_FOUND", "{path}");
        // Not even a token opens this door: whoever has one knows the other.
        assert_eq!(server.get(&server.alice, path).await.refusal(), "404 M_NOT_FOUND", "{path}");
    }
    for path in [
        format!("/_matrix/client/v1/media/download/{new}"),
        format!("/_matrix/client/v1/media/thumbnail/{new}?width=32&height=32"),
    ] {
        assert_eq!(server.get("", &path).await.refusal(), "401 M_MISSING_TOKEN");
        let answer = server.get(&server.bob, &path).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "private, max-age=86400"));
    }
    let anonymous = server.send("", "POST /_matrix/media/v3/upload", (&[], Body::from("x"))).await;
    assert_eq!(anonymous.refusal(), "401 M_MISSING_TOKEN");
    // Where nothing was there before, everything is new.
    let server = Server::new().await;
    let address = server.upload("image/png", "", "x").await;
    assert_eq!(
        server.get("", &format!("/_matrix/media/v3/download/{address}")).await.refusal(),
        "404 M_NOT_FOUND"
    );
}
