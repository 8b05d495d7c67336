//! Making a new state out of an old one.

use std::{cmp::Ordering, mem, sync::Arc};

use super::{
    NeedNodes, NodeId, NodeSource, StateId, StateKey, StateValue,
    node::{Child, Entry, Node, level_of, node_id},
};

/// A node that a change made.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Its id.
    pub id: NodeId,
    /// The node, for a cache.
    pub node: Arc<Node>,
    /// Its bytes, for the store.
    pub bytes: Vec<u8>,
}

/// What changes made of a state.
#[derive(Clone, Debug)]
#[must_use]
pub struct Applied {
    /// The new state.
    pub state: StateId,
    /// The nodes that it has and the old one had not. Some may be stored already, for another state.
    pub nodes: Vec<NewNode>,
}

/// Sets (`Some`) or removes (`None`) entries, in order, and says what must be written.
pub fn apply(
    source: &impl NodeSource,
    state: StateId,
    changes: impl IntoIterator<Item = (StateKey, Option<StateValue>)>,
) -> Result<Applied, NeedNodes> {
    let changes: Vec<_> = changes.into_iter().collect();
    let mut missing = Vec::new();
    for (key, value) in &changes {
        touch(source, state.root(), key, value.is_none(), &mut missing);
    }
    NeedNodes::unless_empty(missing, ())?;
    let editor = Editor { source };
    let mut root = match state.root() {
        Some(id) => Part::Stored(Child { id, level: 0 }),
        None => Part::Empty,
    };
    for (key, value) in changes {
        let edited = match value {
            Some(value) => {
                let level = level_of(&key, source.salt());
                editor.insert(root, Entry { key, value }, level)
            }
            None => editor.remove(root, &key),
        };
        root = edited.map_err(|id| NeedNodes(vec![id]))?;
    }
    let mut nodes = Vec::new();
    let state = close(root, &mut nodes).map_or(StateId::EMPTY, |child| StateId(child.id.0));
    Ok(Applied { state, nodes })
}

/// Collects the absent nodes on the paths that a change at `key` needs.
fn touch(
    source: &impl NodeSource,
    mut next: Option<NodeId>,
    key: &StateKey,
    removes: bool,
    missing: &mut Vec<NodeId>,
) {
    while let Some(id) = next {
        let Some(node) = source.get(&id) else { return missing.push(id) };
        match node.search(key) {
            Ok(index) if removes => {
                // The two sides of the removed entry are merged along their inner edges.
                edge(source, node.link(index), |node| node.link(node.entries.len()), missing);
                return edge(source, node.link(index + 1), |node| node.link(0), missing);
            }
            Ok(_) => return,
            Err(index) => next = node.link(index).map(|child| child.id),
        }
    }
}

fn edge(
    source: &impl NodeSource,
    mut next: Option<Child>,
    step: impl Fn(&Node) -> Option<Child>,
    missing: &mut Vec<NodeId>,
) {
    while let Some(child) = next {
        let Some(node) = source.get(&child.id) else { return missing.push(child.id) };
        next = step(&node);
    }
}

/// A subtree being edited.
#[derive(Default)]
enum Part {
    #[default]
    Empty,
    Stored(Child),
    Open(Box<OpenNode>),
}

struct OpenNode {
    level: u8,
    entries: Vec<Entry>,
    /// Always one more than entries.
    links: Vec<Part>,
    /// The node that this was before, so that an edit which changes nothing writes nothing.
    origin: Option<NodeId>,
}

impl OpenNode {
    fn search(&self, key: &StateKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }

    fn part(level: u8, entries: Vec<Entry>, links: Vec<Part>) -> Part {
        Part::Open(Box::new(Self { level, entries, links, origin: None }))
    }
}

/// The error of every step is the id of a node that is not at hand.
struct Editor<'a, S> {
    source: &'a S,
}

impl<S: NodeSource> Editor<'_, S> {
    fn open(&self, part: Part) -> Result<Option<Box<OpenNode>>, NodeId> {
        let child = match part {
            Part::Empty => return Ok(None),
            Part::Open(node) => return Ok(Some(node)),
            Part::Stored(child) => child,
        };
        let node = self.source.get(&child.id).ok_or(child.id)?;
        let links = (0..=node.entries.len()).map(|index| node.link(index).map_or(Part::Empty, Part::Stored));
        Ok(Some(Box::new(OpenNode {
            level: node.level,
            links: links.collect(),
            entries: node.entries.clone(),
            origin: Some(child.id),
        })))
    }

    fn insert(&self, part: Part, entry: Entry, level: u8) -> Result<Part, NodeId> {
        let Some(mut node) = self.open(part)? else {
            return Ok(OpenNode::part(level, vec![entry], vec![Part::Empty, Part::Empty]));
        };
        match (level.cmp(&node.level), node.search(&entry.key)) {
            (Ordering::Greater, _) => {
                let (left, right) = self.split(Part::Open(node), &entry.key)?;
                return Ok(OpenNode::part(level, vec![entry], vec![left, right]));
            }
            (_, Ok(index)) => node.entries[index].value = entry.value,
            (Ordering::Equal, Err(index)) => {
                let (left, right) = self.split(mem::take(&mut node.links[index]), &entry.key)?;
                node.links[index] = left;
                node.links.insert(index + 1, right);
                node.entries.insert(index, entry);
            }
            (Ordering::Less, Err(index)) => {
                node.links[index] = self.insert(mem::take(&mut node.links[index]), entry, level)?;
            }
        }
        Ok(Part::Open(node))
    }

    fn remove(&self, part: Part, key: &StateKey) -> Result<Part, NodeId> {
        let Some(mut node) = self.open(part)? else { return Ok(Part::Empty) };
        match node.search(key) {
            Err(index) => node.links[index] = self.remove(mem::take(&mut node.links[index]), key)?,
            Ok(index) => {
                let right = node.links.remove(index + 1);
                node.entries.remove(index);
                node.links[index] = self.merge(mem::take(&mut node.links[index]), right)?;
            }
        }
        match node.entries.is_empty() {
            true => Ok(mem::take(&mut node.links[0])),
            false => Ok(Part::Open(node)),
        }
    }

    /// What lies before `key` and what lies behind it; `key` itself is not in `part`.
    fn split(&self, part: Part, key: &StateKey) -> Result<(Part, Part), NodeId> {
        let Some(mut node) = self.open(part)? else { return Ok((Part::Empty, Part::Empty)) };
        let index = node.search(key).unwrap_or_else(|index| index);
        let (left_end, right_start) = self.split(mem::take(&mut node.links[index]), key)?;
        let mut right_links = vec![right_start];
        right_links.extend(node.links.drain(index + 1..));
        let right_entries = node.entries.split_off(index);
        node.links[index] = left_end;
        let right = match right_entries.is_empty() {
            true => right_links.swap_remove(0),
            false => OpenNode::part(node.level, right_entries, right_links),
        };
        let left = match node.entries.is_empty() {
            true => mem::take(&mut node.links[0]),
            false => Part::Open(node),
        };
        Ok((left, right))
    }

    /// One subtree of two, where all of `left` lies before all of `right`.
    fn merge(&self, left: Part, right: Part) -> Result<Part, NodeId> {
        let Some(mut left) = self.open(left)? else { return Ok(right) };
        let Some(mut right) = self.open(right)? else { return Ok(Part::Open(left)) };
        match left.level.cmp(&right.level) {
            Ordering::Greater => {
                let last = left.links.pop().unwrap_or_default();
                left.links.push(self.merge(last, Part::Open(right))?);
                Ok(Part::Open(left))
            }
            Ordering::Less => {
                let first = mem::take(&mut right.links[0]);
                right.links[0] = self.merge(Part::Open(left), first)?;
                Ok(Part::Open(right))
            }
            Ordering::Equal => {
                let last = left.links.pop().unwrap_or_default();
                let first = mem::take(&mut right.links[0]);
                right.links[0] = self.merge(last, first)?;
                left.links.append(&mut right.links);
                left.entries.append(&mut right.entries);
                Ok(Part::Open(left))
            }
        }
    }
}

/// Turns what was edited into nodes, children first.
fn close(part: Part, nodes: &mut Vec<NewNode>) -> Option<Child> {
    let open = match part {
        Part::Empty => return None,
        Part::Stored(child) => return Some(child),
        Part::Open(open) => *open,
    };
    let mut links: Vec<_> = open.links.into_iter().map(|link| close(link, nodes)).collect();
    if open.level == 0 {
        links.clear();
    }
    let node = Node { level: open.level, entries: open.entries, links };
    let bytes = node.encode();
    let child = Child { id: node_id(&bytes), level: node.level };
    if open.origin != Some(child.id) {
        nodes.push(NewNode { id: child.id, node: Arc::new(node), bytes });
    }
    Some(child)
}
