//! People by the beginnings of the words in their names.
//!
//! The words of local users are written with their profiles; those of others, and which rooms are open to
//! everybody, by a reader of the log (`reader`). A word leads to users who have, or had, a name with it; `sight`
//! tells whether the searcher may find them, and by which name: never by one that is only shown in rooms that the
//! searcher is not in.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-directory>

mod forget;
mod reader;
mod sight;

use std::{collections::HashSet, fmt, sync::Arc};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{SearchError, follow::Progress};
use crate::{
    account::{Accounts, USER_WORDS, words_of},
    history::{History, tables::OPEN_ROOMS},
    limits::{USER_SEARCH_CHUNK, USER_SEARCH_LOOKED_AT_MAX},
    log::Log,
    store::{Key, Scan, StoreError},
    types::words::{beginnings, typed},
    upkeep,
};
use sight::Sight;

/// Somebody who was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who it is.
    pub user_id: OwnedUserId,
    /// How they are called.
    pub display_name: Option<String>,
    /// The address of their picture.
    pub avatar_url: Option<String>,
}

/// Finds people. Cheap to clone.
#[derive(Clone)]
pub struct People(Arc<Inner>);

struct Inner {
    history: History,
    accounts: Accounts,
    /// Whether every local user may be found by everybody.
    everybody: bool,
    progress: Progress,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("People")
    }
}

impl People {
    /// Begins to follow the log on `tasks`, until `stopping`. With `everybody`, local users are found by those who
    /// share no room with them too.
    #[must_use]
    pub fn start(
        history: History,
        accounts: Accounts,
        everybody: bool,
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) -> Self {
        let this = Self(Arc::new(Inner { history, accounts, everybody, progress: Progress::default() }));
        let (follower, until) = (this.clone(), stopping.clone());
        let following = move || reader::run(follower.clone(), until.clone());
        tasks.spawn(upkeep::keep("the user directory", stopping, following));
        this
    }

    fn log(&self) -> &Log {
        self.0.history.log()
    }

    /// Whom `searcher` finds by `term`, at most `limit`, and whether there may be others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(
        &self,
        searcher: &UserId,
        term: &str,
        limit: usize,
    ) -> Result<(Vec<Person>, bool), SearchError> {
        let typed = typed(term);
        let Some(first) = typed.first() else { return Ok((Vec::new(), false)) };
        // Where other processes write too, looking at all rooms takes too long to wait for.
        if self.log().db().is_exclusive() {
            self.0.progress.catch_up(self.log()).await;
        }
        let mut sight = Sight::of(self, searcher).await?;
        let (mut from, to) = beginning_with(first);
        let (mut found, mut seen) = (Vec::new(), HashSet::from([searcher.to_owned()]));
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: USER_SEARCH_CHUNK };
            let rows = self.log().db().scan(&USER_WORDS, scan).await?;
            let is_last = rows.len() < USER_SEARCH_CHUNK;
            from = rows.last().map_or_else(|| to.clone(), |(last, ())| USER_WORDS.key(last).successor());
            let users: Vec<OwnedUserId> = rows.into_iter().map(|((_, user), ())| user).collect();
            let new: Vec<OwnedUserId> = users.into_iter().filter(|user| seen.insert(user.clone())).collect();
            for person in sight.known(new).await? {
                if !is_meant(&person, &typed) {
                    continue;
                }
                if found.len() >= limit {
                    return Ok((found, true));
                }
                found.push(person);
            }
            if is_last {
                return Ok((found, false));
            }
            if seen.len() > USER_SEARCH_LOOKED_AT_MAX {
                return Ok((found, true));
            }
        }
    }

    /// The rooms that everybody may join or read.
    async fn open_rooms(&self, limit: usize) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rows = self.log().db().range(&OPEN_ROOMS, &(), limit).await?;
        Ok(rows.into_iter().map(|((room,), ())| room).collect())
    }
}

/// Whether a person is found by all of these words: of their name, their id, or the server in it.
fn is_meant(person: &Person, typed: &[String]) -> bool {
    let mut known = words_of(&person.user_id, person.display_name.as_deref());
    known.extend(beginnings(person.user_id.server_name().as_str()));
    typed.iter().all(|word| known.iter().any(|known| known.starts_with(word.as_str())))
}

/// The rows of the words that begin with `word`.
fn beginning_with(word: &str) -> (Key, Key) {
    let mut key = USER_WORDS.prefix(&(String::from(word),));
    // Without what ends the string.
    key.0.truncate(key.0.len().saturating_sub(2));
    let to = key.after_prefix();
    (key, to)
}
