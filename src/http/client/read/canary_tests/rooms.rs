//! Nothing is left of a room that was removed, and who was in it is told.

use serde_json::{Value, json};

use super::{CANARY, Scene};
use crate::store::table::TableId;

#[tokio::test]
async fn a_removed_room_leaves_nothing_behind() {
    let scene = Scene::new().await;
    scene.sing().await;
    let room = &scene.room;
    let topic = json!({ "topic": CANARY });
    scene.server.met(&scene.alice, &format!("PUT /rooms/{room}/state/m.room.topic"), topic).await;
    let before = scene.server.met(&scene.alice, "GET /sync", Value::Null).await;
    let delete = format!("DELETE /_synapse/admin/v2/rooms/{room}");
    scene.server.check(&scene.alice, &delete, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    let status = format!("GET /_synapse/admin/v2/rooms/delete_status/{room}");
    scene.server.check(&scene.admin, &status, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    scene.server.met(&scene.admin, &delete, json!({ "purge": true })).await;
    scene.check_gone().await;
    // There was no other room.
    for table in
        [TableId::Event, TableId::StateNode, TableId::AuthChain, TableId::Relation, TableId::MediaUse]
    {
        assert!(!scene.has_rows(table).await, "{table:?} has rows");
    }
    assert_eq!(scene.server.met(&scene.admin, &status, Value::Null).await["status"], "complete");
    let joined = scene.server.met(&scene.alice, "GET /joined_rooms", Value::Null).await;
    assert_eq!(joined["joined_rooms"], json!([]));
    scene
        .server
        .check(&scene.alice, &format!("POST /join/{room}"), (json!({}), json!("404 M_NOT_FOUND")))
        .await;
    scene.server.check(&scene.admin, &delete, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let sync = scene.server.met(&scene.alice, "GET /sync", Value::Null).await;
    assert_eq!(sync["rooms"]["leave"].get(room), None, "{sync}");
    let since = format!("GET /sync?since={}", before["next_batch"].as_str().unwrap());
    let sync = scene.server.met(&scene.alice, &since, Value::Null).await;
    assert!(sync["rooms"]["leave"][room].is_object(), "whoever was away hears of it: {sync}");
}

#[tokio::test]
async fn what_was_to_be_said_in_a_removed_room_goes_with_it() {
    let scene = Scene::new().await;
    let room = &scene.room;
    let delay = "org.matrix.msc4140.delay=100000";
    let path = format!("PUT /rooms/{room}/send/m.room.message/later?{delay}");
    let later = scene.server.met(&scene.alice, &path, json!({ "body": CANARY, "msgtype": "m.text" })).await;
    let path = format!("GET /_matrix/client/v1/delayed_events/{}", later["delay_id"].as_str().unwrap());
    assert_eq!(scene.server.met(&scene.alice, &path, Value::Null).await["content"]["body"], CANARY);
    scene.server.met(&scene.admin, &format!("DELETE /_synapse/admin/v2/rooms/{room}"), json!({})).await;
    scene.check_gone().await;
    assert!(!scene.has_rows(TableId::Delayed).await);
    scene.server.check(&scene.alice, &path, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let all = scene.server.met(&scene.alice, "GET /_matrix/client/v1/delayed_events", Value::Null).await;
    assert_eq!(all, json!({ "delayed_events": [] }));
}

#[tokio::test]
async fn members_of_a_removed_room_are_told_why_in_another() {
    for version in ["v1", "v2"] {
        let scene = Scene::new().await;
        let (server, admin, room) = (&scene.server, &scene.admin, &scene.room);
        let alias = "/directory/room/%23mine:localhost";
        server.met(&scene.alice, &format!("PUT {alias}"), json!({ "room_id": room })).await;
        let delete = format!("DELETE /_synapse/admin/{version}/rooms/{room}");
        let wrong = json!({ "new_room_user_id": "@nobody:localhost" });
        server.check(admin, &delete, (wrong, json!("400 M_INVALID_PARAM"))).await;
        server.register("boss").await;
        let wanted = json!({ "new_room_user_id": "@boss:localhost", "message": "Enough.", "block": true });
        let told = server.met(admin, &delete, wanted.clone()).await;
        let new = told["new_room_id"].as_str().unwrap_or_else(|| panic!("{told}"));
        if version == "v1" {
            assert_eq!(told["local_aliases"], json!(["#mine:localhost"]));
            assert!(told["kicked_users"].to_string().contains("@alice:localhost"), "{told}");
        }
        server.app().purge.tend().await.unwrap();
        let joined = server.met(&scene.alice, "GET /joined_rooms", Value::Null).await;
        assert_eq!(joined["joined_rooms"], json!([new]));
        let found = server.met(&scene.alice, &format!("GET {alias}"), Value::Null).await;
        assert_eq!(found["room_id"], new);
        let said = server.met(&scene.alice, &format!("GET /rooms/{new}/messages?dir=b"), Value::Null).await;
        let said = said["chunk"].as_array().unwrap().iter().find(|event| event["type"] == "m.room.message");
        assert_eq!(said.unwrap()["content"]["body"], "Enough.");
        let answer = format!("PUT /rooms/{new}/send/m.room.message/1");
        server.check(&scene.alice, &answer, (json!({ "body": "but" }), json!("403 M_FORBIDDEN"))).await;
    }
}

#[tokio::test]
async fn a_blocked_room_lets_nobody_in() {
    let scene = Scene::new().await;
    let room = &scene.room;
    let block = format!("PUT /_synapse/admin/v1/rooms/{room}/block");
    scene.server.check(&scene.alice, &block, (json!({ "block": true }), json!("403 M_FORBIDDEN"))).await;
    scene.server.met(&scene.admin, &block, json!({ "block": true })).await;
    let bob = scene.server.register("bob").await;
    let join = format!("POST /join/{room}");
    scene.server.check(&bob, &join, (json!({}), json!("403 M_FORBIDDEN"))).await;
    let invite = format!("POST /rooms/{room}/invite");
    let whom = json!({ "user_id": "@bob:localhost" });
    scene.server.check(&scene.alice, &invite, (whom, json!("403 M_FORBIDDEN"))).await;
    let delete = format!("DELETE /_synapse/admin/v2/rooms/{room}");
    // Whoever is in it goes; what was said stays.
    scene.server.met(&scene.admin, &delete, json!({ "purge": false, "block": true })).await;
    scene.server.app().purge.tend().await.unwrap();
    let joined = scene.server.met(&scene.alice, "GET /joined_rooms", Value::Null).await;
    assert_eq!(joined["joined_rooms"], json!([]));
    scene.server.met(&scene.admin, &block, json!({ "block": false })).await;
    scene.server.met(&scene.alice, &join, json!({})).await;
    let blocks = scene.server.met(&scene.admin, &block.replace("PUT", "GET"), Value::Null).await;
    assert_eq!(blocks, json!({ "block": false }));
}
