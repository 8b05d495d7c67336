//! A room whose policy server, `p`, has something against spam.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedRoomId, api::federation::policy::sign_event};
use serde_json::{Value, json};

use super::{Node, Wire, read, refusal, server, user};
use crate::{
    dag::{
        Pdu,
        policy::tests::{policy_content, signature},
    },
    history::Status,
    limits::FETCH_AT_ONCE,
    room::RoomError,
};

impl Node {
    /// What the policy server of this name answers.
    pub(super) async fn sign_policy(&self, request: http::Request<Bytes>) -> http::Response<Bytes> {
        let request: sign_event::v1::Request = read(request, &[]);
        let room = serde_json::from_str::<Value>(request.pdu.get()).unwrap()["room_id"].clone();
        let room = OwnedRoomId::try_from(room.as_str().unwrap()).unwrap();
        let row = self.history().room(&room).await.unwrap().unwrap();
        let pdu = Pdu::parse(request.pdu.get(), row.rules()).unwrap();
        match pdu.text().contains("spam") {
            true => refusal(400, "M_FORBIDDEN"),
            false => {
                let signature = signature(&self.name, &pdu, row.rules());
                let answer = json!({ self.name.as_str(): { "ed25519:policy_server": signature } });
                http::Response::new(Bytes::from(answer.to_string()))
            }
        }
    }
}

impl Wire {
    /// How often `from` has asked the policy server since it was last asked for this.
    fn asked(&self, from: &str) -> usize {
        let mut calls = self.calls.lock();
        let count =
            calls.iter().filter(|call| call.starts_with(from) && call.contains("/policy/v1/sign")).count();
        calls.clear();
        count
    }
}

async fn scene(version: &str) -> (Arc<Wire>, OwnedRoomId) {
    let wire = Wire::new(&["a", "b", "p"]).await;
    let a = wire.node("a");
    let room = a.create("alice@a", version).await;
    for (node, who) in [("b", "bob@b"), ("p", "pol@p")] {
        wire.node(node).join_through(&a, &room, who).await.unwrap();
        wire.drive().await;
    }
    a.set("alice@a", &room, ("m.room.policy", ""), policy_content(&server("p"))).await.unwrap();
    wire.drive().await;
    assert_eq!(wire.asked("a.org"), 0, "nobody asks the policy server whether it is one");
    (wire, room)
}

#[tokio::test]
async fn what_is_sent_bears_its_word_and_what_it_refuses_is_not_sent() {
    for version in ["6", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let hello = a.say("alice@a", &room, "hello").await.unwrap();
        assert_eq!(wire.asked("a.org"), 1);
        wire.drive().await;
        assert_eq!((b.status(&hello).await, wire.asked("b.org")), (Some(Status::Timeline), 0));
        let before = a.timeline(&room).await;
        let refused = a.say("alice@a", &room, "spam").await;
        assert!(matches!(refused, Err(RoomError::Refused { status, .. }) if status == 400), "{refused:?}");
        let refused = a.set("alice@a", &room, ("m.room.topic", ""), json!({ "topic": "spam" })).await;
        assert!(refused.is_err());
        assert_eq!(a.timeline(&room).await, before);
    }
}

#[tokio::test]
async fn what_comes_without_its_word_is_asked_for_and_else_not_shown() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let event = |body| (user("bob@b"), body);
    for ((bob, body), expected) in [
        (event("hello"), Status::Timeline),
        (event("spam"), Status::SoftFailed),
        (event("bye"), Status::Timeline),
    ] {
        let pdu = b.build(&b, &room, (&bob, "m.room.message", None, json!({ "body": body }))).await;
        assert_eq!(a.receive(&b, &[&pdu]).await, ["ok"]);
        assert_eq!(a.status(pdu.event_id()).await, Some(expected), "{body}");
        assert_eq!(wire.asked("a.org"), 1);
    }
}

#[tokio::test]
async fn whoever_lets_no_policy_server_answer_has_events_kept_from_view() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let pdu = b.build(&b, &room, (&user("bob@b"), "m.room.message", None, json!({ "body": "x" }))).await;
    for lie in [json!({}), json!({ "p.org": { "ed25519:policy_server": "AAAA" } })] {
        wire.lies.lock().push((server("p"), "/policy/", Some(lie)));
        let refused = a.say("alice@a", &room, "hello").await;
        assert!(matches!(refused, Err(RoomError::Forbidden(_) | RoomError::Unreachable(_))), "{refused:?}");
        wire.lies.lock().clear();
    }
    wire.lies.lock().push((server("p"), "/policy/", None));
    assert!(matches!(a.say("alice@a", &room, "hello").await, Err(RoomError::Unreachable(_))));
    assert_eq!(a.receive(&b, &[&pdu]).await, ["ok"]);
    assert_eq!(a.status(pdu.event_id()).await, Some(Status::SoftFailed));
}

/// It would cost a wait for each event of a transaction.
#[tokio::test]
async fn a_policy_server_that_is_gone_is_not_asked_again_and_again() {
    let (wire, room) = scene("12").await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    wire.lies.lock().push((server("p"), "/policy/", None));
    let mut pdus = Vec::new();
    for n in 0..30 {
        let content = json!({ "body": n.to_string() });
        pdus.push(b.build(&b, &room, (&user("bob@b"), "m.room.message", None, content)).await);
    }
    assert_eq!(a.receive(&b, &pdus.iter().take(20).collect::<Vec<_>>()).await, ["ok"; 20]);
    let asked = wire.asked("a.org");
    assert!((1..=FETCH_AT_ONCE).contains(&asked), "it was asked {asked} times");
    assert_eq!(a.receive(&b, &pdus.iter().skip(20).collect::<Vec<_>>()).await, ["ok"; 10]);
    assert_eq!(wire.asked("a.org"), 0, "it has just not answered");
    assert_eq!(a.status(pdus[29].event_id()).await, Some(Status::SoftFailed));
}

#[tokio::test]
async fn a_policy_server_that_is_gone_can_be_put_aside() {
    let (wire, room) = scene("12").await;
    let a = wire.node("a");
    wire.lies.lock().push((server("p"), "/policy/", None));
    assert!(a.say("alice@a", &room, "hello").await.is_err());
    a.set("alice@a", &room, ("m.room.policy", ""), json!({})).await.unwrap();
    a.say("alice@a", &room, "hello").await.unwrap();
}

#[tokio::test]
async fn a_policy_server_without_a_user_in_the_room_has_no_say() {
    let (wire, room) = scene("12").await;
    let (a, p) = (wire.node("a"), wire.node("p"));
    p.rooms().leave(&user("pol@p"), &room, None).await.unwrap();
    wire.drive().await;
    wire.asked("a.org");
    a.say("alice@a", &room, "spam").await.unwrap();
    assert_eq!(wire.asked("a.org"), 0);
}
