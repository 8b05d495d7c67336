//! Which events relate to an event.

use std::collections::{BTreeSet, VecDeque};

use ruma::{EventId, OwnedEventId, OwnedUserId};

use super::{
    Boundary, History, Viewer,
    tables::{RELATIONS, RelationRow},
};
use crate::{
    limits::{
        RELATION_DEPTH_MAX, RELATION_KINDS_MAX, RELATIONS_BUNDLED_MAX, RELATIONS_FOLLOWED_MAX, RELATIONS_PAGE,
    },
    log::Direction,
    store::{Scan, StoreError},
};

/// What has to relate to an event for it to be wanted.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#filtering>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Related {
    /// Something in one of these ways, if they are given,
    pub kinds: Option<Vec<String>>,
    /// and by one of these users, if they are.
    pub senders: Option<BTreeSet<OwnedUserId>>,
}

/// What was found by following relations.
#[derive(Debug, Default)]
pub struct Followed {
    /// The events with their places, oldest first.
    pub events: Vec<(Boundary, OwnedEventId)>,
    /// How many levels were looked at.
    pub depth: u32,
}

impl History {
    /// In which ways events relate to `parent`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn relation_kinds(&self, parent: &EventId) -> Result<Vec<String>, StoreError> {
        let all = RELATIONS.prefix(&(parent.to_owned(),));
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut kinds = Vec::new();
        while kinds.len() < RELATION_KINDS_MAX {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: 1 };
            let Some(((_, kind, _), _)) = self.0.log.db().scan(&RELATIONS, scan).await?.pop() else { break };
            from = RELATIONS.prefix(&(parent.to_owned(), kind.clone())).after_prefix();
            kinds.push(kind);
        }
        Ok(kinds)
    }

    /// The events that relate to `parent` in one of these ways, at places in `(from, to]`.
    pub(super) async fn relating(
        &self,
        parent: &EventId,
        kinds: &[String],
        (from, to): (Boundary, Boundary),
        (direction, limit): (Direction, usize),
    ) -> Result<Vec<(Boundary, RelationRow)>, StoreError> {
        let reverse = direction == Direction::Backward;
        let behind = |kind: &String, at| RELATIONS.key(&(parent.to_owned(), kind.clone(), at)).successor();
        let mut found = Vec::new();
        for kind in kinds {
            let scan = Scan { from: behind(kind, from), to: behind(kind, to), reverse, limit };
            let rows = self.0.log.db().scan(&RELATIONS, scan).await?;
            found.extend(rows.into_iter().map(|((_, _, place), row)| (place, row)));
        }
        found.sort_by_key(|(place, _)| *place);
        if reverse {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The events that relate to `parent` in one of the ways `kinds`, each of which is there once, or in any if `*` is among
    /// them: the oldest `limit`, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn related_to(
        &self,
        parent: &EventId,
        kinds: &[String],
        limit: usize,
    ) -> Result<Vec<OwnedEventId>, StoreError> {
        let all;
        let kinds = match kinds.iter().any(|kind| kind == "*") {
            true => {
                all = self.relation_kinds(parent).await?;
                &all[..]
            }
            false => kinds,
        };
        let mut oldest = Vec::new();
        for kind in kinds {
            let rows = self.0.log.db().range(&RELATIONS, &(parent.to_owned(), kind.clone()), limit).await?;
            oldest.extend(rows.into_iter().map(|((.., place), row)| (place, row.event_id)));
            oldest.sort();
            oldest.truncate(limit);
        }
        Ok(oldest.into_iter().map(|(_, id)| id).collect())
    }

    /// The events that relate to `root`, to those, and so on. Only those that are related to by the
    /// last step in the way `kind`, if one is given, are in the result; all of them are followed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn follow_relations(&self, root: &EventId, kind: Option<&str>) -> Result<Followed, StoreError> {
        let (mut level, mut seen) = (vec![root.to_owned()], BTreeSet::from([root.to_owned()]));
        let mut followed = Followed::default();
        while followed.depth < RELATION_DEPTH_MAX && !level.is_empty() {
            followed.depth += 1;
            let mut next = Vec::new();
            for parent in &level {
                let limit = RELATIONS_FOLLOWED_MAX.saturating_sub(seen.len());
                let rows = self.0.log.db().range(&RELATIONS, &(parent.clone(),), limit).await?;
                for ((_, found, place), row) in rows {
                    if !seen.insert(row.event_id.clone()) {
                        continue;
                    }
                    next.push(row.event_id.clone());
                    if kind.is_none_or(|kind| kind == found) {
                        followed.events.push((place, row.event_id));
                    }
                }
            }
            level = next;
        }
        followed.events.sort();
        Ok(followed)
    }
}

impl Viewer {
    /// Whether an event that the viewer sees relates to `parent` as `wanted`, as far as that is looked at: some of each kind in
    /// turn, so that many of one hide none of another.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_related(&mut self, parent: &EventId, wanted: &Related) -> Result<bool, StoreError> {
        let Related { kinds, senders } = wanted;
        let found;
        let kinds = match kinds {
            Some(kinds) => kinds,
            None => {
                found = self.history.relation_kinds(parent).await?;
                &found
            }
        };
        let all_of = |kind: &String| RELATIONS.prefix(&(parent.to_owned(), kind.clone()));
        let kinds = kinds.iter().take(RELATION_KINDS_MAX).map(all_of);
        let mut left: VecDeque<_> = kinds.map(|all| (all.clone(), all.after_prefix(), 0)).collect();
        let mut looked_at = 0;
        while looked_at < RELATIONS_FOLLOWED_MAX
            && let Some((from, to, mut meant)) = left.pop_front()
        {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: RELATIONS_PAGE };
            let rows = self.history.log().db().scan(&RELATIONS, scan).await?;
            looked_at += rows.len();
            let last = rows.last().filter(|_| rows.len() == RELATIONS_PAGE);
            let next = last.map(|(key, _)| RELATIONS.key(key).successor());
            for (_, row) in rows {
                let is_named = senders.as_ref().is_none_or(|senders| senders.contains(&row.sender));
                if !is_named || self.ignored.contains(&row.sender) {
                    continue;
                }
                meant += 1;
                if let Some(event) = self.history.event(&row.event_id).await?
                    && !self.is_kept_from(&event)
                    && self.sees(&event).await?
                {
                    return Ok(true);
                }
            }
            if let Some(next) = next.filter(|_| meant < RELATIONS_BUNDLED_MAX) {
                left.push_back((next, to, meant));
            }
        }
        Ok(false)
    }
}
