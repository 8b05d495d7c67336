//! What a user is to be told of, out of a page of the log.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, UserId, push::Action};

use super::{Push, PushError, evaluate::is_invite_of};
use crate::{
    history::{Status, StoredEvent},
    log::Page,
    types::{Fact, Lane, Membership, Position},
};

/// An event of which a user is to be notified, and how.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Where in the log it concerns the user.
    pub at: Position,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What their rules say.
    pub actions: Vec<Action>,
}

impl Push {
    /// What of `page` the user is to be told of, in the order of the log: what their rules say, and what
    /// they have not read, ignored or seen redacted since, and what is still shown.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn notices(&self, user: &UserId, page: &Page) -> Result<Vec<Notice>, PushError> {
        let mut found: Vec<(Position, OwnedEventId)> = Vec::new();
        for slice in &page.slices {
            for (at, fact) in &slice.facts {
                match (&slice.lane, fact) {
                    (Lane::Room(_), Fact::Event { event_id })
                    | (Lane::Account(_), Fact::Membership { event_id, membership: Membership::Invite, .. }) => {
                        found.push((*at, event_id.clone()))
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        let ids: Vec<OwnedEventId> = found.iter().map(|(_, id)| id.clone()).collect();
        let events = self.0.history.sound_events(&ids).await?;
        let person = self.person(user).await?;
        let mut notices = Vec::new();
        for ((at, _), event) in found.into_iter().zip(events) {
            let Some(event) = event else { continue };
            // An invite into a room that this server is not in is in no timeline.
            let is_outside = event.status == Status::Outlier && is_invite_of(&event.pdu, user);
            if !(event.is_shown() || is_outside) || event.notes.redacted_by.is_some() {
                continue;
            }
            let actions = self.judge(user, &person, &event).await?;
            if actions.iter().any(Action::should_notify) {
                notices.push(Notice { at, event, actions });
            }
        }
        self.drop_read(user, notices).await
    }

    /// Leaves out what the user has read by now.
    async fn drop_read(&self, user: &UserId, notices: Vec<Notice>) -> Result<Vec<Notice>, PushError> {
        let mut rooms: Vec<OwnedRoomId> =
            notices.iter().map(|notice| notice.event.pdu.room_id().to_owned()).collect();
        rooms.sort();
        rooms.dedup();
        let marks = self.marks(user, &rooms).await?;
        let marks: HashMap<OwnedRoomId, _> = rooms.into_iter().zip(marks).collect();
        let mut unread = Vec::with_capacity(notices.len());
        for notice in notices {
            let thread = self.0.history.thread_of(&notice.event).await?;
            let read = marks.get(notice.event.pdu.room_id()).map(|marks| marks.of(&thread));
            if read.is_none_or(|read| notice.at > read) {
                unread.push(notice);
            }
        }
        Ok(unread)
    }
}
