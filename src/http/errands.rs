//! What is done for users after they have been answered: for each user one thing after the other.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use ruma::{OwnedUserId, UserId};
use tokio::sync::Mutex as AsyncMutex;

use crate::limits::{ERRAND_USERS_MAX, ERRANDS_PER_USER_MAX};

/// What is under way or waits, by user. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Errands(Arc<Mutex<BTreeMap<OwnedUserId, Line>>>);

/// The errands of one user.
#[derive(Debug, Default)]
struct Line {
    turn: Arc<AsyncMutex<()>>,
    /// How many there are.
    count: usize,
}

/// A place among the errands of a user, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Errand {
    errands: Errands,
    user: OwnedUserId,
    turn: Arc<AsyncMutex<()>>,
}

impl Errands {
    /// A place for one errand more; nothing if there are too many already.
    pub fn begin(&self, user: &UserId) -> Option<Errand> {
        let mut lines = self.0.lock();
        let is_full = match lines.get(user) {
            Some(line) => line.count >= ERRANDS_PER_USER_MAX,
            None => lines.len() >= ERRAND_USERS_MAX,
        };
        if is_full {
            return None;
        }
        let line = lines.entry(user.to_owned()).or_default();
        line.count += 1;
        Some(Errand { errands: self.clone(), user: user.to_owned(), turn: line.turn.clone() })
    }

    /// Whether nothing is under way, and nothing waits.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Errand {
    /// Does `work` when those before it are done.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let _turn = self.turn.lock().await;
        work.await
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let mut lines = self.errands.0.lock();
        if let Some(line) = lines.get_mut(&self.user) {
            line.count -= 1;
            if line.count == 0 {
                lines.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use ruma::user_id;

    use super::{ERRANDS_PER_USER_MAX, Errands};

    #[tokio::test]
    async fn a_user_has_few_errands_and_one_of_them_is_done_at_a_time() {
        let (errands, alice) = (Errands::default(), user_id!("@alice:here"));
        let all: Vec<_> = (0..ERRANDS_PER_USER_MAX).map(|_| errands.begin(alice).unwrap()).collect();
        assert!(errands.begin(alice).is_none());
        drop(errands.begin(user_id!("@bob:here")).expect("everybody has their own"));
        let under_way = AtomicUsize::new(0);
        let work = async || {
            assert_eq!(under_way.fetch_add(1, Ordering::Relaxed), 0);
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::Relaxed);
        };
        join_all(all.into_iter().map(|errand| errand.run(work()))).await;
        assert!(errands.are_done());
        assert!(errands.begin(alice).is_some());
    }
}
