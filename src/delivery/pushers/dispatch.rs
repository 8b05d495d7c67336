//! Who is served when: a courier for each pusher whose user has news, and not before its pause is over.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ruma::OwnedUserId;

use super::{
    Pushers, courier,
    share::{Line, Pace},
};
use crate::{
    limits::{COURIER_IDLE_MAX, COURIER_STORE_PAUSE},
    push::{PusherId, PusherRow},
    store::StoreError,
    types::Position,
};

/// What is known of the pushers; bounded by their number.
#[derive(Default)]
pub(super) struct Desk(HashMap<PusherId, Place>);

/// One pusher's place at the desk.
#[derive(Default)]
struct Place {
    /// A courier is on its way.
    is_served: bool,
    /// Something has come up since the courier last looked.
    has_news: bool,
    /// When it is tried again after a failure, in milliseconds since the epoch.
    retry_at_ms: u64,
    /// How far it has got, which is not written down after every look.
    cursor: Position,
    /// Where it waits for its turn.
    line: Option<Line>,
}

/// An errand for a courier.
pub(super) struct Errand {
    pub(super) id: PusherId,
    /// How far the pusher has got at least.
    pub(super) cursor: Position,
    pub(super) line: Line,
}

/// How a courier comes back.
pub(super) enum Outcome {
    /// Everything up to here is told.
    Told(Position),
    /// It is told up to here, and there is more, but others may want their turn.
    Later(Position),
    /// The gateway could not be told; it is tried again then, in milliseconds since the epoch.
    Failed(u64),
    /// There is something to be told, but not yet; then, in milliseconds since the epoch.
    Waits(u64),
    /// The pusher is gone.
    Gone,
}

impl Desk {
    fn note(&mut self, id: PusherId, row: &PusherRow) {
        let place = self.0.entry(id).or_default();
        place.has_news = true;
        if !place.is_served {
            // What the row says counts: the client may have set the pusher anew.
            place.retry_at_ms = row.waits_until_ms().unwrap_or_default();
        }
        let gateway = row.gateway_host();
        if place.line.as_ref().is_none_or(|line| line.gateway != gateway) {
            // How another gateway answers is not known; after a start, the row says whether there was trouble.
            let is_proven = place.line.is_none() && row.told_ms.is_some() && row.trouble.is_none();
            // Letters are taken by the mail server that this one is told to use.
            let pace = if is_proven || gateway.is_empty() { Pace::Quick } else { Pace::Slow };
            place.line = Some(Line { pace, gateway });
        }
    }

    fn due(&mut self, now_ms: u64) -> Vec<Errand> {
        let mut due = Vec::new();
        for (id, place) in &mut self.0 {
            if place.has_news && !place.is_served && place.retry_at_ms <= now_ms {
                place.is_served = true;
                place.has_news = false;
                let line = place.line.clone().unwrap_or_default();
                due.push(Errand { id: id.clone(), cursor: place.cursor, line });
            }
        }
        due
    }

    fn next_ms(&self) -> Option<u64> {
        let waiting = self.0.values().filter(|place| !place.is_served && place.has_news);
        waiting.map(|place| place.retry_at_ms).min()
    }

    /// Whether something has come up for a pusher since its courier last asked.
    pub(super) fn take_news(&mut self, id: &PusherId) -> bool {
        self.0.get_mut(id).is_some_and(|place| std::mem::take(&mut place.has_news))
    }

    /// A courier is back, and says how it was answered, if it had anything to tell.
    pub(super) fn back(&mut self, id: &PusherId, outcome: Outcome, pace: Option<Pace>) {
        let Some(place) = self.0.get_mut(id) else { return };
        place.is_served = false;
        if let (Some(line), Some(pace)) = (&mut place.line, pace) {
            line.pace = pace;
        }
        match outcome {
            Outcome::Told(upto) => place.cursor = place.cursor.max(upto),
            Outcome::Later(upto) => {
                place.cursor = place.cursor.max(upto);
                place.has_news = true;
            }
            Outcome::Failed(retry_at_ms) | Outcome::Waits(retry_at_ms) => {
                place.has_news = true;
                place.retry_at_ms = retry_at_ms;
            }
            Outcome::Gone => {
                self.0.remove(id);
            }
        }
    }
}

/// Serves until the server stops.
pub(super) async fn run(pushers: Pushers) {
    let stopping = pushers.0.stopping.clone();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = serve(pushers) => {}
    }
}

async fn serve(pushers: Pushers) {
    while let Err(error) = begin(&pushers).await {
        tracing::error!(%error, "cannot read the pushers");
        tokio::time::sleep(COURIER_STORE_PAUSE).await;
    }
    loop {
        let (due, next_ms) = {
            let mut desk = pushers.0.desk.lock();
            (desk.due(pushers.now_ms()), desk.next_ms())
        };
        for errand in due {
            pushers.0.tasks.spawn(courier::serve(pushers.clone(), errand));
        }
        let pause_ms = next_ms.map(|next| next.saturating_sub(pushers.now_ms()).max(1));
        let pause = pause_ms.map_or(COURIER_IDLE_MAX, Duration::from_millis).min(COURIER_IDLE_MAX);
        tokio::select! {
            users = pushers.log().followed() => {
                if users.is_empty() {
                    return;
                }
                note_all(&pushers, users).await;
            }
            () = pushers.0.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn note_all(pushers: &Pushers, users: BTreeSet<OwnedUserId>) {
    for user in users {
        if let Err(error) = note(pushers, &user).await {
            tracing::error!(%error, "cannot read the pushers of {user}");
        }
    }
}

async fn note(pushers: &Pushers, user: &OwnedUserId) -> Result<(), StoreError> {
    let rows = pushers.0.push.pushers(user).await?;
    let mut desk = pushers.0.desk.lock();
    for (id, row) in rows {
        desk.note(id, &row);
    }
    Ok(())
}

/// Takes up what an earlier run has left.
async fn begin(pushers: &Pushers) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let users = pushers.0.push.users_with_pushers(last.as_ref()).await?;
        let Some(end) = users.last().cloned() else { return Ok(()) };
        for user in &users {
            // Whatever comes from here on is told; what came before is looked for by the couriers.
            pushers.log().follow(user).await?;
            note(pushers, user).await?;
        }
        last = Some(end);
    }
}
