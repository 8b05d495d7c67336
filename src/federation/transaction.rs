//! Transactions of other servers: what has happened in rooms, and what concerns their and our users.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{Federation, FederationError};
use crate::{
    limits::{TRANSACTION_EDUS_MAX, TRANSACTION_PDUS_MAX, TRANSACTION_ROOMS_AT_ONCE},
    log::Commit,
    room::{RoomError, Rooms},
    store::{Key, KeyWriter, StoreError, table::TableId},
};

/// What another server sends at once.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The id that the server chose.
    pub id: String,
    /// Events of rooms.
    pub pdus: Vec<Box<RawValue>>,
    /// What is not kept.
    pub edus: Vec<Box<RawValue>>,
}

/// What came of the events of a transaction, with words for developers where they are not in their rooms.
pub type Answer = BTreeMap<OwnedEventId, Result<(), String>>;

/// The last transaction of a server that took effect. Servers send one after another, so that no other
/// can be repeated; and what is repeated all the same is found to be known.
#[derive(Deserialize, Serialize)]
struct Answered {
    txn_id: String,
    answer: Answer,
}

impl Federation {
    /// Takes in a transaction of `origin`, or answers as the first time if it is a repeated one. One bad
    /// item does not stop its neighbours.
    ///
    /// # Errors
    /// When the transaction as a whole is too large, or this server is in trouble: then it is to come again.
    pub async fn receive(
        &self,
        origin: &ServerName,
        transaction: Transaction,
    ) -> Result<Answer, FederationError> {
        let Transaction { id, pdus, edus } = transaction;
        if pdus.len() > TRANSACTION_PDUS_MAX || edus.len() > TRANSACTION_EDUS_MAX {
            return Err(FederationError::Invalid(format!(
                "a transaction has at most {TRANSACTION_PDUS_MAX} PDUs and {TRANSACTION_EDUS_MAX} EDUs"
            )));
        }
        let _turn = self.turns().wait(origin).await;
        let key = answered_key(origin);
        if let Some(bytes) = self.log.db().raw(&key).await?
            && let Ok(answered) = serde_json::from_slice::<Answered>(&bytes)
            && answered.txn_id == id
        {
            return Ok(answered.answer);
        }
        let (of_rooms, others): (Vec<_>, Vec<_>) = edus.into_iter().partition(|edu| builds_on_events(edu));
        let events = async {
            let answer = self.receive_pdus(origin, pdus).await?;
            self.receive_edus(origin, &of_rooms).await?;
            Ok(answer)
        };
        // What this server could not take for a reason of its own must come again.
        let (answer, told) = futures_util::join!(events, self.receive_edus(origin, &others));
        let answer = answer.and_then(|answer| told.map(|()| answer)).inspect_err(|error| {
            tracing::error!(%error, "a transaction of {origin} could not be taken in, and is to come again");
        })?;
        let answered = Answered { txn_id: id, answer };
        let bytes = serde_json::to_vec(&answered).map_err(StoreError::engine)?;
        let mut commit = Commit::new();
        commit.put_raw(key, bytes);
        self.log.commit(commit).await.map_err(RoomError::from)?;
        Ok(answered.answer)
    }

    async fn receive_pdus(
        &self,
        origin: &ServerName,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Answer, FederationError> {
        let mut rooms: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
        let speakers: BTreeSet<_> = pdus.iter().filter_map(|pdu| speaker(origin, pdu)).collect();
        for (user, device) in speakers {
            // It is no more than a hint.
            if let Err(error) = self.devices.meet_device(&user, Some(&device), None).await {
                tracing::debug!("{device} of {user} could not be looked up: {error}");
            }
        }
        for pdu in pdus {
            match room_of(&pdu) {
                Some(room) => rooms.entry(room).or_default().push(pdu),
                None => tracing::debug!("dropped a PDU of {origin} that names no room"),
            }
        }
        let parts = rooms.into_iter().map(|(room, pdus)| {
            let (rooms, origin) = (self.rooms.clone(), origin.to_owned());
            async move { receive_part(&rooms, (&origin, &room), pdus).await }
        });
        let parts: Vec<_> = stream::iter(parts).buffer_unordered(TRANSACTION_ROOMS_AT_ONCE).collect().await;
        let mut answer = Answer::new();
        for part in parts {
            // One room's trouble does not keep the events of the others out.
            answer.extend(part.map_err(|error| FederationError::Trouble(error.to_string()))?);
        }
        Ok(answer)
    }
}

/// Takes in the events of one room. A mistake in this program that they bring to light is theirs alone: it would come up
/// each time that the transaction comes again, and nothing that is behind it would ever be taken.
async fn receive_part(
    rooms: &Rooms,
    (origin, room): (&ServerName, &RoomId),
    pdus: Vec<Box<RawValue>>,
) -> Result<Answer, RoomError> {
    let texts = pdus.clone();
    match AssertUnwindSafe(rooms.receive(origin, room, pdus)).catch_unwind().await {
        Ok(results) => {
            Ok(results?.into_iter().map(|(id, result)| (id, result.map_err(|why| why.to_string()))).collect())
        }
        Err(_) => {
            tracing::error!(room.id = %room, "events of {origin} in {room} are lost by a mistake in this program");
            // To name them is a part of what may have gone wrong.
            let named = AssertUnwindSafe(rooms.names(room, &texts)).catch_unwind().await;
            let failure = || Err(String::from("This server has made a mistake"));
            Ok(named.unwrap_or_else(|_| Ok(Vec::new()))?.into_iter().map(|id| (id, failure())).collect())
        }
    }
}

/// Whether an EDU makes sense only after the events that come with it: who reads an event or types in a room
/// may have come into it just before. To-device messages and the like wait for nothing.
fn builds_on_events(edu: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        edu_type: String,
    }
    let kind = serde_json::from_str::<Kind>(edu.get()).map(|kind| kind.edu_type).unwrap_or_default();
    matches!(kind.as_str(), "m.receipt" | "m.typing" | "m.presence")
}

/// The device of a user of `origin` that has encrypted an event.
fn speaker(origin: &ServerName, pdu: &RawValue) -> Option<(OwnedUserId, OwnedDeviceId)> {
    #[derive(Deserialize)]
    struct Spoken {
        #[serde(rename = "type")]
        event_type: String,
        sender: OwnedUserId,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        device_id: OwnedDeviceId,
    }
    let spoken = serde_json::from_str::<Spoken>(pdu.get()).ok()?;
    let is_theirs = spoken.event_type == "m.room.encrypted" && spoken.sender.server_name() == origin;
    is_theirs.then_some((spoken.sender, spoken.content.device_id))
}

fn room_of(pdu: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Placed {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<Placed>(pdu.get()).ok().map(|placed| placed.room_id)
}

fn answered_key(origin: &ServerName) -> Key {
    let mut writer = KeyWriter::new(TableId::Once);
    writer.string("transaction");
    writer.string(origin.as_str());
    writer.finish()
}

/// One transaction of each server at a time.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<OwnedServerName, Arc<AsyncMutex<()>>>>);

/// A server's turn.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    origin: OwnedServerName,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    async fn wait(&self, origin: &ServerName) -> Turn<'_> {
        let mut turn = Turn { turns: self, origin: origin.to_owned(), held: None };
        let place = self.0.lock().entry(turn.origin.clone()).or_default().clone();
        turn.held = Some(place.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut places = self.turns.0.lock();
        drop(self.held.take());
        if places.get(&self.origin).is_some_and(|place| Arc::strong_count(place) == 1) {
            places.remove(&self.origin);
        }
    }
}
