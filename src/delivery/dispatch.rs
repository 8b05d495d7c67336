//! Who is served when: a courier for each server with news, and not before its pause is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};

use super::{Couriers, DestinationStatus, backoff, courier};
use crate::limits::{COURIER_IDLE_MAX, COURIER_STORE_PAUSE};

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
    trouble: Option<DestinationStatus>,
}

/// An errand for a courier.
pub(super) struct Errand {
    pub(super) server: OwnedServerName,
    pub(super) is_poked: bool,
    pub(super) trouble: Option<DestinationStatus>,
}

impl Desk {
    fn note(&mut self, server: OwnedServerName) {
        self.servers.entry(server).or_default().has_news = true;
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
        let Some(trouble) = &mut place.trouble else { return false };
        trouble.retry_at_ms = 0;
        place.has_news = true;
        true
    }

    /// The couriers that can start now.
    fn due(&mut self, now_ms: u64) -> Vec<Errand> {
        let mut due = Vec::new();
        for (server, place) in &mut self.servers {
            let may_try = place.trouble.as_ref().is_none_or(|trouble| trouble.retry_at_ms <= now_ms);
            if (place.has_news || place.is_poked) && !place.is_served && may_try {
                place.is_served = true;
                place.has_news = false;
                let is_poked = std::mem::take(&mut place.is_poked);
                due.push(Errand { server: server.clone(), is_poked, trouble: place.trouble.clone() });
            }
        }
        due
    }

    /// The next time at which a pause ends.
    fn next_ms(&self) -> Option<u64> {
        let waiting = self.servers.values().filter(|place| !place.is_served && place.has_news);
        waiting.filter_map(|place| Some(place.trouble.as_ref()?.retry_at_ms)).min()
    }

    /// A courier is back; whoever is without news and trouble leaves the desk.
    pub(super) fn back(&mut self, server: &ServerName, trouble: Option<DestinationStatus>) {
        let Some(place) = self.servers.get_mut(server) else { return };
        place.is_served = false;
        place.has_news |= trouble.is_some();
        place.trouble = trouble;
        if let (true, Some(trouble)) = (std::mem::take(&mut place.was_heard), &mut place.trouble) {
            trouble.retry_at_ms = 0;
        }
        if !place.has_news && place.trouble.is_none() {
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
    let mut desk = couriers.0.desk.lock();
    servers.into_iter().for_each(|server| desk.note(server));
}

/// Takes up what was left by an earlier run, and has every server told that we are back.
async fn begin(couriers: &Couriers) -> Result<(), crate::store::StoreError> {
    let servers = couriers.log().load_servers().await?;
    let troubled = backoff::all(couriers.log()).await?;
    let mut desk = couriers.0.desk.lock();
    for server in servers {
        let place = desk.servers.entry(server).or_default();
        place.has_news = true;
        place.is_poked = true;
    }
    for (server, mut trouble) in troubled {
        let place = desk.servers.entry(server).or_default();
        if std::mem::take(&mut place.was_heard) {
            trouble.retry_at_ms = 0;
        }
        place.has_news = true;
        place.trouble = Some(trouble);
    }
    desk.is_loaded = true;
    desk.servers.retain(|_, place| place.has_news || place.trouble.is_some());
    Ok(())
}
