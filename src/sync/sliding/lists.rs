//! Which rooms a request is about: lists are filtered and cut to their windows, subscriptions join them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, events::StateEventType};
use serde::Deserialize;
use serde_json::Value;

use super::{
    connection::{Mark, State},
    request::{Filters, ListName, SlidingRequest},
    roster::{Entry, Roster, Standing},
    wanted::RoomConfig,
};
use crate::{
    account::Caller,
    limits::SLIDING_CONFIGS_BYTES_MAX,
    push::Person,
    sync::{Sync, SyncError},
    types::Membership,
};

/// Why a room is looked at, and what is wanted of it.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// The lists that have it in their windows.
    pub(super) lists: Vec<ListName>,
    pub(super) subscribed: bool,
    pub(super) config: Arc<RoomConfig>,
}

/// What the lists and subscriptions of a request come to.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) rooms: BTreeMap<OwnedRoomId, Match>,
    /// How many rooms each list has, window or not.
    pub(super) counts: BTreeMap<String, u64>,
    /// The rooms of lists that are in no window, if something is wanted of them.
    pub(super) beyond: BTreeSet<OwnedRoomId>,
}

/// What of a user's account data decides which rooms lists have.
#[derive(Debug, Default)]
pub(super) struct Habits {
    pub(super) person: Option<Arc<Person>>,
    pub(super) direct: BTreeSet<OwnedRoomId>,
    forgotten: HashSet<OwnedRoomId>,
}

#[derive(Deserialize)]
struct Tags {
    tags: BTreeMap<String, serde::de::IgnoredAny>,
}

/// What the lists of a request need beyond the roster, read once for all of them.
#[derive(Default)]
struct Sieve {
    tags: BTreeMap<OwnedRoomId, BTreeSet<String>>,
    /// Of those spaces that the user is in.
    children: BTreeMap<OwnedRoomId, Vec<OwnedRoomId>>,
}

impl Sieve {
    /// The rooms of any of a list's spaces.
    fn rooms_in(&self, spaces: &BTreeSet<String>) -> HashSet<&OwnedRoomId> {
        let known = |space: &String| self.children.get(<&RoomId>::try_from(space.as_str()).ok()?);
        spaces.iter().filter_map(known).flatten().collect()
    }
}

impl Habits {
    /// Whether a room is one of those that a user's lists are made of.
    fn shows(&self, entry: &Entry, user: &UserId, sent: &State) -> bool {
        let was_sent = || sent.rooms.get(&entry.room).is_some_and(|sent| sent.room != Mark::Never);
        let overlooked =
            |sender: &OwnedUserId| self.person.as_ref().is_some_and(|person| person.overlooks(sender));
        let by_self = entry.sender.as_deref() == Some(user) && entry.membership != Membership::Ban;
        match (entry.standing, entry.membership) {
            (Standing::Joined(_), _) | (Standing::Outside, Membership::Knock) => true,
            (Standing::Outside, Membership::Invite) => !entry.sender.as_ref().is_some_and(overlooked),
            // Whoever has the room is told that it was left, even if another device has forgotten it already.
            (Standing::Outside, _) => was_sent(),
            (Standing::Left { .. }, _) => was_sent() || (!by_self && !self.forgotten.contains(&entry.room)),
        }
    }

    /// The roster as if invites that are overlooked had not come: whoever was in such a room before, and has it,
    /// is told that it was left.
    fn without_overlooked(&self, roster: &Arc<Roster>, user: &UserId) -> Arc<Roster> {
        let Some(person) = &self.person else { return roster.clone() };
        let overlooked = roster.order.iter().filter_map(|entry| {
            let (opened, closed) = entry.stay?;
            let is_invite = entry.standing == Standing::Outside && entry.membership == Membership::Invite;
            let sender = entry.sender.as_ref().filter(|_| is_invite)?;
            person.overlooks(sender).then(|| Entry {
                standing: Standing::Left { opened, closed },
                membership: Membership::Leave,
                // To those who do not have the room it is not shown.
                sender: Some(user.to_owned()),
                since: closed,
                activity: closed,
                ..Entry::clone(entry)
            })
        });
        let overlooked: Vec<Entry> = overlooked.collect();
        match overlooked.is_empty() {
            true => roster.clone(),
            false => Arc::new(roster.with(overlooked, &BTreeSet::new(), roster.at)),
        }
    }

    /// Whether a user may subscribe to a room.
    fn admits(&self, entry: &Entry, user: &UserId, sent: &State) -> bool {
        match entry.standing {
            Standing::Left { .. } if !self.forgotten.contains(&entry.room) => true,
            _ => self.shows(entry, user, sent),
        }
    }
}

impl Sync {
    /// What decides which rooms the lists of `user` have.
    pub(super) async fn habits(&self, user: &UserId) -> Result<Habits, SyncError> {
        // What makes no sense is left out; it does not spoil the rest.
        let direct: Option<BTreeMap<String, Value>> = self.accounts.read_data(user, "m.direct").await?;
        let all = direct.iter().flat_map(BTreeMap::values).filter_map(Value::as_array).flatten();
        let direct = all.filter_map(|room| OwnedRoomId::try_from(room.as_str()?).ok()).collect();
        Ok(Habits {
            person: Some(self.push.person(user).await?),
            direct,
            forgotten: self.history.forgotten(user).await?,
        })
    }

    /// The rooms that a request is about.
    pub(super) async fn selection(
        &self,
        caller: &Caller,
        request: &SlidingRequest,
        (roster, habits): (&mut Arc<Roster>, &Habits),
        sent: &State,
    ) -> Result<Selection, SyncError> {
        let user = &caller.user_id;
        if request.lists.values().any(|list| needs_traits(&list.filters)) {
            *roster = self.with_traits(user, roster.clone()).await?;
        }
        *roster = habits.without_overlooked(roster, user);
        let mut selection = Selection::default();
        let shown: Vec<&Arc<Entry>> =
            roster.order.iter().filter(|entry| habits.shows(entry, user, sent)).collect();
        let sieve = self.sieve(user, request, &shown, roster).await?;
        for (name, list) in &request.lists {
            let children = list.filters.spaces.as_ref().map(|spaces| sieve.rooms_in(spaces));
            let in_space = |room: &OwnedRoomId| children.as_ref().is_none_or(|rooms| rooms.contains(room));
            let wanted =
                |entry: &&&Arc<Entry>| in_space(&entry.room) && passes(&list.filters, entry, habits, &sieve);
            let (shared, mut count) = (ListName::from(name.as_str()), 0);
            for (index, entry) in shown.iter().filter(wanted).enumerate() {
                count += 1;
                if !list.covers(index) {
                    selection.beyond.extend(request.wants_beyond().then(|| entry.room.clone()));
                } else {
                    let found = selection.rooms.entry(entry.room.clone()).or_default();
                    found.lists.push(shared.clone());
                }
            }
            selection.counts.insert(name.clone(), count);
        }
        for room in request.subscriptions.keys() {
            if roster.entry(room).is_some_and(|entry| habits.admits(entry, user, sent)) {
                selection.rooms.entry(room.clone()).or_default().subscribed = true;
            }
        }
        configure(request, &mut selection, sent)?;
        Ok(selection)
    }

    async fn sieve(
        &self,
        user: &UserId,
        request: &SlidingRequest,
        shown: &[&Arc<Entry>],
        roster: &Roster,
    ) -> Result<Sieve, SyncError> {
        let mut sieve = Sieve::default();
        let filters = || request.lists.values().map(|list| &list.filters);
        if filters().any(|filters| filters.tags.is_some() || filters.not_tags.is_some()) {
            let wanted: Vec<_> =
                shown.iter().map(|entry| (Some(entry.room.clone()), String::from("m.tag"))).collect();
            let contents = self.accounts.data_of(user, &wanted).await?;
            let tagged = wanted.into_iter().zip(contents).filter_map(|((room, _), content)| {
                let tags: Tags = serde_json::from_str(content?.get()).ok()?;
                Some((room?, tags.tags.into_keys().collect()))
            });
            sieve.tags = tagged.collect();
        }
        let spaces: BTreeSet<&String> =
            filters().filter_map(|filters| filters.spaces.as_ref()).flatten().collect();
        for space in spaces {
            let joined = <&RoomId>::try_from(space.as_str()).ok().and_then(|space| roster.entry(space));
            if let Some(Entry { standing: Standing::Joined(_), room, .. }) = joined.map(|entry| &**entry) {
                sieve.children.insert(room.clone(), self.children(room).await?);
            }
        }
        Ok(sieve)
    }

    /// The rooms that a space names as its own.
    async fn children(&self, space: &RoomId) -> Result<Vec<OwnedRoomId>, SyncError> {
        #[derive(Deserialize)]
        struct Child {
            via: Option<Vec<String>>,
        }
        let Some(state) = self.history.current_state(space).await? else { return Ok(Vec::new()) };
        let events = self.history.state_events(state, Some(&StateEventType::SpaceChild)).await?;
        let child = |event: Arc<crate::history::StoredEvent>| {
            let via = event.pdu.content_as::<Child>().ok()?.via?;
            let room = OwnedRoomId::try_from(event.pdu.state_key()?).ok()?;
            (!via.is_empty()).then_some(room)
        };
        Ok(events.into_iter().filter_map(child).collect())
    }
}

/// What is wanted of rooms, each combination once: most rooms want the same, which is then shared, also with what the
/// client was sent before.
struct Configs {
    known: BTreeSet<Arc<RoomConfig>>,
    bytes: usize,
    /// Some of them are of earlier requests.
    has_older: bool,
}

impl Configs {
    fn new(sent: &State) -> Self {
        let known: BTreeSet<Arc<RoomConfig>> = sent.configs().into_iter().collect();
        let bytes = known.iter().map(|config| config.bytes()).sum();
        Self { has_older: !known.is_empty(), known, bytes }
    }

    fn share(&mut self, config: RoomConfig) -> Result<Arc<RoomConfig>, SyncError> {
        if let Some(known) = self.known.get(&config) {
            return Ok(known.clone());
        }
        self.bytes += config.bytes();
        match (self.bytes > SLIDING_CONFIGS_BYTES_MAX, self.has_older) {
            // What earlier requests wanted is forgotten when the client begins anew.
            (true, true) => return Err(SyncError::UnknownPos),
            (true, false) => return Err(SyncError::Invalid("Too much is wanted of too many rooms")),
            (false, _) => {}
        }
        let config = Arc::new(config);
        self.known.insert(config.clone());
        Ok(config)
    }
}

/// Puts together what is wanted of each room.
fn configure(request: &SlidingRequest, selection: &mut Selection, sent: &State) -> Result<(), SyncError> {
    let mut configs = Configs::new(sent);
    let mut by_lists: BTreeMap<Vec<ListName>, Arc<RoomConfig>> = BTreeMap::new();
    for (room, found) in &mut selection.rooms {
        let of_lists = match by_lists.get(&found.lists) {
            Some(known) => known.clone(),
            None => {
                let mut merged = RoomConfig::default();
                let lists = found.lists.iter().filter_map(|name| request.lists.get(&**name));
                lists.for_each(|list| merged.merge(&list.config));
                let config = configs.share(merged)?;
                by_lists.insert(found.lists.clone(), config.clone());
                config
            }
        };
        found.config = match request.subscriptions.get(room).filter(|_| found.subscribed) {
            Some(config) => {
                let mut merged = RoomConfig::clone(&of_lists);
                merged.merge(config);
                configs.share(merged)?
            }
            None => of_lists,
        };
    }
    Ok(())
}

fn needs_traits(filters: &Filters) -> bool {
    filters.is_encrypted.is_some()
        || filters.room_types.is_some()
        || filters.not_room_types.is_some()
        || filters.room_name_like.is_some()
}

/// Whether a room is one of a list.
fn passes(filters: &Filters, entry: &Entry, habits: &Habits, sieve: &Sieve) -> bool {
    let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
    let tags = sieve.tags.get(&entry.room);
    let among = |wanted: &BTreeSet<String>| tags.is_some_and(|tags| !tags.is_disjoint(wanted));
    is(filters.is_dm, habits.direct.contains(&entry.room))
        && is(filters.is_invite, entry.membership == Membership::Invite)
        && filters.tags.as_ref().is_none_or(among)
        && !filters.not_tags.as_ref().is_some_and(among)
        && has_traits(filters, entry)
}

fn has_traits(filters: &Filters, entry: &Entry) -> bool {
    let Some((traits, _)) = &entry.traits else { return true };
    let like = |part: &String| traits.name.as_ref().is_some_and(|name| name.to_lowercase().contains(part));
    filters.is_encrypted.is_none_or(|wanted| wanted == traits.is_encrypted)
        && filters.room_types.as_ref().is_none_or(|types| types.contains(&traits.room_type))
        && !filters.not_room_types.as_ref().is_some_and(|types| types.contains(&traits.room_type))
        && filters.room_name_like.as_ref().is_none_or(like)
}
