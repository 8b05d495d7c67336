//! Rooms over several servers, one thing at a time.

use ruma::RoomId;
use serde_json::{Value, json};

use super::{Node, Wire, server, user};
use crate::{
    dag::{Pdu, versions::SUPPORTED},
    history::Status,
    log::Audience,
    room::Invitation,
    types::{Lane, Membership},
};

#[tokio::test]
async fn a_room_of_every_version_is_joined_and_talked_in() {
    for version in SUPPORTED {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version.as_str()).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let hello = b.say("bob@b", &room, "hello").await.unwrap();
        wire.drive().await;
        assert_eq!(a.status(&hello).await, Some(Status::Timeline), "version {version}");
        let answer = a.say("alice@a", &room, "hi").await.unwrap();
        wire.drive().await;
        assert_eq!(b.status(&answer).await, Some(Status::Timeline), "version {version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "version {version}");
        let row = b.history().room(&room).await.unwrap().unwrap();
        assert_eq!((row.joined, row.remote), (2, 1));
    }
}

#[tokio::test]
async fn the_kicked_server_still_gets_its_kick() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "12").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    a.rooms().kick(&user("alice@a"), &room, &user("bob@b"), None).await.unwrap();
    let unheard = a.say("alice@a", &room, "among us").await.unwrap();
    wire.drive().await;
    let membership = b.history().membership(&room, &user("bob@b")).await.unwrap();
    assert_eq!(membership, Some(Membership::Leave));
    assert_eq!(b.status(&unheard).await, None);
    let lanes = a.federation.log.subscriptions(&Audience::Server(server("b"))).await.unwrap();
    assert!(!lanes.is_open(&Lane::Egress(room.clone())));
    let lanes = b.federation.log.subscriptions(&Audience::Account(user("bob@b"))).await.unwrap();
    assert!(!lanes.is_open(&Lane::Room(room)));
}

#[tokio::test]
async fn an_invite_whose_answer_was_lost_comes_again() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "10").await;
    let (alice, bob) = (user("alice@a"), user("bob@b"));
    let content = json!({ "membership": "invite" });
    let invite = a.build(&a, &room, (&alice, "m.room.member", Some(bob.as_str()), content)).await;
    for _ in 0..2 {
        let invitation = Invitation {
            version: "10".try_into().unwrap(),
            event: invite.json().to_owned(),
            state: Vec::new(),
        };
        let signed = b.rooms().receive_invite(&a.name, (&room, invite.event_id()), invitation).await.unwrap();
        assert!(format!("{:?}", signed["signatures"]).contains("b.org"), "{signed:?}");
    }
}

#[tokio::test]
async fn a_server_with_two_users_stays_when_one_leaves() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    b.join_through(&a, &room, "ben@b").await.unwrap();
    wire.drive().await;
    b.rooms().leave(&user("bob@b"), &room, None).await.unwrap();
    wire.drive().await;
    assert!(a.history().has_server(&room, &server("b")).await.unwrap());
    b.rooms().leave(&user("ben@b"), &room, None).await.unwrap();
    wire.drive().await;
    assert!(!a.history().has_server(&room, &server("b")).await.unwrap());
}

#[tokio::test]
async fn what_was_missed_is_fetched() {
    let wire = Wire::new(&["a", "b", "c"]).await;
    let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
    let room = a.create("alice@a", "10").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    c.join_through(&a, &room, "carol@c").await.unwrap();
    wire.drive().await;
    // Nothing of a reaches c, and what b says follows it.
    wire.cut("a", "c");
    let mut said = Vec::new();
    for number in 0..120 {
        said.push(a.say("alice@a", &room, &format!("{number}")).await.unwrap());
    }
    wire.drive().await;
    wire.cut("c", "a");
    let last = b.say("bob@b", &room, "I have heard").await.unwrap();
    wire.drive().await;
    assert_eq!(c.status(&last).await, Some(Status::Timeline));
    for id in said {
        assert_eq!(c.status(&id).await, Some(Status::Timeline));
    }
    wire.mend();
    wire.drive().await;
    let timeline = c.timeline(&room).await;
    assert_eq!(timeline.len(), 1 + 120 + 1, "each event once");
}

/// What users of ours say is still on its way to the disk when the next event comes in from outside.
#[tokio::test]
async fn events_come_in_while_others_are_being_written() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "12").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let mut theirs = Vec::new();
    for number in 0..20 {
        let id = a.say("alice@a", &room, &format!("{number}")).await.unwrap();
        theirs.push(a.history().event(&id).await.unwrap().unwrap());
    }
    for event in &theirs {
        let ours = futures_util::future::join_all((0..8).map(|_| b.say("bob@b", &room, "ours")));
        let theirs = [&event.pdu];
        let (ours, received) = tokio::join!(ours, b.receive(&a, &theirs));
        assert_eq!(received, ["ok"]);
        assert!(ours.iter().all(Result::is_ok));
    }
    wire.drive().await;
    let timeline = b.timeline(&room).await;
    assert_eq!(timeline.len(), 1 + 20 * 9, "each event once");
    for id in timeline {
        assert_eq!(a.status(&id).await, Some(Status::Timeline));
    }
}

/// Beyond what is fetched event by event, the state there is taken by the word of the other server.
#[tokio::test]
async fn too_much_missed_leaves_a_gap_and_a_state() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "9").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    wire.cut("a", "b");
    for number in 0..700 {
        a.say("alice@a", &room, &format!("{number}")).await.unwrap();
        if number % 100 == 0 {
            let content = json!({"topic": format!("{number}")});
            a.set("alice@a", &room, ("m.room.topic", ""), content).await.unwrap();
        }
    }
    let last = a.say("alice@a", &room, "last").await.unwrap();
    wire.mend();
    let event = a.history().event(&last).await.unwrap().unwrap();
    assert_eq!(b.receive(&a, &[&event.pdu]).await, ["ok"]);
    assert_eq!(b.status(&last).await, Some(Status::Timeline));
    assert_eq!(a.state(&room).await, b.state(&room).await);
    assert!(b.history().room(&room).await.unwrap().unwrap().gaps > 0);
}

#[tokio::test]
async fn a_redaction_may_come_before_its_target() {
    for version in ["1", "3", "11", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let target =
            a.build(&a, &room, (&user("alice@a"), "m.room.message", None, json!({"body": "oh"}))).await;
        assert_eq!(a.receive(&b, &[&target]).await, ["ok"], "version {version}");
        let id = a.rooms().redact(&user("alice@a"), &room, target.event_id(), (None, None)).await.unwrap();
        let redaction = a.history().event(&id).await.unwrap().unwrap();
        // The fetch of what lies between finds nobody.
        wire.cut("b", "a");
        assert_eq!(b.receive(&a, &[&redaction.pdu]).await, ["ok"], "it is kept");
        assert_eq!(b.status(&id).await, None, "its predecessor is missing");
        assert_eq!(b.receive(&a, &[&redaction.pdu, &target]).await, ["ok", "ok"], "version {version}");
        for node in [&a, &b] {
            let event = node.history().event(target.event_id()).await.unwrap().unwrap();
            assert_eq!(event.pdu.content().get(), "{}", "version {version}");
            assert_eq!(event.notes.redacted_by, Some(id.clone()));
        }
    }
}

/// A text that was taken back is gone from the past too, whoever gives the past and in whatever order.
#[tokio::test]
async fn a_redaction_from_the_past_takes_effect() {
    for version in ["1", "11", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        let target = a.say("alice@a", &room, "canary").await.unwrap();
        let text = a.history().event(&target).await.unwrap().unwrap();
        let redaction = a.rooms().redact(&user("alice@a"), &room, &target, (None, None)).await.unwrap();
        b.join_through(&a, &room, "bob@b").await.unwrap();
        // As a server that has never heard of the redaction would give it.
        let now = b.history().event(&target).await.unwrap();
        assert!(now.is_none(), "{version}");
        let backfill =
            json!({ "origin": a.name, "origin_server_ts": 1, "pdus": past(&a, &room, &text.pdu).await });
        wire.lies.lock().push((server("a"), "/v1/backfill", Some(backfill)));
        let (_, anchor, _) = b.history().gaps(&room).await.unwrap().first().unwrap().clone();
        assert!(b.rooms().backfill(&room, anchor).await.unwrap(), "{version}");
        let event = b.history().event(&target).await.unwrap().unwrap();
        assert_eq!(event.notes.redacted_by, Some(redaction), "{version}");
        assert!(!event.pdu.json().get().contains("canary"), "{version}");
    }
}

/// Whoever is invited here is told no more what was redacted elsewhere.
#[tokio::test]
async fn a_redaction_from_elsewhere_takes_effect_on_invites_that_wait() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "12").await;
    a.set("alice@a", &room, ("m.room.power_levels", ""), json!({ "invite": 0 })).await.unwrap();
    let place = ("m.room.name", "");
    let name = a.set("alice@a", &room, place, json!({ "name": "canary" })).await.unwrap();
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let ben = user("ben@b");
    b.rooms().invite(&user("bob@b"), &room, &ben, None).await.unwrap();
    let told = async || {
        let told = b.history().stripped(&ben, &room).await.unwrap();
        told.iter().map(|event| event.get()).collect::<String>()
    };
    assert!(told().await.contains("canary"));
    a.rooms().redact(&user("alice@a"), &room, &name, (None, None)).await.unwrap();
    wire.drive().await;
    let told = told().await;
    assert!(told.contains("m.room.name") && !told.contains("canary"), "{told}");
}

/// The timeline of a room, latest first, with `text` as it was.
async fn past(node: &Node, room: &RoomId, text: &Pdu) -> Vec<Value> {
    let mut past = Vec::new();
    for id in node.timeline(room).await.into_iter().rev() {
        let event = node.history().event(&id).await.unwrap().unwrap();
        let pdu = if id == text.event_id() { text } else { &event.pdu };
        past.push(serde_json::from_str(pdu.json().get()).unwrap());
    }
    past
}

/// MSC4293: where it is heeded, a ban that wants it takes back what its user has said, whichever server it comes from.
#[tokio::test]
async fn a_ban_of_another_server_takes_back_what_its_user_has_said() {
    let wire = Wire::new(&["a", "b", "c"]).await;
    let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
    let room = a.create("alice@a", "11").await;
    for (node, name) in [(&b, "bob@b"), (&c, "carol@c")] {
        node.join_through(&a, &room, name).await.unwrap();
        wire.drive().await;
    }
    a.rooms().heed_sweeps(true);
    b.rooms().heed_sweeps(true);
    let his = b.say("bob@b", &room, "his").await.unwrap();
    let hers = c.say("carol@c", &room, "hers").await.unwrap();
    wire.drive().await;
    let bob = user("bob@b");
    a.rooms().sweep(&user("alice@a"), &room, (&bob, Membership::Ban), None).await.unwrap();
    wire.drive().await;
    for (node, is_heeded) in [(&a, true), (&b, true), (&c, false)] {
        assert_eq!(node.history().membership(&room, &bob).await.unwrap(), Some(Membership::Ban));
        let event = node.history().event(&his).await.unwrap().unwrap();
        assert_eq!(event.notes.redacted_by.is_some(), is_heeded, "{}", node.name);
        assert_eq!(event.pdu.text().contains("\"body\""), !is_heeded, "{}", node.name);
        let event = node.history().event(&hers).await.unwrap().unwrap();
        assert!(event.notes.redacted_by.is_none() && event.pdu.text().contains("\"body\""), "{}", node.name);
    }
}

/// As far as it was filled in, too.
#[tokio::test]
async fn a_ban_takes_back_what_was_said_before_the_server_came() {
    let wire = Wire::new(&["a", "b", "c"]).await;
    let (a, b, c) = (wire.node("a"), wire.node("b"), wire.node("c"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let earlier = b.say("bob@b", &room, "of an earlier stay").await.unwrap();
    wire.drive().await;
    let bob = user("bob@b");
    b.rooms().leave(&bob, &room, None).await.unwrap();
    wire.drive().await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let his = b.say("bob@b", &room, "his").await.unwrap();
    wire.drive().await;
    c.join_through(&a, &room, "carol@c").await.unwrap();
    wire.drive().await;
    let anchor = c.history().gaps(&room).await.unwrap()[0].1;
    assert!(c.rooms().backfill(&room, anchor).await.unwrap());
    for id in [&earlier, &his] {
        assert_eq!(c.status(id).await, Some(Status::Backfilled));
    }
    c.rooms().heed_sweeps(true);
    a.rooms().sweep(&user("alice@a"), &room, (&bob, Membership::Ban), None).await.unwrap();
    wire.drive().await;
    let redacted = async |id| c.history().event(id).await.unwrap().unwrap().notes.redacted_by.is_some();
    assert!(redacted(&his).await);
    assert!(!redacted(&earlier).await);
}
