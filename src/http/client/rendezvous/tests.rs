//! Two devices meet, in both dialects.

use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    config::Config,
    http::{App, Peer, endpoints, tests::services_with},
    limits::{RENDEZVOUS_BYTES_MAX, RENDEZVOUS_PER_MINUTE},
    peer::Isolated,
};

const NEW: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";
const OLD: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";

struct Scene(axum::Router);

impl Scene {
    async fn new(base_url: Option<&str>) -> Self {
        let config = Config { public_base_url: base_url.map(str::to_owned), ..Config::default() };
        let app = App::new(services_with(config, std::sync::Arc::new(Isolated)).await);
        Self(endpoints().into_router(app))
    }

    async fn ask(&self, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
        self.ask_from(None, request, (headers, body)).await
    }

    async fn ask_from(
        &self,
        ip: Option<&str>,
        request: &str,
        (headers, body): (&[(&str, &str)], &str),
    ) -> (u16, HeaderMap, String) {
        let (method, path) = request.split_once(' ').unwrap();
        let peer = Peer { ip: ip.map(|ip| ip.parse().unwrap()), ..Peer::default() };
        let mut builder = Request::builder().method(method).uri(path).extension(peer);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.0.clone().oneshot(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status.as_u16(), parts.headers, text)
    }

    async fn json(&self, request: &str, body: Value) -> (u16, Value) {
        let (status, _, text) = self.ask(request, &[], &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test]
async fn devices_meet_in_the_dialect_of_msc4388() {
    let scene = Scene::new(Some("https://matrix.localhost")).await;
    assert_eq!(
        scene.json(&format!("GET {NEW}"), json!({})).await,
        (200, json!({ "create_available": true }))
    );
    let (_, met) = scene.json(&format!("POST {NEW}"), json!({ "data": "one" })).await;
    let one = format!("{NEW}/{}", met["id"].as_str().unwrap());
    let (_, read) = scene.json(&format!("GET {one}"), json!({})).await;
    assert_eq!((&read["data"], &read["sequence_token"]), (&json!("one"), &met["sequence_token"]));
    assert_eq!(read["expires_in_ms"], 120_000);
    let say = |sequence: &Value, data: &str| json!({ "sequence_token": sequence, "data": data });
    let (_, said) = scene.json(&format!("PUT {one}"), say(&met["sequence_token"], "two")).await;
    let (status, late) = scene.json(&format!("PUT {one}"), say(&met["sequence_token"], "three")).await;
    assert_eq!((status, &late["errcode"]), (409, &json!("M_CONCURRENT_WRITE")));
    let long = "x".repeat(RENDEZVOUS_BYTES_MAX + 1);
    let (status, large) = scene.json(&format!("PUT {one}"), say(&said["sequence_token"], &long)).await;
    assert_eq!((status, &large["errcode"]), (413, &json!("M_TOO_LARGE")));
    assert_eq!(scene.json(&format!("DELETE {one}"), json!({})).await, (200, json!({})));
    for method in ["GET", "DELETE"] {
        assert_eq!(scene.json(&format!("{method} {one}"), json!({})).await.0, 404);
    }
}

#[tokio::test]
async fn devices_meet_in_the_dialect_of_2024() {
    let scene = Scene::new(Some("https://matrix.localhost")).await;
    let text = [("content-type", "text/plain")];
    let (status, headers, body) = scene.ask(&format!("POST {OLD}"), &text, "one").await;
    let url: Value = serde_json::from_str(&body).unwrap();
    let one = url["url"].as_str().unwrap().strip_prefix("https://matrix.localhost").unwrap().to_owned();
    let first = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((status, headers["expires"].to_str().unwrap()), (201, "Thu, 01 Jan 1970 00:02:00 GMT"));
    let (status, headers, body) = scene.ask(&format!("GET {one}"), &[], "").await;
    assert_eq!(
        (status, body.as_str(), headers["content-type"].to_str().unwrap()),
        (200, "one", "text/plain")
    );
    assert_eq!(scene.ask(&format!("GET {one}"), &[("if-none-match", &first)], "").await.0, 304);
    let (status, headers, _) = scene.ask(&format!("PUT {one}"), &[("if-match", &first)], "two").await;
    let second = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(status, 202);
    let (status, _, body) = scene.ask(&format!("PUT {one}"), &[("if-match", &first)], "three").await;
    assert!(status == 412 && body.contains("M_CONCURRENT_WRITE"), "{body}");
    assert_eq!(scene.ask(&format!("PUT {one}"), &[], "three").await.0, 400);
    let (status, _, body) = scene.ask(&format!("GET {one}"), &[("if-none-match", &first)], "").await;
    assert_eq!((status, body.as_str()), (200, "two"));
    assert_eq!(scene.ask(&format!("GET {one}"), &[("if-none-match", &second)], "").await.0, 304);
    assert_eq!(scene.ask(&format!("DELETE {one}"), &[], "").await.0, 204);
    assert_eq!(scene.ask(&format!("GET {one}"), &[], "").await.0, 404);
}

/// One address does not use up what is there for everybody, in neither dialect.
#[tokio::test]
async fn one_address_does_not_keep_the_others_from_signing_in() {
    let scene = Scene::new(Some("https://matrix.localhost")).await;
    let text = [("content-type", "text/plain")];
    let mut begun = 0;
    for turn in 0..=RENDEZVOUS_PER_MINUTE {
        let (path, body) = if turn % 2 == 0 { (OLD, "one") } else { (NEW, r#"{"data":"one"}"#) };
        let (status, ..) = scene.ask_from(Some("1.1.1.1"), &format!("POST {path}"), (&text, body)).await;
        assert!(matches!(status, 200 | 201 | 429), "{status}");
        begun += u32::from(status != 429);
    }
    assert!(begun > 5 && begun * 10 < RENDEZVOUS_PER_MINUTE, "{begun}");
    for (path, body, expected) in [(OLD, "one", 201), (NEW, r#"{"data":"one"}"#, 200)] {
        let (status, ..) = scene.ask_from(Some("2.2.2.2"), &format!("POST {path}"), (&text, body)).await;
        assert_eq!(status, expected, "{path}");
    }
}

#[tokio::test]
async fn versions_tell_of_it_only_when_devices_can_be_signed_in() {
    for (base_url, expected) in [(Some("https://matrix.localhost"), true), (None, false)] {
        let scene = Scene::new(base_url).await;
        let (_, versions) = scene.json("GET /_matrix/client/versions", json!({})).await;
        for feature in super::FEATURES {
            assert_eq!(versions["unstable_features"].get(feature).is_some(), expected, "{feature}");
        }
        let status = scene.json(&format!("GET {NEW}"), json!({})).await.0;
        assert_eq!(status == 200, expected);
    }
}
