//! Who is in a room.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId, events::StateEventType};

use super::History;
use crate::{
    dag::{StateId, StateValue},
    store::StoreError,
    types::Membership,
};

/// One user's part in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The membership.
    pub membership: Membership,
    /// The event that says so.
    pub event_id: OwnedEventId,
}

/// Everyone who has a membership in one state of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    users: BTreeMap<OwnedUserId, Member>,
    joined: usize,
    invited: usize,
}

impl Members {
    /// One user's part.
    #[must_use]
    pub fn get(&self, user: &UserId) -> Option<&Member> {
        self.users.get(user)
    }

    /// Whether `user` is joined.
    #[must_use]
    pub fn is_joined(&self, user: &UserId) -> bool {
        self.get(user).is_some_and(|member| member.membership == Membership::Join)
    }

    /// Everyone, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&OwnedUserId, &Member)> {
        self.users.iter()
    }

    /// Those with one membership, by id.
    pub fn with(&self, membership: Membership) -> impl Iterator<Item = &OwnedUserId> {
        self.users.iter().filter(move |(_, member)| member.membership == membership).map(|(user, _)| user)
    }

    /// How many are joined.
    #[must_use]
    pub fn joined_count(&self) -> usize {
        self.joined
    }

    /// How many are invited.
    #[must_use]
    pub fn invited_count(&self) -> usize {
        self.invited
    }

    fn set(&mut self, state_key: &str, value: Option<StateValue>) {
        // A state key that is no user id makes nobody a member.
        let Ok(user) = OwnedUserId::try_from(state_key) else { return };
        let member = value.and_then(|StateValue { event_id, membership }| {
            Some(Member { membership: membership?, event_id })
        });
        let old = match member.clone() {
            Some(member) => self.users.insert(user, member),
            None => self.users.remove(&user),
        };
        let is = |member: &Option<Member>, wanted| {
            usize::from(member.as_ref().is_some_and(|member| member.membership == wanted))
        };
        self.joined = self.joined + is(&member, Membership::Join) - is(&old, Membership::Join);
        self.invited = self.invited + is(&member, Membership::Invite) - is(&old, Membership::Invite);
    }
}

impl History {
    /// The members of a room in one of its states. The present ones are kept in memory, and what they
    /// become is found by what changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn members(&self, room: &RoomId, state: StateId) -> Result<Arc<Members>, StoreError> {
        let kind = StateEventType::RoomMember;
        let known = self.0.caches.members.get(room);
        let members = match known {
            Some((of, members)) if of == state => return Ok(members),
            Some((of, members)) => {
                let changes = self.state_diff(of, state).await?;
                let mut changed =
                    changes.into_iter().filter(|change| change.key.event_type == kind).peekable();
                match changed.peek() {
                    None => members,
                    Some(_) => {
                        let mut members = (*members).clone();
                        changed.for_each(|change| members.set(&change.key.state_key, change.after));
                        Arc::new(members)
                    }
                }
            }
            None => {
                let mut members = Members::default();
                for entry in self.state_of(state, Some(&kind)).await? {
                    members.set(&entry.key.state_key, Some(entry.value));
                }
                Arc::new(members)
            }
        };
        if self.current_state(room).await? == Some(state) {
            self.0.caches.members.insert(room.to_owned(), (state, members.clone()));
        }
        Ok(members)
    }

    /// The members of a room now; none if this server does not know the room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn current_members(&self, room: &RoomId) -> Result<Arc<Members>, StoreError> {
        match self.current_state(room).await? {
            Some(state) => self.members(room, state).await,
            None => Ok(Arc::default()),
        }
    }

    /// A user's membership in one state of a room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn membership_in(
        &self,
        state: StateId,
        user: &UserId,
    ) -> Result<Option<Membership>, StoreError> {
        let value = self.state_entry(state, StateEventType::RoomMember, user.as_str()).await?;
        Ok(value.and_then(|value| value.membership))
    }

    /// A user's membership of a room now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        match self.current_state(room).await? {
            Some(state) => self.membership_in(state, user).await,
            None => Ok(None),
        }
    }

    /// Whether a user is in a room, or may be: in one whose members are not all known yet, nobody can say of those who
    /// are not known, if their server is said to be there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn may_be_joined(&self, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
        match self.membership(room, user).await? {
            Some(membership) => Ok(membership == Membership::Join),
            None => Ok(self.is_partial(room).await? && self.has_server(room, user.server_name()).await?),
        }
    }
}
