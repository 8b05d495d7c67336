//! Guests of this server come into rooms that want them, and out of those that want them no more.
//!
//! Which rooms are to be looked at is written in the commit that changes `m.room.guest_access`, so that no guest stays
//! because the server stopped in between.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#guest-access>

use ruma::{
    OwnedUserId, RoomId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    RoomError, Rooms,
    turn::{NewEvent, Turn},
};
use crate::{
    dag::{Pdu, tree::Change},
    history::{StoredEvent, tables::GUEST_ROOMS},
    limits::{COURIER_LONGEST_PAUSE, COURIER_STORE_PAUSE, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
    store::Scan,
    types::Membership,
    upkeep,
};

/// Why guests leave.
const REASON: &str = "Guests are not allowed in this room any more";

/// Whether a room lets guests in whose `m.room.guest_access` is this.
fn lets_in(access: Option<&Pdu>) -> bool {
    #[derive(Deserialize)]
    struct Content {
        guest_access: String,
    }
    let content = access.and_then(|access| access.content_as::<Content>().ok());
    content.is_some_and(|content| content.guest_access == "can_join")
}

impl Turn {
    /// Refuses to let a guest of this server in where guests are not wanted.
    pub(super) async fn check_guest(&self, event: &NewEvent) -> Result<(), RoomError> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }
        let is_own = event.state_key.as_deref() == Some(event.sender.as_str());
        if event.event_type != TimelineEventType::RoomMember || !is_own {
            return Ok(());
        }
        let content = serde_json::from_str::<Content>(event.content.get());
        let joins = content.is_ok_and(|content| content.membership == Membership::Join.as_str());
        if !joins || !self.rooms.0.profiles.is_guest(&event.sender).await? {
            return Ok(());
        }
        match lets_in(self.place("m.room.guest_access", "").await?.as_ref()) {
            true => Ok(()),
            false => Err(RoomError::GuestsForbidden),
        }
    }

    /// Whether the room may want no more guests after this turn.
    pub(super) fn moves_guests(&self) -> bool {
        let is_access = |change: &Change| change.key.event_type == StateEventType::RoomGuestAccess;
        let moved = self.moved.iter().flat_map(|moved| &moved.changes);
        let mut changes = self.written.iter().flat_map(|written| &written.changes).chain(moved);
        // A redaction takes the content away without another event in its place.
        let is_redacted = |event: &StoredEvent| *event.pdu.event_type() == TimelineEventType::RoomGuestAccess;
        self.base.is_some() && (changes.any(is_access) || self.rewritten.iter().any(is_redacted))
    }

    /// Has `commit` say that the room's guests are to be looked at, if they are.
    pub(super) fn note_guests(&self, commit: &mut Commit) {
        if self.moves_guests() {
            commit.put(&GUEST_ROOMS, &(self.room_id.clone(),), &self.row.serial);
        }
    }
}

impl Rooms {
    /// Has guests leave rooms that want them no more, until `stopping`.
    pub fn keep_guests_out(&self, stopping: CancellationToken) {
        let (rooms, until) = (self.clone(), stopping.clone());
        let looking = move || rooms.clone().go_on_looking_at_guests(until.clone());
        self.0.tasks.spawn(upkeep::keep("the look at guests", stopping, looking));
    }

    async fn go_on_looking_at_guests(self, stopping: CancellationToken) {
        let mut pause = COURIER_STORE_PAUSE;
        loop {
            let left = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                left = self.look_at_guests() => left,
            };
            if let Err(error) = &left {
                tracing::error!(%error, "guests could not be put out of a room");
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = self.0.guests.notified() => {}
                () = tokio::time::sleep(pause), if left.is_err() => {}
            }
            pause = match left {
                Ok(()) => COURIER_STORE_PAUSE,
                Err(_) => pause.saturating_mul(2).min(COURIER_LONGEST_PAUSE),
            };
        }
    }

    /// Has guests leave rooms that want them no more. A room where that fails holds up no other, and is looked at again
    /// the next time.
    ///
    /// # Errors
    /// When a room could not be looked at, or a guest could not leave.
    pub async fn look_at_guests(&self) -> Result<(), RoomError> {
        let log = self.0.history.log();
        let all = GUEST_ROOMS.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut trouble = Ok(());
        loop {
            let scan = Scan { from: from.clone(), to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = log.db().scan(&GUEST_ROOMS, scan).await?;
            let is_last = rows.len() < SCAN_ROWS_MAX;
            for (key, serial) in rows {
                from = GUEST_ROOMS.prefix(&key).after_prefix();
                if let Err(error) = self.put_guests_out(&key.0).await {
                    trouble = Err(error);
                    continue;
                }
                let mut commit = Commit::new();
                commit.expect_equals(&GUEST_ROOMS, &key, &serial);
                commit.delete(&GUEST_ROOMS, &key);
                match log.commit(commit).await {
                    // It has changed again meanwhile, and whoever did that says so.
                    Ok(_) | Err(CommitError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if is_last {
                return trouble;
            }
        }
    }

    /// Has guests leave one room if it wants them no more: all who can.
    async fn put_guests_out(&self, room: &RoomId) -> Result<(), RoomError> {
        let mut trouble = Ok(());
        for guest in self.unwanted(room).await? {
            let left = self.leave(&guest, room, Some(REASON)).await;
            // Somebody else may have put them out at this moment.
            if left.is_err() && self.0.history.membership(room, &guest).await? == Some(Membership::Join) {
                trouble = left;
            }
        }
        trouble
    }

    /// The guests of this server in a room that does not want any.
    async fn unwanted(&self, room: &RoomId) -> Result<Vec<OwnedUserId>, RoomError> {
        let history = &self.0.history;
        let Some(row) = history.room(room).await? else { return Ok(Vec::new()) };
        let access = history.state_event(row.state, StateEventType::RoomGuestAccess, "").await?;
        if lets_in(access.as_ref().map(|access| &access.pdu)) {
            return Ok(Vec::new());
        }
        let members = history.members(room, row.state).await?;
        let mut guests = Vec::new();
        for member in members.with(Membership::Join).filter(|member| history.is_local(member)) {
            if self.0.profiles.is_guest(member).await? {
                guests.push(member.clone());
            }
        }
        Ok(guests)
    }
}
