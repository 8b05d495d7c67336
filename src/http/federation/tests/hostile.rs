//! Servers that do not keep to the specification, by the rows of published vulnerabilities.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{
    CanonicalJsonObject, OwnedEventId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite, create_join_event, create_leave_event},
    server_name,
};
use serde_json::{Value, json, value::RawValue};

use super::{Server, via};
use crate::{
    dag::{Pdu, versions},
    http::Wire,
    keys::{self, SigningKey},
    peer::{Bounds, Net, NetError, PeerError, XMatrix},
    store::BoxFuture,
    types::Membership,
};

/// Changes an answer: the path of the request, and the answer's body.
pub(super) type Change = Box<dyn Fn(&str, &mut Value) + Send + Sync>;

/// A wire with somebody on it who changes answers and remembers requests.
pub(super) struct Tampered {
    pub(super) wire: Wire,
    pub(super) change: Change,
    pub(super) seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Net for Tampered {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = serde_json::from_slice(request.body()).unwrap_or_default();
            self.seen.lock().push((path.clone(), body));
            let answer = self.wire.exchange(server, request, bounds).await?;
            let (parts, body) = answer.into_parts();
            let mut value: Value = serde_json::from_slice(&body).unwrap_or_default();
            (self.change)(&path, &mut value);
            let body = if value.is_null() { body } else { Bytes::from(value.to_string()) };
            Ok(http::Response::from_parts(parts, body))
        })
    }
}

const BOUNDS: Bounds = Bounds::new(Duration::from_secs(5), 1 << 20);

/// An event that the hostile server b signs as it likes.
pub(super) fn event(version: &str, change: impl Fn(&mut Value)) -> (OwnedEventId, CanonicalJsonObject) {
    let rules = versions::rules(&version.try_into().unwrap()).unwrap();
    let mut event = json!({
        "type": "m.room.member", "room_id": "!room:b.org", "sender": "@eve:b.org", "state_key": "@alice:a.org",
        "content": { "membership": "invite" }, "origin_server_ts": 1_700_000_000_000_u64, "depth": 5,
        "prev_events": ["$prev"], "auth_events": ["$auth"],
    });
    change(&mut event);
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    let key = SigningKey::from_seed(server_name!("b.org").to_owned(), "1", [b'b'; 32]).unwrap();
    key.hash_and_sign(&mut object, rules).unwrap();
    (keys::event_id(&object, rules).unwrap(), object)
}

pub(super) fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// Row 1.1: only invites of our users, by users of the asking server, are signed.
#[tokio::test]
async fn cve_2025_68667_invite_confused_deputy() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    a.register("alice").await;
    let good = |_: &mut Value| {};
    type Edit = Box<dyn Fn(&mut Value)>;
    let edits: Vec<(&str, Edit, Option<u16>)> = vec![
        ("as it should be", Box::new(good), None),
        ("type", Box::new(|event| event["type"] = json!("m.room.name")), Some(400)),
        ("leave", Box::new(|event| event["content"]["membership"] = json!("leave")), Some(400)),
        ("ban", Box::new(|event| event["content"]["membership"] = json!("ban")), Some(400)),
        ("join", Box::new(|event| event["content"]["membership"] = json!("join")), Some(400)),
        ("sender of ours", Box::new(|event| event["sender"] = json!("@alice:a.org")), Some(400)),
        ("sender of a third", Box::new(|event| event["sender"] = json!("@eve:c.org")), Some(400)),
        ("user of another", Box::new(|event| event["state_key"] = json!("@carol:c.org")), Some(400)),
        ("no account", Box::new(|event| event["state_key"] = json!("@nobody:a.org")), Some(403)),
        ("no user", Box::new(|event| event["state_key"] = json!("alice")), Some(400)),
        ("another room", Box::new(|event| event["room_id"] = json!("!other:b.org")), Some(400)),
    ];
    for (what, edit, expected) in edits {
        let (id, object) = event("11", edit);
        let answer = hand_over(&b, ("!room:b.org", id), ("11", raw(&object)), Vec::new()).await;
        check(what, &answer, expected);
    }
    let (id, object) = event("11", good);
    let other: OwnedEventId = "$other".try_into().unwrap();
    let room = "!room:b.org";
    check("id", &hand_over(&b, (room, other), ("11", raw(&object)), Vec::new()).await, Some(400));
    check("version", &hand_over(&b, (room, id.clone()), ("99", raw(&object)), Vec::new()).await, Some(400));
    // The hash of the room's version is part of the id.
    check(
        "old version",
        &hand_over(&b, (room, id.clone()), ("1", raw(&object)), Vec::new()).await,
        Some(400),
    );
    let mut unsigned = object.clone();
    unsigned.remove("signatures");
    check(
        "unsigned",
        &hand_over(&b, (room, id.clone()), ("11", raw(&unsigned)), Vec::new()).await,
        Some(403),
    );
    let mut altered = object;
    let content = json!({ "membership": "invite", "reason": "!" });
    altered.insert(String::from("content"), serde_json::from_value(content).unwrap());
    check("altered", &hand_over(&b, (room, id), ("11", raw(&altered)), Vec::new()).await, Some(403));
}

async fn hand_over(
    from: &Server,
    (room, id): (&str, OwnedEventId),
    (version, event): (&str, Box<RawValue>),
    state: Vec<RawStrippedState>,
) -> Result<Box<RawValue>, PeerError> {
    let version = RoomVersionId::try_from(version).unwrap();
    let request = create_invite::v2::Request::new(room.try_into().unwrap(), id, version, event, state);
    from.app.peers.call(server_name!("a.org"), request, BOUNDS).await.map(|answer| answer.event)
}

#[track_caller]
fn check(what: &str, answer: &Result<Box<RawValue>, PeerError>, expected: Option<u16>) {
    match (answer, expected) {
        (Ok(event), None) => assert!(event.get().contains(r#""a.org":{"ed25519:1""#), "{what}: {event}"),
        (Err(PeerError::Refused { status, message, .. }), Some(expected)) => {
            assert_eq!(status.as_u16(), expected, "{what}: {message}");
            assert!(!message.contains("signatures"), "{what}");
        }
        (answer, expected) => panic!("{what}: {answer:?}, expected {expected:?}"),
    }
}

/// Row 1.2: whatever a template says, the event that is signed is the one that we would have built.
#[tokio::test]
async fn cve_2026_24471_templates_signed_as_given() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 9] = [
        ("type", |event| event["type"] = json!("m.room.power_levels")),
        ("sender", |event| event["sender"] = json!("@carol:b.org")),
        ("state key", |event| event["state_key"] = json!("@carol:b.org")),
        ("room", |event| event["room_id"] = json!("!other:a.org")),
        ("membership", |event| event["content"] = json!({ "membership": "ban" })),
        ("content", |event| event["content"]["evil"] = json!(true)),
        ("extra", |event| event["evil"] = json!({ "yes": [1] })),
        ("granter", |event| event["content"]["join_authorised_via_users_server"] = json!("@carol:b.org")),
        ("redacts", |event| event["redacts"] = json!("$something")),
    ];
    for (what, edit) in edits {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let change = Box::new(move |path: &str, answer: &mut Value| {
            if path.contains("/make_") {
                edit(&mut answer["event"]);
            }
        });
        let net = Arc::new(Tampered { wire: wire.clone(), change, seen: seen.clone() });
        let b = Server::behind("b.org", &wire, net).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let rules = json!({ "join_rule": "knock" });
        let state = json!([{ "type": "m.room.join_rules", "state_key": "", "content": rules }]);
        let open = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        let invited = json!({ "preset": "private_chat", "invite": ["@bob:b.org"] });
        let invited = a.room(&alice, "11", invited).await;
        let closed = a.room(&alice, "11", json!({ "preset": "private_chat", "initial_state": state })).await;
        let at = |room| via(room, &[&a]);
        for (request, path, room, content) in [
            (
                "join",
                format!("/join/{}", at(&open)),
                &open,
                json!({ "membership": "join", "displayname": "bob" }),
            ),
            (
                "knock",
                format!("/knock/{}", at(&closed)),
                &closed,
                json!({ "membership": "knock", "displayname": "bob" }),
            ),
            ("leave", format!("/rooms/{invited}/leave"), &invited, json!({ "membership": "leave" })),
        ] {
            seen.lock().clear();
            let done = b.met(&bob, &format!("POST {path}"), json!({})).await;
            let expected = if request == "leave" { json!({}) } else { json!({ "room_id": room }) };
            assert_eq!(done, expected, "{request}, {what}");
            let seen = seen.lock().clone();
            let sent = seen.iter().find(|(path, _)| path.contains("/send_")).unwrap().1.clone();
            assert_eq!(sent["content"], content, "{request}, {what}");
            for (name, value) in [
                ("type", json!("m.room.member")),
                ("sender", json!("@bob:b.org")),
                ("state_key", json!("@bob:b.org")),
                ("room_id", json!(room)),
            ] {
                assert_eq!(sent[name], value, "{request}, {what}");
            }
            let mut names: Vec<&String> = sent.as_object().unwrap().keys().collect();
            names.sort_unstable();
            let expected = [
                "auth_events",
                "content",
                "depth",
                "hashes",
                "origin_server_ts",
                "prev_events",
                "room_id",
                "sender",
                "signatures",
                "state_key",
                "type",
            ];
            assert_eq!(names, expected, "{request}, {what}");
        }
    }
}

/// Row 1.2: a template without a sound place in the graph is not built upon.
#[tokio::test]
async fn cve_2026_24471_templates_that_lead_nowhere() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 8] = [
        ("no prev events", |answer| answer["event"]["prev_events"] = json!([])),
        ("no auth events", |answer| answer["event"]["auth_events"] = json!([])),
        ("too many", |answer| answer["event"]["prev_events"] = json!(vec!["$event"; 30])),
        ("no ids", |answer| answer["event"]["prev_events"] = json!([1])),
        ("no depth", |answer| answer["event"]["depth"] = json!("deep")),
        ("no event", |answer| answer["event"] = json!("none")),
        ("unknown version", |answer| answer["room_version"] = json!("99")),
        ("other version", |answer| answer["room_version"] = json!("12")),
    ];
    for (what, edit) in edits {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let change = Box::new(move |path: &str, answer: &mut Value| {
            if path.contains("/make_") {
                edit(answer);
            }
        });
        let net = Arc::new(Tampered { wire: wire.clone(), change, seen: seen.clone() });
        let b = Server::behind("b.org", &wire, net).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        let done = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
        assert!(done.is_string(), "{what}: {done}");
        assert!(!seen.lock().iter().any(|(path, _)| path.contains("/send_")), "{what}");
    }
}

/// Row 1.3: an answer to `send_join` that lies leaves nothing behind.
#[tokio::test]
async fn malicious_answers_to_send_join() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 5] = [
        ("no state", |answer| answer["state"] = json!([])),
        ("no create event", |answer| {
            answer["state"].as_array_mut().unwrap().retain(|event| event["type"] != "m.room.create");
            answer["auth_chain"] = json!([]);
        }),
        ("other room", |answer| {
            for event in answer["state"].as_array_mut().unwrap() {
                event["room_id"] = json!("!other:a.org");
            }
        }),
        ("bad signatures", |answer| {
            for list in ["state", "auth_chain"] {
                for event in answer[list].as_array_mut().unwrap() {
                    event["signatures"] = json!({ "a.org": { "ed25519:1": "AAAA" } });
                }
            }
        }),
        ("not a list", |answer| answer["state"] = json!("all")),
    ];
    for (what, edit) in edits {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let change = Box::new(move |path: &str, answer: &mut Value| {
            if path.contains("/send_join") {
                edit(answer);
            }
        });
        let net = Arc::new(Tampered { wire: wire.clone(), change, seen: Arc::default() });
        let b = Server::behind("b.org", &wire, net).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        let done = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
        assert!(done.is_string(), "{what}: {done}");
        assert!(b.app.history.room(&room).await.unwrap().is_none(), "{what}");
        assert!(!b.app.history.is_joined(&room, &b.user("bob")).await.unwrap(), "{what}");
    }
}

/// What another server refuses with must not reach into the session of a client.
#[tokio::test]
async fn refusals_that_would_log_a_client_out() {
    for errcode in ["M_UNKNOWN_TOKEN", "M_USER_DEACTIVATED", "M_MISSING_TOKEN", "M_EVIL"] {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let change = Box::new(move |path: &str, answer: &mut Value| {
            if path.contains("/make_join") {
                answer["errcode"] = json!(errcode);
            }
        });
        let net = Arc::new(Tampered { wire: wire.clone(), change, seen: Arc::default() });
        let b = Server::behind("b.org", &wire, net).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, "11", json!({ "preset": "private_chat" })).await;
        let join = format!("POST /join/{}", via(&room, &[&a]));
        assert_eq!(b.met(&bob, &join, json!({})).await, "403 M_FORBIDDEN", "{errcode}");
    }
}

/// Rows 1.6 and 1.9: an event that is handed over must be one of its server, and be what the path names.
#[tokio::test]
async fn cve_2019_18835_cve_2020_26257_events_of_others_and_paths_of_others() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let other = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let template = a
        .app
        .federation
        .make(&b.name, Membership::Join, (&room, &b.user("eve")), Some(&[RoomVersionId::V11]))
        .await
        .unwrap();
    let template = serde_json::to_value(&template.event).unwrap();
    let rules = versions::rules(&RoomVersionId::V11).unwrap();
    let sign = |server: &str, seed: u8, edit: &dyn Fn(&mut Value)| {
        let mut event = template.clone();
        edit(&mut event);
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let key = SigningKey::from_seed(server.try_into().unwrap(), "1", [seed; 32]).unwrap();
        key.hash_and_sign(&mut object, rules).unwrap();
        Pdu::from_object(object, rules).unwrap()
    };
    let join = |room: &ruma::RoomId, id: &ruma::EventId, pdu: &Pdu| {
        let request =
            create_join_event::v2::Request::new(room.to_owned(), id.to_owned(), pdu.json().to_owned());
        let peers = b.app.peers.clone();
        async move {
            match peers.call(server_name!("a.org"), request, BOUNDS).await {
                Ok(_) => 200,
                Err(PeerError::Refused { status, .. }) => status.as_u16(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let good = sign("b.org", b'b', &|_| {});
    assert_eq!(join(&other, good.event_id(), &good).await, 400, "another room in the path");
    assert_eq!(join(&room, "$other".try_into().unwrap(), &good).await, 400, "another id in the path");
    for (what, pdu, expected) in [
        ("a wrong key", sign("b.org", b'x', &|_| {}), 403),
        ("signed by another", sign("c.org", b'b', &|_| {}), 403),
        ("a leave", sign("b.org", b'b', &|event| event["content"] = json!({ "membership": "leave" })), 400),
        ("not a member event", sign("b.org", b'b', &|event| event["type"] = json!("m.room.name")), 400),
        ("about another", sign("b.org", b'b', &|event| event["state_key"] = json!("@bob:b.org")), 400),
        (
            "of another server",
            sign("b.org", b'b', &|event| {
                event["sender"] = json!("@carol:c.org");
                event["state_key"] = json!("@carol:c.org");
            }),
            403,
        ),
    ] {
        assert_eq!(join(&room, pdu.event_id(), &pdu).await, expected, "{what}");
    }
    let request = create_leave_event::v2::Request::new(
        room.clone(),
        good.event_id().to_owned(),
        good.json().to_owned(),
    );
    assert!(b.app.peers.call(server_name!("a.org"), request, BOUNDS).await.is_err(), "a join is no leave");
    assert_eq!(a.membership(&room, &b.user("eve")).await, None);
    assert_eq!(join(&room, good.event_id(), &good).await, 200);
    assert_eq!(a.membership(&room, &b.user("eve")).await, Some(Membership::Join));
}

/// Rows 3.4 and 3.6: absurd stripped state neither stays nor breaks the sync of who is invited.
#[tokio::test]
async fn cve_2023_32323_cve_2024_52815_absurd_stripped_state() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let alice = a.register("alice").await;
    let (id, object) = event("11", |_| {});
    let huge = "x".repeat(100_000);
    let mut state = vec![
        json!({}),
        json!({ "type": 1, "state_key": [], "sender": {}, "content": "no" }),
        json!({ "type": "m.room.name", "state_key": "", "sender": "nobody", "content": {} }),
        json!({ "type": "m.room.name", "state_key": "", "sender": "@eve:b.org", "content": { "name": "ok" }, "evil": 1 }),
        json!({ "type": "m.room.topic", "state_key": "", "sender": "@eve:b.org", "room_id": "!o:b.org", "content": {} }),
        json!({ "type": "m.room.member", "state_key": "@alice:a.org", "sender": "@eve:b.org", "content": {} }),
    ];
    state.extend((0..120).map(|number| {
        json!({ "type": format!("t{number}"), "state_key": "", "sender": "@eve:b.org", "content": { "x": huge } })
    }));
    let state = state.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect();
    let answer = hand_over(&b, ("!room:b.org", id), ("11", raw(&object)), state).await;
    check("absurd", &answer, None);
    let sync = a.met(&alice, "GET /sync", Value::Null).await;
    let told = &sync["rooms"]["invite"]["!room:b.org"]["invite_state"]["events"];
    let name = json!({
        "type": "m.room.name", "state_key": "", "sender": "@eve:b.org", "content": { "name": "ok" },
    });
    assert_eq!(told[0], name);
    assert!(told.to_string().len() < 300_000, "{}", told.to_string().len());
    assert_eq!(told.as_array().unwrap().last().unwrap()["content"]["membership"], "invite");
}

/// The state beside an invite is optional, and some send `null` where they have none.
#[tokio::test]
async fn an_invite_that_tells_nothing_arrives() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let alice = a.register("alice").await;
    let key = SigningKey::from_seed(b.name.clone(), "1", [b'b'; 32]).unwrap();
    for (number, extra) in [json!({}), json!({ "invite_room_state": null })].into_iter().enumerate() {
        let room = format!("!room{number}:b.org");
        let (id, object) = event("11", |event| event["room_id"] = json!(room));
        let mut body = json!({ "room_version": "11", "event": object });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let path = format!("/_matrix/federation/v2/invite/{room}/{id}");
        let request = http::Request::builder().method("PUT").uri(path).body(body.to_string()).unwrap();
        let proof = XMatrix::sign(&request, &key, &a.name).unwrap();
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("authorization", proof.header());
        let request = http::Request::from_parts(parts, Bytes::from(body));
        let answer = wire.exchange(&a.name, request, BOUNDS).await.unwrap();
        assert_eq!(answer.status(), 200, "{extra}");
        let sync = a.met(&alice, "GET /sync", Value::Null).await;
        let told = &sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"];
        assert_eq!(told.as_array().unwrap().len(), 1, "{extra}: {sync}");
    }
}
