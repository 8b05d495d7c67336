//! The rooms of a user in the order of their last activity, kept in memory and moved along with the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::traits::Traits;
use crate::{
    limits::SLIDING_ROSTER_ROOMS_MAX,
    log::{Audience, Direction, Interval, Subscriptions},
    store::StoreError,
    sync::Sync,
    types::{Fact, Lane, Membership, Position},
};

/// What a user is to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In it, since a position.
    Joined(Position),
    /// Was in it until a position.
    Left { opened: Position, closed: Position },
    /// Invited, knocking, or not any more; what was before that does not matter.
    Outside,
}

/// One room of a user.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) room: OwnedRoomId,
    pub(super) standing: Standing,
    pub(super) membership: Membership,
    /// The event that says so.
    pub(super) event_id: OwnedEventId,
    /// Whose doing it was, where that matters: of leaves and invitations.
    pub(super) sender: Option<OwnedUserId>,
    /// When it came to be.
    pub(super) since: Position,
    /// From where to where the last stay went, if it is over.
    pub(super) stay: Option<(Position, Position)>,
    /// The last event that the user is given.
    pub(super) activity: Position,
    /// What lists are filtered by, as far as it has been asked for; the flag says whether it may be old.
    pub(super) traits: Option<(Arc<Traits>, bool)>,
}

/// The rooms of a user as they are at a position.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    pub(super) at: Position,
    /// The latest activity first.
    pub(super) order: Vec<Arc<Entry>>,
    /// By room id.
    by_id: Vec<Arc<Entry>>,
}

impl Entry {
    /// Whether the user has been out of the room since before `at`, so that nothing of it can be new.
    pub(super) fn is_over(&self, at: Position) -> bool {
        matches!(self.standing, Standing::Left { closed, .. } if closed.max(self.since) <= at)
    }
}

impl Roster {
    fn new(at: Position, mut by_id: Vec<Arc<Entry>>) -> Self {
        by_id.sort_by(|a, b| a.room.cmp(&b.room));
        let mut order = by_id.clone();
        order.sort_by(|a, b| b.activity.cmp(&a.activity).then_with(|| a.room.cmp(&b.room)));
        Self { at, order, by_id }
    }

    pub(super) fn entry(&self, room: &RoomId) -> Option<&Arc<Entry>> {
        let index = self.by_id.binary_search_by(|entry| (*entry.room).cmp(room)).ok()?;
        self.by_id.get(index)
    }

    /// The same with other entries in place of those of the same rooms.
    pub(super) fn with(&self, changed: Vec<Entry>, gone: &BTreeSet<OwnedRoomId>, at: Position) -> Self {
        let mut by_id: BTreeMap<&OwnedRoomId, Arc<Entry>> =
            self.by_id.iter().map(|entry| (&entry.room, entry.clone())).collect();
        by_id.retain(|room, _| !gone.contains(*room));
        let changed: Vec<Arc<Entry>> = changed.into_iter().map(Arc::new).collect();
        for entry in &changed {
            by_id.insert(&entry.room, entry.clone());
        }
        Self::new(at, by_id.into_values().collect())
    }
}

#[derive(Clone)]
struct ByRooms;

impl Weighter<OwnedUserId, Arc<Roster>> for ByRooms {
    fn weight(&self, _: &OwnedUserId, roster: &Arc<Roster>) -> u64 {
        roster.order.len() as u64 + 1
    }
}

/// The rosters in memory.
pub(super) struct Rosters(Cache<OwnedUserId, Arc<Roster>, ByRooms>);

impl Default for Rosters {
    fn default() -> Self {
        let estimated = usize::try_from(SLIDING_ROSTER_ROOMS_MAX / 100).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(estimated, SLIDING_ROSTER_ROOMS_MAX, ByRooms))
    }
}

impl Rosters {
    /// Keeps a roster with more traits, unless a later one has come.
    pub(super) fn keep(&self, user: &UserId, roster: &Arc<Roster>) {
        if self.0.get(user).is_none_or(|known| known.at <= roster.at) {
            self.0.insert(user.to_owned(), roster.clone());
        }
    }
}

/// What the log says that a user is to a room.
struct Known {
    membership: Membership,
    event_id: OwnedEventId,
    since: Position,
}

impl Sync {
    /// The rooms of `user` at the present head.
    pub(super) async fn roster(&self, user: &UserId) -> Result<Arc<Roster>, StoreError> {
        let known = self.sliding.rosters.0.get(user);
        let to = self.log.head();
        let roster = match known {
            Some(known) if known.at == to => return Ok(known),
            // Without being alone, no process hears of all that moves.
            Some(known) if self.log.db().is_exclusive() => self.advance(user, &known, to).await?,
            _ => self.whole_roster(user, to).await?,
        };
        let roster = Arc::new(roster);
        self.sliding.rosters.keep(user, &roster);
        Ok(roster)
    }

    async fn whole_roster(&self, user: &UserId, to: Position) -> Result<Roster, StoreError> {
        let lanes = self.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        // Forgotten ones too: another device may have them still.
        let memberships = self.history.all_memberships(user).await?;
        let known = memberships.into_iter().map(|entry| {
            let known =
                Known { membership: entry.membership, event_id: entry.event_id, since: entry.position };
            (entry.room_id, known)
        });
        let (entries, _) = self.entries(&lanes, known.collect(), to).await?;
        Ok(Roster::new(to, entries.into_iter().map(Arc::new).collect()))
    }

    /// The roster at `to`, from one at an earlier position.
    async fn advance(&self, user: &UserId, old: &Roster, to: Position) -> Result<Roster, StoreError> {
        let lane = Lane::Account(user.to_owned());
        let lanes = self.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let mut known = HashMap::new();
        if self.log.may_have(&lane, old.at) {
            for (since, fact) in self.log.registers(&lane, old.at, to).await? {
                if let Fact::Membership { room_id, membership, event_id } = fact {
                    known.insert(room_id, Known { membership, event_id, since });
                }
            }
        }
        for lane in self.log.beyond(old.at, &lanes) {
            let Lane::Room(room) = lane else { continue };
            if known.contains_key(&room) {
                continue;
            }
            let said = match old.entry(&room) {
                Some(entry) => {
                    let (membership, event_id) = (entry.membership, entry.event_id.clone());
                    Some(Known { membership, event_id, since: entry.since })
                }
                // What was beyond the end before may not be now.
                None => self.history.standing(user, &room).await?.map(|entry| Known {
                    membership: entry.membership,
                    event_id: entry.event_id,
                    since: entry.position,
                }),
            };
            known.extend(said.map(|said| (room, said)));
        }
        if known.is_empty() {
            return Ok(Roster { at: to, ..old.clone() });
        }
        let (mut changed, gone) = self.entries(&lanes, known, to).await?;
        for entry in &mut changed {
            let before = old.entry(&entry.room).and_then(|entry| entry.traits.clone());
            entry.traits = before.map(|(traits, _)| (traits, true));
        }
        Ok(old.with(changed, &gone, to))
    }

    /// The entries of rooms, and rooms that are none of the user's.
    async fn entries(
        &self,
        lanes: &Subscriptions,
        known: HashMap<OwnedRoomId, Known>,
        to: Position,
    ) -> Result<(Vec<Entry>, BTreeSet<OwnedRoomId>), StoreError> {
        let mut entries = Vec::with_capacity(known.len());
        let mut gone = BTreeSet::new();
        for (room, known) in known {
            let interval = lanes.intervals(&Lane::Room(room.clone())).iter().rfind(|at| at.opened <= to);
            let standing = match interval {
                Some(interval) => match interval.closed.filter(|closed| *closed <= to) {
                    None => Standing::Joined(interval.opened),
                    // An invitation after the last stay, or the end of one; a ban changes nothing about the stay.
                    Some(closed) if known.since > closed && known.membership != Membership::Ban => {
                        Standing::Outside
                    }
                    Some(closed) => Standing::Left { opened: interval.opened, closed },
                },
                None => Standing::Outside,
            };
            if standing == Standing::Outside && known.since > to {
                // Whatever it was before: the next page tells.
                gone.insert(room);
                continue;
            }
            let closed = |stay: &Interval| Some((stay.opened, stay.closed.filter(|closed| *closed <= to)?));
            let stay = interval.and_then(closed);
            let Known { membership, event_id, since } = known;
            let (sender, activity, traits) = (None, since, None);
            entries.push(Entry {
                room,
                standing,
                membership,
                event_id,
                sender,
                since,
                stay,
                activity,
                traits,
            });
        }
        self.find_senders(&mut entries).await?;
        self.find_activity(&mut entries, to).await?;
        Ok((entries, gone))
    }

    async fn find_senders(&self, entries: &mut [Entry]) -> Result<(), StoreError> {
        let matters = |entry: &&mut Entry| !matches!(entry.standing, Standing::Joined(_));
        let mut entries: Vec<&mut Entry> = entries.iter_mut().filter(matters).collect();
        let ids: Vec<OwnedEventId> = entries.iter().map(|entry| entry.event_id.clone()).collect();
        let events = self.history.events(&ids).await?;
        for (entry, event) in entries.iter_mut().zip(events) {
            entry.sender = event.map(|event| event.pdu.sender().to_owned());
        }
        Ok(())
    }

    async fn find_activity(&self, entries: &mut [Entry], to: Position) -> Result<(), StoreError> {
        let ranges: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry.standing {
                Standing::Joined(_) => Some((entry.room.clone(), Position::ZERO, to)),
                _ => None,
            })
            .collect();
        let mut last = self.log.timelines(&ranges, Direction::Backward, 1).await?.into_iter();
        for entry in entries {
            entry.activity = match entry.standing {
                Standing::Joined(opened) => {
                    let last = last.next().and_then(|facts| facts.first().map(|(at, _)| *at));
                    last.unwrap_or(opened).max(opened)
                }
                Standing::Left { closed, .. } => closed,
                Standing::Outside => entry.since,
            };
        }
        Ok(())
    }
}
