//! Two servers that know of one another, with a user on each, and waiting for what reaches them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    Outcome,
    matrix::Client,
    server::{Kind, Server},
    tls::Authority,
};

/// How long anything may take to get from one server to the other.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long one poll lasts.
const POLL_MS: u32 = 5_000;

/// Two servers.
pub struct World {
    /// Signs the certificates of both.
    pub authority: Authority,
    /// The first server.
    pub here: Server,
    /// The second one.
    pub there: Server,
}

impl World {
    /// Starts both.
    pub async fn start(here: Kind, there: Kind) -> Outcome<Self> {
        let authority = Authority::new()?;
        let here = Server::start_federated(here, &authority).await?;
        let there = Server::start_federated(there, &authority).await?;
        Ok(Self { authority, here, there })
    }

    /// A new user on each server.
    pub async fn people(&self, scene: &str) -> Outcome<(Person, Person)> {
        let alice = Person::register(&self.here, &format!("alice_{scene}")).await?;
        let bob = Person::register(&self.there, &format!("bob_{scene}")).await?;
        Ok((alice, bob))
    }
}

/// A user with a device that syncs.
pub struct Person {
    /// Talks to the server.
    pub client: Client,
    since: String,
    /// Every sync's answer since the last [`Person::forget`], oldest first.
    seen: Vec<Value>,
}

impl Person {
    async fn register(server: &Server, name: &str) -> Outcome<Self> {
        let client = Client::anonymous(&server.url())?.register(name).await?;
        Ok(Self { client, since: String::new(), seen: Vec::new() })
    }

    /// The user id.
    pub fn id(&self) -> String {
        self.client.user_id.clone()
    }

    /// Forgets what has been seen, so that only news is looked at.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Syncs until something that has come answers `wanted`.
    pub async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> Outcome<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.seen.iter().find_map(&wanted) {
                return Ok(found);
            }
            self.sync(what, begun).await?;
        }
    }

    /// Syncs once, unless too long has passed since `begun`.
    async fn sync(&mut self, what: &str, begun: Instant) -> Outcome<()> {
        let left = DEADLINE.saturating_sub(begun.elapsed());
        let Ok(synced) = timeout(left, self.client.sync(&self.since, POLL_MS)).await else {
            let seen = serde_json::to_string_pretty(&self.seen)?;
            return Err(format!("{} never saw {what}; only {seen}", self.id()).into());
        };
        let synced = synced?;
        self.since = synced["next_batch"].as_str().ok_or("a sync without next_batch")?.to_owned();
        self.seen.push(synced);
        Ok(())
    }

    /// Waits until the state of `room` has the membership of a user, whether or not a sync tells it.
    pub async fn finds_member(&mut self, room: &str, user: &str, membership: &str) -> Outcome<()> {
        let begun = Instant::now();
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{user}");
        loop {
            let found = self.client.ask(Method::GET, &path, None).await?;
            if found.json()["membership"] == membership {
                return Ok(());
            }
            self.sync(&format!("{user} {membership}"), begun).await?;
        }
    }

    /// Waits for an invitation to `room`.
    pub async fn invited(&mut self, room: &str) -> Outcome<Value> {
        self.until("an invitation", |sync| sync["rooms"]["invite"].get(room).cloned()).await
    }

    /// Waits for an event in the timeline or state of `room`.
    pub async fn event(&mut self, room: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Outcome<Value> {
        self.until(what, |sync| {
            ["join", "leave"].iter().find_map(|section| {
                let room = &sync["rooms"][section][room];
                let events = ["timeline", "state"].iter().flat_map(|part| list(&room[part]["events"]));
                events.into_iter().find(|event| is_it(event)).cloned()
            })
        })
        .await
    }

    /// Waits for a message.
    pub async fn hears(&mut self, room: &str, body: &str) -> Outcome<Value> {
        self.event(room, &format!("\"{body}\""), |event| event["content"]["body"] == body).await
    }

    /// Waits for the membership of a user in `room`.
    pub async fn sees_member(&mut self, room: &str, user: &str, membership: &str) -> Outcome<Value> {
        self.event(room, &format!("{user} {membership}"), |event| {
            event["type"] == "m.room.member"
                && event["state_key"] == user
                && event["content"]["membership"] == membership
        })
        .await
    }

    /// Waits for an ephemeral event of `room`.
    pub async fn ephemeral(
        &mut self,
        room: &str,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Outcome<Value> {
        self.until(what, |sync| {
            let events = list(&sync["rooms"]["join"][room]["ephemeral"]["events"]);
            events.iter().find(|event| is_it(event)).cloned()
        })
        .await
    }

    /// Waits for a to-device message of a type.
    pub async fn to_device(&mut self, event_type: &str) -> Outcome<Value> {
        self.until(event_type, |sync| {
            list(&sync["to_device"]["events"]).iter().find(|event| event["type"] == event_type).cloned()
        })
        .await
    }

    /// Joins a room through a server.
    pub async fn join_via(&self, room: &str, via: &str) -> Outcome<()> {
        let path = format!("/_matrix/client/v3/join/{room}?server_name={via}&via={via}");
        self.client.post(&path, &json!({})).await.map(drop)
    }

    /// Does something to a member of a room: `invite`, `kick`, `ban` …
    pub async fn act(&self, room: &str, action: &str, user: &str) -> Outcome<()> {
        let path = format!("/_matrix/client/v3/rooms/{room}/{action}");
        self.client.post(&path, &json!({ "user_id": user })).await.map(drop)
    }

    /// Sets a state event.
    pub async fn set_state(&self, room: &str, event_type: &str, key: &str, content: &Value) -> Outcome<()> {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{event_type}/{key}");
        self.client.put(&path, content).await.map(drop)
    }

    /// Reads the content of a state event.
    pub async fn state(&self, room: &str, event_type: &str, key: &str) -> Outcome<Value> {
        self.client.get(&format!("/_matrix/client/v3/rooms/{room}/state/{event_type}/{key}")).await
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
