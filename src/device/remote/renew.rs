//! Asking for lists that have missed something, until they are complete again.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId, api::federation::device::get_devices,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::list::{Basis, LISTS, RemoteList, Rooms, STALE, StaleList};
use crate::{
    device::{DeviceError, Devices},
    history::History,
    limits::{
        COURIER_STORE_PAUSE, DEVICE_LISTS_AT_ONCE, DEVICE_LISTS_IDLE_MAX, DEVICE_LISTS_PAUSE_FIRST,
        DEVICE_LISTS_PAUSE_MAX, KEY_ANSWER_BYTES_MAX, LOOK_UP_MAX,
    },
    log::{Audience, Commit},
    peer::{Bounds, PeerError, Peers},
    store::{BoxFuture, StoreError},
    types::{Fact, Lane, Position, RegisterKey},
    upkeep,
};

/// The users whose lists are being asked for: a change has every client of a room look up its sender at once, and one
/// answer does for all.
#[derive(Debug, Default)]
pub(in crate::device) struct Asking(Mutex<HashMap<OwnedUserId, Weak<AsyncMutex<()>>>>);

impl Asking {
    /// Waits until nobody else asks for the list of `user`.
    async fn turn(&self, user: &UserId) -> OwnedMutexGuard<()> {
        let place = {
            let mut places = self.0.lock();
            places.retain(|_, place| place.strong_count() > 0);
            let place = places.get(user).and_then(Weak::upgrade).unwrap_or_default();
            places.insert(user.to_owned(), Arc::downgrade(&place));
            place
        };
        place.lock_owned().await
    }
}

/// What is known of a user's list before its server is asked; what is kept of the answer depends on it.
pub(super) struct Before {
    at: Position,
    told: Option<Position>,
    stale: Option<Vec<u8>>,
    list: Option<RemoteList>,
}

impl Devices {
    /// Keeps the lists of users of other servers complete, on `tasks`, until `stopping`.
    pub fn keep_lists(
        &self,
        (peers, history): (Peers, History),
        (tasks, stopping): (&TaskTracker, CancellationToken),
    ) {
        let (devices, until) = (self.clone(), stopping.clone());
        let renewing = move || {
            let (peers, history) = (peers.clone(), history.clone());
            devices.clone().go_on_renewing((peers, history), until.clone())
        };
        tasks.spawn(upkeep::keep("the device lists of other servers", stopping, renewing));
    }

    async fn go_on_renewing(self, (peers, history): (Peers, History), stopping: CancellationToken) {
        loop {
            let pause = match self.renew_due(&peers, &history).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "cannot read which device lists are to be asked for");
                    COURIER_STORE_PAUSE
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.stale.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks for the lists whose time has come. How long there is nothing to do after that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_due(&self, peers: &Peers, history: &History) -> Result<Duration, DeviceError> {
        let (db, now) = (self.log.db(), self.ports.clock.now_ms());
        let due = db.select(&STALE, &(), |_, stale| stale.retry_at_ms <= now).await?.into_iter();
        let renewals = due.map(|(place, stale)| async move {
            // What goes wrong with one list keeps nobody from the others.
            let renewed = self.renew_one((peers, history), place.clone(), stale.clone()).await;
            let Err(error) = renewed else { return Duration::ZERO };
            tracing::error!(%error, "cannot renew the device list of {}", place.1);
            let mut commit = Commit::new();
            self.put_off(&mut commit, place, &stale);
            self.log.commit_later(commit);
            COURIER_STORE_PAUSE
        });
        let renewals: Vec<_> = renewals.map(|renewal| Box::pin(renewal) as BoxFuture<'_, Duration>).collect();
        let pauses: Vec<Duration> =
            stream::iter(renewals).buffer_unordered(DEVICE_LISTS_AT_ONCE).collect().await;
        let (now, mut next) = (self.ports.clock.now_ms(), DEVICE_LISTS_IDLE_MAX);
        db.select(&STALE, &(), |_, stale| {
            next = next.min(Duration::from_millis(stale.retry_at_ms.saturating_sub(now)));
            false
        })
        .await?;
        Ok(pauses.into_iter().fold(next, Duration::max))
    }

    /// Has a list asked for again after a pause, unless more is told of it meanwhile.
    fn put_off(&self, commit: &mut Commit, place: (OwnedServerName, OwnedUserId), stale: &StaleList) {
        let pause = DEVICE_LISTS_PAUSE_FIRST.saturating_mul(1 << stale.failures.min(16));
        let pause = u64::try_from(pause.min(DEVICE_LISTS_PAUSE_MAX).as_millis()).unwrap_or(u64::MAX);
        let failures = stale.failures.saturating_add(1);
        let retry_at_ms = self.ports.clock.now_ms().saturating_add(pause);
        commit.expect_equals(&STALE, &place, stale);
        commit.put(&STALE, &place, &StaleList { failures, retry_at_ms, ..stale.clone() });
    }

    async fn renew_one(
        &self,
        (peers, history): (&Peers, &History),
        (server, user): (OwnedServerName, OwnedUserId),
        stale: StaleList,
    ) -> Result<(), DeviceError> {
        let rooms = self.rooms_of(&server).await?;
        let basis = Rooms::new(history).basis(&user, &rooms).await?;
        let outcome = match basis {
            Some(_) if peers.is_down(&server) => Err(PeerError::Timeout),
            Some(basis) => self.renew((peers, history), &user, (basis, LOOK_UP_MAX)).await?.map(Some),
            None => Ok(None),
        };
        let mut commit = Commit::new();
        match outcome {
            Ok(Some(_)) => return Ok(()),
            Err(error) if error.is_outage() => self.put_off(&mut commit, (server, user), &stale),
            // Whoever wants to know asks the server without us in between.
            Ok(None) | Err(_) => {
                Self::forget_remote(&mut commit, &server, &user);
                commit.expect_equals(&STALE, &(server, user), &stale);
            }
        }
        // If more was told meanwhile, it begins anew.
        self.attempt(commit).await.map(drop)
    }

    /// Asks for the devices of `user` and keeps them, unless the server tells more of them meanwhile. Where somebody
    /// else asks already, their answer will do.
    pub(super) async fn renew(
        &self,
        (peers, history): (&Peers, &History),
        user: &UserId,
        (basis, timeout): (Basis, Duration),
    ) -> Result<Result<RemoteList, PeerError>, DeviceError> {
        let turn = tokio::time::timeout(timeout, self.asking.turn(user));
        let Ok(_turn) = turn.await else { return Ok(Err(PeerError::Timeout)) };
        if let Some(list) = self.kept(&[user.to_owned()]).await?.pop().flatten()
            && Rooms::new(history).hold(user, &list).await?
        {
            return Ok(Ok(list));
        }
        let before = self.before(user).await?;
        let request = get_devices::v1::Request::new(user.to_owned());
        let bounds = Bounds::new(timeout, KEY_ANSWER_BYTES_MAX);
        let answer = match peers.call(user.server_name(), request, bounds).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let list = RemoteList::read((before.at, basis), user, answer);
        let mut commit = Commit::new();
        Self::keep(&mut commit, user, &list, before);
        self.attempt(commit).await?;
        self.doubts.forget_found(user);
        Ok(Ok(list))
    }

    /// What is known of the list of `user` now, before its server is asked.
    pub(super) async fn before(&self, user: &UserId) -> Result<Before, StoreError> {
        let at = self.log.head();
        let told = self.log.written(&Lane::People, &[RegisterKey::devices(user)]).await?;
        let told = told.first().copied().flatten();
        let stale = self.log.db().raw(&STALE.key(&(user.server_name().to_owned(), user.to_owned()))).await?;
        let list = self.log.db().row(&LISTS, &(user.to_owned(),)).await?;
        Ok(Before { at, told, stale, list })
    }

    /// Keeps a list, if nothing was told of it since `before`.
    pub(super) fn keep(commit: &mut Commit, user: &UserId, list: &RemoteList, before: Before) {
        let place = (user.server_name().to_owned(), user.to_owned());
        commit.expect_register(&Lane::People, &RegisterKey::devices(user), before.told);
        match list.is_small() {
            true => commit.put(&LISTS, &(user.to_owned(),), list),
            false => commit.delete(&LISTS, &(user.to_owned(),)),
        }
        if before.stale.is_some() {
            commit.delete(&STALE, &place);
        }
        // Whoever was told of the change before may have been given the keys from before it, and of what the list had
        // missed nobody was told.
        if before.stale.is_some() || before.list.is_some_and(|before| !list.tells_the_same_as(&before)) {
            commit.fact(Lane::People, Fact::Devices { user_id: user.to_owned() });
        }
        Self::guard(commit, STALE.key(&place), before.stale);
    }

    /// The rooms that a server is in with us.
    async fn rooms_of(&self, server: &ServerName) -> Result<Vec<OwnedRoomId>, StoreError> {
        let reading = self.log.subscriptions(&Audience::Server(server.to_owned())).await?;
        let rooms = reading.latest().filter_map(|(lane, interval)| match lane {
            Lane::Egress(room) if interval.closed.is_none() => Some(room.clone()),
            _ => None,
        });
        Ok(rooms.collect())
    }
}

impl Before {
    /// What the list is kept with.
    pub(super) fn at(&self) -> Position {
        self.at
    }
}
