//! What cannot be judged when it comes is judged later.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedRoomId, RoomId};
use serde_json::json;

use super::{Node, Wire, user};
use crate::{
    dag::Pdu,
    history::Status,
    limits::{BACKFILL_EVENTS, UNJUDGED_NEWS_MAX},
    types::Membership,
};

/// A room of alice's at a, with carol of c in it; d has never heard of c, and cannot reach it.
async fn scene(version: &str) -> (Arc<Wire>, OwnedRoomId) {
    let wire = Wire::new(&["a", "c", "d"]).await;
    let (a, c) = (wire.node("a"), wire.node("c"));
    let room = a.create("alice@a", version).await;
    c.join_through(&a, &room, "carol@c").await.unwrap();
    wire.drive().await;
    wire.cut("d", "c");
    (wire, room)
}

async fn message(by: &Node, room: &RoomId, sender: &str, body: &str) -> Pdu {
    by.build(by, room, (&user(sender), "m.room.message", None, json!({ "body": body }))).await
}

/// Has everything tried again, an hour later.
async fn an_hour_later(wire: &Wire, node: &Node) {
    wire.clock.advance(Duration::from_secs(3_600));
    node.rooms().judge_due().await.unwrap();
}

#[tokio::test]
async fn a_member_whose_keys_could_not_be_had_is_in_the_state_once_they_can() {
    for version in ["1", "6", "10", "12"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        d.join_through(&a, &room, "dave@d").await.unwrap();
        let carol = user("carol@c");
        assert_eq!(d.history().membership(&room, &carol).await.unwrap(), None, "{version}");
        an_hour_later(&wire, &d).await;
        assert_eq!(d.history().membership(&room, &carol).await.unwrap(), None, "{version}");

        wire.mend();
        let before = d.federation.log.head();
        an_hour_later(&wire, &d).await;
        an_hour_later(&wire, &d).await;
        assert_eq!(d.history().membership(&room, &carol).await.unwrap(), Some(Membership::Join), "{version}");
        let after = d.federation.log.head();
        for (at, is_there) in [(before, false), (after, true)] {
            let state = d.history().state_at_position(&room, at).await.unwrap();
            let member = d.history().membership_in(state, &carol).await.unwrap();
            assert_eq!(member.is_some(), is_there, "{version}: it has a place in the log");
        }
        assert!(d.history().has_server(&room, &c.name).await.unwrap(), "{version}: c hears of what happens");
        let row = d.history().room(&room).await.unwrap().unwrap();
        assert_eq!((row.joined, row.remote), (3, 2), "{version}");
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
        let said = c.say("carol@c", &room, "hello").await.unwrap();
        wire.drive().await;
        assert_eq!(d.status(&said).await, Some(Status::Timeline), "{version}");
    }
}

/// States from before it was known go on without it, as what was sent meanwhile goes back to them.
#[tokio::test]
async fn forks_from_before_a_late_member_do_not_lose_it() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    d.join_through(&a, &room, "dave@d").await.unwrap();
    // Nobody but d has heard of what dave has said when carol answers.
    let fork = message(&a, &room, "alice@a", "fork").await;
    let late = message(&c, &room, "carol@c", "late").await;
    wire.mend();
    an_hour_later(&wire, &d).await;
    an_hour_later(&wire, &d).await;
    assert_eq!(d.receive(&a, &[&fork]).await, ["ok"]);
    assert_eq!(d.receive(&c, &[&late]).await, ["ok"]);
    assert_eq!(d.status(late.event_id()).await, Some(Status::Timeline));
    let member = d.history().membership(&room, &user("carol@c")).await.unwrap();
    assert_eq!(member, Some(Membership::Join));
}

/// Whoever was left out of the state may speak as soon as it can be told who they are.
#[tokio::test]
async fn what_a_late_member_says_is_not_rejected() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    d.join_through(&a, &room, "dave@d").await.unwrap();
    wire.drive().await;
    let said = message(&c, &room, "carol@c", "hello").await;
    let results = d.receive(&a, &[&said]).await;
    assert!(results[0].starts_with("the signatures cannot be checked"), "{results:?}");
    assert_eq!(d.status(said.event_id()).await, None);
    wire.mend();
    wire.clock.advance(Duration::from_secs(3_600));
    assert_eq!(d.receive(&c, &[&said]).await, ["ok"]);
    assert_eq!(d.status(said.event_id()).await, Some(Status::Timeline));
    assert_eq!(d.state(&room).await, a.state(&room).await);
}

#[tokio::test]
async fn an_event_whose_keys_could_not_be_had_is_judged_once_they_can() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    wire.mend();
    d.join_through(&a, &room, "dave@d").await.unwrap();
    wire.drive().await;
    let early = message(&c, &room, "carol@c", "early").await;
    wire.clock.advance(Duration::from_secs(30 * 86_400));
    wire.cut("d", "c");
    let much_later = message(&c, &room, "carol@c", "late").await;
    assert_eq!(d.receive(&a, &[&early]).await, ["ok"]);
    // The keys that are known are not good for what is sent now.
    let results = d.receive(&a, &[&much_later]).await;
    assert!(results[0].starts_with("the signatures cannot be checked"), "{results:?}");
    an_hour_later(&wire, &d).await;
    assert_eq!(d.status(much_later.event_id()).await, None);
    wire.mend();
    an_hour_later(&wire, &d).await;
    an_hour_later(&wire, &d).await;
    assert_eq!(d.status(much_later.event_id()).await, Some(Status::Timeline));
}

#[tokio::test]
async fn an_event_after_others_that_could_not_be_had_is_judged_once_they_can() {
    let (wire, room) = scene("11").await;
    let (a, d) = (wire.node("a"), wire.node("d"));
    wire.mend();
    d.join_through(&a, &room, "dave@d").await.unwrap();
    wire.drive().await;
    wire.cut("d", "a");
    wire.cut("d", "c");
    let lost = a.say("alice@a", &room, "one").await.unwrap();
    let last = a.say("alice@a", &room, "two").await.unwrap();
    let pdu = a.history().event(&last).await.unwrap().unwrap().pdu.clone();
    assert_eq!(d.receive(&a, &[&pdu]).await, ["ok"], "it is kept");
    an_hour_later(&wire, &d).await;
    assert_eq!((d.status(&lost).await, d.status(&last).await), (None, None));
    wire.mend();
    an_hour_later(&wire, &d).await;
    an_hour_later(&wire, &d).await;
    assert_eq!(d.status(&lost).await, Some(Status::Timeline));
    assert_eq!(d.status(&last).await, Some(Status::Timeline));
}

/// The past of a room can be read although a server that was there is dead.
#[tokio::test]
async fn a_dead_member_does_not_keep_others_from_the_past() {
    let (wire, room) = scene("11").await;
    let (a, d) = (wire.node("a"), wire.node("d"));
    // What the dead server has sent itself lies further back.
    for number in 0..BACKFILL_EVENTS {
        a.say("alice@a", &room, &number.to_string()).await.unwrap();
    }
    let past = a.say("alice@a", &room, "the past").await.unwrap();
    d.join_through(&a, &room, "dave@d").await.unwrap();
    let gaps = d.history().gaps(&room).await.unwrap();
    let (_, anchor, _) = gaps.first().unwrap().clone();
    assert!(d.rooms().backfill(&room, anchor).await.unwrap());
    assert_eq!(d.status(&past).await, Some(Status::Backfilled));
}

/// Nobody fills the disk with what cannot be judged.
#[tokio::test]
async fn what_waits_for_a_judgement_has_a_limit() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    d.join_through(&a, &room, "dave@d").await.unwrap();
    for part in 0..UNJUDGED_NEWS_MAX / 50 + 2 {
        let mut pdus = Vec::new();
        for number in 0..50 {
            pdus.push(message(&c, &room, "carol@c", &format!("{part} {number}")).await);
        }
        d.receive(&a, &pdus.iter().collect::<Vec<_>>()).await;
    }
    let rows = crate::history::tables::UNJUDGED;
    let kept = d.federation.log.db().range(&rows, &(room.clone(), 0_u64), 10_000).await.unwrap();
    assert_eq!(kept.len(), UNJUDGED_NEWS_MAX);
    // After a week they are given up.
    for _ in 0..40 {
        wire.clock.advance(Duration::from_secs(6 * 3_600));
        d.rooms().judge_due().await.unwrap();
    }
    let kept = d.federation.log.db().range(&rows, &(room.clone(), 0_u64), 10_000).await.unwrap();
    assert!(kept.is_empty(), "{}", kept.len());
}
