//! Whose devices a user has to look up anew, and whose no more.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::BTreeSet;

use ruma::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::StateEventType};

use super::Devices;
use crate::{
    history::History,
    limits::DEVICE_JOINS_LOOKED_AT,
    log::{Audience, Interval, Subscriptions},
    store::StoreError,
    types::{Fact, Lane, Membership, Position},
};

/// The interval `(from, to]` of the log.
pub type Span = (Position, Position);

/// What happened to the devices that a user has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListChanges {
    /// Users whose devices or keys changed, or with whom the user has come to share a room.
    pub changed: BTreeSet<OwnedUserId>,
    /// Users with whom the user shares no room any more.
    pub left: BTreeSet<OwnedUserId>,
    /// Of those in `changed`, those who came into a room in which the user was already, or who were in a room when the user
    /// left it and when they came back.
    pub came: BTreeSet<OwnedUserId>,
    /// Of those in `changed`, those who were in a room into which the user came.
    pub found: BTreeSet<OwnedUserId>,
}

/// Whom a user met, and from whom they parted, in some rooms.
#[derive(Default)]
struct Met {
    came: BTreeSet<OwnedUserId>,
    found: BTreeSet<OwnedUserId>,
    parted: BTreeSet<OwnedUserId>,
}

impl Devices {
    /// What happened within `span` to the devices that the local user `user` has to know. `rooms` are
    /// those in which something happened; none stands for all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_changes(
        &self,
        history: &History,
        user: &UserId,
        span: Span,
        rooms: Option<&[OwnedRoomId]>,
    ) -> Result<ListChanges, StoreError> {
        let subscriptions = self.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let mut met = Met::default();
        for (lane, _) in subscriptions.latest() {
            let Lane::Room(room) = lane else { continue };
            if rooms.is_none_or(|rooms| rooms.contains(room)) {
                let intervals = subscriptions.intervals(lane);
                room_changes(history, room, (intervals, span), &mut met).await?;
            }
        }
        // Where the user has come into a room they are among those met: their other devices may not know yet
        // that there is somebody to share keys with.
        let Met { mut came, mut found, mut parted } = met;
        parted.remove(user);
        // What the user's own keys signed of others concerns nobody else, so it is told to them alone.
        let mut changed = self.told(&Lane::Account(user.to_owned()), span).await?;
        let told = self.told(&Lane::People, span).await?;
        changed.extend(history.sharing(user, &told).await?);
        changed.extend(came.iter().chain(&found).cloned());
        let still = still_sharing(history, &subscriptions, &parted, (rooms, span.1)).await?;
        let left: BTreeSet<OwnedUserId> = parted.difference(&still).cloned().collect();
        [&mut changed, &mut came, &mut found]
            .into_iter()
            .for_each(|met| met.retain(|other| !left.contains(other)));
        Ok(ListChanges { changed, left, came, found })
    }

    /// Whose devices a lane says to have changed.
    async fn told(&self, lane: &Lane, (from, to): Span) -> Result<BTreeSet<OwnedUserId>, StoreError> {
        let user = |(_, fact)| match fact {
            Fact::Devices { user_id } => Some(user_id),
            _ => None,
        };
        Ok(self.log.registers(lane, from, to).await?.into_iter().filter_map(user).collect())
    }
}

/// Those of `parted` with whom a user is in another room at `to`. What is known of present members may be a
/// moment behind what has just been written, so of rooms in which something happened the state is asked.
async fn still_sharing(
    history: &History,
    subscriptions: &Subscriptions,
    parted: &BTreeSet<OwnedUserId>,
    (moved, to): (Option<&[OwnedRoomId]>, Position),
) -> Result<BTreeSet<OwnedUserId>, StoreError> {
    let mut still = BTreeSet::new();
    for (lane, last) in subscriptions.latest() {
        if still.len() == parted.len() {
            break;
        }
        let (Lane::Room(room), None) = (lane, last.closed) else { continue };
        let members = match moved.is_none_or(|moved| moved.contains(room)) {
            true => history.members(room, history.state_at_position(room, to).await?).await?,
            false => history.current_members(room).await?,
        };
        still.extend(parted.iter().filter(|other| members.is_joined(other)).cloned());
    }
    Ok(still)
}

/// Adds whom the user met and from whom they parted in one room.
async fn room_changes(
    history: &History,
    room: &RoomId,
    (intervals, (from, to)): (&[Interval], Span),
    met: &mut Met,
) -> Result<(), StoreError> {
    let Met { came, found, parted } = met;
    let stay = |at: Position| {
        intervals.iter().position(|one| one.opened <= at && one.closed.is_none_or(|closed| closed > at))
    };
    match (stay(from), stay(to)) {
        (None, None) => {}
        (None, Some(_)) => found.extend(joined(history, room, to).await?),
        (Some(_), None) => parted.extend(joined(history, room, from).await?),
        // Of what changed in between nobody had to be told.
        (Some(before), Some(after)) if before != after => {
            let (before, after) = (joined(history, room, from).await?, joined(history, room, to).await?);
            came.extend(after.iter().filter(|other| before.contains(*other)).cloned());
            found.extend(after);
            parted.extend(before);
        }
        (Some(_), Some(_)) => {
            let before = history.state_at_position(room, from).await?;
            let after = history.state_at_position(room, to).await?;
            if before == after {
                return Ok(());
            }
            for change in history.state_diff(before, after).await? {
                if change.key.event_type != StateEventType::RoomMember {
                    continue;
                }
                let Ok(other) = OwnedUserId::try_from(change.key.state_key.as_str()) else { continue };
                let was = change.before.filter(|value| value.membership == Some(Membership::Join));
                let is = change.after.filter(|value| value.membership == Some(Membership::Join));
                let has_met = match (was, is) {
                    (None, Some(_)) => true,
                    (Some(_), None) => {
                        parted.insert(other);
                        continue;
                    }
                    (Some(was), Some(is)) => {
                        was.event_id != is.event_id
                            && !is_unbroken(history, (room, &other), (&was.event_id, &is.event_id)).await?
                    }
                    (None, None) => false,
                };
                came.extend(has_met.then_some(other));
            }
        }
    }
    Ok(())
}

/// Whether a user who has joined by the event `is` was in the room ever since they had joined by `was`, as users here
/// were told: of what happened to the devices of somebody who was away this server need not have been told. What the
/// joins say themselves does not tell, as one may come in again where their leaving was not known.
async fn is_unbroken(
    history: &History,
    (room, user): (&RoomId, &UserId),
    (was, is): (&EventId, &EventId),
) -> Result<bool, StoreError> {
    let mut id = is.to_owned();
    for _ in 0..DEVICE_JOINS_LOOKED_AT {
        let position = history.event(&id).await?.map_or(Position::ZERO, |event| event.position);
        if position == Position::ZERO {
            return Ok(false);
        }
        let state = history.state_at_position(room, Position(position.0 - 1)).await?;
        let before = history.state_entry(state, StateEventType::RoomMember, user.as_str()).await?;
        match before.filter(|before| before.membership == Some(Membership::Join)) {
            Some(before) if before.event_id == was => return Ok(true),
            Some(before) => id = before.event_id,
            None => return Ok(false),
        }
    }
    Ok(false)
}

async fn joined(history: &History, room: &RoomId, at: Position) -> Result<BTreeSet<OwnedUserId>, StoreError> {
    let state = history.state_at_position(room, at).await?;
    let members = history.members(room, state).await?;
    Ok(members.with(Membership::Join).cloned().collect())
}
