//! Taking the people of a server out of the index.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, ServerName};

use super::{People, SearchError};
use crate::{
    account::USER_WORDS,
    limits::{SCAN_ROWS_MAX, SERVER_PEOPLE_FORGOTTEN_MAX},
    log::Commit,
    store::Scan,
};

impl People {
    /// Takes users of another server out of the index, 10,000 at most: how many they were, and whether there are others.
    /// Who comes into a room later is found again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_server(&self, server: &ServerName) -> Result<(usize, bool), SearchError> {
        let all = USER_WORDS.prefix(&());
        let (mut from, to) = (all.clone(), all.after_prefix());
        let (mut gone, mut more) = (BTreeSet::<OwnedUserId>::new(), false);
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log().db().scan(&USER_WORDS, scan).await?;
            let Some((last, ())) = rows.last() else { return Ok((gone.len(), more)) };
            from = USER_WORDS.key(last).successor();
            let mut commit = Commit::new();
            for ((word, user), ()) in rows {
                if user.server_name() != server || *server == *self.0.history.server() {
                    continue;
                }
                // Whoever goes, goes with all their words.
                if gone.len() >= SERVER_PEOPLE_FORGOTTEN_MAX && !gone.contains(&user) {
                    more = true;
                    continue;
                }
                commit.delete(&USER_WORDS, &(word, user.clone()));
                gone.insert(user);
            }
            if !commit.is_empty() {
                self.log().commit(commit).await?;
            }
        }
    }
}
