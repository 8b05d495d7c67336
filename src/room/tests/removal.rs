//! Rooms that go.

use super::{World, user};
use crate::history::{
    Status,
    tables::{RemovalRow, RemovalStage},
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
    let mut pages = 1;
    while world.rooms.remove_some().await.unwrap() {
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
