//! Room states: what stands where, now or then, and what differs.

use std::{collections::HashMap, sync::Arc};

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, events::StateEventType};

use super::{History, States, StoredEvent};
use crate::{
    dag::{
        NeedNodes, Node, NodeId, NodeSource, StateId, StateKey, StateValue,
        tree::{self, Change, Entry},
    },
    limits::{PAGE_EVENTS_LOOKED_AT_MAX, PAGE_EVENTS_MAX},
    log::Direction,
    store::{Key, StoreError, table::TableId},
    types::{Fact, Position},
};

/// Where the nodes of one question come from.
pub(crate) struct Nodes<'a> {
    history: &'a History,
    fresh: &'a HashMap<NodeId, Arc<Node>>,
    loaded: HashMap<NodeId, Arc<Node>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(history: &'a History, fresh: &'a HashMap<NodeId, Arc<Node>>) -> Self {
        Self { history, fresh, loaded: HashMap::new() }
    }

    /// Loads nodes that are neither fresh nor in memory.
    pub(super) async fn load(&mut self, needed: Vec<NodeId>) -> Result<(), StoreError> {
        if needed.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = needed.iter().copied().map(node_key).collect();
        let rows = self.history.0.log.db().get_many(&keys).await?;
        for (id, row) in needed.into_iter().zip(rows) {
            let corrupt = |what: String| StoreError::Corrupt(format!("state node {id:?}: {what}"));
            let row = row.ok_or_else(|| corrupt(String::from("it is missing")))?;
            let node = Node::decode(&id, &row).map_err(|error| corrupt(error.to_string()))?;
            let node = Arc::new(node);
            self.history.0.caches.nodes.insert(id, node.clone());
            self.loaded.insert(id, node);
        }
        Ok(())
    }
}

impl NodeSource for Nodes<'_> {
    fn get(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.loaded
            .get(id)
            .or_else(|| self.fresh.get(id))
            .cloned()
            .or_else(|| self.history.0.caches.nodes.get(id))
    }

    fn salt(&self) -> [u8; 16] {
        self.history.0.salt
    }
}

/// The key of a state node's row.
pub(crate) fn node_key(id: NodeId) -> Key {
    Key::new(TableId::StateNode, &(id.0,))
}

impl History {
    /// Asks `question` of the state trees, loading the nodes that it turns out to need. Nodes that are
    /// not stored yet are found in `fresh`.
    pub(crate) async fn ask<T>(
        &self,
        fresh: &HashMap<NodeId, Arc<Node>>,
        question: impl Fn(&Nodes<'_>) -> Result<T, NeedNodes>,
    ) -> Result<T, StoreError> {
        let mut nodes = Nodes::new(self, fresh);
        loop {
            match question(&nodes) {
                Ok(answer) => return Ok(answer),
                Err(NeedNodes(needed)) => nodes.load(needed).await?,
            }
        }
    }

    /// Keeps a node that was just written.
    pub(crate) fn note_node(&self, id: NodeId, node: &Arc<Node>) {
        self.0.caches.nodes.insert(id, node.clone());
    }

    /// The current state of a room, if this server knows the room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn current_state(&self, room: &RoomId) -> Result<Option<StateId>, StoreError> {
        Ok(self.room(room).await?.map(|row| row.state))
    }

    /// What stands at one place of a state.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_entry(
        &self,
        state: StateId,
        event_type: StateEventType,
        state_key: &str,
    ) -> Result<Option<StateValue>, StoreError> {
        let key = StateKey::new(event_type, state_key);
        self.ask(&HashMap::new(), |nodes| tree::get(nodes, state, &key)).await
    }

    /// What stands at several places of a state, in the order of `keys`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_entries(
        &self,
        state: StateId,
        keys: &[StateKey],
    ) -> Result<Vec<Option<StateValue>>, StoreError> {
        self.ask(&HashMap::new(), |nodes| tree::get_many(nodes, state, keys)).await
    }

    /// The event that stands at one place of a state.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_event(
        &self,
        state: StateId,
        event_type: StateEventType,
        state_key: &str,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        match self.state_entry(state, event_type, state_key).await? {
            Some(value) => self.event(&value.event_id).await,
            None => Ok(None),
        }
    }

    /// Everything in a state, or everything of one type, by type and key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_of(
        &self,
        state: StateId,
        event_type: Option<&StateEventType>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.ask(&HashMap::new(), |nodes| match event_type {
            Some(event_type) => tree::range(nodes, state, event_type),
            None => tree::all(nodes, state),
        })
        .await
    }

    /// The events of a state, or those of one type.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_events(
        &self,
        state: StateId,
        event_type: Option<&StateEventType>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let entries = self.state_of(state, event_type).await?;
        let ids: Vec<_> = entries.into_iter().map(|entry| entry.value.event_id).collect();
        Ok(self.events(&ids).await?.into_iter().flatten().collect())
    }

    /// Where two states differ, by type and key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_diff(&self, before: StateId, after: StateId) -> Result<Vec<Change>, StoreError> {
        self.ask(&HashMap::new(), |nodes| tree::diff(nodes, before, after)).await
    }

    /// The states around an event, if they are known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_at(&self, event_id: &EventId) -> Result<Option<States>, StoreError> {
        Ok(self.event(event_id).await?.and_then(|event| event.states))
    }

    /// The current state of a room as it was at a position: with every timeline event up to there, and what was found
    /// out of it otherwise.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state_at_position(&self, room: &RoomId, position: Position) -> Result<StateId, StoreError> {
        let mut to = position;
        loop {
            let range = (Position::ZERO, to);
            let facts = self.0.log.timeline(room, range, Direction::Backward, 1).await?;
            let event_id = match facts.into_iter().next() {
                None => return Ok(StateId::EMPTY),
                Some((_, Fact::StateIs { state })) => return Ok(StateId(state)),
                Some((_, Fact::Event { event_id })) => event_id,
                Some((at, _)) => {
                    to = Position(at.0.saturating_sub(1));
                    continue;
                }
            };
            let states = self.state_at(&event_id).await?;
            return Ok(states.map_or(StateId::EMPTY, |states| states.current));
        }
    }

    /// The timeline event of a room that was sent closest to a moment, at it or on one side of it, with
    /// its moment.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event_near(
        &self,
        room: &RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Result<Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)>, StoreError> {
        let (mut from, mut to) = (Position::ZERO, self.0.log.head());
        for _ in 0..PAGE_EVENTS_LOOKED_AT_MAX.div_ceil(PAGE_EVENTS_MAX) {
            let facts = self.0.log.timeline(room, (from, to), direction, PAGE_EVENTS_MAX).await?;
            let Some((last, _)) = facts.last() else { return Ok(None) };
            match direction {
                Direction::Forward => from = *last,
                Direction::Backward => to = Position(last.0.saturating_sub(1)),
            }
            let ids = facts.into_iter().filter_map(|(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            });
            let ids: Vec<OwnedEventId> = ids.collect();
            let found = self.events(&ids).await?.into_iter().flatten().find(|event| match direction {
                Direction::Forward => event.pdu.origin_server_ts() >= ts,
                Direction::Backward => event.pdu.origin_server_ts() <= ts,
            });
            if let Some(event) = found {
                return Ok(Some((event.pdu.event_id().to_owned(), event.pdu.origin_server_ts())));
            }
        }
        Ok(None)
    }
}
