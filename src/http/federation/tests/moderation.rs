//! Whom and what a server keeps from its users: invites by its settings and theirs, and what policy lists ban.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::RoomId;
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    config::{Config, InvitesFrom},
    http::Wire,
    types::Membership,
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

/// Has alice write a rule into the list at `room`; the event's id.
async fn rule(a: &Server, alice: &str, room: &RoomId, (kind, entity): (&str, Value)) -> Value {
    let content = match entity.is_null() {
        true => json!({}),
        false => json!({ "entity": entity, "recommendation": "m.ban", "reason": "spam" }),
    };
    let path = format!("PUT /rooms/{room}/state/m.policy.rule.{kind}/rule");
    a.met(alice, &path, content).await["event_id"].clone()
}

#[tokio::test]
async fn whom_a_policy_list_bans_does_not_invite() {
    let lists = ["#bans:a.org", "!unknown:b.org"].map(|list| list.try_into().unwrap());
    let (a, b, alice, bob) = pair(|config| config.moderation.policy_lists = lists.to_vec()).await;
    let (carol, dave) = (b.register("carol").await, a.register("dave").await);
    let list = a.room(&alice, "11", json!({ "room_alias_name": "bans" })).await;
    let banned = json!("403 M_FORBIDDEN");
    assert_eq!(invites(&b, &bob).await, json!({}));
    let id = rule(&a, &alice, &list, ("user", json!("@bo*:b.org"))).await;
    assert_eq!(invites(&b, &bob).await, banned);
    assert_eq!(invites(&b, &carol).await, json!({}));
    // What happens in the room otherwise changes nothing.
    a.met(&alice, &format!("PUT /rooms/{list}/state/m.room.name"), json!({ "name": "Bans" })).await;
    assert_eq!(invites(&b, &bob).await, banned);
    let redact = format!("PUT /rooms/{list}/redact/{}/1", id.as_str().unwrap());
    assert!(a.met(&alice, &redact, json!({})).await["event_id"].is_string());
    assert_eq!(invites(&b, &bob).await, json!({}));
    rule(&a, &alice, &list, ("server", json!("B.org"))).await;
    assert_eq!(invites(&b, &carol).await, banned);
    rule(&a, &alice, &list, ("server", Value::Null)).await;
    assert_eq!(invites(&b, &carol).await, json!({}));
    // Nobody of this server is banned, and nobody is locked out of it.
    for kind in ["user", "server"] {
        rule(&a, &alice, &list, (kind, json!("*"))).await;
    }
    assert_eq!(invites(&a, &dave).await, json!({}));
    assert_eq!(invites(&b, &bob).await, banned);
    // A list counts as long as somebody is in its room.
    a.met(&alice, &format!("POST /rooms/{list}/leave"), json!({})).await;
    assert_eq!(invites(&b, &bob).await, json!({}));
}

#[tokio::test]
async fn rooms_that_a_policy_list_bans_are_not_entered_nor_listed() {
    let lists = vec!["#bans:a.org".try_into().unwrap()];
    let (a, b, alice, bob) = pair(|config| config.moderation.policy_lists = lists).await;
    let (dave, erin) = (a.register("dave").await, a.register("erin").await);
    let list = a.room(&alice, "11", json!({ "room_alias_name": "bans" })).await;
    let open =
        |name: &str| json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": name });
    let (far, near) = (b.room(&bob, "11", open("far")).await, a.room(&alice, "11", open("near")).await);
    assert!(joins(&a, &erin, &far, &b).await["room_id"].is_string());
    let listed = |listed: Value| -> Vec<Value> {
        listed["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].clone()).collect()
    };
    let (there, here) = ("GET /publicRooms?server=b.org", "GET /publicRooms");
    assert_eq!(listed(a.met(&dave, there, Value::Null).await), [far.as_str()]);
    assert_eq!(listed(a.met(&dave, here, Value::Null).await), [near.as_str()]);
    rule(&a, &alice, &list, ("room", json!(far))).await;
    let refused = json!("403 M_FORBIDDEN");
    assert_eq!(listed(a.met(&dave, there, Value::Null).await), Vec::<Value>::new());
    assert_eq!(listed(b.met(&bob, here, Value::Null).await), [far.as_str()]);
    assert_eq!(joins(&a, &dave, &far, &b).await, refused);
    assert_eq!(a.met(&dave, "POST /join/#far:b.org", json!({})).await, refused);
    let own = format!("PUT /rooms/{far}/state/m.room.member/@dave:a.org");
    assert_eq!(a.met(&dave, &own, json!({ "membership": "join" })).await, refused);
    assert_eq!(a.met(&dave, &format!("POST /knock/{}", via(&far, &[&b])), json!({})).await, refused);
    let invite = format!("POST /rooms/{far}/invite");
    assert_eq!(b.met(&bob, &invite, json!({ "user_id": ALICE })).await, refused);
    assert_eq!(a.met(&erin, &invite, json!({ "user_id": ALICE })).await, refused);
    // Who is in it already stays, and administrators go where they must.
    let own = format!("PUT /rooms/{far}/state/m.room.member/@erin:a.org");
    let called = a.met(&erin, &own, json!({ "membership": "join", "displayname": "E" })).await;
    assert!(called["event_id"].is_string(), "{called}");
    make_admin(&a, "dave").await;
    assert!(joins(&a, &dave, &far, &b).await["room_id"].is_string());

    rule(&a, &alice, &list, ("room", json!("#near:*"))).await;
    assert_eq!(listed(a.met(&dave, here, Value::Null).await), Vec::<Value>::new());
    assert_eq!(a.met(&erin, &format!("POST /join/{near}"), json!({})).await, refused);
    assert_eq!(a.met(&erin, "POST /join/#near:a.org", json!({})).await, refused);
    // What stands in the room's state alone is banned no less.
    rule(&a, &alice, &list, ("room", Value::Null)).await;
    assert!(a.met(&erin, &format!("POST /join/{near}"), json!({})).await["room_id"].is_string());
}

#[tokio::test]
async fn a_list_of_another_server_binds_and_its_users_are_not_found() {
    let lists = vec!["#theirs:b.org".try_into().unwrap()];
    let (a, b, alice, bob) = pair(|config| config.moderation.policy_lists = lists).await;
    let carol = b.register("carol").await;
    let extra = json!({ "preset": "public_chat", "room_alias_name": "theirs" });
    let list = b.room(&bob, "11", extra).await;
    let path = format!("PUT /rooms/{list}/state/m.room.rule.user/rule");
    let ban = json!({ "entity": "@carol:b.org", "recommendation": "org.matrix.mjolnir.ban" });
    b.met(&bob, &path, ban).await;
    assert!(joins(&a, &alice, &list, &b).await["room_id"].is_string());
    let shared = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    joins(&b, &carol, &shared, &a).await;
    let search = "POST /user_directory/search";
    let found = a.met(&alice, search, json!({ "search_term": "carol" })).await;
    assert_eq!(found["results"][0]["user_id"], "@carol:b.org", "{found}");
    // Where the alias points is not known yet: the other server has no answer while this one starts.
    assert_eq!(invites(&b, &carol).await, json!({}));
    let (mut asked, mut told) = (BTreeSet::new(), BTreeMap::new());
    a.app.rooms.look_after_policy_lists(&mut asked, &mut told).await.unwrap();
    assert_eq!((asked.len(), told.into_values().collect::<Vec<_>>()), (1, vec![true]));
    assert_eq!(invites(&b, &carol).await, "403 M_FORBIDDEN");
    assert_eq!(invites(&b, &bob).await, json!({}));
    let found = a.met(&alice, search, json!({ "search_term": "carol" })).await;
    assert_eq!(found["results"], json!([]));
}

#[tokio::test]
async fn what_came_from_a_server_goes_at_once() {
    let (wire, folder) = (Wire::default(), tempfile::tempdir().unwrap());
    let set_up = async |name: &str| {
        let media = Some(folder.path().join(name));
        Server::set_up(name, &wire, Arc::new(wire.clone()), |config| config.media.folder = media).await
    };
    let (a, b) = (set_up("a.org").await, set_up("b.org").await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let (carol, dave, root) = (b.register("carol").await, a.register("dave").await, a.register("root").await);
    make_admin(&a, "root").await;
    let shared = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    joins(&b, &carol, &shared, &a).await;
    let mut rooms = Vec::new();
    for (server, token, user) in [
        (&b, &bob, ALICE),
        (&b, &bob, ALICE),
        (&b, &carol, ALICE),
        (&b, &bob, "@dave:a.org"),
        (&a, &dave, ALICE),
    ] {
        let room = server.room(token, "11", json!({})).await;
        let invite = format!("POST /rooms/{room}/invite");
        assert_eq!(server.met(token, &invite, json!({ "user_id": user })).await, json!({}));
        rooms.push(room);
    }
    let reject = format!("POST /_lockstep/admin/v1/users/{ALICE}/reject_invites");
    let forget = "POST /_lockstep/admin/v1/servers/b.org/forget";
    for call in [&*reject, forget] {
        assert_eq!(a.met(&alice, call, json!({})).await, "403 M_FORBIDDEN");
    }
    let done = |rejected: usize| json!({ "rejected": rejected, "failed": 0, "more": false });
    assert_eq!(a.met(&root, &reject, json!({ "sender": "@bob:b.org" })).await, done(2));
    assert_eq!(a.met(&root, &reject, json!({ "server": "c.org" })).await, done(0));
    let invited = async || {
        let synced = a.met(&alice, "GET /sync", Value::Null).await;
        synced["rooms"]["invite"].as_object().map_or(0, |rooms| rooms.len())
    };
    assert_eq!(invited().await, 2);
    a.app.rooms.say_farewells().await.unwrap();
    assert_eq!(b.membership(&rooms[0], &a.user("alice")).await, Some(Membership::Leave));

    let search = json!({ "search_term": "carol" });
    let found = a.met(&alice, "POST /user_directory/search", search.clone()).await;
    assert_eq!(found["results"][0]["user_id"], "@carol:b.org");
    let uploaded = b.met(&bob, "POST /_matrix/media/v3/upload", json!({ "a": "file" })).await;
    let address = uploaded["content_uri"].as_str().unwrap().replacen("mxc://", "", 1);
    let file = format!("GET /_matrix/client/v1/media/download/{address}");
    assert_eq!(a.met(&alice, &file, Value::Null).await, json!({ "a": "file" }));
    let told = a.met(&root, forget, json!({})).await;
    let expected = json!({ "invites": 2, "invites_failed": 0, "media": 1, "people": 1, "more": false });
    assert_eq!(told, expected);
    assert_eq!(invited().await, 1);
    let found = a.met(&alice, "POST /user_directory/search", search).await;
    assert_eq!(found["results"], json!([]));
    let told = a.met(&root, forget, json!({ "media": false })).await;
    assert_eq!(told, json!({ "invites": 0, "invites_failed": 0, "media": 0, "people": 0, "more": false }));
    assert_eq!(a.met(&root, &reject, Value::Null).await, done(1));
    assert_eq!(invited().await, 0);
    let ours = "POST /_lockstep/admin/v1/servers/a.org/forget";
    assert_eq!(a.met(&root, ours, json!({})).await, "400 M_INVALID_PARAM");
}
