//! What a resolution takes away that had stood, and why what stands stands.

use ruma::RoomId;
use serde_json::{Value, json};

use super::{Node, Wire, user};
use crate::{dag::StateKey, history::Explanation, types::Membership};

const RULES: (&str, &str) = ("m.room.join_rules", "");
const POWER: (&str, &str) = ("m.room.power_levels", "");

fn power(bob: i64) -> Value {
    json!({ "users": { "@alice:a.org": 100, "@bob:b.org": bob }, "invite": 50, "state_default": 50 })
}

impl Node {
    async fn explain(&self, room: &RoomId, place: (&str, &str), hidden: bool) -> Explanation {
        let key = StateKey::new(place.0.into(), place.1);
        self.history().explain(room, &key, hidden).await.unwrap().unwrap()
    }
}

/// While a and b do not hear of one another, alice takes bob's power away, and bob uses it: he opens the room, and carol
/// comes in.
#[tokio::test]
async fn what_was_done_with_power_that_had_been_taken_away_is_noticed_when_it_goes() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    let first = a.set("alice@a", &room, POWER, power(50)).await.unwrap();
    let closed = a.set("alice@a", &room, RULES, json!({ "join_rule": "invite" })).await.unwrap();
    wire.drive().await;
    let second = a.set("alice@a", &room, POWER, power(0)).await.unwrap();
    let opened = b.set("bob@b", &room, RULES, json!({ "join_rule": "public" })).await.unwrap();
    b.join_through(&a, &room, "carol@b").await.unwrap();
    let carol = ("m.room.member", "@carol:b.org");
    let join = b.state_event(&room, carol).await;
    assert_eq!((a.rooms().setbacks(), b.rooms().setbacks()), (0, 0));

    wire.deliver("a", "b", false).await;
    assert_eq!(b.history().membership(&room, &user("carol@b")).await.unwrap(), None);
    assert_eq!(b.rooms().setbacks(), 2, "the join rules, and that carol is in the room");

    let told = b.explain(&room, RULES, false).await;
    assert_eq!(told.current.unwrap().event_id, closed);
    assert_eq!(told.forks[&second].as_ref(), Some(&closed));
    assert_eq!(told.forks[join.event_id()].as_ref(), Some(&opened));
    let [lost] = &told.others[..] else { panic!("{:?}", told.others) };
    assert_eq!((&lost.event_id, lost.status), (&opened, "accepted"));
    let why = lost.why.as_deref().unwrap();
    assert!(why.starts_with("the resolution left it out: the room as it is does not allow it: "), "{why}");

    let told = b.explain(&room, POWER, false).await;
    assert_eq!(told.current.as_ref().unwrap().event_id, second);
    let [lost] = &told.others[..] else { panic!("{:?}", told.others) };
    let expected = format!("the room allows both; in the order of the resolution {second} comes after it");
    assert_eq!((&lost.event_id, lost.why.as_ref()), (&first, Some(&expected)));
    assert!(!told.earlier.is_empty(), "what the room began with");

    let told = b.explain(&room, carol, false).await;
    assert!(told.current.is_none());
    assert_eq!(told.others[0].event_id, join.event_id());

    // Where the power went first, nothing had stood that goes.
    wire.drive().await;
    assert_eq!((a.rooms().setbacks(), b.rooms().setbacks()), (0, 2));
    assert_eq!(a.state(&room).await, b.state(&room).await);
    assert!(a.explain(&room, RULES, false).await.others.is_empty());
    let told = a.explain(&room, RULES, true).await;
    let [lost] = &told.others[..] else { panic!("{:?}", told.others) };
    assert_eq!((&lost.event_id, lost.status), (&opened, "soft_failed"));
}

/// What happens by an event that says so is what the room wants.
#[tokio::test]
async fn what_an_event_says_is_no_setback() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let alice = user("alice@a");
    a.set("alice@a", &room, POWER, power(50)).await.unwrap();
    wire.drive().await;
    // At the same time: whoever wins, both of it was said.
    a.set("alice@a", &room, RULES, json!({ "join_rule": "invite" })).await.unwrap();
    b.set("bob@b", &room, RULES, json!({ "join_rule": "public" })).await.unwrap();
    wire.drive().await;
    a.set("alice@a", &room, POWER, power(0)).await.unwrap();
    a.rooms().kick(&alice, &room, &user("bob@b"), None).await.unwrap();
    wire.drive().await;
    assert_eq!(b.history().membership(&room, &user("bob@b")).await.unwrap(), Some(Membership::Leave));
    assert_eq!((a.rooms().setbacks(), b.rooms().setbacks()), (0, 0));
}

/// What others have changed while nobody of ours was there comes with the state, and not as part of the log.
#[tokio::test]
async fn what_has_changed_since_an_earlier_stay_is_no_setback() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    a.set("alice@a", &room, POWER, power(50)).await.unwrap();
    a.set("alice@a", &room, RULES, json!({ "join_rule": "public" })).await.unwrap();
    wire.drive().await;
    b.rooms().leave(&user("bob@b"), &room, None).await.unwrap();
    wire.drive().await;
    let power = a.set("alice@a", &room, POWER, power(0)).await.unwrap();
    let rules = json!({ "join_rule": "public", "allow": [] });
    a.set("alice@a", &room, RULES, rules).await.unwrap();
    wire.drive().await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    assert_eq!(b.explain(&room, POWER, false).await.current.unwrap().event_id, power);
    assert_eq!((a.rooms().setbacks(), b.rooms().setbacks()), (0, 0));
}

#[tokio::test]
async fn what_was_refused_is_named_with_the_reason() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let event = (&user("bob@b"), POWER.0, Some(POWER.1), power(100));
    let coup = a.build(&b, &room, event).await;
    a.receive(&b, &[&coup]).await;
    let told = a.explain(&room, POWER, true).await;
    let [lost] = &told.others[..] else { panic!("{:?}", told.others) };
    assert_eq!((&*lost.event_id, lost.status), (coup.event_id(), "rejected"));
    let why = lost.why.as_deref().unwrap();
    assert!(why.starts_with("the rules forbid it where it stands: ") && why.len() > 50, "{why}");
    assert!(
        a.history()
            .explain(<&RoomId>::try_from("!no:where").unwrap(), &StateKey::new("m.x".into(), ""), true)
            .await
            .unwrap()
            .is_none()
    );
}
