//! Looking things up in a state.

use ruma::events::StateEventType;

use super::{
    NeedNodes, NodeId, NodeSource, StateId, StateKey, StateValue,
    node::{Entry, Node},
};

/// What stands at `key`.
pub fn get(
    source: &impl NodeSource,
    state: StateId,
    key: &StateKey,
) -> Result<Option<StateValue>, NeedNodes> {
    descend(source, state, key).map_err(|missing| NeedNodes(vec![missing]))
}

/// What stands at each of `keys`, in their order.
pub fn get_many(
    source: &impl NodeSource,
    state: StateId,
    keys: &[StateKey],
) -> Result<Vec<Option<StateValue>>, NeedNodes> {
    let mut missing = Vec::new();
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        match descend(source, state, key) {
            Ok(value) => found.push(value),
            Err(id) => missing.push(id),
        }
    }
    NeedNodes::unless_empty(missing, found)
}

/// Everything of one event type, by state key.
pub fn range(
    source: &impl NodeSource,
    state: StateId,
    event_type: &StateEventType,
) -> Result<Vec<Entry>, NeedNodes> {
    let mut scan = Scan { source, event_type: Some(event_type), found: Vec::new(), missing: Vec::new() };
    scan.visit(state.root());
    NeedNodes::unless_empty(scan.missing, scan.found)
}

/// The whole state, in order.
pub fn all(source: &impl NodeSource, state: StateId) -> Result<Vec<Entry>, NeedNodes> {
    let mut scan = Scan { source, event_type: None, found: Vec::new(), missing: Vec::new() };
    scan.visit(state.root());
    NeedNodes::unless_empty(scan.missing, scan.found)
}

fn descend(source: &impl NodeSource, state: StateId, key: &StateKey) -> Result<Option<StateValue>, NodeId> {
    let mut next = state.root();
    while let Some(id) = next {
        let node = source.get(&id).ok_or(id)?;
        match node.search(key) {
            Ok(index) => return Ok(Some(node.entries[index].value.clone())),
            Err(index) => next = node.link(index).map(|child| child.id),
        }
    }
    Ok(None)
}

struct Scan<'a, S> {
    source: &'a S,
    event_type: Option<&'a StateEventType>,
    found: Vec<Entry>,
    missing: Vec<NodeId>,
}

impl<S: NodeSource> Scan<'_, S> {
    fn visit(&mut self, id: Option<NodeId>) {
        let Some(id) = id else { return };
        let Some(node) = self.source.get(&id) else { return self.missing.push(id) };
        let (from, to) = self.bounds(&node);
        for index in from..to {
            self.visit(node.link(index).map(|child| child.id));
            if self.missing.is_empty() {
                self.found.push(node.entries[index].clone());
            }
        }
        self.visit(node.link(to).map(|child| child.id));
    }

    fn bounds(&self, node: &Node) -> (usize, usize) {
        let Some(wanted) = self.event_type else { return (0, node.entries.len()) };
        let from = node.entries.partition_point(|entry| entry.key.event_type < *wanted);
        let to = node.entries.partition_point(|entry| entry.key.event_type <= *wanted);
        (from, to)
    }
}
