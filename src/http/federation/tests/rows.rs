//! More rows of the list of known vulnerabilities, each over every endpoint that it concerns.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::{Server, hostile::Tampered, via};
use crate::{
    dag::{Pdu, versions},
    http::{Wire, endpoints},
    keys::SigningKey,
    peer::{Bounds, Net, XMatrix},
    types::Membership,
};

const BOUNDS: Bounds = Bounds::new(Duration::from_secs(5), 1 << 20);

/// `text` as one segment of a path.
pub(super) fn quoted(text: impl AsRef<str>) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.as_ref().bytes().map(byte).collect()
}

fn key(server: &Server) -> SigningKey {
    SigningKey::from_seed(server.name.clone(), "1", [server.name.as_bytes()[0]; 32]).unwrap()
}

/// Asks `a` for `METHOD PATH` of the server-server API in the name of `from`; status and body.
async fn ask(wire: &Wire, a: &Server, from: &Server, (request, body): (&str, &Value)) -> (u16, Value) {
    let (method, path) = request.split_once(' ').unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/_matrix/federation/{path}");
    let request = http::Request::builder().method(method).uri(path).body(body).unwrap();
    let proof = XMatrix::sign(&request, &key(from), &a.name).unwrap();
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("authorization", proof.header());
    let request = http::Request::from_parts(parts, Bytes::from(body));
    let answer = wire.exchange(&a.name, request, BOUNDS).await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

/// `event` with other fields, hashed and signed anew by `by`.
pub(super) fn forged(event: &Value, by: &Server, version: &str, fields: &Value) -> Pdu {
    let rules = versions::rules(&version.try_into().unwrap()).unwrap();
    let mut event = event.clone();
    let object = event.as_object_mut().unwrap();
    ["signatures", "hashes", "unsigned"].into_iter().for_each(|field| drop(object.remove(field)));
    object.extend(fields.as_object().unwrap().clone());
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    key(by).hash_and_sign(&mut object, rules).unwrap();
    Pdu::from_object(object, rules).unwrap()
}

/// The template of a member event, as `a` gives it.
async fn template(a: &Server, (room, of): (&RoomId, &Server), name: &str, to: Membership) -> Value {
    let versions = versions::SUPPORTED;
    let made = a.app.federation.make(&of.name, to, (room, &of.user(name)), Some(&versions)).await.unwrap();
    serde_json::to_value(&made.event).unwrap()
}

/// What a user of `server` says, as it is stored there.
pub(super) async fn said(server: &Server, token: &str, room: &RoomId, body: &str) -> (OwnedEventId, Value) {
    let path = format!("PUT /rooms/{}/send/m.room.message/{body}", quoted(room));
    let answer = server.met(token, &path, json!({ "msgtype": "m.text", "body": body })).await;
    let id = OwnedEventId::try_from(answer["event_id"].as_str().unwrap()).unwrap();
    let pdu = server.app.history.event(&id).await.unwrap().unwrap().pdu.clone();
    (id, serde_json::from_str(pdu.text()).unwrap())
}

pub(super) async fn joined(server: &Server, name: &str, (room, through): (&RoomId, &Server)) -> String {
    let token = server.register(name).await;
    let answer = server.met(&token, &format!("POST /join/{}", via(room, &[through])), json!({})).await;
    assert_eq!(answer, json!({ "room_id": room }));
    token
}

/// Row 1.3: what a hostile resident signs into its answer to a join.
#[tokio::test]
async fn row_1_3_what_a_resident_makes_up_is_not_in_the_room() {
    // A join that another has altered, somebody whom nobody has let in, and events that allow one another.
    for (version, what) in [("11", "altered"), ("11", "guest"), ("1", "circle"), ("1", "altered")] {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let alice = a.register("alice").await;
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        let signer = Server::new("a.org", &Wire::default()).await;
        let change = move |path: &str, answer: &mut Value| {
            if !path.contains("/send_join") {
                return;
            }
            match what {
                "altered" => {
                    let mut event = answer["state"][0].clone();
                    event["content"] = json!({ "membership": "join", "displayname": "evil" });
                    answer["event"] = event;
                }
                "guest" => {
                    let content = json!({ "membership": "join" });
                    let carol = json!({
                        "type": "m.room.member", "state_key": "@carol:c.org", "sender": "@carol:c.org", "content": content,
                    });
                    let guest = forged(&answer["state"][0], &signer, "11", &carol);
                    answer["state"].as_array_mut().unwrap().push(serde_json::from_str(guest.text()).unwrap());
                }
                _ => bend(answer, &signer),
            }
        };
        let net = Arc::new(Tampered { wire: wire.clone(), change: Box::new(change), seen: Arc::default() });
        let b = Server::behind("b.org", &wire, net).await;
        let bob = b.register("bob").await;
        let join = format!("POST /join/{}", via(&room, &[&a]));
        let answer = tokio::time::timeout(Duration::from_secs(60), b.met(&bob, &join, json!({}))).await;
        let answer = answer.unwrap_or_else(|_| panic!("{what}: it goes round in circles"));
        let carol = ruma::user_id!("@carol:c.org");
        assert_eq!(b.membership(&room, carol).await, None, "{what}: {answer}");
        if answer == json!({ "room_id": room }) {
            let member =
                format!("GET /rooms/{}/state/m.room.member/{}", quoted(&room), quoted(b.user("bob")));
            let member = b.met(&bob, &member, Value::Null).await;
            assert_eq!(member["membership"], "join", "{what}");
            assert_ne!(member["displayname"], "evil", "{what}");
            said(&b, &bob, &room, "1").await;
        } else {
            assert_eq!(b.membership(&room, &b.user("bob")).await, None, "{what}: {answer}");
        }
    }
}

/// Has the power levels and the join rules of an answer name each other as what allows them.
fn bend(answer: &mut Value, signer: &Server) {
    let state = answer["state"].as_array().unwrap().clone();
    let of = |kind: &str| state.iter().find(|event| event["type"] == kind).unwrap();
    let rules = of("m.room.join_rules");
    let mut named = of("m.room.power_levels")["auth_events"].as_array().unwrap().clone();
    named.push(json!([rules["event_id"], { "sha256": "x" }]));
    let bent = forged(of("m.room.power_levels"), signer, "1", &json!({ "auth_events": named }));
    let bent: Value = serde_json::from_str(bent.text()).unwrap();
    for list in ["state", "auth_chain"] {
        for event in answer[list].as_array_mut().unwrap() {
            if event["event_id"] == bent["event_id"] {
                *event = bent.clone();
            }
        }
    }
}

/// Row 1.9: whatever is handed over must be of the room, and be the event, that the path names.
#[tokio::test]
async fn row_1_9_cve_2020_26257_paths_of_others_on_every_way_in() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let other = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    joined(&b, "bob", (&room, &a)).await;
    let knocking = a.room(&alice, "11", json!({})).await;
    let rule = format!("PUT /rooms/{}/state/m.room.join_rules/", quoted(&knocking));
    a.met(&alice, &rule, json!({ "join_rule": "knock" })).await;
    let (to_join, to_leave, to_knock) = (Membership::Join, Membership::Leave, Membership::Knock);
    let ways = [
        ("v1/send_join", template(&a, (&room, &b), "eve", to_join).await, &room),
        ("v2/send_join", template(&a, (&room, &b), "eva", to_join).await, &room),
        ("v1/send_knock", template(&a, (&knocking, &b), "kim", to_knock).await, &knocking),
        ("v2/send_leave", template(&a, (&room, &b), "bob", to_leave).await, &room),
        ("v1/send_leave", template(&a, (&room, &b), "bob", to_leave).await, &room),
    ];
    for (way, event, room) in &ways {
        let pdu = forged(event, &b, "11", &json!({}));
        let body: Value = serde_json::from_str(pdu.text()).unwrap();
        let mut wrong = vec![(other.clone(), pdu.event_id().to_owned())];
        wrong.push(((*room).clone(), "$another".try_into().unwrap()));
        wrong.push(("!nowhere:a.org".try_into().unwrap(), pdu.event_id().to_owned()));
        for (place, id) in wrong {
            let before = (a.state(room).await, a.state(&other).await);
            let request = format!("PUT {way}/{}/{}", quoted(&place), quoted(&id));
            let (status, answer) = ask(&wire, &a, &b, (&request, &body)).await;
            assert!(matches!(status, 400 | 403 | 404), "{request}: {status} {answer}");
            assert!(place != **room && place != other || status == 400, "{request}: {status} {answer}");
            assert_eq!((a.state(room).await, a.state(&other).await), before, "{request}");
        }
        let request = format!("PUT {way}/{}/{}", quoted(room), quoted(pdu.event_id()));
        let (status, answer) = ask(&wire, &a, &b, (&request, &body)).await;
        assert_eq!(status, 200, "{request}: {answer}");
    }
    // An invite by an address that leads to another room than the path says.
    let content = json!({
        "membership": "invite",
        "third_party_invite": { "display_name": "x", "signed": { "mxid": "@zoe:b.org", "token": "t", "signatures": {} } },
    });
    let body = json!({
        "type": "m.room.member", "room_id": room, "sender": "@alice:a.org", "state_key": "@zoe:b.org", "content": content,
    });
    let request = format!("PUT v1/exchange_third_party_invite/{}", quoted(&other));
    let (status, answer) = ask(&wire, &a, &b, (&request, &body)).await;
    assert!(matches!(status, 400 | 403), "{status} {answer}");
    assert_eq!(a.membership(&room, &b.user("zoe")).await, None);
    assert_eq!(a.membership(&other, &b.user("zoe")).await, None);
}

/// Row 2.10: every endpoint with a room in it, for a server that the room does not let take part, however that is said.
#[tokio::test]
async fn row_2_10_no_endpoint_serves_a_denied_server() {
    let all = json!(["*"]);
    for (name, list) in [
        ("b.org", json!({ "allow": all, "deny": ["b.org"] })),
        ("b.org", json!({ "allow": all, "deny": ["B.oR?"] })),
        ("b.org:8448", json!({ "allow": all, "deny": ["b.org"] })),
        ("b.org", json!({ "allow": ["a.org"] })),
        ("127.0.0.1", json!({ "allow": all, "allow_ip_literals": false })),
        ("[::1]:8448", json!({ "allow": all, "allow_ip_literals": false })),
    ] {
        let wire = Wire::default();
        let (a, b) = (Server::new("a.org", &wire).await, Server::new(name, &wire).await);
        let alice = a.register("alice").await;
        let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        let bob = joined(&b, "bob", (&room, &a)).await;
        let (event, _) = said(&a, &alice, &room, "here").await;
        let made = template(&a, (&room, &b), "eve", Membership::Join).await;
        let set = format!("PUT /rooms/{}/state/m.room.server_acl/", quoted(&room));
        a.met(&alice, &set, list.clone()).await;
        let before = a.state(&room).await;
        let mut asked = BTreeSet::new();
        for (request, body) in questions((&room, &event), &b, &made) {
            let (status, answer) = ask(&wire, &a, &b, (&request, &body)).await;
            let way = request.split(['/', ' ']).nth(2).unwrap().to_owned();
            // That there is such an event, or such a room, is not told either.
            let expected = if matches!(way.as_str(), "event" | "hierarchy") { 404 } else { 403 };
            assert_eq!(status, expected, "{name} by {list}: {request}: {answer}");
            asked.insert(way);
        }
        let routes = endpoints();
        let listed = routes.listed().iter().map(|(_, path)| *path);
        let with_room =
            listed.filter(|path| path.starts_with("/_matrix/federation/") && path.contains("{room"));
        for path in with_room {
            assert!(asked.contains(path.split('/').nth(4).unwrap()), "{path} is not tried");
        }
        let (id, pdu) = said(&b, &bob, &room, "there").await;
        let transaction = json!({ "origin": name, "origin_server_ts": 1, "pdus": [pdu] });
        let (status, answer) = ask(&wire, &a, &b, ("PUT v1/send/1", &transaction)).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["pdus"][id.as_str()]["error"].is_string(), "{name} by {list}: {answer}");
        assert!(a.app.history.event(&id).await.unwrap().is_none(), "{name} by {list}");
        assert_eq!(a.state(&room).await, before, "{name} by {list}");
    }
}

/// A question of each kind about a room and an event, in the name of `b`; `made` is the template of a join.
fn questions((room, event): (&RoomId, &OwnedEventId), b: &Server, made: &Value) -> Vec<(String, Value)> {
    let (place, about, who) = (quoted(room), quoted(event), quoted(b.user("eve")));
    let mut questions: Vec<(String, Value)> = [
        format!("GET v1/backfill/{place}?v={about}&limit=10"),
        format!("GET v1/event/{about}"),
        format!("GET v1/event_auth/{place}/{about}"),
        format!("GET v1/hierarchy/{place}"),
        format!("GET v1/make_join/{place}/{who}?ver=11"),
        format!("GET v1/make_knock/{place}/{who}?ver=11"),
        format!("GET v1/make_leave/{place}/{}", quoted(b.user("bob"))),
        format!("GET v1/state/{place}?event_id={about}"),
        format!("GET v1/state_ids/{place}?event_id={about}"),
        format!("GET v1/timestamp_to_event/{place}?ts=1&dir=f"),
    ]
    .map(|request| (request, Value::Null))
    .into();
    let between = json!({ "earliest_events": [], "latest_events": [event], "limit": 10, "min_depth": 0 });
    questions.push((format!("POST v1/get_missing_events/{place}"), between));
    for (ways, membership, who) in [
        (["v1/send_join", "v2/send_join"].as_slice(), "join", "eve"),
        (&["v1/send_leave", "v2/send_leave"], "leave", "bob"),
        (&["v1/send_knock"], "knock", "eve"),
    ] {
        let user = b.user(who);
        let fields = json!({ "sender": user, "state_key": user, "content": { "membership": membership } });
        let pdu = forged(made, b, "11", &fields);
        let body: Value = serde_json::from_str(pdu.text()).unwrap();
        let id = quoted(pdu.event_id());
        questions.extend(ways.iter().map(|way| (format!("PUT {way}/{place}/{id}"), body.clone())));
    }
    let bob = b.user("bob");
    let fields = json!({ "sender": bob, "state_key": "@ann:a.org", "content": { "membership": "invite" } });
    let pdu = forged(made, b, "11", &fields);
    let (id, invite): (String, Value) = (quoted(pdu.event_id()), serde_json::from_str(pdu.text()).unwrap());
    let second = json!({ "room_version": "11", "event": invite, "invite_room_state": [] });
    questions.push((format!("PUT v2/invite/{place}/{id}"), second));
    questions.push((format!("PUT v1/invite/{place}/{id}"), invite));
    let signed = json!({ "mxid": b.user("eve"), "token": "t", "signatures": {} });
    let content =
        json!({ "membership": "invite", "third_party_invite": { "display_name": "x", "signed": signed } });
    let exchange = json!({
        "type": "m.room.member", "room_id": room, "sender": bob, "state_key": b.user("eve"), "content": content,
    });
    questions.push((format!("PUT v1/exchange_third_party_invite/{place}"), exchange));
    questions
}

/// Row 2.8: who may not come into a room is told nothing of it, whichever way they ask.
#[tokio::test]
async fn row_2_8_cve_2021_39163_a_private_room_is_told_to_nobody() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, mallory, eve) =
        (a.register("alice").await, a.register("mallory").await, b.register("eve").await);
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let space = a.room(&alice, "11", space).await;
    let extra =
        json!({ "preset": "private_chat", "name": "canary", "topic": "canary", "room_alias_name": "hidden" });
    let room = a.room(&alice, "11", extra).await;
    let child = format!("PUT /rooms/{}/state/m.space.child/{}", quoted(&space), quoted(&room));
    a.met(&alice, &child, json!({ "via": ["a.org"] })).await;
    let (event, _) = said(&a, &alice, &room, "canary").await;
    let (place, above) = (quoted(&room), quoted(&space));
    let local = [
        format!("/_matrix/client/v1/rooms/{place}/hierarchy"),
        format!("/_matrix/client/v1/rooms/{above}/hierarchy"),
        format!("/_matrix/client/v1/room_summary/{place}"),
        format!("/_matrix/client/v1/room_summary/{}", quoted("#hidden:a.org")),
        format!("/_matrix/client/v1/rooms/{place}/threads"),
        format!("/_matrix/client/v1/rooms/{place}/relations/{}", quoted(&event)),
        format!("/_matrix/client/v1/rooms/{place}/timestamp_to_event?ts=1&dir=f"),
        String::from("/publicRooms"),
        format!("/rooms/{place}/state"),
        format!("/rooms/{place}/state/m.room.name/"),
        format!("/rooms/{place}/members"),
        format!("/rooms/{place}/joined_members"),
        format!("/rooms/{place}/messages?dir=b"),
        format!("/rooms/{place}/initialSync"),
        format!("/rooms/{place}/event/{}", quoted(&event)),
        format!("/rooms/{place}/context/{}", quoted(&event)),
        format!("/rooms/{place}/aliases"),
        String::from("/sync?full_state=true"),
    ];
    for path in &local {
        let answer = a.met(&mallory, &format!("GET {path}"), Value::Null).await.to_string();
        assert!(!answer.contains("canary"), "{path}: {answer}");
    }
    for path in [&local[0], &local[1], &local[2], &local[3]] {
        let answer = b.met(&eve, &format!("GET {path}?via=a.org"), Value::Null).await.to_string();
        assert!(!answer.contains("canary"), "{path} from elsewhere: {answer}");
    }
    for request in [
        format!("GET v1/hierarchy/{place}"),
        format!("GET v1/hierarchy/{above}"),
        "GET v1/publicRooms".into(),
    ] {
        let (_, answer) = ask(&wire, &a, &b, (&request, &Value::Null)).await;
        assert!(!answer.to_string().contains("canary"), "{request}: {answer}");
    }
    // What the join rule lets in, or everybody may read, is told, also where somebody has listed the room.
    let listed = format!("PUT /directory/list/room/{place}");
    assert_eq!(a.met(&alice, &listed, json!({ "visibility": "public" })).await, json!({}));
    let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
    for (rule, visibility, is_told) in [
        (json!({ "join_rule": "invite" }), "shared", false),
        (json!({ "join_rule": "private" }), "shared", false),
        (json!({ "join_rule": "nonsense" }), "shared", false),
        (json!({ "join_rule": "restricted", "allow": allow }), "shared", false),
        (json!({ "join_rule": "knock" }), "shared", true),
        (json!({ "join_rule": "public" }), "shared", true),
        (json!({ "join_rule": "invite" }), "world_readable", true),
    ] {
        set_up(&a, &alice, &room, (&rule, visibility)).await;
        for (server, token) in [(&a, &mallory), (&b, &eve)] {
            for path in previews(&room) {
                let answer = server.met(token, &path, Value::Null).await;
                let name = &server.name;
                assert_eq!(answer["name"] == "canary", is_told, "{rule} {visibility} at {name}: {answer}");
            }
        }
        let filter = json!({ "filter": { "generic_search_term": "canary" } });
        for (request, body) in [("GET", &Value::Null), ("POST", &filter)] {
            let local = a.met(&mallory, &format!("{request} /publicRooms"), body.clone()).await;
            let (_, told) = ask(&wire, &a, &b, (&format!("{request} v1/publicRooms"), body)).await;
            for answer in [local, told] {
                let answer = answer.to_string();
                assert_eq!(answer.contains("canary"), is_told, "{request}, {rule} {visibility}: {answer}");
            }
        }
    }
    assert_eq!(a.met("", "GET /publicRooms?limit=0", Value::Null).await["chunk"], json!([]));
}

async fn set_up(a: &Server, token: &str, room: &RoomId, (rule, visibility): (&Value, &str)) {
    for (kind, content) in [
        ("m.room.join_rules", rule.clone()),
        ("m.room.history_visibility", json!({ "history_visibility": visibility })),
    ] {
        let set = a.met(token, &format!("PUT /rooms/{}/state/{kind}/", quoted(room)), content).await;
        assert!(set["event_id"].is_string(), "{set}");
    }
}

/// The ways of looking at a room from outside, in the version of today and in the one before that.
fn previews(room: &RoomId) -> [String; 2] {
    let place = quoted(room);
    [
        format!("GET /_matrix/client/v1/room_summary/{place}?via=a.org"),
        format!("GET /_matrix/client/unstable/im.nheko.summary/summary/{place}?via=a.org"),
    ]
}

/// Row 2.8: a join rule that the room's version does not know lets nobody in, and so nobody look in.
#[tokio::test]
async fn row_2_8_a_join_rule_counts_where_it_is_known() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, eve) = (a.register("alice").await, b.register("eve").await);
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let space = a.room(&alice, "11", space).await;
    let mallory = joined(&a, "mallory", (&space, &a)).await;
    b.met(&eve, &format!("POST /join/{}", via(&space, &[&a])), json!({})).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
    for (version, rule, is_told) in [
        ("6", "knock", false),
        ("7", "knock", true),
        ("7", "restricted", false),
        ("8", "restricted", true),
        ("9", "knock_restricted", false),
        ("10", "knock_restricted", true),
    ] {
        let room = a.room(&alice, version, json!({ "preset": "private_chat", "name": "canary" })).await;
        set_up(&a, &alice, &room, (&json!({ "join_rule": rule, "allow": allow }), "shared")).await;
        for (server, token) in [(&a, &mallory), (&b, &eve)] {
            for path in previews(&room) {
                let answer = server.met(token, &path, Value::Null).await;
                assert_eq!(
                    answer["name"] == "canary",
                    is_told,
                    "{version} {rule} at {}: {answer}",
                    server.name
                );
            }
        }
    }
}

/// Row 3.3: what a client says is as strict as what another server says.
#[tokio::test]
async fn row_3_3_cve_2020_26890_numbers_of_clients_are_whole_and_small() {
    let wire = Wire::default();
    let a = Server::new("a.org", &wire).await;
    let alice = a.register("alice").await;
    for version in ["1", "5", "6", "12"] {
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        let place = quoted(&room);
        let odd = [json!(1.5), json!(-0.0), json!(1e300), json!(9_007_199_254_740_992_u64), json!(i64::MIN)];
        for (number, odd) in odd.into_iter().enumerate() {
            for content in [
                json!({ "x": odd }),
                json!({ "x": [{ "y": odd }] }),
                json!({ "membership": "join", "x": odd }),
            ] {
                for path in [
                    format!("PUT /rooms/{place}/send/m.test/{version}{number}"),
                    format!("PUT /rooms/{place}/state/m.test/"),
                    format!("PUT /rooms/{place}/state/m.room.member/{}", quoted(a.user("alice"))),
                ] {
                    if path.contains("m.room.member") && content["membership"].is_null() {
                        continue;
                    }
                    // Nobody is held back for asking often.
                    a.clock.advance(Duration::from_secs(10));
                    let answer = a.met(&alice, &path, content.clone()).await;
                    let refused = answer.as_str().is_some_and(|answer| answer.starts_with("400"));
                    assert!(refused, "version {version}: {path} {content}: {answer}");
                }
            }
        }
        said(&a, &alice, &room, "still").await;
    }
}

/// Row 3.5: what is no key is not kept, so that nobody who claims one gets it.
#[tokio::test]
async fn row_3_5_cve_2025_61672_keys_for_one_time_without_sense_are_refused() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let good = json!({ "key": "k", "signatures": { "@alice:a.org": { "ed25519:PHONE": "s" } } });
    let nonsense = [
        json!({ "signed_curve25519": good }),
        json!({ "": good }),
        json!({ "signed_curve25519:1": 5 }),
        json!({ "signed_curve25519:1": null }),
        json!({ "signed_curve25519:1": [] }),
        json!({ "signed_curve25519:1": {} }),
        json!({ "signed_curve25519:1": { "key": 5, "signatures": {} } }),
        json!({ "signed_curve25519:1": { "key": "k", "signatures": [] } }),
        json!({ "signed_curve25519:1": { "key": "k", "signatures": { "@alice:a.org": 5 } } }),
        json!({ format!("signed_curve25519:{}", "x".repeat(300)): good }),
        json!([]),
        json!("all"),
    ];
    for keys in nonsense {
        for field in ["one_time_keys", "fallback_keys"] {
            let answer = a.met(&alice, "POST /keys/upload", json!({ field: keys })).await;
            let refused = answer.as_str().is_some_and(|answer| answer.starts_with("400"));
            assert!(refused, "{field} {keys:.100}: {answer}");
        }
    }
    let claim = json!({ "one_time_keys": { "@alice:a.org": { "PHONE": "signed_curve25519" } } });
    let claimed = b.met(&bob, "POST /keys/claim", claim.clone()).await;
    assert_eq!(claimed["one_time_keys"]["@alice:a.org"]["PHONE"], Value::Null, "{claimed}");
    a.met(&alice, "POST /keys/upload", json!({ "one_time_keys": { "signed_curve25519:1": good } })).await;
    let claimed = b.met(&bob, "POST /keys/claim", claim).await;
    assert_eq!(claimed["one_time_keys"]["@alice:a.org"]["PHONE"]["signed_curve25519:1"], good, "{claimed}");
}
