//! What servers may not learn or do to what is not theirs: section 2 of the list of known vulnerabilities.

use std::collections::BTreeMap;

use ruma::OwnedEventId;
use serde_json::{json, value::RawValue};

use super::{Between, Node, Wire, user};
use crate::{federation::FederationError, history::Status};

fn tells(text: &RawValue) -> bool {
    text.get().contains("\"body\"")
}

async fn missing(node: &Node, asks: &Node, room: &ruma::RoomId, latest: &OwnedEventId) -> Vec<Box<RawValue>> {
    let between = Between { earliest: Vec::new(), latest: vec![latest.clone()], limit: 100, min_depth: 0 };
    node.federation.missing_events(&asks.name, room, between).await.unwrap()
}

#[tokio::test]
async fn row_2_4_cve_2018_12291_missing_events_follow_the_history_visibility() {
    for (visibility, shared) in [("shared", true), ("invited", false), ("joined", false)] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", "11").await;
        let setting = json!({ "history_visibility": visibility });
        a.set("alice@a", &room, ("m.room.history_visibility", ""), setting).await.unwrap();
        let early = a.say("alice@a", &room, "early").await.unwrap();
        b.join_through(&a, &room, "bob@b").await.unwrap();
        let late = a.say("alice@a", &room, "late").await.unwrap();
        let last = a.say("alice@a", &room, "last").await.unwrap();
        let found = missing(&a, &b, &room, &last).await;
        let rules = crate::dag::versions::rules(&ruma::RoomVersionId::V11).unwrap();
        let with = |id: &OwnedEventId| -> &RawValue {
            let is_it =
                |text: &RawValue| crate::dag::Pdu::parse(text.get(), rules).unwrap().event_id() == &**id;
            let found = found.iter().find(|text| is_it(text));
            found.unwrap_or_else(|| panic!("{visibility}: {id} is missing"))
        };
        assert!(tells(with(&late)), "{visibility}");
        assert_eq!(tells(with(&early)), shared, "{visibility}");
    }
}

#[tokio::test]
async fn row_2_5_servers_that_are_not_in_the_room_are_told_nothing() {
    let wire = Wire::new(&["a", "b", "c"]).await;
    let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let said = a.say("alice@a", &room, "said").await.unwrap();
    a.rooms().kick(&user("alice@a"), &room, &user("bob@b"), None).await.unwrap();
    for stranger in [&b, &c] {
        let (federation, name) = (&a.federation, &stranger.name);
        let between = Between { earliest: Vec::new(), latest: vec![said.clone()], limit: 10, min_depth: 0 };
        let near = (ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(1)), crate::log::Direction::Forward);
        let answers = [
            federation.backfill(name, &room, vec![said.clone()], 10).await.map(drop),
            federation.missing_events(name, &room, between).await.map(drop),
            federation.event_near(name, &room, near).await.map(drop),
            federation.state(name, &room, &said).await.map(drop),
            federation.state_ids(name, &room, &said).await.map(drop),
            federation.event_auth(name, &room, &said).await.map(drop),
        ];
        for (number, answer) in answers.into_iter().enumerate() {
            assert!(matches!(answer, Err(FederationError::Forbidden(_))), "{name}, {number}: {answer:?}");
        }
        assert!(matches!(federation.event(name, &said).await, Err(FederationError::NotFound(_))));
    }
}

/// What a redaction has removed is told to no other server, nor is what only the sender's device may know.
#[tokio::test]
async fn row_2_6_and_2_19_what_was_redacted_and_what_is_of_one_device_does_not_leave() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let canary = a.say("alice@a", &room, "canary").await.unwrap();
    let topic = a.set("alice@a", &room, ("m.room.topic", ""), json!({ "topic": "canary" })).await.unwrap();
    for target in [&canary, &topic] {
        wire.clock.advance(std::time::Duration::from_millis(1));
        let content = json!({ "redacts": target });
        let redaction = a.build(&a, &room, (&user("alice@a"), "m.room.redaction", None, content)).await;
        let text = redaction.json().to_owned();
        a.rooms().receive(&b.name, &room, vec![text]).await.unwrap();
    }
    let last = a.say("alice@a", &room, "last").await.unwrap();
    let (federation, name) = (&a.federation, &b.name);
    let (state, chain) = federation.state(name, &room, &last).await.unwrap();
    let mut told = [state, chain].concat();
    told.extend(federation.backfill(name, &room, vec![last.clone()], 100).await.unwrap());
    told.extend(missing(&a, &b, &room, &last).await);
    told.extend(federation.event_auth(name, &room, &last).await.unwrap());
    for id in [&canary, &topic, &last] {
        told.push(federation.event(name, id).await.unwrap());
    }
    assert!(told.iter().filter(|text| text.get().contains("m.room.topic")).count() > 2, "they are there");
    for text in told {
        assert!(!text.get().contains("canary"), "{text}");
        let unsigned = &serde_json::from_str::<serde_json::Value>(text.get()).unwrap()["unsigned"];
        for name in ["transaction_id", "prev_content", "redacted_because", "m.relations"] {
            assert!(unsigned.get(name).is_none(), "{text}");
        }
    }
}

/// What is kept of users of other servers is for our users only.
#[tokio::test]
async fn row_2_9_cve_2023_43796_only_what_is_ours_is_told_of_users() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let bob = user("bob@b");
    let keys = json!({
        "user_id": bob, "device_id": "DEV", "algorithms": [], "keys": {}, "signatures": {},
    });
    let told = json!({ "user_id": bob, "stream_id": 1, "devices": [{ "device_id": "DEV", "keys": keys }] });
    wire.lies.lock().push((b.name.clone(), "/user/devices/", Some(told)));
    let federation = &a.federation;
    let wanted = BTreeMap::from([(bob.clone(), Vec::new())]);
    let mut found = crate::device::QueriedKeys::default();
    let others = (&federation.peers, &federation.history);
    federation.devices.query_others(others, &user("alice@a"), &wanted, (None, &mut found)).await.unwrap();
    assert_eq!(found.device_keys[&bob].len(), 1, "they are known here");
    assert!(federation.keys(&b.name, wanted).await.unwrap().device_keys.is_empty());
    assert!(matches!(federation.device_list(&b.name, &bob).await, Err(FederationError::NotFound(_))));
    assert!(matches!(federation.profile(&bob, None).await, Err(FederationError::NotFound(_))));
    let claim = BTreeMap::from([("DEV".into(), ruma::OneTimeKeyAlgorithm::SignedCurve25519)]);
    assert!(federation.claims(BTreeMap::from([(bob, claim)])).unwrap().is_empty());
}

#[tokio::test]
async fn row_2_12_and_2_13_cve_2024_6302_who_may_not_redact_does_not() {
    for version in ["1", "3", "11", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        b.join_through(&a, &room, "ben@b").await.unwrap();
        wire.drive().await;
        let hers = a.say("alice@a", &room, "hers").await.unwrap();
        let his = b.say("bob@b", &room, "his").await.unwrap();
        wire.drive().await;
        // ben is of bob's server, and no more powerful than anybody.
        for (target, stays) in [(&hers, true), (&his, false)] {
            wire.clock.advance(std::time::Duration::from_millis(1));
            let content = json!({ "redacts": target });
            let redaction = b.build(&b, &room, (&user("ben@b"), "m.room.redaction", None, content)).await;
            let redaction = super::hostile::forged(&redaction, &b, version, json!({ "redacts": target }));
            a.rooms().receive(&b.name, &room, vec![redaction]).await.unwrap();
            let event = a.history().event(target).await.unwrap().unwrap();
            assert_eq!(tells(event.pdu.json()), stays, "version {version}: {}", event.pdu.text());
        }
    }
}

/// What is stored without its place in the room is told to those in the room only, and of messages no more than
/// a redaction would leave: who may read them cannot be said.
#[tokio::test]
async fn row_2_3_outliers_are_told_to_nobody() {
    let wire = Wire::new(&["a", "b", "c", "d"]).await;
    let (a, b, c, d) = (wire.node("a"), wire.node("b"), wire.node("c"), wire.node("d"));
    let room = a.create("alice@a", "11").await;
    for (node, who) in [(&b, "bob@b"), (&c, "carol@c")] {
        node.join_through(&a, &room, who).await.unwrap();
        wire.drive().await;
    }
    let secret = a.say("alice@a", &room, "secret").await.unwrap();
    let last = a.say("alice@a", &room, "last").await.unwrap();
    let last = a.history().event(&last).await.unwrap().unwrap();
    // b learns of the message only as of something that comes before the last one.
    wire.lies.lock().push((a.name.clone(), "get_missing_events", Some(json!({ "events": [] }))));
    assert_eq!(b.receive(&a, &[&last.pdu]).await, ["ok"]);
    assert_eq!(b.status(&secret).await, Some(Status::Outlier));
    assert!(!tells(&b.federation.event(&c.name, &secret).await.unwrap()));
    assert!(matches!(b.federation.event(&d.name, &secret).await, Err(FederationError::NotFound(_))));
    assert!(matches!(
        b.federation.state_ids(&c.name, &room, &secret).await,
        Err(FederationError::NotFound(_))
    ));
    for texts in [
        b.federation.backfill(&c.name, &room, vec![secret.clone()], 10).await.unwrap(),
        missing(&b, &c, &room, &secret).await,
        missing(&b, &c, &room, &last.pdu.event_id().to_owned()).await,
    ] {
        assert!(texts.iter().all(|text| !text.get().contains("secret")), "{texts:?}");
    }
    // Nor is the state told to strangers, part by part.
    for id in b.state(&room).await.into_values() {
        assert!(matches!(b.federation.event(&d.name, &id).await, Err(FederationError::NotFound(_))));
    }
}

/// What an erased user has said is told whole only to servers that were in the room before.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>
#[tokio::test]
async fn servers_that_come_after_an_erasure_are_told_what_a_redaction_leaves() {
    let wire = Wire::new(&["a", "b", "c"]).await;
    let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let said = a.say("alice@a", &room, "secret").await.unwrap();
    a.history().erase(&user("alice@a")).await.unwrap();
    c.join_through(&a, &room, "carol@c").await.unwrap();
    wire.drive().await;
    // Who goes and comes again has been there before.
    b.rooms().leave(&user("bob@b"), &room, None).await.unwrap();
    wire.drive().await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let last = a.timeline(&room).await.pop().unwrap();
    for (node, is_told) in [(&b, true), (&c, false)] {
        let mut texts = vec![a.federation.event(&node.name, &said).await.unwrap()];
        texts.extend(a.federation.backfill(&node.name, &room, vec![said.clone()], 1).await.unwrap());
        let missing = missing(&a, node, &room, &last).await;
        texts.extend(missing.into_iter().filter(|text| text.get().contains("m.room.message")));
        assert_eq!(texts.len(), 3, "{}", node.name);
        assert!(texts.iter().all(|text| tells(text) == is_told), "{}: {texts:?}", node.name);
    }
}
