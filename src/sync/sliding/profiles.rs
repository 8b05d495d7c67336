//! The extension for profiles.
//!
//! A connection remembers up to where its client has been told of changes, which fields it wanted, and of each room whether it
//! has the profiles of all members, or of those whom it has been sent. What changes is told wherever the user shares a room; all
//! of a profile when a room is given to the client for the first time, or somebody comes into one.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4262>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId};
use serde::Serialize;
use serde_json::Value;

use super::{
    Turn,
    connection::{Faces, Mark, ProfilesSent},
    extensions::Shown,
    roster::Standing,
};
use crate::{
    account::ProfileNews,
    sync::{Sync, SyncError, profiles::Telling},
    types::Membership,
};

/// What the client is told, by user: nothing of those whom it need not follow any more.
#[derive(Debug, Default, Serialize)]
pub(super) struct ProfilesResult {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    users: BTreeMap<OwnedUserId, Option<Changes>>,
}

#[derive(Debug, Serialize)]
struct Changes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    updated: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    removed: BTreeSet<String>,
}

impl ProfilesResult {
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Sync {
    /// Profiles that the client lacks.
    pub(super) async fn profiles_of(
        &self,
        turn: &mut Turn<'_>,
        shown: Shown<'_>,
    ) -> Result<ProfilesResult, SyncError> {
        let user = turn.caller.user_id.clone();
        let fields = turn.request.extensions.profiles.fields();
        let ProfilesSent { mark, fields: before } = turn.draft.profiles.clone();
        // What it has of profiles is not what it wants now.
        let anew = mark == Mark::Never || !fields.is_within(&before);
        let mut telling = Telling::default();
        let since = mark.upto(turn.from).unwrap_or(turn.from);
        if mark != Mark::Never && (turn.has_profile_news() || since < turn.from) {
            telling.changed = self.profiles_changed(&user, since).await?;
            let changes = self.met(turn, since).await?;
            telling.left.clone_from(&changes.left);
            telling.whole.extend(changes.came.iter().cloned());
        }
        let (faces, introduced) = self.faces(turn, shown, anew).await?;
        telling.whole.extend(self.acquainted(&user, introduced).await?);
        // Of themselves the user is told at the beginning, and then what changes.
        telling.whole.remove(&user);
        telling.whole.extend(anew.then(|| user.clone()));
        let told = self.told_of_profiles(telling, since, &fields).await?;
        // From here on nothing fails.
        if anew {
            turn.draft.rooms.values_mut().for_each(|sent| sent.faces = Faces::None);
        }
        for (room, faces) in faces {
            turn.draft.rooms.entry(room).and_modify(|sent| sent.faces = faces);
        }
        turn.draft.profiles = ProfilesSent { mark: Mark::Live, fields };
        let is_initial = turn.is_initial;
        let users = told.into_iter().map(|(user, news)| (user, news.map(|news| changes(news, is_initial))));
        let users = users.filter(|(_, changes)| changes.as_ref().is_none_or(|changes| !changes.is_empty()));
        Ok(ProfilesResult { users: users.collect() })
    }

    /// How much of the profiles of each room's members the client will have, and whom it is to be told of for that.
    async fn faces(
        &self,
        turn: &Turn<'_>,
        (rooms, rendered): Shown<'_>,
        anew: bool,
    ) -> Result<(BTreeMap<OwnedRoomId, Faces>, BTreeSet<OwnedUserId>), SyncError> {
        let scope = &turn.request.extensions.profiles.scope;
        let (mut faces, mut introduced) = (BTreeMap::new(), BTreeSet::new());
        for (room, found) in rooms {
            let Some(sent) = turn.draft.rooms.get(room).filter(|sent| sent.room == Mark::Live) else {
                continue;
            };
            if !turn.roster.entry(room).is_some_and(|entry| matches!(entry.standing, Standing::Joined(_))) {
                continue;
            }
            let has = if anew { Faces::None } else { sent.faces };
            let members = turn.members.iter().filter(|(of, _)| of == room).flat_map(|(_, members)| members);
            if !scope.covers(room.as_str(), &found.lists, found.subscribed) {
                if has == Faces::Shown && members.count() > 0 {
                    faces.insert(room.clone(), Faces::None);
                }
                continue;
            }
            let rendered = rendered.get(room);
            // A client that has only now come to want profiles, or others, may have what is old of anybody.
            let is_fresh = turn.is_initial || !anew;
            let begins = is_fresh && rendered.is_some_and(|rendered| rendered.result.initial == Some(true));
            match (has, found.config.is_lazy()) {
                (Faces::All, _) => {}
                (Faces::None, true) if !begins => drop(faces.insert(room.clone(), Faces::All)),
                (_, false) => drop(faces.insert(room.clone(), Faces::All)),
                (_, true) => {
                    introduced.extend(members.map(|(user, _)| user.clone()));
                    let heroes = rendered.and_then(|rendered| rendered.result.heroes.as_ref());
                    introduced.extend(heroes.into_iter().flatten().map(|hero| hero.user_id.clone()));
                    faces.insert(room.clone(), Faces::Shown);
                }
            }
            if faces.get(room) == Some(&Faces::All) {
                let members = self.history.current_members(room).await?;
                introduced.extend(members.with(Membership::Join).cloned());
            }
        }
        Ok((faces, introduced))
    }
}

impl Turn<'_> {
    /// The extension is off, or has failed: what changes now is for later.
    pub(super) fn pass_profiles(&mut self) {
        if self.has_profile_news() {
            self.draft.profiles.mark.leave_behind(self.from);
        }
        for (room, _) in self.members.iter().filter(|(_, members)| !members.is_empty()) {
            if let Some(sent) = self.draft.rooms.get_mut(room).filter(|sent| sent.faces == Faces::Shown) {
                sent.faces = Faces::None;
            }
        }
    }

    /// Something came that may have changed of whose profiles the client is told, or what.
    fn has_profile_news(&self) -> bool {
        self.profiles_moved || !self.moved.is_empty()
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.removed.is_empty()
    }
}

/// A client that begins has nothing that could be gone.
fn changes(ProfileNews { updated, removed }: ProfileNews, is_initial: bool) -> Changes {
    Changes { updated, removed: if is_initial { BTreeSet::new() } else { removed } }
}
