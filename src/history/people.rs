//! The rooms of a user, and who shares rooms with whom.

use std::collections::{BTreeSet, HashSet};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{History, tables::FORGOTTEN};
use crate::{
    limits::{SCAN_ROWS_MAX, SHARING_LOCALS_LOOKED_UP_MAX, SHARING_LOOKED_UP_MAX},
    log::Audience,
    store::StoreError,
    types::{Fact, Lane, Membership, Position, Retention},
};

/// What a local user is to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipEntry {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The membership.
    pub membership: Membership,
    /// The event that says so.
    pub event_id: OwnedEventId,
    /// Where in the log it came to be.
    pub position: Position,
}

impl History {
    /// The rooms in which a local user is joined, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn joined_rooms(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, StoreError> {
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let mut rooms: Vec<_> = lanes
            .latest()
            .filter(|(_, interval)| interval.closed.is_none())
            .filter_map(|(lane, _)| match lane {
                Lane::Room(room) => Some(room.clone()),
                _ => None,
            })
            .collect();
        rooms.sort_unstable();
        Ok(rooms)
    }

    /// Whether a local user is joined to `room`, by what the log knows of its readers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_joined(&self, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        Ok(lanes.is_open(&Lane::Room(room.to_owned())))
    }

    /// Everything that a local user is to rooms, oldest first. Forgotten rooms are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn memberships(&self, user: &UserId) -> Result<Vec<MembershipEntry>, StoreError> {
        let mut entries = self.all_memberships(user).await?;
        let forgotten = self.forgotten(user).await?;
        entries.retain(|entry| !forgotten.contains(&entry.room_id));
        Ok(entries)
    }

    /// As [`Self::memberships`], with forgotten rooms.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all_memberships(&self, user: &UserId) -> Result<Vec<MembershipEntry>, StoreError> {
        let lane = Lane::Account(user.to_owned());
        let facts = self.0.log.registers(&lane, Position::ZERO, self.0.log.head()).await?;
        let entry = |(position, fact)| match fact {
            Fact::Membership { room_id, membership, event_id } => {
                Some(MembershipEntry { room_id, membership, event_id, position })
            }
            _ => None,
        };
        Ok(facts.into_iter().filter_map(entry).collect())
    }

    /// The rooms that a user has left and does not want to see any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forgotten(&self, user: &UserId) -> Result<HashSet<OwnedRoomId>, StoreError> {
        let rows = self.0.log.db().range(&FORGOTTEN, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((_, room), ())| room).collect())
    }

    /// What a local user is to a room, be this server in the room or not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standing(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Option<MembershipEntry>, StoreError> {
        let lane = Lane::Account(user.to_owned());
        let event_id = OwnedEventId::try_from("$any").map_err(StoreError::engine)?;
        // The membership and the event are not part of the register's key.
        let any = Fact::Membership { room_id: room.to_owned(), membership: Membership::Leave, event_id };
        let Retention::Register(key) = any.retention() else { return Ok(None) };
        Ok(match self.0.log.register(&lane, &key).await? {
            Some((position, Fact::Membership { room_id, membership, event_id })) => {
                Some(MembershipEntry { room_id, membership, event_id, position })
            }
            _ => None,
        })
    }

    /// Whether two users are in some room together. One of them, `local`, is of this server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn shares_room(&self, local: &UserId, other: &UserId) -> Result<bool, StoreError> {
        if local == other {
            return Ok(true);
        }
        let ours = self.0.log.subscriptions(&Audience::Account(local.to_owned())).await?;
        if self.is_local(other) {
            let theirs = self.0.log.subscriptions(&Audience::Account(other.to_owned())).await?;
            return Ok(theirs.latest().any(|(lane, last)| last.closed.is_none() && ours.is_open(lane)));
        }
        for (lane, last) in ours.latest() {
            if let (Lane::Room(room), None) = (lane, last.closed)
                && self.current_members(room).await?.is_joined(other)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of `others` with whom a local user is in some room. Of themselves it is true.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sharing(
        &self,
        user: &UserId,
        others: &BTreeSet<OwnedUserId>,
    ) -> Result<BTreeSet<OwnedUserId>, StoreError> {
        let locals = others.iter().filter(|other| self.is_local(other)).count();
        if others.len() - locals > SHARING_LOOKED_UP_MAX || locals > SHARING_LOCALS_LOOKED_UP_MAX {
            let companions = self.companions(user).await?;
            return Ok(others.intersection(&companions).cloned().collect());
        }
        let mut found = BTreeSet::new();
        for other in others {
            if self.shares_room(user, other).await? {
                found.insert(other.clone());
            }
        }
        Ok(found)
    }

    /// The rooms in which both users are joined, by id. `local` is of this server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mutual_rooms(&self, local: &UserId, other: &UserId) -> Result<Vec<OwnedRoomId>, StoreError> {
        let mut rooms = self.joined_rooms(local).await?;
        let theirs = match self.is_local(other) {
            true => Audience::Account(other.to_owned()),
            false => Audience::Server(other.server_name().to_owned()),
        };
        let theirs = self.0.log.subscriptions(&theirs).await?;
        if self.is_local(other) {
            rooms.retain(|room| theirs.is_open(&Lane::Room(room.clone())));
            return Ok(rooms);
        }
        rooms.retain(|room| theirs.is_open(&Lane::Egress(room.clone())));
        let mut mutual = Vec::new();
        for room in rooms {
            if self.current_members(&room).await?.is_joined(other) {
                mutual.push(room);
            }
        }
        Ok(mutual)
    }

    /// Everyone with whom a local user is in some room, themselves included.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn companions(&self, user: &UserId) -> Result<BTreeSet<OwnedUserId>, StoreError> {
        let mut found = BTreeSet::from([user.to_owned()]);
        for room in self.joined_rooms(user).await? {
            let members = self.current_members(&room).await?;
            found.extend(members.with(Membership::Join).cloned());
        }
        Ok(found)
    }
}
