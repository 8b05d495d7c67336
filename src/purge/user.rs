//! What a user of this server said and showed.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedRoomId, UserId};

use super::{Purge, PurgeError};
use crate::{
    history::{
        tables::{BACKFILLED, STRIPPED, StrippedRow},
        without_profile,
    },
    limits::{RETENTION_PAGE_EVENTS, SCAN_ROWS_MAX},
    log::{Audience, Commit, CommitError, Direction},
    store::Scan,
    types::{Fact, Lane, Position},
};

impl Purge {
    /// Takes the content out of everything that `user` said in rooms that this server knows, their name and picture
    /// out of their memberships there, and deletes the files that they have uploaded. Other servers keep what they
    /// have. How many events that were.
    ///
    /// # Errors
    /// When something fails; another call goes on.
    pub async fn erase_user(&self, user: &UserId) -> Result<usize, PurgeError> {
        self.0.history.erase(user).await?;
        let lanes = self.log().subscriptions(&Audience::Account(user.to_owned())).await?;
        let room = |lane: &Lane| match lane {
            Lane::Room(room) => Some(room.clone()),
            _ => None,
        };
        let rooms: BTreeSet<OwnedRoomId> = lanes.latest().filter_map(|(lane, _)| room(lane)).collect();
        let mut count = 0;
        for room in self.0.history.rooms().await? {
            // Into some they were invited, and never came.
            if rooms.contains(&room) || self.0.history.membership(&room, user).await?.is_some() {
                count += self.erase_in(user, &room).await?;
            }
        }
        self.erase_in_invites(user).await?;
        self.0.media.delete_of(user).await?;
        Ok(count)
    }

    /// Takes the name and the picture of `user` out of what others are told of rooms that they are invited to.
    async fn erase_in_invites(&self, user: &UserId) -> Result<(), PurgeError> {
        let all = STRIPPED.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log().db().scan(&STRIPPED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = STRIPPED.key(last).successor();
            for (key, before) in rows {
                let Some(after) = without(&before, user) else { continue };
                let mut commit = Commit::new();
                commit.expect_equals(&STRIPPED, &key, &before);
                commit.put(&STRIPPED, &key, &after);
                match self.log().commit(commit).await {
                    // They have answered the invite: it is gone.
                    Err(CommitError::Conflict(_)) => {}
                    other => drop(other?),
                }
            }
        }
    }

    async fn erase_in(&self, user: &UserId, room: &OwnedRoomId) -> Result<usize, PurgeError> {
        let (mut from, mut count) = (Position::ZERO, 0);
        loop {
            let range = (from, self.log().head());
            let facts = self.log().timeline(room, range, Direction::Forward, RETENTION_PAGE_EVENTS).await?;
            let Some((last, _)) = facts.last() else { break };
            from = *last;
            let id = |(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            };
            let ids: Vec<OwnedEventId> = facts.into_iter().filter_map(id).collect();
            count += self.0.rooms.erase(room, &ids, user).await?;
        }
        let all = BACKFILLED.prefix(&(room.clone(),));
        let (mut from, to) = (all.clone(), all.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: RETENTION_PAGE_EVENTS };
            let rows = self.log().db().scan(&BACKFILLED, scan).await?;
            let Some((last, _)) = rows.last() else { return Ok(count) };
            from = BACKFILLED.key(last).successor();
            let ids: Vec<OwnedEventId> = rows.into_iter().map(|(_, id)| id).collect();
            count += self.0.rooms.erase(room, &ids, user).await?;
        }
    }
}

/// What is told of a room without what memberships by `user`, and those of `user`, say besides what they are; nothing
/// if there are none.
fn without(row: &StrippedRow, user: &UserId) -> Option<StrippedRow> {
    let less = row.state.iter().map(|told| without_profile(told, |name| name == user.as_str()));
    let less: Vec<_> = less.collect();
    let is_changed = less.iter().any(Option::is_some);
    let state = less.into_iter().zip(&row.state).map(|(less, told)| less.unwrap_or_else(|| told.clone()));
    is_changed.then(|| StrippedRow { state: state.collect(), via: row.via.clone() })
}
