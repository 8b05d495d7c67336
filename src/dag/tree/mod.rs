//! The state of a room as a persistent search tree, shared between snapshots.
//!
//! A key's level comes from its hash (each four trailing zero bits raise it by one), and a node holds the
//! keys of the highest level between two keys of a higher one. So the shape depends on the content alone:
//! equal states have equal roots, a change writes one path, and the difference of two states costs what
//! differs. Nodes are found by the hash of their bytes and never change.
//!
//! Nothing here reads storage. A function that meets a node which its [`NodeSource`] lacks returns
//! [`NeedNodes`] with everything that it can tell is needed; the caller loads those and calls again.
//! Invariants: every node has entries in ascending order, one level, and children of lower levels only.

mod diff;
mod edit;
mod node;
mod read;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc};

use ruma::{OwnedEventId, events::StateEventType};

pub use diff::{Change, diff};
pub use edit::{Applied, NewNode, apply};
pub use node::{Child, Corrupt, Entry, Node};
pub use read::{all, get, get_many, range};

use super::pdu::Pdu;
use crate::types::Membership;

/// Names a node: the first half of the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

/// Names a state: the id of its root node, or [`StateId::EMPTY`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub [u8; 16]);

impl StateId {
    /// The state before the create event.
    pub const EMPTY: Self = Self([0; 16]);

    /// The root node, unless the state is empty.
    #[must_use]
    pub fn root(self) -> Option<NodeId> {
        (self != Self::EMPTY).then_some(NodeId(self.0))
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// A place in the room state. Ordered by event type, then by state key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    /// The event type.
    pub event_type: StateEventType,
    /// The state key.
    pub state_key: String,
}

impl StateKey {
    /// The place of `event_type` and `state_key`.
    #[must_use]
    pub fn new(event_type: StateEventType, state_key: &str) -> Self {
        Self { event_type, state_key: String::from(state_key) }
    }
}

impl From<(StateEventType, String)> for StateKey {
    fn from((event_type, state_key): (StateEventType, String)) -> Self {
        Self { event_type, state_key }
    }
}

/// What stands in a place of the room state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateValue {
    /// The state event.
    pub event_id: OwnedEventId,
    /// The membership, if the event is an `m.room.member`: so that lists of members load no events.
    pub membership: Option<Membership>,
}

/// The place and the value of a state event; `None` if `pdu` is not one.
#[must_use]
pub fn entry_of(pdu: &Pdu) -> Option<(StateKey, StateValue)> {
    let value = StateValue { event_id: pdu.event_id().to_owned(), membership: pdu.membership() };
    Some((pdu.state_position()?.into(), value))
}

/// Where nodes come from: a cache, or what was loaded so far.
pub trait NodeSource {
    /// The node, if it is at hand.
    fn get(&self, id: &NodeId) -> Option<Arc<Node>>;

    /// Mixed into the hash from which keys take their level; fixed for the life of a store. A secret one
    /// keeps others from choosing state keys that make a lopsided tree.
    fn salt(&self) -> [u8; 16] {
        [0; 16]
    }
}

impl NodeSource for HashMap<NodeId, Arc<Node>> {
    fn get(&self, id: &NodeId) -> Option<Arc<Node>> {
        Self::get(self, id).cloned()
    }
}

/// These nodes are needed to go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} nodes of a room state must be loaded first", .0.len())]
pub struct NeedNodes(pub Vec<NodeId>);

impl NeedNodes {
    /// `value`, unless something is missing.
    fn unless_empty<T>(mut missing: Vec<NodeId>, value: T) -> Result<T, Self> {
        missing.sort_unstable();
        missing.dedup();
        match missing.is_empty() {
            true => Ok(value),
            false => Err(Self(missing)),
        }
    }
}
