//! Healing, and waiting until nothing moves any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{Room, World, client::Client, node::quoted};
use crate::types::Membership;

/// Nothing takes longer than this once the network is whole: the longest pause of a courier, and some.
const REST_MAX: Duration = Duration::from_secs(3 * 3_600);
/// After so long without a word between the servers, nobody has anything to say.
const QUIET: Duration = Duration::from_secs(100);
/// How often everybody says something at least.
const ROUNDS: usize = 3;
/// And at most.
const ROUNDS_MAX: usize = 8;

impl World {
    /// Lets everything arrive, and everybody who is in a room say something, so that everybody hears of
    /// everything.
    pub(super) async fn heal(self: &Arc<Self>, rooms: &[Room]) {
        self.sea.calm();
        for number in 0..self.nodes.len() {
            self.revive(number).await;
        }
        // What comes now, clients get at the end.
        self.stopping.cancel();
        self.rest().await;
        for round in 0..ROUNDS_MAX {
            // At first some may believe in others who have long left.
            if round > 0 {
                self.all_came_in(rooms).await;
                self.rest().await;
            }
            for room in rooms {
                // What one user does, others may not be shown; what follows it by another is.
                for client in self.inside(room, round >= ROUNDS).await {
                    self.say(&client, &room.id, &format!("still here {round}")).await;
                    self.rest().await;
                }
            }
            // What somebody had waited for may have come after their last word.
            if round + 1 >= ROUNDS && self.is_settled(rooms).await && self.all_came_in(rooms).await {
                break;
            }
        }
        for room in rooms {
            for client in self.inside(room, false).await {
                self.look_back(&client, room).await;
            }
        }
        self.followers.close();
        timeout(REST_MAX, self.followers.wait()).await.expect("the clients stop");
        for client in &self.clients {
            self.settle(client).await;
        }
    }

    /// Whether the last word follows everything, at all who believe in one another.
    async fn is_settled(&self, rooms: &[Room]) -> bool {
        for room in rooms {
            let mut inside = Vec::new();
            for node in &self.nodes {
                let is_here = node.app().rooms.is_here(&room.id).await.unwrap();
                if !is_here || self.is_stuck(&room.id, node).await {
                    continue;
                }
                if node.app().history.is_partial(&room.id).await.unwrap() {
                    return false;
                }
                inside.push(node.clone());
            }
            for party in self.parties(&room.id, &inside).await {
                let heads = party[0].heads(&room.id).await;
                for node in &party {
                    if heads.len() > 1 || node.heads(&room.id).await != heads {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Waits until nothing moves any more.
    async fn rest(&self) {
        let begun = Instant::now();
        loop {
            sleep(Duration::from_secs(10)).await;
            assert!(!self.is_broken.load(Ordering::SeqCst), "a client or a user has panicked");
            let mut troubled = Vec::new();
            for node in &self.nodes {
                troubled.extend(node.app().couriers.troubled().await.unwrap());
            }
            if self.deeds.is_empty() && troubled.is_empty() && self.sea.quiet() > QUIET {
                return;
            }
            assert!(
                begun.elapsed() < REST_MAX,
                "the servers never come to rest: {} deeds, {troubled:?}, quiet for {:?}",
                self.deeds.len(),
                self.sea.quiet()
            );
        }
    }

    /// As [`Self::come_in`], for every room.
    async fn all_came_in(&self, rooms: &[Room]) -> bool {
        let mut is_done = true;
        for room in rooms {
            is_done &= self.come_in(room).await;
        }
        is_done
    }

    /// Whoever asked to come in and never heard the answer asks again: the other servers may have let them in. Whether
    /// nobody has to ask once more.
    async fn come_in(&self, room: &Room) -> bool {
        let mut is_done = true;
        let join_rules = (String::from("m.room.join_rules"), String::new());
        for client in &self.clients {
            // Where others of the server are in the room, it decides by what it knows of it.
            if client.node.app().rooms.is_here(&room.id).await.unwrap() {
                continue;
            }
            for node in &self.nodes {
                let app = node.app();
                if node.name == client.node.name || !app.rooms.is_here(&room.id).await.unwrap() {
                    continue;
                }
                // Whoever does not know who is in the room lets nobody in, and may come to know it.
                if app.history.is_partial(&room.id).await.unwrap() {
                    is_done &= self.is_stuck(&room.id, node).await;
                    continue;
                }
                // Before version 12 all of them can be in conflict, and none stand; nobody is let in then.
                if !node.state(&room.id).await.contains_key(&join_rules) {
                    continue;
                }
                let seen = app.history.membership(&room.id, &client.user).await.unwrap();
                if seen == Some(Membership::Join) {
                    is_done = false;
                    let path = format!("POST /join/{}?via={}", quoted(&room.id), node.name);
                    let (status, answer) = client.ask(&path, &json!({})).await.unwrap();
                    assert_eq!(status, 200, "{} is in {} already: {answer}", client.user, room.id);
                    break;
                }
            }
        }
        is_done
    }

    /// Pages back to the beginning of the room, which has servers get what they lack.
    async fn look_back(&self, client: &Client, room: &Room) {
        let path = format!("GET /rooms/{}/messages?dir=b&limit=50", quoted(&room.id));
        let mut from = String::new();
        for _ in 0..100 {
            let (status, answer) = client.ask(&format!("{path}{from}"), &Value::Null).await.unwrap();
            assert_eq!(status, 200, "{answer}");
            match answer["end"].as_str() {
                Some(end) => from = format!("&from={}", quoted(end)),
                None => return,
            }
        }
        panic!("{} never comes to the beginning of {}", client.user, room.id);
    }

    /// A client of each server that is in the room, or of each user.
    async fn inside(&self, room: &Room, of_each_user: bool) -> Vec<Arc<Client>> {
        let mut inside: Vec<Arc<Client>> = Vec::new();
        for client in &self.clients {
            let is_joined = client.node.app().history.is_joined(&room.id, &client.user).await.unwrap();
            let is_other = |other: &Arc<Client>| match of_each_user {
                true => other.user != client.user,
                false => other.node.name != client.node.name,
            };
            if is_joined && inside.iter().all(is_other) {
                inside.push(client.clone());
            }
        }
        inside
    }

    /// Polls until there is no news.
    async fn settle(&self, client: &Client) {
        for _ in 0..1_000 {
            let has_news = client.poll(0, false).await;
            let is_fresh = client.refresh().await;
            if has_news == Some(false) && is_fresh {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("there is always news for {} of {}", client.device, client.user);
    }
}
