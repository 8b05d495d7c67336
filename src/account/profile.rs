//! Profiles: any field, `displayname` and `avatar_url` among them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use serde_json::Value;

use super::{AccountError, Accounts, words::rename};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, PROFILE_BYTES_MAX, PROFILE_KEY_BYTES_MAX},
    log::{Commit, CommitError},
    store::table::{Rows, TableId},
};

pub(super) const PROFILES: Rows<(OwnedUserId,), BTreeMap<String, Value>> = Rows::new(TableId::Profile);

/// One field of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Accounts {
    /// The profile of a local user.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn profile(&self, user: &UserId) -> Result<BTreeMap<String, Value>, AccountError> {
        if !self.is_active(user).await? {
            return Err(AccountError::NotFound("user"));
        }
        Ok(self.log.db().row(&PROFILES, &(user.to_owned(),)).await?.unwrap_or_default())
    }

    /// The display name and the avatar of a local user, for membership events.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn display(&self, user: &UserId) -> Result<(Option<String>, Option<String>), AccountError> {
        let profile = self.log.db().row(&PROFILES, &(user.to_owned(),)).await?.unwrap_or_default();
        let text = |name: &str| profile.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok((text("displayname"), text("avatar_url")))
    }

    /// As [`Self::display`], for many users in the order asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn displays(
        &self,
        users: &[OwnedUserId],
    ) -> Result<Vec<(Option<String>, Option<String>)>, AccountError> {
        let keys: Vec<_> = users.iter().map(|user| (user.clone(),)).collect();
        let profiles = self.log.db().rows(&PROFILES, &keys).await?;
        let text = |profile: &BTreeMap<String, Value>, name: &str| {
            profile.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        let display = |profile: Option<BTreeMap<String, Value>>| {
            let profile = profile.unwrap_or_default();
            (text(&profile, "displayname"), text(&profile, "avatar_url"))
        };
        Ok(profiles.into_iter().map(display).collect())
    }

    /// Sets a field of a profile, or removes it.
    ///
    /// # Errors
    /// When the name or value is not allowed, or the profile would be too large.
    pub async fn set_profile_field(
        &self,
        user: &UserId,
        name: &str,
        value: Option<Value>,
    ) -> Result<(), AccountError> {
        // Clients remove a name or an avatar by setting it to nothing.
        let emptied = |value: &Value| ["displayname", "avatar_url"].contains(&name) && value == "";
        let value = value.filter(|value| !emptied(value));
        check_field(name, value.as_ref())?;
        let key = (user.to_owned(),);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.log.db().row(&PROFILES, &key).await?;
            let mut after = before.clone().unwrap_or_default();
            match &value {
                Some(value) => drop(after.insert(name.to_owned(), value.clone())),
                None => drop(after.remove(name)),
            }
            if PROFILES.encode(&after).len() > PROFILE_BYTES_MAX {
                return Err(AccountError::ProfileTooLarge);
            }
            let mut commit = Commit::new();
            match &before {
                Some(before) => commit.expect_equals(&PROFILES, &key, before),
                None => commit.expect_absent(&PROFILES, &key),
            }
            commit.put(&PROFILES, &key, &after);
            if name == "displayname" {
                let before = before.unwrap_or_default();
                rename(&mut commit, user, (name_in(&before), name_in(&after)));
            }
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
        Err(AccountError::Contended)
    }

    /// Adds to `commit` the first profile of a new user: the name they chose.
    pub(super) fn put_first_profile(&self, commit: &mut Commit, user: &UserId) {
        let profile = BTreeMap::from([("displayname".to_owned(), Value::from(user.localpart()))]);
        commit.put(&PROFILES, &(user.to_owned(),), &profile);
        rename(commit, user, (None, name_in(&profile)));
    }
}

/// The display name in a profile.
pub(super) fn name_in(profile: &BTreeMap<String, Value>) -> Option<&str> {
    profile.get("displayname").and_then(Value::as_str)
}

fn check_field(name: &str, value: Option<&Value>) -> Result<(), AccountError> {
    if name.len() > PROFILE_KEY_BYTES_MAX {
        return Err(AccountError::KeyTooLarge);
    }
    let known = ["displayname", "avatar_url", "m.tz"].contains(&name);
    let grammar = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    let namespaced = name.contains('.')
        && name.bytes().all(grammar)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !known && !namespaced {
        return Err(AccountError::Invalid("The name of the field is not a namespaced identifier".to_owned()));
    }
    match value {
        Some(value) if known && !value.is_string() => {
            Err(AccountError::BadJson(format!("{name} must be a string")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: Value, allowed: bool) {
        assert_eq!(check_field(name, Some(&value)).is_ok(), allowed, "{name} = {value}");
    }

    #[test]
    fn field_names_follow_the_grammar() {
        check("displayname", Value::from("Ann"), true);
        check("displayname", Value::from(1), false);
        check("avatar_url", Value::Null, false);
        check("org.example.pronouns", serde_json::json!(["they"]), true);
        check("m.tz", Value::from("Europe/Rome"), true);
        check("plain", Value::from(1), false);
        check("Org.Example", Value::from(1), false);
        check(".x", Value::from(1), false);
        check(&format!("a.{}", "x".repeat(300)), Value::from(1), false);
    }
}
