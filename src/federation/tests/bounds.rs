//! Rows of the list of known vulnerabilities, each by a table: who reads what, which numbers and sizes are taken, and that
//! no way of fetching is less strict than another.

use ruma::OwnedEventId;
use serde_json::{Value, json, value::RawValue};

use super::{Between, Node, Wire, hostile::forged, user};
use crate::{
    dag::{Pdu, versions},
    federation::FederationError,
    history::Status,
    keys::{canonical_text, parse_object},
    limits::{EVENT_BYTES_MAX, ID_BYTES_MAX},
    log::Direction,
};

fn rules(version: &str) -> &'static ruma::room_version_rules::RoomVersionRules {
    versions::rules(&version.try_into().unwrap()).unwrap()
}

/// Each way by itself: what it gives is the same forgery, and all others give nothing.
#[tokio::test]
async fn row_1_7_cve_2022_39200_no_way_of_fetching_lets_a_forgery_in() {
    const WAYS: [&str; 4] = ["get_missing_events", "/event/", "/event_auth/", "/state_ids/"];
    for way in WAYS {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", "10").await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let content = json!({ "body": "x" });
        let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
        let id = |text: &RawValue| Pdu::parse(text.get(), rules("10")).unwrap().event_id().to_owned();
        let bad = forged(&honest, &b, "10", json!({ "sender": "@alice:a.org" }));
        let bad_id = id(&bad);
        // It stands on the forgery: in the graph, by its auth events, or by the state.
        let between = forged(&honest, &b, "10", json!({ "prev_events": ["$unknown"], "depth": 9 }));
        let auth: Vec<_> = honest.auth_events().iter().chain([&bad_id]).collect();
        let child = match way {
            "/event_auth/" => forged(&honest, &b, "10", json!({ "auth_events": auth })),
            "/state_ids/" => forged(&honest, &b, "10", json!({ "prev_events": [id(&between)] })),
            _ => forged(&honest, &b, "10", json!({ "prev_events": [bad_id] })),
        };
        let value = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap();
        let one =
            |text: &RawValue| json!({ "origin": "b.org", "origin_server_ts": 1, "pdus": [value(text)] });
        let answer = match way {
            "get_missing_events" => json!({ "events": [value(&bad)] }),
            "/event/" => one(&bad),
            "/event_auth/" => json!({ "auth_chain": [value(&bad)] }),
            _ => {
                let mut state: Vec<OwnedEventId> = a.state(&room).await.into_values().collect();
                state.push(bad_id.clone());
                json!({ "auth_chain_ids": [], "pdu_ids": state })
            }
        };
        wire.lies.lock().push((b.name.clone(), way, Some(answer)));
        if way == "/state_ids/" {
            wire.lies.lock().push((b.name.clone(), "/event/", Some(one(&between))));
        }
        for other in WAYS.into_iter().chain(["/state/"]) {
            wire.lies.lock().push((b.name.clone(), other, Some(json!({ "error": "no" }))));
        }
        let results = a.rooms().receive(&b.name, &room, vec![child]).await.unwrap();
        for (id, _) in results {
            assert_ne!(a.status(&id).await, Some(Status::Timeline), "{way}: {id} is kept at most");
        }
        assert_eq!(a.status(&bad_id).await, None, "{way}");
        let calls = wire.calls.lock();
        assert!(calls.iter().any(|call| call.starts_with("a.org") && call.contains(way)), "{way}: {calls:?}");
    }
}

/// What is given as the past of a room.
#[tokio::test]
async fn row_1_7_cve_2022_39200_a_forged_past_is_not_taken() {
    for version in ["1", "6", "12"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", version).await;
        c.join_through(&a, &room, "carol@c").await.unwrap();
        wire.drive().await;
        let hers = c.say("carol@c", &room, "hers").await.unwrap();
        wire.drive().await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        let good = a.history().event(&hers).await.unwrap().unwrap().pdu.clone();
        let mut unsigned: Value = serde_json::from_str(good.text()).unwrap();
        unsigned["signatures"] = json!({});
        let mut texts = vec![unsigned];
        // The server of another user, and her own name under a key that is not hers.
        for by in [&a, &b] {
            let mut object = good.object();
            object.remove("signatures");
            by.key.hash_and_sign(&mut object, rules(version)).unwrap();
            texts.push(serde_json::from_str(&canonical_text(&object)).unwrap());
        }
        let answer = json!({ "origin": "a.org", "origin_server_ts": 1, "pdus": texts });
        wire.lies.lock().push((a.name.clone(), "/backfill/", Some(answer.clone())));
        wire.lies.lock().push((c.name.clone(), "/backfill/", Some(answer)));
        let anchor = b.history().gaps(&room).await.unwrap()[0].1;
        assert!(!b.rooms().backfill(&room, anchor).await.unwrap(), "version {version}");
        assert_eq!(b.status(&hers).await, None, "version {version}");
        wire.lies.lock().clear();
        assert!(b.rooms().backfill(&room, anchor).await.unwrap(), "version {version}: the honest past comes");
        assert_eq!(b.status(&hers).await, Some(Status::Backfilled), "version {version}");
    }
}

/// What `asks` gets when it asks for each thing about one event.
async fn answers(
    node: &Node,
    asks: &Node,
    room: &ruma::RoomId,
    about: &OwnedEventId,
) -> Vec<(&'static str, u16)> {
    let (federation, name) = (&node.federation, &asks.name);
    let between = Between { earliest: Vec::new(), latest: vec![about.clone()], limit: 10, min_depth: 0 };
    let near = (ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(1)), Direction::Forward);
    let answers = [
        ("event", federation.event(name, about).await.map(drop)),
        ("state", federation.state(name, room, about).await.map(drop)),
        ("state_ids", federation.state_ids(name, room, about).await.map(drop)),
        ("event_auth", federation.event_auth(name, room, about).await.map(drop)),
        ("backfill", federation.backfill(name, room, vec![about.clone()], 10).await.map(drop)),
        ("get_missing_events", federation.missing_events(name, room, between).await.map(drop)),
        ("timestamp_to_event", federation.event_near(name, room, near).await.map(drop)),
    ];
    let status = |answer| match answer {
        Ok(()) => 200,
        Err(FederationError::Forbidden(_)) => 403,
        Err(FederationError::NotFound(_)) => 404,
        Err(error) => panic!("{error}"),
    };
    answers.into_iter().map(|(what, answer)| (what, status(answer))).collect()
}

#[tokio::test]
async fn row_2_1_cve_2022_39335_who_reads_what_whatever_they_were() {
    for visibility in ["world_readable", "shared", "invited", "joined"] {
        for standing in ["never in", "gone", "kicked", "banned", "denied", "inside"] {
            let wire = Wire::new(&["a", "b"]).await;
            let (a, b) = (wire.node("a"), wire.node("b"));
            let room = a.create("alice@a", "11").await;
            let setting = json!({ "history_visibility": visibility });
            a.set("alice@a", &room, ("m.room.history_visibility", ""), setting).await.unwrap();
            if standing != "never in" {
                b.join_through(&a, &room, "bob@b").await.unwrap();
                wire.drive().await;
            }
            let then = a.say("alice@a", &room, "then").await.unwrap();
            let (alice, bob) = (user("alice@a"), user("bob@b"));
            match standing {
                "gone" => {
                    wire.drive().await;
                    b.rooms().leave(&bob, &room, None).await.unwrap();
                    wire.drive().await;
                }
                "kicked" => a.rooms().kick(&alice, &room, &bob, None).await.unwrap(),
                "banned" => a.rooms().ban(&alice, &room, &bob, None).await.unwrap(),
                "denied" => {
                    let list = json!({ "allow": ["*"], "deny": ["b.org"] });
                    drop(a.set("alice@a", &room, ("m.room.server_acl", ""), list).await.unwrap());
                }
                _ => {}
            }
            let now = a.say("alice@a", &room, "now").await.unwrap();
            for about in [&then, &now] {
                for (what, status) in answers(&a, &b, &room, about).await {
                    let expected = match (standing, what) {
                        ("inside", _) => 200,
                        // That there is such an event is not told either.
                        (_, "event") => 404,
                        _ => 403,
                    };
                    assert_eq!(status, expected, "{what} for who is {standing}, {visibility}");
                }
            }
        }
    }
}

/// Texts with numbers, strings and shapes that canonical JSON does not know.
#[test]
fn row_3_3_cve_2020_26890_what_canonical_json_does_not_know_is_no_event() {
    let event = r#"{"auth_events":[],"content":{"body":VALUE},"depth":3,"event_id":"$e:b.org","hashes":{"sha256":"x"},"origin_server_ts":5,"prev_events":[],"room_id":"!r:b.org","sender":"@bob:b.org","signatures":{},"type":"m.room.message"}"#;
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let numbers = [
        "1.0",
        "1.5",
        "-0",
        "-0.0",
        "1e2",
        "1E2",
        "1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "0x1",
        "9007199254740992",
        "-9007199254740992",
        "18446744073709551616",
    ];
    let strings = [r#""\ud800""#, r#""\udc00x""#, r#""\ud800\ud800""#, "\"\u{1}\"", r#""\x41""#];
    for version in ["1", "5", "6", "11", "12"] {
        let parse = |value: &str| Pdu::parse(&event.replace("VALUE", value), rules(version));
        for value in numbers.iter().chain(&strings) {
            assert!(parse(value).is_err(), "version {version}: {value}");
            assert!(
                parse(&format!("[{{\"x\":{value}}}]")).is_err(),
                "version {version}: {value} deep within"
            );
        }
        assert!(parse(&deep(10_000)).is_err(), "version {version}: too deep");
        for value in ["9007199254740991", "-9007199254740991", "0", "null", r#""\ud83d\ude00""#, &deep(50)] {
            let pdu = parse(value).unwrap_or_else(|error| panic!("version {version}: {value}: {error}"));
            assert_eq!(canonical_text(&parse_object(pdu.text()).unwrap()), pdu.text(), "version {version}");
        }
        let marked = format!("\u{feff}{}", event.replace("VALUE", "1"));
        assert!(Pdu::parse(&marked, rules(version)).is_err(), "version {version}: a mark in front");
        let followed = format!("{} {{}}", event.replace("VALUE", "1"));
        assert!(Pdu::parse(&followed, rules(version)).is_err(), "version {version}: something behind");
        // What comes twice counts once, and is written once.
        if let Ok(pdu) = parse(r#"1,"body":2"#) {
            assert_eq!(pdu.text().matches("\"body\"").count(), 1, "version {version}");
        }
    }
}

/// Whatever is taken can be told again: to who joins, as the past, and as what follows.
#[tokio::test]
async fn row_3_1_cve_2025_30355_what_was_taken_can_be_told_again() {
    for version in ["1", "6", "11", "12"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let content = json!({ "body": "x" });
        let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
        let depth_max = (1_u64 << 53) - 1;
        let odd = [
            json!({ "depth": depth_max }),
            json!({ "depth": 0 }),
            json!({ "origin_server_ts": depth_max }),
            json!({ "origin_server_ts": 0 }),
            json!({ "content": {} }),
            json!({ "content": { "body": "\u{0}\u{7f}\u{2028}\u{10ffff}" } }),
            json!({ "content": { "": { "": [null, true, -1] } } }),
            json!({ "type": "" }),
            json!({ "type": "\u{1f600}" }),
            json!({ "redacts": "$nothing" }),
            json!({ "unknown": { "field": [1] } }),
            json!({ "origin": "elsewhere.org", "membership": "join", "prev_state": [] }),
            json!({ "content": { "m.relates_to": { "rel_type": "m.replace", "event_id": "$x", "key": 5 } } }),
            json!({ "type": "m.room.member", "state_key": "@bob:b.org", "content": { "membership": "join", "displayname": 7, "avatar_url": [] } }),
        ];
        let mut taken = Vec::new();
        for (number, mut fields) in odd.into_iter().enumerate() {
            if matches!(version, "1") {
                fields["event_id"] = json!(format!("$odd{number}:b.org"));
            }
            let text = forged(&honest, &b, version, fields);
            let results = a.rooms().receive(&b.name, &room, vec![text]).await.unwrap();
            taken.extend(results.into_iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| id));
        }
        assert!(taken.len() > 8, "version {version}: {taken:?}");
        a.say("alice@a", &room, "still").await.unwrap();
        wire.drive().await;
        c.join_through(&a, &room, "carol@c").await.unwrap();
        let last = c.say("carol@c", &room, "I too").await.unwrap();
        wire.drive().await;
        assert_eq!(a.status(&last).await, Some(Status::Timeline), "version {version}");
        let told = a.federation.backfill(&c.name, &room, vec![last.clone()], 100).await.unwrap();
        let ids: Vec<OwnedEventId> = told.iter().map(|text| read_again(text, version)).collect();
        for id in &taken {
            if a.status(id).await == Some(Status::Timeline) {
                assert!(ids.contains(id), "version {version}: {id} is not told");
            }
        }
        let (state, chain) = a.federation.state(&c.name, &room, &last).await.unwrap();
        state.iter().chain(&chain).for_each(|text| drop(read_again(text, version)));
    }
}

/// The id of an event that another server is told, which must be one.
#[track_caller]
fn read_again(text: &RawValue, version: &str) -> OwnedEventId {
    let object =
        parse_object(text.get()).unwrap_or_else(|error| panic!("version {version}: {error}: {text}"));
    let pdu = Pdu::parse(text.get(), rules(version));
    let pdu = pdu.unwrap_or_else(|error| panic!("version {version}: {error}: {text}"));
    assert!(object.contains_key("signatures"), "{text}");
    pdu.event_id().to_owned()
}

/// Each limit of an event is taken, and one more is not.
#[tokio::test]
async fn row_3_20_cve_2021_21393_an_event_may_be_so_large_and_no_larger() {
    for version in ["1", "10", "11", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let content = json!({ "body": "x" });
        let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
        let name = |size: usize| format!("@{}:b.org", "u".repeat(size - "@:b.org".len()));
        for (over, expected) in [(0, true), (1, false)] {
            let long = "x".repeat(ID_BYTES_MAX + over);
            for fields in [
                json!({ "type": long }),
                json!({ "state_key": long }),
                json!({ "sender": name(ID_BYTES_MAX + over) }),
            ] {
                let text = forged(&honest, &b, version, fields);
                let parsed = Pdu::parse(text.get(), rules(version));
                assert_eq!(parsed.is_ok(), expected, "version {version}: {:.60}", text.get());
            }
        }
        let filled = |size: usize| {
            let id = format!("$filled{size}:b.org");
            match version {
                "1" => json!({ "content": { "body": "x".repeat(size) }, "event_id": id }),
                _ => json!({ "content": { "body": "x".repeat(size) } }),
            }
        };
        let most = {
            let size = forged(&honest, &b, version, filled(10_000)).get().len();
            10_000 + EVENT_BYTES_MAX - size
        };
        for (over, expected) in [(0, true), (1, false)] {
            let text = forged(&honest, &b, version, filled(most + over));
            assert_eq!(text.get().len(), EVENT_BYTES_MAX + over, "version {version}");
            let results = a.rooms().receive(&b.name, &room, vec![text]).await.unwrap();
            let is_taken = results.iter().any(|(_, result)| result.is_ok());
            assert_eq!(is_taken, expected, "version {version}: {results:?}");
        }
    }
}

/// A server need not tell everybody what it knows to be rejected; what it says after that is judged all the same.
#[tokio::test]
async fn row_3_7_cve_2022_39374_what_follows_a_rejected_event_is_judged_where_that_never_came() {
    for version in ["1", "6", "11", "12"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", version).await;
        for (node, who) in [(&b, "bob@b"), (&c, "carol@c")] {
            node.join_through(&a, &room, who).await.unwrap();
            wire.drive().await;
        }
        let content = json!({ "body": "x" });
        let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
        let grab = json!({ "users": { "@bob:b.org": 100 } });
        let coup = b.build(&b, &room, (&user("bob@b"), "m.room.power_levels", Some(""), grab)).await;
        let fields = match version {
            "1" => {
                json!({ "prev_events": [[coup.event_id(), { "sha256": "x" }]], "event_id": "$after:b.org" })
            }
            _ => json!({ "prev_events": [coup.event_id()] }),
        };
        let after = forged(&honest, &b, version, fields);
        let after = Pdu::parse(after.get(), rules(version)).unwrap();
        assert!(a.receive(&b, &[&coup]).await[0].contains("rejected"), "version {version}");
        assert_eq!(a.receive(&b, &[&after]).await, ["ok"], "version {version}");
        // Its own server says nothing more.
        wire.lies.lock().push((b.name.clone(), "/", None));
        assert_eq!(c.receive(&b, &[&after]).await, ["ok"], "version {version}");
        let next = a.say("alice@a", &room, "next").await.unwrap();
        wire.drive().await;
        for node in [&a, &c] {
            for id in [after.event_id(), &next] {
                assert_eq!(node.status(id).await, Some(Status::Timeline), "version {version}: {id}");
            }
            assert_eq!(node.status(coup.event_id()).await, Some(Status::Rejected), "version {version}");
        }
        assert_eq!(a.state(&room).await, c.state(&room).await, "version {version}");
    }
}
