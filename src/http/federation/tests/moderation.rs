//! Whom and what a server keeps from its users: invites by its settings and theirs.

use std::sync::Arc;

use ruma::RoomId;
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    config::{Config, InvitesFrom},
    http::Wire,
};

const ALICE: &str = "@alice:a.org";

/// `a.org`, which is run so, with alice, and `b.org` with bob.
async fn pair(set: impl FnOnce(&mut Config)) -> (Server, Server, String, String) {
    let wire = Wire::default();
    let a = Server::set_up("a.org", &wire, Arc::new(wire.clone()), set).await;
    let b = Server::new("b.org", &wire).await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    (a, b, alice, bob)
}

/// What comes of inviting alice to a new room.
async fn invites(server: &Server, token: &str) -> Value {
    let room = server.room(token, "11", json!({})).await;
    server.met(token, &format!("POST /rooms/{room}/invite"), json!({ "user_id": ALICE })).await
}

async fn joins(server: &Server, token: &str, room: &RoomId, through: &Server) -> Value {
    server.met(token, &format!("POST /join/{}", via(room, &[through])), json!({})).await
}

async fn make_admin(server: &Server, name: &str) {
    server.app.accounts.change_user(&server.user(name), |user| user.admin = true).await.unwrap();
}

#[tokio::test]
async fn invites_come_from_whom_the_server_wants_them() {
    let (fine, refused) = (json!({}), json!("403 M_FORBIDDEN"));
    // Whether a stranger may and somebody who shares a room, of the other server and of this one.
    for (from, allowed, expected) in [
        (InvitesFrom::Anyone, "", [true, true, true, true]),
        (InvitesFrom::SharedRoom, "", [false, true, false, true]),
        (InvitesFrom::SharedRoom, "A.org", [false, true, true, true]),
        (InvitesFrom::Local, "", [false, false, true, true]),
        (InvitesFrom::Local, "?.org", [true, true, true, true]),
        (InvitesFrom::Local, "*.b.org", [false, false, true, true]),
    ] {
        let (a, b, alice, bob) = pair(|config| {
            config.invites.from = from;
            config.invites.allowed_servers = vec![String::from(allowed)];
        })
        .await;
        let (carol, dave, erin) =
            (b.register("carol").await, a.register("dave").await, a.register("erin").await);
        let shared = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
        assert!(joins(&b, &carol, &shared, &a).await["room_id"].is_string());
        assert!(joins(&a, &erin, &shared, &a).await["room_id"].is_string());
        for ((server, token), expected) in
            [(&b, &bob), (&b, &carol), (&a, &dave), (&a, &erin)].into_iter().zip(expected)
        {
            let met = invites(server, token).await;
            let expected = if expected { &fine } else { &refused };
            assert_eq!(met, *expected, "{from:?} {allowed} {}", server.name);
        }
        // Administrators always may, and a new room invites by the same rules.
        let created = a.met(&dave, "POST /createRoom", json!({ "invite": [ALICE] })).await;
        assert_eq!(created["room_id"].is_string(), expected[2], "{created}");
        make_admin(&a, "dave").await;
        assert_eq!(invites(&a, &dave).await, fine);
    }
}

#[tokio::test]
async fn who_knocks_wants_to_be_invited() {
    let (a, b, alice, bob) = pair(|config| config.invites.from = InvitesFrom::Local).await;
    let knock = json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
    let room = b.room(&bob, "11", json!({ "initial_state": [knock] })).await;
    let invite = format!("POST /rooms/{room}/invite");
    assert_eq!(b.met(&bob, &invite, json!({ "user_id": ALICE })).await, "403 M_FORBIDDEN");
    let knocked = a.met(&alice, &format!("POST /knock/{}", via(&room, &[&b])), json!({})).await;
    assert!(knocked["room_id"].is_string(), "{knocked}");
    assert_eq!(b.met(&bob, &invite, json!({ "user_id": ALICE })).await, json!({}));
}

/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4494>
#[tokio::test]
async fn a_user_is_invited_by_those_with_whom_they_share_a_room_that_is_not_public() {
    let (a, b, alice, bob) = pair(|_| {}).await;
    let carol = a.register("carol").await;
    let public = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    assert!(joins(&b, &bob, &public, &a).await["room_id"].is_string());
    joins(&a, &carol, &public, &a).await;
    let set = format!("PUT /user/{ALICE}/account_data/m.invite_permission_config");
    let deny = json!({ "default_action": "uk.timedout.msc4494.deny_public" });
    a.met(&alice, &set, deny.clone()).await;
    assert_eq!(invites(&b, &bob).await, "403 M_INVITE_BLOCKED");
    assert_eq!(invites(&a, &carol).await, "403 M_INVITE_BLOCKED");
    let private = a.room(&alice, "11", json!({ "invite": ["@bob:b.org", "@carol:a.org"] })).await;
    assert!(joins(&b, &bob, &private, &a).await["room_id"].is_string());
    assert_eq!(invites(&b, &bob).await, json!({}));
    // An invite is no room that is shared.
    assert_eq!(invites(&a, &carol).await, "403 M_INVITE_BLOCKED");
    a.met(&carol, &format!("POST /join/{private}"), json!({})).await;
    assert_eq!(invites(&a, &carol).await, json!({}));
}
