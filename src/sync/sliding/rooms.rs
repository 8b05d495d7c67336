//! The rooms of an answer: what is to be said of each, and the parts put together.
//!
//! Each step is taken for many rooms at once, as in `/v3/sync`, those with the latest activity first. Should that fail,
//! each room is tried by itself, so that one that cannot be rendered holds up no other; it is tried again with the next
//! request, and so is what would make the answer too large.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId};
use tracing::error;

use super::{
    Turn,
    connection::Mark,
    lists::Match,
    request::{ListName, Shape},
    response::RoomResult,
    roster::{Entry, Standing},
    wanted::RoomConfig,
};
use crate::{
    limits::SCAN_ROWS_MAX,
    log::{Direction, Slice},
    sync::{
        Sync, SyncError,
        rooms::{Place, Scene},
        timeline::Span,
    },
    types::{Fact, Lane, Membership, Position},
};

/// A room of which there may be something to say.
pub(super) struct Task {
    pub(super) entry: Arc<Entry>,
    /// Up to where the client has the room; `None` gives it from the beginning.
    pub(super) since: Option<Position>,
    /// The client is given older events than those after `since`.
    pub(super) expands: bool,
    /// What the client wanted of the room before.
    pub(super) before: Option<Arc<RoomConfig>>,
    pub(super) config: Arc<RoomConfig>,
    pub(super) is_dm: bool,
    /// The client does not know yet whether this is a direct chat.
    pub(super) dm_changed: bool,
    pub(super) lists: Vec<ListName>,
}

impl Task {
    /// Where the user's view of the room ends.
    pub(super) fn ends(&self, to: Position) -> Position {
        match self.entry.standing {
            Standing::Left { closed, .. } => closed,
            _ => to,
        }
    }
}

/// A room that was rendered.
pub(super) struct Rendered {
    pub(super) result: RoomResult,
    /// The newest events that the client has now, if that is known better than before.
    pub(super) have: Option<usize>,
    /// Where its timeline begins in this answer.
    pub(super) begins: Position,
    pub(super) shown: Vec<OwnedEventId>,
}

impl Turn<'_> {
    /// Whether there may be something to say of a room.
    pub(super) fn task(&self, entry: &Arc<Entry>, found: &Match) -> Option<Task> {
        let sent = self.draft.rooms.get(&entry.room);
        let upto = sent.and_then(|sent| sent.room.upto(self.from));
        let (since, news) = match entry.standing {
            Standing::Joined(opened) => (upto.filter(|upto| opened <= *upto), self.has_news(entry)),
            // Who was told that the user has left need not hear it again, nor of what was said since.
            Standing::Left { closed, opened } => {
                let has = upto.filter(|upto| opened <= *upto);
                (has.map(|has| has.min(closed)), has.is_none_or(|has| closed.max(entry.since) > has))
            }
            Standing::Outside => {
                let has = upto.filter(|upto| entry.since <= *upto);
                return has.is_none().then(|| self.outside(entry, found));
            }
        };
        let config = found.config.clone();
        let is_dm = self.habits.direct.contains(&entry.room);
        let before = sent.filter(|_| since.is_some());
        let expands = before.is_some_and(|sent| config.timeline_limit > sent.have);
        let widens =
            before.is_some_and(|sent| !Arc::ptr_eq(&config, &sent.config) && !config.is_within(&sent.config));
        let dm_changed = before.is_none_or(|sent| sent.is_dm != is_dm);
        let behind = sent.is_some_and(|sent| matches!(sent.room, Mark::Behind(_)));
        (since.is_none() || news || behind || expands || widens || dm_changed).then(|| Task {
            entry: entry.clone(),
            since,
            expands,
            before: before.map(|sent| sent.config.clone()),
            config,
            is_dm,
            dm_changed,
            lists: found.lists.clone(),
        })
    }

    fn outside(&self, entry: &Arc<Entry>, found: &Match) -> Task {
        Task {
            entry: entry.clone(),
            since: None,
            expands: false,
            before: None,
            config: found.config.clone(),
            is_dm: self.habits.direct.contains(&entry.room),
            dm_changed: true,
            lists: found.lists.clone(),
        }
    }

    /// Whether something came for a room that the client has up to its position.
    fn has_news(&self, entry: &Entry) -> bool {
        self.moved.contains(&entry.room)
            || self.cut.private_receipts.contains_key(&entry.room)
            || self.recounts()
    }

    /// Whether all rooms may have other counts than before.
    pub(super) fn recounts(&self) -> bool {
        self.request.shape != Shape::Final && self.cut.changes_counts()
    }
}

impl Sync {
    /// Renders rooms. Those that cannot be are logged and left out, and so are the last ones when there are too many.
    pub(super) async fn sliding_rooms(
        &self,
        scene: &mut Scene<'_>,
        (turn, tasks): (&Turn<'_>, &[Task]),
    ) -> BTreeMap<OwnedRoomId, Rendered> {
        let portion = &self.sliding.portion;
        let mut latest: Vec<&Task> = tasks.iter().collect();
        latest.sort_by_key(|task| Reverse(task.entry.activity));
        let (mut rendered, mut bytes) = (BTreeMap::new(), 0);
        for some in latest.chunks(portion.rooms) {
            let new = self.some_rooms(scene, turn, some).await;
            bytes += new.values().map(|room| room.result.bytes()).sum::<usize>();
            rendered.extend(new);
            if bytes >= portion.bytes {
                break;
            }
        }
        rendered
    }

    async fn some_rooms(
        &self,
        scene: &mut Scene<'_>,
        turn: &Turn<'_>,
        tasks: &[&Task],
    ) -> BTreeMap<OwnedRoomId, Rendered> {
        let before = scene.members.len();
        if let Ok(rendered) = self.try_rooms(scene, turn, tasks).await {
            return rendered;
        }
        scene.members.truncate(before);
        let mut rendered = BTreeMap::new();
        for task in tasks {
            let before = scene.members.len();
            match self.try_rooms(scene, turn, &[task]).await {
                Ok(one) => rendered.extend(one),
                Err(error) => {
                    scene.members.truncate(before);
                    let room = &task.entry.room;
                    error!(room.id = %room, user.id = %scene.caller.user_id, "cannot render {room}: {error}");
                }
            }
        }
        rendered
    }

    async fn try_rooms(
        &self,
        scene: &mut Scene<'_>,
        turn: &Turn<'_>,
        tasks: &[&Task],
    ) -> Result<BTreeMap<OwnedRoomId, Rendered>, SyncError> {
        let mut rendered = BTreeMap::new();
        let (outside, inside): (Vec<&Task>, Vec<&Task>) =
            tasks.iter().partition(|task| task.entry.standing == Standing::Outside);
        for task in outside {
            rendered
                .insert(task.entry.room.clone(), self.outside_room(scene, (task, turn.request.shape)).await?);
        }
        let slices = self.slices(&inside, turn.to).await?;
        let places: Vec<Place<'_>> =
            inside.iter().zip(&slices).map(|(task, slice)| place(task, slice, turn.to)).collect();
        let mut spans = self.spans(scene, &places).await?;
        for (span, task) in spans.iter_mut().zip(&inside) {
            if task.config.timeline_limit == 0 {
                span.limited |= !span.covered.is_empty();
                span.shown.clear();
                span.begins = span.ends;
            }
        }
        let timelines = self.timelines(scene, &places, &spans).await?;
        let states = self.required_states(scene, (turn, &inside), &spans).await?;
        let mut counts = self.sliding_counts(scene, turn, &inside).await?;
        for (((task, span), timeline), state) in inside.iter().zip(&spans).zip(timelines).zip(states) {
            let live = span.shown.iter().filter(|event| event.position > turn.began).count() as u64;
            let mut result = RoomResult {
                num_live: (!timeline.events.is_empty()).then_some(if turn.is_initial { 0 } else { live }),
                limited: timeline.limited,
                prev_batch: timeline.prev_batch,
                timeline: (!timeline.events.is_empty()).then_some(timeline.events),
                required_state: (!state.events.is_empty()).then(|| state.events.clone()),
                counts: counts.remove(&task.entry.room),
                expanded_timeline: task.expands.then_some(true),
                bump_stamp: self.bump_stamp(task, span).await?,
                ..RoomResult::default()
            };
            self.describe(scene, (task, &state), &mut result).await?;
            finish(task, &mut result);
            let shown: Vec<OwnedEventId> =
                span.shown.iter().map(|event| event.pdu.event_id().to_owned()).collect();
            let have = have(task, span);
            rendered.insert(task.entry.room.clone(), Rendered { result, have, begins: span.begins, shown });
        }
        Ok(rendered)
    }

    /// A room that the user is invited to, knocks at, or does neither any more.
    async fn outside_room(
        &self,
        scene: &mut Scene<'_>,
        (task, shape): (&Task, Shape),
    ) -> Result<Rendered, SyncError> {
        let entry = &task.entry;
        let mut result =
            RoomResult { bump_stamp: Some(entry.since.0), initial: Some(true), ..RoomResult::default() };
        if matches!(entry.membership, Membership::Invite | Membership::Knock) {
            let stripped = self.history.stripped(&scene.caller.user_id, &entry.room).await?;
            result.stripped_state = Some(stripped);
        } else if shape == Shape::Final {
            // There is one thing to see, and nothing else may be relied on.
            let event = self.history.event(&entry.event_id).await?;
            let stripped = self.history.stripped_event(&scene.caller.user_id, event.as_deref()).await?;
            result.stripped_state = Some(stripped);
        } else if let Some(event) = self.history.event(&entry.event_id).await? {
            let rendered = self.render_events(scene, &[event]).await?;
            result.required_state = Some(rendered.clone());
            result.timeline = Some(rendered);
        }
        finish(task, &mut result);
        Ok(Rendered { result, have: None, begins: Position::ZERO, shown: Vec::new() })
    }

    /// The newest events that each task is about.
    async fn slices(&self, tasks: &[&Task], to: Position) -> Result<Vec<Slice>, SyncError> {
        let mut by_limit: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            by_limit.entry(task.config.timeline_limit.max(1)).or_default().push(index);
        }
        let mut slices: Vec<Option<Slice>> = tasks.iter().map(|_| None).collect();
        for (limit, indices) in by_limit {
            let range = |index: &usize| {
                let task = tasks[*index];
                let from = task.since.filter(|_| !task.expands).unwrap_or_default();
                (task.entry.room.clone(), from, task.ends(to))
            };
            let wanted: Vec<_> = indices.iter().map(range).collect();
            let found = self.log.timelines(&wanted, Direction::Backward, limit + 1).await?;
            for ((index, facts), range) in indices.into_iter().zip(found).zip(wanted) {
                let (mut facts, gap) = self.newest_events(&range, facts, limit).await?;
                facts.reverse();
                let lane = Lane::Room(range.0);
                slices[index] = Some(Slice { lane, facts, gap, opened: None, closed: None });
            }
        }
        Ok(slices.into_iter().flatten().collect())
    }

    /// The newest facts of a range with `limit` events among them, newest first, and whether there are more. Given are
    /// the newest `limit + 1`, of which some may only say that the state has moved: these do not count.
    async fn newest_events(
        &self,
        range: &(OwnedRoomId, Position, Position),
        mut facts: Vec<(Position, Fact)>,
        limit: usize,
    ) -> Result<(Vec<(Position, Fact)>, bool), SyncError> {
        let (mut read, mut wanted) = (facts.len(), limit + 1);
        let place = |facts: &[(Position, Fact)]| {
            let is_event = |(_, fact): &(Position, Fact)| matches!(fact, Fact::Event { .. });
            facts.iter().enumerate().filter(|(_, fact)| is_event(fact)).nth(limit).map(|(place, _)| place)
        };
        while place(&facts).is_none() && read >= wanted && wanted < SCAN_ROWS_MAX {
            wanted = wanted.saturating_mul(4).min(SCAN_ROWS_MAX);
            let (room, from, to) = range;
            facts = self.log.timeline(room, (*from, *to), Direction::Backward, wanted).await?;
            read = facts.len();
        }
        let gap = place(&facts);
        facts.truncate(gap.unwrap_or(facts.len()));
        Ok((facts, gap.is_some() || read >= SCAN_ROWS_MAX))
    }

    /// Where the last event is that moves the room up in lists that clients sort themselves, if it is new.
    async fn bump_stamp(&self, task: &Task, span: &Span) -> Result<Option<u64>, SyncError> {
        if let Standing::Left { closed, .. } = task.entry.standing {
            return Ok(Some(closed.0));
        }
        let newest = |events: &[Arc<crate::history::StoredEvent>]| {
            events.iter().rev().find(|event| bumps(event)).map(|event| event.position)
        };
        let floor = task.since.unwrap_or_default();
        if let Some(at) = newest(&span.covered) {
            return Ok((at > floor).then_some(at.0));
        }
        if !span.limited && task.since.is_some() {
            return Ok(None);
        }
        let range = (floor, Position(span.begins.0));
        let facts = self.log.timeline(
            &task.entry.room,
            range,
            Direction::Backward,
            crate::limits::SLIDING_BUMP_LOOKED_AT,
        );
        let ids: Vec<OwnedEventId> =
            facts.await?.into_iter().rev().filter_map(|(_, fact)| event_id(fact)).collect();
        let events: Vec<_> = self.history.events(&ids).await?.into_iter().flatten().collect();
        Ok(match (newest(&events), task.since, task.entry.standing) {
            (Some(at), ..) => Some(at.0),
            // Nothing moves it: it stands where the user came in.
            (None, None, Standing::Joined(opened)) => Some(opened.0),
            _ => None,
        })
    }
}

fn place<'a>(task: &Task, slice: &'a Slice, to: Position) -> Place<'a> {
    let is_new = task.since.is_none();
    Place {
        room: task.entry.room.clone(),
        slice: Some(slice),
        is_joined: matches!(task.entry.standing, Standing::Joined(_)),
        is_new,
        returns: is_new,
        from: task.since.filter(|_| !task.expands).unwrap_or_default(),
        limit: task.config.timeline_limit.max(1),
        ends: task.ends(to),
    }
}

/// What every result says.
fn finish(task: &Task, result: &mut RoomResult) {
    result.initial = task.since.is_none().then_some(true);
    result.is_dm = task.dm_changed.then_some(task.is_dm);
    if !result.is_empty() {
        result.membership = Some(task.entry.membership.as_str());
        result.is_dm = Some(task.is_dm);
        result.lists.clone_from(&task.lists);
    }
}

/// How many of the newest events the client has for certain after this answer.
fn have(task: &Task, span: &Span) -> Option<usize> {
    let anew = task.since.is_none() || task.expands || span.limited;
    let all = !span.limited && (task.since.is_none() || task.expands);
    match (anew, all) {
        (false, _) => None,
        (true, true) => Some(usize::MAX),
        (true, false) => Some(task.config.timeline_limit),
    }
}

/// Whether an event counts as activity.
fn bumps(event: &crate::history::StoredEvent) -> bool {
    matches!(
        event.pdu.event_type().to_string().as_str(),
        "m.room.create"
            | "m.room.message"
            | "m.room.encrypted"
            | "m.sticker"
            | "m.call.invite"
            | "m.poll.start"
            | "org.matrix.msc3381.poll.start"
            | "m.beacon_info"
            | "org.matrix.msc3672.beacon_info"
    )
}

fn event_id(fact: Fact) -> Option<OwnedEventId> {
    match fact {
        Fact::Event { event_id } => Some(event_id),
        _ => None,
    }
}
