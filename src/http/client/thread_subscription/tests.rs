//! Whom threads are told of.

use serde_json::{Value, json};

use crate::{
    account::{Registration, Settings},
    config::Config,
    http::{client::testing::Server, tests::services_at},
    types::ManualClock,
};

const RULES: &str = "/pushrules/global/postcontent";
const UNSUBSCRIBED: &str = ".io.element.msc4306.rule.unsubscribed_thread";
const SUBSCRIBED: &str = ".io.element.msc4306.rule.subscribed_thread";

async fn server(thread_subscriptions: bool) -> Server {
    let mut config = Config::default();
    config.push.thread_subscriptions = thread_subscriptions;
    let services = services_at(config, std::sync::Arc::new(ManualClock::at(0))).await;
    let settings = Settings { registration: Registration::Open, thread_subscriptions, ..Settings::default() };
    Server::under(services, settings)
}

/// A room of two with a thread; what is said there, and what the other has not read.
struct Scene {
    server: Server,
    alice: String,
    bob: String,
    room: String,
    root: String,
}

impl Scene {
    async fn new(thread_subscriptions: bool) -> Self {
        let server = server(thread_subscriptions).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let made = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = made["room_id"].as_str().unwrap().to_owned();
        server.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
        let mut scene = Self { server, alice, bob, room, root: String::new() };
        scene.root = scene.say("root", json!({ "body": "root" })).await;
        scene
    }

    async fn say(&self, txn: &str, mut content: Value) -> String {
        content["msgtype"] = json!("m.text");
        let request = format!("PUT /rooms/{}/send/m.room.message/{txn}", self.room);
        let sent = self.server.met(&self.alice, &request, content).await;
        sent["event_id"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned()
    }

    async fn reply(&self, txn: &str, mentions: Value) {
        let relation = json!({ "rel_type": "m.thread", "event_id": self.root });
        self.say(txn, json!({ "body": txn, "m.relates_to": relation, "m.mentions": mentions })).await;
    }

    /// Notifications and highlights in the whole room.
    async fn unread(&self) -> (u64, u64) {
        let synced = self.server.met(&self.bob, "GET /sync", Value::Null).await;
        let counts = &synced["rooms"]["join"][&self.room]["unread_notifications"];
        let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{synced}"));
        (count("notification_count"), count("highlight_count"))
    }

    fn subscription(&self) -> String {
        let place = format!("rooms/{}/thread/{}/subscription", self.room, self.root);
        format!("/_matrix/client/unstable/io.element.msc4306/{place}")
    }
}

#[tokio::test]
async fn only_threads_that_are_subscribed_to_notify_and_mentions_do() {
    let scene = Scene::new(true).await;
    let (server, bob) = (&scene.server, &scene.bob);
    let versions = server.met("", "GET /_matrix/client/versions", Value::Null).await;
    assert_eq!(versions["unstable_features"]["org.matrix.msc4306"], true);
    assert_eq!(scene.unread().await, (1, 0), "what is outside of threads");
    scene.reply("nobody", json!({})).await;
    assert_eq!(scene.unread().await, (1, 0), "a thread that is not subscribed to");
    scene.reply("named", json!({ "user_ids": ["@bob:localhost"] })).await;
    assert_eq!(scene.unread().await, (2, 1), "a mention");
    // A subscription is stronger than what is said of the room.
    let mute = format!("PUT /pushrules/global/room/{}", scene.room);
    server.met(bob, &mute, json!({ "actions": [] })).await;
    scene.say("outside", json!({ "body": "outside" })).await;
    let before = scene.unread().await.0;
    server.met(bob, &format!("PUT {}", scene.subscription()), json!({})).await;
    scene.reply("subscribed", json!({})).await;
    assert_eq!(scene.unread().await.0, before + 1);
    server.met(bob, &format!("DELETE {}", scene.subscription()), Value::Null).await;
    scene.reply("unsubscribed", json!({})).await;
    assert_eq!(scene.unread().await.0, before + 1);
}

#[tokio::test]
async fn the_rules_about_threads_can_be_switched_off_and_are_the_only_ones_of_their_kind() {
    let scene = Scene::new(true).await;
    let (server, bob) = (&scene.server, &scene.bob);
    let rules = server.met(bob, "GET /pushrules/global/", Value::Null).await;
    let ids: Vec<&Value> =
        rules["postcontent"].as_array().unwrap().iter().map(|rule| &rule["rule_id"]).collect();
    assert_eq!(ids, [UNSUBSCRIBED, SUBSCRIBED], "{rules}");
    let condition = json!([{ "kind": "io.element.msc4306.thread_subscription", "subscribed": false }]);
    assert_eq!(rules["postcontent"][0]["conditions"], condition);
    let rule = server.met(bob, &format!("GET {RULES}/{SUBSCRIBED}"), Value::Null).await;
    assert_eq!(rule["actions"], json!(["notify", { "set_tweak": "sound", "value": "default" }]), "{rule}");
    let switch = format!("PUT {RULES}/{UNSUBSCRIBED}/enabled");
    server.check(bob, &switch, (json!({ "enabled": false }), json!({}))).await;
    let asked = format!("GET {RULES}/{UNSUBSCRIBED}/enabled");
    server.check(bob, &asked, (Value::Null, json!({ "enabled": false }))).await;
    scene.reply("nobody", json!({})).await;
    assert_eq!(scene.unread().await, (2, 0));
    let own = json!({ "actions": [], "conditions": [] });
    server.check(bob, &format!("PUT {RULES}/mine"), (own, json!("400 M_INVALID_PARAM"))).await;
    let delete = format!("DELETE {RULES}/{SUBSCRIBED}");
    server.check(bob, &delete, (Value::Null, json!("400 M_INVALID_PARAM"))).await;
    server.check(bob, &format!("GET {RULES}/mine"), (Value::Null, json!("404 M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn without_the_setting_threads_notify_as_the_specification_has_it() {
    let scene = Scene::new(false).await;
    let (server, bob) = (&scene.server, &scene.bob);
    scene.reply("nobody", json!({})).await;
    assert_eq!(scene.unread().await, (2, 0));
    let versions = server.met("", "GET /_matrix/client/versions", Value::Null).await;
    assert_eq!(versions["unstable_features"].get("org.matrix.msc4306"), None);
    server.check(bob, &format!("GET {RULES}/{SUBSCRIBED}"), (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let rules = server.met(bob, "GET /pushrules/", Value::Null).await;
    assert_eq!(rules["global"].get("postcontent"), None, "{rules}");
    // Clients may take note of subscriptions all the same.
    server.check(bob, &format!("PUT {}", scene.subscription()), (json!({}), json!({}))).await;
}
