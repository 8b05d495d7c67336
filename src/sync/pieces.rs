//! A long answer as it goes out: room by room, so that it is not held twice.

use std::{collections::BTreeMap, iter::once};

use ruma::OwnedRoomId;
use serde::Serialize;
use serde_json::Result;

use super::response::{Rooms, SyncResponse};
use crate::limits::SYNC_ROOMS_AT_ONCE;

type Parts = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send>;

impl SyncResponse {
    /// Whether it has so many rooms that it should go out in pieces.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let Rooms { join, invite, knock, leave } = &self.rooms;
        join.len() + invite.len() + knock.len() + leave.len() > SYNC_ROOMS_AT_ONCE
    }

    /// The same JSON in pieces. A room is let go of when its piece is taken.
    ///
    /// # Errors
    /// When something cannot be serialized; what follows a piece that cannot be makes no sense by itself.
    pub fn into_pieces(mut self) -> Result<impl Iterator<Item = Result<Vec<u8>>> + Send + use<>> {
        let Rooms { join, invite, knock, leave } = std::mem::take(&mut self.rooms);
        // Without the brace at its end; it is never empty.
        let mut head = serde_json::to_vec(&self)?;
        head.pop();
        head.extend_from_slice(br#","rooms":{"#);
        let mut parts = vec![text(head)];
        let sections = [
            section("join", join),
            section("invite", invite),
            section("knock", knock),
            section("leave", leave),
        ];
        for (index, section) in sections.into_iter().flatten().enumerate() {
            parts.extend((index > 0).then(|| text(b",".to_vec())));
            parts.push(section);
        }
        parts.push(text(b"}}".to_vec()));
        Ok(parts.into_iter().flatten())
    }
}

fn text(text: Vec<u8>) -> Parts {
    Box::new(once(Ok(text)))
}

/// Rooms under a name, if there are any.
fn section<T>(name: &'static str, rooms: BTreeMap<OwnedRoomId, T>) -> Option<Parts>
where
    T: Serialize + Send + 'static,
{
    let entry = move |(index, (room, update)): (usize, (OwnedRoomId, T))| {
        let mut part = match index {
            0 => format!("\"{name}\":{{").into_bytes(),
            _ => b",".to_vec(),
        };
        serde_json::to_writer(&mut part, &room)?;
        part.push(b':');
        serde_json::to_writer(&mut part, &update)?;
        Ok(part)
    };
    let is_empty = rooms.is_empty();
    let parts = rooms.into_iter().enumerate().map(entry).chain(once(Ok(b"}".to_vec())));
    (!is_empty).then(|| Box::new(parts) as Parts)
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;
    use crate::{
        sync::response::{Invited, RoomUpdate},
        types::Cursor,
    };

    #[test]
    fn pieces_come_to_the_same() {
        let (one, two) = (owned_room_id!("!\"one:a.org"), owned_room_id!("!two:a.org"));
        let (three, four) = (owned_room_id!("!three:a.org"), owned_room_id!("!four:a.org"));
        let answer = |joined: usize, invited: usize, left: usize| {
            let mut answer = SyncResponse::new(Cursor::default());
            let joins = [one.clone(), two.clone()].into_iter().take(joined);
            answer.rooms.join = joins.map(|room| (room, RoomUpdate::default())).collect();
            let invites = [three.clone()].into_iter().take(invited);
            answer.rooms.invite = invites.map(|room| (room, Invited::default())).collect();
            let leaves = [four.clone()].into_iter().take(left);
            answer.rooms.leave = leaves.map(|room| (room, RoomUpdate::default())).collect();
            answer
        };
        for (joined, invited, left) in [(1, 0, 0), (2, 1, 1), (0, 1, 0), (2, 0, 1)] {
            let whole = serde_json::to_value(answer(joined, invited, left)).unwrap();
            let pieces: Vec<Vec<u8>> =
                answer(joined, invited, left).into_pieces().unwrap().collect::<Result<_>>().unwrap();
            let text = String::from_utf8(pieces.concat()).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), whole, "{text}");
        }
        assert!(!answer(2, 1, 1).is_long());
    }
}
