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

/// The fields of a profile by name.
pub type Profile = BTreeMap<String, Value>;

pub(super) const PROFILES: Rows<(OwnedUserId,), Profile> = Rows::new(TableId::Profile);

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
    pub async fn profile(&self, user: &UserId) -> Result<Profile, AccountError> {
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
        let text =
            |profile: &Profile, name: &str| profile.get(name).and_then(Value::as_str).map(str::to_owned);
        let display = |profile: Option<Profile>| {
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
        let value = value.filter(|value| !is_emptied(name, value));
        check_field(name, value.as_ref())?;
        let change = |profile: &mut Profile| match &value {
            Some(value) => drop(profile.insert(name.to_owned(), value.clone())),
            None => drop(profile.remove(name)),
        };
        self.change_profile(user, change).await.map(drop)
    }

    /// Gives a user the profile that is `fields` and nothing else; says what it was and is.
    ///
    /// # Errors
    /// As for [`Self::set_profile_field`], of the first field that is at fault; then nothing is changed.
    pub async fn replace_profile(
        &self,
        user: &UserId,
        fields: Profile,
    ) -> Result<(Profile, Profile), AccountError> {
        let mut fields = fields;
        fields.retain(|name, value| !is_emptied(name, value));
        fields.iter().try_for_each(|(name, value)| check_field(name, Some(value)))?;
        self.change_profile(user, |profile| profile.clone_from(&fields)).await
    }

    /// Sets all of `fields` in a user's profile and leaves the others as they are; says what it was and is.
    ///
    /// # Errors
    /// As for [`Self::replace_profile`].
    pub async fn merge_profile(
        &self,
        user: &UserId,
        fields: Profile,
    ) -> Result<(Profile, Profile), AccountError> {
        for (name, value) in &fields {
            check_field(name, Some(value).filter(|value| !is_emptied(name, value)))?;
        }
        let change = |profile: &mut Profile| {
            profile.extend(fields.clone());
            profile.retain(|name, value| !is_emptied(name, value));
        };
        self.change_profile(user, change).await
    }

    /// Changes a profile and tells those who share rooms with the user; says what it was and is.
    async fn change_profile(
        &self,
        user: &UserId,
        change: impl Fn(&mut Profile),
    ) -> Result<(Profile, Profile), AccountError> {
        let key = (user.to_owned(),);
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let row = self.log.db().row(&PROFILES, &key).await?;
            let before = row.clone().unwrap_or_default();
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok((before, after));
            }
            if PROFILES.encode(&after).len() > PROFILE_BYTES_MAX {
                return Err(AccountError::ProfileTooLarge);
            }
            let mut commit = Commit::new();
            match &row {
                Some(before) => commit.expect_equals(&PROFILES, &key, before),
                None => commit.expect_absent(&PROFILES, &key),
            }
            commit.put(&PROFILES, &key, &after);
            if name_in(&before) != name_in(&after) {
                rename(&mut commit, user, (name_in(&before), name_in(&after)));
            }
            self.tell_profile(&mut commit, user, (&before, &after)).await?;
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(|_| (before, after))?),
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
pub(super) fn name_in(profile: &Profile) -> Option<&str> {
    profile.get("displayname").and_then(Value::as_str)
}

/// Whether a value stands for none: clients remove a name or an avatar by setting it to nothing.
fn is_emptied(name: &str, value: &Value) -> bool {
    ["displayname", "avatar_url"].contains(&name) && value == ""
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
