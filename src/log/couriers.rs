//! What the log offers those who deliver to remote servers.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedServerName, RoomId, UserId};

use super::{
    Audience, Log, News,
    lane::{cursor_key, outbox_after, outbox_server, outboxes, read_server_subscription, servers_range},
    page_server,
};
use crate::{
    limits::SCAN_ROWS_MAX,
    store::{Scan, StoreError},
    types::{Cursor, Lane, Position, Reader},
};

/// The servers that this one has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownServers {
    /// Everyone who may have something to get from before.
    pub all: BTreeSet<OwnedServerName>,
    /// Those among them that read a room now.
    pub sharing: BTreeSet<OwnedServerName>,
}

impl Log {
    /// Learns which servers read which rooms, so that from now on there is [`Self::news`] for them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load_servers(&self) -> Result<KnownServers, StoreError> {
        let mut generation = 0;
        loop {
            let (reading, mut all) = self.read_servers().await?;
            let sharing = reading.iter().map(|(server, _)| server.clone()).collect();
            match self.inner.readers.load_servers(reading, generation) {
                Ok(()) => {
                    all.extend(self.waiting_outboxes().await?);
                    return Ok(KnownServers { all, sharing });
                }
                Err(newer) => generation = newer,
            }
        }
    }

    /// Resolves with what is new for remote servers; empty when the log closes.
    pub async fn news(&self) -> News {
        loop {
            let woken = self.inner.readers.couriers();
            let news = self.inner.readers.take_news();
            if !news.is_empty() || self.queue.lock().is_none() {
                return news;
            }
            woken.notified().await;
        }
    }

    /// The remote servers that read `room` now.
    #[must_use]
    pub fn servers_of(&self, room: &RoomId) -> BTreeSet<OwnedServerName> {
        self.inner.readers.servers_of(room)
    }

    /// As [`Self::servers_of`], from the store: whether or not anybody delivers to servers yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stored_servers_of(&self, room: &RoomId) -> Result<Vec<OwnedServerName>, StoreError> {
        let (reading, _) = self.read_servers().await?;
        Ok(reading.into_iter().filter(|(_, read)| read == room).map(|(server, _)| server).collect())
    }

    /// The remote servers that share a room with the local user `user` now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn servers_sharing(&self, user: &UserId) -> Result<BTreeSet<OwnedServerName>, StoreError> {
        let rooms = self.subscriptions(&Audience::Account(user.to_owned())).await?;
        Ok(rooms.open_rooms().flat_map(|room| self.servers_of(room)).collect())
    }

    /// How far a server has got. One that was never delivered to begins where it came to read something.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cursor_of(&self, server: &OwnedServerName) -> Result<Cursor, StoreError> {
        if let Some(row) = self.db().raw(&cursor_key(&Reader::Server(server.clone()))).await? {
            return serde_json::from_slice(&row)
                .map_err(|error| StoreError::Corrupt(format!("a cursor: {error}")));
        }
        let subscriptions = self.subscriptions(&Audience::Server(server.clone())).await?;
        let opened = subscriptions.latest().filter_map(|(lane, _)| subscriptions.intervals(lane).first());
        let first = opened.map(|interval| Position(interval.opened.0.saturating_sub(1))).min();
        Ok(Cursor { log: first.unwrap_or_else(|| self.head()), queue: Position::ZERO })
    }

    /// Whether a server has ever been delivered to.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_served(&self, server: &OwnedServerName) -> Result<bool, StoreError> {
        Ok(self.db().raw(&cursor_key(&Reader::Server(server.clone()))).await?.is_some())
    }

    /// Whether a server reads a room now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn shares_a_room(&self, server: &OwnedServerName) -> Result<bool, StoreError> {
        let reads = self.subscriptions(&Audience::Server(server.clone())).await?;
        Ok(reads.latest().any(|(_, interval)| interval.closed.is_none()))
    }

    /// How many events and messages wait for a server, counted up to `max`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waiting(&self, server: &OwnedServerName, max: usize) -> Result<usize, StoreError> {
        page_server::waiting(self, server, max).await
    }

    async fn read_servers(
        &self,
    ) -> Result<(Vec<(OwnedServerName, OwnedRoomId)>, BTreeSet<OwnedServerName>), StoreError> {
        let (mut from, to) = servers_range();
        let (mut reading, mut servers) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
            for (key, value) in &rows {
                let (server, lane) = read_server_subscription(key)?;
                servers.insert(server.clone());
                // Changes of one lane come in the order of the log: the last one stands.
                if let Lane::Egress(room) = lane {
                    match value.first() {
                        Some(1) => reading.insert((server, room)),
                        _ => reading.remove(&(server, room)),
                    };
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS_MAX => from = last.successor(),
                _ => return Ok((reading.into_iter().collect(), servers)),
            }
        }
    }

    /// The servers whose outboxes hold something, one look for each.
    async fn waiting_outboxes(&self) -> Result<Vec<OwnedServerName>, StoreError> {
        let (mut from, to) = outboxes();
        let mut servers = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: 1 };
            let Some((key, _)) = self.db().scan_many(&[scan]).await?.pop().unwrap_or_default().pop() else {
                return Ok(servers);
            };
            let server = outbox_server(&key)?;
            from = outbox_after(&server);
            servers.push(server);
        }
    }
}
