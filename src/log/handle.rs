//! The handle on the log.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    Audience, Commit, CommitError, Page, PageLimits, Subscriptions,
    committer::{self, Pending},
    lane::{
        Class, audience_prefix, class_prefix, class_range, cursor_key, decode_fact, position_of,
        read_subscription, register_index,
    },
    page, page_server, page_user,
    readers::Readers,
};
use crate::{
    limits::{COMMIT_QUEUE_MAX, SCAN_ROWS_MAX},
    store::{Db, Key, Row, Scan, StoreError},
    types::{Cursor, Fact, Lane, Position, Reader, RegisterKey, Retention},
};

/// Which way a lane is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// A commit that has its place in the queue.
#[derive(Debug)]
#[must_use]
pub struct Ticket(oneshot::Receiver<Result<Position, CommitError>>);

impl Ticket {
    /// As [`Log::commit`].
    ///
    /// # Errors
    /// See [`CommitError`]; in every case nothing of the commit was written.
    pub async fn done(self) -> Result<Position, CommitError> {
        self.0.await.map_err(|_| CommitError::Closed)?
    }
}

/// The one log of this server. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Arc<Mutex<Option<mpsc::Sender<Pending>>>>,
}

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) readers: Readers,
    head: AtomicU64,
    boot: Position,
    /// Tells those who read everything that there is more.
    heads: watch::Sender<Position>,
}

impl Inner {
    pub(super) fn head(&self) -> Position {
        Position(self.head.load(Ordering::Acquire))
    }

    pub(super) fn publish(&self, head: Position) {
        self.head.fetch_max(head.0, Ordering::AcqRel);
        self.heads.send_if_modified(|told| head > std::mem::replace(told, head.max(*told)));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log(head {})", self.head())
    }
}

impl Log {
    /// Opens the log over `db` and starts its committer on `tasks`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(db: Db, tasks: &TaskTracker) -> Result<Self, StoreError> {
        // A position of its own, so that every token from before this start lies below it.
        let boot = db.reserve(1).await?;
        let readers = Readers::new(boot);
        let heads = watch::Sender::new(boot);
        let inner = Arc::new(Inner { db, readers, head: AtomicU64::new(boot.0), boot, heads });
        let (sender, receiver) = mpsc::channel(COMMIT_QUEUE_MAX);
        tasks.spawn(committer::run(inner.clone(), receiver));
        Ok(Self { inner, queue: Arc::new(Mutex::new(Some(sender))) })
    }

    /// The store, for reading rows.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// The newest position that may be read; everything at or below it is durable.
    #[must_use]
    pub fn head(&self) -> Position {
        self.inner.head()
    }

    /// The head as it moves, for those who read everything.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Position> {
        self.inner.heads.subscribe()
    }

    /// The lanes that were written to above `from`; nothing if that is not known, as after a start.
    #[must_use]
    pub fn touched(&self, from: Position) -> Option<Vec<Lane>> {
        match self.db().is_exclusive() {
            true => self.inner.readers.touched(from),
            false => None,
        }
    }

    /// Where this process started: every token from before lies below, and volatile facts below are gone.
    #[must_use]
    pub fn boot(&self) -> Position {
        self.inner.boot
    }

    /// Has `commit` written; resolves when it is durable *and* published, with the position of its
    /// last fact (the head, if it has none).
    ///
    /// # Errors
    /// See [`CommitError`]; in every case nothing of the commit was written.
    pub async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        self.submit(commit).await?.done().await
    }

    /// Queues `commit` and answers when it has its place: what is submitted later is judged and written
    /// later. It is written even if nobody waits for the ticket.
    ///
    /// # Errors
    /// When the log takes no more commits.
    pub async fn submit(&self, commit: Commit) -> Result<Ticket, CommitError> {
        let Some(queue) = self.queue.lock().clone() else { return Err(CommitError::Closed) };
        let (sender, receiver) = oneshot::channel();
        let pending = Pending { commit, answer: Some(sender) };
        queue.send(pending).await.map_err(|_| CommitError::Closed)?;
        Ok(Ticket(receiver))
    }

    /// Has `commit` written some time, for clean-up that may as well happen later or never.
    pub fn commit_later(&self, commit: Commit) {
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            // A full queue is no reason to wait for clean-up; the next occasion does it.
            drop(queue.try_send(Pending { commit, answer: None }));
        }
    }

    /// Takes no more commits; the committer ends when it has written what waits.
    pub fn close(&self) {
        self.queue.lock().take();
        self.inner.readers.wake_all();
    }

    /// The next page for `reader` after `from`, up to the present head.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(&self, reader: &Reader, from: Cursor, limits: &PageLimits) -> Result<Page, StoreError> {
        match reader {
            Reader::Device(user, device) => page::of_device(self, (user, device), from, limits).await,
            Reader::Server(server) => page_server::of_server(self, server, from, limits).await,
            Reader::Pusher(user) => page_user::of_user(self, user, from.log, limits).await,
        }
    }

    /// Resolves once something for `reader` may lie beyond `seen`, or the log closes. For couriers there
    /// is [`Self::news`] instead.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wait(&self, reader: &Reader, seen: Cursor) -> Result<(), StoreError> {
        let Reader::Device(user, device) = reader else { return Ok(()) };
        let audience = Audience::Account(user.clone());
        let subscriptions = self.subscriptions(&audience).await?;
        // Register, then look: whatever is committed from here on notifies.
        let waiting = self.inner.readers.register(user, device, &subscriptions);
        let subscriptions = self.subscriptions(&audience).await?;
        let closing = self.queue.lock().is_none();
        if closing || self.inner.readers.has_news((user, device), seen, &subscriptions) {
            return Ok(());
        }
        waiting.notified().await;
        Ok(())
    }

    /// The reader has everything up to `upto`: its queue rows go, and the cursor is kept if it is one
    /// of those that we keep here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ack(&self, reader: &Reader, upto: Cursor) -> Result<(), CommitError> {
        let lane = match reader {
            Reader::Device(user, device) => Lane::Inbox(user.clone(), device.clone()),
            Reader::Server(server) => Lane::Outbox(server.clone()),
            Reader::Pusher(_) => return Ok(()),
        };
        let (from, to) = class_range(&lane, Class::Queue, Position::ZERO, upto.queue);
        let first = Scan { from: from.clone(), to: to.clone(), reverse: false, limit: 1 };
        let has_rows = self.db().scan_many(&[first]).await?.first().is_some_and(|rows| !rows.is_empty());
        let mut commit = Commit::new();
        if has_rows {
            commit.delete_range(from, to);
        }
        match reader {
            Reader::Device(..) if has_rows => self.commit_later(commit),
            Reader::Device(..) | Reader::Pusher(_) => {}
            Reader::Server(_) => {
                let value = serde_json::to_vec(&upto).map_err(StoreError::engine)?;
                commit.put_raw(cursor_key(reader), value);
                self.commit(commit).await?;
            }
        }
        Ok(())
    }

    /// Facts of `Append` retention of a room in `(from, to]`, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn timeline(
        &self,
        room: &RoomId,
        (from, to): (Position, Position),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Position, Fact)>, StoreError> {
        let (from, to) = class_range(&Lane::Room(room.to_owned()), Class::Append, from, to.min(self.head()));
        let reverse = direction == Direction::Backward;
        self.facts(Scan { from, to, reverse, limit: limit.min(SCAN_ROWS_MAX) }).await
    }

    /// Facts of `Register` and `Volatile` retention of a lane in `(from, to]`, oldest first.
    ///
    /// A fact that stands in the place of one of the span is missed when it is of the moment that is being written
    /// now, unless `to` reaches beyond the head.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registers(
        &self,
        lane: &Lane,
        from: Position,
        to: Position,
    ) -> Result<Vec<(Position, Fact)>, StoreError> {
        let mut facts = Vec::new();
        self.add_registers(lane, (from, to), &mut facts).await?;
        facts.extend(self.inner.readers.volatile(lane, from, to));
        facts.sort_by_key(|(position, _)| *position);
        Ok(facts)
    }

    /// Adds the facts of `Register` retention of a lane in `(from, to]` to `facts`, oldest first, however many there are.
    async fn add_registers(
        &self,
        lane: &Lane,
        (mut from, to): (Position, Position),
        facts: &mut Vec<(Position, Fact)>,
    ) -> Result<(), StoreError> {
        loop {
            let (first, last) = class_range(lane, Class::Register, from, to);
            let scan = Scan { from: first, to: last, reverse: false, limit: SCAN_ROWS_MAX };
            let page = self.facts(scan).await?;
            let is_last = page.len() < SCAN_ROWS_MAX;
            // Facts of one commit may share a position, but never two registers of one lane.
            from = page.last().map_or(to, |(at, _)| *at);
            facts.extend(page);
            if is_last || from >= to {
                return Ok(());
            }
        }
    }

    /// Adds what is lacking up to `to` behind what one scan has found of a lane's registers.
    pub(super) async fn complete_registers(
        &self,
        lane: &Lane,
        to: Position,
        facts: &mut Vec<(Position, Fact)>,
    ) -> Result<(), StoreError> {
        match facts.last().map(|(last, _)| *last) {
            Some(last) if facts.len() >= SCAN_ROWS_MAX => self.add_registers(lane, (last, to), facts).await,
            _ => Ok(()),
        }
    }

    /// The fact that stands in one register of a lane, with its position.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn register(
        &self,
        lane: &Lane,
        key: &RegisterKey,
    ) -> Result<Option<(Position, Fact)>, StoreError> {
        let at = self.written(lane, std::slice::from_ref(key)).await?;
        let Some(at) = at.first().copied().flatten() else { return Ok(None) };
        let facts = self.registers(lane, Position(at.0.saturating_sub(1)), at).await?;
        Ok(facts.into_iter().find(|(_, fact)| fact.retention() == Retention::Register(key.clone())))
    }

    /// Where registers of a lane were last written, in the order of `keys`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn written(
        &self,
        lane: &Lane,
        keys: &[RegisterKey],
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let keys: Vec<Key> = keys.iter().map(|key| register_index(lane, &key.0)).collect();
        let found = self.db().get_many(&keys).await?;
        found.into_iter().map(|index| index.map(|index| register_place(&index)).transpose()).collect()
    }

    /// For each lane, the facts of its registers whose keys begin with the bytes beside it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registers_with(
        &self,
        wanted: &[(Lane, RegisterKey)],
    ) -> Result<Vec<Vec<(Position, Fact)>>, StoreError> {
        let scan = |(lane, key): &(Lane, RegisterKey)| {
            let from = register_index(lane, &key.0);
            let to = from.after_prefix();
            Scan { from, to, reverse: false, limit: SCAN_ROWS_MAX }
        };
        let scans: Vec<Scan> = wanted.iter().map(scan).collect();
        let indexes = self.db().scan_many(&scans).await?;
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        for (number, rows) in indexes.iter().enumerate() {
            let prefix = class_prefix(&wanted[number].0, Class::Register);
            for (_, value) in rows {
                let at = register_place(value)?;
                keys.push(Key([prefix.as_slice(), at.to_bytes().as_slice()].concat()));
                places.push((number, at));
            }
        }
        let mut found = vec![Vec::new(); wanted.len()];
        if keys.is_empty() {
            return Ok(found);
        }
        for ((number, at), row) in places.into_iter().zip(self.db().get_many(&keys).await?) {
            // A row that is gone was overwritten in between; whoever waits is told of the new one.
            if let Some(row) = row.filter(|_| at <= self.head()) {
                found[number].push((at, decode_fact(&row)?));
            }
        }
        Ok(found)
    }

    /// As [`Self::timeline`], for several rooms at once; the answers are in the order of `wanted`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn timelines(
        &self,
        wanted: &[(OwnedRoomId, Position, Position)],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Vec<(Position, Fact)>>, StoreError> {
        let head = self.head();
        let scan = |(room, from, to): &(OwnedRoomId, Position, Position)| {
            let lane = Lane::Room(room.clone());
            let (from, to) = class_range(&lane, Class::Append, *from, (*to).min(head));
            let reverse = direction == Direction::Backward;
            Scan { from, to, reverse, limit: limit.min(SCAN_ROWS_MAX) }
        };
        self.many(wanted.iter().map(scan).collect()).await
    }

    /// As [`Self::registers`], for several lanes at once; the answers are in the order of `lanes`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registers_of(
        &self,
        lanes: &[Lane],
        from: Position,
        to: Position,
    ) -> Result<Vec<Vec<(Position, Fact)>>, StoreError> {
        let to = to.min(self.head());
        let scan = |lane: &Lane| {
            let (from, to) = class_range(lane, Class::Register, from, to);
            Scan { from, to, reverse: false, limit: SCAN_ROWS_MAX }
        };
        let mut found = self.many(lanes.iter().map(scan).collect()).await?;
        for (facts, lane) in found.iter_mut().zip(lanes) {
            self.complete_registers(lane, to, facts).await?;
            facts.extend(self.inner.readers.volatile(lane, from, to));
            facts.sort_by_key(|(position, _)| *position);
        }
        Ok(found)
    }

    /// The facts that wait in a queue, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn queued(
        &self,
        lane: &Lane,
        from: Position,
        limit: usize,
    ) -> Result<Vec<(Position, Fact)>, StoreError> {
        let (from, to) = class_range(lane, Class::Queue, from, self.head());
        self.facts(Scan { from, to, reverse: false, limit: limit.min(SCAN_ROWS_MAX) }).await
    }

    /// What was appended to a lane after `from`, oldest first, at most [`SCAN_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn facts_after(
        &self,
        lane: &Lane,
        from: Position,
    ) -> Result<Vec<(Position, Fact)>, StoreError> {
        let (from, to) = class_range(lane, Class::Append, from, self.head());
        self.facts(Scan { from, to, reverse: false, limit: SCAN_ROWS_MAX }).await
    }

    /// The ranges of keys of a lane's facts, for deleting all of them.
    #[must_use]
    pub fn lane_rows(lane: &Lane) -> [(Key, Key); 3] {
        let class = |class| Key(class_prefix(lane, class));
        let froms = [class(Class::Append), class(Class::Register), register_index(lane, &[])];
        froms.map(|from| (from.clone(), from.after_prefix()))
    }

    /// The range of keys of what was appended to a lane up to a position, for deleting that.
    #[must_use]
    pub fn rows_up_to(lane: &Lane, upto: Position) -> (Key, Key) {
        let (_, to) = class_range(lane, Class::Append, Position::ZERO, upto);
        (Key(class_prefix(lane, Class::Append)), to)
    }

    /// What an audience reads and has read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn subscriptions(&self, audience: &Audience) -> Result<Arc<Subscriptions>, StoreError> {
        loop {
            let generation = match self.inner.readers.subscriptions(audience) {
                Ok(known) => return Ok(known),
                Err(generation) => generation,
            };
            let loaded = Arc::new(self.load_subscriptions(audience).await?);
            // Without a cache (several processes write) what was loaded is as good as it gets.
            if !self.db().is_exclusive() || self.inner.readers.cache(audience, &loaded, generation) {
                return Ok(loaded);
            }
        }
    }

    /// Follows a local user from now on: see [`Self::followed`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn follow(&self, user: &OwnedUserId) -> Result<(), StoreError> {
        while let Err(generation) = self.inner.readers.follows(user) {
            let rooms = self.load_subscriptions(&Audience::Account(user.clone())).await?;
            self.inner.readers.follow(user, &rooms, generation);
        }
        Ok(())
    }

    /// Resolves with the followed users for whom there is something new, in a room of theirs or in their
    /// account; empty when the log closes. One at a time may ask.
    pub async fn followed(&self) -> BTreeSet<OwnedUserId> {
        loop {
            let woken = self.inner.readers.pushers();
            let news = self.inner.readers.take_followed();
            if !news.is_empty() || self.queue.lock().is_none() {
                return news;
            }
            woken.notified().await;
        }
    }

    async fn load_subscriptions(&self, audience: &Audience) -> Result<Subscriptions, StoreError> {
        let prefix = audience_prefix(audience);
        let (mut from, to) = (prefix.clone(), prefix.after_prefix());
        let mut changes = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.db().scan_many(&[scan]).await?.pop().unwrap_or_default();
            for (key, value) in &rows {
                let (lane, at) = read_subscription(audience, key)?;
                changes.push((lane, value.first() == Some(&1), at));
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS_MAX => from = last.successor(),
                _ => break,
            }
        }
        let mut subscriptions = Subscriptions::default();
        for (lane, opens, at) in changes {
            subscriptions.change(lane, opens, at);
        }
        Ok(subscriptions)
    }

    async fn facts(&self, scan: Scan) -> Result<Vec<(Position, Fact)>, StoreError> {
        Ok(self.many(vec![scan]).await?.pop().unwrap_or_default())
    }

    async fn many(&self, scans: Vec<Scan>) -> Result<Vec<Vec<(Position, Fact)>>, StoreError> {
        let found = self.db().scan_many(&scans).await?;
        let facts = |rows: Vec<Row>| {
            rows.iter().map(|(key, value)| Ok((position_of(key)?, decode_fact(value)?))).collect()
        };
        found.into_iter().map(facts).collect()
    }

    /// Whether `lane` may have something above `from`; never wrong when it says no.
    #[must_use]
    pub fn may_have(&self, lane: &Lane, from: Position) -> bool {
        !self.db().is_exclusive() || self.inner.readers.may_have(lane, from)
    }

    /// Of the lanes in `subscriptions`, those that may have something above `from`.
    #[must_use]
    pub fn beyond(&self, from: Position, subscriptions: &Subscriptions) -> Vec<Lane> {
        match self.db().is_exclusive() {
            true => self.inner.readers.beyond(from, subscriptions),
            false => subscriptions.latest().map(|(lane, _)| lane.clone()).collect(),
        }
    }

    /// The facts in memory of a lane in `(from, to]`.
    #[must_use]
    pub fn volatile(&self, lane: &Lane, from: Position, to: Position) -> Vec<(Position, Fact)> {
        self.inner.readers.volatile(lane, from, to)
    }
}

/// The position that a register's index row holds.
fn register_place(index: &[u8]) -> Result<Position, StoreError> {
    let bytes = index.first_chunk().ok_or_else(|| StoreError::Corrupt(String::from("a register's place")))?;
    Ok(Position(u64::from_be_bytes(*bytes)))
}
