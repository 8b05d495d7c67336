//! Whom one user may find, and by which name.

use std::collections::{BTreeSet, HashMap};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;

use super::{People, Person, SearchError};
use crate::{
    account::Face, limits::USER_SEARCH_OPEN_ROOMS_MAX, log::Audience, store::StoreError, types::Lane,
};

/// One user who looks for others. Make one per request.
pub(super) struct Sight<'a> {
    people: &'a People,
    /// The rooms whose members they may find: their own, and the open ones.
    rooms: BTreeSet<OwnedRoomId>,
    /// Of each other server, those of them that it is in.
    shared: HashMap<String, Vec<OwnedRoomId>>,
}

#[derive(Default, Deserialize)]
struct MemberContent {
    displayname: Option<String>,
    avatar_url: Option<String>,
}

impl<'a> Sight<'a> {
    pub(super) async fn of(people: &'a People, searcher: &UserId) -> Result<Self, StoreError> {
        let mut rooms: BTreeSet<_> = people.0.history.joined_rooms(searcher).await?.into_iter().collect();
        rooms.extend(people.open_rooms(USER_SEARCH_OPEN_ROOMS_MAX).await?);
        Ok(Self { people, rooms, shared: HashMap::new() })
    }

    /// Those of `users` that may be found, as they show themselves.
    pub(super) async fn known(&mut self, users: Vec<OwnedUserId>) -> Result<Vec<Person>, SearchError> {
        let history = &self.people.0.history;
        let local: Vec<OwnedUserId> = users.iter().filter(|user| history.is_local(user)).cloned().collect();
        let mut faces = self.people.0.accounts.faces(&local).await?.into_iter();
        let mut known = Vec::new();
        for user_id in users {
            let face = match history.is_local(&user_id) {
                true => match faces.next().flatten() {
                    Some(face) if self.shares_room(&user_id).await? => Some(face),
                    _ => None,
                },
                false => self.face_of_remote(&user_id).await?,
            };
            if let Some((display_name, avatar_url)) = face {
                known.push(Person { user_id, display_name, avatar_url });
            }
        }
        Ok(known)
    }

    async fn shares_room(&self, user: &UserId) -> Result<bool, StoreError> {
        if self.people.0.everybody {
            return Ok(true);
        }
        let lanes = self.people.log().subscriptions(&Audience::Account(user.to_owned())).await?;
        Ok(lanes.latest().any(|(lane, last)| {
            matches!(lane, Lane::Room(room) if last.closed.is_none() && self.rooms.contains(room))
        }))
    }

    /// How a user of another server shows themselves in one of the rooms.
    async fn face_of_remote(&mut self, user: &UserId) -> Result<Option<Face>, StoreError> {
        let history = &self.people.0.history;
        for room in self.shared_with(user).await? {
            let members = history.current_members(&room).await?;
            let Some(member) = members.get(user).filter(|_| members.is_joined(user)) else { continue };
            let event = history.sound_event(&member.event_id).await?;
            let content: MemberContent =
                event.and_then(|event| event.pdu.content_as().ok()).unwrap_or_default();
            return Ok(Some((content.displayname, content.avatar_url)));
        }
        Ok(None)
    }

    /// Those of the rooms that the server of `user` is in.
    async fn shared_with(&mut self, user: &UserId) -> Result<Vec<OwnedRoomId>, StoreError> {
        let server = user.server_name();
        if let Some(shared) = self.shared.get(server.as_str()) {
            return Ok(shared.clone());
        }
        let lanes = self.people.log().subscriptions(&Audience::Server(server.to_owned())).await?;
        let is_in = |room: &&OwnedRoomId| lanes.is_open(&Lane::Egress((*room).clone()));
        let shared: Vec<OwnedRoomId> = self.rooms.iter().filter(is_in).cloned().collect();
        self.shared.insert(server.to_string(), shared.clone());
        Ok(shared)
    }
}
