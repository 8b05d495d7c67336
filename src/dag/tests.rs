//! Events of every room version: built, read back, signed, and allowed or denied.

use ruma::{EventId, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

use super::{
    FormatError, Pdu, versions,
    world::{World, public_keys},
};
use crate::keys::{Integrity, verify_event};

#[test]
fn every_version_makes_rooms_whose_events_read_back_and_verify() {
    for version in versions::SUPPORTED {
        let mut world = World::new(version.as_str());
        world.join("bob:b.org");
        world.send("bob:b.org", "m.room.message", None, json!({"body": "hi ☃"})).unwrap();
        assert_eq!(world.events.len(), 6);
        for pdu in world.events.values() {
            let again = Pdu::parse(pdu.text(), world.rules).unwrap();
            assert_eq!(again, *pdu, "version {version}");
            assert_eq!(again.room_id(), world.heads[0].room_id());
            let verdict = verify_event(&pdu.object(), &public_keys(), world.rules).unwrap();
            assert_eq!(verdict, Integrity::Whole);
        }
        let create = world.at(&"m.room.create".into(), "").unwrap();
        let content: Value = create.content_as().unwrap();
        assert_eq!(content["room_version"], version.as_str());
        assert_eq!(content.get("creator").is_some(), !world.rules.authorization.use_room_create_sender);
        let named = create.object().contains_key("room_id");
        assert_eq!(named, version.as_str() != "12", "version {version}");
    }
}

#[test]
fn event_ids_have_the_form_of_their_version() {
    for version in versions::SUPPORTED {
        let world = World::new(version.as_str());
        let id = world.heads[0].event_id().to_owned();
        let opaque = ["1", "2"].contains(&version.as_str());
        assert_eq!(id.server_name().is_some(), opaque, "version {version}: {id}");
        assert_eq!(id.as_str().len(), if opaque { 25 } else { 44 }, "version {version}: {id}");
    }
}

#[test]
fn a_version_12_room_is_named_after_its_create_event() {
    let world = World::new("12");
    let create = world.at(&"m.room.create".into(), "").unwrap();
    assert_eq!(world.heads[0].room_id().as_str()[1..], create.event_id().as_str()[1..]);
    assert!(world.events.values().all(|pdu| !pdu.auth_events().contains(&create.event_id().to_owned())));
}

/// What changing one field of a good event does to reading it.
#[track_caller]
fn malformed(field: &str, value: Value, expected: &str) {
    let mut world = World::new("11");
    let pdu = world.build("alice", "m.room.message", Some("k"), json!({})).unwrap();
    let mut object: Value = serde_json::from_str(pdu.text()).unwrap();
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(field)),
        value => object[field] = value,
    }
    let found = match Pdu::parse(&object.to_string(), &RoomVersionRules::V11) {
        Ok(_) => String::from("ok"),
        Err(error) => error.to_string(),
    };
    assert!(found.contains(expected), "{field}: {found}");
}

#[test]
fn malformed_events_are_refused() {
    malformed("unsigned", json!({"age": 1}), "ok");
    malformed("type", Value::Null, "`type`");
    malformed("type", json!(1), "`type`");
    malformed("type", json!("x".repeat(256)), "`type` has 256");
    malformed("state_key", Value::Null, "ok");
    malformed("state_key", json!(["k"]), "`state_key`");
    malformed("state_key", json!("é".repeat(128)), "`state_key` has 256");
    malformed("sender", json!("alice"), "malformed");
    malformed("sender", Value::Null, "`sender`");
    malformed("room_id", Value::Null, "`room_id`");
    malformed("content", json!([]), "`content`");
    malformed("content", json!({"n": 1.5}), "canonical");
    malformed("content", json!({"n": 9_007_199_254_740_992_u64}), "canonical");
    malformed("content", json!({"body": "x".repeat(65_536)}), "`event` has");
    malformed("depth", json!(-1), "malformed");
    malformed("depth", json!("1"), "malformed");
    malformed("depth", Value::Null, "depth");
    malformed("origin_server_ts", json!("now"), "malformed");
    malformed("prev_events", json!({}), "`prev_events`");
    malformed("prev_events", json!(["no id"]), "`prev_events`");
    malformed("prev_events", json!(vec!["$id"; 21]), "`prev_events` has 21");
    malformed("auth_events", json!(vec!["$id"; 11]), "`auth_events` has 11");
    for text in ["", "[]", "null", "{", "{}", r#"{"type":"x""#] {
        assert!(matches!(
            Pdu::parse(text, &RoomVersionRules::V11),
            Err(FormatError::Json(_) | FormatError::Field(_))
        ));
    }
}

#[test]
fn too_long_says_so() {
    let mut world = World::new("12");
    let body = "x".repeat(65_000);
    assert!(world.build("alice", "m.room.message", None, json!({ "body": body })).is_ok());
    for (state_key, event_type, body) in
        [("", "t", 65_400), ("", "t", 70_000), ("", "t256", 1), ("k256", "t", 1)]
    {
        let long = |text: &str| if text.ends_with("256") { "x".repeat(256) } else { String::from(text) };
        let body = json!({ "body": "x".repeat(body) });
        let error = world.build("alice", &long(event_type), Some(&long(state_key)), body).unwrap_err();
        assert!(error.is_too_large(), "{error}");
    }
}

#[test]
fn redactions_name_their_event_where_the_version_wants_it() {
    for (version, text) in [("10", r#"{"x":1}"#), ("11", r#"{"redacts":"$other"}"#)] {
        let rules = versions::rules(&version.try_into().unwrap()).unwrap();
        let mut world = World::new(version);
        let pdu =
            world.build("alice", "m.room.redaction", None, serde_json::from_str(text).unwrap()).unwrap();
        let mut object = pdu.object();
        object.insert(String::from("redacts"), "$field".into());
        let found = Pdu::from_object(object, rules).unwrap();
        let expected = if version == "10" { "$field" } else { "$other" };
        assert_eq!(found.redacts().map(EventId::as_str), Some(expected));
    }
}
