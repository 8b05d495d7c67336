//! Who finds whom in the user directory, and by which name.

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::{Config, UserDirectory},
    http::{client::testing::Server, tests::services_with},
    peer::Isolated,
};

struct Scene {
    server: Server,
    alice: String,
    bob: String,
    eve: String,
}

impl Scene {
    async fn new(everybody: bool) -> Self {
        let config = Config { user_directory: UserDirectory { everybody }, ..Config::default() };
        let services = services_with(config, std::sync::Arc::new(Isolated)).await;
        let server = Server::over(services, Registration::Open);
        let (alice, bob, eve) =
            (server.register("alice").await, server.register("bob").await, server.register("eve").await);
        Self { server, alice, bob, eve }
    }

    async fn name(&self, token: &str, user: &str, name: &str) {
        let path = format!("PUT /profile/@{user}:localhost/displayname");
        self.server.check(token, &path, (json!({ "displayname": name }), json!({}))).await;
    }

    async fn room(&self, token: &str, wanted: Value) -> String {
        self.server.met(token, "POST /createRoom", wanted).await["room_id"].as_str().unwrap().to_owned()
    }

    /// Who is found by a term: how they are called, and their localparts.
    async fn check(&self, token: &str, term: &str, expected: &[&str]) {
        let found =
            self.server.met(token, "POST /user_directory/search", json!({ "search_term": term })).await;
        let results = found["results"].as_array().unwrap_or_else(|| panic!("{found}"));
        let one = |user: &Value| {
            let id = user["user_id"].as_str().unwrap();
            let localpart = &id[1..id.find(':').unwrap()];
            format!("{localpart}: {}", user["display_name"].as_str().unwrap_or("-"))
        };
        let met: Vec<String> = results.iter().map(one).collect();
        assert_eq!(met, expected, "{term}");
    }
}

#[tokio::test]
async fn people_are_found_by_those_who_share_a_room_with_them_or_who_could() {
    let scene = Scene::new(false).await;
    let Scene { server, alice, bob, eve } = &scene;
    scene.name(alice, "alice", "Renée Cooper").await;
    scene.check(eve, "renee", &[]).await;
    let room = scene.room(bob, json!({ "invite": ["@alice:localhost"] })).await;
    scene.check(bob, "renee", &[]).await;
    server.met(alice, &format!("POST /join/{room}"), json!({})).await;
    for term in ["renee", "COOP ren", "@alice:localhost", "ali", "alice local"] {
        scene.check(bob, term, &["alice: Renée Cooper"]).await;
        scene.check(eve, term, &[]).await;
    }
    for term in ["lice", "renee x", "", "!", "bob"] {
        scene.check(bob, term, &[]).await;
    }
    let state = format!("PUT /rooms/{room}/state/m.room.history_visibility");
    server.met(bob, &state, json!({ "history_visibility": "world_readable" })).await;
    scene.check(eve, "renee", &["alice: Renée Cooper"]).await;
    server.met(bob, &state, json!({ "history_visibility": "shared" })).await;
    scene.check(eve, "renee", &[]).await;
    let open = scene.room(alice, json!({ "preset": "public_chat" })).await;
    scene.check(eve, "renee", &["alice: Renée Cooper"]).await;
    scene.name(alice, "alice", "Max").await;
    scene.check(eve, "renee", &[]).await;
    scene.check(eve, "max", &["alice: Max"]).await;
    let kicked = json!({ "user_id": "@alice:localhost" });
    server.met(alice, &format!("POST /rooms/{open}/leave"), json!({})).await;
    scene.check(eve, "max", &[]).await;
    server.met(bob, &format!("POST /rooms/{room}/kick"), kicked).await;
    scene.check(bob, "max", &[]).await;
}

#[tokio::test]
async fn a_name_of_one_room_is_not_told_in_another() {
    let scene = Scene::new(false).await;
    let Scene { server, alice, bob, eve } = &scene;
    scene.name(alice, "alice", "Alice Cooper").await;
    scene.room(alice, json!({ "preset": "public_chat" })).await;
    let private = scene.room(bob, json!({ "invite": ["@alice:localhost"] })).await;
    server.met(alice, &format!("POST /join/{private}"), json!({})).await;
    let path = format!("PUT /rooms/{private}/state/m.room.member/@alice:localhost");
    server.met(alice, &path, json!({ "membership": "join", "displayname": "Freddy" })).await;
    for token in [bob, eve] {
        scene.check(token, "Alice Cooper", &["alice: Alice Cooper"]).await;
        scene.check(token, "Freddy", &[]).await;
    }
}

#[tokio::test]
async fn who_is_locked_or_gone_is_not_found() {
    let scene = Scene::new(true).await;
    let Scene { server, bob, eve, .. } = &scene;
    let alice = ruma::user_id!("@alice:localhost");
    scene.check(bob, "ali", &["alice: alice"]).await;
    server.app().accounts.change_user(alice, |user| user.locked = true).await.unwrap();
    scene.check(bob, "ali", &[]).await;
    server.app().accounts.change_user(alice, |user| user.locked = false).await.unwrap();
    scene.check(bob, "ali", &["alice: alice"]).await;
    server.app().accounts.deactivate(alice, false).await.unwrap();
    scene.check(bob, "ali", &[]).await;
    scene.check(eve, "eve", &[]).await;
}

#[tokio::test]
async fn an_answer_has_a_bound_and_says_so() {
    let scene = Scene::new(true).await;
    scene.server.register("bobby").await;
    for (term, limit, expected) in
        [("b", 10, (2, false)), ("b", 1, (1, true)), ("bobb", 1, (1, false)), ("x", 1, (0, false))]
    {
        let body = json!({ "search_term": term, "limit": limit });
        let found = scene.server.met(&scene.eve, "POST /user_directory/search", body).await;
        let met = (found["results"].as_array().unwrap().len(), found["limited"] == true);
        assert_eq!(met, expected, "{term} {limit}");
    }
}
