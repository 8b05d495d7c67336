//! What a user wants to be told of, and of whom they want to hear nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedUserId, UserId, push::Ruleset};
use serde::{Deserialize, de::IgnoredAny};

use super::{Push, PushError};
use crate::{
    account::{INVITE_PERMISSION, InvitePermission, Standing},
    types::{Lane, Position, RegisterKey},
};

const PUSH_RULES: &str = "m.push_rules";
const IGNORED_USERS: &str = "m.ignored_user_list";

/// Whether global account data of a type decides what counts as unread.
#[must_use]
pub fn decides_counts(event_type: &str) -> bool {
    [PUSH_RULES, IGNORED_USERS].contains(&event_type)
}

/// What matters of a user's account data here.
#[derive(Debug)]
pub struct Person {
    /// The push rules: the server's defaults with what the user changed.
    pub rules: Ruleset,
    /// Users of whom nothing is shown.
    pub ignored: BTreeSet<OwnedUserId>,
    /// Whose invites are shown.
    pub invites: InvitePermission,
    /// When the account data behind this was last written.
    written: Vec<Option<Position>>,
}

#[derive(Deserialize)]
struct IgnoredUsers {
    ignored_users: BTreeMap<String, IgnoredAny>,
}

impl Person {
    /// When any of this was last changed: an older person is another one.
    #[must_use]
    pub fn version(&self) -> Option<Position> {
        self.written.iter().flatten().max().copied()
    }

    /// Whether an invite by `inviter` is kept from the user's sight.
    #[must_use]
    pub fn overlooks(&self, inviter: &UserId) -> bool {
        self.ignored.contains(inviter) || self.invites.hides(inviter)
    }
}

impl Push {
    /// From where on a user is told of what happens; nothing if they are not, since nobody may use their account now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn told_since(&self, user: &UserId) -> Result<Option<Position>, PushError> {
        let account = self.0.accounts.user(user).await?;
        let open = account.filter(|user| !user.deactivated && user.standing() != Standing::Locked);
        Ok(open.map(|user| user.unlocked_at.unwrap_or_default()))
    }

    /// What `user` wants, kept in memory until they change it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn person(&self, user: &UserId) -> Result<Arc<Person>, PushError> {
        let lane = Lane::Account(user.to_owned());
        let known = self.0.people.get(user);
        if let Some((known, at)) = &known
            && !self.0.log.may_have(&lane, *at)
        {
            return Ok(known.clone());
        }
        let at = self.0.log.head();
        let kinds = [PUSH_RULES, IGNORED_USERS].into_iter().chain(INVITE_PERMISSION);
        let registers: Vec<_> = kinds.map(RegisterKey::global_data).collect();
        let written = self.0.log.written(&lane, &registers).await?;
        if let Some((known, _)) = known.filter(|(known, _)| known.written == written) {
            self.0.people.insert(user.to_owned(), (known.clone(), at));
            return Ok(known);
        }
        let ignored: Option<IgnoredUsers> = self.0.accounts.read_data(user, IGNORED_USERS).await?;
        let ignored: BTreeSet<String> =
            ignored.map(|list| list.ignored_users).unwrap_or_default().into_keys().collect();
        // What is no user id does not spoil the rest.
        let mut ignored: BTreeSet<OwnedUserId> =
            ignored.into_iter().filter_map(|user| user.try_into().ok()).collect();
        // Nobody can want to hear nothing of themselves, nor of what the server has to say.
        ignored.remove(user);
        if let Some(announcer) = self.0.accounts.announcer() {
            ignored.remove(announcer);
        }
        let rules = self.0.accounts.push_rules(user).await?;
        let invites = self.0.accounts.invite_permission(user).await?;
        let person = Arc::new(Person { rules, ignored, invites, written });
        self.0.people.insert(user.to_owned(), (person.clone(), at));
        Ok(person)
    }
}
