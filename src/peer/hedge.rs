//! One question to several servers, any of which will do.
//!
//! A server that hangs costs a short while and not the whole time that it is given: then the next one is asked as well, and
//! the first good answer counts. Only for what may be asked of several servers at once without harm.

use std::collections::{BTreeSet, VecDeque};

use futures_util::stream::{FuturesUnordered, StreamExt};
use ruma::{
    OwnedServerName,
    api::{OutgoingRequest, path_builder::SinglePath},
};
use tokio::time::timeout;

use super::{Bounds, PeerError, Peers, Proof};
use crate::{limits::HEDGE_AFTER, store::BoxFuture};

/// Who was asked, and what came of it.
pub type Told<A, E = PeerError> = (OwnedServerName, Result<A, E>);

/// Servers to which one question is put, and what is under way. Dropping it ends that.
pub struct Hedge<A, E = PeerError> {
    peers: Peers,
    /// Who has not been asked yet, best first.
    waiting: VecDeque<OwnedServerName>,
    /// All that were ever among them.
    known: BTreeSet<OwnedServerName>,
    under_way: FuturesUnordered<BoxFuture<'static, Told<A, E>>>,
    /// Who has these questions, and whether another was asked because of their silence.
    asked: Vec<(OwnedServerName, bool)>,
}

impl<A, E> std::fmt::Debug for Hedge<A, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hedge").field("waiting", &self.waiting).field("asked", &self.asked).finish()
    }
}

impl<A, E> Hedge<A, E> {
    /// Will ask `servers` in this order.
    #[must_use]
    pub fn new(peers: &Peers, servers: impl IntoIterator<Item = OwnedServerName>) -> Self {
        let mut hedge = Self {
            peers: peers.clone(),
            waiting: VecDeque::new(),
            known: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
            asked: Vec::new(),
        };
        hedge.also(servers);
        hedge
    }

    /// Will ask these after all others, unless it has asked them already or will.
    pub fn also(&mut self, servers: impl IntoIterator<Item = OwnedServerName>) {
        let new = servers.into_iter().filter(|server| self.known.insert(server.clone()));
        self.waiting.extend(new);
    }

    /// Will ask none of those that wait but `servers`, and these too.
    pub fn only(&mut self, servers: &[OwnedServerName]) {
        self.waiting.retain(|server| servers.contains(server));
        self.also(servers.iter().cloned());
    }

    /// Will ask `server` next: it has more to tell.
    pub fn again(&mut self, server: OwnedServerName) {
        self.waiting.push_front(server);
    }

    /// What comes next, of whomever; nothing when all have been asked. Each call asks another server, since what came
    /// before was not enough, and so does each short while without an answer. `ask` gives the question to a server, or
    /// nothing when no more may be asked.
    ///
    /// After a good answer nothing is under way: those that have been overtaken wait again, should it not do.
    pub async fn next<F>(&mut self, mut ask: impl FnMut(OwnedServerName) -> Option<F>) -> Option<Told<A, E>>
    where
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        self.ask_another(&mut ask);
        let (server, answer) = loop {
            if self.waiting.is_empty() {
                break self.under_way.next().await?;
            }
            match timeout(HEDGE_AFTER, self.under_way.next()).await {
                Ok(told) => break told?,
                Err(_) => {
                    self.asked.iter_mut().for_each(|(_, is_slow)| *is_slow = true);
                    self.ask_another(&mut ask);
                }
            }
        };
        self.asked.retain(|(asked, _)| *asked != server);
        if answer.is_ok() {
            self.under_way.clear();
            for (server, is_slow) in self.asked.drain(..).rev() {
                if is_slow {
                    // Nobody waits for it again at once.
                    self.peers.overtaken(&server);
                    self.waiting.push_back(server);
                } else {
                    self.waiting.push_front(server);
                }
            }
        }
        Some((server, answer))
    }

    fn ask_another<F>(&mut self, ask: &mut impl FnMut(OwnedServerName) -> Option<F>)
    where
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        let Some(server) = self.waiting.pop_front() else { return };
        let Some(question) = ask(server.clone()) else {
            self.waiting.clear();
            return;
        };
        self.asked.push((server.clone(), false));
        self.under_way.push(Box::pin(async move { (server, question.await) }));
    }
}

impl<A> Hedge<A> {
    /// As [`Self::next`], with one request for all.
    pub async fn call<R>(&mut self, request: &R, bounds: Bounds) -> Option<Told<A>>
    where
        R: OutgoingRequest<IncomingResponse = A, Authentication: Proof, PathBuilder = SinglePath>
            + Clone
            + Send
            + 'static,
    {
        let peers = self.peers.clone();
        self.next(|server| {
            let (peers, request) = (peers.clone(), request.clone());
            Some(async move { peers.call(&server, request, bounds).await })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use parking_lot::Mutex;
    use ruma::OwnedServerName;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        keys::SigningKey,
        log::Log,
        peer::{Isolated, Settings},
        store::{Db, memory::Memory},
        types::{ManualClock, Ports, SeededRng},
    };

    const NEVER: u64 = 1_000_000;

    fn server(name: &str) -> OwnedServerName {
        OwnedServerName::try_from(format!("{name}.org")).unwrap()
    }

    /// Servers by what they do: after so many seconds they give the answer, or fail.
    struct Town {
        peers: Peers,
        asked: Arc<Mutex<Vec<(String, u64)>>>,
        begun: tokio::time::Instant,
    }

    impl Town {
        async fn new() -> Self {
            let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
            let ports = Ports { clock: Arc::new(ManualClock::at(1)), rng: Arc::new(SeededRng::new(1)) };
            let key = Arc::new(SigningKey::from_seed(server("us"), "1", [1; 32]).unwrap());
            let peers = Peers::new(Arc::new(Isolated), log, ports, key, Settings::default());
            Self { peers, asked: Arc::default(), begun: tokio::time::Instant::now() }
        }

        fn seconds(&self) -> u64 {
            self.begun.elapsed().as_secs()
        }

        /// The question to a server: its name says what comes of it, as in `good3`, `bad0`.
        fn ask(&self, server: &OwnedServerName) -> impl Future<Output = Result<u64, ()>> + Send + use<> {
            let name = server.as_str().trim_end_matches(".org").to_owned();
            self.asked.lock().push((name.clone(), self.seconds()));
            async move {
                let digits = name.find(|c: char| c.is_ascii_digit()).unwrap();
                let after: u64 = name[digits..].parse().unwrap();
                tokio::time::sleep(Duration::from_secs(after)).await;
                if name.starts_with("good") { Ok(after) } else { Err(()) }
            }
        }

        /// The first good answer of these servers, if there is one, and who was asked when.
        async fn first(&self, names: &[&str]) -> (Option<u64>, Vec<(String, u64)>) {
            let mut hedge = Hedge::new(&self.peers, names.iter().map(|name| server(name)));
            let mut found = None;
            while let Some((_, answer)) = hedge.next(|server| Some(self.ask(&server))).await {
                if let Ok(answer) = answer {
                    found = Some(answer);
                    break;
                }
            }
            (found, std::mem::take(&mut self.asked.lock()))
        }
    }

    #[track_caller]
    fn check(told: (Option<u64>, Vec<(String, u64)>), found: Option<u64>, asked: &[(&str, u64)]) {
        let expected: Vec<_> = asked.iter().map(|(name, at)| (String::from(*name), *at)).collect();
        assert_eq!(told, (found, expected));
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_is_slow_is_asked_together_with_another() {
        let pause = HEDGE_AFTER.as_secs();
        let town = Town::new().await;
        check(town.first(&["good1", "good0"]).await, Some(1), &[("good1", 0)]);
        let town = Town::new().await;
        check(town.first(&["bad0", "good0"]).await, Some(0), &[("bad0", 0), ("good0", 0)]);
        let hanging = format!("good{NEVER}");
        let town = Town::new().await;
        let told = town.first(&[&hanging, "bad1", "good2", "good0"]).await;
        check(told, Some(2), &[(&hanging, 0), ("bad1", pause), ("good2", pause + 1)]);
        assert_eq!(town.seconds(), pause + 3);
        assert!(town.peers.is_down(&server(&hanging)), "nobody waits for it again at once");
        let town = Town::new().await;
        // What was asked first may still be the first to answer.
        let told = town.first(&["good7", "good6"]).await;
        check(told, Some(7), &[("good7", 0), ("good6", pause)]);
        assert!(!town.peers.is_down(&server("good6")), "it had no time to answer");
        let town = Town::new().await;
        check(town.first(&["bad0", "bad7"]).await, None, &[("bad0", 0), ("bad7", 0)]);
        check(town.first(&[]).await, None, &[]);
    }

    /// Where a good answer does not do after all, those that it has overtaken are asked anew; and no more are when no
    /// more may be.
    #[tokio::test(start_paused = true)]
    async fn who_was_overtaken_waits_again() {
        let town = Town::new().await;
        let mut hedge = Hedge::new(&town.peers, ["bad9", "good0", "good1"].map(server));
        let mut left = 4;
        let mut told = Vec::new();
        loop {
            let ask = |server: OwnedServerName| {
                left -= 1;
                (left >= 0).then(|| town.ask(&server))
            };
            let Some((who, answer)) = hedge.next(ask).await else { break };
            told.push((who.to_string(), answer));
            if told.len() == 1 {
                hedge.only(&["bad9", "good1"].map(server));
                hedge.again(who);
            }
        }
        let expected = [("good0.org", Ok(0)), ("good0.org", Ok(0)), ("good1.org", Ok(1))];
        assert_eq!(told, expected.map(|(name, answer)| (String::from(name), answer)));
        assert_eq!(town.seconds(), HEDGE_AFTER.as_secs() + 1, "bad9 is not asked a second time");
    }
}
