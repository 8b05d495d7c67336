//! How much a user has not read over all rooms: the number on the icon of an app.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{OwnedRoomId, UserId};

use super::{Push, PushError, decides_counts};
use crate::{
    log::{Audience, Subscriptions},
    types::{Fact, Lane, Position},
};

/// The counts of one user's rooms, as they were at a position.
#[derive(Clone, Debug)]
pub(super) struct Badge {
    upto: Position,
    /// Rooms with something unread.
    rooms: HashMap<OwnedRoomId, u64>,
}

impl Push {
    /// The unread notifications of `user` at `to`: the sum of what a sync says of the rooms that they are
    /// in. Only rooms in which something has happened since the last time are looked at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn badge(&self, user: &UserId, to: Position) -> Result<u64, PushError> {
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let known = self.0.badges.get(user).filter(|known| known.upto <= to);
        let changed = match &known {
            Some(known) => self.changed(user, &lanes, (known.upto, to)).await?,
            None => None,
        };
        let open = |room: &OwnedRoomId| lanes.is_open(&Lane::Room(room.clone()));
        let (mut badge, changed) = match (known, changed) {
            (Some(known), Some(changed)) => (Badge::clone(&known), changed),
            _ => {
                let rooms = lanes.latest().filter_map(|(lane, _)| match lane {
                    Lane::Room(room) => Some(room.clone()),
                    _ => None,
                });
                (Badge { upto: to, rooms: HashMap::new() }, rooms.collect())
            }
        };
        badge.upto = to;
        badge.rooms.retain(|room, _| open(room) && !changed.contains(room));
        let rooms: Vec<OwnedRoomId> = changed.into_iter().filter(open).collect();
        let unread = self.unread(user, &rooms, to).await?;
        for (room, unread) in rooms.into_iter().zip(unread) {
            let count = unread.total().notification;
            if count > 0 {
                badge.rooms.insert(room, count);
            }
        }
        let total = badge.rooms.values().sum();
        self.0.badges.insert(user.to_owned(), Arc::new(badge));
        Ok(total)
    }

    /// The rooms whose counts may have changed in an interval; nothing if all of them may have.
    async fn changed(
        &self,
        user: &UserId,
        lanes: &Subscriptions,
        (from, to): (Position, Position),
    ) -> Result<Option<BTreeSet<OwnedRoomId>>, PushError> {
        let room = |lane| match lane {
            Lane::Room(room) => Some(room),
            _ => None,
        };
        let mut rooms: BTreeSet<_> = self.0.log.beyond(from, lanes).into_iter().filter_map(room).collect();
        let account = Lane::Account(user.to_owned());
        if !self.0.log.may_have(&account, from) {
            return Ok(Some(rooms));
        }
        for (_, fact) in self.0.log.registers(&account, from, to).await? {
            match fact {
                Fact::Receipt { room_id, .. } | Fact::Membership { room_id, .. } => {
                    rooms.insert(room_id);
                }
                // Rules and ignored users bear on all rooms.
                Fact::AccountData { room_id: None, event_type } if decides_counts(&event_type) => {
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(Some(rooms))
    }
}
