//! What users are told, and what they can do about it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::{Config, Invites, InvitesFrom},
    http::{client::testing::Server, tests::services_with},
    peer::Isolated,
};

const SEND: &str = "/_synapse/admin/v1/send_server_notice";

async fn scene() -> (Server, String, String) {
    let server = Server::new(Registration::Open).await;
    let (admin, alice) = (server.register("root").await, server.register("alice").await);
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    (server, admin, alice)
}

fn notice(user: &str) -> Value {
    json!({ "user_id": user, "content": { "msgtype": "m.text", "body": "Maintenance at nine" } })
}

async fn invited(server: &Server, token: &str) -> String {
    let sync = server.met(token, "GET /sync", Value::Null).await;
    let invites = sync["rooms"]["invite"].as_object().unwrap_or_else(|| panic!("{sync}"));
    let (room, invite) = invites.iter().next().unwrap();
    assert_eq!(invite["invite_state"]["events"][0]["sender"], "@_server:localhost");
    room.clone()
}

#[tokio::test]
async fn a_notice_cannot_be_rejected_but_its_room_can_be_left() {
    let (server, admin, alice) = scene().await;
    let post = format!("POST {SEND}");
    server.check(&alice, &post, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    server.check("", &post, (Value::Null, json!("401 M_MISSING_TOKEN"))).await;
    server.check(&admin, &post, (notice("@nobody:localhost"), json!("404 M_NOT_FOUND"))).await;
    server.check(&admin, &post, (notice("@far:elsewhere"), json!("404 M_NOT_FOUND"))).await;
    let told = server.met(&admin, &post, notice("@alice:localhost")).await["event_id"].clone();
    let room = invited(&server, &alice).await;
    let leave = format!("POST /rooms/{room}/leave");
    let refused = json!("403 M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
    server.check(&alice, &leave, (json!({}), refused.clone())).await;
    let by_state = format!("PUT /rooms/{room}/state/m.room.member/@alice:localhost");
    server.check(&alice, &by_state, (json!({ "membership": "leave" }), refused)).await;
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let event =
        server.met(&alice, &format!("GET /rooms/{room}/event/{}", told.as_str().unwrap()), Value::Null).await;
    assert_eq!(event["content"]["body"], "Maintenance at nine");
    let tags =
        server.met(&alice, &format!("GET /user/@alice:localhost/rooms/{room}/tags"), Value::Null).await;
    assert!(tags["tags"]["m.server_notice"].is_object());
    let say = format!("PUT /rooms/{room}/send/m.room.message/1");
    server.check(&alice, &say, (json!({ "body": "no" }), json!("403 M_FORBIDDEN"))).await;
    server.check(&alice, &leave, (json!({}), json!({}))).await;
    server.met(&admin, &post, notice("@alice:localhost")).await;
    assert_eq!(invited(&server, &alice).await, room);
    let put = format!("PUT {SEND}/1");
    let first = server.met(&admin, &put, notice("@alice:localhost")).await;
    assert!(first["event_id"].is_string());
    assert_eq!(server.met(&admin, &put, notice("@alice:localhost")).await, first);
}

#[tokio::test]
async fn a_notice_reaches_who_wants_no_invites_and_ignores_its_sender() {
    let invites = Invites { from: InvitesFrom::SharedRoom, ..Invites::default() };
    let config = Config { invites, ..Config::default() };
    let server = Server::over(services_with(config, Arc::new(Isolated)).await, Registration::Open);
    let (admin, alice) = (server.register("root").await, server.register("alice").await);
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    let set = |kind: &str| format!("PUT /user/@alice:localhost/account_data/{kind}");
    let block = json!({ "default_action": "block" });
    server.check(&alice, &set("m.invite_permission_config"), (block, json!({}))).await;
    let ignore = json!({ "ignored_users": { "@_server:localhost": {} } });
    server.check(&alice, &set("m.ignored_user_list"), (ignore, json!({}))).await;
    let lists = json!({ "blocked_users": ["*"] });
    server.check(&alice, &set("org.matrix.msc4155.invite_permission_config"), (lists, json!({}))).await;
    let told = server.met(&admin, &format!("POST {SEND}"), notice("@alice:localhost")).await;
    assert!(told["event_id"].is_string(), "{told}");
    let room = invited(&server, &alice).await;
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let synced = server.met(&alice, "GET /sync", Value::Null).await;
    let timeline = &synced["rooms"]["join"][&room]["timeline"]["events"];
    let is_it = |event: &&Value| event["content"]["body"] == "Maintenance at nine";
    assert_eq!(timeline.as_array().unwrap().iter().filter(is_it).count(), 1, "{synced}");
    // What waits for the user is rejected at once, but for this.
    server.met(&alice, &format!("POST /rooms/{room}/leave"), json!({})).await;
    server.met(&admin, &format!("POST {SEND}"), notice("@alice:localhost")).await;
    let reject = "POST /_lockstep/admin/v1/users/@alice:localhost/reject_invites";
    let done = json!({ "rejected": 0, "failed": 0, "more": false });
    server.check(&admin, reject, (json!({}), done)).await;
    assert_eq!(invited(&server, &alice).await, room);
}

#[tokio::test]
async fn nobody_can_register_the_name_of_the_sender() {
    let (server, ..) = scene().await;
    let body = json!({ "username": "_server", "password": "x", "auth": { "type": "m.login.dummy" } });
    server.check("", "POST /register", (body, json!("400 M_USER_IN_USE"))).await;
}
