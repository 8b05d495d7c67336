//! Follows the log: who comes into which room, and which rooms are open.
//!
//! A room is looked at when something was written to it; where its state is another than when it was looked at
//! last, what differs is written down. The place in the log is a row, so that after a start only that is looked at
//! which happened since.

use quick_cache::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::StateEventType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{People, SearchError};
use crate::{
    account::{USER_WORDS, words_of},
    dag::{StateId, tree::Change},
    history::tables::OPEN_ROOMS,
    limits::{
        PEOPLE_CURSOR_STEP, PEOPLE_PAUSE, PEOPLE_ROOMS_MAX, PEOPLE_SHARED_PAUSE, SEARCH_STORE_PAUSE,
        USER_SEARCH_CHUNK,
    },
    log::Commit,
    search::follow::{Follow, touched_rooms},
    store::{
        StoreError,
        table::{Rows, TableId},
    },
    types::{Membership, Position},
};

/// How far this reader has got.
const PLACE: Rows<(String,), Place> = Rows::new(TableId::Meta);
/// Rises when the rows are made otherwise; then they are made anew.
const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    version: u32,
    cursor: Position,
}

/// Follows the log until the server stops.
pub(super) async fn run(people: People, stopping: CancellationToken) {
    let pause = if people.log().db().is_exclusive() { PEOPLE_PAUSE } else { PEOPLE_SHARED_PAUSE };
    let following = async {
        loop {
            match Reader::load(&people).await {
                Ok(mut reader) => {
                    let Err(error) = people.0.progress.follow(people.log(), pause, &mut reader).await;
                    tracing::error!(%error, "the user directory does not get on; it will try again");
                }
                Err(error) => tracing::error!(%error, "the user directory cannot be read; it will try again"),
            }
            tokio::time::sleep(SEARCH_STORE_PAUSE).await;
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = following => {}
    }
}

struct Reader<'a> {
    people: &'a People,
    cursor: Position,
    /// The cursor as it is written down.
    written: Position,
    /// The states of rooms as they were looked at last.
    states: Cache<OwnedRoomId, StateId>,
}

fn place_key() -> (String,) {
    (String::from("people"),)
}

impl<'a> Reader<'a> {
    /// Where the last run ended; from the beginning, if there was none.
    async fn load(people: &'a People) -> Result<Self, SearchError> {
        let place = people.log().db().row(&PLACE, &place_key()).await?;
        let cursor = match place.filter(|place| place.version == VERSION) {
            Some(place) => place.cursor,
            None => {
                begin_anew(people).await?;
                Position::ZERO
            }
        };
        Ok(Self { people, cursor, written: cursor, states: Cache::new(PEOPLE_ROOMS_MAX) })
    }

    /// Writes down what is new in a room; whether there was anything.
    async fn look_at(&mut self, room: &OwnedRoomId) -> Result<bool, SearchError> {
        let history = &self.people.0.history;
        let Some(state) = history.current_state(room).await? else { return Ok(false) };
        let before = match self.states.get(room) {
            Some(before) => before,
            None => history.state_at_position(room, self.cursor).await?,
        };
        if before == state {
            self.states.insert(room.clone(), state);
            return Ok(false);
        }
        let changes = history.state_diff(before, state).await?;
        let comers: Vec<_> = changes.iter().filter_map(|change| comer(change, history.server())).collect();
        let mut wrote = false;
        for comers in comers.chunks(USER_SEARCH_CHUNK) {
            wrote |= self.add(comers).await?;
        }
        let opening = [StateEventType::RoomJoinRules, StateEventType::RoomHistoryVisibility];
        if changes.iter().any(|change| opening.contains(&change.key.event_type)) {
            self.note_open(room, state).await?;
            wrote = true;
        }
        self.states.insert(room.clone(), state);
        Ok(wrote)
    }

    async fn add(&self, comers: &[(OwnedUserId, OwnedEventId)]) -> Result<bool, SearchError> {
        let ids: Vec<OwnedEventId> = comers.iter().map(|(_, event_id)| event_id.clone()).collect();
        let events = self.people.0.history.sound_events(&ids).await?;
        let mut commit = Commit::new();
        for ((user, _), event) in comers.iter().zip(events) {
            let content: Map<String, Value> =
                event.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default();
            for word in words_of(user, content.get("displayname").and_then(Value::as_str)) {
                commit.put(&USER_WORDS, &(word, user.clone()), &());
            }
        }
        if commit.is_empty() {
            return Ok(false);
        }
        self.people.log().commit(commit).await?;
        Ok(true)
    }

    async fn note_open(&self, room: &RoomId, state: StateId) -> Result<(), SearchError> {
        let history = &self.people.0.history;
        let rule = history.state_event(state, StateEventType::RoomJoinRules, "").await?;
        let rule: Map<String, Value> = rule.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default();
        let is_public = rule.get("join_rule").is_some_and(|rule| rule == "public");
        let mut commit = Commit::new();
        match is_public || history.is_world_readable(state).await? {
            true => commit.put(&OPEN_ROOMS, &(room.to_owned(),), &()),
            false => commit.delete(&OPEN_ROOMS, &(room.to_owned(),)),
        }
        self.people.log().commit(commit).await?;
        Ok(())
    }
}

impl Follow for Reader<'_> {
    async fn advance(&mut self, head: Position) -> Result<(), SearchError> {
        if head <= self.cursor {
            return Ok(());
        }
        let mut wrote = false;
        for room in touched_rooms(&self.people.0.history, self.cursor).await? {
            match self.look_at(&room).await {
                // The others are found all the same.
                Err(SearchError::Store(error @ StoreError::Corrupt(_))) => {
                    tracing::error!(room.id = %room, %error, "who is in {room} is not found out: it is damaged");
                }
                looked => wrote |= looked?,
            }
        }
        self.cursor = head;
        if wrote || head.0 >= self.written.0.saturating_add(PEOPLE_CURSOR_STEP) {
            let mut commit = Commit::new();
            put_place(&mut commit, head);
            self.people.log().commit(commit).await?;
            self.written = head;
        }
        Ok(())
    }
}

/// Removes all rows, and writes those of local users.
async fn begin_anew(people: &People) -> Result<(), SearchError> {
    let mut commit = Commit::new();
    commit.delete_prefix(&USER_WORDS, &());
    commit.delete_prefix(&OPEN_ROOMS, &());
    people.log().commit(commit).await?;
    let mut last: Option<OwnedUserId> = None;
    loop {
        let mut commit = Commit::new();
        last = people.0.accounts.index_words(&mut commit, last.as_deref(), USER_SEARCH_CHUNK).await?;
        if last.is_none() {
            put_place(&mut commit, Position::ZERO);
        }
        people.log().commit(commit).await?;
        if last.is_none() {
            return Ok(());
        }
    }
}

fn put_place(commit: &mut Commit, cursor: Position) {
    commit.put(&PLACE, &place_key(), &Place { version: VERSION, cursor });
}

/// The user of another server whom a change brings into the room or gives another name.
fn comer(change: &Change, ours: &ruma::ServerName) -> Option<(OwnedUserId, OwnedEventId)> {
    if change.key.event_type != StateEventType::RoomMember {
        return None;
    }
    let value = change.after.as_ref().filter(|value| value.membership == Some(Membership::Join))?;
    let user = <&UserId>::try_from(change.key.state_key.as_str()).ok()?;
    (user.server_name() != ours).then(|| (user.to_owned(), value.event_id.clone()))
}
