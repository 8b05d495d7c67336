//! The auth chain index: which state events name an event as their auth event.
//!
//! Auth events lead back in time only. To tell whether the state that all forks have in common stands on
//! an event, one would have to walk back from everything in it. The index leads forward instead: from the
//! event in question to those that stand on it, until one of them is part of that state. In a room that
//! is well, the first or second that is looked at is.
//!
//! Events of types that nothing is authorised by ([`authorises`] says which do) lead no further. For
//! them the index keeps one event per place, not all of them.

use std::collections::{BTreeSet, HashMap};

use ruma::{EventId, OwnedEventId, events::StateEventType};

use crate::dag::{
    pdu::Pdu,
    tree::{NeedNodes, NodeId, StateKey},
};

/// How many citers of an event are looked at before one of them is searched in turn.
const SWEEP: usize = 32;

/// Whether events of this type are named as auth events by others.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
#[must_use]
pub fn authorises(event_type: &StateEventType) -> bool {
    matches!(
        event_type,
        StateEventType::RoomCreate
            | StateEventType::RoomPowerLevels
            | StateEventType::RoomJoinRules
            | StateEventType::RoomMember
            | StateEventType::RoomThirdPartyInvite
    )
}

/// A state event that names another one as its auth event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citer {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its place in the room state.
    pub place: StateKey,
}

/// Those that name one event, as far as they were read.
#[derive(Clone, Debug, Default)]
pub struct Citers {
    /// In the order of the index.
    pub found: Vec<Citer>,
    /// Whether these are all.
    pub is_whole: bool,
}

/// What was loaded so far.
#[derive(Debug, Default)]
pub struct AtHand {
    /// Events of the room; rejected ones are marked as such.
    pub events: HashMap<OwnedEventId, Pdu>,
    /// By the event that they name.
    pub citers: HashMap<OwnedEventId, Citers>,
}

impl AtHand {
    /// Everything there is to know of a room that has just these events.
    #[must_use]
    pub fn whole(events: HashMap<OwnedEventId, Pdu>) -> Self {
        let mut at_hand = Self { events, citers: HashMap::new() };
        let found: Vec<(OwnedEventId, Citer)> = at_hand.events.values().flat_map(citations).collect();
        for (cited, citer) in found {
            at_hand.citers.entry(cited).or_default().found.push(citer);
        }
        for id in at_hand.events.keys() {
            at_hand.citers.entry(id.clone()).or_default().is_whole = true;
        }
        at_hand
    }
}

/// What the index holds because of `pdu`: nothing if it is no state event, or was rejected and so never is
/// part of a state.
pub fn citations(pdu: &Pdu) -> impl Iterator<Item = (OwnedEventId, Citer)> + '_ {
    let place = pdu.state_position().filter(|_| !pdu.is_rejected()).map(StateKey::from);
    place.into_iter().flat_map(move |place| {
        pdu.auth_events().iter().map(move |cited| {
            (cited.clone(), Citer { event_id: pdu.event_id().to_owned(), place: place.clone() })
        })
    })
}

/// What must be loaded to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Nodes of state trees.
    pub nodes: BTreeSet<NodeId>,
    /// Events.
    pub events: BTreeSet<OwnedEventId>,
    /// Events of which the (or more of the) citers are needed.
    pub citers: BTreeSet<OwnedEventId>,
}

impl Need {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.events.is_empty() && self.citers.is_empty()
    }
}

/// How a walk over auth chains sees the room.
pub(super) trait Lore {
    /// The auth events of an event, if it is at hand.
    fn auth_events(&self, id: &EventId) -> Option<&[OwnedEventId]>;
    /// The depth of an event, as its server says, if it is at hand.
    fn depth(&self, id: &EventId) -> Option<u64>;
    /// Those that name an event.
    fn citers(&self, id: &EventId) -> Option<&Citers>;
    /// What stands at a place of the state that all have in common.
    fn standing(&self, place: &StateKey) -> Result<Option<OwnedEventId>, NeedNodes>;
}

/// Looks whether events are in the auth chain of the state that all have in common.
///
/// A search goes from an event to its citers, theirs and so on, depth first, and ends at the first that is
/// part of that state. Every event is searched once; so all searches together cost no more than one step
/// for each that turns out shared, and for the others all that stands on them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    known: HashMap<OwnedEventId, bool>,
    path: Vec<Frame>,
    on_path: BTreeSet<OwnedEventId>,
}

#[derive(Debug)]
struct Frame {
    id: OwnedEventId,
    /// How many of its citers are known not to be part of the common state.
    swept: usize,
    /// How many of its citers were searched.
    searched: usize,
}

impl Shared {
    /// Whether `id` is in the auth chain; `None` if `need` names what is lacking for an answer. While
    /// there is none, other questions are only prepared for.
    pub(super) fn contains(&mut self, id: &OwnedEventId, lore: &impl Lore, need: &mut Need) -> Option<bool> {
        if let Some(known) = self.known.get(id) {
            return Some(*known);
        }
        if self.path.first().is_some_and(|frame| frame.id != *id) {
            if lore.citers(id).is_none() {
                need.citers.insert(id.clone());
            }
            return None;
        }
        if self.path.is_empty() {
            self.enter(id.clone());
        }
        self.search(lore, need)
    }

    /// Takes a search that waited for something further.
    pub(super) fn go_on(&mut self, lore: &impl Lore, need: &mut Need) {
        if !self.path.is_empty() {
            self.search(lore, need);
        }
    }

    /// `id` is in all auth chains, and so is all that it stands on: as good as being shared.
    pub(super) fn learn(&mut self, id: &OwnedEventId) {
        self.known.insert(id.clone(), true);
    }

    /// Forgets which events are not shared, after something was learned of which they may be a part.
    pub(super) fn forget_others(&mut self) {
        self.known.retain(|_, is_shared| *is_shared);
        self.path.clear();
        self.on_path.clear();
    }

    fn enter(&mut self, id: OwnedEventId) {
        self.on_path.insert(id.clone());
        self.path.push(Frame { id, swept: 0, searched: 0 });
    }

    fn search(&mut self, lore: &impl Lore, need: &mut Need) -> Option<bool> {
        while let Some(frame) = self.path.last_mut() {
            if self.known.get(&frame.id) == Some(&true) {
                return Some(self.conclude());
            }
            let Some(citers) = lore.citers(&frame.id) else {
                need.citers.insert(frame.id.clone());
                return None;
            };
            let end = citers.found.len().min(frame.swept.saturating_add(SWEEP));
            // Those that were swept are searched before more of them are looked at.
            if frame.searched == frame.swept && frame.swept < end {
                let fresh = citers.found.get(frame.swept..end).unwrap_or_default();
                if sweep(&frame.id, fresh, lore, need)? {
                    return Some(self.conclude());
                }
                frame.swept = end;
            }
            let unsearched = citers.found.get(frame.searched..frame.swept).unwrap_or_default();
            let next = unsearched.iter().position(|citer| {
                authorises(&citer.place.event_type)
                    && self.known.get(&citer.event_id) != Some(&false)
                    && !self.on_path.contains(&citer.event_id)
            });
            match next.map(|index| (index, unsearched[index].event_id.clone())) {
                Some((_, id)) if self.known.get(&id) == Some(&true) => return Some(self.conclude()),
                Some((index, id)) => {
                    frame.searched += index + 1;
                    self.enter(id);
                }
                None if frame.swept < citers.found.len() => frame.searched = frame.swept,
                None if !citers.is_whole => {
                    frame.searched = frame.swept;
                    need.citers.insert(frame.id.clone());
                    return None;
                }
                None => {
                    if let Some(frame) = self.path.pop() {
                        self.on_path.remove(&frame.id);
                        self.known.insert(frame.id, false);
                    }
                }
            }
        }
        Some(false)
    }

    /// All on the path are stood on by what was found.
    fn conclude(&mut self) -> bool {
        self.known.extend(self.path.drain(..).map(|frame| (frame.id, true)));
        self.on_path.clear();
        true
    }
}

/// Whether one of `citers` of `cited` is part of the common state.
fn sweep(cited: &OwnedEventId, citers: &[Citer], lore: &impl Lore, need: &mut Need) -> Option<bool> {
    let (mut nodes, mut others) = (Vec::new(), BTreeSet::new());
    for citer in citers {
        match lore.standing(&citer.place) {
            Err(NeedNodes(needed)) => nodes.extend(needed),
            Ok(Some(id)) if id == citer.event_id => return Some(true),
            // The index may have kept another event of this place.
            Ok(Some(id)) if !authorises(&citer.place.event_type) => match lore.auth_events(&id) {
                Some(auth_events) if auth_events.contains(cited) => return Some(true),
                Some(_) => {}
                None => drop(others.insert(id)),
            },
            Ok(_) => {}
        }
    }
    let is_done = nodes.is_empty() && others.is_empty();
    need.nodes.extend(nodes);
    need.events.extend(others);
    is_done.then_some(false)
}
