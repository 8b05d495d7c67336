//! Account data, tags, push rules, filters and profiles.

use futures_util::future::join_all;
use ruma::{OwnedRoomId, OwnedUserId, owned_room_id, push::RuleKind};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    super::{AccountError, DataChange},
    World, outcome,
};
use crate::{
    limits::{
        ACCOUNT_DATA_BYTES_MAX, ACCOUNT_DATA_TOTAL_BYTES_MAX, ACCOUNT_DATA_TYPES_MAX, FILTER_BYTES_MAX,
        FILTERS_MAX, FILTERS_TOTAL_BYTES_MAX, PROFILE_REMOVALS_KEPT,
    },
    types::{Fact, Lane, Position},
};

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn global(event_type: &str, value: &Value) -> DataChange {
    DataChange { room_id: None, event_type: event_type.to_owned(), content: raw(value) }
}

/// The types that the devices of `user` are told of, oldest change first.
async fn told(world: &World, user: &OwnedUserId) -> Vec<String> {
    let lane = Lane::Account(user.clone());
    let facts = world.log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap();
    let types = facts.into_iter().map(|(_, fact)| match fact {
        Fact::AccountData { room_id, event_type } => {
            room_id.map_or(event_type.clone(), |room| format!("{room} {event_type}"))
        }
        other => panic!("{other:?}"),
    });
    types.collect()
}

#[tokio::test]
async fn account_data_is_kept_and_told() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let room = owned_room_id!("!r:here");
    let in_room = DataChange { room_id: Some(room.clone()), ..global("m.x", &json!({"in": "room"})) };
    for change in [
        global("m.x", &json!({"a": 1})),
        in_room,
        global("m.y", &json!({"b": 1})),
        global("m.x", &json!({"a": 2})),
    ] {
        world.accounts.set_data(&alice, change).await.unwrap();
    }
    assert_eq!(told(&world, &alice).await, ["!r:here m.x", "m.y", "m.x"]);
    let text = |data: Option<Box<RawValue>>| data.map(|data| data.get().to_owned());
    assert_eq!(text(world.accounts.data(&alice, None, "m.x").await.unwrap()).unwrap(), r#"{"a":2}"#);
    assert_eq!(text(world.accounts.data(&alice, None, "m.z").await.unwrap()), None);
    assert_eq!(world.accounts.all_data(&alice, None).await.unwrap().len(), 2);
    assert_eq!(world.accounts.all_data(&alice, Some(&room)).await.unwrap().len(), 1);
    assert_eq!(world.accounts.data_of_all_rooms(&alice).await.unwrap().len(), 3);
    let wanted = [(Some(room), "m.x".to_owned()), (None, "m.z".to_owned())];
    let found = world.accounts.data_of(&alice, &wanted).await.unwrap();
    assert_eq!(found.into_iter().map(text).collect::<Vec<_>>(), [Some(r#"{"in":"room"}"#.to_owned()), None]);
    let bob = world.user("bob").await;
    assert!(world.accounts.data_of_all_rooms(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn account_data_has_bounds() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let large = "x".repeat(600_000);
    for (event_type, content, expected) in [
        ("m.fully_read", json!({}), "managed"),
        ("m.push_rules", json!({}), "managed"),
        ("m.list", json!([]), "bad json"),
        ("m.text", json!("{}"), "bad json"),
        ("", json!({}), "invalid"),
        (&"x".repeat(256), json!({}), "invalid"),
        ("m.large", json!({ "x": large }), "too large"),
        ("m.direct", json!({ "x": "x".repeat(200_000) }), "ok"),
    ] {
        let result = world.accounts.set_data(&alice, global(event_type, &content)).await;
        assert_eq!(outcome(&result), expected, "{event_type:.20}");
    }
}

/// As many rows as `bytes` take, in rooms that nobody is in.
async fn fill(world: &World, user: &OwnedUserId, bytes: usize) {
    let content = raw(&json!({ "x": "x".repeat(ACCOUNT_DATA_BYTES_MAX - 100) }));
    for n in 0..bytes / ACCOUNT_DATA_BYTES_MAX {
        let room = OwnedRoomId::try_from(format!("!r{n}:here")).unwrap();
        let change =
            DataChange { room_id: Some(room), event_type: "m.x".to_owned(), content: content.clone() };
        world.accounts.set_data(user, change).await.unwrap();
    }
}

#[tokio::test]
async fn all_account_data_of_a_user_has_a_bound() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    fill(&world, &alice, ACCOUNT_DATA_TOTAL_BYTES_MAX).await;
    let large = |n: usize| global("m.large", &json!({ "x": "x".repeat(n) }));
    let set = async |user: &OwnedUserId, change| outcome(&world.accounts.set_data(user, change).await);
    assert_eq!(set(&alice, large(50_000)).await, "too large");
    assert_eq!(set(&bob, large(50_000)).await, "ok");
    let room = owned_room_id!("!new:here");
    let tag = ("u.x", Some(json!({ "x": "x".repeat(50_000) })));
    assert_eq!(outcome(&world.accounts.set_tag(&alice, &room, tag).await), "too large");
    // What is no more than before is taken, and so is a little, and so is more once there is less.
    assert_eq!(set(&alice, global("m.small", &json!({ "x": 1 }))).await, "ok");
    let master = |rules: &mut ruma::push::Ruleset| {
        rules
            .set_enabled(RuleKind::Override, ".m.rule.master", true)
            .map_err(|_| AccountError::NotFound("rule"))
    };
    world.accounts.change_push_rules(&alice, master).await.unwrap();
    let first = owned_room_id!("!r0:here");
    let less = DataChange { room_id: Some(first), ..global("m.x", &json!({ "x": 1 })) };
    assert_eq!(set(&alice, less).await, "ok");
    assert_eq!(set(&alice, large(50_000)).await, "ok");
    for n in 0..30 {
        assert_eq!(
            set(&alice, large(50_000 + n * 1_000)).await,
            "ok",
            "what is replaced is not counted twice"
        );
    }
}

/// Many requests that remove the same thing make room for it once.
#[tokio::test]
async fn what_is_removed_is_counted_once() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    fill(&world, &alice, ACCOUNT_DATA_TOTAL_BYTES_MAX).await;
    let of_room = |n: usize, content: &Value| {
        let room = OwnedRoomId::try_from(format!("!r{n}:here")).unwrap();
        DataChange { room_id: Some(room), ..global("m.x", content) }
    };
    let none = json!({});
    for result in join_all((0..30).map(|_| world.accounts.set_data(&alice, of_room(0, &none)))).await {
        result.unwrap();
    }
    let removed = (0..30).map(|_| {
        let room = ruma::room_id!("!r1:here");
        world.accounts.remove_data(&alice, Some(room), "m.x")
    });
    for result in join_all(removed).await {
        result.unwrap();
    }
    let small = json!({ "x": 1 });
    for result in join_all((0..30).map(|_| world.accounts.set_data(&alice, of_room(2, &small)))).await {
        result.unwrap();
    }
    let content = json!({ "x": "x".repeat(ACCOUNT_DATA_BYTES_MAX - 100) });
    for (n, expected) in [(100, "ok"), (101, "ok"), (102, "ok"), (103, "too large")] {
        let result = world.accounts.set_data(&alice, of_room(n, &content)).await;
        assert_eq!(outcome(&result), expected, "{n}");
    }
}

#[tokio::test]
async fn the_types_in_one_place_have_a_bound() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    for n in 0..ACCOUNT_DATA_TYPES_MAX {
        world.accounts.set_data(&alice, global(&format!("m.x{n}"), &json!({ "x": 1 }))).await.unwrap();
    }
    let more = world.accounts.set_data(&alice, global("m.more", &json!({ "x": 1 }))).await;
    assert_eq!(outcome(&more), "too large");
    world.accounts.set_data(&alice, global("m.none", &json!({}))).await.unwrap();
    world.accounts.set_data(&alice, global("m.x7", &json!({ "x": 10 }))).await.unwrap();
    let room = owned_room_id!("!r:here");
    world.accounts.set_tag(&alice, &room, ("u.x", Some(json!({})))).await.unwrap();
    world.accounts.remove_data(&alice, None, "m.x8").await.unwrap();
    world.accounts.set_data(&alice, global("m.more", &json!({ "x": 1 }))).await.unwrap();
}

#[tokio::test]
async fn filters_have_a_bound() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let filter = |n: usize, bytes: usize| raw(&json!({ "n": n, "x": "x".repeat(bytes) }));
    for n in 0..FILTERS_MAX {
        world.accounts.store_filter(&alice, &filter(n, 0)).await.unwrap();
    }
    assert_eq!(outcome(&world.accounts.store_filter(&alice, &filter(FILTERS_MAX, 0)).await), "too large");
    world.accounts.store_filter(&alice, &filter(7, 0)).await.unwrap();
    let fit = FILTERS_TOTAL_BYTES_MAX / FILTER_BYTES_MAX;
    for n in 0..fit {
        world.accounts.store_filter(&bob, &filter(n, FILTER_BYTES_MAX - 100)).await.unwrap();
    }
    let more = world.accounts.store_filter(&bob, &filter(fit, FILTER_BYTES_MAX - 100)).await;
    assert_eq!(outcome(&more), "too large");
}

#[tokio::test]
async fn tags_set_at_the_same_time_are_all_kept() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let room = owned_room_id!("!r:here");
    let names: Vec<String> = (0..8).map(|n| format!("u.tag{n}")).collect();
    let setting = names.iter().map(|name| {
        let info = Some(json!({ "order": 0.5 }));
        world.accounts.set_tag(&alice, &room, (name, info))
    });
    for result in join_all(setting).await {
        result.unwrap();
    }
    let tags = world.accounts.tags(&alice, &room).await.unwrap();
    assert_eq!(tags.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    let head = world.log.head();
    world.accounts.set_tag(&alice, &room, ("u.tag1", Some(json!({ "order": 0.5 })))).await.unwrap();
    world.accounts.set_tag(&alice, &room, ("u.none", None)).await.unwrap();
    assert_eq!(world.log.head(), head, "what changes nothing is told to nobody");
    world.accounts.set_tag(&alice, &room, ("u.tag1", None)).await.unwrap();
    assert_eq!(world.accounts.tags(&alice, &room).await.unwrap().len(), 7);
    let long = "x".repeat(256);
    assert_eq!(outcome(&world.accounts.set_tag(&alice, &room, (&long, None)).await), "invalid");
}

#[tokio::test]
async fn push_rules_are_the_defaults_with_what_the_user_changed() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let rules = world.accounts.push_rules(&alice).await.unwrap();
    assert!(!rules.get(RuleKind::Override, ".m.rule.master").unwrap().enabled());
    let refused = world.accounts.change_push_rules(&alice, |_| Err(AccountError::NotFound("rule"))).await;
    assert_eq!(outcome(&refused), "not found");
    assert!(told(&world, &alice).await.is_empty());
    let enable = |id: &'static str| {
        world.accounts.change_push_rules(&alice, move |rules| {
            rules.set_enabled(RuleKind::Override, id, true).map_err(|_| AccountError::NotFound("rule"))
        })
    };
    let both = [".m.rule.master", ".m.rule.suppress_notices"].map(enable);
    for result in join_all(both).await {
        result.unwrap();
    }
    let rules = world.accounts.push_rules(&alice).await.unwrap();
    for id in [".m.rule.master", ".m.rule.suppress_notices"] {
        assert!(rules.get(RuleKind::Override, id).unwrap().enabled(), "{id}");
    }
    assert_eq!(told(&world, &alice).await, ["m.push_rules"]);
}

#[tokio::test]
async fn the_same_filter_gets_the_same_id() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let filter = raw(&json!({ "room": { "timeline": { "limit": 5 } } }));
    let id = world.accounts.store_filter(&alice, &filter).await.unwrap();
    assert_eq!(world.accounts.store_filter(&alice, &filter).await.unwrap(), id);
    assert_eq!(world.accounts.filter(&alice, &id).await.unwrap().get(), filter.get());
    assert_eq!(outcome(&world.accounts.filter(&bob, &id).await), "not found");
    for (wrong, expected) in [
        (json!({ "room": { "timeline": { "limit": "five" } } }), "bad json"),
        (json!([]), "bad json"),
        (json!({ "room": { "rooms": ["not a room"] } }), "bad json"),
        (json!({ "x": "x".repeat(70_000) }), "too large"),
    ] {
        assert_eq!(
            outcome(&world.accounts.store_filter(&alice, &raw(&wrong)).await),
            expected,
            "{wrong:.40}"
        );
    }
}

#[tokio::test]
async fn profiles_have_any_fields_and_a_bound() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let large = json!("x".repeat(40_000));
    for (name, value, expected) in [
        ("displayname", Some(json!("Alice")), "ok"),
        ("avatar_url", Some(json!("mxc://here/a")), "ok"),
        ("org.example.status", Some(json!({ "any": ["thing"] })), "ok"),
        ("m.tz", Some(json!("Europe/Rome")), "ok"),
        ("m.tz", None, "ok"),
        ("plain", Some(json!(1)), "invalid"),
        (&format!("a.{}", "x".repeat(300)), Some(json!(1)), "key too large"),
        ("org.example.one", Some(large.clone()), "ok"),
        ("org.example.two", Some(large), "profile too large"),
        ("avatar_url", Some(json!("")), "ok"),
    ] {
        let result = world.accounts.set_profile_field(&alice, name, value).await;
        assert_eq!(outcome(&result), expected, "{name:.30}");
    }
    let profile = world.accounts.profile(&alice).await.unwrap();
    assert_eq!(profile.keys().collect::<Vec<_>>(), ["displayname", "org.example.one", "org.example.status"]);
    assert_eq!(world.accounts.display(&alice).await.unwrap(), (Some("Alice".to_owned()), None));
    let nobody = ruma::owned_user_id!("@nobody:here");
    assert_eq!(outcome(&world.accounts.profile(&nobody).await), "not found");
}

#[tokio::test]
async fn fields_set_at_the_same_time_are_all_kept() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let names: Vec<String> = (0..6).map(|n| format!("org.example.f{n}")).collect();
    let setting = names.iter().map(|name| world.accounts.set_profile_field(&alice, name, Some(json!(1))));
    for result in join_all(setting).await {
        result.unwrap();
    }
    assert_eq!(world.accounts.profile(&alice).await.unwrap().len(), 7);
}

#[tokio::test]
async fn what_changed_of_a_profile_is_known_by_position() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let set = async |name: &str, value: Option<Value>| {
        let before = world.log.head();
        world.accounts.set_profile_field(&alice, name, value).await.unwrap();
        before
    };
    let told = async |since: Option<Position>| -> String {
        let news = world.accounts.profile_news(&[(alice.clone(), since)]).await.unwrap().remove(0);
        let updated = news.updated.iter().map(|(name, value)| format!("{name}={value}"));
        updated.chain(news.removed.iter().map(|name| format!("-{name}"))).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(None).await, "displayname=\"alice\"", "as it began");
    let first = set("org.x.a", Some(json!(1))).await;
    let second = set("org.x.b", Some(json!(2))).await;
    // The fact has moved on since; what it told of is found all the same.
    assert_eq!(world.accounts.profiles_changed(first).await.unwrap(), [alice.clone()].into());
    assert_eq!(told(Some(first)).await, "org.x.a=1 org.x.b=2");
    assert_eq!(told(Some(second)).await, "org.x.b=2");
    let third = set("org.x.a", None).await;
    assert_eq!(
        (told(Some(second)).await, told(Some(third)).await),
        ("org.x.b=2 -org.x.a".into(), "-org.x.a".into())
    );
    let same = set("org.x.b", Some(json!(2))).await;
    assert_eq!(world.log.head(), same, "what changes nothing is told to nobody");
    assert!(world.accounts.profiles_changed(same).await.unwrap().is_empty());
    for number in 0..PROFILE_REMOVALS_KEPT {
        set(&format!("a.{number}"), Some(json!(1))).await;
        set(&format!("a.{number}"), None).await;
    }
    let news = world.accounts.profile_news(&[(alice.clone(), None)]).await.unwrap().remove(0);
    assert_eq!(news.removed.len(), PROFILE_REMOVALS_KEPT);
    assert!(!news.removed.contains("org.x.a"), "the oldest is forgotten");
    world.accounts.deactivate(&alice, false).await.unwrap();
    assert_eq!(told(None).await, "");
}
