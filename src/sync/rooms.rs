//! The rooms of a page: which they are, and their parts put together.
//!
//! Each step is taken for many rooms at once, so that what has to be loaded is loaded together; not for all of them, since the
//! events of a large account may be too much to hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tracing::error;

use super::{
    StateDialect, Sync, SyncError, SyncRequest, SyncResponse, boundary,
    filter::{is_lazy, room_wanted},
    lazy::Sendings,
    person::Cut,
    response::{Events, Invited, Json, Knocked, RoomUpdate, Rooms},
    state::StatePart,
    timeline::Span,
    timeline_limit,
};
use crate::{
    account::Caller,
    history::Viewer,
    limits::SYNC_ROOMS_AT_ONCE,
    log::{Audience, Slice, Subscriptions},
    push::Person,
    types::{Fact, Lane, Membership, Position},
};

/// What one request knows while it renders its rooms.
pub(super) struct Scene<'a> {
    pub(super) caller: &'a Caller,
    pub(super) request: &'a SyncRequest,
    pub(super) cut: &'a Cut,
    pub(super) viewer: Viewer,
    pub(super) person: Arc<Person>,
    pub(super) lanes: Arc<Subscriptions>,
    /// Which connection of the device; empty for `/v3/sync`.
    pub(super) channel: &'a str,
    /// Members that go out with the answer, to be noted when it does.
    pub(super) members: Sendings,
    /// Those whose member events the client may meet in a timeline for the first time.
    pub(super) shown: BTreeSet<OwnedUserId>,
    /// The user's account data of rooms, read once for a client that has nothing yet.
    pub(super) data: BTreeMap<OwnedRoomId, Vec<(String, Json)>>,
}

/// One room, and what the page says of it.
pub(super) struct Place<'a> {
    pub(super) room: OwnedRoomId,
    pub(super) slice: Option<&'a Slice>,
    /// The user is in the room at the end of the page.
    pub(super) is_joined: bool,
    /// The client has nothing of the room yet, or nothing that it could build on.
    pub(super) is_new: bool,
    /// The client may have kept something of the room from before it came back.
    pub(super) returns: bool,
    /// The client has the timeline up to here.
    pub(super) from: Position,
    /// How many events of the timeline it is given.
    pub(super) limit: usize,
    /// Where the page ends for this room.
    pub(super) ends: Position,
}

impl Place<'_> {
    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.slice.into_iter().flat_map(|slice| &slice.facts).map(|(_, fact)| fact)
    }

    /// The client gets the whole state.
    pub(super) fn is_whole(&self, request: &SyncRequest) -> bool {
        self.is_new || (request.full_state && self.is_joined)
    }

    /// The client gets a room in which its user has been for a while.
    fn is_revealed(&self) -> bool {
        self.is_new && self.slice.is_none_or(|slice| slice.opened.is_none())
    }
}

/// A room, what there is to say of it, and whether its members may have changed.
type Told<'a> = (&'a Place<'a>, Option<RoomUpdate>, bool);

/// The rooms on a page that bear on whose devices the client has to know.
#[derive(Default)]
pub(super) struct Moved {
    /// Those whose members may have changed.
    pub(super) rooms: Vec<OwnedRoomId>,
    /// Those that were kept from the client until now, as not all of their members were known.
    pub(super) revealed: Vec<OwnedRoomId>,
    /// Whom a client that loads members lazily may see for the first time.
    pub(super) introduced: BTreeSet<OwnedUserId>,
}

impl Sync {
    /// Adds the rooms.
    pub(super) async fn add_rooms(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        cut: &Cut,
        response: &mut SyncResponse,
    ) -> Result<Moved, SyncError> {
        let lanes = self.log.subscriptions(&Audience::Account(caller.user_id.clone())).await?;
        let touched = self.touched(request, cut, &lanes);
        let is_wanted = |room: &OwnedRoomId| room_wanted(&request.filter.room, room);
        let (touched, mut unwanted): (Vec<_>, Vec<_>) = touched.into_iter().partition(is_wanted);
        // Whoever does not want to see a room shares it all the same.
        unwanted.retain(|room| cut.rooms.contains_key(room));
        if touched.is_empty() {
            return Ok(Moved { rooms: unwanted, ..Moved::default() });
        }
        let person = self.push.person(&caller.user_id).await?;
        let viewer = self.history.viewer(&caller.user_id, Some(&caller.device_id)).await?;
        let mut scene = Scene {
            caller,
            request,
            cut,
            viewer: viewer.ignoring(&person.ignored),
            person,
            lanes,
            channel: "",
            members: Sendings::new(),
            shown: BTreeSet::new(),
            data: BTreeMap::new(),
        };
        if cut.is_initial() {
            scene.data = self.data_of_rooms(&caller.user_id).await?;
        }
        let mut places = Vec::with_capacity(touched.len());
        let mut held_back = unwanted;
        for room in touched {
            let mut place = place(&scene, room.clone());
            if let Some(found) = place.take() {
                place = self.presentable(&scene, found).await?;
                held_back.extend(place.is_none().then(|| room.clone()));
            }
            self.add_membership(&mut scene, &room, &mut response.rooms).await?;
            match place {
                // Clients take a room for what they read last, so it is in one section only.
                Some(_) if response.rooms.awaits(&room) => held_back.push(room),
                Some(place) if place.is_joined || self.shows_left(&scene, &place).await? => {
                    places.push(place);
                }
                _ => {}
            }
        }
        let mut moved = Moved { rooms: held_back, ..Moved::default() };
        for (place, update, members_moved) in self.all_updates(&mut scene, &places).await? {
            moved.rooms.extend(members_moved.then(|| place.room.clone()));
            moved.revealed.extend(place.is_revealed().then(|| place.room.clone()));
            let Some(update) = update else { continue };
            let rooms = match place.is_joined {
                true => &mut response.rooms.join,
                false => &mut response.rooms.leave,
            };
            rooms.insert(place.room.clone(), update);
        }
        let members = scene.members.iter().flat_map(|(_, members)| members);
        moved.introduced = members.map(|(user, _)| user.clone()).chain(scene.shown).collect();
        self.lazy.note((caller, ""), scene.members, (cut.to.log, 0));
        Ok(moved)
    }

    /// What there is to say of each room, if there is anything, and whether its members may have changed. Should what is
    /// stored of a room be damaged, its client is told that something is missing there; it holds up no other room, and
    /// not the client for good.
    async fn all_updates<'a>(
        &self,
        scene: &mut Scene<'_>,
        places: &'a [Place<'a>],
    ) -> Result<Vec<Told<'a>>, SyncError> {
        let mut updates = Vec::with_capacity(places.len());
        for some in places.chunks(SYNC_ROOMS_AT_ONCE) {
            updates.extend(self.some_updates(scene, some).await?);
        }
        Ok(updates)
    }

    async fn some_updates<'a>(
        &self,
        scene: &mut Scene<'_>,
        places: &'a [Place<'a>],
    ) -> Result<Vec<Told<'a>>, SyncError> {
        let before = scene.members.len();
        match self.try_updates(scene, places).await {
            Err(error) if error.is_damage() => scene.members.truncate(before),
            other => return other,
        }
        let mut updates = Vec::with_capacity(places.len());
        for place in places {
            let before = scene.members.len();
            match self.try_updates(scene, std::slice::from_ref(place)).await {
                Ok(one) => updates.extend(one),
                Err(error) if error.is_damage() => {
                    scene.members.truncate(before);
                    let (room, user) = (&place.room, &scene.caller.user_id);
                    error!(room.id = %room, user.id = %user, "cannot render {room}: {error}");
                    updates.push((place, Some(gap(scene.request, place)), false));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(updates)
    }

    async fn try_updates<'a>(
        &self,
        scene: &mut Scene<'_>,
        places: &'a [Place<'a>],
    ) -> Result<Vec<Told<'a>>, SyncError> {
        let spans = self.spans(scene, places).await?;
        let states = self.states(scene, places, &spans).await?;
        let moved: Vec<bool> = states.iter().map(|state| state.members_moved).collect();
        let mut updates = self.updates(scene, places, (spans, states)).await?.into_iter().peekable();
        let of = |(place, moved): (&'a Place<'a>, bool)| {
            let update = updates.next_if(|(other, _)| std::ptr::eq(*other, place));
            (place, update.map(|(_, update)| update), moved)
        };
        Ok(places.iter().zip(moved).map(of).collect())
    }

    /// A client that takes the members it is given for all that there are gets a room once they are all known.
    async fn presentable<'a>(
        &self,
        scene: &Scene<'_>,
        place: Place<'a>,
    ) -> Result<Option<Place<'a>>, SyncError> {
        if !place.is_joined || is_lazy(&scene.request.filter.room) {
            return Ok(Some(place));
        }
        if self.history.is_partial(&place.room).await? {
            return Ok(None);
        }
        let opened = scene.lanes.intervals(&Lane::Room(place.room.clone())).last().map(|last| last.opened);
        let since = place.from.max(opened.unwrap_or_default());
        Ok(match self.history.grown_after(&place.room, since).await? {
            Some(at) if at > place.ends => None,
            Some(_) => Some(Place { is_new: true, returns: true, ..place }),
            None => Some(place),
        })
    }

    /// The rooms of which there may be something to say.
    fn touched(&self, request: &SyncRequest, cut: &Cut, lanes: &Subscriptions) -> BTreeSet<OwnedRoomId> {
        let mut touched: BTreeSet<OwnedRoomId> = cut.rooms.keys().cloned().collect();
        touched.extend(cut.memberships.keys().cloned());
        touched.extend(cut.private_receipts.keys().cloned());
        touched.extend(cut.room_data.keys().cloned());
        if request.full_state || self.is_from_before_start(cut) || cut.changes_counts() {
            touched.extend(lanes.open_rooms().cloned());
        }
        touched
    }

    /// The token is from before this process started: who typed then does not any more.
    pub(super) fn is_from_before_start(&self, cut: &Cut) -> bool {
        !cut.is_initial() && cut.from.log < self.log.boot()
    }

    /// Whether a room that the user has left is shown.
    async fn shows_left(&self, scene: &Scene<'_>, place: &Place<'_>) -> Result<bool, SyncError> {
        if !scene.cut.is_initial() {
            // That the room was left is news for the other devices even when one has forgotten it already.
            return Ok(true);
        }
        let user = &scene.caller.user_id;
        let wanted = scene.request.filter.room.include_leave || self.is_removed(user, &place.room).await?;
        Ok(wanted && !self.history.is_forgotten(user, &place.room).await?)
    }

    /// Whether somebody else has taken the user out of the room.
    async fn is_removed(&self, user: &UserId, room: &RoomId) -> Result<bool, SyncError> {
        let Some(standing) = self.history.standing(user, room).await? else { return Ok(false) };
        let event = self.history.event(&standing.event_id).await?;
        Ok(matches!(standing.membership, Membership::Leave | Membership::Ban)
            && event.is_some_and(|event| event.pdu.sender() != user))
    }

    /// Adds a room to which the user is invited, where they knock, or where they do neither any more.
    async fn add_membership(
        &self,
        scene: &mut Scene<'_>,
        room: &OwnedRoomId,
        rooms: &mut Rooms,
    ) -> Result<(), SyncError> {
        let Some((membership, event_id, _)) = scene.cut.memberships.get(room) else { return Ok(()) };
        let user = &scene.caller.user_id;
        match membership {
            Membership::Invite if !self.is_overlooked(scene, event_id).await? => {
                let events = self.history.stripped(user, room).await?;
                rooms.invite.insert(room.clone(), Invited { invite_state: Events { events } });
            }
            Membership::Knock => {
                let events = self.history.stripped(user, room).await?;
                rooms.knock.insert(room.clone(), Knocked { knock_state: Events { events } });
            }
            Membership::Leave | Membership::Ban
                if !scene.cut.is_initial() && !scene.cut.rooms.contains_key(room) =>
            {
                let update = self.never_joined(scene, event_id).await?;
                rooms.leave.insert(room.clone(), update);
            }
            _ => {}
        }
        Ok(())
    }

    async fn is_overlooked(&self, scene: &Scene<'_>, event_id: &EventId) -> Result<bool, SyncError> {
        let event = self.history.event(event_id).await?;
        Ok(event.is_some_and(|event| scene.person.overlooks(event.pdu.sender())))
    }

    /// A room that the user was invited to or knocked at, and is no more: there is one thing to see.
    async fn never_joined(&self, scene: &mut Scene<'_>, event_id: &EventId) -> Result<RoomUpdate, SyncError> {
        let mut update = RoomUpdate::default();
        if let Some(event) = self.history.event(event_id).await? {
            update.timeline.events = self.render_events(scene, &[event]).await?;
        }
        put_state(scene.request, &mut update, Events::default());
        Ok(update)
    }

    /// The parts of each room put together; rooms of which there is nothing to say are left out.
    async fn updates<'a>(
        &self,
        scene: &mut Scene<'_>,
        places: &'a [Place<'a>],
        (spans, states): (Vec<Span>, Vec<StatePart>),
    ) -> Result<Vec<(&'a Place<'a>, RoomUpdate)>, SyncError> {
        let mut timelines = self.timelines(scene, places, &spans).await?.into_iter();
        let mut ephemerals = self.ephemerals(scene, places).await?.into_iter();
        let mut data = self.room_account_data(scene, places).await?.into_iter();
        let mut updates = Vec::with_capacity(places.len());
        for ((place, span), state) in places.iter().zip(&spans).zip(states) {
            let mut update = RoomUpdate {
                timeline: timelines.next().unwrap_or_default(),
                ephemeral: ephemerals.next().unwrap_or_default(),
                account_data: data.next().unwrap_or_default(),
                counts_changed: span.lowers_counts(&scene.caller.user_id),
                ..RoomUpdate::default()
            };
            let is_called_anew = state.members_moved || state.name_moved;
            if place.is_joined && (place.is_whole(scene.request) || is_called_anew) {
                update.summary = Some(self.summary(scene, &place.room, span).await?);
            }
            put_state(scene.request, &mut update, Events { events: state.events });
            update.sticky = Events { events: self.sticky(scene, place, span).await? };
            updates.push((place, update));
        }
        self.add_counts(scene, &mut updates).await?;
        // Of a room that was removed there is nothing to show, but that the user is not in it any more.
        updates.retain(|(place, update)| {
            !place.is_joined || place.is_whole(scene.request) || !update.is_empty()
        });
        Ok(updates)
    }
}

fn place<'a>(scene: &Scene<'a>, room: OwnedRoomId) -> Option<Place<'a>> {
    let cut = scene.cut;
    let slice = cut.rooms.get(&room);
    let last = scene.lanes.intervals(&Lane::Room(room.clone())).last().copied()?;
    let is_joined = last.opened <= cut.to.log && last.closed.is_none_or(|closed| closed > cut.to.log);
    let closed = slice.and_then(|slice| slice.closed);
    if !is_joined && closed.is_none() {
        return None;
    }
    let is_new = slice.is_some_and(|slice| slice.opened.is_some());
    Some(Place {
        room,
        slice,
        is_joined,
        is_new,
        returns: is_new && !cut.is_initial(),
        from: cut.from.log,
        limit: timeline_limit(scene.request),
        ends: closed.unwrap_or(cut.to.log),
    })
}

/// What is told of a room that cannot be read: that there is something.
fn gap(request: &SyncRequest, place: &Place<'_>) -> RoomUpdate {
    let mut update = RoomUpdate::default();
    update.timeline.limited = true;
    update.timeline.prev_batch = Some(boundary(place.ends));
    put_state(request, &mut update, Events::default());
    update
}

fn put_state(request: &SyncRequest, update: &mut RoomUpdate, state: Events) {
    match request.dialect {
        StateDialect::Before => update.state = Some(state),
        StateDialect::After => update.state_after = Some(state),
        StateDialect::AfterUnstable => update.unstable_state_after = Some(state),
    }
}
