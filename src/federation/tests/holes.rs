//! Holes in what a server has of a room: what comes late, and what is not there at all.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, RoomId};
use serde_json::json;

use super::{Node, Wire, user};
use crate::{history::Status, types::Membership};

async fn joined(node: &Node, room: &RoomId) -> usize {
    node.history().current_members(room).await.unwrap().with(Membership::Join).count()
}

async fn heads(node: &Node, room: &RoomId) -> BTreeSet<OwnedEventId> {
    let row = node.history().room(room).await.unwrap().unwrap();
    row.heads.iter().map(|head| head.id.clone()).collect()
}

/// Delivers what some have for one another.
async fn among(wire: &Wire, names: &[&str]) {
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for (from, to) in names.iter().flat_map(|from| names.iter().map(move |to| (from, to))) {
            moved |= from != to && wire.deliver(from, to, false).await;
        }
    }
}

/// Whoever answers what is missing may go back to the beginning, where none of the heads that it is told is known
/// to it. Who has come in by rules that hold no more has come in all the same.
#[tokio::test]
async fn what_lies_before_a_join_is_never_a_head() {
    for version in ["6", "12"] {
        let wire = Wire::new(&["a", "c", "d"]).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let room = a.create("alice@a", version).await;
        c.join_through(&a, &room, "carol@c").await.unwrap();
        wire.drive().await;
        d.join_through(&a, &room, "dave@d").await.unwrap();
        wire.drive().await;
        let rule = if version == "6" { "invite" } else { "knock" };
        a.set("alice@a", &room, ("m.room.join_rules", ""), json!({ "join_rule": rule })).await.unwrap();
        wire.drive().await;

        let mine = d.say("dave@d", &room, "nobody has heard this").await.unwrap();
        let missed = a.say("alice@a", &room, "and d has not heard this").await.unwrap();
        assert!(wire.deliver("a", "c", false).await);
        let news = c.say("carol@c", &room, "I have").await.unwrap();
        let event = c.history().event(&news).await.unwrap().unwrap();
        assert_eq!(d.receive(&c, &[&event.pdu]).await, ["ok"], "{version}");

        assert_eq!(d.status(&missed).await, Some(Status::Timeline), "{version}");
        assert_eq!(heads(&d, &room).await, BTreeSet::from([mine, news]), "{version}");
        assert_eq!(joined(&d, &room).await, 3, "{version}");
        let create = d.history().room(&room).await.unwrap().unwrap().create.clone();
        assert!(
            !d.timeline(&room).await.contains(&create),
            "{version}: the beginning of the room is no news"
        );
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
    }
}

/// Somebody came in at the same time, which is not fetched, being from before the join. What they say later is heard.
#[tokio::test]
async fn whoever_came_in_beyond_a_hole_is_heard() {
    for version in ["6", "12"] {
        let wire = Wire::new(&["a", "b", "c", "d"]).await;
        let (a, b, c, d) = (wire.node("a"), wire.node("b"), wire.node("c"), wire.node("d"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        c.join_through(&b, &room, "carol@c").await.unwrap();
        for number in 0..3 {
            a.say("alice@a", &room, &format!("{number}")).await.unwrap();
        }
        d.join_through(&a, &room, "dave@d").await.unwrap();
        among(&wire, &["a", "b", "c"]).await;
        let news = a.say("alice@a", &room, "hello to all").await.unwrap();
        among(&wire, &["a", "b", "c"]).await;
        let said = c.say("carol@c", &room, "hello").await.unwrap();
        let event = c.history().event(&said).await.unwrap().unwrap();
        assert_eq!(event.pdu.prev_events(), std::slice::from_ref(&news), "{version}");
        assert_eq!(joined(&d, &room).await, 3, "{version}: d has not heard of carol");
        assert_eq!(d.receive(&c, &[&event.pdu]).await, ["ok"], "{version}");
        assert_eq!(d.status(&news).await, Some(Status::Timeline), "{version}");
        assert_eq!(d.status(&said).await, Some(Status::Timeline), "{version}");
        assert_eq!(joined(&d, &room).await, 4, "{version}");
    }
}

/// What follows an event that is lost to all is judged by the state that others say was there.
#[tokio::test]
async fn an_event_that_nobody_gives_keeps_out_nothing_that_follows_it() {
    for version in ["6", "12"] {
        let wire = Wire::new(&["a", "b", "c"]).await;
        let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        c.join_through(&a, &room, "carol@c").await.unwrap();
        wire.drive().await;
        let lost = c.say("carol@c", &room, "lost").await.unwrap();
        let first = c.say("carol@c", &room, "is anybody there?").await.unwrap();
        let second = c.say("carol@c", &room, "hello?").await.unwrap();
        let [first, second] = [&first, &second].map(|id| c.history().event(id));
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        let none = json!({ "events": [] });
        wire.lies.lock().push((c.name.clone(), "get_missing_events", Some(none)));
        wire.lies.lock().push((c.name.clone(), "/v1/event/", Some(json!({ "pdus": [] }))));
        assert_eq!(b.receive(&c, &[&first.pdu, &second.pdu]).await, ["ok", "ok"], "{version}");
        assert_eq!(b.status(&lost).await, None, "{version}");
        for event in [&first, &second] {
            assert_eq!(b.status(event.pdu.event_id()).await, Some(Status::Timeline), "{version}");
        }
        assert_eq!(b.state(&room).await, c.state(&room).await, "{version}");

        // Once somebody gives it, it comes to its place.
        wire.lies.lock().clear();
        wire.drive().await;
        assert_eq!(a.status(&lost).await, Some(Status::Timeline), "{version}");
        assert_eq!(b.status(&lost).await, Some(Status::Timeline), "{version}");
        assert_eq!(heads(&b, &room).await, heads(&a, &room).await, "{version}");
    }
}

/// Who is put out of the room is not let in by a hole.
#[tokio::test]
async fn whoever_was_banned_is_not_heard_through_a_hole() {
    let wire = Wire::new(&["a", "b", "d"]).await;
    let (a, b, d) = (wire.node("a"), wire.node("b"), wire.node("d"));
    let room = a.create("alice@a", "12").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let early = b.say("bob@b", &room, "early").await.unwrap();
    a.rooms().ban(&user("alice@a"), &room, &user("bob@b"), None).await.unwrap();
    d.join_through(&a, &room, "dave@d").await.unwrap();
    let late = b.say("bob@b", &room, "late").await.unwrap();
    let event = b.history().event(&late).await.unwrap().unwrap();
    assert_eq!(event.pdu.prev_events(), [early]);
    d.receive(&b, &[&event.pdu]).await;
    assert_ne!(d.status(&late).await, Some(Status::Timeline));
    let bob = d.history().membership(&room, &user("bob@b")).await.unwrap();
    assert_eq!(bob, Some(Membership::Ban));
}
