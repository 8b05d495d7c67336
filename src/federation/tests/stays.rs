//! Servers that leave rooms whose members they do not know, and come back.

use std::{sync::Arc, time::Duration};

use ruma::{RoomId, UserId};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Lie, Node, Wire, partial::scene, user};
use crate::{history::Status, limits::PARTIAL_REFUSALS_MAX, types::Membership};

/// Whoever leaves before the members are known leaves no trace of the search for them.
#[tokio::test(start_paused = true)]
async fn one_may_leave_before_the_members_are_known() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    d.rooms().leave(&user("dave@d"), &room, None).await.unwrap();
    wire.drive().await;
    let member = c.history().membership(&room, &user("dave@d")).await.unwrap();
    assert_eq!(member, Some(Membership::Leave));
    wire.clock.advance(Duration::from_secs(3_600));
    d.rooms().judge_due().await.unwrap();
    assert!(!d.history().is_partial(&room).await.unwrap());
    assert!(!d.history().has_server(&room, &c.name).await.unwrap());
    wire.lies.lock().clear();
    d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
    d.rooms().whole(&room).await.unwrap();
    wire.drive().await;
    assert_eq!(d.state(&room).await, a.state(&room).await);
}

/// What was said in a stay whose members were never known is no ground to judge by in a later one.
#[tokio::test(start_paused = true)]
async fn nothing_is_built_on_a_stay_whose_members_were_never_known() {
    for version in ["6", "12"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let said = d.say("dave@d", &room, "who is here?").await.unwrap();
        wire.drive().await;
        wire.cut.lock().insert((a.name.clone(), d.name.clone()));
        wire.cut.lock().insert((c.name.clone(), d.name.clone()));
        let answer = c.say("carol@c", &room, "I am").await.unwrap();
        let answer = c.history().event(&answer).await.unwrap().unwrap();
        assert_eq!(answer.pdu.prev_events(), [said], "{version}");
        d.rooms().leave(&user("dave@d"), &room, None).await.unwrap();
        wire.drive().await;
        wire.lies.lock().clear();
        d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
        d.rooms().whole(&room).await.unwrap();

        assert_eq!(d.receive(&c, &[&answer.pdu]).await, ["ok"], "{version}");
        assert_eq!(d.status(answer.pdu.event_id()).await, Some(Status::Timeline), "{version}");
        wire.cut.lock().clear();
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
    }
}

/// What was asked for in a stay that is over says nothing of the next one.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_in_the_next_stay_is_not_taken_for_its_own() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    wire.lies.lock().clear();
    let held = Arc::new(Semaphore::new(0));
    *wire.held.lock() = Some(("/v1/state_ids/", held.clone()));
    wire.calls.lock().clear();
    wire.clock.advance(Duration::from_secs(3_600));
    let next_stay = async {
        while !wire.calls.lock().iter().any(|call| call.contains("/v1/state_ids/")) {
            tokio::task::yield_now().await;
        }
        *wire.held.lock() = None;
        d.rooms().leave(&user("dave@d"), &room, None).await.unwrap();
        wire.drive().await;
        c.rooms().leave(&user("carol@c"), &room, None).await.unwrap();
        wire.drive().await;
        d.join_with(&a, &room, ("erin@d", true)).await.unwrap();
        held.add_permits(1_000);
    };
    let both = async { tokio::join!(d.rooms().judge_due(), next_stay) };
    let (asked, ()) = tokio::time::timeout(Duration::from_secs(3_600), both).await.unwrap();
    asked.unwrap();
    d.rooms().whole(&room).await.unwrap();
    wire.drive().await;
    assert_eq!(d.state(&room).await, a.state(&room).await);
    assert_eq!(d.history().membership(&room, &user("carol@c")).await.unwrap(), Some(Membership::Leave));
}

/// Whoever was put out before anybody told them anything is out once all say so, and not before.
#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_knows_of_comes_to_nothing() {
    let (wire, room) = scene("11").await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    let dave = user("dave@d");
    let cuts = [&a, &c].map(|node| (node.name.clone(), d.name.clone()));
    wire.cut.lock().extend(cuts.clone());
    a.rooms().kick(&user("alice@a"), &room, &dave, None).await.unwrap();
    wire.drive().await;
    // Who let us in does not answer; the other says that we are not there.
    wire.lies.lock().retain(|(who, ..)| *who == a.name);
    for _ in 0..2 * PARTIAL_REFUSALS_MAX {
        wire.clock.advance(Duration::from_secs(3_600));
        d.rooms().judge_due().await.unwrap();
    }
    assert!(d.rooms().is_here(&room).await.unwrap(), "what only others say may be old");

    wire.lies.lock().clear();
    for _ in 0..2 {
        wire.clock.advance(Duration::from_secs(3_600));
        d.rooms().judge_due().await.unwrap();
    }
    assert_eq!(d.history().membership(&room, &dave).await.unwrap(), Some(Membership::Leave));
    assert!(!d.rooms().is_here(&room).await.unwrap());
    wire.cut.lock().clear();
    d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
    d.rooms().whole(&room).await.unwrap();
    wire.drive().await;
    assert_eq!(d.state(&room).await, a.state(&room).await);
    assert_eq!(a.history().membership(&room, &dave).await.unwrap(), Some(Membership::Join));
}

/// Has d get the members that it lacks; what kept it from that.
async fn get_members(wire: &Wire) -> Vec<Lie> {
    let lies = std::mem::take(&mut *wire.lies.lock());
    wire.clock.advance(Duration::from_secs(3_600));
    wire.node("d").rooms().judge_due().await.unwrap();
    lies
}

async fn leave_both(d: &Node, room: &RoomId) {
    for who in ["erin@d", "dave@d"] {
        d.rooms().leave(&user(who), room, None).await.unwrap();
    }
}

/// Who has gone before their server left is not back when another of its users comes in, whatever state they were in.
#[tokio::test(start_paused = true)]
async fn who_had_gone_is_not_back_before_the_members_are_known() {
    for version in ["1", "6", "12"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let erin = user("erin@d");
        let lies = get_members(&wire).await;
        d.join_through(&a, &room, "erin@d").await.unwrap();
        wire.drive().await;
        let said = json!({ "msgtype": "m.text", "body": "said while erin is here" });
        let said = c.build(&c, &room, (&user("carol@c"), "m.room.message", None, said)).await;
        wire.clock.advance(Duration::from_secs(1));
        leave_both(&d, &room).await;
        wire.drive().await;

        *wire.lies.lock() = lies;
        d.join_with(&a, &room, ("frank@d", true)).await.unwrap();
        for node in [&a, &d] {
            assert_eq!(node.receive(&c, &[&said]).await, ["ok"], "{version}");
        }
        d.say("frank@d", &room, "after all of it").await.unwrap();
        assert!(d.history().is_partial(&room).await.unwrap(), "{version}");
        let member = d.history().membership(&room, &erin).await.unwrap();
        assert_eq!(member, Some(Membership::Leave), "{version}");
        d.say("erin@d", &room, "am I here?").await.unwrap_err();
        // She may come again, by what others know.
        d.join_with(&a, &room, ("erin@d", true)).await.unwrap();

        get_members(&wire).await;
        assert!(!d.history().is_partial(&room).await.unwrap(), "{version}");
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
    }
}

/// Who has come and gone without any other server having heard of it is not in the state that the others have.
#[tokio::test(start_paused = true)]
async fn what_only_we_knew_of_ours_is_not_part_of_the_whole() {
    for version in ["1", "11"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        get_members(&wire).await;
        let cuts = [&a, &c].map(|node| (d.name.clone(), node.name.clone()));
        wire.cut.lock().extend(cuts);
        d.join_through(&a, &room, "erin@d").await.unwrap();
        leave_both(&d, &room).await;
        wire.cut.lock().clear();
        d.join_with(&a, &room, ("frank@d", true)).await.unwrap();
        d.rooms().whole(&room).await.unwrap();
        assert_eq!(d.history().membership(&room, &user("erin@d")).await.unwrap(), None, "{version}");
        wire.drive().await;
        a.say("alice@a", &room, "so you had left").await.unwrap();
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}: when all have heard of it");
    }
}

/// Who has left is not back because others have not heard of it.
#[tokio::test(start_paused = true)]
async fn who_has_left_leaves_again_where_that_was_not_heard() {
    for version in ["2", "11"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let (dave, erin) = (user("dave@d"), user("erin@d"));
        let lies = get_members(&wire).await;
        d.join_through(&a, &room, "erin@d").await.unwrap();
        wire.drive().await;
        let cuts = [&a, &c].map(|node| (d.name.clone(), node.name.clone()));
        wire.cut.lock().extend(cuts);
        leave_both(&d, &room).await;
        wire.cut.lock().clear();
        *wire.lies.lock() = lies;
        d.join_with(&a, &room, ("frank@d", true)).await.unwrap();
        d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
        get_members(&wire).await;
        assert!(!d.history().is_partial(&room).await.unwrap(), "{version}");
        let member = async |node: &Node, who: &UserId| node.history().membership(&room, who).await.unwrap();
        assert_eq!(member(&d, &erin).await, Some(Membership::Leave), "{version}");
        assert_eq!(member(&d, &dave).await, Some(Membership::Join), "{version}: he has come back");
        wire.drive().await;
        a.say("alice@a", &room, "so you had left").await.unwrap();
        wire.drive().await;
        assert_eq!(member(&a, &erin).await, Some(Membership::Leave), "{version}");
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
    }
}
