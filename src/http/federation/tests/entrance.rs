//! Who is let in, and what is said about keys.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use ruma::{OwnedServerName, ServerName, owned_server_name, server_name};
use serde_json::Value;

use crate::{
    config::Config,
    http::{Access, App, Call, Failure, Front, Routes, Source, endpoints, tests::services_with},
    keys::{SigningKey, canonical_text, parse_object},
    limits::FEDERATION_BODY_BYTES_MAX,
    peer::{Bounds, Net, NetError, XMatrix},
    store::BoxFuture,
};

/// Everybody gives the one key that its name stands for.
struct KeysOnly;

impl Net for KeysOnly {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        assert_eq!(request.uri().path(), "/_matrix/key/v2/server");
        let key = key(server.as_str());
        let mut object = parse_object(&format!(
            r#"{{"server_name":"{server}","valid_until_ts":3600000,"old_verify_keys":{{}},"verify_keys":{{"ed25519:k":{{"key":"{}"}}}}}}"#,
            key.public_key().encode()
        ))
        .unwrap();
        key.sign_json(&mut object).unwrap();
        Box::pin(async move { Ok(http::Response::new(Bytes::from(canonical_text(&object)))) })
    }
}

fn key(server: &str) -> SigningKey {
    let mut seed = [9; 32];
    seed.iter_mut().zip(server.bytes()).for_each(|(a, b)| *a ^= b);
    SigningKey::from_seed(OwnedServerName::try_from(server).unwrap(), "k", seed).unwrap()
}

async fn front(config: Config) -> Front {
    let app = App::new(services_with(config, Arc::new(KeysOnly)).await);
    let mut routes: Routes = endpoints();
    let whose = async |_: App, call: Call| -> Result<Response, Failure> {
        Ok(Response::new(Body::from(call.origin.map(|origin| origin.0.to_string()).unwrap_or_default())))
    };
    routes.raw(Method::PUT, "/_matrix/test/{text}", Access::Signed, whose);
    Front::new(app, routes)
}

async fn answer(front: &Front, request: Request<String>) -> (u16, Value) {
    let response = front.answer(request.map(Body::from), Source::Unix).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

fn request(path: &str, body: &str) -> Request<String> {
    Request::builder().method("PUT").uri(path).body(String::from(body)).unwrap()
}

fn signed(mut request: Request<String>, from: &str, to: &ServerName) -> Request<String> {
    let proof = XMatrix::sign(&request, &key(from), to).unwrap();
    request.headers_mut().insert("authorization", proof.header());
    request
}

/// Section 2 of the list of known vulnerabilities begins with endpoints that ask nobody who they are.
#[tokio::test]
async fn only_those_who_prove_their_name_are_let_in() {
    let front = front(Config::default()).await;
    let us = server_name!("localhost");
    let plain = || request("/_matrix/test/a%2Fb", r#"{"a":1}"#);
    let good = answer(&front, signed(plain(), "b.org", us)).await;
    assert_eq!(good, (200, Value::from("b.org")));

    let mut tampered = signed(plain(), "b.org", us);
    *tampered.body_mut() = String::from(r#"{"a":2}"#);
    let mut moved = signed(plain(), "b.org", us);
    *moved.uri_mut() = "/_matrix/test/a%2Fc".parse().unwrap();
    let mut posed = signed(plain(), "c.org", us);
    let header = posed.headers()["authorization"].to_str().unwrap().replace("c.org", "b.org");
    posed.headers_mut().insert("authorization", header.parse().unwrap());
    let mut bearer = plain();
    bearer.headers_mut().insert("authorization", "Bearer token".parse().unwrap());
    let cases = [
        ("unsigned", plain()),
        ("bearer", bearer),
        ("tampered", tampered),
        ("moved", moved),
        ("posed", posed),
        ("for another server", signed(plain(), "b.org", server_name!("c.org"))),
        ("by a query", request("/_matrix/test/a?access_token=x", "{}")),
    ];
    for (name, request) in cases {
        let (status, body) = answer(&front, request).await;
        assert_eq!((status, &body["errcode"]), (401, &Value::from("M_UNAUTHORIZED")), "{name}: {body}");
    }
    let large =
        request("/_matrix/test/a", &format!("{{\"a\":\"{}\"}}", "x".repeat(FEDERATION_BODY_BYTES_MAX)));
    assert_eq!(answer(&front, large).await.0, 413);
}

#[tokio::test]
async fn we_do_not_ask_ourselves_and_may_be_left_alone() {
    let own = SigningKey::from_seed(owned_server_name!("localhost"), "1", [1; 32]).unwrap();
    let mut own_request = request("/_matrix/test/a", "{}");
    let proof = XMatrix::sign(&own_request, &own, server_name!("localhost")).unwrap();
    own_request.headers_mut().insert("authorization", proof.header());
    assert_eq!(answer(&front(Config::default()).await, own_request).await.0, 403);

    let mut config = Config::default();
    config.federation.enabled = false;
    let request = signed(request("/_matrix/test/a", "{}"), "b.org", server_name!("localhost"));
    assert_eq!(answer(&front(config).await, request).await.0, 403);
}

/// A message to a device with a fraction in it must not make the transaction that carries it unreadable.
#[tokio::test]
async fn a_body_with_fractions_can_be_signed() {
    let front = front(Config::default()).await;
    let request =
        signed(request("/_matrix/test/a", r#"{"x":1.25,"a":[1e3]}"#), "b.org", server_name!("localhost"));
    assert_eq!(answer(&front, request).await.0, 200);
}

#[tokio::test]
async fn keys_are_published_and_notarised() {
    let front = front(Config::default()).await;
    let get = |path: &str| Request::builder().uri(path).body(String::new()).unwrap();
    for path in ["/_matrix/key/v2/server", "/_matrix/key/v2/server/", "/_matrix/key/v2/server/ed25519:1"] {
        let (status, body) = answer(&front, get(path)).await;
        assert_eq!(status, 200);
        assert_eq!(body["server_name"], "localhost");
        assert!(body["signatures"]["localhost"]["ed25519:1"].is_string(), "{body}");
    }
    let (status, body) = answer(&front, get("/_matrix/key/v2/query/b.org")).await;
    assert_eq!(status, 200);
    let signatures = &body["server_keys"][0]["signatures"];
    assert!(signatures["b.org"].is_object() && signatures["localhost"].is_object(), "{body}");
    let question = r#"{"server_keys":{"b.org":{"ed25519:k":{"minimum_valid_until_ts":5}},"localhost":{}}}"#;
    let post = Request::builder().method("POST").uri("/_matrix/key/v2/query").body(String::from(question));
    let (status, body) = answer(&front, post.unwrap()).await;
    assert_eq!((status, body["server_keys"].as_array().map(Vec::len)), (200, Some(2)));
    let (status, body) = answer(&front, get("/_matrix/federation/v1/version")).await;
    assert_eq!((status, &body["server"]["name"]), (200, &Value::from("Lockstep")));
}

#[tokio::test]
async fn well_known_documents_are_what_is_set() {
    let get = |path: &str| {
        Request::builder().uri(format!("/.well-known/matrix/{path}")).body(String::new()).unwrap()
    };
    let silent = front(Config::default()).await;
    for path in ["server", "client", "support"] {
        assert_eq!(answer(&silent, get(path)).await.0, 404, "{path}");
    }
    let mut config = Config { public_base_url: Some(String::from("https://m.a.org")), ..Config::default() };
    assert_eq!(answer(&front(config.clone()).await, get("server")).await.1["m.server"], "m.a.org:443");
    config.well_known.server = Some(String::from("fed.a.org:8448"));
    config.well_known.client = Some(String::from(r#"{"org.example":{"x":1}}"#));
    config.well_known.support_email = Some(String::from("root@a.org"));
    config.well_known.support_page = Some(String::from("https://a.org/help"));
    let front = front(config).await;
    assert_eq!(answer(&front, get("server")).await.1["m.server"], "fed.a.org:8448");
    let (_, client) = answer(&front, get("client")).await;
    assert_eq!(
        (&client["m.homeserver"]["base_url"], &client["org.example"]["x"]),
        (&"https://m.a.org".into(), &1.into())
    );
    let (_, support) = answer(&front, get("support")).await;
    assert_eq!(support["contacts"][0]["email_address"], "root@a.org");
    assert_eq!(support["support_page"], "https://a.org/help");
}
