//! Rooms that go.

use super::{World, user};
use crate::{
    history::{
        RemovalWalk, Status,
        tables::{REMOVALS, RemovalRow, RemovalStage},
    },
    limits::REMOVAL_PAGE_EVENTS,
    log::Commit,
};

#[tokio::test]
async fn rooms_that_go_share_one_walk_over_the_events() {
    let world = World::new().await;
    let (alice, stays) = (user("alice"), world.room("12").await);
    let kept = world.say("alice", &stays, "stays").await.unwrap();
    let mut gone = Vec::new();
    for _ in 0..3 {
        let room = world.room("12").await;
        let said = world.say("alice", &room, "goes").await.unwrap();
        world.rooms.leave(&alice, &room, None).await.unwrap();
        let row = RemovalRow { purge: true, began: world.history().log().head(), ..RemovalRow::default() };
        world.rooms.remove(&room, row).await.unwrap();
        gone.push((room, said));
    }
    let (mut pages, mut walk) = (1, RemovalWalk::default());
    while world.rooms.remove_some(&mut walk).await.unwrap() {
        pages += 1;
    }
    assert_eq!(pages, 2, "one page holds them all, and the next one is the end");
    for (room, said) in gone {
        let row = world.history().removal(&room).await.unwrap().unwrap();
        assert!(row.removed > 1, "{row:?}");
        assert_eq!((row.stage, row.after), (RemovalStage::Parting, None));
        assert!(world.history().event(&said).await.unwrap().is_none());
    }
    let kept = world.history().event(&kept).await.unwrap().unwrap();
    assert_eq!(kept.status, Status::Timeline);
}

/// Where a walk is that meets nothing to remove is written down now and then, and at its end.
#[tokio::test]
async fn a_walk_that_removes_nothing_hardly_writes() {
    let world = World::new().await;
    let (room, gone) = (world.room("12").await, ruma::owned_room_id!("!gone:a.org"));
    let mut commit = Commit::new();
    let row = RemovalRow { stage: RemovalStage::Events, purge: true, ..RemovalRow::default() };
    commit.put(&REMOVALS, &(gone.clone(),), &row);
    world.history().log().commit(commit).await.unwrap();
    for number in 0..=2 * REMOVAL_PAGE_EVENTS {
        world.say("alice", &room, &number.to_string()).await.unwrap();
    }
    let now = async || world.history().removal(&gone).await.unwrap().unwrap();
    let mut walk = RemovalWalk::default();
    for _ in 0..3 {
        assert!(world.rooms.remove_some(&mut walk).await.unwrap());
        assert_eq!((now().await.after, now().await.stage), (None, RemovalStage::Events));
    }
    assert!(!world.rooms.remove_some(&mut walk).await.unwrap());
    assert_eq!(now().await.stage, RemovalStage::Parting);
}
