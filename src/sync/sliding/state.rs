//! The state of rooms in an answer: what the client wants and lacks, and the fields made of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedMxcUri, OwnedRoomId, OwnedUserId, UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::{json, value::to_raw_value};

use super::{
    Turn,
    request::Shape,
    response::{Hero, RoomResult},
    rooms::Task,
    roster::Standing,
    wanted::{MEMBER, RoomConfig},
};
use crate::{
    dag::{StateId, StateKey, tree::Change},
    history::{Bundles, StoredEvent},
    store::StoreError,
    sync::{
        Sync, SyncError,
        response::{Counts, Json},
        rooms::Scene,
        timeline::Span,
    },
    types::{Fact, Position},
};

/// The state part of one room.
pub(super) struct RequiredState {
    pub(super) events: Vec<Json>,
    /// What was there and is no more.
    gone: Vec<StateKey>,
    /// The state at the end.
    ends: StateId,
    name_moved: bool,
    avatar_moved: bool,
    members_moved: bool,
}

/// What is chosen for one room, before it is loaded.
#[derive(Default)]
struct Choice {
    ids: BTreeMap<StateKey, OwnedEventId>,
    gone: Vec<StateKey>,
}

#[derive(Default, Deserialize)]
struct Profile {
    displayname: Option<String>,
    avatar_url: Option<String>,
}

#[derive(Default, Deserialize)]
struct Described {
    name: Option<String>,
    url: Option<OwnedMxcUri>,
}

impl Sync {
    /// The state that each room's client wants and lacks.
    pub(super) async fn required_states(
        &self,
        scene: &mut Scene<'_>,
        (turn, tasks): (&Turn<'_>, &[&Task]),
        spans: &[Span],
    ) -> Result<Vec<RequiredState>, SyncError> {
        let mut wanted: Vec<(OwnedRoomId, Position)> = Vec::new();
        for (task, span) in tasks.iter().zip(spans) {
            wanted.push((task.entry.room.clone(), span.ends));
            wanted.extend(task.since.map(|since| (task.entry.room.clone(), since)));
        }
        let found = self.states_at(&wanted).await?;
        let at = |room: &OwnedRoomId, position: Position| {
            found.get(&(room.clone(), position)).copied().unwrap_or(StateId::EMPTY)
        };
        let mut parts = Vec::with_capacity(tasks.len());
        for (task, span) in tasks.iter().zip(spans) {
            let room = &task.entry.room;
            let ends = at(room, span.ends);
            let since = task.since.map(|since| at(room, since));
            let mut part = self.required_state(scene, (task, span), (since, ends)).await?;
            if turn.request.shape == Shape::Final {
                for key in std::mem::take(&mut part.gone) {
                    let stub = json!({ "type": key.event_type, "state_key": key.state_key });
                    part.events.push(to_raw_value(&stub).map_err(StoreError::engine)?);
                }
            }
            parts.push(part);
        }
        Ok(parts)
    }

    async fn required_state(
        &self,
        scene: &mut Scene<'_>,
        (task, span): (&Task, &Span),
        (since, ends): (Option<StateId>, StateId),
    ) -> Result<RequiredState, SyncError> {
        let changes = match since {
            Some(since) => self.history.state_diff(since, ends).await?,
            None => Vec::new(),
        };
        let moved = |event_type: &StateEventType| {
            since.is_none() || changes.iter().any(|change| change.key.event_type == *event_type)
        };
        let mut part = RequiredState {
            ends,
            name_moved: moved(&StateEventType::RoomName),
            avatar_moved: moved(&StateEventType::RoomAvatar),
            members_moved: moved(&StateEventType::RoomMember),
            events: Vec::new(),
            gone: Vec::new(),
        };
        let mut choice = Choice::default();
        let gap = span.limited && !task.expands;
        // Whoever asks for members when they are needed does not get all that have become known.
        let became_whole = match task.since {
            Some(since) => self.history.grown_after(&task.entry.room, since).await?,
            None => None,
        };
        let grown = became_whole.is_some_and(|at| at <= span.ends);
        for Change { key, before, after } in changes {
            let is_member = key.event_type == StateEventType::RoomMember;
            let is_introduced = grown && before.is_none();
            let is_due = is_member && task.config.is_lazy() && !gap && !is_introduced;
            if task.config.matches_key(&key) || is_due {
                match after {
                    Some(value) => drop(choice.ids.insert(key, value.event_id)),
                    None => choice.gone.push(key),
                }
            }
        }
        let before = task.before.as_ref().filter(|_| since.is_some());
        if before.is_none_or(|before| !task.config.is_within(before)) {
            let new = self.select(ends, &task.config).await?;
            let known = |key: &StateKey| before.is_some_and(|before| before.matches_key(key));
            choice.ids.extend(new.into_iter().filter(|(key, _)| !known(key)));
        }
        if task.config.is_lazy() {
            self.add_lazy_members(scene, (task, span), ends, &mut choice).await?;
        }
        if let Standing::Left { closed, .. } = task.entry.standing {
            // Clients take a room for joined unless they see what ended that.
            let own = member(&scene.caller.user_id);
            let known = self.history.state_entries(ends, std::slice::from_ref(&own)).await?.pop().flatten();
            let id = match task.entry.since > closed {
                true => Some(task.entry.event_id.clone()),
                false => known.map(|value| value.event_id),
            };
            choice.ids.extend(id.map(|id| (own, id)));
        }
        let ids: Vec<OwnedEventId> = choice.ids.into_values().collect();
        let events: Vec<Arc<StoredEvent>> = self.history.events(&ids).await?.into_iter().flatten().collect();
        if !events.is_empty() {
            part.events = self.render_as_wanted(scene, &events, &Bundles::new()).await?;
        }
        part.gone = choice.gone;
        Ok(part)
    }

    /// The state that matches a configuration.
    async fn select(
        &self,
        state: StateId,
        config: &RoomConfig,
    ) -> Result<BTreeMap<StateKey, OwnedEventId>, SyncError> {
        let plan = config.plan();
        let mut found = BTreeMap::new();
        if plan.everything {
            for entry in self.history.state_of(state, None).await? {
                found.insert(entry.key, entry.value.event_id);
            }
        } else {
            let keys: Vec<StateKey> = plan.keys.into_iter().collect();
            let values = self.history.state_entries(state, &keys).await?;
            let named = keys.into_iter().zip(values);
            found.extend(named.filter_map(|(key, value)| Some((key, value?.event_id))));
            for event_type in plan.types {
                for entry in self.history.state_of(state, Some(&event_type)).await? {
                    found.insert(entry.key, entry.value.event_id);
                }
            }
        }
        found.retain(|key, _| config.matches_key(key));
        Ok(found)
    }

    /// Adds the members that the timeline's events need and the client may not have.
    async fn add_lazy_members(
        &self,
        scene: &mut Scene<'_>,
        (task, span): (&Task, &Span),
        ends: StateId,
        choice: &mut Choice,
    ) -> Result<(), SyncError> {
        let room = &task.entry.room;
        let mut needed: BTreeSet<OwnedUserId> = BTreeSet::new();
        for event in &span.shown {
            needed.insert(event.pdu.sender().to_owned());
            if event.pdu.event_type().to_string() == MEMBER {
                needed.extend(event.pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok()));
            }
        }
        let channel = (scene.caller, scene.channel);
        if span.limited || task.since.is_none() {
            // The client keeps no member across a gap.
            self.lazy.forget(channel, room);
        }
        let keys: Vec<StateKey> = needed.iter().map(|user| member(user)).collect();
        let found = self.history.state_entries(ends, &keys).await?;
        let mut sendings = Vec::new();
        for ((user, key), value) in needed.into_iter().zip(keys).zip(found) {
            let Some(value) = value else { continue };
            let has = task.since.is_some_and(|since| {
                !task.expands
                    && !span.limited
                    && self.lazy.has(channel, room, (&user, &value.event_id), since)
            });
            if !has {
                sendings.push((user, value.event_id.clone()));
                choice.ids.insert(key, value.event_id);
            }
        }
        scene.members.push((room.clone(), sendings));
        Ok(())
    }

    /// Adds what is made of the state: name, avatar, heroes, numbers of members.
    pub(super) async fn describe(
        &self,
        scene: &Scene<'_>,
        (task, state): (&Task, &RequiredState),
        result: &mut RoomResult,
    ) -> Result<(), SyncError> {
        let (room, ends) = (&task.entry.room, state.ends);
        let is_new = task.since.is_none();
        let described = async |event_type| -> Result<Described, SyncError> {
            let event = self.history.state_event(ends, event_type, "").await?;
            Ok(event.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default())
        };
        if state.name_moved || state.members_moved {
            let name = described(StateEventType::RoomName).await?.name.filter(|name| !name.is_empty());
            if name.is_none() && (state.members_moved || !is_new) {
                result.heroes = Some(self.introduced(&scene.caller.user_id, room, ends).await?);
            }
            result.name = (state.name_moved && (name.is_some() || !is_new)).then_some(name);
        }
        if state.avatar_moved {
            let url = described(StateEventType::RoomAvatar).await?.url;
            result.avatar = (url.is_some() || !is_new).then_some(url);
        }
        if state.members_moved {
            (result.joined_count, result.invited_count) = self.member_counts(room, ends).await?.unzip();
        }
        Ok(())
    }

    /// The users by whom a room is called, with their profiles in it.
    async fn introduced(
        &self,
        user: &UserId,
        room: &OwnedRoomId,
        state: StateId,
    ) -> Result<Vec<Hero>, SyncError> {
        let heroes = self.heroes_in(user, room, state).await?;
        let keys: Vec<StateKey> = heroes.iter().map(|user| member(user)).collect();
        let values = self.history.state_entries(state, &keys).await?;
        let ids: Vec<OwnedEventId> = values.into_iter().flatten().map(|value| value.event_id).collect();
        let events = self.history.event_map(&ids).await?;
        let profile = |user: OwnedUserId| {
            let event = events.values().find(|event| event.pdu.state_key() == Some(user.as_str()));
            let profile: Profile = event.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default();
            Hero { user_id: user, displayname: profile.displayname, avatar_url: profile.avatar_url }
        };
        Ok(heroes.into_iter().map(profile).collect())
    }

    /// The unread counts of rooms where they may have changed.
    pub(super) async fn sliding_counts(
        &self,
        scene: &Scene<'_>,
        turn: &Turn<'_>,
        tasks: &[&Task],
    ) -> Result<BTreeMap<OwnedRoomId, Counts>, SyncError> {
        let joined = tasks.iter().filter(|task| matches!(task.entry.standing, Standing::Joined(_)));
        let (mut rooms, wants_since) =
            (Vec::<OwnedRoomId>::new(), scene.person.version().unwrap_or_default());
        for task in joined {
            let room = &task.entry.room;
            let since = task.since.unwrap_or_default();
            if task.since.is_none()
                || task.entry.activity > since
                || wants_since > since
                || scene.cut.private_receipts.contains_key(room)
                || self.read_since(scene, room, (since, turn.to)).await?
            {
                rooms.push(room.clone());
            }
        }
        if rooms.is_empty() || turn.request.shape == Shape::Final {
            return Ok(BTreeMap::new());
        }
        let unread = self.push.unread(&scene.caller.user_id, &rooms, turn.to).await?;
        Ok(rooms.into_iter().zip(unread.into_iter().map(|unread| unread.total().into())).collect())
    }

    /// Whether the user's receipts of a room moved.
    async fn read_since(
        &self,
        scene: &Scene<'_>,
        room: &OwnedRoomId,
        (since, to): (Position, Position),
    ) -> Result<bool, SyncError> {
        let facts = self.own_receipts(&scene.caller.user_id, std::slice::from_ref(room)).await?;
        Ok(facts
            .into_iter()
            .flatten()
            .any(|(at, fact)| at > since && at <= to && matches!(fact, Fact::Receipt { .. })))
    }
}

fn member(user: &UserId) -> StateKey {
    StateKey::new(StateEventType::RoomMember, user.as_str())
}
