//! How much of a room a user has not read.
//!
//! Counted from the read receipts on, over the room's lane, and kept in memory with the position up to
//! which it was counted. What a user sends marks what is before it in the same thread as read.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, UserId, push::Action};

use super::{Person, Push, PushError};
use crate::{
    history::StoredEvent,
    limits::{UNREAD_EVENTS_MAX, UNREAD_ROOMS_AT_ONCE},
    log::{Audience, Direction, Subscriptions},
    types::{Fact, Lane, Position, RegisterKey},
};

/// The root of a thread; nothing is the main timeline.
pub(super) type Thread = Option<OwnedEventId>;

/// Unread events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of which the user is notified.
    pub notification: u64,
    /// Of those, the ones that are highlighted.
    pub highlight: u64,
}

/// What is unread in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Outside threads.
    pub main: Counts,
    /// In each thread that has something unread.
    pub threads: BTreeMap<OwnedEventId, Counts>,
    /// Where the newest unread event is.
    pub newest: Position,
    /// Others have said something that is not read, whether the user is notified of it or not: by other rules the
    /// counts might be others.
    pub is_behind: bool,
}

impl Unread {
    /// In the whole room.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.threads.values().fold(self.main, |sum, counts| Counts {
            notification: sum.notification + counts.notification,
            highlight: sum.highlight + counts.highlight,
        })
    }
}

/// One event that the rules want the user to be notified of.
#[derive(Clone, Debug)]
struct Item {
    at: Position,
    thread: Thread,
    highlight: bool,
}

/// What was found out of one room for one user.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    /// When the user joined: what was before is not counted.
    opened: Position,
    /// When the user last changed what they want to be told of, or whom they ignore.
    person: Option<Position>,
    /// Up to where the room was looked at.
    upto: Position,
    /// In the order of the log.
    items: Vec<Item>,
    /// Where the user last said something, by thread.
    spoke: HashMap<Thread, Position>,
    /// Where somebody else last did.
    heard: HashMap<Thread, Position>,
}

/// How far the user has read, by receipts.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    everything: Position,
    threads: HashMap<Thread, Position>,
}

impl Marks {
    /// Up to where a thread, or the main timeline, is read.
    pub(super) fn of(&self, thread: &Thread) -> Position {
        self.threads.get(thread).copied().unwrap_or_default().max(self.everything)
    }
}

impl Fold {
    fn begin(opened: Position, person: &Person, marks: &Marks) -> Self {
        let (upto, person) = (opened.max(marks.everything), person.version());
        Self { opened, person, upto, items: Vec::new(), spoke: HashMap::new(), heard: HashMap::new() }
    }

    fn is_unread(&self, item: &Item, marks: &Marks) -> bool {
        self.is_beyond(item.at, &item.thread, marks)
    }

    /// Whether a position is beyond what the user has read of a thread.
    fn is_beyond(&self, at: Position, thread: &Thread, marks: &Marks) -> bool {
        let spoke = self.spoke.get(thread).copied().unwrap_or_default();
        at > marks.of(thread).max(spoke)
    }

    /// Forgets what has been read.
    fn prune(&mut self, marks: &Marks) {
        let mut items = std::mem::take(&mut self.items);
        items.retain(|item| self.is_unread(item, marks));
        self.items = items;
    }

    fn count(&self, marks: &Marks, to: Position) -> Unread {
        let mut unread = Unread::default();
        for item in self.items.iter().filter(|item| item.at <= to && self.is_unread(item, marks)) {
            let counts = match &item.thread {
                None => &mut unread.main,
                Some(root) => unread.threads.entry(root.clone()).or_default(),
            };
            counts.notification += 1;
            counts.highlight += u64::from(item.highlight);
            unread.newest = unread.newest.max(item.at);
        }
        unread.is_behind = self.heard.iter().any(|(thread, at)| self.is_beyond(*at, thread, marks));
        unread
    }
}

impl Push {
    /// What `user` has not read in each of `rooms`, of what there was up to `to`; in the order of `rooms`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unread(
        &self,
        user: &UserId,
        rooms: &[OwnedRoomId],
        to: Position,
    ) -> Result<Vec<Unread>, PushError> {
        let lanes = self.0.log.subscriptions(&Audience::Account(user.to_owned())).await?;
        let person = self.person(user).await?;
        let mut all = Vec::with_capacity(rooms.len());
        // What was said in all of somebody's rooms may be too much to hold at once.
        for rooms in rooms.chunks(UNREAD_ROOMS_AT_ONCE) {
            all.extend(self.unread_of(user, (&lanes, &person), (rooms, to)).await?);
        }
        Ok(all)
    }

    async fn unread_of(
        &self,
        user: &UserId,
        (lanes, person): (&Subscriptions, &Arc<Person>),
        (rooms, to): (&[OwnedRoomId], Position),
    ) -> Result<Vec<Unread>, PushError> {
        let marks = self.marks(user, rooms).await?;
        let mut folds = Vec::with_capacity(rooms.len());
        let mut wanted = Vec::with_capacity(rooms.len());
        for (room, marks) in rooms.iter().zip(&marks) {
            let last = lanes.intervals(&Lane::Room(room.clone())).last();
            let opened = last.map_or(Position::MAX, |interval| interval.opened);
            let known = self.0.unread.get(&(user.to_owned(), room.clone()));
            let fold = match known.filter(|known| known.opened == opened && known.person == person.version())
            {
                Some(known) => known,
                None => Arc::new(Fold::begin(opened, person, marks)),
            };
            // An empty interval for what is known already, so that the answers stay in step.
            wanted.push((room.clone(), fold.upto, to.max(fold.upto)));
            folds.push(fold);
        }
        let facts = self.0.log.timelines(&wanted, Direction::Backward, UNREAD_EVENTS_MAX).await?;
        let mut ids: Vec<OwnedEventId> = Vec::new();
        let mut sizes = Vec::with_capacity(facts.len());
        for facts in facts {
            let before = ids.len();
            ids.extend(facts.into_iter().rev().filter_map(|(_, fact)| match fact {
                Fact::Event { event_id } => Some(event_id),
                _ => None,
            }));
            sizes.push(ids.len() - before);
        }
        let mut events = self.0.history.sound_events(&ids).await?.into_iter();
        let mut all = Vec::with_capacity(rooms.len());
        for (index, mut fold) in folds.into_iter().enumerate() {
            let new: Vec<_> = events.by_ref().take(sizes[index]).flatten().collect();
            let marks = &marks[index];
            if fold.upto < to {
                let changed = Arc::make_mut(&mut fold);
                self.advance(user, person, changed, &new).await?;
                changed.upto = to;
                changed.prune(marks);
                self.0.unread.insert((user.to_owned(), rooms[index].clone()), fold.clone());
            }
            all.push(fold.count(marks, to));
        }
        Ok(all)
    }

    /// Looks at the next events of a room.
    async fn advance(
        &self,
        user: &UserId,
        person: &Person,
        fold: &mut Fold,
        events: &[Arc<StoredEvent>],
    ) -> Result<(), PushError> {
        // Who sends what says nothing has not spoken, nor read.
        for event in events.iter().filter(|event| event.is_shown() && event.says_something()) {
            if let Some(target) = event.pdu.redacts() {
                self.forget_redacted(fold, target).await?;
            }
            if event.pdu.sender() == user {
                if event.pdu.state_key().is_none() {
                    let thread = self.0.history.thread_of(event).await?;
                    fold.spoke.insert(thread, event.position);
                }
                continue;
            }
            // There is nothing left to read in it.
            if event.notes.redacted_by.is_some() {
                continue;
            }
            let thread = self.0.history.thread_of(event).await?;
            fold.heard.insert(thread.clone(), event.position);
            let actions = self.judge(user, person, event).await?;
            if actions.iter().any(Action::should_notify) {
                let highlight = actions.iter().any(Action::is_highlight);
                fold.items.push(Item { at: event.position, thread, highlight });
            }
        }
        Ok(())
    }

    /// There is nothing left to read in an event that was redacted.
    async fn forget_redacted(&self, fold: &mut Fold, target: &ruma::EventId) -> Result<(), PushError> {
        let Some(target) = self.0.history.sound_event(target).await? else { return Ok(()) };
        if target.notes.redacted_by.is_some() {
            fold.items.retain(|item| item.at != target.position);
        }
        Ok(())
    }

    /// How far `user` has read each of `rooms`, by public and private receipts.
    pub(super) async fn marks(&self, user: &UserId, rooms: &[OwnedRoomId]) -> Result<Vec<Marks>, PushError> {
        let mut wanted = Vec::with_capacity(rooms.len() * 2);
        for room in rooms {
            // The keys of all receipts of the user begin like this; see `Fact::retention`.
            let key = RegisterKey(format!("r\u{0}{room}\u{0}{user}\u{0}").into_bytes());
            wanted.push((Lane::Room(room.clone()), key.clone()));
            wanted.push((Lane::Account(user.to_owned()), key));
        }
        let found = self.0.log.registers_with(&wanted).await?;
        let mut receipts = Vec::new();
        for (index, facts) in found.into_iter().enumerate() {
            for (_, fact) in facts {
                if let Fact::Receipt { thread_id, event_id, .. } = fact {
                    receipts.push((index / 2, thread_id, event_id));
                }
            }
        }
        let ids: Vec<OwnedEventId> = receipts.iter().map(|(_, _, id)| id.clone()).collect();
        let known = self.0.history.sound_event_map(&ids).await?;
        let mut marks = vec![Marks::default(); rooms.len()];
        for (index, thread_id, event_id) in receipts {
            let Some(at) = known.get(&event_id).map(|event| event.position) else { continue };
            let marks = &mut marks[index];
            let place = match thread_id.as_deref() {
                None => &mut marks.everything,
                Some("main") => marks.threads.entry(None).or_default(),
                Some(root) => match OwnedEventId::try_from(root) {
                    Ok(root) => marks.threads.entry(Some(root)).or_default(),
                    Err(_) => continue,
                },
            };
            *place = (*place).max(at);
        }
        Ok(marks)
    }
}
