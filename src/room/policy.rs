//! Rooms that ask a server of their choice about every event.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use futures_util::{StreamExt, stream};
use ruma::{RoomId, api::federation::policy::sign_event, events::StateEventType};

use super::{RoomError, Rooms, ingest::Batch, turn::Turn};
use crate::{
    dag::{Pdu, Policy, Signed, StateKey},
    limits::{FETCH_AT_ONCE, POLICY_SECONDS_MAX},
    peer::Bounds,
    store::BoxFuture,
};

impl Turn {
    /// Where the state names the policy server.
    pub(super) fn policy_place() -> StateKey {
        StateKey::new(StateEventType::from(Policy::EVENT_TYPE), "")
    }

    /// The policy server that `named`, an event of the current state, makes the room's.
    pub(super) async fn policy(&self, named: Option<Pdu>) -> Result<Option<Policy>, RoomError> {
        let Some(policy) = named.as_ref().and_then(Policy::of) else { return Ok(None) };
        let inside = match policy.via == self.rooms.0.history.server() {
            true => self.row.joined > self.row.remote,
            false => self.is_inside(&policy.via).await?,
        };
        Ok(inside.then_some(policy))
    }

    /// An event of ours with the word of the room's policy server, where the room has one.
    pub(super) async fn recommended(&self, event: Pdu, named: Option<Pdu>) -> Result<Pdu, RoomError> {
        match self.policy(named).await?.filter(|_| Policy::concerns(&event)) {
            Some(policy) => self.rooms.ask_policy(&policy, &event, self.rules).await,
            None => Ok(event),
        }
    }

    /// Whether the room's policy server has something against an event from elsewhere, or nothing is known of
    /// its word.
    pub(super) async fn is_discouraged(&self, event: &Pdu) -> Result<bool, RoomError> {
        let place = Self::policy_place();
        let places = self.places(std::slice::from_ref(&place)).await?;
        let policy = self.policy(places.get(&place.event_type, "")).await?;
        Ok(Policy::concerns(event) && policy.is_some_and(|policy| !policy.recommends(event, self.rules)))
    }
}

impl Rooms {
    async fn ask_policy(
        &self,
        policy: &Policy,
        event: &Pdu,
        rules: &ruma::room_version_rules::RoomVersionRules,
    ) -> Result<Pdu, RoomError> {
        let request = sign_event::v1::Request::new(event.json().to_owned());
        let bounds = Bounds { timeout: POLICY_SECONDS_MAX, ..Bounds::default() };
        let answer = self.0.peers.call(&policy.via, request, bounds).await?;
        let signed = answer.ed25519_signature(&policy.via).and_then(|text| policy.accept(event, text, rules));
        signed.ok_or_else(|| RoomError::forbidden("The room's policy server has not signed the event"))
    }

    /// Asks for the word of the room's policy server on events that come without it. What it does not sign stays
    /// as it is. Where it does not answer once, it is not asked for the others.
    pub(super) async fn seek_recommendations(
        &self,
        room: &RoomId,
        batch: &mut Batch<'_>,
    ) -> Result<(), RoomError> {
        let Some(state) = self.0.history.current_state(room).await? else { return Ok(()) };
        let kind = StateEventType::from(Policy::EVENT_TYPE);
        let Some(named) = self.0.history.state_event(state, kind, "").await? else { return Ok(()) };
        let policy = Turn::begin(self, room).await?.policy(Some(named.pdu.clone())).await?;
        let Some(policy) = policy.filter(|policy| !self.0.peers.is_down(&policy.via)) else { return Ok(()) };
        let rules = batch.row.rules();
        let unsigned: Vec<Pdu> = batch
            .events()
            .filter(|event| Policy::concerns(event) && !policy.recommends(event, rules))
            .cloned()
            .collect();
        let mut asked: Vec<BoxFuture<'_, Result<Pdu, RoomError>>> = Vec::with_capacity(unsigned.len());
        for event in &unsigned {
            asked.push(Box::pin(self.ask_policy(&policy, event, rules)));
        }
        let mut answers = stream::iter(asked).buffer_unordered(FETCH_AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(event) => batch.replace(Signed::ours(event)),
                Err(error) => {
                    tracing::debug!(room.id = %room, %error, "no word of {} in {room}", policy.via);
                    if matches!(error, RoomError::Unreachable(_)) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
