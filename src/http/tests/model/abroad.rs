//! Users of two servers: what each of them is served of rooms that both are in, with the past from before their own
//! server came, and what the servers may read at each other's.

use std::collections::BTreeSet;

use bytes::Bytes;
use ruma::RoomVersionId;
use serde_json::{Value, json, value::RawValue};

use super::{
    asked::check_all,
    beside::children,
    ledger::Room,
    run_all,
    sight::{Look, ids, quoted},
    town::{HOMES, Town},
};
use crate::{
    dag::{Pdu, versions},
    http::Wire,
    keys::SigningKey,
    peer::{Bounds, Net, XMatrix},
};

/// Things that happen in a run.
const STEPS: usize = 120;
const BOUNDS: Bounds = Bounds::new(std::time::Duration::from_secs(5), 1 << 22);

#[test]
fn users_and_servers_abroad_see_what_they_may_and_no_more() {
    let many = run_all(async |seed| {
        let (mut town, wire) = Town::of_two(seed).await;
        for who in [0, 2, 1] {
            town.found(who).await;
        }
        let when = town.below(STEPS * 2);
        for step in 0..STEPS {
            town.deed_abroad().await;
            if step == when {
                town.erase(1).await;
                town.settle().await;
            }
        }
        for who in (0..town.people.len()).filter(|who| !town.is_gone(*who)) {
            for room in &town.rooms {
                Look::new(&town, who, room).check_abroad().await;
            }
        }
        for (asker, holder) in [(0, 1), (1, 0)] {
            for room in &town.rooms {
                Reading { wire: &wire, town: &town, room, asker, holder }.check().await;
            }
        }
        town.check_letters();
        town.asked.count();
    });
    if many {
        check_all(true);
    }
}

impl Look<'_> {
    /// What the user's own server serves of a room that it may have come to late.
    async fn check_abroad(mut self) {
        let home = HOMES[self.town.people[self.who].home];
        let stays = self.room.presence(home);
        let is_there = stays.last().is_some_and(|(_, end)| end.is_none());
        let Some(until) = self.until.filter(|_| is_there && self.room.member(self.user) == "join") else {
            // Whatever it has, it shows nothing that it must not.
            for at in 0..self.room.events.len() {
                let request = self.path(&format!("event/{}", self.room.events[at].id));
                let (_, answer) = self.ask(&request).await;
                self.check_served(&request, &answer, false);
            }
            let request = self.path("messages?dir=b&limit=100");
            let (_, answer) = self.ask(&request).await;
            self.check_served(&request, &answer, false);
            return;
        };
        // What its own server has not been there for the other one must be able to tell.
        let other = HOMES[1 - self.town.people[self.who].home];
        self.is_whole = stays == [(1, None)] || self.room.presence(other) == [(1, None)];
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let request = self.path(&format!("messages?dir=b&limit={}{from}", 3 + self.who * 4));
            let page = self.get(&request).await;
            self.check_served(&request, &page, false);
            if self.is_whole {
                page["chunk"].as_array().unwrap().iter().for_each(|event| self.check_told(event));
            }
            found.extend(ids(&page["chunk"]));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        found.reverse();
        if !self.is_whole {
            return;
        }
        let wanted = self.room.ids(self.timeline.iter().copied());
        let sorted = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(sorted(&found), sorted(&wanted), "messages: {}", self.name());
        // What a server was told of its users when it was not in the room comes before the past that it fetches.
        let came_by_invite = |id: &String| {
            let at = self.room.place(id).unwrap();
            let is_ours = self.room.events[at].key.as_ref().is_some_and(|key| key.ends_with(home));
            is_ours && !stays.iter().any(|(opened, end)| *opened <= at && end.is_none_or(|end| at <= end))
        };
        let rest = |ids: Vec<String>| ids.into_iter().filter(|id| !came_by_invite(id)).collect::<Vec<_>>();
        assert_eq!(rest(found), rest(wanted), "the order of messages: {}", self.name());
        for at in 0..self.room.events.len() {
            let request = self.path(&format!("event/{}", self.room.events[at].id));
            let (status, answer) = self.ask(&request).await;
            assert_eq!(status == 200, self.timeline.contains(&at), "{request}: {} {answer}", self.name());
            self.check_served(&request, &answer, false);
            if status == 200 {
                self.check_told(&answer);
            }
            self.check_relations(at).await;
        }
        self.check_threads().await;
        self.check_state(until).await;
    }
}

/// One server that reads of a room at the other one.
struct Reading<'a> {
    wire: &'a Wire,
    town: &'a Town,
    room: &'a Room,
    asker: usize,
    holder: usize,
}

impl Reading<'_> {
    async fn ask(&self, (request, body): (&str, &Value)) -> (u16, Value) {
        let (asker, holder) = (HOMES[self.asker], HOMES[self.holder]);
        let (method, path) = request.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/_matrix/federation/v1/{path}");
        self.town.asked.note(&format!("{method} {path}"));
        let request = http::Request::builder().method(method).uri(path).body(body).unwrap();
        let key = SigningKey::from_seed(asker.try_into().unwrap(), "1", [1; 32]).unwrap();
        let holder = holder.try_into().unwrap();
        let proof = XMatrix::sign(&request, &key, holder).unwrap();
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("authorization", proof.header());
        let request = http::Request::from_parts(parts, Bytes::from(body));
        let answer = self.wire.exchange(holder, request, BOUNDS).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    fn name(&self) -> String {
        format!("{} reads {} at {}", HOMES[self.asker], self.room.id, HOMES[self.holder])
    }

    async fn check(&self) {
        // Where the one that is asked has been from the beginning on.
        if self.room.presence(HOMES[self.holder]) != [(1, None)] {
            return;
        }
        let is_in = self.room.presence(HOMES[self.asker]).last().is_some_and(|(_, end)| end.is_none());
        let room = quoted(&self.room.id);
        self.check_tree().await;
        for at in 0..self.room.events.len() {
            let id = quoted(&self.room.events[at].id);
            let missing =
                json!({ "earliest_events": [], "latest_events": [self.room.events[at].id], "limit": 20 });
            for (request, body) in [
                (format!("GET event/{id}"), Value::Null),
                (format!("GET backfill/{room}?v={id}&limit={}", 1 + at % 40), Value::Null),
                (format!("POST get_missing_events/{room}"), missing),
                (format!("GET state/{room}?event_id={id}"), Value::Null),
                (format!("GET state_ids/{room}?event_id={id}"), Value::Null),
                (format!("GET event_auth/{room}/{id}"), Value::Null),
                (format!("GET timestamp_to_event/{room}?dir=f&ts={}", self.room.events[at].ts), Value::Null),
            ] {
                let (status, answer) = self.ask((&request, &body)).await;
                if is_in {
                    assert_eq!(status, 200, "{}: {request}: {answer}", self.name());
                    self.check_answer(at, (&request, &answer));
                } else {
                    assert!(matches!(status, 403 | 404), "{}: {request}: {status} {answer}", self.name());
                    assert!(answer["errcode"].is_string(), "{}: {request}: {answer}", self.name());
                }
            }
        }
    }

    /// A preview of a space has the rooms of which the server may know, and no others.
    async fn check_tree(&self) {
        let home = HOMES[self.asker];
        let may = |room: &Room| {
            let members = || room.with("join").into_iter().chain(room.with("invite"));
            room.is_open() || members().any(|user| user.ends_with(&format!(":{home}")))
        };
        let request = format!("GET hierarchy/{}", quoted(&self.room.id));
        let (status, answer) = self.ask((&request, &Value::Null)).await;
        assert_eq!(status, if may(self.room) { 200 } else { 404 }, "{}: {answer}", self.name());
        if status != 200 {
            return;
        }
        let told = &answer["room"];
        assert_eq!(told["room_id"], *self.room.id, "{}: {answer}", self.name());
        assert_eq!(told["num_joined_members"], self.room.joined().len(), "{}: {answer}", self.name());
        let wanted = self.room.children_of_space();
        assert_eq!(children(&told["children_state"]), wanted, "{}: {answer}", self.name());
        let room = |id: &Value| self.town.rooms.iter().find(|room| *id == *room.id).unwrap();
        for child in answer["children"].as_array().unwrap() {
            let room = room(&child["room_id"]);
            assert!(wanted.contains_key(&room.id) && may(room), "{}: {child}", self.name());
        }
        for child in answer["inaccessible_children"].as_array().into_iter().flatten() {
            assert!(!may(room(child)), "{}: {child}", self.name());
        }
    }

    fn check_answer(&self, at: usize, (request, answer): (&str, &Value)) {
        let read = |field: &str, is_whole: bool| -> Vec<usize> {
            let pdus = answer[field].as_array().into_iter().flatten();
            pdus.map(|pdu| self.check_pdu(request, pdu, is_whole)).collect()
        };
        let state = || -> BTreeSet<usize> { self.room.state_before(at).into_values().collect() };
        let verb = request.split([' ', '/']).nth(1).unwrap();
        match verb {
            "event" => {
                let is_current =
                    self.room.state_before(self.room.events.len()).values().any(|now| *now == at);
                assert_eq!(read("pdus", is_current), [at], "{}: {request}", self.name());
            }
            "backfill" => {
                let limit = 1 + at % 40;
                let wanted: Vec<usize> = (0..=at).rev().take(limit).collect();
                assert_eq!(read("pdus", false), wanted, "{}: {request}", self.name());
            }
            "get_missing_events" => {
                let wanted: Vec<usize> = (at.saturating_sub(20)..at).collect();
                assert_eq!(read("events", false), wanted, "{}: {request}", self.name());
            }
            "state" => {
                let found: BTreeSet<usize> = read("pdus", true).into_iter().collect();
                assert_eq!(found, state(), "{}: {request}", self.name());
                read("auth_chain", true);
            }
            "state_ids" => {
                let ids = answer["pdu_ids"].as_array().unwrap().iter();
                let found: BTreeSet<usize> =
                    ids.map(|id| self.room.place(id.as_str().unwrap()).unwrap()).collect();
                assert_eq!(found, state(), "{}: {request}", self.name());
            }
            "timestamp_to_event" => {
                let found = self.room.place(answer["event_id"].as_str().unwrap()).unwrap();
                assert_eq!(self.room.events[found].ts, self.room.events[at].ts, "{}: {request}", self.name());
            }
            _ => {
                let chain = read("auth_chain", true);
                assert!(chain.iter().all(|other| *other < at), "{}: {request}: {chain:?}", self.name());
            }
        }
    }

    /// Which event it is. It must be shown as far as the server may see it; parts of states whole (`is_whole`).
    fn check_pdu(&self, request: &str, pdu: &Value, is_whole: bool) -> usize {
        let version = self.room.events[0].content["room_version"].as_str().unwrap();
        let rules = versions::rules(&RoomVersionId::try_from(version).unwrap()).unwrap();
        let text = RawValue::from_string(pdu.to_string()).unwrap();
        let parsed = Pdu::parse(text.get(), rules).unwrap();
        let at = self.room.place(parsed.event_id().as_str()).unwrap_or_else(|| panic!("{request}: {pdu}"));
        let (known, mut content) = (&self.room.events[at], pdu["content"].clone());
        if let Some(redacts) = pdu["redacts"].as_str() {
            content["redacts"] = redacts.into();
        }
        let asker = HOMES[self.asker];
        let came_late = self.room.is_kept_from_server(asker, at);
        let context = || format!("{}: {request}: {pdu}", self.name());
        assert!(pdu.get("unsigned").is_none_or(|unsigned| unsigned == &json!({})), "{}", context());
        if is_whole && known.key.is_some() {
            assert!(known.redacted.is_some() || content == known.content, "{}", context());
        } else if known.redacted.is_some() || came_late || !self.room.server_sees(asker, at) {
            assert!(known.is_bare(&content), "{}", context());
        } else {
            assert_eq!(content, known.content, "{}", context());
        }
        at
    }
}
