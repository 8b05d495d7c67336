//! An application service that was down, and catches up on what was said meanwhile.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    listener::{Answers, Listener, Request},
    matrix::Client,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    bench::{Bench, Scene, Work, all, approximate},
    options::Sizes,
    scene_send::send_many,
    target::Target,
};

/// Who writes while it is down.
const WRITERS: usize = 16;
/// How long the catching up may take.
const DEADLINE: Duration = Duration::from_secs(900);
const TOKEN: &str = "as_load";

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    if targets.iter().any(|target| target.server.is_none()) {
        return Ok(());
    }
    let scene = CatchUp { events: sizes.backlog / WRITERS * WRITERS, sizes: RefCell::default() };
    bench.play(&scene, targets).await?;
    let sizes = scene.sizes.take();
    if !sizes.is_empty() {
        bench.figures(&format!("{}: a transaction", scene.name()), targets, &sizes, "events");
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    is_up: bool,
    /// Messages that came while it was up, and in how many transactions.
    messages: usize,
    transactions: usize,
}

/// The application service: it counts.
#[derive(Clone)]
struct Counter(Arc<Mutex<Seen>>, Arc<Notify>);

impl Answers for Counter {
    async fn answer(&self, request: Request) -> (u16, Value) {
        let Ok(mut seen) = self.0.lock() else { return (500, json!({})) };
        if !seen.is_up {
            return (503, json!({}));
        }
        if request.path.contains("/transactions/") {
            let events = request.body["events"].as_array();
            let messages = events.into_iter().flatten().filter(|event| event["type"] == "m.room.message");
            seen.messages += messages.count();
            seen.transactions += 1;
            self.1.notify_waiters();
        }
        (200, json!({}))
    }
}

struct Bridge {
    listener: Listener,
    counter: Counter,
}

impl Bridge {
    async fn start() -> Outcome<Self> {
        let counter = Counter(Arc::default(), Arc::default());
        Ok(Self { listener: Listener::start(counter.clone()).await?, counter })
    }

    fn seen(&self) -> Outcome<std::sync::MutexGuard<'_, Seen>> {
        self.counter.0.lock().map_err(|_| "the bridge has fallen".into())
    }

    async fn until(&self, messages: usize) -> Outcome<()> {
        loop {
            let more = self.counter.1.notified();
            if self.seen()?.messages >= messages {
                return Ok(());
            }
            more.await;
        }
    }
}

struct CatchUp {
    events: usize,
    /// Messages in a transaction of each target, by and large.
    sizes: RefCell<Vec<f64>>,
}

impl Scene for CatchUp {
    /// Each server has one of its own, so that it is down for as long as it takes to set the scene for the other.
    type State = (Client, Bridge);

    fn name(&self) -> String {
        format!("bridge catches up on {} events", self.events)
    }

    fn rounds(&self) -> Option<usize> {
        Some(1)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let bridge = Bridge::start().await?;
        let users = target.users(WRITERS).await?;
        let room = target.room(&users).await?;
        let server = target.server.as_mut().ok_or("the server is not ours")?;
        server.serve_appservice(&format!(
            "id: load
url: {}
as_token: {TOKEN}
hs_token: hs_load
sender_localpart: load_bot
rate_limited: false
namespaces: {{ users: [{{ exclusive: true, regex: '@load_.*' }}], aliases: [], rooms: [] }}
",
            bridge.listener.url()
        ))?;
        bridge.seen()?.is_up = true;
        server.restart().await?;
        let bot = target.nobody.service(TOKEN);
        let register = json!({"type": "m.login.application_service", "username": "load_bot"});
        // Where the sender of an application service exists from the start, that fails.
        bot.ask(reqwest::Method::POST, "/_matrix/client/v3/register", Some(&register)).await?;
        bot.join(&room).await?;
        target.settled_cpu().await?;
        bridge.seen()?.is_up = false;
        all(users.iter().map(|user| send_many(user, std::slice::from_ref(&room), self.events / WRITERS)))
            .await?;
        target.calm().await?;
        Ok((bot, bridge))
    }

    async fn before(&self, _target: &mut Target, (_, bridge): &mut Self::State) -> Outcome<()> {
        let mut seen = bridge.seen()?;
        (seen.messages, seen.transactions) = (0, 0);
        Ok(())
    }

    async fn round(&self, _target: &Target, (bot, bridge): &mut Self::State) -> Outcome<Work> {
        let begun = Instant::now();
        bridge.seen()?.is_up = true;
        bot.post("/_matrix/client/v1/appservice/load/ping", &json!({})).await?;
        timeout(DEADLINE, bridge.until(self.events)).await.map_err(|_| "the bridge never caught up")??;
        let wall = begun.elapsed();
        let seen = bridge.seen()?;
        let each = approximate(seen.messages) / approximate(seen.transactions.max(1));
        self.sizes.borrow_mut().push(each);
        Ok(Work { operations: self.events, latencies: Vec::new(), wall: Some(wall) })
    }
}
