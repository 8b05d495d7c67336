//! A push gateway that takes what it is sent: a small HTTP server on a port of its own.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep, timeout},
};

use crate::{
    Outcome,
    listener::{Answers, Listener, Request},
};

/// How long anything may take to arrive.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what has arrived.
const POLL: Duration = Duration::from_millis(10);

/// What the gateway answers.
#[derive(Clone, Debug, Default)]
pub struct Mood {
    /// The HTTP status; 0 stands for 200.
    pub status: u16,
    /// Pushkeys that it wants to hear of no more.
    pub rejected: Vec<String>,
}

#[derive(Default)]
struct Seen {
    mood: Mood,
    /// Notifications that it has taken, and when.
    taken: Vec<(Value, Instant)>,
    refused: usize,
}

/// A running gateway; it ends when dropped.
pub struct Gateway {
    listener: Listener,
    seen: Arc<Mutex<Seen>>,
    /// Told of each that it takes.
    more: Arc<Notify>,
}

#[derive(Clone)]
struct Desk(Arc<Mutex<Seen>>, Arc<Notify>);

impl Answers for Desk {
    async fn answer(&self, request: Request) -> (u16, Value) {
        let mut seen = self.0.lock().await;
        let status = if seen.mood.status == 0 { 200 } else { seen.mood.status };
        match status {
            200 => seen.taken.push((request.body["notification"].clone(), Instant::now())),
            _ => seen.refused += 1,
        }
        self.1.notify_waiters();
        (status, json!({ "rejected": seen.mood.rejected }))
    }
}

impl Gateway {
    /// Starts one.
    pub async fn start() -> Outcome<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let more = Arc::new(Notify::new());
        let listener = Listener::start(Desk(seen.clone(), more.clone())).await?;
        Ok(Self { listener, seen, more })
    }

    /// Its address, as pushers name it.
    pub fn url(&self) -> String {
        format!("{}/_matrix/push/v1/notify", self.listener.url())
    }

    /// From now on it answers like this.
    pub async fn set_mood(&self, mood: Mood) {
        self.seen.lock().await.mood = mood;
    }

    /// What it has taken, oldest first.
    pub async fn taken(&self) -> Vec<Value> {
        self.seen.lock().await.taken.iter().map(|(body, _)| body.clone()).collect()
    }

    /// Waits until it has taken so many notifications in all.
    pub async fn until_count(&self, count: usize) -> Outcome<()> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                if self.seen.lock().await.taken.len() >= count {
                    return;
                }
                more.await;
            }
        };
        timeout(DEADLINE, waiting).await.map_err(|_| "the gateway never got as many".into())
    }

    /// When something was taken that answers `wanted`, and what.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Outcome<(Value, Instant)> {
        let waiting = async {
            loop {
                let found = self.seen.lock().await.taken.iter().find(|(body, _)| wanted(body)).cloned();
                match found {
                    Some(found) => return found,
                    None => sleep(POLL).await,
                }
            }
        };
        match timeout(DEADLINE, waiting).await {
            Ok(found) => Ok(found),
            Err(_) => Err(format!("the gateway never got {what}: {:#?}", self.taken().await).into()),
        }
    }

    /// Waits until it has refused something.
    pub async fn until_refused(&self) -> Outcome<()> {
        let waiting = async {
            while self.seen.lock().await.refused == 0 {
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, waiting).await.map_err(|_| "the gateway was never asked".into())
    }
}
