//! What local users are found by.

use ruma::{OwnedUserId, UserId};

use super::{
    AccountError, Accounts,
    profile::{PROFILES, name_in},
    user::USERS,
};
use crate::{
    limits::USER_WORDS_MAX,
    log::Commit,
    store::table::{Rows, TableId},
    types::words::beginnings,
};

/// Users by the words of their names. Whoever looks somebody up here asks whether they still have that name.
pub const USER_WORDS: Rows<(String, OwnedUserId), ()> = Rows::new(TableId::UserWord);

/// What a user with this id and this name is found by.
#[must_use]
pub fn words_of(user: &UserId, name: Option<&str>) -> Vec<String> {
    let mut words = beginnings(user.localpart());
    words.extend(name.map(beginnings).unwrap_or_default());
    words.sort_unstable();
    words.dedup();
    words.truncate(USER_WORDS_MAX);
    words
}

/// Has `commit` change what `user` is found by.
pub(super) fn rename(commit: &mut Commit, user: &UserId, (before, after): (Option<&str>, Option<&str>)) {
    let (old, new) = (words_of(user, before), words_of(user, after));
    let row = |word: &String| (word.clone(), user.to_owned());
    old.iter().filter(|word| !new.contains(word)).for_each(|word| commit.delete(&USER_WORDS, &row(word)));
    new.iter().for_each(|word| commit.put(&USER_WORDS, &row(word), &()));
}

/// Has `commit` forget what `user` is found by.
pub(super) fn drop_words(commit: &mut Commit, user: &UserId, name: Option<&str>) {
    for word in words_of(user, name) {
        commit.delete(&USER_WORDS, &(word, user.to_owned()));
    }
}

/// A display name and an avatar.
pub type Face = (Option<String>, Option<String>);

impl Accounts {
    /// How those of `users` show themselves who may be found, in the order asked for: nothing of those who have
    /// left for good or are locked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn faces(&self, users: &[OwnedUserId]) -> Result<Vec<Option<Face>>, AccountError> {
        let keys: Vec<_> = users.iter().map(|user| (user.clone(),)).collect();
        let rows = self.log.db().rows(&USERS, &keys).await?;
        let displays = self.displays(users).await?;
        let shown = |(row, display)| {
            let row: Option<super::User> = row;
            row.filter(|row| !row.deactivated && !row.locked).map(|_| display)
        };
        Ok(rows.into_iter().zip(displays).map(shown).collect())
    }

    /// Has `commit` write what local users are found by, the first after `after`; the last one, if there are more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn index_words(
        &self,
        commit: &mut Commit,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Option<OwnedUserId>, AccountError> {
        let users = self.users(after, limit).await?;
        let keys: Vec<_> = users.iter().map(|(user, _)| (user.clone(),)).collect();
        let profiles = self.log.db().rows(&PROFILES, &keys).await?;
        for ((user, row), profile) in users.iter().zip(profiles) {
            if !row.deactivated {
                let profile = profile.unwrap_or_default();
                rename(commit, user, (None, name_in(&profile)));
            }
        }
        Ok(users.last().map(|(user, _)| user.clone()))
    }
}
