//! The network between the servers: it cuts, delays, doubles and loses what it carries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{OwnedServerName, ServerName};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    peer::{Bounds, Net, NetError},
    store::BoxFuture,
};

/// Who answers for a server, as long as it lives.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) router: Router,
    pub(super) life: CancellationToken,
}

/// Everything between the servers.
pub(super) struct Sea {
    rng: Mutex<StdRng>,
    doors: Mutex<BTreeMap<OwnedServerName, Door>>,
    /// Who does not reach whom.
    cuts: Mutex<BTreeSet<(OwnedServerName, OwnedServerName)>>,
    is_calm: Mutex<bool>,
    under_way: AtomicUsize,
    last: Mutex<Instant>,
    tasks: TaskTracker,
}

/// What becomes of one exchange.
struct Fate {
    there: Duration,
    back: Duration,
    /// The request comes a second time, so much later.
    doubled: Option<Duration>,
    /// Whoever answers is interrupted after so long, as where a connection breaks.
    broken: Option<Duration>,
    is_answer_lost: bool,
    /// Whoever asks is told that nobody is there, instead of waiting in vain.
    is_told: bool,
}

impl Sea {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            doors: Mutex::default(),
            cuts: Mutex::default(),
            is_calm: Mutex::new(false),
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            tasks: TaskTracker::new(),
        })
    }

    /// The way of `from` to the others, until its life ends.
    pub(super) fn port(self: &Arc<Self>, from: &ServerName, life: &CancellationToken) -> Port {
        Port { sea: self.clone(), from: from.to_owned(), life: life.clone() }
    }

    pub(super) fn open(&self, server: &ServerName, door: Door) {
        self.doors.lock().insert(server.to_owned(), door);
    }

    pub(super) fn cut(&self, from: &ServerName, to: &ServerName) {
        self.cuts.lock().insert((from.to_owned(), to.to_owned()));
    }

    pub(super) fn mend(&self) {
        self.cuts.lock().clear();
    }

    /// From now on everything arrives.
    pub(super) fn calm(&self) {
        self.mend();
        *self.is_calm.lock() = true;
    }

    /// From now on much is lost.
    pub(super) fn storm(&self) {
        *self.is_calm.lock() = false;
    }

    /// How long nothing has been carried.
    pub(super) fn quiet(&self) -> Duration {
        match self.under_way.load(Ordering::SeqCst) {
            0 => self.last.lock().elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn is_cut(&self, from: &ServerName, to: &ServerName) -> bool {
        self.cuts.lock().contains(&(from.to_owned(), to.to_owned()))
    }

    fn fate(&self, may_double: bool) -> Fate {
        let mut rng = self.rng.lock();
        let mut ms = |max: u64| Duration::from_millis(rng.random_range(1..max));
        let (there, back) = (ms(60), ms(60));
        if *self.is_calm.lock() {
            return Fate { there, back, doubled: None, broken: None, is_answer_lost: false, is_told: true };
        }
        let (late, later, broken) = (ms(20_000), ms(5_000), ms(30));
        Fate {
            there: if rng.random_ratio(1, 25) { late } else { there },
            back,
            doubled: (may_double && rng.random_ratio(1, 12)).then_some(later),
            broken: rng.random_ratio(1, 25).then_some(broken),
            is_answer_lost: rng.random_ratio(1, 15),
            is_told: rng.random_ratio(1, 2),
        }
    }

    async fn carry(
        &self,
        (from, to): (&ServerName, &ServerName),
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Result<http::Response<Bytes>, NetError> {
        let fate = self.fate(matches!(request.method().as_str(), "PUT" | "GET"));
        let unreachable = || NetError::Unreachable(format!("{to} is not there"));
        sleep(fate.there).await;
        let door = self.doors.lock().get(to).cloned();
        let door = door.filter(|door| !door.life.is_cancelled() && !self.is_cut(from, to));
        let Some(door) = door else {
            return match fate.is_told {
                true => Err(unreachable()),
                false => std::future::pending().await,
            };
        };
        if let Some(later) = fate.doubled {
            let (door, request) = (door.clone(), copy(&request));
            self.tasks.spawn(async move {
                sleep(later).await;
                drop(door.router.oneshot(request.map(Body::from)).await);
            });
        }
        // The one who answers goes on even if the one who has asked waits no longer.
        let answering = door.router.oneshot(request.map(Body::from));
        let answering = self.tasks.spawn(async move {
            match fate.broken {
                Some(after) => timeout(after, answering).await.ok(),
                None => Some(answering.await),
            }
        });
        let answer = tokio::select! {
            biased;
            () = door.life.cancelled() => None,
            answer = answering => answer.expect("no handler panics"),
        };
        let Ok(answer) = answer.ok_or_else(unreachable)?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, bounds.bytes_max).collect().await.map_err(|_| NetError::TooLarge)?;
        sleep(fate.back).await;
        match (fate.is_answer_lost || self.is_cut(to, from), fate.is_told) {
            (false, _) => Ok(http::Response::from_parts(parts, body.to_bytes())),
            (true, true) => Err(unreachable()),
            (true, false) => std::future::pending().await,
        }
    }
}

fn copy(request: &http::Request<Bytes>) -> http::Request<Bytes> {
    let mut copy = http::Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// One server's way to the others.
pub(super) struct Port {
    sea: Arc<Sea>,
    from: OwnedServerName,
    life: CancellationToken,
}

impl Net for Port {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let counted = Counted::new(&self.sea);
            let what = format!("{} {} {} {}", self.from, request.method(), server, request.uri().path());
            let carried = timeout(bounds.timeout, self.sea.carry((&self.from, server), request, bounds));
            let answer = tokio::select! {
                biased;
                // A server that has crashed does nothing more.
                () = self.life.cancelled() => {
                    drop(counted);
                    std::future::pending().await
                }
                answer = carried => answer.unwrap_or(Err(NetError::Timeout)),
            };
            let outcome = answer.as_ref().map(http::Response::status).map_err(ToString::to_string);
            tracing::debug!("{what}: {outcome:?}");
            answer
        })
    }
}

/// One exchange that is under way.
struct Counted<'a>(&'a Sea);

impl<'a> Counted<'a> {
    fn new(sea: &'a Sea) -> Self {
        sea.under_way.fetch_add(1, Ordering::SeqCst);
        Self(sea)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        *self.0.last.lock() = Instant::now();
    }
}
