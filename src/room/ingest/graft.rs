//! A room as another server gives it when one of our users joins there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{
    OwnedEventId, OwnedServerName, RoomId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;

use super::{
    batch::Batch,
    claim::sound_state,
    fetch::Fetch,
    outlier,
    take::{Outcome, Way},
};
use crate::{
    dag::{
        Pdu, Signed, StateId, StateKey, StateValue,
        build::Head,
        tree::{self, entry_of},
    },
    history::{
        EventNotes, RoomRow, States, Status, StoredEvent,
        tables::{AMENDMENTS, HeadRow, Part, RETRIES},
    },
    limits::STATE_EVENTS_MAX,
    room::{RoomError, Rooms, turn::Turn, until_settled},
    types::{Fact, Lane, Membership, Position},
};

/// A join of one of our users that another server has brought into a room, with the room before it.
#[derive(Clone, Debug)]
pub struct Graft {
    /// The server that gave it.
    pub origin: OwnedServerName,
    /// The version of the room.
    pub version: RoomVersionId,
    /// The join: built and signed by us, perhaps signed by others too.
    pub event: Pdu,
    /// The state before it.
    pub state: Vec<Box<RawValue>>,
    /// The auth chain of the state and of the join.
    pub auth_chain: Vec<Box<RawValue>>,
    /// If the state has few of the members: the servers that are in the room.
    pub omitted: Option<BTreeSet<OwnedServerName>>,
}

impl Rooms {
    /// Stores a room as the answer of `send_join` gives it, with our own join as its head. If one of our
    /// users is in the room already, what is known of it is not replaced but resolved with this.
    ///
    /// # Errors
    /// When the answer is not sound, or our join is not allowed by it.
    pub async fn graft(&self, graft: Graft) -> Result<(), RoomError> {
        let Graft { origin, version, event, state, auth_chain, omitted } = graft;
        let rules = crate::dag::versions::rules(&version)
            .ok_or_else(|| RoomError::UnsupportedVersion(version.clone()))?;
        let room = event.room_id().to_owned();
        if state.len() + auth_chain.len() > STATE_EVENTS_MAX {
            return Err(RoomError::TooLarge(String::from("the state of the room has too many events")));
        }
        let state_count = state.len();
        let texts: Vec<Box<RawValue>> = state.into_iter().chain(auth_chain).collect();
        let checked = self.check(&room, rules, texts).await?;
        let state_ids: BTreeSet<OwnedEventId> = checked.ids.into_iter().take(state_count).flatten().collect();
        let (events, mut unjudged) = (checked.events, checked.unverified);
        let create = events.iter().map(Signed::pdu).find(|pdu| {
            *pdu.event_type() == TimelineEventType::RoomCreate && state_ids.contains(pdu.event_id())
        });
        let known = self.0.history.room(&room).await?;
        let create = create
            .map(|pdu| pdu.event_id().to_owned())
            .or_else(|| known.as_ref().map(|row| row.create.clone()));
        let create = create.ok_or_else(|| unsound("the state has no create event"))?;
        let row = known.unwrap_or_else(|| Arc::new(RoomRow::new(version.clone(), create)));
        if row.version != version {
            return Err(unsound("the room has another version"));
        }
        unjudged.extend(outlier::store(self, &room, row.clone(), events).await?);
        let (of_state, of_chain): (Vec<Pdu>, Vec<Pdu>) =
            unjudged.into_iter().partition(|pdu| state_ids.contains(pdu.event_id()));
        self.keep_unjudged((&room, &origin), (Part::State, true), &of_state).await?;
        self.keep_unjudged((&room, &origin), (Part::State, false), &of_chain).await?;
        let state_ids: Vec<OwnedEventId> = state_ids.into_iter().collect();
        // An event whose signatures are bad is left out of the state, and one that cannot be judged now is
        // left out until it can be: one dead server must not keep everybody out of the room.
        let state = sound_state(&self.0.history, (&state_ids, false), (&room, &row.create)).await?;
        let mut state = state.ok_or_else(|| unsound("the state is not that of one room"))?;
        if omitted.is_some() {
            // Whoever lets our user in is among those who are left out.
            for named in self.0.history.events(event.auth_events()).await?.into_iter().flatten() {
                if let Some((key, value)) = entry_of(&named.pdu).filter(|_| named.status != Status::Rejected)
                {
                    state.entry(key).or_insert(value);
                }
            }
            self.add_our_own(&room, &mut state).await?;
        }
        let partial = omitted.as_ref();
        until_settled!(self.try_graft(&origin, (&row, &event), (&state, partial)))?;
        if partial.is_some() {
            self.begin_to_complete(&room).await;
        }
        Ok(())
    }

    /// How our users have left the room, who are left out too. One who has gone must not seem to be back where the
    /// state meets one from before.
    async fn add_our_own(
        &self,
        room: &RoomId,
        state: &mut BTreeMap<StateKey, StateValue>,
    ) -> Result<(), RoomError> {
        let members = self.0.history.current_members(room).await?;
        let ours = members.iter().filter(|(user, _)| self.0.history.is_local(user));
        for (user, member) in ours.filter(|(_, member)| member.membership != Membership::Join) {
            let key = StateKey::new(StateEventType::RoomMember, user.as_str());
            let value = StateValue { event_id: member.event_id.clone(), membership: Some(member.membership) };
            state.entry(key).or_insert(value);
        }
        Ok(())
    }

    async fn try_graft(
        &self,
        origin: &ruma::ServerName,
        (row, event): (&Arc<RoomRow>, &Pdu),
        (state, partial): (&BTreeMap<StateKey, StateValue>, Option<&BTreeSet<OwnedServerName>>),
    ) -> Result<(), RoomError> {
        let room = event.room_id().to_owned();
        let edits: Vec<_> = state.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let fresh = HashMap::new();
        let applied =
            self.0.history.ask(&fresh, |nodes| tree::apply(nodes, StateId::EMPTY, edits.clone())).await?;
        let present = self.0.history.reload_room(&room).await?;
        if let Some(present) = present.filter(|row| row.joined > row.remote) {
            let before = partial.is_none().then_some(applied);
            return self.merge_graft(origin, present, event, before).await;
        }
        let mut turn = match self.0.history.room(&room).await? {
            Some(_) => Turn::begin_at_rest(self, &room).await?,
            None => Turn::begin_new(self, &room, RoomRow { serial: 1, ..(**row).clone() }).await?,
        };
        let before = turn.note_applied(applied);
        turn.forget_earlier_stay().await?;
        turn.join_at(event.clone(), before).await?;
        if let Some(servers) = partial {
            turn.let_in(servers).await?;
            turn.begin_partial(event.event_id().to_owned(), origin.to_owned(), servers.clone());
        }
        turn.close().await
    }

    /// Takes the join into a room that this server is in, where the state before it is as given, if it is given whole.
    async fn merge_graft(
        &self,
        origin: &ruma::ServerName,
        row: Arc<RoomRow>,
        event: &Pdu,
        before: Option<tree::Applied>,
    ) -> Result<(), RoomError> {
        let room = event.room_id().to_owned();
        let mut batch = Batch::new(self, &room, row);
        batch.extend([Signed::ours(event.clone())]);
        for (index, (id, before)) in event.prev_events().iter().zip(before.iter().cycle()).enumerate() {
            let nodes = if index == 0 { before.nodes.clone() } else { Vec::new() };
            batch.give(id.clone(), before.state, nodes);
        }
        if batch.look().await?.is_lacking() {
            let _fetching = self.0.fetches.lock(&room).await;
            Fetch::new(&mut batch, origin).await?.complete().await?;
        }
        let outcomes = self.settle(&room, &batch, Way::Live { relay: false }).await?;
        match outcomes.into_iter().find(|(id, _)| id == event.event_id()) {
            Some((_, Outcome::Known | Outcome::Accepted)) => Ok(()),
            Some((_, Outcome::Rejected(why))) => Err(RoomError::Forbidden(why)),
            _ => Err(unsound("the join does not fit the room")),
        }
    }
}

impl Turn {
    /// What was found out late about the state of an earlier stay says nothing about this one.
    async fn forget_earlier_stay(&mut self) -> Result<(), RoomError> {
        if self.row.partial
            && let Some((_, join)) = self.rooms.clone().entry_into(&self.room_id).await?
        {
            self.distrust_since(&join).await?;
        }
        self.row.partial = false;
        if self.row.amended > 0 {
            self.row.amended = 0;
            let (prefix, key) = ((self.room_id.clone(),), (self.room_id.clone(), Part::Amendment.number()));
            self.extra.push(Box::new(move |commit| {
                commit.delete_prefix(&AMENDMENTS, &prefix);
                commit.delete(&RETRIES, &key);
            }));
        }
        Ok(())
    }

    /// Makes a join the only head of the room; `before` is the state before it. What was known of the room
    /// is from before our last user left it.
    async fn join_at(&mut self, event: Pdu, before: StateId) -> Result<(), RoomError> {
        let keys = crate::dag::auth::state_keys(&event, &self.rules.authorization)?;
        let keys: Vec<_> = keys.into_iter().map(crate::dag::StateKey::from).collect();
        let places = self.places_in(before, &keys).await?;
        crate::dag::auth::check_against(&event, &self.rules.authorization, |event_type, key| {
            places.get(event_type, key)
        })?;
        let after = self.with_event(before, &event).await?;
        self.mind_gaps(&event, None).await?;
        // The other servers may have asked for the user's devices before this one knew that it is in the room.
        let user_id = event.sender().to_owned();
        self.extra.push(Box::new(move |commit| commit.fact(Lane::People, Fact::Devices { user_id })));
        self.row.entry_depth = event.depth();
        self.row.heads = vec![HeadRow::from(Head::of(&event, self.rules))];
        let stored = StoredEvent {
            pdu: event,
            position: Position::ZERO,
            status: Status::Timeline,
            version: self.row.version.clone(),
            states: Some(States { before, after, current: after }),
            notes: EventNotes::default(),
        };
        self.show(stored, false).await
    }
}

fn unsound(why: &str) -> RoomError {
    RoomError::BadState(format!("The other server's answer makes no sense: {why}"))
}
