//! A DNS that is not waited for too long, nor asked again at once for what it could not say.

use std::{collections::HashMap, future::Future, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    dns::{Dns, DnsError, Service},
    flights::Flights,
};
use crate::{
    limits::{
        DNS_ADDRESSES_FAILED, DNS_ADDRESSES_MAX, DNS_FAILURES_KEPT, DNS_SERVICES_FAILED, DNS_SERVICES_MAX,
    },
    store::BoxFuture,
    types::Clock,
};

/// Another DNS, with patience.
pub(super) struct Patient {
    dns: Arc<dyn Dns>,
    addresses: Question<IpAddr>,
    services: Question<Service>,
}

/// One kind of question.
struct Question<T> {
    clock: Arc<dyn Clock>,
    /// How long an answer may take.
    wait: Duration,
    /// How long a failure is remembered.
    pause: Duration,
    failed: Mutex<HashMap<String, (Duration, DnsError)>>,
    flights: Flights<String, Result<Vec<T>, DnsError>>,
}

impl<T: Clone> Question<T> {
    fn new(clock: &Arc<dyn Clock>, wait: Duration, pause: Duration) -> Self {
        Self { clock: clock.clone(), wait, pause, failed: Mutex::default(), flights: Flights::default() }
    }

    /// The answer of `asking`, which is asked once for all who want to know.
    async fn ask(
        &self,
        name: &str,
        asking: impl Future<Output = Result<Vec<T>, DnsError>>,
    ) -> Result<Vec<T>, DnsError> {
        let now = self.clock.monotonic();
        if let Some((until, error)) = self.failed.lock().get(name)
            && now < *until
        {
            return Err(error.clone());
        }
        let work = || async {
            let answer = tokio::time::timeout(self.wait, asking).await;
            let answer = answer.unwrap_or_else(|_| Err(DnsError::new(name, "no answer in time")));
            if let Err(error) = &answer {
                self.remember(name, error);
            }
            answer
        };
        self.flights.join(&name.to_owned(), work).await
    }

    fn remember(&self, name: &str, error: &DnsError) {
        let now = self.clock.monotonic();
        let mut failed = self.failed.lock();
        if failed.len() >= DNS_FAILURES_KEPT {
            failed.retain(|_, (until, _)| now < *until);
        }
        if failed.len() < DNS_FAILURES_KEPT {
            failed.insert(name.to_owned(), (now + self.pause, error.clone()));
        }
    }
}

impl Patient {
    /// Asks `dns`.
    pub(super) fn new(dns: Arc<dyn Dns>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            dns,
            addresses: Question::new(clock, DNS_ADDRESSES_MAX, DNS_ADDRESSES_FAILED),
            services: Question::new(clock, DNS_SERVICES_MAX, DNS_SERVICES_FAILED),
        }
    }
}

impl Dns for Patient {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(self.addresses.ask(name, async move { self.dns.addresses(name).await }))
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(self.services.ask(name, async move { self.dns.services(name).await }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ruma::server_name;

    use super::*;
    use crate::{
        peer::{Gate, Locator},
        types::{ManualClock, SeededRng},
    };

    /// Knows addresses, drops questions for services, and fails for one name.
    #[derive(Default)]
    struct Dropping {
        asked: AtomicUsize,
    }

    impl Dns for Dropping {
        fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match name {
                    "broken.org" => Err(DnsError::new(name, "SERVFAIL")),
                    _ => Ok(vec![[1, 2, 3, 4].into()]),
                }
            })
        }

        fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }
    }

    fn world() -> (Arc<Dropping>, Arc<ManualClock>, Locator) {
        let (dns, clock) = (Arc::new(Dropping::default()), Arc::new(ManualClock::at(1)));
        let shared: Arc<dyn Clock> = clock.clone();
        let patient = Arc::new(Patient::new(dns.clone(), &shared));
        (dns, clock, Locator::new(patient, Gate::open(), Arc::new(SeededRng::new(1))))
    }

    /// Both kinds of services are asked for at once, and that they are not told keeps nobody from the server.
    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_drops_questions_for_services_does_not_hide_a_server() {
        let (dns, _, locator) = world();
        let begun = tokio::time::Instant::now();
        let place = locator.locate(server_name!("a.org")).await.unwrap();
        assert_eq!(place.addresses, ["1.2.3.4:8448".parse().unwrap()]);
        assert!(begun.elapsed() <= DNS_SERVICES_MAX, "it took {:?}", begun.elapsed());
        // The next time nobody waits for it.
        let (begun, asked) = (tokio::time::Instant::now(), dns.asked.load(Ordering::SeqCst));
        locator.locate(server_name!("a.org")).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(dns.asked.load(Ordering::SeqCst), asked + 1, "only the addresses are asked for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_a_while() {
        let (dns, clock, locator) = world();
        let ask = async || {
            let before = dns.asked.load(Ordering::SeqCst);
            locator.locate_host("broken.org", 1).await.unwrap_err();
            dns.asked.load(Ordering::SeqCst) - before
        };
        assert_eq!((ask().await, ask().await), (1, 0));
        clock.advance(DNS_ADDRESSES_FAILED);
        assert_eq!(ask().await, 1);
    }
}
