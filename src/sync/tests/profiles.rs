//! Profiles in both kinds of sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};

use super::{Ask, World, joined, text, user};
use crate::sync::SlidingShape;

/// Fields that users of the models have.
pub(super) const FIELDS: [&str; 3] = ["displayname", "m.status", "org.x.y"];

/// What a client believes of profiles.
#[derive(Default)]
pub(super) struct Faces(BTreeMap<String, BTreeMap<String, Value>>);

impl Faces {
    /// From an answer to `/v3/sync`.
    pub(super) fn follow(&mut self, answer: &Value) {
        for (user, update) in answer["org.matrix.msc4429.users"].as_object().into_iter().flatten() {
            let Some(fields) = update["profile_updates"].as_object() else {
                assert!(update["profile_updates"].is_null(), "{update}");
                self.0.remove(user);
                continue;
            };
            let known = self.0.entry(user.clone()).or_default();
            for (name, value) in fields {
                known.insert(name.clone(), value.clone());
            }
            known.retain(|_, value| !value.is_null());
        }
    }

    /// From the extensions of an answer of sliding sync.
    pub(super) fn slide(&mut self, extensions: &Value) {
        let users = &extensions["org.matrix.msc4262.profiles"]["users"];
        for (user, changes) in users.as_object().into_iter().flatten() {
            let Some(changes) = changes.as_object() else {
                self.0.remove(user);
                continue;
            };
            let known = self.0.entry(user.clone()).or_default();
            for (name, value) in changes.get("updated").and_then(Value::as_object).into_iter().flatten() {
                known.insert(name.clone(), value.clone());
            }
            for name in changes.get("removed").and_then(Value::as_array).into_iter().flatten() {
                known.remove(name.as_str().unwrap());
            }
        }
    }

    /// Nothing is believed that is not so, and of those who `must_know` says all `fields` are known.
    pub(super) async fn compare(
        &self,
        world: &World,
        name: &str,
        (fields, must_know): (&[&str], &BTreeSet<String>),
    ) {
        let companions = world.history().companions(&user(name)).await.unwrap();
        for (other, believed) in self.0.iter().filter(|(_, believed)| !believed.is_empty()) {
            assert!(companions.iter().any(|user| user == other), "{name} still follows {other}");
            let actual = actual(world, other, fields).await;
            for (field, value) in believed {
                assert_eq!(actual.get(field), Some(value), "{field} of {other} for {name}");
            }
        }
        for other in companions.iter().filter(|other| must_know.contains(other.as_str())) {
            let believed = self.0.get(other.as_str()).cloned().unwrap_or_default();
            assert_eq!(believed, actual(world, other.as_str(), fields).await, "{other} for {name}");
        }
    }
}

async fn actual(world: &World, user: &str, fields: &[&str]) -> BTreeMap<String, Value> {
    let user = OwnedUserId::try_from(user).unwrap();
    let news = world.accounts.profile_news(&[(user, None)]).await.unwrap().remove(0);
    news.updated.into_iter().filter(|(name, _)| fields.contains(&name.as_str())).collect()
}

/// A client of `/v3/sync` that wants a status and a name.
fn ask(since: &Value, lazy: bool) -> Ask {
    let filter = json!({
        "org.matrix.msc4429.profile_fields": { "ids": ["m.status", "displayname"] },
        "room": { "state": { "lazy_load_members": lazy } },
    });
    Ask { since: text(since), filter, ..Ask::default() }
}

async fn told(world: &World, name: &str, since: &mut Value) -> Value {
    let mut answer = world.sync(name, &ask(since, false)).await;
    *since = answer["next_batch"].take();
    answer["org.matrix.msc4429.users"].take()
}

async fn room_of(world: &World, members: &[&str]) -> OwnedRoomId {
    let room = world.room(members[0]).await;
    for member in &members[1..] {
        world.join(member, &room).await.unwrap();
    }
    room
}

#[tokio::test]
async fn a_change_is_told_once_to_those_who_share_a_room() {
    let world = World::new(false).await;
    let room = room_of(&world, &["alice", "bob"]).await;
    world.room("eve").await;
    world.set_profile("bob", "m.status", json!({ "text": "away" })).await;
    world.set_profile("bob", "org.x.y", json!(1)).await;
    let (mut alice, mut bob, mut eve) = (Value::Null, Value::Null, Value::Null);
    let status =
        |text: &str| json!({ "@bob:a.org": { "profile_updates": { "m.status": { "text": text } } } });
    assert_eq!(told(&world, "alice", &mut alice).await, status("away"), "what there is at first");
    assert_eq!(told(&world, "bob", &mut bob).await, status("away"), "the user's own");
    assert_eq!(told(&world, "eve", &mut eve).await, Value::Null);

    world.set_profile("bob", "org.x.y", json!(2)).await;
    assert_eq!(told(&world, "alice", &mut alice).await, Value::Null, "nobody has asked for that");
    let plain = Ask { since: text(&alice), ..Ask::default() };
    world.set_profile("bob", "m.status", json!({ "text": "here" })).await;
    let mut lost = alice.clone();
    assert_eq!(told(&world, "alice", &mut lost).await, status("here"));
    assert_eq!(
        told(&world, "alice", &mut alice).await,
        status("here"),
        "an answer that is lost is made again"
    );
    assert_eq!(told(&world, "alice", &mut alice).await, Value::Null, "it is told once");
    assert_eq!(
        world.sync("alice", &plain).await["org.matrix.msc4429.users"],
        Value::Null,
        "without a filter"
    );
    assert_eq!(told(&world, "bob", &mut bob).await, status("here"));
    assert_eq!(told(&world, "eve", &mut eve).await, Value::Null, "who shares no room is not told");

    world.set_profile("bob", "m.status", Value::Null).await;
    let gone = json!({ "@bob:a.org": { "profile_updates": { "m.status": null } } });
    assert_eq!(told(&world, "alice", &mut alice).await, gone);
    world.set_profile("bob", "displayname", json!("Bob")).await;
    world.leave("bob", &room).await.unwrap();
    world.set_profile("bob", "m.status", json!(1)).await;
    let end = json!({ "@bob:a.org": { "profile_updates": null } });
    assert_eq!(told(&world, "alice", &mut alice).await, end, "no more of whom one shares no room with");
    world.set_profile("bob", "displayname", Value::Null).await;
    assert_eq!(told(&world, "alice", &mut alice).await, Value::Null);
    world.join("bob", &room).await.unwrap();
    // A client need not have forgotten what it had.
    let back = json!({ "@bob:a.org": { "profile_updates": { "m.status": 1, "displayname": null } } });
    assert_eq!(told(&world, "alice", &mut alice).await, back);
}

#[tokio::test]
async fn whoever_comes_into_a_room_is_told_of_those_in_it() {
    let world = World::new(false).await;
    let room = room_of(&world, &["alice", "bob"]).await;
    world.set_profile("bob", "m.status", json!("b")).await;
    world.set_profile("carol", "m.status", json!("c")).await;
    let (mut carol, mut alice) = (Value::Null, Value::Null);
    told(&world, "carol", &mut carol).await;
    told(&world, "alice", &mut alice).await;
    world.join("carol", &room).await.unwrap();
    let of = |user: &str, status: &str| json!({ user: { "profile_updates": { "m.status": status } } });
    assert_eq!(told(&world, "carol", &mut carol).await, of("@bob:a.org", "b"));
    assert_eq!(told(&world, "alice", &mut alice).await, of("@carol:a.org", "c"));
}

#[tokio::test]
async fn a_change_ends_the_wait() {
    let world = World::new(false).await;
    room_of(&world, &["alice", "bob"]).await;
    let first = world.sync("alice", &ask(&Value::Null, false)).await;
    let slid = world.slide("alice", slide(&Value::Null, 9, json!({ "enabled": true }))).await;
    let waiting = Ask { timeout: Duration::from_secs(20), ..ask(&first["next_batch"], false) };
    let mut body = slide(&slid["pos"], 9, json!({ "enabled": true }));
    body["timeout"] = json!(20_000);
    let change = async {
        tokio::task::yield_now().await;
        world.set_profile("bob", "m.status", json!("x")).await;
    };
    let both = async { tokio::join!(world.sync("alice", &waiting), world.slide("alice", body), change) };
    let (next, slid, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("woken");
    assert_eq!(next["org.matrix.msc4429.users"]["@bob:a.org"]["profile_updates"]["m.status"], "x");
    assert_eq!(profiles(&slid), json!({ "@bob:a.org": { "updated": { "m.status": "x" } } }));
}

#[tokio::test]
async fn a_client_that_loads_members_lazily_is_told_of_those_it_sees() {
    let world = World::new(false).await;
    let room = room_of(&world, &["alice", "bob", "carol", "dave"]).await;
    for name in ["alice", "bob", "carol", "dave"] {
        world.set_profile(name, "m.status", json!(name)).await;
    }
    for _ in 0..30 {
        world.say("bob", &room, "x").await;
    }
    world
        .set("alice", &room, "m.room.name", json!({ "name": "so that it is not called by its members" }))
        .await;
    for _ in 0..20 {
        world.say("bob", &room, "x").await;
    }
    let seen = |answer: &Value| -> Vec<String> {
        let users = answer["org.matrix.msc4429.users"].as_object();
        users.into_iter().flatten().map(|(user, _)| user.clone()).collect()
    };
    let first = world.sync("alice", &ask(&Value::Null, true)).await;
    let heroes = &joined(&first, &room)["summary"]["m.heroes"];
    assert!(heroes.is_null() || heroes == &json!([]), "{heroes}");
    assert_eq!(seen(&first), ["@alice:a.org", "@bob:a.org"]);
    world.say("carol", &room, "y").await;
    for _ in 0..2 {
        let next = world.sync("alice", &ask(&first["next_batch"], true)).await;
        assert_eq!(seen(&next), ["@carol:a.org"], "also when the answer was lost: {next}");
    }
    let next = world.sync("alice", &ask(&first["next_batch"], true)).await;
    world.say("carol", &room, "z").await;
    world.set_profile("dave", "m.status", json!("new")).await;
    let next = world.sync("alice", &ask(&next["next_batch"], true)).await;
    assert_eq!(seen(&next), ["@dave:a.org"], "changes are told of everybody");
}

/// A request of sliding sync with one list of the rooms up to `last`, whose members are not left for later.
fn slide(pos: &Value, last: u64, extension: Value) -> Value {
    let mut body = super::sliding::list(pos, last);
    body["extensions"] = json!({ "org.matrix.msc4262.profiles": extension });
    body
}

fn profiles(answer: &Value) -> Value {
    answer["extensions"]["org.matrix.msc4262.profiles"]["users"].clone()
}

fn lazy(pos: &Value, extension: Value) -> Value {
    let mut body = json!({
        "lists": { "a": { "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [["m.room.member", "$LAZY"]] } },
        "extensions": { "org.matrix.msc4262.profiles": extension },
    });
    body["pos"] = pos.clone();
    body
}

#[tokio::test]
async fn a_window_has_the_profiles_of_its_rooms_and_all_changes_are_told() {
    let world = World::new(false).await;
    let on = || json!({ "enabled": true });
    let old = room_of(&world, &["alice", "bob"]).await;
    let new = room_of(&world, &["alice", "carol"]).await;
    world.say("carol", &new, "newest").await;
    for name in ["alice", "bob", "carol", "eve"] {
        world.set_profile(name, "m.status", json!(name)).await;
    }
    let updated = |name: &str, value: Value| json!({ "updated": { name: value } });
    let first = world.slide("alice", slide(&Value::Null, 0, on())).await;
    let expected = json!({
        "@alice:a.org": updated("m.status", json!("alice")),
        "@carol:a.org": updated("m.status", json!("carol")),
    });
    assert_eq!(profiles(&first), expected, "the user, and whoever is in the window");
    // Nothing of what is lost is counted on.
    for _ in 0..2 {
        let wider = world.slide("alice", slide(&first["pos"], 9, on())).await;
        assert_eq!(profiles(&wider), json!({ "@bob:a.org": updated("m.status", json!("bob")) }));
    }
    let narrow = world.slide("alice", slide(&first["pos"], 0, on())).await;
    assert_eq!(profiles(&narrow), Value::Null);
    world.set_profile("bob", "org.x.y", json!(null)).await;
    world.set_profile("bob", "org.x.y", json!(1)).await;
    world.set_profile("eve", "org.x.y", json!(1)).await;
    for _ in 0..2 {
        let next = world.slide("alice", slide(&narrow["pos"], 0, on())).await;
        let expected = json!({ "@bob:a.org": updated("org.x.y", json!(1)) });
        assert_eq!(profiles(&next), expected, "outside of the window too, and also when the answer was lost");
    }
    let next = world.slide("alice", slide(&narrow["pos"], 0, on())).await;
    let quiet = world.slide("alice", slide(&next["pos"], 0, on())).await;
    assert_eq!((profiles(&quiet), &quiet["pos"]), (Value::Null, &next["pos"]), "once");
    world.set_profile("bob", "org.x.y", json!(null)).await;
    world.leave("carol", &new).await.unwrap();
    let next = world.slide("alice", slide(&next["pos"], 0, on())).await;
    assert_eq!(profiles(&next), json!({ "@bob:a.org": { "removed": ["org.x.y"] }, "@carol:a.org": null }));
    world.join("eve", &old).await.unwrap();
    let next = world.slide("alice", slide(&next["pos"], 0, on())).await;
    let expected = json!({ "updated": { "m.status": "eve", "org.x.y": 1 } });
    assert_eq!(profiles(&next)["@eve:a.org"], expected, "whoever comes into a room");
}

#[tokio::test]
async fn other_fields_and_a_pause_are_made_up_for() {
    let world = World::new(false).await;
    room_of(&world, &["alice", "bob"]).await;
    world.set_profile("bob", "m.status", json!(1)).await;
    world.set_profile("bob", "displayname", json!("Bob")).await;
    let fields = |names: &[&str]| json!({ "enabled": true, "fields": names });
    let bob = |answer: &Value| profiles(answer)["@bob:a.org"].clone();
    let first = world.slide("alice", slide(&Value::Null, 9, fields(&["m.status"]))).await;
    assert_eq!(bob(&first), json!({ "updated": { "m.status": 1 } }));
    let wider = world.slide("alice", slide(&first["pos"], 9, fields(&["m.status", "displayname"]))).await;
    assert_eq!(bob(&wider), json!({ "updated": { "m.status": 1, "displayname": "Bob" } }));
    let off = world.slide("alice", slide(&wider["pos"], 9, json!({}))).await;
    world.set_profile("bob", "m.status", json!(2)).await;
    let off = world.slide("alice", slide(&off["pos"], 9, json!({ "enabled": false }))).await;
    assert_eq!(profiles(&off), Value::Null);
    let world = world.restart().await;
    let on = world.slide("alice", slide(&off["pos"], 9, fields(&["m.status", "displayname"]))).await;
    assert_eq!(profiles(&on), json!({ "@bob:a.org": { "updated": { "m.status": 2 } } }));
    let too_many: Vec<String> = (0..101).map(|n| format!("a.{n}")).collect();
    let body = slide(&on["pos"], 9, json!({ "enabled": true, "fields": too_many }));
    assert!(world.try_slide(("alice", "D"), SlidingShape::Final, body).await.is_err());
}

#[tokio::test]
async fn lazy_members_bring_their_profiles_along() {
    let world = World::new(false).await;
    let on = || json!({ "enabled": true, "fields": ["m.status"] });
    let room = room_of(&world, &["alice", "bob", "carol"]).await;
    world.set("alice", &room, "m.room.name", json!({ "name": "named" })).await;
    for name in ["alice", "bob", "carol"] {
        world.set_profile(name, "m.status", json!(name)).await;
    }
    world.say("bob", &room, "x").await;
    let seen = |answer: &Value| -> Vec<String> {
        profiles(answer).as_object().into_iter().flatten().map(|(user, _)| user.clone()).collect()
    };
    let first = world.slide("alice", lazy(&Value::Null, on())).await;
    assert_eq!(seen(&first), ["@alice:a.org", "@bob:a.org"], "{first}");
    world.say("carol", &room, "y").await;
    for _ in 0..2 {
        let next = world.slide("alice", lazy(&first["pos"], on())).await;
        assert_eq!(seen(&next), ["@carol:a.org"], "{next}");
    }
    let plain = world.slide("alice", lazy(&Value::Null, json!({}))).await;
    let late = world.slide("alice", lazy(&plain["pos"], on())).await;
    assert_eq!(seen(&late).len(), 3, "of a room that it had before: {late}");
}
