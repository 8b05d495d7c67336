//! What a server can be made to spend: section 5 of the list of known vulnerabilities.

use std::{collections::BTreeSet, time::Duration};

use ruma::OwnedEventId;
use serde_json::json;

use super::{Between, Node, Wire, hostile::forged, user};
use crate::{
    history::Status,
    limits::{
        AUTH_EVENTS_MAX, BACKFILL_SERVED_MAX, HEADS_MERGED_AFTER_MS, HEADS_MERGED_OVER, HEADS_MERGED_SOON_MS,
        HEADS_MERGED_SOON_OVER, MISSING_EVENTS_SERVED_MAX, PREV_EVENTS_MAX,
    },
    push::Push,
    store::{Key, Scan},
};

/// As long as the work grows with the length of list and name only, this takes milliseconds.
#[tokio::test]
async fn row_5_2_cve_2023_45129_a_huge_access_list_is_read_in_time() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let nested = format!("{}x", "*?".repeat(60));
    let long = ruma::OwnedServerName::try_from(format!("{}.org", "a".repeat(200))).unwrap();
    // As many as an event holds: few that are hard to match, and many that are easy.
    for deny in [
        (0..450).map(|number| format!("{nested}{number}")).collect::<Vec<String>>(),
        (0..6_000).map(|number| format!("*{number}*")).collect(),
    ] {
        let list = json!({ "allow": ["*"], "deny": deny });
        a.set("alice@a", &room, ("m.room.server_acl", ""), list).await.unwrap();
        let begun = tokio::time::Instant::now();
        for _ in 0..10 {
            assert!(a.history().allows_server(&room, &long).await.unwrap());
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn row_5_5_events_with_too_many_references_are_refused() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let content = json!({ "body": "x" });
    let honest = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await;
    let many = |count: usize, known: &[OwnedEventId]| -> Vec<String> {
        let unknown = (0..count - known.len()).map(|number| format!("${number:043}"));
        known.iter().map(ToString::to_string).chain(unknown).collect()
    };
    for (field, count, known) in [
        ("prev_events", PREV_EVENTS_MAX + 1, honest.prev_events()),
        ("auth_events", AUTH_EVENTS_MAX + 1, honest.auth_events()),
    ] {
        let calls = wire.calls.lock().len();
        let event = forged(&honest, &b, "11", json!({ field: many(count, known) }));
        let results = a.rooms().receive(&b.name, &room, vec![event]).await.unwrap();
        assert!(results.iter().all(|(_, result)| result.is_err()), "{field}: {results:?}");
        assert_eq!(wire.calls.lock().len(), calls, "nobody is asked for what {field} names");
    }
}

/// Many events that stand on the same one leave many heads; events of ours take up as many as each may, and so they become fewer.
#[tokio::test]
async fn row_5_5_many_heads_become_few() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let mut fan = Vec::new();
    for number in 0..50 {
        let content = json!({ "body": number });
        fan.push(b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await);
    }
    let results = a.receive(&b, &fan.iter().collect::<Vec<_>>()).await;
    assert!(results.iter().all(|result| result == "ok"), "{results:?}");
    wire.clock.advance(Duration::from_millis(HEADS_MERGED_AFTER_MS.1));
    a.rooms().judge_due().await.unwrap();
    let said = a.say("alice@a", &room, "one").await.unwrap();
    let mut next = vec![said];
    let mut followed = BTreeSet::new();
    while let Some(id) = next.pop() {
        let event = a.history().event(&id).await.unwrap().unwrap();
        assert!(event.pdu.prev_events().len() <= PREV_EVENTS_MAX);
        assert_eq!(event.status, Status::Timeline);
        if event.pdu.sender() == "@alice:a.org" && followed.len() < 50 {
            followed.extend(event.pdu.prev_events().iter().cloned());
            next.extend(event.pdu.prev_events().iter().cloned());
        }
    }
    assert!(fan.iter().all(|event| followed.contains(event.event_id())), "all are followed");
    assert_eq!(a.history().room(&room).await.unwrap().unwrap().heads.len(), 1);
}

/// States that all differ, one after each of many heads: an event of a server that is in the room follows them soon, so that what
/// comes next is not held against all of them. Nobody counts as having read by that.
#[tokio::test]
async fn row_5_5_many_heads_with_states_of_their_own_do_not_stay() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let (alice, bob) = (user("alice@a"), user("bob@b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let said = b.say("bob@b", &room, "read me").await.unwrap();
    wire.drive().await;
    assert_eq!(a.status(&said).await, Some(Status::Timeline));
    let push = Push::new(a.federation.history.clone(), a.federation.accounts.clone());
    let unread = async || {
        let rooms = vec![room.clone()];
        push.unread(&alice, &rooms, a.federation.log.head()).await.unwrap()[0].total().notification
    };
    assert_eq!(unread().await, 1);
    let mut fan = Vec::new();
    for number in 0..HEADS_MERGED_SOON_OVER + 3 * HEADS_MERGED_OVER {
        let content = json!({ "membership": "join", "displayname": number.to_string() });
        fan.push(b.build(&b, &room, (&bob, "m.room.member", Some(bob.as_str()), content)).await);
    }
    let heads = async || a.history().room(&room).await.unwrap().unwrap().heads.len();
    let mut most = 0;
    for some in fan.chunks(3 * HEADS_MERGED_OVER) {
        let results = a.receive(&b, &some.iter().collect::<Vec<_>>()).await;
        assert!(results.iter().all(|result| result == "ok"), "{results:?}");
        let many = heads().await;
        most = most.max(many);
        if many > HEADS_MERGED_SOON_OVER {
            wire.clock.advance(Duration::from_millis(HEADS_MERGED_SOON_MS.1));
            a.rooms().judge_due().await.unwrap();
            let heads = heads().await;
            assert!(heads <= HEADS_MERGED_OVER, "{heads} heads");
        }
    }
    assert!(most > HEADS_MERGED_SOON_OVER, "others have the time to do it: {most} heads");
    wire.clock.advance(Duration::from_millis(HEADS_MERGED_AFTER_MS.1));
    a.rooms().judge_due().await.unwrap();
    let heads = heads().await;
    assert!(heads <= HEADS_MERGED_OVER, "{heads} heads");
    assert_eq!(unread().await, 1, "she has not spoken");
    wire.drive().await;
    assert_eq!(a.state(&room).await, b.state(&room).await);
}

#[tokio::test]
async fn row_5_6_answers_have_a_limit_whatever_is_asked_for() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let mut last = None;
    for number in 0..BACKFILL_SERVED_MAX.max(MISSING_EVENTS_SERVED_MAX) + 20 {
        last = Some(a.say("alice@a", &room, &number.to_string()).await.unwrap());
    }
    let last = vec![last.unwrap()];
    let past = a.federation.backfill(&b.name, &room, last.clone(), usize::MAX).await.unwrap();
    assert_eq!(past.len(), BACKFILL_SERVED_MAX);
    let between = Between { earliest: Vec::new(), latest: last, limit: usize::MAX, min_depth: 0 };
    let missing = a.federation.missing_events(&b.name, &room, between).await.unwrap();
    assert_eq!(missing.len(), MISSING_EVENTS_SERVED_MAX);
}

/// Bytes in a node's store.
async fn stored(node: &Node) -> usize {
    let (mut from, to) = (Key(Vec::new()), Key(vec![0xff; 8]));
    let mut bytes = 0;
    loop {
        let scan = Scan { from: from.clone(), to: to.clone(), reverse: false, limit: 10_000 };
        let rows = node.federation.log.db().scan_many(&[scan]).await.unwrap().pop().unwrap();
        let Some((last, _)) = rows.last() else { return bytes };
        from = Key([last.0.as_slice(), &[0]].concat());
        bytes += rows.iter().map(|(key, value)| key.0.len() + value.len()).sum::<usize>();
    }
}

/// Whatever shape somebody gives to the graph of auth events, it costs no more than its events are long.
#[tokio::test]
async fn row_5_1_cve_2024_31208_odd_auth_chains_fill_no_disk() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let before = stored(&a).await;
    let begun = tokio::time::Instant::now();
    let mut bytes = 0;
    // Each new join of bob's names the one before it, or a random older one: a chain, then a comb.
    let mut joins: Vec<OwnedEventId> = Vec::new();
    for number in 0..300_usize {
        let content = json!({ "membership": "join", "displayname": format!("bob {number}") });
        let join = (&user("bob@b"), "m.room.member", Some("@bob:b.org"), content);
        let honest = b.build(&b, &room, join).await;
        let mut auth: Vec<String> = honest.auth_events().iter().map(ToString::to_string).collect();
        if number > 150 {
            let own = b.state(&room).await["m.room.member @bob:b.org"].to_string();
            let other = joins[(number * 7919) % joins.len()].to_string();
            auth.iter_mut().filter(|id| **id == own).for_each(|id| *id = other.clone());
        }
        let text = forged(&honest, &b, "11", json!({ "auth_events": auth }));
        bytes += text.get().len();
        for node in [&a, &b] {
            let results = node.rooms().receive(&b.name, &room, vec![text.clone()]).await.unwrap();
            joins.extend(results.into_iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| id));
        }
    }
    let spent = stored(&a).await - before;
    assert!(joins.len() >= 300, "{}", joins.len());
    assert!(spent < 8 * bytes, "{spent} bytes for {bytes}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}
