//! The rooms of the policy lists, and what is kept in memory of them.
//!
//! A list is read from the current state of its room whenever it is asked; what was read is kept with the name of that
//! state, and only what differs is read when there is another. So a list is always as its room is, also after a start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedRoomId, OwnedRoomOrAliasId, RoomAliasId, RoomId, events::StateEventType};
use tokio_util::sync::CancellationToken;

use super::{
    Banned,
    rules::{Place, Rule, Rules, TYPES},
};
use crate::{
    dag::StateId,
    limits::{POLICY_EVENTS_AT_ONCE, POLICY_LIST_PAUSE, POLICY_LISTS_MAX, POLICY_RULES_MAX},
    log::Commit,
    room::{RoomError, Rooms},
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    upkeep,
};

/// Where the aliases of lists on other servers pointed when they were last asked.
const ROOMS: Rows<(String,), OwnedRoomId> = Rows::new(TableId::Meta);

fn row_of(alias: &RoomAliasId) -> (String,) {
    (format!("policy list {alias}"),)
}

/// The lists by their rooms.
#[derive(Default)]
pub(super) struct Lists {
    rooms: Vec<OwnedRoomOrAliasId>,
    known: Mutex<HashMap<OwnedRoomId, Known>>,
}

/// What is known of a list.
#[derive(Clone, Default)]
struct Known {
    /// In which state of its room.
    read: Option<(StateId, Arc<Rules>)>,
    /// How often that was forgotten: what was read before counts no more.
    forgotten: u64,
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rooms).finish()
    }
}

impl Lists {
    pub(super) fn of(mut rooms: Vec<OwnedRoomOrAliasId>) -> Self {
        rooms.truncate(POLICY_LISTS_MAX);
        Self { rooms, known: Mutex::default() }
    }

    pub(super) fn forget(&self, room: &RoomId) {
        if let Some(known) = self.known.lock().get_mut(room) {
            *known = Known { read: None, forgotten: known.forgotten + 1 };
        }
    }

    fn known(&self, room: &RoomId) -> Known {
        self.known.lock().entry(room.to_owned()).or_default().clone()
    }

    fn keep(&self, room: &RoomId, before: &Known, read: (StateId, Arc<Rules>)) {
        if let Some(known) = self.known.lock().get_mut(room).filter(|it| it.forgotten == before.forgotten) {
            known.read = Some(read);
        }
    }
}

impl Rooms {
    /// Whom and what the policy lists of this server ban now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn banned(&self) -> Result<Banned, RoomError> {
        let mut lists = Vec::new();
        for list in &self.moderation().lists.rooms {
            if let Some(room) = self.room_of_list(list).await?
                && let Some(rules) = self.rules_now(&room).await?
            {
                lists.push(rules);
            }
        }
        Ok(Banned { lists, ours: self.0.history.server().to_owned() })
    }

    /// The room of a list, if that is known.
    async fn room_of_list(&self, list: &OwnedRoomOrAliasId) -> Result<Option<OwnedRoomId>, RoomError> {
        let history = &self.0.history;
        match <&RoomId>::try_from(&**list) {
            Ok(room) => Ok(Some(room.to_owned())),
            Err(alias) if alias.server_name() == history.server() => {
                Ok(history.alias(alias).await?.map(|row| row.room_id))
            }
            Err(alias) => Ok(history.log().db().row(&ROOMS, &row_of(alias)).await?),
        }
    }

    /// As [`Self::rules_of`]; those that were known last, when something of the room is damaged.
    async fn rules_now(&self, room: &RoomId) -> Result<Option<Arc<Rules>>, RoomError> {
        match self.rules_of(room).await {
            Err(RoomError::Store(error @ StoreError::Corrupt(_))) => {
                tracing::error!(room.id = %room, %error, "the policy list {room} cannot be read; what was known of it counts");
                Ok(self.moderation().lists.known(room).read.map(|(_, rules)| rules))
            }
            rules => rules,
        }
    }

    /// The rules of the list in a room, as long as a user of this server is there.
    async fn rules_of(&self, room: &RoomId) -> Result<Option<Arc<Rules>>, RoomError> {
        let lists = &self.moderation().lists;
        let row = self.0.history.room(room).await?.filter(|row| row.joined > row.remote);
        let Some(row) = row else {
            // What is left of the room may go, and it may be joined anew.
            lists.forget(room);
            return Ok(None);
        };
        let before = lists.known(room);
        let rules = match &before.read {
            Some((state, rules)) if *state == row.state => return Ok(Some(rules.clone())),
            Some((state, rules)) => match self.follow_list(rules, (*state, row.state)).await {
                Err(RoomError::Store(StoreError::Corrupt(_))) => Arc::new(self.read_list(row.state).await?),
                rules => rules?,
            },
            None => Arc::new(self.read_list(row.state).await?),
        };
        if rules.places().len() >= POLICY_RULES_MAX {
            tracing::warn!(room.id = %room, "the policy list {room} is full; further rules do not count");
        }
        lists.keep(room, &before, (row.state, rules.clone()));
        Ok(Some(rules))
    }

    async fn read_list(&self, state: StateId) -> Result<Rules, RoomError> {
        let mut found = Vec::new();
        for (index, kind) in TYPES.into_iter().enumerate() {
            let entries = self.0.history.state_of(state, Some(&StateEventType::from(kind))).await?;
            found.extend(entries.into_iter().map(|it| ((index, it.key.state_key), Some(it.value.event_id))));
        }
        self.rules_with(BTreeMap::new(), found).await
    }

    async fn follow_list(
        &self,
        rules: &Arc<Rules>,
        (before, after): (StateId, StateId),
    ) -> Result<Arc<Rules>, RoomError> {
        let changes = self.0.history.state_diff(before, after).await?.into_iter();
        let changes = changes.filter_map(|change| {
            let kind = change.key.event_type.to_string();
            let index = TYPES.iter().position(|known| **known == *kind)?;
            Some(((index, change.key.state_key), change.after.map(|after| after.event_id)))
        });
        let changes: Vec<_> = changes.collect();
        match changes.is_empty() {
            true => Ok(rules.clone()),
            false => Ok(Arc::new(self.rules_with(rules.places().clone(), changes).await?)),
        }
    }

    /// The rules at `places`, once what stands at some of them is what these events say.
    async fn rules_with(
        &self,
        mut places: BTreeMap<Place, Option<Rule>>,
        changes: Vec<(Place, Option<OwnedEventId>)>,
    ) -> Result<Rules, RoomError> {
        for some in changes.chunks(POLICY_EVENTS_AT_ONCE) {
            let ids: Vec<OwnedEventId> = some.iter().filter_map(|(_, id)| id.clone()).collect();
            let mut events = self.0.history.sound_events_once(&ids).await?.into_iter();
            for (place, id) in some {
                match id.as_ref().and_then(|_| events.next()).flatten() {
                    Some(event) if places.len() < POLICY_RULES_MAX || places.contains_key(place) => {
                        places.insert(place.clone(), Rule::read(event.pdu.content().get()));
                    }
                    Some(_) => {}
                    None => {
                        places.remove(place);
                    }
                }
            }
        }
        Ok(Rules::of(places))
    }

    /// Asks other servers where the aliases of lists point, and tells in the log which lists count and which do not yet,
    /// until `stopping`.
    pub fn keep_policy_lists(&self, stopping: CancellationToken) {
        if self.moderation().lists.rooms.is_empty() {
            return;
        }
        let (rooms, until) = (self.clone(), stopping.clone());
        let work = move || rooms.clone().follow_policy_lists(until.clone());
        self.0.tasks.spawn(upkeep::keep("the following of policy lists", stopping, work));
    }

    async fn follow_policy_lists(self, stopping: CancellationToken) {
        let (mut asked, mut told) = (BTreeSet::new(), BTreeMap::new());
        loop {
            let looked = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                looked = self.look_after_policy_lists(&mut asked, &mut told) => looked,
            };
            if let Err(error) = looked {
                tracing::error!(%error, "the policy lists could not be looked after");
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(POLICY_LIST_PAUSE) => {}
            }
        }
    }

    /// One such look: `asked` has the aliases that need not be asked for any more, `told` what was told last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn look_after_policy_lists(
        &self,
        asked: &mut BTreeSet<OwnedRoomOrAliasId>,
        told: &mut BTreeMap<OwnedRoomOrAliasId, bool>,
    ) -> Result<(), RoomError> {
        for list in &self.moderation().lists.rooms {
            if let Err(alias) = <&RoomId>::try_from(&**list)
                && alias.server_name() != self.0.history.server()
                && !asked.contains(list)
            {
                match self.alias(alias).await {
                    Ok((room, _)) => {
                        let mut commit = Commit::new();
                        commit.put(&ROOMS, &row_of(alias), &room);
                        self.0.history.log().commit(commit).await?;
                        asked.insert(list.clone());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "it is not known where the policy list {list} is now");
                    }
                }
            }
            let rules = match self.room_of_list(list).await? {
                Some(room) => self.rules_now(&room).await?,
                None => None,
            };
            let counts = rules.is_some();
            if told.insert(list.clone(), counts) == Some(counts) {
                continue;
            }
            match rules {
                Some(rules) => tracing::info!("the policy list {list} counts, with {} rules", rules.count()),
                None => tracing::warn!(
                    "the policy list {list} does not count: no user of this server is in its room"
                ),
            }
        }
        Ok(())
    }
}
