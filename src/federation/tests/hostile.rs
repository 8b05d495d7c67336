//! What hostile servers have been known to send, named after the rows of published vulnerabilities.

use ruma::RoomId;
use serde_json::{Value, json, value::RawValue};
use tokio_util::task::TaskTracker;

use super::{Node, Transaction, Wire, server, user};
use crate::{
    dag::Pdu,
    federation::FederationError,
    history::{History, Status},
    keys::{canonical_text, parse_object},
    limits::{PRESENCE_EDU_USERS_MAX, RECEIPT_EDU_MAX},
    log::Log,
    room::Graft,
    types::{Fact, Lane, Position},
};

/// A room of alice's at a, with bob of the hostile server b in it.
async fn scene(version: &str) -> (std::sync::Arc<Wire>, ruma::OwnedRoomId) {
    let wire = Wire::new(&["a", "b"]).await;
    let a = wire.node("a");
    let room = a.create("alice@a", version).await;
    wire.node("b").join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    (wire, room)
}

async fn message(by: &Node, room: &RoomId, sender: &str, body: &str) -> Pdu {
    by.build(by, room, (&user(sender), "m.room.message", None, json!({"body": body}))).await
}

/// `pdu` with other fields, hashed and signed anew by `by`.
pub(super) fn forged(pdu: &Pdu, by: &Node, version: &str, fields: Value) -> Box<RawValue> {
    let rules = crate::dag::versions::rules(&version.try_into().unwrap()).unwrap();
    let mut object = pdu.object();
    object.remove("signatures");
    object.remove("hashes");
    let fields = parse_object(&fields.to_string()).unwrap();
    object.extend(fields);
    by.key.hash_and_sign(&mut object, rules).unwrap();
    RawValue::from_string(canonical_text(&object)).unwrap()
}

/// Sends raw texts with a good event behind; what the bad ones came to. The good one must come through.
async fn send(wire: &Wire, room: &RoomId, texts: Vec<Box<RawValue>>) -> Vec<String> {
    let (a, b) = (wire.node("a"), wire.node("b"));
    let good = message(&b, room, "bob@b", "good").await;
    let mut pdus = texts;
    pdus.push(good.json().to_owned());
    let transaction = Transaction { id: String::from("t"), pdus, edus: Vec::new() };
    let mut answer = a.federation.receive(&b.name, transaction).await.unwrap();
    assert_eq!(answer.remove(good.event_id()), Some(Ok(())), "a bad item has stopped a good one");
    assert_eq!(a.status(good.event_id()).await, Some(Status::Timeline));
    answer.into_values().map(|result| result.err().unwrap_or_else(|| String::from("ok"))).collect()
}

fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

#[tokio::test]
async fn row_1_6_events_of_others_are_not_signed_by_them() {
    for version in ["1", "6", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let honest = message(&b, &room, "bob@b", "x").await;
        let as_alice = forged(&honest, &b, version, json!({"sender": "@alice:a.org"}));
        let mut unsigned = honest.object();
        unsigned.remove("signatures");
        let unsigned = raw(canonical_text(&unsigned));
        let before = a.timeline(&room).await;
        let answers = send(&wire, &room, vec![as_alice]).await;
        assert!(answers.iter().all(|answer| answer.contains("signature")), "{version}: {answers:?}");
        let (wire, room) = scene(version).await;
        let answers = send(&wire, &room, vec![unsigned]).await;
        assert!(answers.iter().all(|answer| answer.contains("signature")), "{version}: {answers:?}");
        assert!(before.len() < 50);
    }
}

#[tokio::test]
async fn row_1_7_cve_2022_39200_fetched_events_are_checked_like_others() {
    let (wire, room) = scene("10").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let honest = message(&b, &room, "bob@b", "x").await;
    let bad = forged(&honest, &b, "10", json!({"sender": "@alice:a.org"}));
    let bad_id = Pdu::parse(bad.get(), crate::dag::versions::rules(&ruma::RoomVersionId::V10).unwrap());
    let bad_id = bad_id.unwrap().event_id().to_owned();
    let child = forged(&honest, &b, "10", json!({"prev_events": [bad_id]}));
    let child_id = Pdu::parse(child.get(), crate::dag::versions::rules(&ruma::RoomVersionId::V10).unwrap());
    let child_id = child_id.unwrap().event_id().to_owned();
    let bad_value: Value = serde_json::from_str(bad.get()).unwrap();
    for (path, lie) in [
        ("get_missing_events", json!({"events": [bad_value]})),
        ("/event/", json!({"origin": "b.org", "origin_server_ts": 1, "pdus": [bad_value]})),
        ("/event_auth/", json!({"auth_chain": [bad_value]})),
        ("/state/", json!({"auth_chain": [bad_value], "pdus": [bad_value]})),
        ("/state_ids/", json!({"auth_chain_ids": [], "pdu_ids": [bad_id]})),
    ] {
        wire.lies.lock().push((server("b"), path, Some(lie)));
    }
    let answers = send(&wire, &room, vec![child]).await;
    assert_eq!(answers, ["ok"], "it is kept");
    assert_eq!(a.status(&bad_id).await, None);
    assert_eq!(a.status(&child_id).await, None);
}

/// A signature counts only where the rules want it, by the key that they want, over what they cover.
#[tokio::test]
async fn row_1_8_every_signature_is_checked() {
    for version in ["1", "6", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let honest = message(&b, &room, "bob@b", "x").await;
        let with = |change: &dyn Fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(honest.text()).unwrap();
            change(&mut value);
            raw(value.to_string())
        };
        let signature = serde_json::from_str::<Value>(honest.text()).unwrap()["signatures"]["b.org"].clone();
        let bad = vec![
            with(&|event| event["signatures"] = json!({})),
            with(&|event| event["signatures"] = json!({ "b.org": {} })),
            // The right signature under other names.
            with(&|event| event["signatures"] = json!({ "a.org": signature })),
            with(&|event| {
                event["signatures"] = json!({ "b.org": { "ed25519:other": signature["ed25519:k"] } })
            }),
            with(&|event| event["signatures"]["b.org"]["ed25519:k"] = json!("AAAA")),
            // It covers another time.
            with(&|event| event["origin_server_ts"] = json!(5)),
        ];
        for text in bad {
            let result = a.rooms().receive(&b.name, &room, vec![text.clone()]).await.unwrap();
            assert!(result.iter().all(|(_, result)| result.is_err()), "{version}: {text}");
            for (id, _) in result {
                assert_ne!(a.status(&id).await, Some(Status::Timeline), "{version}: {text}");
            }
        }
        assert_eq!(a.receive(&b, &[&honest]).await, ["ok"], "{version}");
    }
}

#[tokio::test]
async fn row_1_13_auth_events_of_another_room_allow_nothing() {
    let (wire, room) = scene("10").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let other = a.create("alice@a", "10").await;
    b.join_through(&a, &other, "bob@b").await.unwrap();
    wire.drive().await;
    let honest = message(&b, &other, "bob@b", "x").await;
    let here = message(&b, &room, "bob@b", "x").await;
    let foreign = honest.auth_events().to_vec();
    let answers = send(&wire, &room, vec![forged(&here, &b, "10", json!({"auth_events": foreign}))]).await;
    assert!(answers[0].contains("rejected"), "{answers:?}");
}

#[tokio::test]
async fn row_2_10_a_denied_server_gets_nothing_in_and_nothing_out() {
    let (wire, room) = scene("9").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let acl = json!({"allow": ["*"], "deny": ["B.ORG"]});
    a.set("alice@a", &room, ("m.room.server_acl", ""), acl).await.unwrap();
    let pdu = message(&b, &room, "bob@b", "x").await;
    assert_eq!(a.receive(&b, &[&pdu]).await, ["the room does not let the server take part"]);
    assert_eq!(a.status(pdu.event_id()).await, None);
    let head = a.timeline(&room).await.pop().unwrap();
    assert!(matches!(a.federation.event(&b.name, &head).await, Err(FederationError::NotFound(_))));
    let state = a.federation.state_ids(&b.name, &room, &head).await;
    assert!(matches!(state, Err(FederationError::Forbidden(_))));
    let chain = a.federation.event_auth(&b.name, &room, &head).await;
    assert!(matches!(chain, Err(FederationError::Forbidden(_))));
    let past = a.federation.backfill(&b.name, &room, vec![head], 10).await;
    assert!(matches!(past, Err(FederationError::Forbidden(_))));
}

/// Who reads what, by history visibility and whether the server is or was in the room.
#[tokio::test]
async fn row_2_1_cve_2022_39335_only_servers_in_the_room_read_it() {
    for visibility in ["world_readable", "shared", "invited", "joined"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", "11").await;
        let setting = json!({"history_visibility": visibility});
        a.set("alice@a", &room, ("m.room.history_visibility", ""), setting).await.unwrap();
        let early = a.say("alice@a", &room, "early").await.unwrap();
        b.join_through(&a, &room, "bob@b").await.unwrap();
        let late = a.say("alice@a", &room, "late").await.unwrap();
        let sees = |text: Box<RawValue>| text.get().contains("\"body\"");
        let shared = matches!(visibility, "world_readable" | "shared");
        let found = a.federation.event(&b.name, &early).await.map(sees);
        assert_eq!(found.unwrap(), shared, "{visibility}: what was before the join");
        assert!(sees(a.federation.event(&b.name, &late).await.unwrap()), "{visibility}");
        let past = a.federation.backfill(&b.name, &room, vec![early.clone()], 1).await.unwrap();
        assert_eq!(sees(past[0].clone()), shared, "{visibility}: backfill");
        // c was never in, and learns not even whether there is such an event.
        for asked in [&early, &late] {
            assert!(matches!(a.federation.event(&c.name, asked).await, Err(FederationError::NotFound(_))));
            let ids = a.federation.state_ids(&c.name, &room, asked).await;
            assert!(matches!(ids, Err(FederationError::Forbidden(_))));
        }
        a.rooms().kick(&user("alice@a"), &room, &user("bob@b"), None).await.unwrap();
        assert!(matches!(a.federation.event(&b.name, &late).await, Err(FederationError::NotFound(_))));
    }
}

#[tokio::test]
async fn row_2_2_an_event_of_another_room_is_no_event() {
    let (wire, room) = scene("11").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let other = a.create("alice@a", "11").await;
    let secret = a.say("alice@a", &other, "secret").await.unwrap();
    let unknown = ruma::event_id!("$4Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1Kj1K1A").to_owned();
    for id in [&secret, &unknown] {
        let word = |error: FederationError| error.to_string();
        assert_eq!(
            a.federation.state_ids(&b.name, &room, id).await.map_err(word).unwrap_err(),
            "There is no such event in the room"
        );
        assert_eq!(
            a.federation.event_auth(&b.name, &room, id).await.map_err(word).unwrap_err(),
            "There is no such event in the room"
        );
        assert_eq!(
            a.federation.state(&b.name, &room, id).await.map_err(word).unwrap_err(),
            "There is no such event in the room"
        );
        assert!(a.federation.backfill(&b.name, &room, vec![id.clone()], 10).await.unwrap().is_empty());
        for (earliest, latest) in [(vec![], vec![id.clone()]), (vec![id.clone()], vec![id.clone()])] {
            let between = crate::federation::Between { earliest, latest, limit: 10, min_depth: 0 };
            assert!(a.federation.missing_events(&b.name, &room, between).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn row_3_1_to_3_3_fields_beyond_their_bounds() {
    for version in ["1", "5", "6", "12"] {
        let (wire, room) = scene(version).await;
        let b = wire.node("b");
        let honest = message(&b, &room, "bob@b", "x").await;
        let text = honest.text().to_owned();
        let depth = format!("\"depth\":{}", honest.depth());
        let broken = [
            raw("{}"),
            raw("[]"),
            raw("null"),
            raw("1"),
            raw(text.replace(&depth, "\"depth\":1.5")),
            raw(text.replace(&depth, "\"depth\":-1")),
            raw(text.replace(&depth, "\"depth\":9223372036854775807")),
            raw(text.replace(&depth, "\"depth\":1e400")),
            raw(text.replace("\"body\":\"x\"", "\"body\":1e999")),
            raw(text.replace("\"body\":\"x\"", &format!("\"body\":\"{}\"", "x".repeat(70_000)))),
            raw(text.replace("@bob:b.org", "bob")),
            raw(text.replace("\"m.room.message\"", &format!("\"{}\"", "x".repeat(300)))),
            raw(text.replace("\"prev_events\":[", "\"prev_events\":[7,")),
            raw(text.replace("\"content\":{", "\"content\":[],\"x\":{")),
        ];
        let answers = send(&wire, &room, broken.into()).await;
        assert!(answers.iter().all(|answer| answer != "ok"), "version {version}: {answers:?}");
        // The room lives on.
        wire.node("a").say("alice@a", &room, "still").await.unwrap();
    }
}

#[tokio::test]
async fn row_3_2_cve_2018_10657_the_greatest_depth_leaves_the_room_usable() {
    for version in ["1", "5", "6", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let honest = message(&b, &room, "bob@b", "x").await;
        let deepest = forged(&honest, &b, version, json!({"depth": (1_u64 << 53) - 1}));
        send(&wire, &room, vec![deepest]).await;
        for number in 0..3 {
            a.say("alice@a", &room, &format!("{number}")).await.unwrap();
            wire.drive().await;
        }
        assert_eq!(a.state(&room).await, b.state(&room).await, "version {version}");
        let heads = a.history().room(&room).await.unwrap().unwrap().heads.len();
        assert_eq!(heads, 1, "version {version}");
    }
}

/// An event that was rejected is part of no state, whatever stands on it.
#[tokio::test]
async fn row_3_7_cve_2022_39374_rejected_events_stay_out_of_the_state() {
    for version in ["1", "6", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let grab = json!({"users": {"@bob:b.org": 100}});
        let coup = b.build(&b, &room, (&user("bob@b"), "m.room.power_levels", Some(""), grab)).await;
        let state = a.state(&room).await;
        let results = a.receive(&b, &[&coup]).await;
        assert!(results[0].contains("rejected"), "{results:?}");
        assert_eq!(a.status(coup.event_id()).await, Some(Status::Rejected));
        // What follows it is good, and does not bring it in.
        let honest = message(&b, &room, "bob@b", "after").await;
        let reference = match version {
            "1" => json!([[coup.event_id(), {"sha256": "x"}]]),
            _ => json!([coup.event_id()]),
        };
        let child = forged(&honest, &b, version, json!({"prev_events": reference}));
        let child = match version {
            "1" => {
                forged(&honest, &b, version, json!({"prev_events": reference, "event_id": "$child:b.org"}))
            }
            _ => child,
        };
        let results = a.rooms().receive(&b.name, &room, vec![child]).await.unwrap();
        assert!(results.iter().all(|(_, result)| result.is_ok()), "version {version}: {results:?}");
        assert_eq!(a.state(&room).await, state, "version {version}");
        assert_eq!(a.receive(&b, &[&coup]).await, results_of(&coup, &a).await, "it stays rejected");
    }
}

async fn results_of(pdu: &Pdu, node: &Node) -> Vec<String> {
    let event = node.history().event(pdu.event_id()).await.unwrap().unwrap();
    vec![format!("the event was rejected: {}", event.notes.reason.clone().unwrap_or_default())]
}

/// The state of a room is not what one server says it is.
#[tokio::test]
async fn row_3_10_a_lying_state_replaces_nothing() {
    let (wire, room) = scene("10").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    a.set("alice@a", &room, ("m.room.topic", ""), json!({"topic": "kept"})).await.unwrap();
    wire.drive().await;
    let state = a.state(&room).await;
    let honest = message(&b, &room, "bob@b", "x").await;
    let unknown = forged(&honest, &b, "10", json!({"origin_server_ts": 5}));
    let rules = crate::dag::versions::rules(&ruma::RoomVersionId::V10).unwrap();
    let unknown_id = Pdu::parse(unknown.get(), rules).unwrap().event_id().to_owned();
    let child = forged(&honest, &b, "10", json!({"prev_events": [unknown_id], "depth": 3}));
    let unknown: Value = serde_json::from_str(unknown.get()).unwrap();
    // Only the bare bones, without the topic.
    let bones: Vec<_> =
        state.iter().filter(|(key, _)| !key.starts_with("m.room.topic")).map(|(_, id)| id).collect();
    for (path, lie) in [
        ("get_missing_events", json!({"events": []})),
        ("/event/", json!({"origin": "b.org", "origin_server_ts": 1, "pdus": [unknown]})),
        ("/state_ids/", json!({"auth_chain_ids": [], "pdu_ids": bones})),
    ] {
        wire.lies.lock().push((server("b"), path, Some(lie)));
    }
    let answers = send(&wire, &room, vec![child]).await;
    assert_eq!(answers, ["ok"]);
    assert_eq!(a.state(&room).await, state);
}

#[tokio::test]
async fn row_3_11_redactions_in_circles() {
    let (wire, room) = scene("11").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let (mut last, mut chain) = (None, Vec::new());
    for _ in 0..20 {
        let content = match &last {
            Some(target) => json!({ "redacts": target }),
            None => json!({"redacts": "$nobody"}),
        };
        wire.clock.advance(std::time::Duration::from_millis(1));
        let pdu = b.build(&b, &room, (&user("bob@b"), "m.room.redaction", None, content)).await;
        last = Some(pdu.event_id().to_owned());
        chain.push(pdu);
    }
    chain.reverse();
    let results = a.receive(&b, &chain.iter().collect::<Vec<_>>()).await;
    assert!(results.iter().all(|result| result == "ok"), "{results:?}");
    a.say("alice@a", &room, "still").await.unwrap();
}

/// In room versions 1 and 2 ids are what the sender says, so that redactions can stand in a circle, or for themselves.
#[tokio::test]
async fn row_3_11_redactions_of_one_another_and_of_themselves() {
    for version in ["1", "2"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let redaction = (&user("bob@b"), "m.room.redaction", None, json!({ "reason": "x" }));
        let honest = b.build(&b, &room, redaction).await;
        let of = |id: &str, target: &str| {
            forged(&honest, &b, version, json!({ "event_id": id, "redacts": target }))
        };
        let circle = vec![
            of("$x:b.org", "$y:b.org"),
            of("$y:b.org", "$x:b.org"),
            of("$z:b.org", "$z:b.org"),
            of("$1:b.org", "$3:b.org"),
            of("$2:b.org", "$1:b.org"),
            of("$3:b.org", "$2:b.org"),
        ];
        let answers = send(&wire, &room, circle).await;
        assert_eq!(answers, ["ok"; 6], "{version}");
        a.say("alice@a", &room, "still").await.unwrap();
        let timeline = a.timeline(&room).await;
        for id in ["$x:b.org", "$y:b.org", "$z:b.org", "$1:b.org", "$2:b.org", "$3:b.org"] {
            let id: &ruma::EventId = id.try_into().unwrap();
            assert_eq!(timeline.iter().filter(|event| *event == id).count(), 1, "{version}: {id}");
            assert!(a.history().event(id).await.unwrap().is_some(), "{version}: {id}");
        }
        // Nobody is held up by them later either: a server that joins is given all of it.
        wire.drive().await;
    }
}

/// Each takes back the one before it, over more than a transaction holds.
#[tokio::test]
async fn row_3_11_a_long_chain_of_redactions() {
    let (wire, room) = scene("11").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let first = message(&b, &room, "bob@b", "x").await;
    let (mut last, mut chain) = (first.event_id().to_owned(), vec![first]);
    for _ in 0..300 {
        let content = json!({ "redacts": last });
        let pdu = b.build(&b, &room, (&user("bob@b"), "m.room.redaction", None, content)).await;
        last = pdu.event_id().to_owned();
        chain.push(pdu);
    }
    // Half of it in its order, the rest from its end.
    let (early, late) = chain.split_at(150);
    let parts = early.chunks(50).map(|part| part.iter().collect::<Vec<_>>());
    for part in parts.chain(late.rchunks(50).map(|part| part.iter().rev().collect())) {
        let results = a.receive(&b, &part).await;
        assert!(results.iter().all(|result| result == "ok"), "{results:?}");
    }
    a.say("alice@a", &room, "still").await.unwrap();
    assert_eq!(a.status(&last).await, Some(Status::Timeline));
    for pdu in &chain[..chain.len() - 1] {
        let event = a.history().event(pdu.event_id()).await.unwrap().unwrap();
        let shown = serde_json::from_str::<Value>(event.pdu.text()).unwrap();
        assert!(event.is_shown() && shown["content"].get("body").is_none(), "{shown}");
    }
}

/// In room versions 1 and 2 ids are what the sender says.
#[tokio::test]
async fn row_3_11_events_in_circles() {
    let (wire, room) = scene("1").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let honest = message(&b, &room, "bob@b", "x").await;
    let hash = json!({"sha256": "x"});
    let circle = [
        forged(&honest, &b, "1", json!({"event_id": "$x:b.org", "prev_events": [["$y:b.org", hash]]})),
        forged(&honest, &b, "1", json!({"event_id": "$y:b.org", "prev_events": [["$x:b.org", hash]]})),
        forged(&honest, &b, "1", json!({"event_id": "$z:b.org", "prev_events": [["$z:b.org", hash]]})),
    ];
    let answers = send(&wire, &room, circle.into()).await;
    assert_eq!(answers, ["ok"; 3], "they are kept, and wait for one another for ever");
    for id in ["$x:b.org", "$y:b.org", "$z:b.org"] {
        assert_eq!(a.status(id.try_into().unwrap()).await, None);
    }
    a.say("alice@a", &room, "still").await.unwrap();
}

#[tokio::test]
async fn row_3_20_a_transaction_has_its_limits_and_one_answer() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    for (pdus, edus, expected) in [(50, 100, true), (51, 0, false), (0, 101, false)] {
        let transaction = Transaction {
            id: format!("{pdus} {edus}"),
            pdus: (0..pdus).map(|_| raw("{}")).collect(),
            edus: (0..edus).map(|_| raw("{}")).collect(),
        };
        assert_eq!(a.federation.receive(&b.name, transaction).await.is_ok(), expected);
    }
    let pdu = message(&b, &room, "bob@b", "x").await;
    let transaction =
        Transaction { id: String::from("one"), pdus: vec![pdu.json().to_owned()], edus: Vec::new() };
    let first = a.federation.receive(&b.name, transaction.clone()).await.unwrap();
    let again = Transaction { pdus: Vec::new(), ..transaction };
    assert_eq!(a.federation.receive(&b.name, again).await.unwrap(), first);
}

/// What one EDU lists has limits too: the first are taken, so that who keeps to the limit is heard.
#[tokio::test]
async fn row_3_20_what_an_edu_lists_has_its_limits() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let said = a.say("alice@a", &room, "read me").await.unwrap();
    let edu = |kind: &str, content: Value| raw(json!({ "edu_type": kind, "content": content }).to_string());
    let bob = user("bob@b");
    for (before, expected) in [(PRESENCE_EDU_USERS_MAX - 1, true), (PRESENCE_EDU_USERS_MAX, false)] {
        let made_up = (0..before).map(|n| json!({ "user_id": format!("@u{n}:b.org"), "presence": "online" }));
        let status = before.to_string();
        let bobs = json!({ "user_id": bob, "presence": "online", "status_msg": status });
        let push: Vec<Value> = made_up.chain([bobs]).collect();
        a.federation.receive_edus(&b.name, &[edu("m.presence", json!({ "push": push }))]).await.unwrap();
        let seen = a.federation.ephemeral.presence(&bob);
        assert_eq!(seen.status_msg.as_deref() == Some(&*status), expected);
    }
    let receipt = json!({ "event_ids": [said], "data": { "ts": 1 } });
    let is_read = async || {
        let lane = Lane::Room(room.clone());
        let facts = a.federation.log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap();
        facts.iter().any(|(_, fact)| matches!(fact, Fact::Receipt { user_id, .. } if *user_id == bob))
    };
    for (before, expected) in [(RECEIPT_EDU_MAX, false), (RECEIPT_EDU_MAX - 1, true)] {
        // Users come in their order, of which bob is the last.
        let mut read: serde_json::Map<String, Value> =
            (0..before).map(|n| (format!("@a{n}:b.org"), receipt.clone())).collect();
        read.insert(bob.to_string(), receipt.clone());
        let content = json!({ room.as_str(): { "m.read": read } });
        a.federation.receive_edus(&b.name, &[edu("m.receipt", content)]).await.unwrap();
        assert_eq!(is_read().await, expected, "after {before} others");
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_is_not_judged() {
    let (wire, room) = scene("11").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    wire.cut("b", "a");
    let first = b.say("bob@b", &room, "first").await.unwrap();
    let second = b.say("bob@b", &room, "second").await.unwrap();
    let second = b.history().event(&second).await.unwrap().unwrap();
    wire.cut("a", "b");
    assert_eq!(a.receive(&b, &[&second.pdu]).await, ["ok"], "it is kept");
    assert_eq!(a.status(second.pdu.event_id()).await, None, "there is no verdict");
    wire.mend();
    assert_eq!(a.receive(&b, &[&second.pdu]).await, ["ok"]);
    assert_eq!(a.status(&first).await, Some(Status::Timeline));
}

/// A room is of the version in which it was made, whatever becomes of its create event.
#[tokio::test]
async fn row_3_12_a_redacted_create_event_changes_nothing() {
    for version in ["1", "3", "6", "10", "11", "12"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let create = a.history().room(&room).await.unwrap().unwrap().create.clone();
        let before = a.history().event(&create).await.unwrap().unwrap().pdu.text().to_owned();
        let denied = a.rooms().redact(&user("alice@a"), &room, &create, (None, None)).await;
        assert!(denied.is_err(), "version {version}");
        // Her server does it all the same.
        let content = json!({ "redacts": create });
        let redaction = a.build(&a, &room, (&user("alice@a"), "m.room.redaction", None, content)).await;
        let redaction = forged(&redaction, &a, version, json!({ "redacts": create }));
        let results = b.rooms().receive(&a.name, &room, vec![redaction]).await.unwrap();
        assert!(results.iter().all(|(_, result)| result.is_ok()), "version {version}: {results:?}");
        assert_eq!(
            b.history().event(&create).await.unwrap().unwrap().pdu.text(),
            before,
            "version {version}"
        );
        assert_eq!(b.history().room(&room).await.unwrap().unwrap().version.as_str(), version);
        wire.node("c").join_through(&b, &room, "carol@c").await.unwrap();
        b.say("bob@b", &room, "still").await.unwrap();
    }
}

/// Neither a room without a create event nor an event without a room stops what comes with it, or the next start.
#[tokio::test]
async fn row_3_17_a_room_without_a_create_event_stops_nothing() {
    for version in ["1", "6", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let honest = message(&b, &room, "bob@b", "x").await;
        let join = json!({
            "room_id": "!nowhere:b.org", "type": "m.room.member", "state_key": "@bob:b.org",
            "content": { "membership": "join" }, "prev_events": [], "auth_events": [], "depth": 1,
        });
        let texts = vec![
            forged(&honest, &b, version, json!({ "room_id": "!nowhere:b.org" })),
            forged(&honest, &b, version, join),
            forged(&honest, &b, version, json!({ "prev_events": [], "auth_events": [] })),
            forged(&honest, &b, version, json!({ "room_id": "nowhere" })),
        ];
        let answers = send(&wire, &room, texts).await;
        assert!(answers.iter().all(|answer| answer != "ok"), "version {version}: {answers:?}");
        let graft = Graft {
            origin: b.name.clone(),
            version: version.try_into().unwrap(),
            event: honest,
            state: Vec::new(),
            auth_chain: Vec::new(),
            omitted: None,
        };
        let graft = Graft { event: message(&a, &room, "alice@a", "x").await, ..graft };
        let state = a.state(&room).await;
        drop(a.rooms().graft(graft).await);
        assert_eq!(a.state(&room).await, state, "version {version}");
        // Another life on the same store.
        let log = Log::open(a.federation.log.db().clone(), &TaskTracker::new()).await.unwrap();
        let history = History::open(log, a.federation.ports.clone(), a.name.clone()).await.unwrap();
        let room = history.room(&room).await.unwrap().unwrap();
        assert!(!history.state_of(room.state, None).await.unwrap().is_empty());
    }
}
