//! What a server can be made to spend: section 5 of the list of known vulnerabilities.

use ruma::OwnedEventId;
use serde_json::json;

use super::{Between, Wire, hostile::forged, user};
use crate::{
    history::Status,
    limits::{AUTH_EVENTS_MAX, BACKFILL_SERVED_MAX, MISSING_EVENTS_SERVED_MAX, PREV_EVENTS_MAX},
};

/// As long as the work grows with the length of list and name only, this takes milliseconds.
#[tokio::test]
async fn row_5_2_cve_2023_45129_a_huge_access_list_is_read_in_time() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let nested = format!("{}x", "*?".repeat(60));
    let deny: Vec<String> = (0..450).map(|number| format!("{nested}{number}")).collect();
    let list = json!({ "allow": ["*"], "deny": deny });
    a.set("alice@a", &room, ("m.room.server_acl", ""), list).await.unwrap();
    let long = ruma::OwnedServerName::try_from(format!("{}.org", "a".repeat(200))).unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..10 {
        assert!(a.history().allows_server(&room, &long).await.unwrap());
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
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
        let results = a.rooms().receive(&b.name, &room, vec![event]).await;
        assert!(results.iter().all(|(_, result)| result.is_err()), "{field}: {results:?}");
        assert_eq!(wire.calls.lock().len(), calls, "nobody is asked for what {field} names");
    }
}

/// Many events that stand on the same one leave many heads; an event of ours takes up as many as it may, and
/// so they become fewer.
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
    let heads = || async { a.history().room(&room).await.unwrap().unwrap().heads.len() };
    assert_eq!(heads().await, 50);
    for expected in [31, 12, 1] {
        let said = a.say("alice@a", &room, "one").await.unwrap();
        let said = a.history().event(&said).await.unwrap().unwrap();
        assert!(said.pdu.prev_events().len() <= PREV_EVENTS_MAX);
        assert_eq!(said.status, Status::Timeline);
        assert_eq!(heads().await, expected);
    }
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
