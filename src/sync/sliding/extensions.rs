//! What a client wants beside rooms: to-device messages, keys, account data, receipts, typing.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4508>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, UserId};
use serde_json::json;
use tracing::error;

use super::{
    Turn,
    connection::{Mark, Sent},
    lists::Match,
    request::{Scope, Shape},
    response::{
        DataResult, E2eeResult, ExtensionResults, RoomsResult, Subscribed, ThreadsResult, ToDeviceResult,
        Unsubscribed,
    },
    rooms::Rendered,
    roster::Standing,
};
use crate::{
    device::ListChanges,
    limits::SLIDING_TO_DEVICE_MAX,
    store::StoreError,
    sync::{
        Sync, SyncError,
        person::{plain, removed},
        response::{DeviceLists, Json},
        sections::{Receipts, value_event},
    },
    types::{Cursor, Fact, Lane, Position, ReceiptKind, RegisterKey},
};

/// The rooms of a request, and what was rendered of them.
pub(super) type Shown<'a> = (&'a BTreeMap<OwnedRoomId, Match>, &'a BTreeMap<OwnedRoomId, Rendered>);

/// The result of an extension. One of which the store is damaged is logged and left out, so that it holds up nothing else.
fn sound<T>(name: &str, user: &UserId, result: Result<T, SyncError>) -> Result<Option<T>, SyncError> {
    match result {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_damage() => {
            error!(user.id = %user, "cannot render the extension {name}: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Sync {
    /// Everything that the request asks for beside rooms.
    pub(super) async fn extensions(
        &self,
        turn: &mut Turn<'_>,
        shown: Shown<'_>,
    ) -> Result<ExtensionResults, SyncError> {
        let wanted = &turn.request.extensions;
        let (e2ee, data) = (wanted.e2ee.is_enabled(), wanted.account_data.is_enabled());
        let (user, from) = (&turn.caller.user_id, turn.from);
        let mut results = ExtensionResults::default();
        if wanted.to_device.enabled == Some(true) {
            results.to_device = sound("to_device", user, self.to_device(turn).await)?;
        }
        if e2ee {
            results.e2ee = sound("e2ee", user, self.e2ee(turn).await)?;
        }
        if results.e2ee.is_none() && turn.has_list_news() {
            turn.draft.device_lists.leave_behind(from);
        }
        if data {
            results.account_data = sound("account_data", user, self.account_data(turn, shown).await)?;
        }
        if results.account_data.is_none() {
            self.pass_account_data(turn);
        }
        results.typing = sound("typing", user, self.typing_of(turn, shown))?.flatten();
        results.receipts = match sound("receipts", user, self.receipts_of(turn, shown).await)? {
            Some(receipts) => receipts,
            None => {
                turn.draft.rooms.values_mut().for_each(|sent| sent.receipts.leave_behind(from));
                None
            }
        };
        results.sticky = sound("sticky_events", user, self.sticky_events(turn, shown).await)?.flatten();
        if wanted.profiles.scope.is_enabled() {
            results.profiles = sound("profiles", user, self.profiles_of(turn, shown).await)?;
        }
        if results.profiles.is_none() {
            turn.pass_profiles();
        }
        let threads = match sound("thread_subscriptions", user, self.threads_of(turn).await)? {
            Some(threads) => threads,
            None => {
                turn.draft.threads.leave_behind(from);
                None
            }
        };
        match turn.request.shape {
            Shape::Final => results.thread_subscriptions = threads,
            Shape::Unstable => results.unstable_thread_subscriptions = threads,
        }
        Ok(results)
    }

    /// Messages after the token that the client gave; those before it are gone.
    async fn to_device(&self, turn: &mut Turn<'_>) -> Result<ToDeviceResult, SyncError> {
        let wanted = &turn.request.extensions.to_device;
        let asked =
            wanted.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(SLIDING_TO_DEVICE_MAX);
        let limit = asked.clamp(1, SLIDING_TO_DEVICE_MAX);
        let caller = turn.caller;
        let lane = Lane::Inbox(caller.user_id.clone(), caller.device_id.clone());
        let since = self.to_device_since(turn)?.unwrap_or_default();
        let mut facts = self.log.queued(&lane, since, limit + 1).await?;
        let more = facts.len() > limit;
        facts.truncate(limit);
        let last = facts.last().map(|(at, _)| *at);
        let next = match more {
            true => last.unwrap_or(since),
            false => last.unwrap_or_default().max(turn.to).max(since),
        };
        let mut events = Vec::with_capacity(facts.len());
        for (_, fact) in &facts {
            let Fact::ToDevice { sender, event_type, content } = fact else { continue };
            let content = serde_json::from_str(content).map_err(StoreError::engine)?;
            events.push(plain(event_type, content, Some(sender.as_str()))?);
        }
        turn.queue = next;
        Ok(ToDeviceResult { next_batch: Cursor::at(next).to_string(), events })
    }

    /// Where the client's messages begin. A token from a future that this server does not know (it was
    /// restored from a backup) acknowledges nothing.
    pub(super) fn to_device_since(&self, turn: &Turn<'_>) -> Result<Option<Position>, SyncError> {
        let Some(since) = &turn.request.extensions.to_device.since else { return Ok(None) };
        let since: Cursor = since.parse().map_err(|_| SyncError::BadToken)?;
        Ok(Some(since.queue).filter(|at| *at <= self.log.head()))
    }

    async fn e2ee(&self, turn: &mut Turn<'_>) -> Result<E2eeResult, SyncError> {
        let caller = turn.caller;
        let counts = self.devices.key_counts(&caller.user_id, &caller.device_id).await?;
        let mut result = E2eeResult {
            device_one_time_keys_count: counts.one_time,
            device_unused_fallback_key_types: counts.unused_fallback,
            ..E2eeResult::default()
        };
        // As in `/v3/sync`: without a count clients take it that there is nothing to do.
        result.device_one_time_keys_count.entry("signed_curve25519".to_owned()).or_default();
        let mark = std::mem::replace(&mut turn.draft.device_lists, Mark::Live);
        // A client that begins looks up whom it meets.
        if let Some(from) = mark.upto(turn.from)
            && (turn.has_list_news() || from < turn.from)
        {
            let changes = self.met(turn, from).await?;
            if !changes.changed.is_empty() || !changes.left.is_empty() {
                let (changed, left) = (changes.changed.clone(), changes.left.clone());
                result.device_lists = Some(DeviceLists { changed, left });
            }
        }
        let inbox = Lane::Inbox(caller.user_id.clone(), caller.device_id.clone());
        if self.log.may_have(&inbox, turn.from) && !turn.is_initial {
            let facts = self.log.registers(&inbox, turn.from, turn.to).await?;
            result.keys_changed = facts.iter().any(|(_, fact)| matches!(fact, Fact::KeyCounts));
        }
        Ok(result)
    }

    /// Whom the user met, from whom they parted, and whose devices changed, after `from`.
    pub(super) async fn met(
        &self,
        turn: &mut Turn<'_>,
        from: Position,
    ) -> Result<Arc<ListChanges>, SyncError> {
        if let Some((since, changes)) = &turn.met
            && *since == from
        {
            return Ok(changes.clone());
        }
        let rooms: Vec<OwnedRoomId> = turn.moved.iter().cloned().collect();
        let rooms = (from == turn.from).then_some(&*rooms);
        let (user, span) = (&turn.caller.user_id, (from, turn.to));
        let changes = Arc::new(self.devices.list_changes(&self.history, user, span, rooms).await?);
        turn.met = Some((from, changes.clone()));
        Ok(changes)
    }

    async fn account_data(&self, turn: &mut Turn<'_>, shown: Shown<'_>) -> Result<DataResult, SyncError> {
        let user = &turn.caller.user_id;
        let mut result = DataResult::default();
        let kinds = match turn.draft.global_data {
            Mark::Never => None,
            Mark::Live => Some(turn.cut.global_data.clone()),
            Mark::Behind(from) => Some(self.data_since(user, from, turn.to).await?.0),
        };
        for (event_type, content) in self.global_data(user, kinds.as_deref()).await? {
            result.global.push(plain(&event_type, &content, None)?);
        }
        turn.draft.global_data = Mark::Live;
        let scope = turn.request.extensions.account_data.clone();
        let mut wanted: Vec<(Option<OwnedRoomId>, String)> = Vec::new();
        let mut whole = Vec::new();
        for room in turn.rooms_in(&scope, shown.0) {
            let Some(sent) = turn.draft.rooms.get_mut(&room) else { continue };
            let kinds = match std::mem::replace(&mut sent.data, Mark::Live) {
                Mark::Never => {
                    whole.push(room);
                    continue;
                }
                Mark::Live => turn.cut.room_data.get(&room).cloned().unwrap_or_default(),
                Mark::Behind(from) => {
                    self.data_since(user, from, turn.to).await?.1.remove(&room).unwrap_or_default()
                }
            };
            wanted.extend(kinds.into_iter().map(|kind| (Some(room.clone()), kind)));
        }
        for room in whole {
            for (kind, content) in self.accounts.all_data(user, Some(&room)).await? {
                result.rooms.entry(room.clone()).or_default().push(plain(&kind, &content, None)?);
            }
        }
        let contents = self.accounts.data_of(user, &wanted).await?;
        for ((room, kind), content) in wanted.into_iter().zip(contents) {
            let event = plain(&kind, &content.unwrap_or_else(removed), None)?;
            room.into_iter().for_each(|room| result.rooms.entry(room).or_default().push(event.clone()));
        }
        self.pass_room_data(turn, &scope, shown.0);
        Ok(result)
    }

    /// Types of account data that changed in `(from, to]`: global ones, and by room.
    async fn data_since(
        &self,
        user: &UserId,
        from: Position,
        to: Position,
    ) -> Result<(Vec<String>, BTreeMap<OwnedRoomId, Vec<String>>), SyncError> {
        let mut cut = crate::sync::person::Cut::default();
        for (at, fact) in self.log.registers(&Lane::Account(user.to_owned()), from, to).await? {
            cut.account(at, fact);
        }
        Ok((cut.global_data, cut.room_data))
    }

    /// The extension is off: what changes now is for later.
    fn pass_account_data(&self, turn: &mut Turn<'_>) {
        if !turn.cut.global_data.is_empty() {
            turn.draft.global_data.leave_behind(turn.from);
        }
        self.pass_room_data(turn, &Scope::default(), &BTreeMap::new());
    }

    fn pass_room_data(&self, turn: &mut Turn<'_>, scope: &Scope, rooms: &BTreeMap<OwnedRoomId, Match>) {
        let covered: BTreeSet<OwnedRoomId> = turn.rooms_in(scope, rooms).into_iter().collect();
        let from = turn.from;
        for room in turn.cut.room_data.keys().filter(|room| !covered.contains(*room)) {
            if let Some(sent) = turn.draft.rooms.get_mut(room) {
                sent.data.leave_behind(from);
            }
        }
    }

    fn typing_of(&self, turn: &mut Turn<'_>, shown: Shown<'_>) -> Result<Option<RoomsResult>, SyncError> {
        let scope = turn.request.extensions.typing.clone();
        let mut result = RoomsResult::default();
        for room in turn.ephemeral_rooms(&scope, shown.0, |sent| &mut sent.typing) {
            let Some(sent) = turn.draft.rooms.get_mut(&room) else { continue };
            let mark = std::mem::replace(&mut sent.typing, Mark::Live);
            let from = mark.upto(turn.from);
            let lane = Lane::Room(room.clone());
            let moved = from.is_some_and(|from| {
                // Who typed before this process started does not any more.
                from < self.log.boot() || !self.log.volatile(&lane, from, turn.to).is_empty()
            });
            let mut user_ids = self.ephemeral.typing(&room);
            user_ids.retain(|user| !turn.ignores(user));
            if moved || (from.is_none() && !user_ids.is_empty()) {
                result.rooms.insert(room, value_event("m.typing", &json!({ "user_ids": user_ids }))?);
            }
        }
        Ok(scope.is_enabled().then_some(result))
    }

    async fn receipts_of(
        &self,
        turn: &mut Turn<'_>,
        shown: Shown<'_>,
    ) -> Result<Option<RoomsResult>, SyncError> {
        let scope = turn.request.extensions.receipts.clone();
        let rooms = turn.ephemeral_rooms(&scope, shown.0, |sent| &mut sent.receipts);
        let mut result = RoomsResult::default();
        for room in rooms {
            let Some(sent) = turn.draft.rooms.get_mut(&room) else { continue };
            let mark = std::mem::replace(&mut sent.receipts, Mark::Live);
            let facts = self.receipt_facts(turn, &room, (mark.upto(turn.from), shown.1.get(&room))).await?;
            if let Some(event) = one_event(&facts)? {
                result.rooms.insert(room, event);
            }
        }
        Ok(scope.is_enabled().then_some(result))
    }

    /// The receipts of a room that the client lacks. Of a room that is new to it, those of the events
    /// that it is given and the user's own; who has read what came before can matter to nobody who does
    /// not have it.
    async fn receipt_facts(
        &self,
        turn: &Turn<'_>,
        room: &OwnedRoomId,
        (from, rendered): (Option<Position>, Option<&Rendered>),
    ) -> Result<Vec<Fact>, SyncError> {
        let lane = Lane::Room(room.clone());
        // The extension may come later than the room: then everything of the room is lacking.
        let rendered = rendered.filter(|room| from.is_some() || room.result.initial == Some(true));
        let begins = rendered.map(|rendered| rendered.begins);
        let user = &turn.caller.user_id;
        // An event's receipts come after it.
        let start = match (from, begins) {
            (Some(from), Some(begins)) => from.min(begins),
            (Some(from), None) => from,
            (None, Some(begins)) => begins,
            (None, None) => Position::ZERO,
        };
        let given: BTreeSet<&OwnedEventId> =
            rendered.into_iter().flat_map(|rendered| &rendered.shown).collect();
        let mut facts = self.log.registers(&lane, start, turn.to).await?;
        if from.is_none_or(|from| from < turn.from) {
            let own = self.own_receipts(user, std::slice::from_ref(room)).await?;
            facts.extend(own.into_iter().flatten());
        } else {
            let private = turn.cut.private_receipts.get(room).into_iter().flatten();
            facts.extend(private.map(|fact| (turn.to, fact.clone())));
        }
        let wanted = |(at, fact): &(Position, Fact)| match fact {
            Fact::Receipt { user_id, event_id, .. } => {
                !turn.ignores(user_id)
                    && *at <= turn.to
                    && (from.is_some_and(|from| *at > from)
                        || given.contains(event_id)
                        || (from.is_none() && user_id == user)
                        || (from.is_none() && rendered.is_none()))
            }
            _ => false,
        };
        Ok(facts.into_iter().filter(wanted).map(|(_, fact)| fact).collect())
    }

    /// The newest changes of thread subscriptions; the rest can be asked for.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>
    async fn threads_of(&self, turn: &mut Turn<'_>) -> Result<Option<ThreadsResult>, SyncError> {
        let wanted = &turn.request.extensions.thread_subscriptions;
        if wanted.enabled != Some(true) {
            if turn.cut.threads {
                turn.draft.threads.leave_behind(turn.from);
            }
            return Ok(None);
        }
        if turn.draft.threads == Mark::Live && !turn.cut.threads {
            return Ok(None);
        }
        let limit = wanted.limit.and_then(|limit| usize::try_from(limit).ok());
        let span = (turn.draft.threads.upto(turn.from).unwrap_or_default(), turn.to);
        let page = self.ephemeral.subscriptions(&turn.caller.user_id, span, limit).await?;
        turn.draft.threads = Mark::Live;
        let mut result =
            ThreadsResult { prev_batch: page.more.map(super::super::boundary), ..Default::default() };
        for (at, change) in page.changes {
            let (room, root, bump_stamp) = (change.room_id, change.thread_root, at.0);
            if change.subscribed {
                let subscribed = Subscribed { automatic: change.automatic, bump_stamp };
                result.subscribed.entry(room).or_default().insert(root, subscribed);
            } else {
                let unsubscribed = Unsubscribed { bump_stamp };
                result.unsubscribed.entry(room).or_default().insert(root, unsubscribed);
            }
        }
        let says = !result.subscribed.is_empty() || !result.unsubscribed.is_empty();
        Ok(says.then_some(result))
    }

    /// The user's own receipts in each room, public and private.
    pub(super) async fn own_receipts(
        &self,
        user: &UserId,
        rooms: &[OwnedRoomId],
    ) -> Result<Vec<Vec<(Position, Fact)>>, StoreError> {
        // The keys of a user's receipts of a room begin like this; see `Fact::retention`.
        let key = |room: &OwnedRoomId| RegisterKey(format!("r\u{0}{room}\u{0}{user}\u{0}").into_bytes());
        let public = rooms.iter().map(|room| (Lane::Room(room.clone()), key(room)));
        let private = rooms.iter().map(|room| (Lane::Account(user.to_owned()), key(room)));
        let wanted: Vec<_> = public.chain(private).collect();
        let mut found = self.log.registers_with(&wanted).await?;
        let private = found.split_off(rooms.len());
        for (public, private) in found.iter_mut().zip(private) {
            public.extend(private);
        }
        Ok(found)
    }
}

impl Turn<'_> {
    /// The rooms of the request of which an extension speaks.
    fn rooms_in(&self, scope: &Scope, rooms: &BTreeMap<OwnedRoomId, Match>) -> Vec<OwnedRoomId> {
        let covered =
            rooms.iter().filter(|(room, found)| scope.covers(room.as_str(), &found.lists, found.subscribed));
        covered.map(|(room, _)| room.clone()).collect()
    }

    /// Of those, the joined ones that may have something. The others that moved are left behind.
    fn ephemeral_rooms(
        &mut self,
        scope: &Scope,
        rooms: &BTreeMap<OwnedRoomId, Match>,
        mark: impl Fn(&mut Sent) -> &mut Mark,
    ) -> Vec<OwnedRoomId> {
        let covered: BTreeSet<OwnedRoomId> = self.rooms_in(scope, rooms).into_iter().collect();
        let private = self.cut.private_receipts.keys();
        for room in self.moved.iter().chain(private).filter(|room| !covered.contains(*room)) {
            if let Some(sent) = self.draft.rooms.get_mut(room) {
                mark(sent).leave_behind(self.from);
            }
        }
        let mut found = Vec::new();
        for room in covered {
            let joined =
                self.roster.entry(&room).is_some_and(|entry| matches!(entry.standing, Standing::Joined(_)));
            let Some(sent) = self.draft.rooms.get_mut(&room).filter(|_| joined) else { continue };
            let moved = self.moved.contains(&room) || self.cut.private_receipts.contains_key(&room);
            if moved || *mark(sent) != Mark::Live {
                found.push(room);
            }
        }
        found
    }

    /// Something came that may have changed whose devices the user has to know.
    fn has_list_news(&self) -> bool {
        self.people_moved || self.cut.own_lists || !self.moved.is_empty()
    }

    fn ignores(&self, user: &UserId) -> bool {
        self.habits.person.as_ref().is_some_and(|person| person.ignored.contains(user))
    }
}

/// Receipts as one event. Of two of one user for one event, the one that says more is taken.
fn one_event(facts: &[Fact]) -> Result<Option<Json>, SyncError> {
    let mut ordered: Vec<&Fact> = facts.iter().collect();
    ordered.sort_by_key(|fact| match fact {
        Fact::Receipt { thread_id: None, .. } => 0,
        Fact::Receipt { thread_id: Some(thread), kind: ReceiptKind::Read, .. } if thread == "main" => 1,
        _ => 2,
    });
    let mut receipts = Receipts::default();
    ordered.into_iter().for_each(|fact| receipts.add(fact));
    // What does not fit into the first content is of a thread, and the room's own receipt covers it.
    receipts.0.first().map(|content| value_event("m.receipt", &json!(content))).transpose()
}
