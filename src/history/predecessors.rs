//! The rooms that a room has come out of.

use ruma::{OwnedRoomId, RoomId, events::StateEventType};
use serde::Deserialize;

use super::History;
use crate::store::StoreError;

#[derive(Deserialize)]
struct Create {
    predecessor: Option<Predecessor>,
}

#[derive(Deserialize)]
struct Predecessor {
    room_id: OwnedRoomId,
}

impl History {
    /// The rooms that `room` says to have come out of, the latest first, at most `limit`. What a room says of another
    /// need not be true.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn predecessors(&self, room: &RoomId, limit: usize) -> Result<Vec<OwnedRoomId>, StoreError> {
        let (mut found, mut at): (Vec<OwnedRoomId>, OwnedRoomId) = (Vec::new(), room.to_owned());
        while found.len() < limit {
            let Some(state) = self.current_state(&at).await? else { break };
            let create = self.state_event(state, StateEventType::RoomCreate, "").await?;
            let create: Option<Create> = create.and_then(|create| create.pdu.content_as().ok());
            let Some(Predecessor { room_id }) = create.and_then(|create| create.predecessor) else { break };
            if room_id == room || found.contains(&room_id) {
                break;
            }
            found.push(room_id.clone());
            at = room_id;
        }
        Ok(found)
    }
}
