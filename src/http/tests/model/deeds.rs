//! What users do.

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;
use ruma::UserId;
use serde_json::{Value, json};

use super::{faces::FIELDS, town::Town};

const VISIBILITIES: [&str; 4] = ["world_readable", "shared", "invited", "joined"];

/// How names begin that somebody has in one room.
const NAME: &str = "called ";

/// Whether a name is one that somebody has in one room only.
pub(super) fn is_of_room(name: &str) -> bool {
    name.starts_with(NAME)
}

impl Town {
    /// Somebody founds a room.
    pub(super) async fn found(&mut self, who: usize) {
        self.tick();
        let preset = if self.chance(2, 3) { "public_chat" } else { "private_chat" };
        let version = *["8", "10", "11", "12", "12", "12"].choose(&mut self.rng).unwrap();
        let mut users = serde_json::Map::new();
        if version != "12" {
            users.insert(self.people[who].id.clone(), 100.into());
        }
        for other in 0..self.people.len() {
            if other != who && self.chance(1, 3) {
                let level = if self.chance(1, 2) { 50 } else { 60 };
                users.insert(self.people[other].id.clone(), level.into());
            }
        }
        let state_default = self.below(2) * 50;
        let mut body = json!({
            "preset": preset,
            "room_version": version,
            "power_level_content_override": { "invite": 0, "state_default": state_default, "users": users,
                "events": { "m.room.history_visibility": 0, "m.room.power_levels": 100 } },
        });
        if self.chance(1, 3) {
            body["name"] = format!("name {}", self.txn()).into();
        }
        let mut initial = Vec::new();
        if self.chance(1, 2) {
            let setting = *VISIBILITIES.choose(&mut self.rng).unwrap();
            let content = json!({ "history_visibility": setting });
            initial.push(json!({ "type": "m.room.history_visibility", "content": content }));
        }
        if self.chance(1, 4) {
            initial.push(json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }));
        }
        body["initial_state"] = initial.into();
        if self.chance(1, 3) {
            body["creation_content"] = json!({ "type": "m.space" });
        }
        let (status, answer) = self.ask(who, "POST /createRoom", body).await;
        assert_eq!(status, 200, "{answer}");
        self.add_room(answer["room_id"].as_str().unwrap()).await;
    }

    /// Something happens. With `restless`, more often that somebody comes or goes.
    pub(super) async fn deed(&mut self, restless: bool) {
        self.tick();
        let (who, room) = (self.somebody(), self.below(self.rooms.len()));
        let bound = if restless { 40 } else { 60 };
        match self.below(bound) {
            0..=7 => self.move_about(who, room).await,
            8..=9 => self.set_visibility(who, room).await,
            10..=11 => self.set_something(who, room).await,
            12..=13 => self.redact(who, room).await,
            14..=17 => self.read(who, room).await,
            18 => self.type_on(who, room).await,
            19..=20 => self.set_data(who, room).await,
            21 => self.send_to_device(who).await,
            22 if self.chance(1, 3) => self.ignore(who).await,
            22 => self.mute(who, room).await,
            23 => self.change_device(who).await,
            24 => self.mark(who, room).await,
            25..=27 => self.react(who, room).await,
            28..=30 => self.change_profile(who).await,
            _ => self.say(who, room).await,
        }
    }

    /// Something happens in a room that may go over two servers.
    pub(super) async fn deed_abroad(&mut self) {
        self.tick();
        let (who, room) = (self.somebody(), self.below(self.rooms.len()));
        match self.below(26) {
            0..=7 => self.move_about(who, room).await,
            8..=9 => self.set_visibility(who, room).await,
            10..=11 => self.set_something(who, room).await,
            12..=13 => self.redact(who, room).await,
            14 => self.react(who, room).await,
            15 => self.look_back(who, room).await,
            _ => self.say(who, room).await,
        }
    }

    /// Somebody looks a little way back, which may have their server fetch what it has not been there for.
    async fn look_back(&mut self, who: usize, room: usize) {
        let (limit, id) = (1 + self.below(30), &self.rooms[room].id);
        let (status, answer) =
            self.ask(who, &format!("GET /rooms/{id}/messages?dir=b&limit={limit}"), Value::Null).await;
        assert!(status == 200 || status == 403, "{status} {answer}");
    }

    /// Somebody ends their account, and wants to be forgotten; unless they are the last in a room.
    pub(super) async fn erase(&mut self, who: usize) {
        let user = UserId::parse(&*self.people[who].id).unwrap();
        if self.rooms.iter().any(|room| room.joined() == BTreeSet::from([user.as_str()])) {
            return;
        }
        self.server.app().purge.end_account(&user, true).await.unwrap();
        for room in 0..self.rooms.len() {
            self.note(room).await;
            let room = &mut self.rooms[room];
            room.erased.insert(user.to_string(), room.events.len());
        }
    }

    /// Asks for something that makes at most one event in a room, and writes it down.
    async fn act(&mut self, who: usize, room: usize, (request, body): (&str, Value)) {
        let (status, answer) = self.ask(who, request, body).await;
        let new = self.note(room).await;
        assert!(new <= usize::from(status == 200), "{request}: {status} {answer} made {new} events");
    }

    async fn move_about(&mut self, who: usize, room: usize) {
        let whom = self.below(self.people.len());
        let id = self.rooms[room].id.clone();
        let target = json!({ "user_id": self.people[whom].id });
        let via = if self.abroad.is_some() { "?via=a.org&via=b.org" } else { "" };
        let membership = String::from(self.rooms[room].member(&self.people[who].id));
        let is_in = membership == "join";
        let path = |verb: &str| format!("POST /rooms/{id}/{verb}");
        // In a room that nobody is in, an invite is rejected without an event.
        let is_last = is_in && self.rooms[room].joined().len() == 1;
        let (verb, body) = match self.below(8) {
            0 | 3..=5 if is_last => return,
            0 | 1 if membership == "leave" && self.chance(1, 2) => {
                self.act(who, room, (&format!("POST /knock/{id}{via}"), json!({}))).await;
                return;
            }
            number if !is_in && (number < 3 || (membership != "leave" && self.chance(1, 2))) => {
                self.act(who, room, (&format!("POST /join/{id}{via}"), json!({}))).await;
                return;
            }
            3 | 0 => ("leave", json!({})),
            1 | 2 => ("invite", target),
            4 => ("kick", target),
            5 => ("ban", target),
            6 => ("unban", target),
            _ => {
                if self.ask(who, &path("forget"), json!({})).await.0 == 200 {
                    self.forgotten.insert((self.people[who].id.clone(), id));
                }
                return;
            }
        };
        self.act(who, room, (&path(verb), body)).await;
    }

    async fn set_visibility(&mut self, who: usize, room: usize) {
        let setting = *VISIBILITIES.choose(&mut self.rng).unwrap();
        let request = format!("PUT /rooms/{}/state/m.room.history_visibility/", self.rooms[room].id);
        self.act(who, room, (&request, json!({ "history_visibility": setting }))).await;
    }

    async fn set_something(&mut self, who: usize, room: usize) {
        let number = self.txn();
        let user = self.people[who].id.clone();
        let (kind, key, content) = match self.below(6) {
            0 => ("m.room.name", String::new(), json!({ "name": format!("name {number}") })),
            1 => ("m.room.topic", String::new(), json!({ "topic": format!("topic {number}") })),
            2 => {
                let child = self.below(self.rooms.len());
                let content =
                    if number.is_multiple_of(4) { json!({}) } else { json!({ "via": ["localhost"] }) };
                ("m.space.child", self.rooms[child].id.clone(), content)
            }
            3 | 4 if self.rooms[room].member(&user) == "join" => {
                let content = json!({ "membership": "join", "displayname": format!("{NAME}{number}") });
                ("m.room.member", user, content)
            }
            _ => ("m.test", String::new(), json!({ "n": number })),
        };
        let request = format!("PUT /rooms/{}/state/{kind}/{key}", self.rooms[room].id);
        self.act(who, room, (&request, content)).await;
    }

    /// An event that somebody may relate to, which they see, has not been redacted, and is not itself an
    /// edit or the like.
    fn target(&mut self, who: usize, room: usize) -> Option<usize> {
        let (user, here) = (&self.people[who].id, &self.rooms[room]);
        let fits = |at: &usize| {
            let event = &here.events[*at];
            let is_plain = event.relation().is_none_or(|(how, _)| how == "m.thread");
            event.kind == "m.room.message" && event.redacted.is_none() && is_plain && here.sees(user, *at)
        };
        let all: Vec<usize> = (0..here.events.len()).filter(fits).collect();
        all[all.len().saturating_sub(8)..].choose(&mut self.rng).copied()
    }

    async fn say(&mut self, who: usize, room: usize) {
        let number = self.txn();
        let mut content = json!({ "msgtype": "m.text", "body": format!("word w{number}") });
        if self.chance(1, 12) {
            content["msgtype"] = "m.notice".into();
        }
        match self.below(8) {
            0 => {
                let whom = self.below(self.people.len());
                content["m.mentions"] = json!({ "user_ids": [self.people[whom].id] });
            }
            1 => content["m.mentions"] = json!({ "room": true }),
            _ => {}
        }
        let target = self.target(who, room);
        match (target, self.below(8)) {
            (Some(at), 0..=2) => {
                let here = &self.rooms[room];
                let root = here.thread_of(at).unwrap_or(at);
                let root = &here.events[root].id;
                content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
            }
            (Some(at), 3) => {
                let id = &self.rooms[room].events[at].id;
                if !number.is_multiple_of(4) {
                    content["m.new_content"] =
                        json!({ "msgtype": "m.text", "body": format!("new w{number}") });
                }
                content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": id });
            }
            (Some(at), 4) => {
                let id = &self.rooms[room].events[at].id;
                content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": id } });
            }
            (Some(at), 5) if number.is_multiple_of(3) => {
                let id = &self.rooms[room].events[at].id;
                content["m.relates_to"] = json!({ "rel_type": "m.reference", "event_id": id });
            }
            _ => {}
        }
        let query = if self.chance(1, 12) { "?org.matrix.msc4354.sticky_duration_ms=3600000" } else { "" };
        let request = format!("PUT /rooms/{}/send/m.room.message/{number}{query}", self.rooms[room].id);
        self.act(who, room, (&request, content)).await;
    }

    async fn react(&mut self, who: usize, room: usize) {
        let Some(at) = self.target(who, room) else { return };
        let number = self.txn();
        let id = &self.rooms[room].events[at].id;
        let relation = json!({ "rel_type": "m.annotation", "event_id": id, "key": number.to_string() });
        let request = format!("PUT /rooms/{}/send/m.reaction/{number}", self.rooms[room].id);
        self.act(who, room, (&request, json!({ "m.relates_to": relation }))).await;
    }

    /// Redacts something to which nothing relates.
    async fn redact(&mut self, who: usize, room: usize) {
        let here = &self.rooms[room];
        let fits = |at: &usize| {
            let event = &here.events[*at];
            let is_said = matches!(&*event.kind, "m.room.message" | "m.reaction" | "m.room.topic");
            let is_related_to = here
                .events
                .iter()
                .any(|other| other.relation().is_some_and(|(_, target)| target == event.id));
            is_said && event.redacted.is_none() && !is_related_to
        };
        let all: Vec<usize> = (0..here.events.len()).filter(fits).collect();
        let Some(at) = all[all.len().saturating_sub(10)..].choose(&mut self.rng).copied() else { return };
        let (number, id) = (self.txn(), &self.rooms[room].events[at].id);
        let request = format!("PUT /rooms/{}/redact/{id}/{number}", self.rooms[room].id);
        self.act(who, room, (&request, json!({ "reason": "because" }))).await;
    }

    async fn read(&mut self, who: usize, room: usize) {
        let user = self.people[who].id.clone();
        let here = &self.rooms[room];
        if here.member(&user) != "join" {
            return;
        }
        let len = here.events.len();
        let at = len - 1 - self.below(len.min(12));
        let here = &self.rooms[room];
        let thread = match (here.thread_of(at), at % 3) {
            _ if here.events[at].redacted.is_some() => None,
            (_, 0) => None,
            (Some(root), _) => Some(here.events[root].id.clone()),
            (None, _) => Some(String::from("main")),
        };
        let is_private = self.chance(1, 3);
        let here = &mut self.rooms[room];
        let kind = if is_private { "m.read.private" } else { "m.read" };
        let request = format!("POST /rooms/{}/receipt/{kind}/{}", here.id, here.events[at].id);
        let body = thread.as_ref().map_or(json!({}), |thread| json!({ "thread_id": thread }));
        let (status, answer) = self.ask(who, &request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
        self.note_receipt(room, (user, is_private, thread.unwrap_or_default()), at);
    }

    fn note_receipt(&mut self, room: usize, of: (String, bool, String), at: usize) {
        let place = self.rooms[room].receipts.entry(of).or_insert(at);
        *place = at.max(*place);
    }

    /// Sets the marker of what was read, and receipts with it.
    async fn mark(&mut self, who: usize, room: usize) {
        let user = self.people[who].id.clone();
        let here = &self.rooms[room];
        if here.member(&user) != "join" {
            return;
        }
        let len = here.events.len();
        let (first, second, may_go_back) = (self.below(len), self.below(len), self.chance(1, 3));
        let here = &self.rooms[room];
        let (id, first_id, second_id) = (&here.id, &here.events[first].id, &here.events[second].id);
        let body = json!({
            "m.fully_read": first_id, "m.read": first_id, "m.read.private": second_id,
            "com.beeper.allow_backward": may_go_back,
        });
        let request = format!("POST /rooms/{id}/read_markers");
        let (status, answer) = self.ask(who, &request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
        let data = (user.clone(), id.clone(), String::from("m.fully_read"));
        let content = json!({ "event_id": first_id });
        let stands = self.data.get(&data).and_then(|content| here.place(content["event_id"].as_str()?));
        if may_go_back || stands.is_none_or(|stands| stands < first) {
            self.data.insert(data, content);
        }
        self.note_receipt(room, (user.clone(), false, String::new()), first);
        self.note_receipt(room, (user, true, String::new()), second);
    }

    async fn type_on(&mut self, who: usize, room: usize) {
        let (user, types) = (self.people[who].id.clone(), self.chance(2, 3));
        let request = format!("PUT /rooms/{}/typing/{user}", self.rooms[room].id);
        let body = json!({ "typing": types, "timeout": 100_000 });
        if self.ask(who, &request, body).await.0 == 200 {
            let typing = &mut self.rooms[room].typing;
            if types {
                typing.insert(user)
            } else {
                typing.remove(&user)
            };
        }
    }

    async fn set_data(&mut self, who: usize, room: usize) {
        let (user, number) = (self.people[who].id.clone(), self.txn());
        let room = self.rooms[room].id.clone();
        let content = json!({ "n": number });
        let (place, request, content) = match self.below(4) {
            0 => ((String::new(), "m.x"), format!("PUT /user/{user}/account_data/m.x"), content),
            1 => {
                let request = format!("PUT /user/{user}/rooms/{room}/account_data/m.x");
                ((room, "m.x"), request, content)
            }
            2 => {
                let tag = number % 2;
                let request = format!("PUT /user/{user}/rooms/{room}/tags/u.{tag}");
                let old = (user.clone(), room.clone(), String::from("m.tag"));
                let mut tags = self.data.get(&old).cloned().unwrap_or(json!({ "tags": {} }));
                tags["tags"][format!("u.{tag}")] = json!({ "order": 0.5 });
                let (status, answer) = self.ask(who, &request, json!({ "order": 0.5 })).await;
                assert_eq!(status, 200, "{request}: {answer}");
                self.data.insert(old, tags);
                return;
            }
            _ => {
                let rooms: Vec<String> = self.rooms.iter().map(|room| room.id.clone()).collect();
                let direct: Vec<String> = rooms.into_iter().filter(|_| self.chance(1, 3)).collect();
                let request = format!("PUT /user/{user}/account_data/m.direct");
                ((String::new(), "m.direct"), request, json!({ "@x:localhost": direct }))
            }
        };
        let (status, answer) = self.ask(who, &request, content.clone()).await;
        assert_eq!(status, 200, "{request}: {answer}");
        self.data.insert((user, place.0, String::from(place.1)), content);
    }

    /// Sets a field of a profile, removes it, or sets two at once.
    async fn change_profile(&mut self, who: usize) {
        let (user, number) = (self.people[who].id.clone(), self.txn());
        let name = FIELDS[self.below(FIELDS.len())];
        let field = json!({ name: number });
        let path = format!("/profile/{user}");
        let profile = self.profiles.entry(user).or_default();
        let (request, body) = match number % 4 {
            0 => {
                profile.remove(name);
                (format!("DELETE {path}/{name}"), Value::Null)
            }
            1 => {
                let both = FIELDS.map(|name| (name.to_owned(), Value::from(number)));
                profile.extend(both.clone());
                (format!("PATCH {path}"), Value::from_iter(both))
            }
            _ => {
                profile.insert(name.to_owned(), number.into());
                (format!("PUT {path}/{name}"), field)
            }
        };
        let (status, answer) = self.ask(who, &request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
    }

    /// Sends to one device, or to all of somebody.
    async fn send_to_device(&mut self, who: usize) {
        let number = self.txn();
        let whom = &self.people[(who + 1 + number as usize % 3) % self.people.len()];
        let devices: Vec<String> = whom.devices.iter().map(|(device, _)| device.clone()).collect();
        let user = whom.id.clone();
        let to_all = number.is_multiple_of(2);
        let device = if to_all { "*" } else { &devices[0] };
        let body = json!({ "messages": { &user: { device: { "n": number } } } });
        let request = format!("PUT /sendToDevice/m.test/{number}");
        let (status, answer) = self.ask(who, &request, body).await;
        assert_eq!(status, 200, "{answer}");
        for device in &devices[..if to_all { devices.len() } else { 1 }] {
            self.inbox.entry((user.clone(), device.clone())).or_default().push(number);
        }
    }

    async fn ignore(&mut self, who: usize) {
        let user = self.people[who].id.clone();
        let mut ignored = self.ignored_by(&user);
        let whom = (who + 1 + self.below(3)) % self.people.len();
        let whom = self.people[whom].id.clone();
        if !ignored.remove(&whom) {
            ignored.insert(whom);
        }
        let map: serde_json::Map<String, Value> =
            ignored.iter().map(|user| (user.clone(), json!({}))).collect();
        let request = format!("PUT /user/{user}/account_data/m.ignored_user_list");
        let (status, answer) = self.ask(who, &request, json!({ "ignored_users": map })).await;
        assert_eq!(status, 200, "{answer}");
        self.ignored.insert(user, ignored);
    }

    /// Mutes a room, or has it loud again.
    async fn mute(&mut self, who: usize, room: usize) {
        let (user, here) = (self.people[who].id.clone(), &mut self.rooms[room]);
        let is_muted = here.muted.remove(&user);
        if !is_muted {
            here.muted.insert(user);
        }
        let verb = if is_muted { "DELETE" } else { "PUT" };
        let request = format!("{verb} /pushrules/global/room/{}", here.id);
        let (status, answer) = self.ask(who, &request, json!({ "actions": [] })).await;
        assert_eq!(status, 200, "{request}: {answer}");
    }

    async fn change_device(&mut self, who: usize) {
        let number = self.txn();
        let (device, user) = (&self.people[who].devices[0].0, self.people[who].id.clone());
        let request = format!("PUT /devices/{device}");
        let body = json!({ "display_name": format!("phone {number}") });
        let (status, answer) = self.ask(who, &request, body).await;
        assert_eq!(status, 200, "{answer}");
        *self.versions.entry(user).or_default() += 1;
    }
}
