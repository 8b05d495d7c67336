//! The one task that writes: takes what waits, has the store judge and write it, publishes, answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Commit, CommitError, handle::Inner};
use crate::{
    limits::{COMMIT_GATHER_MAX, COMMIT_GROUP_MAX},
    store::{Batch, Outcome, StoreError},
    types::Position,
};

/// A commit on its way, and who waits for it (nobody, for clean-up that may lag).
pub(super) struct Pending {
    pub(super) commit: Commit,
    pub(super) answer: Option<oneshot::Sender<Result<Position, CommitError>>>,
}

/// Runs until every sender is gone and the queue is empty.
pub(super) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Pending>) {
    let mut group = Vec::with_capacity(COMMIT_GROUP_MAX);
    let mut is_crowded = false;
    while queue.recv_many(&mut group, COMMIT_GROUP_MAX).await > 0 {
        is_crowded |= group.len() > 1;
        if is_crowded {
            gather(&mut group, &mut queue).await;
        }
        is_crowded = group.len() > 1;
        write(&inner, std::mem::take(&mut group)).await;
    }
}

/// Lets whoever can run go first, as long as that brings more commits: a group costs a sync and some changes of
/// threads, however many are in it.
async fn gather(group: &mut Vec<Pending>, queue: &mut mpsc::Receiver<Pending>) {
    for _ in 0..COMMIT_GATHER_MAX {
        let before = group.len();
        tokio::task::yield_now().await;
        while group.len() < COMMIT_GROUP_MAX
            && let Ok(pending) = queue.try_recv()
        {
            group.push(pending);
        }
        if group.len() == before || group.len() >= COMMIT_GROUP_MAX {
            return;
        }
    }
}

async fn write(inner: &Inner, mut group: Vec<Pending>) {
    let batches: Vec<Batch> =
        group.iter_mut().map(|pending| std::mem::take(&mut pending.commit.batch)).collect();
    let slots: Vec<u32> = batches.iter().map(|batch| batch.slots).collect();
    let has_writes = batches.iter().any(|batch| !batch.writes.is_empty() || !batch.expects.is_empty());
    let expects: Vec<_> =
        batches.iter().map(|b| b.expects.iter().map(|e| e.key().clone()).collect()).collect();
    let expects: Vec<Vec<crate::store::Key>> = expects;
    let committed = match has_writes {
        true => inner.db.commit(batches).await.map(|committed| (committed.outcomes, committed.head)),
        false => Ok((vec![Outcome::Done { first: inner.head() }; group.len()], inner.head())),
    };
    let (outcomes, mut head) = match committed {
        Ok(committed) => committed,
        Err(error) => {
            tracing::error!("could not write a group of {} commits: {error}", group.len());
            for pending in group {
                answer(pending.answer, Err(CommitError::Store(again(&error))));
            }
            return;
        }
    };
    let mut answers = Vec::with_capacity(group.len());
    for (index, (mut pending, outcome)) in group.into_iter().zip(outcomes).enumerate() {
        pending.commit.batch.slots = slots[index];
        let result = match outcome {
            Outcome::Done { first } => {
                inner.readers.record(&pending.commit, first);
                match volatile(inner, &mut pending.commit).await {
                    Ok(Some(last)) => {
                        head = head.max(last);
                        Ok(last)
                    }
                    Ok(None) => Ok(pending.commit.last_position(first)),
                    Err(error) => Err(CommitError::Store(error)),
                }
            }
            Outcome::Refused { expect, found } if expect == 0 && pending.commit.has_once => {
                Err(CommitError::AlreadyDone(found.unwrap_or_default()))
            }
            Outcome::Refused { expect, .. } => Err(CommitError::Conflict(expects[index][expect].clone())),
        };
        answers.push((pending.answer, result));
    }
    // Positions become visible only now, when everything below them is readable.
    inner.publish(head);
    for (waiting, result) in answers {
        answer(waiting, result);
    }
    inner.readers.wake();
}

/// Gives the facts that live in memory their positions; the last of them, if there are any.
async fn volatile(inner: &Inner, commit: &mut Commit) -> Result<Option<Position>, StoreError> {
    let facts = std::mem::take(&mut commit.volatile);
    if facts.is_empty() {
        return Ok(None);
    }
    let count = u64::try_from(facts.len()).unwrap_or(u64::MAX);
    let first = inner.db.reserve(count).await?;
    let mut last = first;
    for (at, fact) in (first.0..).zip(facts) {
        last = Position(at);
        inner.readers.record_volatile(last, fact);
    }
    Ok(Some(last))
}

fn answer(
    waiting: Option<oneshot::Sender<Result<Position, CommitError>>>,
    result: Result<Position, CommitError>,
) {
    if let Some(waiting) = waiting {
        // A caller that has gone away does not need the answer; the commit holds all the same.
        drop(waiting.send(result));
    }
}

/// The same error for one more caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Engine(source) => StoreError::Engine(source.to_string().into()),
        StoreError::Corrupt(text) => StoreError::Corrupt(text.clone()),
        StoreError::Unusable(text) => StoreError::Unusable(text.clone()),
        StoreError::Closed => StoreError::Closed,
    }
}
