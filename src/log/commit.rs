//! What one request wants to happen: rows, facts and subscription changes, all or nothing.

use std::collections::HashSet;

use ruma::{DeviceId, ServerName, UserId};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Audience,
    lane::{Class, class_of, class_prefix, class_range, encode_fact, register_index, subscription_prefix},
};
use crate::{
    store::{
        Batch, Expect, Key, KeyFields, KeyWriter, Stamped, StoreError, Write,
        table::{Rows, TableId},
    },
    types::{Fact, Lane, Position, RegisterKey, Retention},
};

/// Names a request that must not take effect twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceKey(pub Vec<u8>);

impl OnceKey {
    /// A client's transaction: `kind` names the endpoint with its path parameters.
    #[must_use]
    pub fn txn(user: &UserId, device: &DeviceId, kind: &str, txn_id: &str) -> Self {
        let mut writer = KeyWriter::new(TableId::Once);
        for part in [user.as_str(), device.as_str(), kind, txn_id] {
            writer.string(part);
        }
        Self(writer.finish().0)
    }

    /// Something that another server sends under an id of its own; `kind` says what.
    #[must_use]
    pub fn server(origin: &ServerName, kind: &str, id: &str) -> Self {
        let mut writer = KeyWriter::new(TableId::Once);
        // No user id is empty, so these keys are none of a device's.
        for part in ["", origin.as_str(), kind, id] {
            writer.string(part);
        }
        Self(writer.finish().0)
    }

    /// What the keys of [`Self::server`] begin with, of all servers.
    #[must_use]
    pub fn servers_prefix() -> Key {
        let mut writer = KeyWriter::new(TableId::Once);
        writer.string("");
        writer.finish()
    }

    /// What the once keys of all transactions of a device begin with.
    #[must_use]
    pub fn device_prefix(user: &UserId, device: &DeviceId) -> Key {
        let mut writer = KeyWriter::new(TableId::Once);
        writer.string(user.as_str());
        writer.string(device.as_str());
        writer.finish()
    }
}

/// Why a commit did not take effect (or, for [`CommitError::AlreadyDone`], had taken effect before).
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The request took effect earlier; here is what it was answered.
    #[error("already done")]
    AlreadyDone(Vec<u8>),
    /// A row is not what the commit expected: load again, judge again, try again.
    #[error("another request was faster")]
    Conflict(Key),
    /// The log is shutting down.
    #[error("the server is shutting down")]
    Closed,
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// Whether the same may succeed later (see [`StoreError::may_pass`]).
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.may_pass(),
            Self::Conflict(_) | Self::Closed => true,
            Self::AlreadyDone(_) => false,
        }
    }
}

/// A fact's place in a commit, for those who are told after it is durable.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) lane: Lane,
    pub(super) slot: u32,
    /// Whose devices or presence changed, on the `People` lane, or whose profile, on `Profiles`.
    pub(super) person: Option<ruma::OwnedUserId>,
}

#[derive(Clone, Debug)]
pub(super) struct SubscriptionChange {
    pub(super) audience: Audience,
    pub(super) lane: Lane,
    pub(super) opens: bool,
    pub(super) slot: u32,
}

#[derive(Clone, Debug)]
pub(super) struct VolatileFact {
    pub(super) lane: Lane,
    pub(super) register: RegisterKey,
    pub(super) fact: Fact,
}

/// What one request wants to happen: rows, facts and subscription changes, all or nothing.
///
/// Facts added one after another to different lanes share a position; a second fact for the same
/// lane moves on to the next. Subscription changes and stamps take the position of the fact before.
#[derive(Debug, Default)]
#[must_use = "a commit does nothing until it is handed to the log"]
pub struct Commit {
    pub(super) batch: Batch,
    pub(super) has_once: bool,
    pub(super) touches: Vec<Touch>,
    pub(super) changes: Vec<SubscriptionChange>,
    pub(super) volatile: Vec<VolatileFact>,
    slot: u32,
    lanes_of_slot: HashSet<Lane>,
}

impl Commit {
    /// An empty commit.
    pub fn new() -> Self {
        Self::default()
    }

    /// A commit that takes effect at most once per key; a repeat gets
    /// [`CommitError::AlreadyDone`] with `reply`.
    pub fn once(key: OnceKey, reply: Vec<u8>) -> Self {
        let mut commit = Self { has_once: true, ..Self::default() };
        let key = Key(key.0);
        commit.batch.expects.push(Expect::Absent(key.clone()));
        commit.put_raw(key, reply);
        commit
    }

    /// Whether the commit would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.writes.is_empty() && self.volatile.is_empty()
    }

    /// Sets a row.
    pub fn put<K, V>(&mut self, rows: &Rows<K, V>, key: &K, value: &V)
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        self.put_raw(rows.key(key), rows.encode(value));
    }

    /// Sets an untyped row.
    pub fn put_raw(&mut self, key: Key, value: Vec<u8>) {
        self.batch.writes.push(Write::Put(Stamped::plain(key.0), Stamped::plain(value)));
    }

    /// Sets an untyped row whose value is `before`, then the position of the fact added last (eight
    /// bytes, big-endian), then `after`.
    pub fn put_stamped(&mut self, key: Key, before: Vec<u8>, after: &[u8]) {
        let slot = self.stamp_slot();
        self.batch.writes.push(Write::Put(Stamped::plain(key.0), Stamped::around(before, slot, after)));
    }

    /// Sets an untyped row whose *key* is `before`, then the position of the fact added last.
    pub fn put_at_position(&mut self, before: Key, value: Vec<u8>) {
        let slot = self.stamp_slot();
        self.batch.writes.push(Write::Put(Stamped::around(before.0, slot, &[]), Stamped::plain(value)));
    }

    /// Removes a row.
    pub fn delete<K, V>(&mut self, rows: &Rows<K, V>, key: &K)
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        self.delete_key(rows.key(key));
    }

    /// Removes an untyped row.
    pub fn delete_key(&mut self, key: Key) {
        self.batch.writes.push(Write::Delete(key));
    }

    /// Removes every row whose key begins with `prefix`.
    pub fn delete_prefix<K, V, P>(&mut self, rows: &Rows<K, V>, prefix: &P)
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
        P: KeyFields,
    {
        let from = rows.prefix(prefix);
        self.delete_range(from.clone(), from.after_prefix());
    }

    /// Removes every row from `from` up to, not including, `to`.
    pub fn delete_range(&mut self, from: Key, to: Key) {
        self.batch.writes.push(Write::DeleteRange(from, to));
    }

    /// Refuses the commit if the row exists.
    pub fn expect_absent<K, V>(&mut self, rows: &Rows<K, V>, key: &K)
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        self.expect_raw(Expect::Absent(rows.key(key)));
    }

    /// Refuses the commit unless the row has this value.
    pub fn expect_equals<K, V>(&mut self, rows: &Rows<K, V>, key: &K, value: &V)
    where
        K: KeyFields,
        V: Serialize + DeserializeOwned,
    {
        self.expect_raw(Expect::Equals(rows.key(key), rows.encode(value)));
    }

    /// Refuses the commit unless `expect` holds.
    pub fn expect_raw(&mut self, expect: Expect) {
        self.batch.expects.push(expect);
    }

    /// Refuses the commit unless a register of a lane was last written at `at`, or never.
    pub fn expect_register(&mut self, lane: &Lane, key: &RegisterKey, at: Option<Position>) {
        let index = register_index(lane, &key.0);
        self.expect_raw(match at {
            Some(at) => Expect::Equals(index, at.to_bytes().to_vec()),
            None => Expect::Absent(index),
        });
    }

    /// Adds a fact to a lane.
    pub fn fact(&mut self, lane: Lane, fact: Fact) {
        let retention = fact.retention();
        if let Retention::Volatile(register) = retention {
            self.volatile.push(VolatileFact { lane, register, fact });
            return;
        }
        if !self.lanes_of_slot.insert(lane.clone()) {
            self.slot += 1;
            self.lanes_of_slot.clear();
            self.lanes_of_slot.insert(lane.clone());
        }
        let slot = self.stamp_slot();
        let person = match &fact {
            Fact::Devices { user_id } | Fact::Profile { user_id } => Some(user_id.clone()),
            _ => None,
        };
        let class = class_of(&retention).unwrap_or(Class::Append);
        let (prefix, value) = (class_prefix(&lane, class), encode_fact(&fact));
        self.batch.writes.push(match retention {
            Retention::Register(register) => {
                Write::Register { index: register_index(&lane, &register.0), lane: prefix, value, slot }
            }
            _ => Write::Put(Stamped::around(prefix, slot, &[]), Stamped::plain(value)),
        });
        self.touches.push(Touch { lane, slot, person });
    }

    /// From the position of the fact added last on, `audience` reads `lane`.
    pub fn open(&mut self, audience: Audience, lane: Lane) {
        self.change(audience, lane, true);
    }

    /// After the position of the fact added last, `audience` reads `lane` no more.
    pub fn close(&mut self, audience: Audience, lane: Lane) {
        self.change(audience, lane, false);
    }

    fn change(&mut self, audience: Audience, lane: Lane, opens: bool) {
        let slot = self.stamp_slot();
        let key = Stamped::around(subscription_prefix(&audience, &lane), slot, &[]);
        self.batch.writes.push(Write::Put(key, Stamped::plain(vec![u8::from(opens)])));
        self.changes.push(SubscriptionChange { audience, lane, opens, slot });
    }

    /// Removes everything that waits for a device, with its transaction ids and its cursor.
    pub fn drop_inbox(&mut self, user: &UserId, device: &DeviceId) {
        let inbox = Lane::Inbox(user.to_owned(), device.to_owned());
        for class in [Class::Queue, Class::Register] {
            let from = Key(class_prefix(&inbox, class));
            self.delete_range(from.clone(), from.after_prefix());
        }
        for from in [register_index(&inbox, &[]), OnceKey::device_prefix(user, device)] {
            self.delete_range(from.clone(), from.after_prefix());
        }
    }

    /// Removes what waits in the queue of a lane, up to `upto`.
    pub fn drop_queued(&mut self, lane: &Lane, upto: Position) {
        let (from, to) = class_range(lane, Class::Queue, Position::ZERO, upto);
        self.delete_range(from, to);
    }

    fn stamp_slot(&mut self) -> u32 {
        self.batch.slots = self.slot + 1;
        self.slot
    }

    /// How many positions the commit takes so far.
    pub fn positions(&self) -> u64 {
        u64::from(self.batch.slots)
    }

    /// The position of the last slot, given the first.
    pub(super) fn last_position(&self, first: Position) -> Position {
        Position(first.0 + u64::from(self.batch.slots.saturating_sub(1)))
    }
}
