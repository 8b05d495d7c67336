//! The rooms of a page.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::Deserialize;

use super::{
    StateDialect, Sync, SyncError, SyncRequest, SyncResponse,
    filter::room_wanted,
    person::Cut,
    response::{Events, Invited, Knocked, RoomUpdate},
    timeline::Span,
};
use crate::{
    account::Caller,
    history::Viewer,
    log::Slice,
    types::{Fact, Lane, Membership},
};

/// What one request knows while it renders its rooms.
pub(super) struct Scene<'a> {
    pub(super) caller: &'a Caller,
    pub(super) request: &'a SyncRequest,
    pub(super) cut: &'a Cut,
    pub(super) viewer: Viewer,
    pub(super) ignored: BTreeSet<OwnedUserId>,
}

/// One room, and what the page says of it.
pub(super) struct Place<'a> {
    pub(super) room: &'a RoomId,
    pub(super) slice: &'a Slice,
    /// The client has nothing of the room yet, or nothing that it could build on.
    pub(super) is_new: bool,
}

#[derive(Deserialize)]
struct IgnoredUsers {
    ignored_users: std::collections::BTreeMap<OwnedUserId, serde_json::Value>,
}

impl Sync {
    /// Adds the rooms.
    pub(super) async fn add_rooms(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        cut: &Cut,
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        let filter = &request.filter.room;
        let touched = self.touched(caller, request, cut).await?;
        if touched.is_empty() {
            return Ok(());
        }
        let ignored: Option<IgnoredUsers> =
            self.accounts.read_data(&caller.user_id, "m.ignored_user_list").await?;
        let mut scene = Scene {
            caller,
            request,
            cut,
            viewer: self.history.viewer(&caller.user_id, Some(&caller.device_id)).await?,
            ignored: ignored.map(|list| list.ignored_users.into_keys().collect()).unwrap_or_default(),
        };
        for room in touched.into_iter().filter(|room| room_wanted(filter, room)) {
            self.add_room(&mut scene, &room, response).await?;
        }
        Ok(())
    }

    /// The rooms of which there is something to say.
    async fn touched(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        cut: &Cut,
    ) -> Result<BTreeSet<OwnedRoomId>, SyncError> {
        let mut touched: BTreeSet<OwnedRoomId> = cut.rooms.keys().cloned().collect();
        touched.extend(cut.memberships.keys().cloned());
        touched.extend(cut.private_receipts.keys().cloned());
        touched.extend(cut.room_data.keys().cloned());
        if request.full_state {
            touched.extend(self.history.joined_rooms(&caller.user_id).await?);
        }
        Ok(touched)
    }

    async fn add_room(
        &self,
        scene: &mut Scene<'_>,
        room: &OwnedRoomId,
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        let user = &scene.caller.user_id;
        let is_joined = self.history.is_joined(room, user).await?;
        let quiet = Slice {
            lane: Lane::Room(room.clone()),
            facts: Vec::new(),
            gap: false,
            opened: None,
            closed: None,
        };
        let slice = scene.cut.rooms.get(room);
        if is_joined {
            let slice = slice.unwrap_or(&quiet);
            let is_new = slice.opened.is_some() || scene.request.full_state;
            let update = self.joined(scene, &Place { room, slice, is_new }).await?;
            response.rooms.join.insert(room.clone(), update);
            return Ok(());
        }
        if let Some(slice) = slice.filter(|slice| slice.closed.is_some()) {
            let leaves = !scene.cut.is_initial() || scene.request.filter.room.include_leave;
            if leaves && !self.history.is_forgotten(user, room).await? {
                let place = Place { room, slice, is_new: slice.opened.is_some() };
                let update = self.left(scene, &place).await?;
                response.rooms.leave.insert(room.clone(), update);
            }
        }
        let Some((membership, event_id, _)) = scene.cut.memberships.get(room) else { return Ok(()) };
        match membership {
            Membership::Invite if !self.is_from_ignored(scene, event_id).await? => {
                let events = self.history.stripped(user, room).await?;
                response.rooms.invite.insert(room.clone(), Invited { invite_state: Events { events } });
            }
            Membership::Knock => {
                let events = self.history.stripped(user, room).await?;
                response.rooms.knock.insert(room.clone(), Knocked { knock_state: Events { events } });
            }
            Membership::Leave | Membership::Ban
                if !response.rooms.leave.contains_key(room) && !scene.cut.is_initial() =>
            {
                let update = self.never_joined(scene, event_id).await?;
                response.rooms.leave.insert(room.clone(), update);
            }
            _ => {}
        }
        Ok(())
    }

    async fn is_from_ignored(&self, scene: &Scene<'_>, event_id: &ruma::EventId) -> Result<bool, SyncError> {
        let event = self.history.event(event_id).await?;
        Ok(event.is_some_and(|event| scene.ignored.contains(event.pdu.sender())))
    }

    async fn joined(&self, scene: &mut Scene<'_>, place: &Place<'_>) -> Result<RoomUpdate, SyncError> {
        let span = self.span(scene, place).await?;
        let mut update = self.timeline_and_state(scene, place, &span).await?;
        update.summary = self.summary(scene, place, &span).await?;
        update.ephemeral = self.ephemeral(scene, place).await?;
        update.account_data = self.room_account_data(scene, place).await?;
        Ok(update)
    }

    async fn left(&self, scene: &mut Scene<'_>, place: &Place<'_>) -> Result<RoomUpdate, SyncError> {
        let span = self.span(scene, place).await?;
        self.timeline_and_state(scene, place, &span).await
    }

    /// A room that the user was invited to or knocked at, and is no more: there is one thing to see.
    async fn never_joined(
        &self,
        scene: &mut Scene<'_>,
        event_id: &ruma::EventId,
    ) -> Result<RoomUpdate, SyncError> {
        let mut update = RoomUpdate::default();
        if let Some(event) = self.history.event(event_id).await? {
            let span = Span { events: vec![event], ..Span::default() };
            update.timeline.events = self.render_events(scene, &span.events).await?;
        }
        update.state = Some(Events::default());
        Ok(update)
    }

    async fn timeline_and_state(
        &self,
        scene: &mut Scene<'_>,
        place: &Place<'_>,
        span: &Span,
    ) -> Result<RoomUpdate, SyncError> {
        let mut update = RoomUpdate { timeline: self.timeline(scene, span).await?, ..RoomUpdate::default() };
        let state = Events { events: self.state(scene, place, span).await? };
        match scene.request.dialect {
            StateDialect::Before => update.state = Some(state),
            StateDialect::After => update.state_after = Some(state),
            StateDialect::AfterUnstable => update.unstable_state_after = Some(state),
        }
        Ok(update)
    }

    /// Whether the page has something that moves the members of the room.
    pub(super) fn moves_members(span: &Span) -> bool {
        span.moved || span.events.iter().any(|event| event.pdu.membership().is_some())
    }
}

/// The ids of the events among facts, oldest first, and whether the state moved without one.
pub(super) fn events_of(slice: &Slice) -> (Vec<ruma::OwnedEventId>, bool) {
    let mut moved = false;
    let ids = slice
        .facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Event { event_id } => Some(event_id.clone()),
            Fact::StateMoved => {
                moved = true;
                None
            }
            _ => None,
        })
        .collect();
    (ids, moved)
}
