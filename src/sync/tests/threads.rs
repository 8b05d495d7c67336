//! Thread subscriptions, and how sliding sync tells of them.

use serde_json::{Value, json};

use super::{
    World,
    sliding::{extended, list},
    user,
};
use crate::{
    ephemeral::EphemeralError,
    store::{Key, Scan},
    types::Position,
};

#[tokio::test]
async fn thread_subscriptions_are_told_and_paged() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let mut roots = Vec::new();
    for n in 0..4 {
        roots.push(world.say("alice", &room, &n.to_string()).await);
    }
    let me = user("alice");
    let subscribe = async |root: &ruma::EventId, cause: Option<&ruma::EventId>| {
        world.ephemeral.subscribe(&me, (&room, root), cause).await
    };
    for root in &roots {
        subscribe(root, None).await.unwrap();
    }
    let ask = |pos: &Value| {
        extended(pos, json!({"io.element.msc4308.thread_subscriptions": {"enabled": true, "limit": 3}}))
    };
    let told = |answer: &Value, what: &str| {
        let found = &answer["extensions"]["io.element.msc4308.thread_subscriptions"];
        found[what][room.as_str()].as_object().map_or(0, serde_json::Map::len)
    };
    let first = world.slide("alice", ask(&Value::Null)).await;
    assert_eq!((told(&first, "subscribed"), told(&first, "unsubscribed")), (3, 0));
    let more = &first["extensions"]["io.element.msc4308.thread_subscriptions"]["prev_batch"];
    let more = Position(more.as_str().unwrap().trim_start_matches('t').parse().unwrap());
    let page = world.ephemeral.subscriptions(&me, (Position::ZERO, more), None).await.unwrap();
    assert_eq!((page.changes.len(), &page.changes[0].1.thread_root, page.more), (1, &roots[0], None));
    world.ephemeral.unsubscribe(&me, (&room, &roots[1])).await.unwrap();
    let off = world.slide("alice", list(&first["pos"], 9)).await;
    let next = world.slide("alice", ask(&off["pos"])).await;
    assert_eq!((told(&next, "subscribed"), told(&next, "unsubscribed")), (0, 1));
    let quiet = world.slide("alice", ask(&next["pos"])).await;
    assert_eq!((told(&quiet, "subscribed"), told(&quiet, "unsubscribed")), (0, 0));
}

/// What cannot be read is left out, and told when it can be read again.
#[tokio::test]
async fn subscriptions_that_cannot_be_read_are_told_later() {
    let mut world = World::new(false).await;
    let room = world.room("alice").await;
    let (old, new) = (world.say("alice", &room, "old").await, world.say("alice", &room, "new").await);
    let name = "io.element.msc4308.thread_subscriptions";
    let ask = |pos: &Value| extended(pos, json!({ name: { "enabled": true } }));
    world.ephemeral.subscribe(&user("alice"), (&room, &old), None).await.unwrap();
    let first = world.slide("alice", ask(&Value::Null)).await;
    assert!(first["extensions"][name]["subscribed"].is_object(), "{first}");
    let scan = Scan { from: Key(vec![0]), to: Key(vec![0xFF]), reverse: false, limit: 10_000 };
    let rows = world.db.scan_many(&[scan]).await.unwrap().concat();
    let has = |key: &Key, part: &[u8]| key.0.windows(part.len()).any(|found| found == part);
    let is_it = |key: &Key| has(key, b"@alice:a.org") && has(key, old.as_bytes());
    let mut rows: Vec<_> = rows.into_iter().filter(|(key, _)| is_it(key)).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let (key, row) = rows.remove(0);
    world.ephemeral.subscribe(&user("alice"), (&room, &new), None).await.unwrap();
    let mut pos = first["pos"].clone();
    for (row, is_told) in [(b"rubbish".to_vec(), false), (row.to_vec(), true)] {
        (world, _) = world.rewrite(&key, &row).await;
        let answer = world.slide("alice", ask(&pos)).await;
        let told = &answer["extensions"][name]["subscribed"][room.as_str()];
        assert_eq!(told.get(new.as_str()).is_some(), is_told, "{answer}");
        pos = answer["pos"].clone();
    }
}

#[tokio::test]
async fn clients_subscribe_to_threads_within_rules() {
    let world = World::new(false).await;
    let room = world.room("alice").await;
    let (me, root) = (user("alice"), world.say("alice", &room, "root").await);
    let reply = world.reply("alice", &room, &root).await;
    let thread = (&*room, &*root);
    let is = async || {
        world.ephemeral.subscription(&me, thread).await.unwrap().map(|it| (it.subscribed, it.automatic))
    };
    world.ephemeral.unsubscribe(&me, thread).await.unwrap();
    assert_eq!(is().await, None, "there was nothing to end");
    world.ephemeral.subscribe(&me, thread, Some(&reply)).await.unwrap();
    assert_eq!(is().await, Some((true, true)));
    world.ephemeral.subscribe(&me, thread, None).await.unwrap();
    world.ephemeral.subscribe(&me, thread, Some(&reply)).await.unwrap();
    assert_eq!(is().await, Some((true, false)), "what the user wants stands");
    world.ephemeral.unsubscribe(&me, thread).await.unwrap();
    let again = world.ephemeral.subscribe(&me, thread, Some(&reply)).await;
    assert!(matches!(again, Err(EphemeralError::Unsubscribed)), "the reply is from before");
    let later = world.reply("alice", &room, &root).await;
    world.ephemeral.subscribe(&me, thread, Some(&later)).await.unwrap();
    let cause = world.ephemeral.subscribe(&me, thread, Some(&root)).await;
    assert!(matches!(cause, Err(EphemeralError::NotInThread)), "the root is not in its thread");
    let elsewhere = world.room("bob").await;
    let event = world.say("bob", &elsewhere, "x").await;
    world.leave("bob", &elsewhere).await.unwrap();
    for thread in [(&*room, &*event), (&*elsewhere, &*root)] {
        let found = world.ephemeral.subscription(&me, thread).await;
        assert!(matches!(found, Err(EphemeralError::NotFound(_))), "{thread:?}");
    }
}
