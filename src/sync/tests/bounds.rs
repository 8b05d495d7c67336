//! What ends a sync that waits, and how much one answer has.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    Ask, World, place_of,
    sliding::{list, of, rooms, sorted},
    text, user, words,
};
use crate::{
    account::AccountError,
    store::{Key, Scan, table::TableId},
    sync::{SlidingShape, SyncError},
};

/// The same request, made by somebody who waits.
fn patient(mut body: Value) -> Value {
    body["timeout"] = 60_000.into();
    body
}

#[tokio::test]
async fn who_is_locked_while_they_wait_is_told_so_at_once() {
    let world = World::new(false).await;
    world.room("bob").await;
    let since = text(&world.initial("bob").await["next_batch"]);
    let ask = Ask { since, timeout: Duration::from_secs(60), ..Ask::default() };
    let pos = world.slide("bob", list(&Value::Null, 9)).await["pos"].clone();
    let bob = user("bob");
    let (synced, slid, locked) = tokio::join!(
        world.try_sync("bob", "D", &ask),
        world.try_slide(("bob", "D"), SlidingShape::Unstable, patient(list(&pos, 9))),
        world.accounts.change_user(&bob, |user| user.locked = true),
    );
    locked.unwrap();
    for answer in [synced, slid] {
        assert!(matches!(answer, Err(SyncError::Account(AccountError::Locked))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_device_that_goes_while_it_waits_gets_nothing_more() {
    let world = World::new(false).await;
    let room = world.room("bob").await;
    let since = text(&world.initial("bob").await["next_batch"]);
    let ask = Ask { since, timeout: Duration::from_secs(60), ..Ask::default() };
    let pos = world.slide("bob", list(&Value::Null, 9)).await["pos"].clone();
    let (bob, phone) = (user("bob"), ["D".into()]);
    let (synced, slid, ()) = tokio::join!(
        world.try_sync("bob", "D", &ask),
        world.try_slide(("bob", "D"), SlidingShape::Unstable, patient(list(&pos, 9))),
        async {
            world.sync.devices.remove(&bob, &phone).await.unwrap();
            world.say("bob", &room, "from elsewhere").await;
        },
    );
    for answer in [synced, slid] {
        let refused = Err(SyncError::Account(AccountError::UnknownToken { soft: false }));
        assert_eq!(format!("{answer:?}"), format!("{:?}", refused as Result<Value, _>));
    }
    let from = Key(vec![TableId::Connection as u8]);
    let scan = Scan { to: from.after_prefix(), from, reverse: false, limit: 9 };
    assert!(world.db.scan_many(&[scan]).await.unwrap().concat().is_empty(), "its connections went with it");
}

#[tokio::test]
async fn what_makes_an_answer_too_large_comes_with_the_next() {
    let mut world = World::new(false).await;
    world.narrow();
    let (one, two, three) = (world.room("alice").await, world.room("alice").await, world.room("alice").await);
    world.say("alice", &one, "up").await;
    let mut pos = Value::Null;
    for expected in [&one, &three, &two] {
        let answer = world.slide("alice", list(&pos, 9)).await;
        assert_eq!(rooms(&answer), sorted(&[expected]), "the latest activity first: {answer}");
        assert_eq!(
            (&answer["lists"]["a"]["count"], &of(&answer, expected)["initial"]),
            (&json!(3), &json!(true))
        );
        pos = answer["pos"].clone();
    }
    assert_eq!(rooms(&world.slide("alice", list(&pos, 9)).await), [""; 0]);
    for (room, body) in [(&two, "a"), (&three, "b"), (&two, "c")] {
        world.say("alice", room, body).await;
    }
    for (room, expected) in [(&two, vec!["a", "c"]), (&three, vec!["b"])] {
        let answer = world.slide("alice", list(&pos, 9)).await;
        assert_eq!(rooms(&answer), sorted(&[room]));
        assert_eq!(words(&of(&answer, room)["timeline"]), expected, "{answer}");
        assert_eq!(of(&answer, room)["limited"], Value::Null);
        pos = answer["pos"].clone();
    }
}

#[tokio::test]
async fn too_much_of_too_many_rooms_is_refused() {
    let world = World::new(false).await;
    let mut lists = BTreeMap::new();
    for number in 0..12 {
        world.room("alice").await;
        let state: Vec<[String; 2]> =
            (0..80).map(|n| [format!("{number}.{n}.{}", "x".repeat(240)), "y".repeat(250)]).collect();
        let list = json!({ "ranges": [[0, number]], "timeline_limit": 1, "required_state": state });
        lists.insert(number.to_string(), list);
    }
    let few: BTreeMap<_, _> = lists.clone().into_iter().take(3).collect();
    let mut body = json!({ "lists": few });
    let answer = world.try_slide(("alice", "D"), SlidingShape::Final, body.clone()).await.unwrap();
    body["lists"] = json!(lists);
    let refused = world.try_slide(("alice", "D"), SlidingShape::Final, body.clone()).await;
    assert!(matches!(refused, Err(SyncError::Invalid(_))), "{refused:?}");
    // What was wanted before counts too, and does not if the client begins anew.
    let answer = match world.try_slide(("alice", "D"), SlidingShape::Final, json!({ "lists": few })).await {
        Ok(anew) => anew,
        Err(error) => panic!("{error}: {answer}"),
    };
    body["pos"] = answer["pos"].clone();
    let refused = world.try_slide(("alice", "D"), SlidingShape::Final, body).await;
    assert!(matches!(refused, Err(SyncError::UnknownPos)), "{refused:?}");
}

#[tokio::test]
async fn counts_of_a_room_that_cannot_be_rendered_come_when_it_can() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let event = world.say("alice", &room, "x").await;
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!(of(&first, &room)["notification_count"], 1);
    let ignored = json!({ "ignored_users": { "@alice:a.org": {} } });
    world.set_data("bob", None, "m.ignored_user_list", ignored).await;
    let (world, whole) = world.rewrite(&place_of(&event), b"damaged").await;
    let next = world.slide("bob", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&next), [""; 0]);
    let (world, _) = world.rewrite(&place_of(&event), &whole).await;
    let healed = world.slide("bob", list(&next["pos"], 9)).await;
    assert_eq!(of(&healed, &room)["notification_count"], 0, "{healed}");
}
