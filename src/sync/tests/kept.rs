//! What clients have of rooms stays true: rooms that were left, counts, names, and rooms outside of windows and filters.

use serde_json::{Value, json};

use super::{
    Ask, World, joined,
    sliding::{list, of, rooms, sorted},
    text, user, words,
};
use crate::{
    ephemeral::Thread,
    log::Commit,
    sync::SlidingShape,
    types::{Fact, Lane},
};

fn by_thread(since: &Value) -> Ask {
    let filter = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    Ask { since: text(since), filter, ..Ask::default() }
}

#[tokio::test]
async fn counts_of_threads_come_with_whatever_is_told_of_a_room() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let root = world.say("alice", &room, "one").await;
    world.reply("alice", &room, &root).await;
    let first = world.sync("bob", &by_thread(&Value::Null)).await;
    let counted = |answer: &Value| {
        joined(answer, &room)["unread_thread_notifications"][root.as_str()]["notification_count"].clone()
    };
    assert_eq!(counted(&first), 1);
    world.read("alice", &room, &root, Thread::Main).await;
    let next = world.sync("bob", &by_thread(&first["next_batch"])).await;
    assert_eq!(counted(&next), 1, "a client takes threads without counts for read: {next}");
}

#[tokio::test]
async fn a_room_that_was_left_stays_left() {
    let world = World::new(false).await;
    let (room, other) = (world.room("alice").await, world.room("alice").await);
    world.join("bob", &room).await.unwrap();
    world.join("bob", &other).await.unwrap();
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    world.leave("bob", &room).await.unwrap();
    let told = world.slide("bob", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&told), sorted(&[&room]));
    world.say("alice", &room, "secret").await;
    world.say("alice", &other, "up").await;
    let narrow = world.slide("bob", list(&told["pos"], 0)).await;
    world.say("alice", &room, "secret").await;
    let narrow = world.slide("bob", list(&narrow["pos"], 0)).await;
    let world = world.restart().await;
    let wide = world.slide("bob", list(&narrow["pos"], 9)).await;
    assert_eq!(rooms(&wide), [""; 0], "there is no news of it: {wide}");
    world.set_data("bob", None, "m.direct", json!({"@alice:a.org": [room]})).await;
    for shape in [SlidingShape::Unstable, SlidingShape::Final] {
        let direct = world.try_slide(("bob", "D"), shape, list(&wide["pos"], 9)).await.unwrap();
        let found = of(&direct, &room);
        assert_eq!((&found["is_dm"], &found["timeline"]), (&json!(true), &Value::Null), "{direct}");
        let own = &found["required_state"][0];
        assert_eq!(
            (&own["state_key"], &own["content"]["membership"]),
            (&json!("@bob:a.org"), &json!("leave"))
        );
        assert!(!direct.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_forgotten_room_is_told_to_the_other_devices_after_a_restart_too() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    world.leave("bob", &room).await.unwrap();
    world.rooms.forget(&user("bob"), &room).await.unwrap();
    let world = world.restart().await;
    let told = world.slide("bob", list(&first["pos"], 9)).await;
    assert_eq!(words(&of(&told, &room)["timeline"]), ["m.room.member"], "{told}");
    let fresh = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!(rooms(&fresh), [""; 0]);
}

#[tokio::test]
async fn a_ban_after_leaving_is_told_and_shown() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    world.leave("bob", &room).await.unwrap();
    let left = world.slide("bob", list(&first["pos"], 9)).await;
    world.rooms.ban(&user("alice"), &room, &user("bob"), None).await.unwrap();
    for (pos, initial) in [(&left["pos"], Value::Null), (&Value::Null, json!(true))] {
        let answer = world.slide("bob", list(pos, 9)).await;
        let found = of(&answer, &room);
        assert_eq!(found["required_state"][0]["content"]["membership"], "ban", "{answer}");
        assert_eq!(found["initial"], initial, "{answer}");
    }
}

#[tokio::test]
async fn a_window_of_one_event_shows_the_event_before_a_resolved_fork() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.say("alice", &room, "hello").await;
    let mut commit = Commit::new();
    commit.fact(Lane::Room(room.clone()), Fact::StateMoved);
    world.log.commit(commit).await.unwrap();
    let mut body = list(&Value::Null, 9);
    body["lists"]["a"]["timeline_limit"] = json!(1);
    let answer = world.slide("alice", body).await;
    assert_eq!(words(&of(&answer, &room)["timeline"]), ["hello"], "{answer}");
}

#[tokio::test]
async fn what_makes_no_sense_does_not_spoil_the_rest_of_a_list() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let direct = json!({"@alice:a.org": [room, 5], "@carol:a.org": "nonsense"});
    world.set_data("bob", None, "m.direct", direct).await;
    world
        .set_data(
            "bob",
            None,
            "m.ignored_user_list",
            json!({"ignored_users": {"no user": {}, "@alice:a.org": {}}}),
        )
        .await;
    world.say("alice", &room, "hush").await;
    let answer = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!(of(&answer, &room)["is_dm"], true);
    assert!(!words(&of(&answer, &room)["timeline"]).contains(&String::from("hush")), "{answer}");
}

#[tokio::test]
async fn a_room_without_a_name_is_called_by_its_members_again() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    world.set("alice", &room, "m.room.name", json!({"name": "Den"})).await;
    let filter = json!({"room": {"state": {"lazy_load_members": true}}});
    let ask = |since: &Value| Ask { since: text(since), filter: filter.clone(), ..Ask::default() };
    let first = world.sync("bob", &ask(&Value::Null)).await;
    assert_eq!(joined(&first, &room)["summary"]["m.heroes"], Value::Null);
    world.set("alice", &room, "m.room.name", json!({})).await;
    let next = world.sync("bob", &ask(&first["next_batch"])).await;
    assert_eq!(joined(&next, &room)["summary"]["m.heroes"], json!(["@alice:a.org"]), "{next}");
}

#[tokio::test]
async fn whoever_is_met_in_a_room_that_is_filtered_out_is_met() {
    let world = World::new(false).await;
    let room = world.room("bob").await;
    let filter = json!({"room": {"not_rooms": [room]}});
    let ask = |since: &Value| Ask { since: text(since), filter: filter.clone(), ..Ask::default() };
    let first = world.sync("bob", &ask(&Value::Null)).await;
    world.join("alice", &room).await.unwrap();
    let next = world.sync("bob", &ask(&first["next_batch"])).await;
    assert_eq!(next["device_lists"]["changed"], json!(["@alice:a.org"]), "{next}");
    assert_eq!(next["rooms"], Value::Null);
}

#[tokio::test]
async fn a_room_in_an_answer_has_a_timeline() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let filter = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let first = world.sync("bob", &Ask { filter: filter.clone(), ..Ask::default() }).await;
    world.leave("bob", &room).await.unwrap();
    let next = world.sync("bob", &Ask { since: text(&first["next_batch"]), filter, ..Ask::default() }).await;
    let left = &next["rooms"]["leave"][room.as_str()];
    assert_eq!(left["timeline"]["events"], json!([]), "matrix-nio gives up on a room without one: {next}");
}
