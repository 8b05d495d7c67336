//! The parts of an answer, one by one.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Ask, World, joined, text, user, words};
use crate::{
    ephemeral::{Markers, Thread},
    room::NewRoom,
    sync::{StateDialect, SyncError},
};

#[tokio::test]
async fn an_initial_sync_has_the_room_and_the_rest_follows() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.say("alice", &room, "one").await;
    let first = world.initial("alice").await;
    let update = joined(&first, &room);
    assert_eq!(words(&update["timeline"]["events"]).last().unwrap(), "one");
    assert_eq!(update["summary"]["m.joined_member_count"], 1);
    let types: Vec<_> = words(&first["account_data"]["events"]);
    assert_eq!(types, ["m.push_rules"]);
    assert_eq!(first["device_one_time_keys_count"], json!({"signed_curve25519": 0}));
    assert_eq!(first["device_unused_fallback_key_types"], json!([]));
    let quiet = world.since("alice", &first["next_batch"]).await;
    assert_eq!(quiet["rooms"], Value::Null);
    world.say("alice", &room, "two").await;
    world.say("alice", &room, "three").await;
    for _ in 0..2 {
        let next = world.since("alice", &first["next_batch"]).await;
        let update = joined(&next, &room);
        assert_eq!(words(&update["timeline"]["events"]), ["two", "three"]);
        assert_eq!(update["timeline"]["limited"], false);
        assert_eq!(update["state"]["events"], json!([]));
        assert_eq!(update["summary"], Value::Null);
    }
}

#[tokio::test]
async fn tokens_are_judged() {
    let world = World::new(false).await;
    world.room("alice").await;
    for token in ["s999999", "x", ""] {
        let ask = Ask { since: Some(token.into()), ..Ask::default() };
        assert!(matches!(world.try_sync("alice", "D", &ask).await, Err(SyncError::BadToken)), "{token}");
    }
    let first = world.initial("alice").await;
    let world = world.restart().await;
    let next = world.since("alice", &first["next_batch"]).await;
    assert_ne!(next["next_batch"], Value::Null, "tokens survive a restart");
}

#[tokio::test]
async fn a_gap_is_covered_by_state_in_every_dialect() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    world.set("alice", &room, "m.room.name", json!({"name": "early"})).await;
    for n in 0..3 {
        world.say("alice", &room, &n.to_string()).await;
    }
    world.set("alice", &room, "m.room.topic", json!({"topic": "late"})).await;
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    for (dialect, place, expected) in [
        (StateDialect::Before, "state", vec!["m.room.name"]),
        (StateDialect::After, "state_after", vec!["m.room.name", "m.room.topic"]),
        (StateDialect::AfterUnstable, "org.matrix.msc4222.state_after", vec!["m.room.name", "m.room.topic"]),
    ] {
        let ask =
            Ask { since: text(&first["next_batch"]), filter: filter.clone(), dialect, ..Ask::default() };
        let answer = world.sync("alice", &ask).await;
        let update = joined(&answer, &room);
        assert_eq!(words(&update["timeline"]["events"]), ["2", "m.room.topic"]);
        assert_eq!(update["timeline"]["limited"], true);
        assert_eq!(words(&update[place]["events"]), expected);
        let states = ["state", "state_after", "org.matrix.msc4222.state_after"];
        assert_eq!(states.iter().filter(|place| !update[**place].is_null()).count(), 1);
    }
}

#[tokio::test]
async fn state_that_the_timeline_filter_hides_comes_with_the_state() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    world.set("alice", &room, "m.room.name", json!({"name": "x"})).await;
    world.say("alice", &room, "hello").await;
    let filter = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let ask = Ask { since: text(&first["next_batch"]), filter, ..Ask::default() };
    let answer = world.sync("alice", &ask).await;
    assert_eq!(words(&joined(&answer, &room)["timeline"]["events"]), ["hello"]);
    assert_eq!(words(&joined(&answer, &room)["state"]["events"]), ["m.room.name"]);
}

#[tokio::test]
async fn a_filter_is_filled_from_further_back() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    for n in 0..30 {
        let kind = if n % 10 == 0 { "m.wanted" } else { "m.unwanted" };
        world.send("alice", &room, (kind, json!({"body": n.to_string()})), None).await.unwrap();
    }
    let filter = |limit: u32| json!({"room": {"timeline": {"types": ["m.wan*"], "limit": limit}}});
    for (limit, expected, limited) in [(4, vec!["0", "10", "20"], false), (2, vec!["10", "20"], true)] {
        let ask = Ask { since: text(&first["next_batch"]), filter: filter(limit), ..Ask::default() };
        let answer = world.sync("alice", &ask).await;
        assert_eq!(words(&joined(&answer, &room)["timeline"]["events"]), expected);
        assert_eq!(joined(&answer, &room)["timeline"]["limited"], limited);
    }
}

#[tokio::test]
async fn memberships_have_their_sections() {
    let world = World::new(false).await;
    let den = NewRoom { name: Some("den".into()), ..NewRoom::default() };
    let room = world.rooms.create(&user("alice"), den).await.unwrap();
    let (start, id) = (world.initial("bob").await, room.as_str());
    world.rooms.invite(&user("alice"), &room, &user("bob"), None).await.unwrap();
    let invited = world.since("bob", &start["next_batch"]).await;
    let state = &invited["rooms"]["invite"][id]["invite_state"]["events"];
    assert!(words(state).contains(&String::from("m.room.name")), "{invited}");
    world.join("bob", &room).await.unwrap();
    let joins = world.since("bob", &invited["next_batch"]).await;
    let update = joined(&joins, &room);
    let whole: Vec<_> = [words(&update["state"]["events"]), words(&update["timeline"]["events"])].concat();
    for kind in ["m.room.create", "m.room.name", "m.room.power_levels", "m.room.member"] {
        assert!(whole.contains(&kind.to_owned()), "{kind} in {whole:?}");
    }
    assert_eq!(update["summary"]["m.joined_member_count"], 2);
    assert_eq!(joins["rooms"]["invite"], Value::Null);
    assert_eq!(joins["device_lists"]["changed"], json!(["@alice:a.org", "@bob:a.org"]));
    world.rooms.kick(&user("alice"), &room, &user("bob"), None).await.unwrap();
    world.say("alice", &room, "secret").await;
    let left = world.since("bob", &joins["next_batch"]).await;
    assert_eq!(words(&left["rooms"]["leave"][id]["timeline"]["events"]), ["m.room.member"]);
    assert_eq!(left["device_lists"]["left"], json!(["@alice:a.org"]));
    let after = world.since("bob", &left["next_batch"]).await;
    assert_eq!(after["rooms"], Value::Null);
    // A device that comes later is told too who has taken the user out of the room.
    let told = world.initial("bob").await;
    assert_eq!(words(&told["rooms"]["leave"][id]["timeline"]["events"]).last().unwrap(), "m.room.member");
    let filter = json!({"room": {"include_leave": true}});
    let archived = world.sync("bob", &Ask { filter, ..Ask::default() }).await;
    let timeline = words(&archived["rooms"]["leave"][id]["timeline"]["events"]);
    assert_eq!(timeline.last().unwrap(), "m.room.member");
    assert!(!timeline.contains(&String::from("secret")));
    world.rooms.invite(&user("alice"), &room, &user("bob"), None).await.unwrap();
    world.leave("bob", &room).await.unwrap();
    let refused = world.since("bob", &after["next_batch"]).await;
    assert_eq!(words(&refused["rooms"]["leave"][id]["timeline"]["events"]), ["m.room.member"], "{refused}");
    assert_eq!(world.initial("bob").await["rooms"], Value::Null);
}

#[tokio::test]
async fn a_timeline_may_be_empty_and_the_state_tells_all() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.set("alice", &room, "m.room.name", json!({"name": "x"})).await;
    let filter = json!({"room": {"timeline": {"limit": 0}}});
    let answer = world.sync("alice", &Ask { filter, ..Ask::default() }).await;
    let update = joined(&answer, &room);
    assert_eq!(update["timeline"]["events"], json!([]));
    assert_eq!(update["timeline"]["limited"], true);
    assert!(words(&update["state"]["events"]).contains(&String::from("m.room.name")), "{update}");
}

#[tokio::test]
async fn lazy_members_come_with_who_speaks_and_once() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    for name in ["bob", "carol", "dave"] {
        world.join(name, &room).await.unwrap();
    }
    world.set("alice", &room, "m.room.name", json!({"name": "x"})).await;
    let members = |answer: &Value| -> Vec<String> {
        let events = joined(answer, &room)["state"]["events"].as_array().cloned().unwrap_or_default();
        let mut members: Vec<_> = events
            .iter()
            .filter(|e| e["type"] == "m.room.member")
            .filter_map(|e| text(&e["state_key"]))
            .collect();
        members.sort();
        members
    };
    let filter = |redundant: bool| {
        let lazy = json!({"lazy_load_members": true, "include_redundant_members": redundant});
        json!({"room": {"state": lazy, "timeline": {"limit": 1}}})
    };
    let ask =
        |since: &Value, redundant| Ask { since: text(since), filter: filter(redundant), ..Ask::default() };
    world.say("bob", &room, "1").await;
    let first = world.sync("alice", &ask(&Value::Null, false)).await;
    assert_eq!(members(&first), ["@alice:a.org", "@bob:a.org"]);
    world.say("carol", &room, "2").await;
    let second = world.sync("alice", &ask(&first["next_batch"], false)).await;
    assert_eq!(members(&second), ["@carol:a.org"]);
    let again = world.sync("alice", &ask(&first["next_batch"], false)).await;
    assert_eq!(members(&again), ["@carol:a.org"], "a lost answer is given again");
    world.say("carol", &room, "3").await;
    let third = world.sync("alice", &ask(&second["next_batch"], false)).await;
    assert!(members(&third).is_empty());
    let third = world.sync("alice", &ask(&second["next_batch"], true)).await;
    assert_eq!(members(&third), ["@carol:a.org"]);
}

#[tokio::test]
async fn counts_follow_rules_receipts_and_threads() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let mut token = world.initial("bob").await["next_batch"].clone();
    let root = world.say("alice", &room, "one").await;
    let reply = world.reply("alice", &room, &root).await;
    let mention = json!({"body": "hey", "msgtype": "m.text", "m.mentions": {"user_ids": ["@bob:a.org"]}});
    world.send("alice", &room, ("m.room.message", mention), None).await.unwrap();
    let by_thread = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    let mut check = async |filter: Value, expected: Value| {
        let ask = Ask { since: text(&token), filter, ..Ask::default() };
        let answer = world.sync("bob", &ask).await;
        let update = joined(&answer, &room);
        let counts = &update["unread_notifications"];
        let found = json!([
            counts["notification_count"],
            counts["highlight_count"],
            update["unread_thread_notifications"][root.as_str()]["notification_count"],
        ]);
        assert_eq!(found, expected, "{answer}");
        token = answer["next_batch"].clone();
    };
    let start = Value::Null;
    check(start.clone(), json!([3, 1, null])).await;
    world.read("bob", &room, &root, Thread::Main).await;
    check(by_thread.clone(), json!([1, 1, 1])).await;
    world.read("bob", &room, &reply, Thread::Root(root.clone())).await;
    check(by_thread.clone(), json!([1, 1, null])).await;
    world.say("bob", &room, "yes").await;
    check(by_thread.clone(), json!([0, 0, null])).await;
    world.reply("alice", &room, &root).await;
    let last = world.say("alice", &room, "two").await;
    check(by_thread.clone(), json!([1, 0, 1])).await;
    let markers = Markers { read_private: Some(last), ..Markers::default() };
    world.ephemeral.set_markers(&room, &user("bob"), &markers).await.unwrap();
    check(start, json!([0, 0, null])).await;
}

/// `kind content → notifies, highlights`, sent by somebody without and by somebody with power.
#[tokio::test]
async fn push_rules_judge_what_counts() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    for name in ["bob", "carol"] {
        world.join(name, &room).await.unwrap();
    }
    let all = json!({"body": "x", "m.mentions": {"room": true}});
    let edit = json!({"body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}});
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": "$e", "key": "k"}});
    for (sender, kind, content, expected) in [
        ("carol", "m.room.message", json!({"body": "x"}), (1, 0)),
        ("carol", "m.room.encrypted", json!({}), (1, 0)),
        ("carol", "m.room.message", json!({"body": "x", "msgtype": "m.notice"}), (0, 0)),
        // The specification mentions nobody by text any more.
        ("carol", "m.room.message", json!({"body": "for bob."}), (1, 0)),
        ("carol", "m.room.message", json!({"body": "", "m.mentions": {"user_ids": ["@bob:a.org"]}}), (1, 1)),
        ("carol", "m.room.message", all.clone(), (1, 0)),
        ("alice", "m.room.message", all, (1, 1)),
        ("carol", "m.room.message", edit, (0, 0)),
        ("carol", "m.reaction", reaction, (0, 0)),
        ("carol", "x.unknown", json!({}), (0, 0)),
        ("bob", "m.room.message", json!({"body": "bob"}), (0, 0)),
    ] {
        let count = async || {
            world.push.unread(&user("bob"), std::slice::from_ref(&room), world.log.head()).await.unwrap()
        };
        world.say("bob", &room, "all read").await;
        assert_eq!(count().await[0].total(), Default::default());
        let sent = world.send(sender, &room, (kind, content.clone()), None).await.unwrap();
        let found = count().await[0].total();
        assert_eq!((found.notification, found.highlight), expected, "{sender} {kind} {content}");
        let redaction = ("m.room.redaction", json!({ "redacts": sent }));
        world.send(sender, &room, redaction, None).await.unwrap();
        assert_eq!(count().await[0].total(), Default::default(), "nothing is left to read");
    }
}

#[tokio::test]
async fn ignored_users_are_not_heard() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    world.set_data("alice", None, "m.ignored_user_list", json!({"ignored_users": {"@bob:a.org": {}}})).await;
    let first = world.initial("alice").await;
    world.say("bob", &room, "spam").await;
    let quiet = world.since("alice", &first["next_batch"]).await;
    assert_eq!(quiet["rooms"], Value::Null);
    world.leave("bob", &room).await.unwrap();
    let theirs = world.room("bob").await;
    world.rooms.invite(&user("bob"), &theirs, &user("alice"), None).await.unwrap();
    let answer = world.since("alice", &first["next_batch"]).await;
    assert_eq!(words(&joined(&answer, &room)["timeline"]["events"]), ["m.room.member"]);
    assert_eq!(answer["rooms"]["invite"], Value::Null);
}

#[tokio::test]
async fn what_is_ephemeral_and_the_users_own() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let first = world.initial("alice").await;
    let event = world.say("alice", &room, "x").await;
    world.ephemeral.set_typing(&room, &user("bob"), Some(None)).await.unwrap();
    world.read("bob", &room, &event, Thread::Unthreaded).await;
    world.read("bob", &room, &event, Thread::Main).await;
    world.set_data("alice", Some(&room), "m.tag", json!({"tags": {"u.x": {}}})).await;
    world.set_data("alice", None, "m.direct", json!({})).await;
    let answer = world.since("alice", &first["next_batch"]).await;
    let update = joined(&answer, &room);
    assert_eq!(words(&update["ephemeral"]["events"]), ["m.typing", "m.receipt", "m.receipt"]);
    assert_eq!(update["ephemeral"]["events"][0]["content"]["user_ids"], json!(["@bob:a.org"]));
    assert_eq!(words(&update["account_data"]["events"]), ["m.tag"]);
    assert_eq!(words(&answer["account_data"]["events"]), ["m.direct"]);
    let world = world.restart().await;
    let after = world.since("alice", &answer["next_batch"]).await;
    assert_eq!(joined(&after, &room)["ephemeral"]["events"][0]["content"]["user_ids"], json!([]));
    let quiet = world.since("alice", &after["next_batch"]).await;
    assert_eq!(quiet["rooms"], Value::Null, "told once");
}

#[tokio::test]
async fn transaction_ids_and_fields() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    world.send("alice", &room, ("m.x", json!({"body": "x", "more": 1})), Some("t1")).await.unwrap();
    let ask = Ask { since: text(&first["next_batch"]), ..Ask::default() };
    for (device, expected) in [("D", json!("t1")), ("E", Value::Null)] {
        let answer = world.try_sync("alice", device, &ask).await.unwrap();
        let event = &joined(&answer, &room)["timeline"]["events"][0];
        assert_eq!(event["unsigned"]["transaction_id"], expected);
    }
    let ask = Ask { filter: json!({"event_fields": ["content.body"]}), ..ask };
    let answer = world.sync("alice", &ask).await;
    assert_eq!(joined(&answer, &room)["timeline"]["events"][0], json!({"content": {"body": "x"}}));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_news_time_or_the_server() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    let ask = Ask { since: text(&first["next_batch"]), timeout: Duration::from_secs(30), ..Ask::default() };
    let (answer, _) = tokio::join!(world.sync("alice", &ask), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.say("alice", &room, "news").await;
    });
    assert_eq!(words(&joined(&answer, &room)["timeline"]["events"]), ["news"]);
    let ask = Ask { since: text(&answer["next_batch"]), ..ask };
    let before = tokio::time::Instant::now();
    assert_eq!(world.sync("alice", &ask).await["rooms"], Value::Null);
    assert_eq!(before.elapsed().as_secs(), 30);
    let before = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(world.sync("alice", &ask), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.stopping.cancel();
    });
    assert_eq!((&answer["rooms"], before.elapsed().as_secs()), (&Value::Null, 1));
}

#[tokio::test]
async fn presence_reaches_those_who_share_a_room() {
    let world = World::new(true).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    world.initial("eve").await;
    world.initial("bob").await;
    let quiet = world.since("alice", &first["next_batch"]).await;
    assert_eq!(quiet["presence"], Value::Null);
    world.join("bob", &room).await.unwrap();
    world.initial("bob").await;
    let answer = world.initial("alice").await;
    let who: Vec<_> = answer["presence"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["sender"].clone())
        .collect();
    assert_eq!(who, ["@alice:a.org", "@bob:a.org"]);
    assert_eq!(answer["presence"]["events"][1]["content"]["presence"], "online");
}

#[tokio::test]
async fn full_state_is_all_of_it() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let first = world.initial("alice").await;
    let ask = Ask { since: text(&first["next_batch"]), full_state: true, ..Ask::default() };
    let answer = world.sync("alice", &ask).await;
    let kinds = words(&joined(&answer, &room)["state"]["events"]);
    assert!(kinds.contains(&String::from("m.room.create")), "{kinds:?}");
    assert_eq!(joined(&answer, &room)["timeline"]["events"], json!([]));
}

#[tokio::test]
async fn a_large_room_is_called_by_those_who_came_first() {
    let world = World::new(false).await;
    let room = world.room("zoe").await;
    // By id they come the other way round.
    for n in (0..60).rev() {
        world.join(&format!("u{n:02}"), &room).await.unwrap();
    }
    // Who comes again is a newcomer.
    world.leave("u58", &room).await.unwrap();
    world.join("u58", &room).await.unwrap();
    let answer = world.initial("u00").await;
    let heroes = &joined(&answer, &room)["summary"]["m.heroes"];
    let expected = ["@zoe:a.org", "@u59:a.org", "@u57:a.org", "@u56:a.org", "@u55:a.org"];
    assert_eq!(*heroes, json!(expected));
}
