//! A node of the state tree, and its bytes.
//!
//! The bytes: format, level, number of entries, the entries, and above level 0 one link before, between
//! and after the entries. Numbers are LEB128. An entry does not repeat the type of the one before it nor
//! the beginning of its state key, and an event id that is a hash is kept as 32 bytes.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ruma::{OwnedEventId, events::StateEventType};
use sha2::{Digest, Sha256};

use super::{NodeId, StateKey, StateValue};
use crate::types::Membership;

const FORMAT: u8 = 1;
const SAME_TYPE: u8 = 1;
const MEMBERSHIPS: [Option<Membership>; 6] = [
    None,
    Some(Membership::Join),
    Some(Membership::Invite),
    Some(Membership::Leave),
    Some(Membership::Ban),
    Some(Membership::Knock),
];

/// One place and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place.
    pub key: StateKey,
    /// What stands there.
    pub value: StateValue,
}

/// A link to a node of a lower level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// The node.
    pub id: NodeId,
    /// Its level, so that a walk need not load it to know.
    pub level: u8,
}

/// Some neighbouring entries of one level, and what lies between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub(super) level: u8,
    pub(super) entries: Vec<Entry>,
    /// One more than entries; empty at level 0, where nothing can lie between.
    pub(super) links: Vec<Option<Child>>,
}

/// The bytes are not those of the node that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node of a room state is corrupt: {0}")]
pub struct Corrupt(pub &'static str);

impl Node {
    /// The nodes that this one links to.
    pub fn children(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.iter().flatten().map(|child| child.id)
    }

    /// The entries of this node itself.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn link(&self, index: usize) -> Option<Child> {
        self.links.get(index).copied().flatten()
    }

    pub(super) fn search(&self, key: &StateKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, self.level];
        put_number(&mut out, self.entries.len());
        let mut previous: Option<&StateKey> = None;
        for entry in &self.entries {
            put_entry(&mut out, entry, previous);
            previous = Some(&entry.key);
        }
        for link in &self.links {
            match link {
                None => out.push(0),
                Some(child) => {
                    out.push(child.level + 1);
                    out.extend(child.id.0);
                }
            }
        }
        out
    }

    /// Reads the node `id` from its bytes.
    pub fn decode(id: &NodeId, bytes: &[u8]) -> Result<Self, Corrupt> {
        if node_id(bytes) != *id {
            return Err(Corrupt("its hash differs"));
        }
        let mut input = Input(bytes);
        if input.byte()? != FORMAT {
            return Err(Corrupt("unknown format"));
        }
        let level = input.byte()?;
        let count = input.number()?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count.min(bytes.len() / 4));
        for _ in 0..count {
            let entry = input.entry(entries.last().map(|entry| &entry.key))?;
            if entries.last().is_some_and(|last| last.key >= entry.key) {
                return Err(Corrupt("entries out of order"));
            }
            entries.push(entry);
        }
        let mut links = Vec::new();
        if level > 0 {
            for _ in 0..=count {
                links.push(input.link(level)?);
            }
        }
        match entries.is_empty() || !input.0.is_empty() {
            true => Err(Corrupt("wrong length")),
            false => Ok(Self { level, entries, links }),
        }
    }
}

pub(super) fn node_id(bytes: &[u8]) -> NodeId {
    let hash = Sha256::digest(bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    // All zeros names the empty state; a hash that begins so is not to be expected before the heat death.
    NodeId(id)
}

/// The level of `key`: a quarter of the trailing zero bits of its hash, so one key in 16 rises.
pub(super) fn level_of(key: &StateKey, salt: [u8; 16]) -> u8 {
    let event_type = key.event_type.to_string();
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update((event_type.len() as u64).to_be_bytes());
    hash.update(event_type.as_bytes());
    hash.update(key.state_key.as_bytes());
    let hash = hash.finalize();
    let whole = hash.iter().rev().take_while(|byte| **byte == 0).count();
    let rest = hash.iter().rev().nth(whole).map_or(0, |byte| byte.trailing_zeros() as usize);
    u8::try_from((whole * 8 + rest) / 4).unwrap_or(u8::MAX)
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len());
    out.extend(text);
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, previous: Option<&StateKey>) {
    let same_type = previous.is_some_and(|previous| previous.event_type == entry.key.event_type);
    let membership = MEMBERSHIPS.iter().position(|m| *m == entry.value.membership).unwrap_or(0) as u8;
    let (form, id) = pack_event_id(entry.value.event_id.as_str());
    out.push((u8::from(same_type) * SAME_TYPE) | (membership << 1) | (form << 4));
    if !same_type {
        put_text(out, entry.key.event_type.to_string().as_bytes());
    }
    let key = entry.key.state_key.as_bytes();
    let before = previous.map_or(&[][..], |previous| previous.state_key.as_bytes());
    let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
    put_number(out, shared);
    put_text(out, &key[shared..]);
    match form {
        0 => put_text(out, &id),
        _ => out.extend(id),
    }
}

/// The form and the bytes of an event id: 0 as it is, 1 a URL-safe hash, 2 a hash in standard base64.
fn pack_event_id(id: &str) -> (u8, Vec<u8>) {
    let text = id.strip_prefix('$').unwrap_or_default();
    for (form, engine) in [(1, URL_SAFE_NO_PAD), (2, STANDARD_NO_PAD)] {
        if let Ok(bytes) = engine.decode(text)
            && bytes.len() == 32
            && engine.encode(&bytes) == text
        {
            return (form, bytes);
        }
    }
    (0, id.as_bytes().to_vec())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Corrupt("cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<usize, Corrupt> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Corrupt("a number is too large"))
    }

    fn text(&mut self) -> Result<&'a str, Corrupt> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Corrupt("text is not UTF-8"))
    }

    fn entry(&mut self, previous: Option<&StateKey>) -> Result<Entry, Corrupt> {
        let flags = self.byte()?;
        let event_type = match (flags & SAME_TYPE, previous) {
            (0, _) => StateEventType::from(self.text()?),
            (_, Some(previous)) => previous.event_type.clone(),
            (_, None) => return Err(Corrupt("no type to repeat")),
        };
        let shared = self.number()?;
        let before = previous.map_or(&[][..], |previous| previous.state_key.as_bytes());
        let mut key = before.get(..shared).ok_or(Corrupt("no key to repeat"))?.to_vec();
        let length = self.number()?;
        key.extend(self.take(length)?);
        let state_key = String::from_utf8(key).map_err(|_| Corrupt("a state key is not UTF-8"))?;
        let membership =
            *MEMBERSHIPS.get(usize::from((flags >> 1) & 7)).ok_or(Corrupt("unknown membership"))?;
        let id = match flags >> 4 {
            0 => String::from(self.text()?),
            1 => format!("${}", URL_SAFE_NO_PAD.encode(self.take(32)?)),
            2 => format!("${}", STANDARD_NO_PAD.encode(self.take(32)?)),
            _ => return Err(Corrupt("unknown form of event id")),
        };
        let event_id = OwnedEventId::try_from(id).map_err(|_| Corrupt("no event id"))?;
        Ok(Entry { key: StateKey { event_type, state_key }, value: StateValue { event_id, membership } })
    }

    fn link(&mut self, above: u8) -> Result<Option<Child>, Corrupt> {
        let Some(level) = self.byte()?.checked_sub(1) else { return Ok(None) };
        if level >= above {
            return Err(Corrupt("a child is not lower than its parent"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(self.take(16)?);
        Ok(Some(Child { id: NodeId(id), level }))
    }
}
