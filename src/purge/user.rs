//! What a user of this server said and showed.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedRoomId, UserId};

use super::{Purge, PurgeError};
use crate::{
    history::tables::BACKFILLED,
    limits::{RETENTION_PAGE_EVENTS, SCAN_ROWS_MAX},
    log::{Audience, Direction},
    types::{Fact, Lane, Position},
};

impl Purge {
    /// Takes the content out of everything that `user` said in rooms that this server knows, their name and picture
    /// out of their memberships there, and deletes the files that they have uploaded. Other servers keep what they
    /// have. How many events that were.
    ///
    /// # Errors
    /// When something fails; another call goes on.
    pub async fn erase_user(&self, user: &UserId) -> Result<usize, PurgeError> {
        self.0.history.erase(user).await?;
        let lanes = self.log().subscriptions(&Audience::Account(user.to_owned())).await?;
        let room = |lane: &Lane| match lane {
            Lane::Room(room) => Some(room.clone()),
            _ => None,
        };
        let rooms: BTreeSet<OwnedRoomId> = lanes.latest().filter_map(|(lane, _)| room(lane)).collect();
        let mut count = 0;
        for room in rooms {
            if self.0.history.room(&room).await?.is_some() {
                count += self.erase_in(user, &room).await?;
            }
        }
        self.0.media.delete_of(user).await?;
        Ok(count)
    }

    async fn erase_in(&self, user: &UserId, room: &OwnedRoomId) -> Result<usize, PurgeError> {
        let (mut from, mut count) = (Position::ZERO, 0);
        loop {
            let range = (from, self.log().head());
            let facts = self.log().timeline(room, range, Direction::Forward, RETENTION_PAGE_EVENTS).await?;
            let Some((last, _)) = facts.last() else { break };
            from = *last;
            let id = |(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            };
            let ids: Vec<OwnedEventId> = facts.into_iter().filter_map(id).collect();
            count += self.0.rooms.erase(room, &ids, user).await?;
        }
        let past = self.log().db().range(&BACKFILLED, &(room.clone(),), SCAN_ROWS_MAX).await?;
        let past: Vec<OwnedEventId> = past.into_iter().map(|(_, id)| id).collect();
        for ids in past.chunks(RETENTION_PAGE_EVENTS) {
            count += self.0.rooms.erase(room, ids, user).await?;
        }
        Ok(count)
    }
}
