//! What the push rules of one user say of one event.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use std::sync::Arc;

use ruma::{
    OwnedUserId, RoomId, UInt, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{
            create::RoomCreateEventContent, member::RoomMemberEventContent,
            power_levels::RoomPowerLevelsEventContent,
        },
    },
    push::{Action, PushConditionPowerLevelsCtx, PushConditionRoomCtx},
    room_version_rules::RoomPowerLevelsRules,
};
use serde::Deserialize;

use super::{
    Person, Push, PushError,
    rules::{Meter, first_match},
    seen::Seen,
};
use crate::{
    dag::{Pdu, StateId, StateKey},
    history::{RoomRow, StoredEvent},
    store::StoreError,
    types::{Fact, Lane, RegisterKey},
};

/// A room as the rules of one user look at it, good for events that follow the same state.
pub(super) struct RoomContext {
    state: StateId,
    joined: u64,
    context: PushConditionRoomCtx,
}

impl Push {
    /// What is to be done for `user` about an event: nothing, unless they are to be notified.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn actions(&self, user: &UserId, event: &StoredEvent) -> Result<Vec<Action>, PushError> {
        let person = self.person(user).await?;
        self.judge(user, &person, event).await
    }

    /// As [`Self::actions`], for a person who has been looked up. What cannot be judged because the room is damaged notifies
    /// nobody, and keeps nobody from the rest.
    pub(super) async fn judge(
        &self,
        user: &UserId,
        person: &Person,
        event: &StoredEvent,
    ) -> Result<Vec<Action>, PushError> {
        match self.judge_sound(user, person, event).await {
            Err(PushError::Store(error @ StoreError::Corrupt(_))) => {
                self.0.history.note_damaged(event.pdu.event_id(), &error);
                Ok(Vec::new())
            }
            actions => actions,
        }
    }

    async fn judge_sound(
        &self,
        user: &UserId,
        person: &Person,
        event: &StoredEvent,
    ) -> Result<Vec<Action>, PushError> {
        let pdu = &event.pdu;
        if pdu.sender() == user || person.ignored.contains(pdu.sender()) {
            return Ok(Vec::new());
        }
        if is_invite_of(pdu, user) && person.overlooks(pdu.sender()) {
            return Ok(Vec::new());
        }
        let state = event.states.map_or(StateId::EMPTY, |states| states.before);
        let known = self.context(user, pdu.room_id(), state).await?;
        let seen = self.seen(pdu)?;
        // Who has many events judged that are quick to judge gives others their turn too.
        tokio::task::coop::consume_budget().await;
        let found = first_match(&person.rules, &seen, &known.context, &mut Meter::default()).await;
        Ok(found.map(|rule| rule.actions().to_vec()).unwrap_or_default())
    }

    /// An event as rules look at it.
    fn seen(&self, pdu: &Pdu) -> Result<Arc<Seen>, StoreError> {
        if let Some(known) = self.0.seen.get(pdu.event_id()) {
            return Ok(known);
        }
        let seen = Arc::new(Seen::new(pdu)?);
        self.0.seen.insert(pdu.event_id().to_owned(), seen.clone());
        Ok(seen)
    }

    async fn context(
        &self,
        user: &UserId,
        room: &RoomId,
        state: StateId,
    ) -> Result<Arc<RoomContext>, PushError> {
        let row = self.0.history.room(room).await?;
        // How many there are now is as good as how many there were then, and known without counting.
        let joined = row.as_ref().map_or(0, counted);
        let key = (user.to_owned(), room.to_owned());
        if let Some(known) = self.0.contexts.get(&key).filter(|it| it.state == state && it.joined == joined) {
            return Ok(known);
        }
        let context = self.find_context(user, room, (state, row)).await?;
        let found = Arc::new(RoomContext { state, joined, context });
        self.0.contexts.insert(key, found.clone());
        Ok(found)
    }

    async fn find_context(
        &self,
        user: &UserId,
        room: &RoomId,
        (state, row): (StateId, Option<Arc<RoomRow>>),
    ) -> Result<PushConditionRoomCtx, PushError> {
        let history = &self.0.history;
        let joined = row.as_ref().map_or(0, counted);
        let keys = [
            StateKey::new(StateEventType::RoomMember, user.as_str()),
            StateKey::new(StateEventType::RoomPowerLevels, ""),
            StateKey::new(StateEventType::RoomCreate, ""),
        ];
        let found = history.state_entries(state, &keys).await?;
        let ids: Vec<_> = found.iter().flatten().map(|value| value.event_id.clone()).collect();
        let known = history.sound_event_map(&ids).await?;
        let event = |index: usize| {
            let value = found.get(index).and_then(Option::as_ref)?;
            known.get(&value.event_id)
        };
        let named = event(0).and_then(|event| event.pdu.content_as::<RoomMemberEventContent>().ok());
        let name = named.and_then(|content| content.displayname).unwrap_or_default();
        let context = PushConditionRoomCtx::new(
            room.to_owned(),
            UInt::try_from(joined).unwrap_or(UInt::MAX),
            user.to_owned(),
            name,
        );
        let context = self.with_subscriptions(context, user, room);
        let Some(row) = row else { return Ok(context) };
        let rules = &row.rules().authorization;
        let levels = event(1).and_then(|event| event.pdu.content_as::<RoomPowerLevelsEventContent>().ok());
        let levels = levels.unwrap_or_else(|| RoomPowerLevelsEventContent::new(rules));
        let mut creators: Vec<OwnedUserId> = Vec::new();
        if let Some(create) = event(2) {
            creators.push(create.pdu.sender().to_owned());
            let content = create.pdu.content_as::<RoomCreateEventContent>().ok();
            creators.extend(content.into_iter().flat_map(|content| content.additional_creators));
        }
        Ok(context.with_power_levels(PushConditionPowerLevelsCtx::new(
            levels.users,
            levels.users_default,
            levels.notifications,
            RoomPowerLevelsRules::new(rules, creators),
        )))
    }
}

impl Push {
    /// Has rules know to which threads of a room the user has subscribed: by now, since it is not kept when they did.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
    fn with_subscriptions(
        &self,
        context: PushConditionRoomCtx,
        user: &UserId,
        room: &RoomId,
    ) -> PushConditionRoomCtx {
        let (log, lane, room) = (self.0.log.clone(), Lane::Account(user.to_owned()), room.to_owned());
        context.with_has_thread_subscription_fn(move |root| {
            let (log, lane, key) = (log.clone(), lane.clone(), RegisterKey::thread_subscription(&room, root));
            Box::pin(async move {
                match log.register(&lane, &key).await {
                    Ok(found) => {
                        matches!(found, Some((_, Fact::ThreadSubscription { subscribed: true, .. })))
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot read whether a thread is subscribed to");
                        false
                    }
                }
            })
        })
    }
}

/// How many are in a room, for a rule about small rooms: in one whose members are not known yet, many.
fn counted(row: &Arc<RoomRow>) -> u64 {
    if row.partial { u64::MAX } else { row.joined }
}

/// Whether an event invites `user`.
pub(super) fn is_invite_of(pdu: &Pdu, user: &UserId) -> bool {
    let invites = || pdu.content_as::<Member>().is_ok_and(|member| member.membership == "invite");
    *pdu.event_type() == TimelineEventType::RoomMember && pdu.state_key() == Some(user.as_str()) && invites()
}

#[derive(Deserialize)]
struct Member {
    membership: String,
}
