//! Events and bodies that are taken, and must not stop anything: rows of the list of known vulnerabilities.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::{
    Server,
    hostile::raw,
    rows::{forged, joined, quoted, said},
};
use crate::http::Wire;

/// Pages back to the beginning; the bodies that were told, and how many pages there were.
async fn paged(server: &Server, token: &str, room: &RoomId, query: &str) -> (Vec<String>, usize) {
    let (mut from, mut bodies) = (String::new(), Vec::new());
    for page in 1..100 {
        let path = format!("GET /rooms/{}/messages?dir=b&{query}{from}", quoted(room));
        let answer = server.met(token, &path, Value::Null).await;
        let chunk = answer["chunk"].as_array().unwrap_or_else(|| panic!("{answer}"));
        bodies.extend(chunk.iter().filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())));
        match answer["end"].as_str() {
            Some(end) => from = format!("&from={}", quoted(end)),
            None => return (bodies, page),
        }
    }
    panic!("there is always another page");
}

/// Row 3.13: pages in which there is nothing to be seen are not the last.
#[tokio::test]
async fn row_3_13_cve_2026_45076_what_lies_before_a_page_of_nothing_is_found() {
    let wire = Wire::default();
    let (a, b, c) = (
        Server::new("a.org", &wire).await,
        Server::new("b.org", &wire).await,
        Server::new("c.org", &wire).await,
    );
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    said(&a, &alice, &room, "early").await;
    let bob = joined(&b, "bob", (&room, &a)).await;
    let (id, honest) = said(&b, &bob, &room, "honest").await;
    // A long row of events that nobody may believe in, and something good that follows them.
    let (mut prev, mut texts) = (id.to_string(), vec![raw(&honest)]);
    let depth = honest["depth"].as_u64().unwrap();
    for number in 1..=240 {
        let fields = json!({
            "type": "m.room.power_levels", "state_key": "", "content": { "users": { "@bob:b.org": 100 + number } },
            "prev_events": [prev], "depth": depth + number,
        });
        let pdu = forged(&honest, &b, "11", &fields);
        prev = pdu.event_id().to_string();
        texts.push(pdu.json().to_owned());
    }
    let late = json!({ "prev_events": [prev], "depth": depth + 241, "content": { "body": "late" } });
    let late = forged(&honest, &b, "11", &late);
    texts.push(late.json().to_owned());
    for part in texts.chunks(50) {
        a.app.rooms.receive(&b.name, &room, part.to_vec()).await.unwrap();
    }
    let seen = paged(&a, &alice, &room, "limit=10").await.0;
    assert_eq!(seen, ["late", "honest", "early"], "where they were refused");
    let carol = joined(&c, "carol", (&room, &a)).await;
    let seen = paged(&c, &carol, &room, "limit=10").await.0;
    assert_eq!(seen, ["late", "honest", "early"], "where they come as the past");
    // Nothing of what somebody says whom one ignores, nor of what a filter leaves out.
    let ann = a.register("ann").await;
    a.met(&ann, &format!("POST /join/{}", quoted(&room)), json!({})).await;
    for number in 0..60 {
        said(&a, &ann, &room, &format!("{number}")).await;
    }
    let ignored = json!({ "ignored_users": { "@ann:a.org": {} } });
    let path = format!("PUT /user/{}/account_data/m.ignored_user_list", quoted(a.user("alice")));
    a.met(&alice, &path, ignored).await;
    assert_eq!(paged(&a, &alice, &room, "limit=5").await.0, ["late", "honest", "early"]);
    let filter = quoted(json!({ "senders": ["@bob:b.org"] }).to_string());
    assert_eq!(paged(&a, &ann, &room, &format!("limit=5&filter={filter}")).await.0, ["late", "honest"]);
    let filter = quoted(json!({ "types": ["none"] }).to_string());
    assert!(paged(&a, &ann, &room, &format!("limit=5&filter={filter}")).await.0.is_empty());
}

/// Messages and joins that clients have stumbled over, some of them as edits of `id`.
fn odd_fields(id: &OwnedEventId) -> Vec<Value> {
    let edit = json!({ "rel_type": "m.replace", "event_id": id });
    let member = json!({ "type": "m.room.member", "state_key": "@bob:b.org" });
    let with = |content: Value| json!({ "content": content });
    let joins = |content: Value| {
        let mut fields = member.clone();
        fields["content"] = content;
        fields
    };
    vec![
        with(json!({ "m.relates_to": edit })),
        with(json!({ "m.relates_to": edit, "m.new_content": 5 })),
        with(json!({ "m.relates_to": edit, "m.new_content": [] })),
        with(json!({ "m.relates_to": { "rel_type": "m.replace", "event_id": 5 } })),
        with(json!({ "m.relates_to": [] })),
        with(json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "" } })),
        with(json!({ "m.mentions": 5, "msgtype": [], "body": {} })),
        joins(json!({ "membership": "join", "displayname": [], "avatar_url": 5, "is_direct": "no" })),
        joins(json!({ "membership": "join", "displayname": "x".repeat(60_000) })),
    ]
}

/// Row 3.18: events that clients have stumbled over do not stop ours, and nothing is made of them that is not there.
#[tokio::test]
async fn row_3_18_what_has_crashed_clients_stops_no_answer() {
    for version in ["1", "9", "11", "12"] {
        let wire = Wire::default();
        let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
        let alice = a.register("alice").await;
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        let bob = joined(&b, "bob", (&room, &a)).await;
        let (id, honest) = said(&b, &bob, &room, "honest").await;
        a.app.rooms.receive(&b.name, &room, vec![raw(&honest)]).await.unwrap();
        let odd = odd_fields(&id);
        let mut texts = Vec::new();
        for (number, mut fields) in odd.into_iter().enumerate() {
            if version == "1" {
                fields["event_id"] = json!(format!("$odd{number}:b.org"));
            }
            texts.push(forged(&honest, &b, version, &fields).json().to_owned());
        }
        let results = a.app.rooms.receive(&b.name, &room, texts).await.unwrap();
        assert!(
            results.iter().filter(|(_, result)| result.is_ok()).count() > 6,
            "version {version}: {results:?}"
        );
        // alice is odd herself.
        for (kind, content) in [
            ("m.room.join_rules", json!({ "join_rule": "org.example.custom", "allow": 5 })),
            ("m.room.join_rules", json!({ "join_rule": "restricted", "allow": [5, {}, { "type": 5 }] })),
            ("m.room.encryption", json!({ "algorithm": 5, "rotation_period_ms": "soon" })),
            ("m.room.name", json!({ "name": 5 })),
            ("m.room.topic", json!({ "topic": {}, "m.topic": 5 })),
            ("m.room.avatar", json!({ "url": [] })),
            ("m.room.canonical_alias", json!({})),
            ("m.room.pinned_events", json!({ "pinned": [5] })),
            ("m.room.tombstone", json!({ "replacement_room": 5, "body": [] })),
            ("m.room.history_visibility", json!({ "history_visibility": "custom" })),
            ("m.room.guest_access", json!({ "guest_access": 5 })),
        ] {
            a.met(&alice, &format!("PUT /rooms/{}/state/{kind}/", quoted(&room)), content).await;
            for path in [
                String::from("/sync"),
                format!("/rooms/{}/messages?dir=b&limit=50", quoted(&room)),
                format!("/rooms/{}/members", quoted(&room)),
                format!("/rooms/{}/joined_members", quoted(&room)),
                format!("/_matrix/client/v1/rooms/{}/threads", quoted(&room)),
                format!("/_matrix/client/v1/rooms/{}/hierarchy", quoted(&room)),
                format!("/_matrix/client/v1/room_summary/{}", quoted(&room)),
                format!("/_matrix/client/v1/rooms/{}/relations/{}", quoted(&room), quoted(&id)),
            ] {
                let answer = a.met(&alice, &format!("GET {path}"), Value::Null).await;
                assert!(answer.is_object(), "version {version}, {kind}: {path}: {answer}");
            }
        }
        let path = format!("GET /rooms/{}/event/{}", quoted(&room), quoted(&id));
        let event = a.met(&alice, &path, Value::Null).await;
        assert_eq!(event["content"]["body"], "honest", "version {version}: {event}");
        let replaced = &event["unsigned"]["m.relations"]["m.replace"];
        assert!(replaced.is_null(), "version {version}: what is no edit is told as none: {replaced}");
        assert!(
            a.met(&alice, "POST /keys/query", json!({ "device_keys": { "@bob:b.org": [] } }))
                .await
                .is_object()
        );
    }
}

/// Row 3.18: the invite of a stranger into a room whose rules are of no version does not end the sync of old clients, nor
/// does such a rule, or the lowest level that there is, in a room that one is in.
#[tokio::test]
async fn row_3_18_cve_2025_66622_cve_2025_59047_what_clients_fall_over_is_told_as_what_it_comes_to() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, ann, bob) = (a.register("alice").await, a.register("ann").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let rules = json!({ "join_rule": "org.example.custom" });
    let path = format!("PUT /rooms/{}/state/m.room.join_rules", quoted(&room));
    assert!(a.met(&alice, &path, rules.clone()).await["event_id"].is_string());
    let lowest = -9_007_199_254_740_991_i64;
    let levels = json!({ "users": { "@alice:a.org": 100, "@ann:a.org": lowest } });
    let path = format!("PUT /rooms/{}/state/m.room.power_levels", quoted(&room));
    assert!(a.met(&alice, &path, levels).await["event_id"].is_string());
    for user in ["@bob:b.org", "@ann:a.org"] {
        a.met(&alice, &format!("POST /rooms/{}/invite", quoted(&room)), json!({ "user_id": user })).await;
    }
    for (server, token) in [(&a, &alice), (&a, &ann), (&b, &bob)] {
        let told = server.met(token, "GET /sync", Value::Null).await.to_string();
        assert!(told.contains("m.room.join_rules") && told.contains(r#""join_rule":"private""#), "{told}");
        assert!(!told.contains("org.example.custom") && !told.contains(&lowest.to_string()), "{told}");
    }
    let path = format!("GET /rooms/{}/messages?dir=b&limit=20", quoted(&room));
    let told = a.met(&alice, &path, Value::Null).await.to_string();
    assert!(!told.contains("org.example.custom") && !told.contains(&lowest.to_string()), "{told}");
    // In the room they are as they were, and so for whoever asks for the one content.
    let path = format!("GET /rooms/{}/state/m.room.join_rules", quoted(&room));
    assert_eq!(a.met(&alice, &path, Value::Null).await, rules);
}

/// Row 5.9: a body of another kind than JSON is not taken apart, and what is too large is not read to its end.
#[tokio::test]
async fn row_5_9_cve_2024_52805_bodies_of_many_parts_are_not_read_as_such() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt;
    let wire = Wire::default();
    let a = Server::new("a.org", &wire).await;
    let alice = a.register("alice").await;
    let parts = format!("--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n{}\r\n", "a".repeat(1_000))
        .repeat(100);
    let send = async |path: &str, kind: &str, body: axum::body::Body| {
        let (method, path) = path.split_once(' ').unwrap();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/_matrix/client/v3{path}"))
            .header("content-type", kind)
            .header("authorization", format!("Bearer {alice}"))
            .body(body);
        a.router.clone().oneshot(request.unwrap()).await.unwrap().status().as_u16()
    };
    for path in
        ["POST /login", "POST /createRoom", "POST /keys/upload", "PUT /profile/@alice:a.org/displayname"]
    {
        for kind in ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
            let body = axum::body::Body::from(format!("{parts}--x--"));
            assert_eq!(send(path, kind, body).await, 400, "{path} {kind}");
        }
        let pulled = Arc::new(AtomicUsize::new(0));
        let counted = pulled.clone();
        let endless = futures_util::stream::repeat_with(move || {
            counted.fetch_add(1 << 16, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from(vec![b'a'; 1 << 16]))
        });
        let status =
            send(path, "multipart/form-data; boundary=x", axum::body::Body::from_stream(endless)).await;
        assert_eq!(status, 413, "{path}");
        let most = crate::limits::BODY_BYTES_MAX + (1 << 20);
        assert!(pulled.load(Ordering::SeqCst) <= most, "{path}: {pulled:?} bytes were read");
    }
}
