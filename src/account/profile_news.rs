//! Which field of a profile changed when, so that clients are told of those alone.
//!
//! A change is a fact in the lane of all profiles, one for each user, and a row for each field. Whoever reads the lane looks for
//! all facts after their token, and not only those of a page: the fact of a user may have moved on to a later position meanwhile,
//! while the rows of what changed before that stay where they are.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde_json::Value;

use super::{
    Accounts,
    profile::{PROFILES, Profile},
};
use crate::{
    limits::{PROFILE_REMOVALS_KEPT, PROFILES_READ_AT_ONCE, SCAN_ROWS_MAX},
    log::Commit,
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
    types::{Fact, Lane, Position},
};

/// By user and field, also of fields that were removed. The rows are bytes: the position of the last change.
pub(super) const PROFILE_CHANGES: Rows<(OwnedUserId, String), ()> = Rows::new(TableId::ProfileChange);

/// What there is to tell of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileNews {
    /// Fields that were set, with what they are now.
    pub updated: BTreeMap<String, Value>,
    /// Fields that were removed.
    pub removed: BTreeSet<String>,
}

impl ProfileNews {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.removed.is_empty()
    }
}

impl Accounts {
    /// The local users whose profiles changed after `since`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn profiles_changed(&self, since: Position) -> Result<BTreeSet<OwnedUserId>, StoreError> {
        if !self.log.may_have(&Lane::Profiles, since) {
            return Ok(BTreeSet::new());
        }
        let facts = self.log.registers(&Lane::Profiles, since, Position::MAX).await?;
        let user = |(_, fact)| match fact {
            Fact::Profile { user_id } => Some(user_id),
            _ => None,
        };
        Ok(facts.into_iter().filter_map(user).collect())
    }

    /// What of the profiles of `users` changed after the position beside each, in the same order. Without a position:
    /// everything that is there, and what of the rest is known to have been there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn profile_news(
        &self,
        users: &[(OwnedUserId, Option<Position>)],
    ) -> Result<Vec<ProfileNews>, StoreError> {
        let mut all = Vec::with_capacity(users.len());
        for users in users.chunks(PROFILES_READ_AT_ONCE) {
            let keys: Vec<(OwnedUserId,)> = users.iter().map(|(user, _)| (user.clone(),)).collect();
            let scans: Vec<Scan> = users.iter().map(|(user, _)| changes_of(user)).collect();
            // Read first: what changes from here on has a later position.
            let changes = self.log.db().scan_many(&scans).await?;
            let profiles = self.log.db().rows(&PROFILES, &keys).await?;
            for (((_, since), rows), profile) in users.iter().zip(changes).zip(profiles) {
                all.push(news(profile.unwrap_or_default(), &read(rows)?, *since));
            }
        }
        Ok(all)
    }

    /// Has `commit` tell of how a profile changes.
    pub(super) async fn tell_profile(
        &self,
        commit: &mut Commit,
        user: &UserId,
        (before, after): (&Profile, &Profile),
    ) -> Result<(), StoreError> {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        let changed: BTreeSet<&String> = changed.collect();
        commit.fact(Lane::Profiles, Fact::Profile { user_id: user.to_owned() });
        for name in &changed {
            commit.put_stamped(row(user, name), Vec::new(), &[]);
        }
        let removed = changed.iter().filter(|name| !after.contains_key(**name)).count();
        if removed == 0 {
            return Ok(());
        }
        let known = self.log.db().scan_many(&[changes_of(user)]).await?.concat();
        let mut gone = read(known)?;
        gone.retain(|(name, _)| !after.contains_key(name) && !changed.contains(name));
        gone.sort_by_key(|(_, at)| *at);
        for (name, _) in gone.iter().take((gone.len() + removed).saturating_sub(PROFILE_REMOVALS_KEPT)) {
            commit.delete_key(row(user, name));
        }
        Ok(())
    }
}

fn row(user: &UserId, name: &str) -> crate::store::Key {
    PROFILE_CHANGES.key(&(user.to_owned(), name.to_owned()))
}

/// The rows of one user: no more than fields fit into a profile, and some that were removed.
fn changes_of(user: &UserId) -> Scan {
    let from = PROFILE_CHANGES.prefix(&(user.to_owned(),));
    Scan { to: from.after_prefix(), from, reverse: false, limit: SCAN_ROWS_MAX }
}

fn read(rows: Vec<(crate::store::Key, Vec<u8>)>) -> Result<Vec<(String, Position)>, StoreError> {
    let read = |(key, value): (crate::store::Key, Vec<u8>)| {
        let (_, name) = PROFILE_CHANGES.decode_key(&key)?;
        match <[u8; 8]>::try_from(value.as_slice()) {
            Ok(at) => Ok((name, Position(u64::from_be_bytes(at)))),
            Err(_) => Err(StoreError::Corrupt(format!("a change of a profile: {value:02x?}"))),
        }
    };
    rows.into_iter().map(read).collect()
}

fn news(mut profile: Profile, changes: &[(String, Position)], since: Option<Position>) -> ProfileNews {
    let mut news = ProfileNews::default();
    for (name, at) in changes {
        if since.is_some_and(|since| *at <= since) {
            continue;
        }
        match profile.remove(name) {
            Some(value) => drop(news.updated.insert(name.clone(), value)),
            None => drop(news.removed.insert(name.clone())),
        }
    }
    if since.is_none() {
        // What was set before changes were written down has no row.
        news.updated.append(&mut profile);
    }
    news
}
