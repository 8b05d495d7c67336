//! Which remote servers read which room, and for whom there is something to deliver.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
};

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName};

use crate::types::Lane;

/// For whom something new has been written since this was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Servers with something in their outbox or in a room that they read.
    pub servers: BTreeSet<OwnedServerName>,
    /// Users of whom there is something new for the servers that share a room with them.
    pub people: BTreeSet<OwnedUserId>,
}

impl News {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.people.is_empty()
    }
}

/// Remote servers by the rooms that they read now, once it has been loaded; and what is new for them.
///
/// News is bounded by the number of servers and of local users.
#[derive(Default)]
pub(super) struct Servers {
    rooms: Option<HashMap<OwnedRoomId, HashSet<OwnedServerName>>>,
    news: News,
}

impl Servers {
    /// Takes what was loaded from the store; from now on changes are followed.
    pub(super) fn load(&mut self, reading: Vec<(OwnedServerName, OwnedRoomId)>) {
        let mut rooms: HashMap<OwnedRoomId, HashSet<OwnedServerName>> = HashMap::new();
        for (server, room) in reading {
            rooms.entry(room).or_default().insert(server);
        }
        self.rooms = Some(rooms);
    }

    /// A server begins or ceases to read a room. What closes is told first, so that who leaves still
    /// hears of it.
    pub(super) fn change(&mut self, server: &OwnedServerName, lane: &Lane, opens: bool) {
        let (Some(rooms), Lane::Egress(room)) = (&mut self.rooms, lane) else { return };
        if opens {
            // It may have asked for devices before, and be owed what has changed of them.
            if rooms.entry(room.clone()).or_default().insert(server.clone()) {
                self.news.servers.insert(server.clone());
            }
        } else if let Some(servers) = rooms.get_mut(room) {
            servers.remove(server);
            if servers.is_empty() {
                rooms.remove(room);
            }
        }
    }

    /// Something was written to `lane`; `person` says of whom. True if it is of interest.
    pub(super) fn touch(&mut self, lane: &Lane, person: Option<&OwnedUserId>) -> bool {
        let Some(rooms) = &self.rooms else { return false };
        match (lane, person) {
            (Lane::Egress(room), _) => {
                self.news.servers.extend(rooms.get(room).into_iter().flatten().cloned())
            }
            (Lane::Outbox(server), _) => {
                self.news.servers.insert(server.clone());
            }
            (Lane::People, Some(person)) if !rooms.is_empty() => {
                self.news.people.insert(person.clone());
            }
            _ => {}
        }
        !self.news.is_empty()
    }

    /// What is new since this was last asked.
    pub(super) fn take(&mut self) -> News {
        mem::take(&mut self.news)
    }

    /// The rooms that a server reads now, if it is known to read any.
    pub(super) fn rooms_of(&self, server: &ServerName) -> Option<Vec<&OwnedRoomId>> {
        let reads = |(_, servers): &(&OwnedRoomId, &HashSet<OwnedServerName>)| servers.contains(server);
        let rooms: Vec<_> = self.rooms.iter().flatten().filter(reads).map(|(room, _)| room).collect();
        (!rooms.is_empty()).then_some(rooms)
    }

    /// The servers that read `room` now.
    pub(super) fn of_room(&self, room: &RoomId) -> BTreeSet<OwnedServerName> {
        self.rooms.iter().filter_map(|rooms| rooms.get(room)).flatten().cloned().collect()
    }
}
