//! Resolving states that are kept as trees, at the price of what differs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::{RoomVersionRules, StateResolutionVersion},
    state_res::{StateMap, utils::event_id_set::EventIdSet},
};

use super::{
    AtHand, Citers, Need, ResolveError, ask_rules,
    between::Between,
    difference::{Bits, Difference},
    index::Lore,
    places_looked_at,
};
use crate::dag::{
    pdu::Pdu,
    tree::{self, Applied, Change, NeedNodes, NodeSource, StateId, StateKey, StateValue},
};

/// Why no state came out.
#[derive(Debug, thiserror::Error)]
pub enum MergeStop {
    /// This must be loaded first.
    #[error("something must be loaded first")]
    Need(Need),
    /// See [`ResolveError::Broken`].
    #[error("the events of the room are broken: {0}")]
    Broken(String),
}

impl From<NeedNodes> for MergeStop {
    fn from(NeedNodes(nodes): NeedNodes) -> Self {
        Self::Need(Need { nodes: nodes.into_iter().collect(), ..Need::default() })
    }
}

impl From<ResolveError> for MergeStop {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Missing(events) => {
                Self::Need(Need { events: events.into_iter().collect(), ..Need::default() })
            }
            ResolveError::Broken(what) => Self::Broken(what),
        }
    }
}

/// One state out of several, in the making: [`Self::advance`] is called, with more at hand each time,
/// until there is one.
///
/// The cost is that of what differs: the places where the states differ, the auth difference, and in the
/// later room versions the events between the conflicted ones. How large the states are, and how long
/// their auth chains, matters by a logarithm only.
#[derive(Debug)]
pub struct Merge<'r> {
    rules: &'r RoomVersionRules,
    /// Without doubles.
    states: Vec<StateId>,
    forks: Option<Forks>,
    difference: Difference,
    between: Option<Between>,
    /// The conflicted subgraph, once it is known.
    subgraph: Option<EventIdSet<OwnedEventId>>,
}

impl<'r> Merge<'r> {
    /// To resolve `states` by the rules of their room.
    #[must_use]
    pub fn new(rules: &'r RoomVersionRules, states: &[StateId]) -> Self {
        let mut states = states.to_vec();
        states.sort_unstable();
        states.dedup();
        let difference = Difference::default();
        Self { rules, states, forks: None, difference, between: None, subgraph: None }
    }

    /// Goes on with what is at hand. The outcome is the resolved state, with those of its nodes that none
    /// of the states has; nodes are read from `source`.
    ///
    /// # Errors
    /// Says what must be loaded before the next call.
    pub fn advance(&mut self, source: &impl NodeSource, at_hand: &AtHand) -> Result<Applied, MergeStop> {
        let base = self.states.first().copied().unwrap_or(StateId::EMPTY);
        if self.states.len() < 2 {
            return Ok(Applied { state: base, nodes: Vec::new() });
        }
        if self.forks.is_none() {
            let forks = Forks::of(source, &self.states)?;
            self.difference = Difference::new(forks.roots(), self.states.len());
            self.between =
                Some(Between::new(forks.values.values().flat_map(BTreeMap::keys).cloned().collect()));
            self.forks = Some(forks);
        }
        let forks = self.forks.as_ref().expect("it was just made");
        let view = View { source, base, forks, at_hand };
        let mut extra = EventIdSet::new();
        if let StateResolutionVersion::V2(v2) = &self.rules.state_res {
            let mut need = Need::default();
            self.difference.walk(&view, &mut need);
            if v2.consider_conflicted_state_subgraph
                && self.subgraph.is_none()
                && let Some(between) = &mut self.between
            {
                self.subgraph = between.walk(&view, &mut need);
            }
            if !need.is_empty() {
                return Err(MergeStop::Need(need));
            }
            extra = self.difference.end();
        }
        let subgraph = self.subgraph.clone().unwrap_or_default();
        let resolved = view.resolve(self.rules, extra, subgraph)?;
        view.apply(resolved)
    }
}

/// Everything that a merge sees.
struct View<'a, S> {
    source: &'a S,
    base: StateId,
    forks: &'a Forks,
    at_hand: &'a AtHand,
}

impl<S: NodeSource> Lore for View<'_, S> {
    fn auth_events(&self, id: &EventId) -> Option<&[OwnedEventId]> {
        self.at_hand.events.get(id).map(Pdu::auth_events)
    }

    fn depth(&self, id: &EventId) -> Option<u64> {
        self.at_hand.events.get(id).map(Pdu::depth)
    }

    fn citers(&self, id: &EventId) -> Option<&Citers> {
        self.at_hand.citers.get(id)
    }

    fn standing(&self, place: &StateKey) -> Result<Option<OwnedEventId>, NeedNodes> {
        match self.forks.before.contains_key(place) {
            true => Ok(None),
            false => Ok(tree::get(self.source, self.base, place)?.map(|value| value.event_id)),
        }
    }
}

impl<S: NodeSource> View<'_, S> {
    /// What stands in the places where the states differ, in the end.
    fn resolve(
        &self,
        rules: &RoomVersionRules,
        mut extra: EventIdSet<OwnedEventId>,
        subgraph: EventIdSet<OwnedEventId>,
    ) -> Result<StateMap<OwnedEventId>, MergeStop> {
        let events = &self.at_hand.events;
        let conflicted = self.forks.values.values().flat_map(BTreeMap::keys);
        let ids: BTreeSet<&OwnedEventId> = conflicted.chain(extra.iter()).chain(subgraph.iter()).collect();
        let mut keys: Vec<StateKey> = places_looked_at(rules, ids.into_iter(), events)?
            .into_iter()
            .map(StateKey::from)
            .filter(|key| !self.forks.before.contains_key(key))
            .collect();
        // The mainline begins here, whatever the conflicted events look at.
        let power_levels = StateKey::new(StateEventType::RoomPowerLevels, "");
        if !self.forks.before.contains_key(&power_levels) && !keys.contains(&power_levels) {
            keys.push(power_levels);
        }
        let values = tree::get_many(self.source, self.base, &keys)?;
        let common: StateMap<OwnedEventId> = keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some(((key.event_type, key.state_key), value?.event_id)))
            .collect();
        let states = match rules.state_res {
            StateResolutionVersion::V1 => self.forks.ranks(common),
            StateResolutionVersion::V2(_) => self.forks.two(common, &mut extra),
        };
        // What is in one of two chains is the difference of the two.
        let chains = vec![extra, EventIdSet::new()];
        Ok(ask_rules(rules, &states, chains, events, |_, _| Some(subgraph.clone()))?)
    }

    fn apply(&self, mut resolved: StateMap<OwnedEventId>) -> Result<Applied, MergeStop> {
        let changes = self.forks.before.keys().map(|key| {
            let id = resolved.remove(&(key.event_type.clone(), key.state_key.clone()));
            let membership = id.as_ref().and_then(|id| self.at_hand.events.get(id)).and_then(Pdu::membership);
            (key.clone(), id.map(|event_id| StateValue { event_id, membership }))
        });
        let changes: Vec<_> = changes.collect();
        Ok(tree::apply(self.source, self.base, changes)?)
    }
}

/// Where some states differ.
#[derive(Debug)]
struct Forks {
    /// What the first of them has there.
    before: BTreeMap<StateKey, Option<StateValue>>,
    /// What they have there, and which of them.
    values: BTreeMap<StateKey, BTreeMap<OwnedEventId, Bits>>,
}

impl Forks {
    fn of(source: &impl NodeSource, states: &[StateId]) -> Result<Self, NeedNodes> {
        let mut missing = BTreeSet::new();
        let mut diffs: Vec<Vec<Change>> = vec![Vec::new()];
        for other in &states[1..] {
            match tree::diff(source, states[0], *other) {
                Ok(diff) => diffs.push(diff),
                Err(NeedNodes(ids)) => missing.extend(ids),
            }
        }
        if !missing.is_empty() {
            return Err(NeedNodes(missing.into_iter().collect()));
        }
        let before: BTreeMap<StateKey, Option<StateValue>> =
            diffs.iter().flatten().map(|change| (change.key.clone(), change.before.clone())).collect();
        let mut values: BTreeMap<StateKey, BTreeMap<OwnedEventId, Bits>> = BTreeMap::new();
        for (key, value) in &before {
            let of_first = value.iter().map(|value| (value.event_id.clone(), Bits::all(states.len())));
            values.insert(key.clone(), of_first.collect());
        }
        for (index, change) in diffs
            .into_iter()
            .enumerate()
            .flat_map(|(index, diff)| diff.into_iter().map(move |change| (index, change)))
        {
            let of_key = values.entry(change.key).or_default();
            if let Some(bits) = change.before.and_then(|value| of_key.get_mut(&value.event_id)) {
                bits.clear(index);
            }
            if let Some(value) = change.after {
                of_key.entry(value.event_id).or_insert_with(|| Bits::none(states.len())).set(index);
            }
        }
        Ok(Self { before, values })
    }

    /// Which state has which of the events in which they differ.
    fn roots(&self) -> HashMap<OwnedEventId, Bits> {
        let mut roots: HashMap<OwnedEventId, Bits> = HashMap::new();
        for (id, bits) in self.values.values().flatten() {
            roots.entry(id.clone()).or_default().add(bits);
        }
        roots
    }

    /// Two states that resolve to the same as all of them: every place where they differ is in conflict
    /// between the two, and the events that found no room there go to the `extra` ones, which are
    /// considered with those in conflict.
    fn two(
        &self,
        common: StateMap<OwnedEventId>,
        extra: &mut EventIdSet<OwnedEventId>,
    ) -> Vec<StateMap<OwnedEventId>> {
        let mut first = common.clone();
        for (key, ids) in &self.values {
            let mut ids = ids.keys();
            if let Some(id) = ids.next() {
                first.insert((key.event_type.clone(), key.state_key.clone()), id.clone());
            }
            extra.extend(ids.cloned());
        }
        vec![first, common]
    }

    /// States with the same candidates as all of them.
    fn ranks(&self, common: StateMap<OwnedEventId>) -> Vec<StateMap<OwnedEventId>> {
        let mut states = vec![common, StateMap::new()];
        for (key, ids) in &self.values {
            for (rank, id) in ids.keys().enumerate() {
                if states.len() <= rank {
                    states.push(StateMap::new());
                }
                states[rank].insert((key.event_type.clone(), key.state_key.clone()), id.clone());
            }
        }
        states
    }
}
