//! Removing a room that other servers are in.

use std::time::Duration;

use super::{Wire, user};
use crate::{
    history::{RemovalWalk, Status, tables::RemovalRow},
    types::Membership,
};

#[tokio::test]
async fn other_servers_hear_that_its_members_left_and_then_it_may_be_joined_anew() {
    for version in ["10", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let said = a.say("alice@a", &room, "hello").await.unwrap();
        wire.drive().await;
        assert_eq!(b.status(&said).await, Some(Status::Timeline));
        wire.cut("b", "a");
        wire.clock.advance(Duration::from_secs(1));
        let began = b.federation.log.head();
        let began_ms = b.federation.ports.clock.now_ms();
        let row = RemovalRow { purge: true, began, began_ms, ..RemovalRow::default() };
        b.rooms().remove(&room, row.clone()).await.expect_err("bob is in it");
        b.rooms().leave(&user("bob@b"), &room, None).await.unwrap();
        b.rooms().remove(&room, row).await.unwrap();
        let mut walk = RemovalWalk::default();
        while b.rooms().remove_some(&mut walk).await.unwrap() {}
        assert_eq!(b.status(&said).await, None);
        assert!(b.history().room(&room).await.unwrap().is_none());
        assert!(!b.rooms().end_removal(&room).await.unwrap(), "a has not heard that bob left");
        b.join_through(&a, &room, "ben@b").await.expect_err("the room is being removed");
        wire.mend();
        wire.drive().await;
        let membership = a.history().membership(&room, &user("bob@b")).await.unwrap();
        assert_eq!(membership, Some(Membership::Leave), "version {version}");
        wire.clock.advance(Duration::from_secs(86_400));
        assert!(b.rooms().end_removal(&room).await.unwrap());
        assert_eq!(b.history().removals().await.unwrap(), Vec::<ruma::OwnedRoomId>::new());
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let again = b.say("bob@b", &room, "again").await.unwrap();
        wire.drive().await;
        assert_eq!(a.status(&again).await, Some(Status::Timeline));
        assert_eq!(a.state(&room).await, b.state(&room).await, "version {version}");
    }
}
