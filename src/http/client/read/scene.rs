//! What the endpoints of this area share: who looks how far into which room, boundaries, and events as
//! clients get them.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    EventId, OwnedUserId, RoomId, UInt, UserId,
    api::{
        Direction as ApiDirection,
        client::filter::{LazyLoadOptions, RoomEventFilter},
    },
    events::StateEventType,
    serde::Raw,
};

use crate::{
    account::Caller,
    dag::{StateId, tree::Entry},
    history::{Boundary, Bundles, Reach, Shape, StoredEvent, Viewer},
    http::{App, Failure},
    limits::PAGE_EVENTS_MAX,
    log::Direction,
    sync::wants,
    types::{Cursor, Position},
};

/// A user who looks into a room.
pub(super) struct Scene {
    app: App,
    /// How far they may look.
    pub(super) reach: Reach,
    /// What they see.
    pub(super) viewer: Viewer,
    /// Whose messages they do not want to see.
    ignored: BTreeSet<OwnedUserId>,
}

impl Scene {
    /// Fails for those who may not look into the room; whether there is such a room is not told.
    pub(super) async fn enter(app: &App, caller: &Caller, room: &RoomId) -> Result<Self, Failure> {
        let scene = Self::find(app, caller, room).await?;
        scene.ok_or_else(|| Failure::forbidden("You may not look into the room"))
    }

    /// As [`Self::enter`], once all members of the room are known. Nobody else waits for that, or learns that there is
    /// something to wait for.
    pub(super) async fn enter_whole(app: &App, caller: &Caller, room: &RoomId) -> Result<Self, Failure> {
        let scene = Self::enter(app, caller, room).await?;
        if !app.history.is_partial(room).await? {
            return Ok(scene);
        }
        app.rooms.whole(room).await?;
        Self::enter(app, caller, room).await
    }

    /// The room, for those who may look into it.
    pub(super) async fn find(app: &App, caller: &Caller, room: &RoomId) -> Result<Option<Self>, Failure> {
        let Some(reach) = app.history.reach(&caller.user_id, room).await? else { return Ok(None) };
        let ignored = ignored(app, caller).await?;
        let viewer = app.history.viewer(&caller.user_id, Some(&caller.device_id)).await?.ignoring(&ignored);
        Ok(Some(Self { app: app.clone(), reach, viewer, ignored }))
    }

    /// An event of the room that the user may see.
    pub(super) async fn event(&mut self, room: &RoomId, id: &EventId) -> Result<Arc<StoredEvent>, Failure> {
        if let Some(event) = self.app.history.event(id).await?
            && event.pdu.room_id() == room
            && self.viewer.sees(&event).await?
        {
            return Ok(event);
        }
        Err(no_such_event())
    }

    /// Which events of a page are wanted: by the filter, and not from those who are ignored.
    pub(super) fn wanted(
        &self,
        filter: RoomEventFilter,
    ) -> impl Fn(&StoredEvent) -> bool + Send + Sync + use<> {
        wanted(self.ignored.clone(), filter)
    }

    /// Events as the client gets them, with what is known of those that relate to them.
    pub(super) async fn show<T>(&mut self, events: &[Arc<StoredEvent>]) -> Result<Vec<Raw<T>>, Failure> {
        let bundles = self.viewer.bundles(events).await?;
        self.show_with(events, &bundles).await
    }

    /// Events as the client gets them, with what is told with them.
    pub(super) async fn show_with<T>(
        &mut self,
        events: &[Arc<StoredEvent>],
        bundles: &Bundles,
    ) -> Result<Vec<Raw<T>>, Failure> {
        let rendered = self.viewer.render(events, Shape::Full, bundles).await?;
        Ok(rendered.into_iter().map(Raw::from_json).collect())
    }

    /// One event; see [`Self::show`].
    pub(super) async fn show_one<T>(&mut self, event: &Arc<StoredEvent>) -> Result<Raw<T>, Failure> {
        let shown = self.show(std::slice::from_ref(event)).await?.pop();
        shown.ok_or_else(|| Failure::internal("nothing rendered"))
    }

    /// State events as the client gets them.
    pub(super) async fn show_state<T>(
        &mut self,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Raw<T>>, Failure> {
        let rendered = self.viewer.render(events, Shape::Full, &Bundles::new()).await?;
        Ok(rendered.into_iter().map(Raw::from_json).collect())
    }

    /// The members who sent `events`, as of the newest of these.
    pub(super) async fn senders(
        &mut self,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Arc<StoredEvent>>, Failure> {
        let newest = events.iter().max_by_key(|event| event.position);
        let state = newest.and_then(|event| event.states).map_or(self.reach.state, |states| states.current);
        Ok(self.app.history.sender_members(state, events).await?)
    }

    /// The events of a state; of its members those who are `named`, if that is wanted.
    pub(super) async fn state(
        &self,
        state: StateId,
        named: Option<&BTreeSet<&UserId>>,
    ) -> Result<Vec<Arc<StoredEvent>>, Failure> {
        let history = &self.app.history;
        let Some(named) = named else { return Ok(history.state_events(state, None).await?) };
        let is_wanted = |entry: &Entry| {
            entry.key.event_type != StateEventType::RoomMember
                || <&UserId>::try_from(entry.key.state_key.as_str()).is_ok_and(|user| named.contains(user))
        };
        let entries = history.state_of(state, None).await?;
        let ids: Vec<_> = entries.into_iter().filter(is_wanted).map(|entry| entry.value.event_id).collect();
        Ok(history.events(&ids).await?.into_iter().flatten().collect())
    }

    /// The boundary where a walk begins: the one that was given, but not beyond what the user may see.
    pub(super) fn start(&self, from: Option<&str>, direction: Direction) -> Result<Boundary, Failure> {
        let (given, until) = (from.map(place).transpose()?, self.reach.until);
        Ok(match direction {
            Direction::Backward => given.unwrap_or(until).min(until),
            Direction::Forward => given.unwrap_or(Boundary::START),
        })
    }

    /// The boundary where a walk ends.
    pub(super) fn stop(&self, to: Option<&str>, direction: Direction) -> Result<Option<Boundary>, Failure> {
        let (given, until) = (to.map(place).transpose()?, self.reach.until);
        Ok(match direction {
            Direction::Backward => given,
            Direction::Forward => Some(given.unwrap_or(until).min(until)),
        })
    }
}

/// Whose messages somebody does not want to see.
pub(super) async fn ignored(app: &App, caller: &Caller) -> Result<BTreeSet<OwnedUserId>, Failure> {
    Ok(app.push.person(&caller.user_id).await?.ignored.clone())
}

/// Which events are wanted: by the filter, and not from those who are ignored.
pub(super) fn wanted(
    ignored: BTreeSet<OwnedUserId>,
    filter: RoomEventFilter,
) -> impl Fn(&StoredEvent) -> bool + Send + Sync {
    move |event: &StoredEvent| {
        let pdu = &event.pdu;
        (pdu.state_key().is_some() || !ignored.contains(pdu.sender())) && wants(&filter, pdu)
    }
}

/// There is no such event, or somebody may not see it: which of the two is not told.
pub(super) fn no_such_event() -> Failure {
    Failure::not_found("There is no such event, or you may not see it")
}

/// Whether members are sent only where an event needs them.
pub(super) fn is_lazy(filter: &RoomEventFilter) -> bool {
    !matches!(filter.lazy_load_options, LazyLoadOptions::Disabled)
}

/// Reads a token of ours as a position of the timeline; see [`place`].
pub(in crate::http) fn boundary(token: &str) -> Result<Position, Failure> {
    place(token).map(|place| place.position)
}

/// The token of a boundary.
pub(in crate::http) fn token(boundary: Position) -> String {
    format!("t{boundary}")
}

/// Reads a token of ours: of sync, or of a boundary, which may lie between back-filled events; see [`place_token`].
pub(super) fn place(token: &str) -> Result<Boundary, Failure> {
    let unknown = || Failure::invalid_param("The token is not one of this server");
    let (at, number) = match token.strip_prefix('t') {
        Some(rest) => {
            let (position, number) = rest.split_once('_').unzip();
            (format!("s{}", position.unwrap_or(rest)), number)
        }
        // A position of sliding sync says more than the place.
        None => (token.split('~').next().unwrap_or(token).to_owned(), None),
    };
    let Cursor { log: position, .. } = at.parse().map_err(|_| unknown())?;
    let Some(number) = number else { return Ok(Boundary::after(position)) };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number).ok_or_else(unknown)?;
    Ok(Boundary { position, number })
}

/// The token of a boundary. Where there are no back-filled events it is as everywhere else.
pub(super) fn place_token(at: Boundary) -> String {
    match at.number {
        u64::MAX => token(at.position),
        number => format!("t{}_{number}", at.position),
    }
}

/// How many events a page may have.
pub(super) fn page_limit(limit: Option<UInt>, default: usize) -> usize {
    limit
        .map_or(default, |limit| usize::try_from(u64::from(limit)).unwrap_or(usize::MAX))
        .min(PAGE_EVENTS_MAX)
}

/// Which way to walk.
pub(super) fn direction(direction: ApiDirection) -> Direction {
    match direction {
        ApiDirection::Backward => Direction::Backward,
        ApiDirection::Forward => Direction::Forward,
    }
}
