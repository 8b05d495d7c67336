//! Profiles of local users, told to those who share a room with them.
//!
//! What is told: the fields that changed, of everybody with whom the user shares a room; all fields of those whom the client
//! comes to know; and who shares no room with the user any more. Of users of other servers this server knows nothing but what
//! their memberships say, which every client has anyway.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4429>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Sync, SyncError, SyncRequest, SyncResponse, filter::is_lazy, person::Cut, response::UserUpdate,
    rooms::Moved,
};
use crate::{
    account::{Caller, ProfileNews},
    device::ListChanges,
    types::{Membership, Position},
};

/// Which fields of profiles a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileFields {
    /// All.
    All,
    /// Those of these names.
    Named(BTreeSet<String>),
}

impl Default for ProfileFields {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

/// Where they are in the filter of a sync.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OfSync {
    #[serde(rename = "org.matrix.msc4429.profile_fields")]
    profile_fields: OfProfiles,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OfProfiles {
    ids: BTreeSet<String>,
}

impl ProfileFields {
    /// Those that the filter of a sync names; what makes no sense counts as absent.
    #[must_use]
    pub fn of_filter(filter: &str) -> Self {
        let filter = serde_json::from_str(filter).map(|OfSync { profile_fields }| profile_fields.ids);
        Self::Named(filter.unwrap_or_default())
    }

    /// Whether none is wanted.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Named(names) if names.is_empty())
    }

    /// Whether all of these are among `others`.
    pub(super) fn is_within(&self, others: &Self) -> bool {
        match (self, others) {
            (_, Self::All) => true,
            (Self::All, Self::Named(_)) => false,
            (Self::Named(these), Self::Named(others)) => these.is_subset(others),
        }
    }

    fn cut(&self, news: &mut ProfileNews) {
        if let Self::Named(names) = self {
            news.updated.retain(|name, _| names.contains(name));
            news.removed.retain(|name| names.contains(name));
        }
    }
}

/// Of whose profiles a client is told what.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// What changed.
    pub(super) changed: BTreeSet<OwnedUserId>,
    /// Everything.
    pub(super) whole: BTreeSet<OwnedUserId>,
    /// That there is no more to come.
    pub(super) left: BTreeSet<OwnedUserId>,
}

/// What of each profile is told; nothing stands for the end.
pub(super) type Told = BTreeMap<OwnedUserId, Option<ProfileNews>>;

impl Sync {
    /// Adds profiles.
    pub(super) async fn add_profiles(
        &self,
        caller: &Caller,
        request: &SyncRequest,
        (cut, moved, changes): (&Cut, &Moved, &ListChanges),
        response: &mut SyncResponse,
    ) -> Result<(), SyncError> {
        if request.profile_fields.is_empty() {
            return Ok(());
        }
        let user = &caller.user_id;
        let is_lazy = is_lazy(&request.filter.room);
        let mut telling =
            Telling { whole: self.acquainted(user, moved.introduced.clone()).await?, ..Telling::default() };
        if cut.is_initial() {
            telling.whole.insert(user.clone());
            if !is_lazy {
                telling.whole.extend(self.history.companions(user).await?);
            }
        } else {
            telling.changed = self.profiles_changed(user, cut.from.log).await?;
            telling.left.clone_from(&changes.left);
            telling.whole.extend(changes.came.iter().cloned());
            if !is_lazy {
                telling.whole.extend(changes.found.iter().cloned());
                for room in &moved.revealed {
                    let state = self.history.state_at_position(room, cut.to.log).await?;
                    let members = self.history.members(room, state).await?;
                    telling.whole.extend(members.with(Membership::Join).cloned());
                }
            }
            // Of themselves the user has been told at the beginning.
            telling.whole.remove(user);
        }
        let told = self.told_of_profiles(telling, cut.from.log, &request.profile_fields).await?;
        response.users =
            told.into_iter().map(|(user, news)| (user, update(news, cut.is_initial()))).collect();
        response.users.retain(|_, update| !update.is_empty());
        Ok(())
    }

    /// Whose profiles changed after `since` of those with whom `user` shares a room, and the user's own.
    pub(super) async fn profiles_changed(
        &self,
        user: &UserId,
        since: Position,
    ) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let changed = self.accounts.profiles_changed(since).await?;
        Ok(self.history.sharing(user, &changed).await?)
    }

    /// Those of `others` who are of this server and share a room with the user.
    pub(super) async fn acquainted(
        &self,
        user: &UserId,
        mut others: BTreeSet<OwnedUserId>,
    ) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        others.retain(|other| self.history.is_local(other));
        Ok(self.history.sharing(user, &others).await?)
    }

    /// What there is to say, of the fields that are wanted and of users of this server.
    pub(super) async fn told_of_profiles(
        &self,
        telling: Telling,
        since: Position,
        fields: &ProfileFields,
    ) -> Result<Told, SyncError> {
        let Telling { mut changed, mut whole, left } = telling;
        changed.retain(|user| !whole.contains(user));
        whole.retain(|user| self.history.is_local(user));
        let wanted = changed.into_iter().map(|user| (user, Some(since)));
        let wanted: Vec<_> = wanted.chain(whole.into_iter().map(|user| (user, None))).collect();
        let found = self.accounts.profile_news(&wanted).await?;
        let mut told: Told = BTreeMap::new();
        for ((user, _), mut news) in wanted.into_iter().zip(found) {
            fields.cut(&mut news);
            told.insert(user, Some(news));
        }
        told.retain(|_, news| news.as_ref().is_some_and(|news| !news.is_empty()));
        told.extend(left.into_iter().filter(|user| self.history.is_local(user)).map(|user| (user, None)));
        Ok(told)
    }
}

/// As legacy sync has it: a field that is gone is `null`. A client that begins has none that could be gone.
fn update(news: Option<ProfileNews>, is_initial: bool) -> UserUpdate {
    let Some(ProfileNews { updated, removed }) = news else { return UserUpdate { profile_updates: None } };
    let removed = removed.into_iter().filter(|_| !is_initial).map(|name| (name, Value::Null));
    UserUpdate { profile_updates: Some(updated.into_iter().chain(removed).collect()) }
}
