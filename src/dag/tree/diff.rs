//! The difference of two states, at the price of what differs.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use super::{
    NeedNodes, NodeId, NodeSource, StateId, StateKey, StateValue,
    node::{Child, Entry, Node},
};

/// Nodes that one [`NeedNodes`] of a difference names at most: enough for a level, not for a whole tree.
const AHEAD_MAX: usize = 256;

/// One place where two states differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The place.
    pub key: StateKey,
    /// What the first state has there.
    pub before: Option<StateValue>,
    /// What the second state has there.
    pub after: Option<StateValue>,
}

/// Where `before` and `after` differ, in order.
///
/// Two walks go through both trees in order. Where both stand before the same subtree they step over it;
/// else the higher of the two is opened.
pub fn diff(source: &impl NodeSource, before: StateId, after: StateId) -> Result<Vec<Change>, NeedNodes> {
    if before == after {
        return Ok(Vec::new());
    }
    let absent = |state: StateId| state.root().filter(|id| source.get(id).is_none());
    let missing: Vec<NodeId> = [before, after].into_iter().filter_map(absent).collect();
    NeedNodes::unless_empty(missing, ())?;
    let (mut a, mut b) = (Walk::new(source, before), Walk::new(source, after));
    let mut changes = Vec::new();
    while let Some(step) = next_step(&a, &b) {
        let opened = match step {
            Step::Skip => {
                a.0.pop();
                b.0.pop();
                true
            }
            Step::OpenBefore => a.open(source),
            Step::OpenAfter => b.open(source),
            Step::OpenBoth => a.open(source) && b.open(source),
            Step::Before => report(&mut changes, a.entry(), None),
            Step::After => report(&mut changes, None, b.entry()),
            Step::Both => report(&mut changes, a.entry(), b.entry()),
        };
        if !opened {
            return Err(ahead(source, &a, &b));
        }
    }
    Ok(changes)
}

enum Step {
    Skip,
    OpenBefore,
    OpenAfter,
    OpenBoth,
    Before,
    After,
    Both,
}

fn next_step(a: &Walk, b: &Walk) -> Option<Step> {
    Some(match (a.0.last(), b.0.last()) {
        (None, None) => return None,
        (Some(Item::Tree(x)), Some(Item::Tree(y))) => match (x.id == y.id, x.level.cmp(&y.level)) {
            (true, _) => Step::Skip,
            (_, Ordering::Greater) => Step::OpenBefore,
            (_, Ordering::Less) => Step::OpenAfter,
            (_, Ordering::Equal) => Step::OpenBoth,
        },
        (Some(Item::Tree(_)), _) => Step::OpenBefore,
        (_, Some(Item::Tree(_))) => Step::OpenAfter,
        (Some(Item::Entry(..)), None) => Step::Before,
        (None, Some(Item::Entry(..))) => Step::After,
        (Some(Item::Entry(x, i)), Some(Item::Entry(y, j))) => {
            match x.entries[*i].key.cmp(&y.entries[*j].key) {
                Ordering::Less => Step::Before,
                Ordering::Greater => Step::After,
                Ordering::Equal => Step::Both,
            }
        }
    })
}

fn report(changes: &mut Vec<Change>, before: Option<Entry>, after: Option<Entry>) -> bool {
    let key = before.as_ref().or(after.as_ref()).map(|entry| entry.key.clone());
    let (before, after) = (before.map(|entry| entry.value), after.map(|entry| entry.value));
    if let Some(key) = key
        && before != after
    {
        changes.push(Change { key, before, after });
    }
    true
}

enum Item {
    Tree(Child),
    Entry(Arc<Node>, usize),
}

/// What is still to be walked; the next is last.
struct Walk(Vec<Item>);

impl Walk {
    fn new(source: &impl NodeSource, state: StateId) -> Self {
        let root = state.root().and_then(|id| Some(Child { id, level: source.get(&id)?.level }));
        Self(root.map(Item::Tree).into_iter().collect())
    }

    /// Replaces the subtree on top by its parts; `false`, and no change, if the node is not at hand.
    fn open(&mut self, source: &impl NodeSource) -> bool {
        let Some(Item::Tree(child)) = self.0.last() else { return true };
        let Some(node) = source.get(&child.id) else { return false };
        self.0.pop();
        for index in (0..=node.entries.len()).rev() {
            if index < node.entries.len() {
                self.0.push(Item::Entry(node.clone(), index));
            }
            self.0.extend(node.link(index).map(Item::Tree));
        }
        true
    }

    fn entry(&mut self) -> Option<Entry> {
        match self.0.pop()? {
            Item::Entry(node, index) => Some(node.entries[index].clone()),
            Item::Tree(_) => None,
        }
    }

    fn pending(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().rev().filter_map(|item| match item {
            Item::Tree(child) => Some(child.id),
            Item::Entry(..) => None,
        })
    }
}

/// The absent nodes that only one of the walks has before it: those will have to be opened.
fn ahead(source: &impl NodeSource, a: &Walk, b: &Walk) -> NeedNodes {
    let (in_a, in_b): (HashSet<_>, HashSet<_>) = (a.pending().collect(), b.pending().collect());
    let mut missing: Vec<NodeId> = a
        .pending()
        .filter(|id| !in_b.contains(id))
        .chain(b.pending().filter(|id| !in_a.contains(id)))
        .filter(|id| source.get(id).is_none())
        .take(AHEAD_MAX)
        .collect();
    if missing.is_empty() {
        // The same absent node is before both walks at different places.
        missing = a.pending().chain(b.pending()).filter(|id| source.get(id).is_none()).take(1).collect();
    }
    missing.sort_unstable();
    missing.dedup();
    NeedNodes(missing)
}
