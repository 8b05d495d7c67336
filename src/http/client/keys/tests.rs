//! Whose devices have changed, told by the rooms that users share.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::Map;

use crate::{
    account::{AccountError, NewSession, NewUser},
    http::{Services, tests::services},
    room::NewRoom,
    types::Position,
};

struct World {
    services: Services,
    from: Position,
}

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:localhost")).unwrap()
}

impl World {
    async fn new() -> Self {
        Self { services: services().await, from: Position::ZERO }
    }

    async fn room(&self, creator: &str, members: &[&str]) -> OwnedRoomId {
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        let room = self.services.rooms.create(&user(creator), room).await.unwrap();
        for member in members {
            self.join(member, &room).await;
        }
        room
    }

    async fn join(&self, name: &str, room: &OwnedRoomId) {
        self.services.rooms.join(&user(name), room, None, Map::new()).await.unwrap();
    }

    async fn leave(&self, name: &str, room: &OwnedRoomId) {
        self.services.rooms.leave(&user(name), room, None).await.unwrap();
    }

    async fn log_in(&self, name: &str) {
        let new = NewUser { username: Some(name.to_owned()), ..NewUser::default() };
        match self.services.accounts.create_user(new).await {
            Ok(_) | Err(AccountError::UserInUse) => {}
            Err(error) => panic!("{error}"),
        }
        let session =
            NewSession { user_id: user(name), device_id: None, display_name: None, refreshes: false };
        self.services.accounts.start_session(session).await.unwrap();
    }

    /// What each of the named users is told of what happened since the last time.
    async fn check(&mut self, expected: &[(&str, &[&str], &[&str])]) {
        let span = (self.from, self.services.log.head());
        let names = |names: &[&str]| names.iter().map(|name| user(name)).collect::<BTreeSet<_>>();
        for (name, changed, left) in expected {
            let (devices, history) = (&self.services.devices, &self.services.history);
            let found = devices.list_changes(history, &user(name), span, None).await.unwrap();
            assert_eq!((found.changed, found.left), (names(changed), names(left)), "{name}");
        }
        self.from = span.1;
    }
}

#[tokio::test]
async fn changes_are_told_to_those_who_share_a_room() {
    let mut world = World::new().await;
    let room = world.room("alice", &["bob"]).await;
    world.check(&[("alice", &["bob"], &[]), ("bob", &["alice"], &[]), ("carol", &[], &[])]).await;
    world.log_in("bob").await;
    world.log_in("carol").await;
    world.check(&[("alice", &["bob"], &[]), ("bob", &["bob"], &[]), ("carol", &["carol"], &[])]).await;
    world.check(&[("alice", &[], &[])]).await;

    world.join("carol", &room).await;
    world.check(&[("alice", &["carol"], &[]), ("carol", &["alice", "bob"], &[])]).await;
    world.log_in("carol").await;
    world.leave("carol", &room).await;
    world
        .check(&[("alice", &[], &["carol"]), ("carol", &["carol"], &["alice", "bob"]), ("dave", &[], &[])])
        .await;
    // In and out between two looks is no news; in again is.
    world.join("carol", &room).await;
    world.leave("carol", &room).await;
    world.check(&[("alice", &[], &[]), ("carol", &[], &[])]).await;
    world.leave("bob", &room).await;
    world.join("bob", &room).await;
    world.check(&[("alice", &[], &[])]).await;
}

#[tokio::test]
async fn who_shares_another_room_has_not_left() {
    let mut world = World::new().await;
    let one = world.room("alice", &["bob", "carol"]).await;
    world.room("alice", &["bob"]).await;
    world.check(&[]).await;
    world.leave("alice", &one).await;
    world.check(&[("alice", &[], &["carol"]), ("bob", &[], &[]), ("carol", &[], &["alice"])]).await;
    world.log_in("alice").await;
    world.check(&[("bob", &["alice"], &[]), ("carol", &[], &[])]).await;
}
