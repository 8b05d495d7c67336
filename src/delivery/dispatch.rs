//! Who is served when: a courier for each server with news, and not before its pause is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::Notify;

use super::{Couriers, DestinationStatus, backoff, courier};
use crate::limits::{
    COURIER_FELL_TOGETHER_MS, COURIER_HASTENED_EVERY_MS, COURIER_IDLE_MAX, COURIER_STORE_PAUSE,
};

/// What is known of the servers that are being served, or wait for it.
#[derive(Default)]
pub(super) struct Desk {
    /// What an earlier run has left is taken up.
    is_loaded: bool,
    servers: BTreeMap<OwnedServerName, Place>,
}

/// One server's place at the desk.
#[derive(Default)]
struct Place {
    /// A courier is on its way.
    is_served: bool,
    /// Something has come up since the courier last looked.
    has_news: bool,
    /// The server is told of us even if nothing is owed to it.
    is_poked: bool,
    /// The server has reached us since the courier left.
    was_heard: bool,
    /// Told when it does.
    heard: Arc<Notify>,
    trouble: Option<DestinationStatus>,
    /// Our own trouble keeps us from serving it until then.
    rests_until_ms: u64,
    /// When its pause was cut short because another server was reached again, in milliseconds since the epoch.
    hastened_ms: u64,
    /// What came up before this moment, in milliseconds since the epoch, has been delivered.
    since_ms: u64,
}

impl Place {
    /// When a courier may go.
    fn may_go_ms(&self) -> u64 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.retry_at_ms).max(self.rests_until_ms)
    }

    /// The server has reached us: it is worth a try at once, even if nothing is owed to it.
    fn end_pause(&mut self) -> bool {
        let Some(trouble) = &mut self.trouble else { return false };
        trouble.retry_at_ms = 0;
        self.is_poked = true;
        true
    }
}

/// An errand for a courier.
pub(super) struct Errand {
    pub(super) server: OwnedServerName,
    pub(super) is_poked: bool,
    pub(super) trouble: Option<DestinationStatus>,
    /// The server has reached us lately.
    pub(super) was_heard: bool,
    /// Told when it does while the courier is under way.
    pub(super) heard: Arc<Notify>,
}

/// What a courier comes back with.
pub(super) struct Return {
    /// The server is yet to be told of us.
    pub(super) is_poked: bool,
    pub(super) trouble: Option<DestinationStatus>,
    /// Something is owed to it still.
    pub(super) is_owed: bool,
    /// When to go again at the earliest, after trouble of our own.
    pub(super) rests_until_ms: u64,
}

impl Desk {
    fn note(&mut self, server: OwnedServerName, now_ms: u64) {
        let fresh = || Place { since_ms: now_ms, ..Place::default() };
        self.servers.entry(server).or_insert_with(fresh).has_news = true;
    }

    /// A server has everything that came up before `since_ms`.
    pub(super) fn has_all(&mut self, server: &ServerName, since_ms: u64) {
        if let Some(place) = self.servers.get_mut(server) {
            place.since_ms = since_ms;
        }
    }

    /// Everyone for whom something has been waiting since a moment, in milliseconds since the epoch.
    pub(super) fn behind(&self) -> Vec<(u64, OwnedServerName)> {
        self.servers.iter().map(|(server, place)| (place.since_ms, server.clone())).collect()
    }

    /// Everyone who is being served or waits for it.
    pub(super) fn servers(&self) -> impl Iterator<Item = OwnedServerName> + '_ {
        self.servers.keys().cloned()
    }

    /// Ends a pause; true if there was one.
    pub(super) fn heard_from(&mut self, server: &ServerName) -> bool {
        if !self.is_loaded {
            self.servers.entry(server.to_owned()).or_default().was_heard = true;
            return false;
        }
        let Some(place) = self.servers.get_mut(server) else { return false };
        // What a courier that is on its way tells of trouble is older news.
        place.was_heard = place.is_served;
        if place.is_served {
            place.heard.notify_one();
        }
        place.end_pause()
    }

    /// A server that could not be reached since `since_ms` is reached again: perhaps it was our network, so that those
    /// who fell silent with it are tried now.
    pub(super) fn others_may_be_back(&mut self, since_ms: u64, now_ms: u64) {
        for place in self.servers.values_mut().filter(|place| !place.is_served) {
            let Some(trouble) = &mut place.trouble else { continue };
            let fell_with_it = trouble.failing_since_ms.abs_diff(since_ms) <= COURIER_FELL_TOGETHER_MS;
            if fell_with_it && now_ms >= place.hastened_ms.saturating_add(COURIER_HASTENED_EVERY_MS) {
                place.hastened_ms = now_ms;
                trouble.retry_at_ms = trouble.retry_at_ms.min(now_ms);
            }
        }
    }

    /// The couriers that can start now.
    fn due(&mut self, now_ms: u64) -> Vec<Errand> {
        let mut due = Vec::new();
        for (server, place) in &mut self.servers {
            let may_go = place.may_go_ms() <= now_ms;
            if (place.has_news || place.is_poked) && !place.is_served && may_go {
                place.is_served = true;
                place.has_news = false;
                // A pause of nothing is one that the server has ended.
                let was_heard = place.trouble.as_ref().is_some_and(|trouble| trouble.retry_at_ms == 0);
                place.heard = Arc::default();
                due.push(Errand {
                    server: server.clone(),
                    is_poked: std::mem::take(&mut place.is_poked),
                    trouble: place.trouble.clone(),
                    was_heard,
                    heard: place.heard.clone(),
                });
            }
        }
        due
    }

    /// The next time at which a pause ends.
    fn next_ms(&self) -> Option<u64> {
        let waiting = self.servers.values().filter(|place| !place.is_served);
        waiting.filter(|place| place.has_news || place.is_poked).map(Place::may_go_ms).min()
    }

    /// A courier is back; whoever is without news and trouble leaves the desk.
    pub(super) fn back(&mut self, server: &ServerName, back: Return) {
        let Some(place) = self.servers.get_mut(server) else { return };
        place.is_served = false;
        place.has_news |= back.is_owed;
        place.is_poked |= back.is_poked;
        place.trouble = back.trouble;
        place.rests_until_ms = back.rests_until_ms;
        if std::mem::take(&mut place.was_heard) {
            place.end_pause();
        }
        if !place.has_news && !place.is_poked && place.trouble.is_none() {
            self.servers.remove(server);
        }
    }

    /// Whether something has come up for a server since its courier last asked.
    pub(super) fn take_news(&mut self, server: &ServerName) -> bool {
        self.servers.get_mut(server).is_some_and(|place| std::mem::take(&mut place.has_news))
    }
}

/// Hands out errands until the server stops.
pub(super) async fn run(couriers: Couriers) {
    let stopping = couriers.0.stopping.clone();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = serve(couriers) => {}
    }
}

async fn serve(couriers: Couriers) {
    while let Err(error) = begin(&couriers).await {
        tracing::error!(%error, "cannot read what is owed to other servers");
        tokio::time::sleep(COURIER_STORE_PAUSE).await;
    }
    loop {
        let (due, next_ms) = {
            let mut desk = couriers.0.desk.lock();
            (desk.due(couriers.now_ms()), desk.next_ms())
        };
        for errand in due {
            couriers.0.tasks.spawn(courier::serve(couriers.clone(), errand));
        }
        let pause_ms = next_ms.map(|next| next.saturating_sub(couriers.now_ms()).max(1));
        let pause = pause_ms.map_or(COURIER_IDLE_MAX, Duration::from_millis).min(COURIER_IDLE_MAX);
        tokio::select! {
            biased;
            news = couriers.log().news() => {
                if news.is_empty() {
                    return;
                }
                let mut servers = news.servers;
                for person in &news.people {
                    match couriers.log().servers_sharing(person).await {
                        Ok(sharing) => servers.extend(sharing),
                        Err(error) => tracing::error!(%error, "cannot read who shares rooms with {person}"),
                    }
                }
                note(&couriers, servers);
            }
            () = couriers.0.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn note(couriers: &Couriers, servers: BTreeSet<OwnedServerName>) {
    let now_ms = couriers.now_ms();
    let mut desk = couriers.0.desk.lock();
    servers.into_iter().for_each(|server| desk.note(server, now_ms));
}

/// Takes up what was left by an earlier run, and has every server that shares a room told that we are back.
async fn begin(couriers: &Couriers) -> Result<(), crate::store::StoreError> {
    let known = couriers.log().load_servers().await?;
    let troubled = backoff::all(couriers.log()).await?;
    let now_ms = couriers.now_ms();
    let mut desk = couriers.0.desk.lock();
    for server in known.all {
        let is_poked = known.sharing.contains(&server);
        let place = desk.servers.entry(server).or_default();
        place.has_news = true;
        place.is_poked = is_poked;
        place.since_ms = now_ms;
    }
    for (server, trouble) in troubled {
        let place = desk.servers.entry(server).or_default();
        place.has_news = true;
        place.since_ms = trouble.failing_since_ms;
        place.trouble = Some(trouble);
    }
    for place in desk.servers.values_mut() {
        if std::mem::take(&mut place.was_heard) {
            place.end_pause();
        }
    }
    desk.is_loaded = true;
    desk.servers.retain(|_, place| place.is_served || place.has_news || place.trouble.is_some());
    Ok(())
}
