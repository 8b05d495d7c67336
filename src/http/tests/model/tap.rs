//! What two servers say to each other of themselves, and whether they may.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{RoomVersionId, ServerName};
use serde_json::Value;

use super::{beside::TELLING, ledger::Room, town::Town};
use crate::{
    dag::{Pdu, versions},
    http::Wire,
    peer::{Bounds, Net, NetError},
    store::BoxFuture,
};

/// One request and its answer.
struct Letter {
    to: String,
    /// Method and path.
    request: String,
    said: Value,
    answer: Value,
}

/// All that was said.
#[derive(Clone, Default)]
pub(super) struct Tap(Arc<Mutex<Vec<Letter>>>);

impl Tap {
    /// The wire, with somebody who listens.
    pub(super) fn on(&self, wire: &Wire) -> Arc<dyn Net> {
        Arc::new(Tapped { wire: wire.clone(), tap: self.clone() })
    }
}

struct Tapped {
    wire: Wire,
    tap: Tap,
}

impl Net for Tapped {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let read = |body: &Bytes| serde_json::from_slice(body).unwrap_or_default();
            let (name, said) =
                (format!("{} {}", request.method(), request.uri().path()), read(request.body()));
            let answer = self.wire.exchange(server, request, bounds).await?;
            let letter = Letter { to: server.to_string(), request: name, said, answer: read(answer.body()) };
            self.tap.0.lock().push(letter);
            Ok(answer)
        })
    }
}

impl Town {
    /// Whatever the servers have told each other was for the other one: what couriers bring, and what comes with
    /// joins, knocks and invites.
    pub(super) fn check_letters(&self) {
        for letter in self.tap.0.lock().iter() {
            self.asked.note(&letter.request);
            let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
            match letter.request.split('/').nth(4).unwrap_or_default() {
                "send" => all(&letter.said["pdus"]).iter().for_each(|pdu| self.check_sent(letter, pdu)),
                "send_join" => {
                    for pdu in all(&letter.answer["state"]).iter().chain(&all(&letter.answer["auth_chain"])) {
                        assert!(pdu["state_key"].is_string(), "{}: {pdu}", letter.request);
                    }
                }
                "send_knock" => check_telling(letter, &all(&letter.answer["knock_room_state"])),
                "invite" => check_telling(letter, &all(&letter.said["invite_room_state"])),
                _ => {}
            }
        }
    }

    /// An event goes to a server that is in the room then, or whose user it concerns, and as it was said.
    fn check_sent(&self, letter: &Letter, pdu: &Value) {
        let place = |room: &Room| room.place(id(room, pdu)?.as_str());
        let found = self.rooms.iter().find_map(|room| Some((room, place(room)?)));
        // What its own server has taken back is in no list.
        let Some((room, at)) = found else { return };
        let known = &room.events[at];
        let concerns = known.key.as_ref().is_some_and(|key| key.ends_with(&format!(":{}", letter.to)));
        let is_within =
            |(opened, end): &(usize, Option<usize>)| *opened <= at && end.is_none_or(|end| at <= end);
        let is_there = room.presence(&letter.to).iter().any(is_within);
        assert!(concerns || is_there, "{} is sent {} of {}: {pdu}", letter.to, known.id, room.id);
        let mut content = pdu["content"].clone();
        if let Some(redacts) = pdu["redacts"].as_str() {
            content["redacts"] = redacts.into();
        }
        assert_eq!(content, known.content, "{} is sent {}", letter.to, known.id);
    }
}

/// Which event of a room `pdu` would be.
fn id(room: &Room, pdu: &Value) -> Option<String> {
    let version = room.events[0].content["room_version"].as_str()?;
    let rules = versions::rules(&RoomVersionId::try_from(version).ok()?)?;
    Some(Pdu::parse(&pdu.to_string(), rules).ok()?.event_id().to_string())
}

/// Whoever is invited, or knocks, is told what kind of room it is, and who says so.
fn check_telling(letter: &Letter, state: &[Value]) {
    let members = state.iter().filter(|event| event["type"] == "m.room.member").count();
    let telling = |event: &&Value| TELLING.iter().any(|kind| event["type"] == *kind);
    let telling = state.iter().filter(telling).count();
    assert_eq!(telling + members, state.len(), "{}: {state:?}", letter.request);
    assert!(members <= 1, "{}: {state:?}", letter.request);
}
