//! Delayed events by a clock that the test moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ruma::OwnedRoomId;
use serde_json::{json, value::to_raw_value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RoomError, World, leave_after, user};
use crate::{
    account::{Accounts, NewUser, Settings},
    limits::{DELAYED_EVENT_KEEP_MS, DELAYED_EVENT_RETRY_MS, DELAYED_EVENTS_PER_USER_MAX},
    log::Commit,
    room::delayed::{Action, DELAYED, Delayed, DelayedError, Intent, Outcome, Row},
    store::{Key, Scan, table::TableId},
    types::{Clock, ManualClock},
};

impl World {
    async fn delayed(&self) -> (Delayed, Accounts) {
        let log = self.history().log().clone();
        let accounts = Accounts::new(
            log,
            self.ports.clone(),
            ruma::server_name!("a.org").to_owned(),
            Settings::default(),
        );
        for name in ["alice", "bob"] {
            let new = NewUser { username: Some(name.to_owned()), ..NewUser::default() };
            drop(accounts.create_user(new).await);
        }
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        (Delayed::idle(self.rooms.clone(), accounts.clone(), (&tasks, stopping)), accounts)
    }
}

fn scan_all() -> Scan {
    let from = DELAYED.prefix(&());
    Scan { to: from.after_prefix(), from, reverse: false, limit: 1_000 }
}

fn intent(room: &OwnedRoomId, body: &str, delay_ms: u64) -> Intent {
    Intent {
        room_id: room.clone(),
        event_type: "m.room.message".to_owned(),
        state_key: None,
        content: to_raw_value(&json!({ "body": body })).unwrap(),
        delay_ms,
        sticky_ms: None,
    }
}

fn topic(room: &OwnedRoomId, topic: &str, delay_ms: u64) -> Intent {
    Intent {
        event_type: "m.room.topic".to_owned(),
        state_key: Some(String::new()),
        content: to_raw_value(&json!({ "topic": topic })).unwrap(),
        ..intent(room, "", delay_ms)
    }
}

impl Delayed {
    async fn outcome(&self, id: &str) -> Option<Outcome> {
        self.get(&user("alice"), id).await.unwrap().end.map(|end| end.outcome)
    }
}

#[tokio::test]
async fn what_is_due_is_sent_in_order_and_once() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    let late = delayed.schedule(&alice, topic(&room, "late", 200), None).await.unwrap();
    let early = delayed.schedule(&alice, topic(&room, "early", 100), None).await.unwrap();
    world.clock.advance(Duration::from_millis(99));
    delayed.turn_through().await;
    assert_eq!(delayed.outcome(&early).await, None);
    world.clock.advance(Duration::from_millis(101));
    delayed.turn_through().await;
    assert_eq!(world.now(&room, "m.room.topic", "").await, json!({ "topic": "late" }));
    let Some(Outcome::Sent(first)) = delayed.outcome(&early).await else { panic!("not sent") };
    let Some(Outcome::Sent(second)) = delayed.outcome(&late).await else { panic!("not sent") };
    let depth = async |id| world.history().event(id).await.unwrap().unwrap().pdu.depth();
    assert!(depth(&first).await < depth(&second).await);
}

#[tokio::test]
async fn a_restart_sends_what_became_due_meanwhile_and_nothing_twice() {
    let world = World::new().await;
    let room = world.room("12").await;
    let alice = user("alice");
    let (before, _) = world.delayed().await;
    let due = before.schedule(&alice, intent(&room, "due", 100), None).await.unwrap();
    let waits = before.schedule(&alice, intent(&room, "waits", 10_000), None).await.unwrap();
    let row = before.get(&alice, &due).await.unwrap();
    // The server dies after the event is written and before the row says so.
    let sent = before.try_send(&due, &row).await.unwrap();
    drop(before);
    world.clock.advance(Duration::from_millis(500));
    let (after, _) = world.delayed().await;
    after.load().await.unwrap();
    after.turn_through().await;
    assert_eq!(after.outcome(&due).await, Some(Outcome::Sent(sent)));
    assert_eq!(after.outcome(&waits).await, None);
    assert_eq!(after.of(&alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_sent_is_told_by_its_event_alone() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    let id = delayed.schedule(&alice, intent(&room, "canary", 100), None).await.unwrap();
    delayed.act(&id, Action::Send).await.unwrap();
    let row = world.db.raw(&Key::new(TableId::Delayed, &(id.clone(),))).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&row).contains("canary"));
    let told = async || delayed.get(&alice, &id).await.unwrap().intent.content.get().to_owned();
    assert_eq!(told().await, r#"{"body":"canary"}"#);
    let Some(Outcome::Sent(event)) = delayed.outcome(&id).await else { panic!("not sent") };
    world.rooms.redact(&alice, &room, &event, (None, None)).await.unwrap();
    assert_eq!(told().await, "{}");
}

/// A clock that fails once, when it has been looked at so often.
struct Faulty(Arc<ManualClock>, AtomicU64);

impl Clock for Faulty {
    fn now_ms(&self) -> u64 {
        assert_ne!(self.1.fetch_sub(1, Ordering::SeqCst), 1, "a fault of this server");
        self.0.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[tokio::test]
async fn a_fault_with_one_holds_up_no_other_and_it_is_tried_again() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let faulty = Arc::new(Faulty(clock.clone(), AtomicU64::new(u64::MAX)));
    let world = World::by(clock, faulty.clone()).await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    let first = delayed.schedule(&alice, intent(&room, "first", 100), None).await.unwrap();
    let second = delayed.schedule(&alice, intent(&room, "second", 101), None).await.unwrap();
    world.clock.advance(Duration::from_millis(200));
    // Once for what is due, and once for the first of them.
    faulty.1.store(2, Ordering::SeqCst);
    delayed.turn_through().await;
    assert_eq!(delayed.outcome(&first).await, None);
    assert!(matches!(delayed.outcome(&second).await, Some(Outcome::Sent(_))));
    world.clock.advance(Duration::from_millis(DELAYED_EVENT_RETRY_MS));
    delayed.turn_through().await;
    assert!(matches!(delayed.outcome(&first).await, Some(Outcome::Sent(_))));
}

/// However far a request has come that nobody waits for any more.
#[tokio::test]
async fn who_goes_away_while_it_is_written_has_it_sent_all_the_same() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    for polls in 1..6 {
        leave_after(polls, delayed.schedule(&alice, intent(&room, "x", 100), None)).await;
        let waiting = delayed.of(&alice).await.unwrap();
        let stored = world.db.scan(&DELAYED, scan_all()).await.unwrap();
        let stored = stored.into_iter().filter(|(_, row)| row.end.is_none()).count();
        assert_eq!(waiting.len(), stored, "after {polls} looks");
        world.clock.advance(Duration::from_millis(30));
        for (id, _) in waiting {
            leave_after(polls, delayed.act(&id, Action::Restart)).await;
            leave_after(polls, delayed.act(&id, Action::Cancel)).await;
        }
        world.clock.advance(Duration::from_millis(100));
        delayed.turn_through().await;
        assert!(delayed.of(&alice).await.unwrap().is_empty(), "after {polls} looks");
    }
}

#[tokio::test]
async fn what_stands_in_the_line_before_its_time_waits_on() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let id = delayed.schedule(&user("alice"), intent(&room, "x", 100), None).await.unwrap();
    let row = delayed.get(&user("alice"), &id).await.unwrap();
    let mut commit = Commit::new();
    commit.put(&DELAYED, &(id.clone(),), &Row { since_ms: row.since_ms + 50, ..row });
    world.history().log().commit(commit).await.unwrap();
    world.clock.advance(Duration::from_millis(100));
    delayed.turn_through().await;
    assert_eq!(delayed.outcome(&id).await, None);
    world.clock.advance(Duration::from_millis(50));
    delayed.turn_through().await;
    assert!(matches!(delayed.outcome(&id).await, Some(Outcome::Sent(_))));
}

#[tokio::test]
async fn what_cannot_be_sent_before_its_time_waits_on() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    world.join("bob", &room).await.unwrap();
    let bob = user("bob");
    let id = delayed.schedule(&bob, topic(&room, "T", 100), None).await.unwrap();
    let refused = delayed.act(&id, Action::Send).await;
    assert!(matches!(refused, Err(DelayedError::Room(RoomError::Forbidden(_)))), "{refused:?}");
    world
        .set("alice", &room, "m.room.power_levels", json!({ "users": { bob.as_str(): 100 } }))
        .await
        .unwrap();
    world.clock.advance(Duration::from_millis(100));
    delayed.turn_through().await;
    assert_eq!(world.now(&room, "m.room.topic", "").await, json!({ "topic": "T" }));
}

#[tokio::test]
async fn a_restarted_one_waits_its_whole_time_again() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let id = delayed.schedule(&user("alice"), intent(&room, "x", 100), None).await.unwrap();
    for _ in 0..3 {
        world.clock.advance(Duration::from_millis(90));
        delayed.act(&id, Action::Restart).await.unwrap();
        delayed.turn_through().await;
        assert_eq!(delayed.outcome(&id).await, None);
    }
    world.clock.advance(Duration::from_millis(100));
    delayed.turn_through().await;
    assert!(matches!(delayed.outcome(&id).await, Some(Outcome::Sent(_))));
}

/// Whoever knows the id may ask for it at any time, without a token.
#[tokio::test]
async fn what_has_just_begun_to_wait_is_not_written_anew() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    for (delay_ms, waited_ms, is_written) in
        [(100, 24, false), (100, 25, true), (60_000, 999, false), (60_000, 1_000, true)]
    {
        let id = delayed.schedule(&alice, intent(&room, "x", delay_ms), None).await.unwrap();
        let since_ms = delayed.get(&alice, &id).await.unwrap().since_ms;
        world.clock.advance(Duration::from_millis(waited_ms));
        delayed.act(&id, Action::Restart).await.unwrap();
        let moved_ms = delayed.get(&alice, &id).await.unwrap().since_ms - since_ms;
        assert_eq!(moved_ms, if is_written { waited_ms } else { 0 }, "{delay_ms} {waited_ms}");
        delayed.act(&id, Action::Cancel).await.unwrap();
    }
}

#[tokio::test]
async fn who_may_not_speak_any_more_does_not_speak_late() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, accounts) = world.delayed().await;
    let id = delayed.schedule(&user("alice"), intent(&room, "x", 100), None).await.unwrap();
    accounts.change_user(&user("alice"), |user| user.suspended = true).await.unwrap();
    world.clock.advance(Duration::from_millis(100));
    delayed.turn_through().await;
    let Some(Outcome::Failed { errcode, .. }) = delayed.outcome(&id).await else { panic!("it was sent") };
    assert_eq!(errcode, "M_FORBIDDEN");
}

#[tokio::test]
async fn what_came_of_it_can_be_asked_for_a_day() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let id = delayed.schedule(&user("alice"), intent(&room, "x", 100), None).await.unwrap();
    delayed.act(&id, Action::Cancel).await.unwrap();
    world.clock.advance(Duration::from_millis(DELAYED_EVENT_KEEP_MS - 1));
    delayed.turn_through().await;
    assert_eq!(delayed.outcome(&id).await, Some(Outcome::Cancelled));
    world.clock.advance(Duration::from_millis(1));
    delayed.turn_through().await;
    assert!(matches!(delayed.get(&user("alice"), &id).await, Err(DelayedError::NotFound)));
    assert!(matches!(delayed.act(&id, Action::Cancel).await, Err(DelayedError::NotFound)));
}

#[tokio::test]
async fn there_is_an_end_to_how_many_may_wait() {
    let world = World::new().await;
    let room = world.room("12").await;
    let (delayed, _) = world.delayed().await;
    let alice = user("alice");
    for _ in 0..DELAYED_EVENTS_PER_USER_MAX {
        delayed.schedule(&alice, intent(&room, "x", 100), None).await.unwrap();
    }
    let more = delayed.schedule(&alice, intent(&room, "x", 100), None).await;
    assert!(matches!(more, Err(DelayedError::TooMany(100))), "{more:?}");
    let (first, _) = delayed.of(&alice).await.unwrap().swap_remove(0);
    delayed.act(&first, Action::Cancel).await.unwrap();
    delayed.schedule(&alice, intent(&room, "x", 100), None).await.unwrap();
}
