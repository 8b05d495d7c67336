//! Devices, keys and backups over HTTP, with real accounts.

use std::sync::Arc;

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    account::{NewSession, NewUser},
    http::{App, Routes, client, tests::services},
    limits::{BACKUP_KEYS_PAGE, DEVICES_NAMED_MAX},
};

const BASE: &str = "/_matrix/client/v3";

struct Client {
    router: Router,
    token: String,
}

impl Client {
    /// A server with `@alice`, whose password is `secret`, on `devices`.
    async fn new(devices: &[&str]) -> Vec<Self> {
        let mut services = services().await;
        services.gate = Arc::new(services.accounts.clone());
        let app = App::new(services);
        let new = NewUser { username: Some("alice".into()), password: Some("secret".into()), admin: false };
        let user_id = app.accounts.create_user(new).await.unwrap();
        let mut routes = Routes::default();
        client::keys::routes(&mut routes);
        client::backup::routes(&mut routes);
        client::device::routes(&mut routes);
        let router = routes.into_router(app.clone());
        let mut clients = Vec::new();
        for device in devices {
            let session = NewSession {
                user_id: user_id.clone(),
                device_id: Some((*device).into()),
                display_name: Some(format!("the {device}")),
                refreshes: false,
                client: None,
            };
            let token = app.accounts.start_session(session).await.unwrap().access_token;
            clients.push(Self { router: router.clone(), token });
        }
        clients
    }

    /// Sends `METHOD PATH` (without the part that all paths share) and gives status and body.
    async fn ask(&self, request: &str, body: Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').unwrap();
        let path = match path.starts_with("/_matrix") {
            true => path.to_owned(),
            false => format!("{BASE}{path}"),
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn check(&self, request: &str, body: Value, expected: (u16, Value)) {
        let (status, found) = self.ask(request, body.clone()).await;
        let seen = match status {
            200 => found.clone(),
            _ => found.get("errcode").cloned().unwrap_or_default(),
        };
        assert_eq!((status, seen), expected, "{request} {body} {found}");
    }
}

fn password(session: &Value) -> Value {
    json!({
        "type": "m.login.password", "password": "secret", "session": session,
        "identifier": { "type": "m.id.user", "user": "alice" },
    })
}

#[tokio::test]
async fn devices_are_listed_renamed_and_removed() {
    let [phone, laptop] = Client::new(&["PHONE", "LAPTOP"]).await.try_into().ok().unwrap();
    phone.check("PUT /devices/LAPTOP", json!({ "display_name": "old" }), (200, json!({}))).await;
    phone.check("PUT /devices/NONE", json!({ "display_name": "x" }), (404, json!("M_NOT_FOUND"))).await;
    let (_, devices) = phone.ask("GET /devices", Value::Null).await;
    let names: Vec<&Value> =
        devices["devices"].as_array().unwrap().iter().map(|d| &d["display_name"]).collect();
    assert_eq!(names, ["old", "the PHONE"]);
    let (_, one) = phone.ask("GET /devices/PHONE", Value::Null).await;
    assert_eq!(one["device_id"], "PHONE");
    phone.check("GET /devices/NONE", Value::Null, (404, json!("M_NOT_FOUND"))).await;

    let (status, uia) = phone.ask("DELETE /devices/LAPTOP", json!({})).await;
    assert_eq!((status, &uia["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    laptop
        .check("GET /devices/LAPTOP", Value::Null, laptop.ask("GET /devices/LAPTOP", Value::Null).await)
        .await;
    let auth = json!({ "auth": password(&uia["session"]) });
    phone.check("DELETE /devices/LAPTOP", auth, (200, json!({}))).await;
    laptop.check("GET /devices", Value::Null, (401, json!("M_UNKNOWN_TOKEN"))).await;
    let body = json!({ "devices": ["PHONE"], "auth": password(&Value::Null) });
    let (status, _) = phone.ask("POST /delete_devices", body).await;
    assert_eq!(status, 200);
    phone.check("GET /devices", Value::Null, (401, json!("M_UNKNOWN_TOKEN"))).await;
}

#[tokio::test]
async fn one_request_names_so_many_devices_at_most() {
    let [phone] = Client::new(&["PHONE"]).await.try_into().ok().unwrap();
    let names: Vec<_> = (0..=DEVICES_NAMED_MAX).map(|n| n.to_string()).collect();
    let body = json!({ "devices": names, "auth": password(&Value::Null) });
    phone.check("POST /delete_devices", body, (400, json!("M_INVALID_PARAM"))).await;
}

#[tokio::test]
async fn keys_go_up_and_are_given_out() {
    let [phone] = Client::new(&["PHONE"]).await.try_into().ok().unwrap();
    phone
        .check(
            "POST /keys/upload",
            Value::Null,
            (200, json!({ "one_time_key_counts": { "signed_curve25519": 0 } })),
        )
        .await;
    let body = json!({
        "one_time_keys": { "signed_curve25519:a": { "key": "A" } },
        "org.matrix.msc2732.fallback_keys": { "signed_curve25519:f": { "key": "F", "fallback": true } },
    });
    phone
        .check("POST /keys/upload", body, (200, json!({ "one_time_key_counts": { "signed_curve25519": 1 } })))
        .await;
    let clash = json!({ "one_time_keys": { "signed_curve25519:a": { "key": "B" } } });
    phone.check("POST /keys/upload", clash, (400, json!("M_INVALID_PARAM"))).await;
    phone.check("POST /keys/upload", json!({ "one_time_keys": 1 }), (400, json!("M_BAD_JSON"))).await;
    let claim = || {
        json!({ "one_time_keys": {
        "@alice:localhost": { "PHONE": "signed_curve25519" }, "@bob:elsewhere": { "X": "signed_curve25519" },
    } })
    };
    for id in ["a", "f", "f"] {
        let (status, found) = phone.ask("POST /keys/claim", claim()).await;
        let keys = found["one_time_keys"]["@alice:localhost"]["PHONE"].as_object().unwrap();
        assert_eq!((status, keys.keys().next().unwrap()), (200, &format!("signed_curve25519:{id}")));
        assert!(found["failures"]["elsewhere"].is_object());
    }
    let query = json!({ "device_keys": { "@alice:localhost": [] } });
    let found = phone.ask("POST /keys/query", query).await;
    assert_eq!((found.0, &found.1["device_keys"]), (200, &json!({ "@alice:localhost": {} })));
    let wrong = json!({ "device_keys": { "@alice:localhost": { "PHONE": 1 } } });
    phone.check("POST /keys/query", wrong, (400, json!("M_BAD_JSON"))).await;
    let changes = (200, json!({ "changed": [], "left": [] }));
    phone.check("GET /keys/changes?from=s0&to=s0", Value::Null, changes).await;
    phone.check("GET /keys/changes?from=x&to=s1", Value::Null, (400, json!("M_INVALID_PARAM"))).await;
    let master = json!({ "master_key": { "user_id": "@alice:localhost", "usage": ["master"], "keys": { "ed25519:a": "b" } } });
    phone.check("POST /keys/device_signing/upload", master, (400, json!("M_INVALID_PARAM"))).await;
    let signed = json!({ "@alice:localhost": { "PHONE": { "user_id": "@alice:localhost" } } });
    let failures = json!({ "failures": { "@alice:localhost": { "PHONE": {
        "errcode": "M_NOT_FOUND", "error": "There is no such key",
    } } } });
    phone.check("POST /keys/signatures/upload", signed, (200, failures)).await;
}

#[tokio::test]
async fn backups_are_kept() {
    let [phone] = Client::new(&["PHONE"]).await.try_into().ok().unwrap();
    let auth = json!({ "algorithm": "m.custom", "auth_data": { "k": "v" } });
    phone.check("GET /room_keys/version", Value::Null, (404, json!("M_NOT_FOUND"))).await;
    phone.check("POST /room_keys/version", auth.clone(), (200, json!({ "version": "1" }))).await;
    let key = json!({
        "first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": { "x": "y" },
    });
    let one = "/room_keys/keys/!r:localhost/a+b?version=";
    let state = |etag: &str, count: u64| (200, json!({ "etag": etag, "count": count }));
    phone.check(&format!("PUT {one}1"), key.clone(), state("1", 1)).await;
    phone.check(&format!("GET {one}1"), Value::Null, (200, key.clone())).await;
    phone
        .check("GET /room_keys/keys/!r:localhost/none?version=1", Value::Null, (404, json!("M_NOT_FOUND")))
        .await;
    let sessions = || json!({ "sessions": { "a+b": key, "c": key } });
    phone.check("PUT /room_keys/keys/!r:localhost?version=1", sessions(), state("2", 2)).await;
    let rooms = || json!({ "rooms": { "!r:localhost": sessions() } });
    phone.check("PUT /room_keys/keys?version=1", rooms(), state("2", 2)).await;
    phone.check("GET /room_keys/keys?version=1", Value::Null, (200, rooms())).await;
    phone.check("GET /room_keys/keys/!r:localhost?version=1", Value::Null, (200, sessions())).await;
    phone.check(&format!("DELETE {one}1"), Value::Null, state("3", 1)).await;
    phone.check("DELETE /room_keys/keys/!r:localhost?version=1", Value::Null, state("4", 0)).await;
    phone.check("DELETE /room_keys/keys?version=1", Value::Null, state("4", 0)).await;
    phone.check("GET /room_keys/keys", Value::Null, (400, json!("M_MISSING_PARAM"))).await;
    let info = json!({ "algorithm": "m.custom", "auth_data": { "k": "v" }, "count": 0, "etag": "4", "version": "1" });
    phone.check("GET /room_keys/version/1", Value::Null, (200, info.clone())).await;
    phone.check("GET /room_keys/version", Value::Null, (200, info)).await;
    let with = |field: &str, value: &str| {
        let mut body = auth.clone();
        body[field] = json!(value);
        body
    };
    phone.check("PUT /room_keys/version/1", with("version", "1"), (200, json!({}))).await;
    phone.check("PUT /room_keys/version/1", with("version", "2"), (400, json!("M_INVALID_PARAM"))).await;
    phone.check("PUT /room_keys/version/1", with("algorithm", "x"), (400, json!("M_INVALID_PARAM"))).await;
    phone.check("POST /room_keys/version", auth.clone(), (200, json!({ "version": "2" }))).await;
    let (status, wrong) = phone.ask(&format!("PUT {one}1"), key.clone()).await;
    assert_eq!(
        (status, &wrong["errcode"], &wrong["current_version"]),
        (403, &json!("M_WRONG_ROOM_KEYS_VERSION"), &json!("2"))
    );
    phone.check("DELETE /room_keys/version/1", Value::Null, (200, json!({}))).await;
    phone.check("GET /room_keys/version/1", Value::Null, (404, json!("M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn the_keys_of_a_backup_are_one_object_over_many_pages() {
    let [phone] = Client::new(&["PHONE"]).await.try_into().ok().unwrap();
    let auth = json!({ "algorithm": "m.custom", "auth_data": {} });
    phone.check("POST /room_keys/version", auth, (200, json!({ "version": "1" }))).await;
    let all = "GET /room_keys/keys?version=1";
    phone.check(all, Value::Null, (200, json!({ "rooms": {} }))).await;
    let none = (200, json!({ "sessions": {} }));
    phone.check("GET /room_keys/keys/!a:localhost?version=1", Value::Null, none).await;
    let key = json!({
        "first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": { "x": "y" },
    });
    let sessions = |count: usize| {
        let sessions = (0..count).map(|n| (format!("\"s{n}\\"), key.clone()));
        json!({ "sessions": sessions.collect::<serde_json::Map<_, _>>() })
    };
    for rooms in [
        json!({ "!a:localhost": sessions(2), "!b:localhost": sessions(1) }),
        json!({ "!a:localhost": sessions(2), "!b:localhost": sessions(BACKUP_KEYS_PAGE - 2) }),
        json!({ "!a:localhost": sessions(BACKUP_KEYS_PAGE * 2), "!b:localhost": sessions(BACKUP_KEYS_PAGE) }),
    ] {
        let rooms = json!({ "rooms": rooms });
        assert_eq!(phone.ask("PUT /room_keys/keys?version=1", rooms.clone()).await.0, 200);
        phone.check(all, Value::Null, (200, rooms)).await;
    }
    let of_b = (200, sessions(BACKUP_KEYS_PAGE));
    phone.check("GET /room_keys/keys/!b:localhost?version=1", Value::Null, of_b).await;
    phone.check("GET /room_keys/keys?version=9", Value::Null, (404, json!("M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn messages_wait_for_a_dehydrated_device() {
    const DEHYDRATED: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
    let [phone] = Client::new(&["PHONE"]).await.try_into().ok().unwrap();
    phone.check(&format!("GET {DEHYDRATED}"), Value::Null, (404, json!("M_NOT_FOUND"))).await;
    phone.check(&format!("DELETE {DEHYDRATED}"), Value::Null, (404, json!("M_NOT_FOUND"))).await;
    phone.check(&format!("GET {DEHYDRATED}/X/events"), Value::Null, (403, json!("M_FORBIDDEN"))).await;
    phone.check(&format!("POST {DEHYDRATED}/X/events"), json!({}), (403, json!("M_FORBIDDEN"))).await;
    let body = json!({ "messages": { "@alice:localhost": { "*": { "a": 1 } } } });
    phone.check("PUT /sendToDevice/m.test/t1", body, (200, json!({}))).await;
    let wrong = json!({ "messages": { "@alice:localhost": { "*": 1 } } });
    phone.check("PUT /sendToDevice/m.test/t2", wrong, (400, json!("M_BAD_JSON"))).await;
}
