//! What users do.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, events::TimelineEventType};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Dice, Room, World, client::Client, node::quoted};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// One deed, with everything that chance decides about it.
pub(super) enum Deed {
    Say {
        body: String,
    },
    Set {
        kind: &'static str,
        content: Value,
    },
    Join {
        via: String,
    },
    Leave,
    /// `invite`, `kick`, `ban` or `unban`.
    Move {
        how: &'static str,
        whom: String,
    },
    Knock {
        via: String,
    },
    ToDevice {
        targets: Vec<(String, String)>,
    },
    LogIn {
        device: String,
    },
    Rename {
        device: String,
        name: String,
    },
    LogOut {
        device: String,
    },
    Type {
        is_typing: bool,
    },
    Read {
        n: usize,
    },
    Redact {
        n: usize,
    },
    Profile {
        name: String,
    },
    LookBack,
}

impl Dice {
    /// Something that a user may do in a room.
    pub(super) fn deed(&mut self, world: &World, (room, rooms): (&Room, &[Room]), me: &Client) -> Deed {
        let step = self.count();
        let whom = world.clients[self.below(world.clients.len())].user.to_string();
        let via = self.via(world);
        let rough = world.is_rough;
        match self.below(if rough { 34 } else { 25 }) {
            0..=6 => Deed::Say { body: format!("{step}") },
            7 => Deed::Set { kind: "m.room.topic", content: json!({ "topic": format!("{step}") }) },
            8 => Deed::Set { kind: "m.room.name", content: json!({ "name": format!("{step}") }) },
            9..=11 => Deed::Join { via },
            12..=14 => Deed::ToDevice { targets: self.targets(world) },
            15 => match self.below(4) {
                0 => Deed::LogIn { device: format!("T{}", self.below(3)) },
                1 => Deed::LogOut { device: format!("T{}", self.below(3)) },
                _ => Deed::Rename { device: me.device.clone(), name: format!("{step}") },
            },
            16 => Deed::Type { is_typing: self.below(2) == 0 },
            17 => Deed::Read { n: self.below(100) },
            18 => Deed::Profile { name: format!("{step}") },
            19 | 20 => Deed::Move { how: "invite", whom },
            21 => Deed::LookBack,
            22 => Deed::Redact { n: self.below(100) },
            23 => Deed::Knock { via },
            24..=26 => Deed::Leave,
            27 => Deed::Move { how: "kick", whom },
            28 => Deed::Move { how: "ban", whom },
            29 => Deed::Move { how: "unban", whom },
            30 => Deed::Knock { via },
            31 => Deed::Set { kind: "m.room.power_levels", content: self.power(world, room) },
            _ => Deed::Set { kind: "m.room.join_rules", content: self.join_rule(&room.version, rooms) },
        }
    }

    /// A rule of how users come into a room of a version, by what they are in one of `rooms` where that is known there.
    pub(super) fn join_rule(&mut self, version: &str, rooms: &[Room]) -> Value {
        let version: u32 = version.parse().unwrap();
        let rules = ["public", "public", "public", "invite", "knock", "restricted", "knock_restricted"];
        let known = match version {
            ..7 => 4,
            7 => 5,
            8 | 9 => 6,
            _ => 7,
        };
        let rule = rules[self.below(known)];
        match rooms.len() {
            0 => json!({ "join_rule": if rule.contains("restricted") { "public" } else { rule } }),
            count => {
                let allow = json!([{ "type": "m.room_membership", "room_id": rooms[self.below(count)].id }]);
                json!({ "join_rule": rule, "allow": allow })
            }
        }
    }

    fn via(&mut self, world: &World) -> String {
        let via = [0; 2].map(|_| format!("via={}", world.nodes[self.below(world.nodes.len())].name));
        via.join("&")
    }

    fn targets(&mut self, world: &World) -> Vec<(String, String)> {
        let count = 1 + self.below(3);
        let one = |_| {
            let client = &world.clients[self.below(world.clients.len())];
            let device = if self.below(3) == 0 { String::from("*") } else { client.device.clone() };
            (client.user.to_string(), device)
        };
        (0..count).map(one).collect()
    }

    pub(super) fn power(&mut self, world: &World, room: &Room) -> Value {
        let mut users = serde_json::Map::new();
        for client in &world.clients {
            if self.below(3) == 0 {
                users.insert(client.user.to_string(), json!(50 + self.below(2) * 50));
            }
        }
        match room.version.as_str() {
            "12" => drop(users.remove(&room.creator)),
            _ => drop(users.insert(room.creator.clone(), json!(100))),
        }
        json!({
            "users": users, "users_default": 0, "events_default": 0, "invite": 0, "redact": 50,
            "state_default": self.below(2) * 50, "ban": 50, "kick": 50,
        })
    }
}

impl World {
    /// Asks until there is an answer, as clients do with what they want to be known for sure.
    async fn insist(&self, me: &Client, request: &str, body: &Value) -> (u16, Value) {
        loop {
            if let Ok(Some((status, answer))) = timeout(PATIENCE, me.ask(request, body)).await
                && status < 500
                && status != 429
            {
                return (status, answer);
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    /// Asks once. The client may not wait for the answer.
    async fn once(&self, me: &Client, request: &str, body: Value) {
        let patience = match self.chance(1, 20) {
            true => Duration::from_millis(20),
            false => PATIENCE,
        };
        // What the rules forbid is no concern of this test.
        drop(timeout(patience, me.ask(request, &body)).await);
    }

    pub(super) async fn act(self: Arc<Self>, me: Arc<Client>, room: OwnedRoomId, deed: Deed) {
        let (id, user) = (quoted(&room), quoted(&me.user));
        match deed {
            Deed::Say { body } => self.say(&me, &room, &body).await,
            Deed::Set { kind, content } => {
                self.once(&me, &format!("PUT /rooms/{id}/state/{kind}/"), content).await;
            }
            Deed::Join { via } => self.once(&me, &format!("POST /join/{id}?{via}"), json!({})).await,
            Deed::Knock { via } => self.once(&me, &format!("POST /knock/{id}?{via}"), json!({})).await,
            Deed::Leave => self.once(&me, &format!("POST /rooms/{id}/leave"), json!({})).await,
            Deed::Move { how, whom } => {
                self.once(&me, &format!("POST /rooms/{id}/{how}"), json!({ "user_id": whom })).await;
            }
            Deed::ToDevice { targets } => self.send_to_device(&me, targets).await,
            Deed::LogIn { .. } | Deed::LogOut { .. } => self.change_devices(&me, deed).await,
            Deed::Rename { device, name } => {
                let body = json!({ "display_name": name });
                self.insist(&me, &format!("PUT /devices/{device}"), &body).await;
            }
            Deed::Type { is_typing } => {
                let body = json!({ "typing": is_typing, "timeout": 20_000 });
                self.once(&me, &format!("PUT /rooms/{id}/typing/{user}"), body).await;
            }
            Deed::Read { n } => {
                if let Some(event) = known(&me, &room, n) {
                    let path = format!("POST /rooms/{id}/receipt/m.read/{}", quoted(event));
                    self.once(&me, &path, json!({})).await;
                }
            }
            Deed::Redact { n } => {
                if let Some(event) = known(&me, &room, n)
                    && stands_redacted(&me, &event).await
                {
                    let path = format!("PUT /rooms/{id}/redact/{}/{}", quoted(event), self.txn());
                    self.once(&me, &path, json!({})).await;
                }
            }
            Deed::Profile { name } => {
                let body = json!({ "displayname": name });
                self.once(&me, &format!("PUT /profile/{user}/displayname"), body).await;
            }
            Deed::LookBack => {
                self.once(&me, &format!("GET /rooms/{id}/messages?dir=b&limit=30"), Value::Null).await;
            }
        }
    }

    /// Says something, exactly once.
    pub(super) async fn say(&self, me: &Client, room: &OwnedRoomId, body: &str) {
        let request = format!("PUT /rooms/{}/send/m.room.message/{}", quoted(room), self.txn());
        let content = json!({ "msgtype": "m.text", "body": body });
        self.insist(me, &request, &content).await;
    }

    async fn send_to_device(&self, me: &Client, targets: Vec<(String, String)>) {
        let mut sent = me.sent.lock().await;
        *sent += 1;
        let n = *sent;
        let mut messages = serde_json::Map::new();
        for (user, device) in &targets {
            let devices = messages.entry(user.clone()).or_insert_with(|| json!({}));
            // All devices or single ones: who names both would be heard twice.
            if devices.get("*").is_none() && (device != "*" || devices == &json!({})) {
                devices[device] = json!({ "from": me.device, "n": n });
            }
        }
        let mut owed = Vec::new();
        for client in &self.clients {
            let named = messages.get(client.user.as_str());
            if named.is_some_and(|named| named.get("*").is_some() || named.get(&client.device).is_some()) {
                owed.push((client.user.clone(), client.device.clone()));
            }
        }
        let request = format!("PUT /sendToDevice/m.test/{}", self.txn());
        let (status, answer) = self.insist(me, &request, &json!({ "messages": messages })).await;
        assert_eq!(status, 200, "{answer}");
        let mut ledger = self.ledger.lock();
        for target in owed {
            ledger.entry(target).or_default().push((me.user.to_string(), me.device.clone(), n));
        }
    }

    /// Logs in or out on a device that comes and goes.
    async fn change_devices(&self, me: &Client, deed: Deed) {
        let Some(alive) = me.node.alive() else { return };
        match deed {
            Deed::LogIn { device } => {
                drop(timeout(PATIENCE, super::client::log_in(&me.node, &me.user, &device)).await);
            }
            Deed::LogOut { device } => {
                let gone = [device.into()];
                drop(timeout(PATIENCE, alive.app.devices.remove(&me.user, &gone)).await);
            }
            _ => {}
        }
    }
}

/// Whether an event is still allowed by what a redaction leaves of it. In some room versions what is needed for that goes:
/// what a redaction redacts, in the first two, and by whose leave somebody has come in, in version 8. Whoever gets such an
/// event only then rejects it, by the rules.
///
/// <https://spec.matrix.org/v1.19/rooms/v9/#redactions>
async fn stands_redacted(me: &Client, event: &str) -> bool {
    let Some(alive) = me.node.alive() else { return false };
    let id = OwnedEventId::try_from(event).unwrap();
    let event = alive.app.history.event(&id).await.ok().flatten();
    event.is_some_and(|event| match event.pdu.event_type() {
        TimelineEventType::RoomRedaction => !["1", "2"].contains(&event.version.as_str()),
        TimelineEventType::RoomMember => event.version.as_str() != "8",
        _ => true,
    })
}

/// Some event that the client knows of.
fn known(me: &Client, room: &OwnedRoomId, n: usize) -> Option<String> {
    let seen = me.seen.lock();
    let timeline = &seen.rooms.get(room)?.timeline;
    timeline.get(n % timeline.len().max(1)).map(|(id, _)| id.to_string())
}
