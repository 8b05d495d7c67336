//! Thread subscriptions: registers of the account, so that all of a user's devices hear of them.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};

use super::{Ephemeral, EphemeralError};
use crate::{
    history::StoredEvent,
    limits::{RECEIPT_ATTEMPTS_MAX, THREAD_SUBSCRIPTIONS_PAGE_MAX},
    log::{Commit, CommitError},
    store::StoreError,
    types::{Fact, Lane, Position, RegisterKey},
};

/// What a user said last of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The root of the thread.
    pub thread_root: OwnedEventId,
    /// Whether the user is subscribed.
    pub subscribed: bool,
    /// A client did it by itself.
    pub automatic: bool,
}

/// Some of a user's subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionPage {
    /// What was said last of each thread, and where, newest first.
    pub changes: Vec<(Position, Subscription)>,
    /// Up to here there are more.
    pub more: Option<Position>,
}

impl Subscription {
    fn read(fact: Fact) -> Option<Self> {
        match fact {
            Fact::ThreadSubscription { room_id, thread_root, subscribed, automatic } => {
                Some(Self { room_id, thread_root, subscribed, automatic })
            }
            _ => None,
        }
    }
}

impl Ephemeral {
    /// What `user` said last of a thread.
    ///
    /// # Errors
    /// When there is no such thread that the user may see.
    pub async fn subscription(
        &self,
        user: &UserId,
        (room, root): (&RoomId, &EventId),
    ) -> Result<Option<Subscription>, EphemeralError> {
        self.visible(user, (room, root)).await?;
        let (lane, key) = place(user, room, root);
        let found = self.0.log.register(&lane, &key).await?;
        Ok(found.and_then(|(_, fact)| Subscription::read(fact)))
    }

    /// Subscribes `user` to a thread: of their own will, or for an event of the thread, `cause`, that made a
    /// client do so. The latter changes nothing of the former.
    ///
    /// # Errors
    /// When there is no such thread, the cause is not one of its events, or the user has unsubscribed since.
    pub async fn subscribe(
        &self,
        user: &UserId,
        (room, root): (&RoomId, &EventId),
        cause: Option<&EventId>,
    ) -> Result<(), EphemeralError> {
        self.visible(user, (room, root)).await?;
        let cause = match cause {
            Some(cause) => {
                let event = self.visible(user, (room, cause)).await?;
                if self.0.history.thread_of(&event).await?.as_deref() != Some(root) {
                    return Err(EphemeralError::NotInThread);
                }
                Some(event.position)
            }
            None => None,
        };
        self.change_subscription(user, (room, root), |before| match (before, cause) {
            (Some((at, before)), Some(cause)) if !before.subscribed && cause <= at => {
                Err(EphemeralError::Unsubscribed)
            }
            (Some((_, before)), _) if before.subscribed && (cause.is_some() || !before.automatic) => Ok(None),
            _ => Ok(Some((true, cause.is_some()))),
        })
        .await
    }

    /// Ends a subscription, if there is one.
    ///
    /// # Errors
    /// When there is no such thread that the user may see.
    pub async fn unsubscribe(
        &self,
        user: &UserId,
        thread: (&RoomId, &EventId),
    ) -> Result<(), EphemeralError> {
        self.visible(user, thread).await?;
        self.change_subscription(user, thread, |before| {
            Ok(before.filter(|(_, before)| before.subscribed).map(|_| (false, false)))
        })
        .await
    }

    /// What `user` said of threads within `(from, to]`, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn subscriptions(
        &self,
        user: &UserId,
        (from, to): (Position, Position),
        limit: Option<usize>,
    ) -> Result<SubscriptionPage, StoreError> {
        // The keys of all of them begin like this; see `Fact::retention`.
        let all = (Lane::Account(user.to_owned()), RegisterKey(b"s\0".to_vec()));
        let found = self.0.log.registers_with(&[all]).await?.pop().unwrap_or_default();
        let mut changes: Vec<(Position, Subscription)> = found
            .into_iter()
            .filter(|(at, _)| from < *at && *at <= to)
            .filter_map(|(at, fact)| Some((at, Subscription::read(fact)?)))
            .collect();
        changes.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let limit = limit.unwrap_or(THREAD_SUBSCRIPTIONS_PAGE_MAX).clamp(1, THREAD_SUBSCRIPTIONS_PAGE_MAX);
        let more = changes.get(limit).map(|(at, _)| *at);
        changes.truncate(limit);
        Ok(SubscriptionPage { changes, more })
    }

    async fn change_subscription(
        &self,
        user: &UserId,
        (room, root): (&RoomId, &EventId),
        decide: impl Fn(Option<(Position, Subscription)>) -> Result<Option<(bool, bool)>, EphemeralError>,
    ) -> Result<(), EphemeralError> {
        let (lane, key) = place(user, room, root);
        for _ in 0..RECEIPT_ATTEMPTS_MAX {
            let before = self.0.log.register(&lane, &key).await?;
            let at = before.as_ref().map(|(at, _)| *at);
            let before = before.and_then(|(at, fact)| Some((at, Subscription::read(fact)?)));
            let Some((subscribed, automatic)) = decide(before)? else { return Ok(()) };
            let mut commit = Commit::new();
            commit.expect_register(&lane, &key, at);
            let (room_id, thread_root) = (room.to_owned(), root.to_owned());
            let fact = Fact::ThreadSubscription { room_id, thread_root, subscribed, automatic };
            commit.fact(lane.clone(), fact);
            match self.0.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        // Others have just said as much of the same thread: theirs stands.
        Ok(())
    }

    async fn visible(
        &self,
        user: &UserId,
        (room, event): (&RoomId, &EventId),
    ) -> Result<Arc<StoredEvent>, EphemeralError> {
        let found = self.0.history.event(event).await?.filter(|event| event.pdu.room_id() == room);
        match found {
            Some(event) if self.0.history.visible(user, &event).await? => Ok(event),
            _ => Err(EphemeralError::NotFound("thread")),
        }
    }
}

/// The register of a thread.
fn place(user: &UserId, room: &RoomId, root: &EventId) -> (Lane, RegisterKey) {
    (Lane::Account(user.to_owned()), RegisterKey::thread_subscription(room, root))
}
