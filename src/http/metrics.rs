//! What the server counts about itself, for Prometheus.

use std::time::Duration;

use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::types::Position;

/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The measurements of one server. Several servers in one process keep theirs apart.
pub struct Metrics(PrometheusRecorder);

/// One answered request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) took: Duration,
}

impl Metrics {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Full(String::from("lockstep_http_request_seconds"));
        let builder = builder.set_buckets_for_metric(matcher, &BUCKETS);
        Self(builder.expect("there are buckets").build_recorder())
    }

    /// Lets `measure` record with the macros of the `metrics` crate.
    pub fn record<T>(&self, measure: impl FnOnce() -> T) -> T {
        with_local_recorder(&self.0, measure)
    }

    pub(super) fn answered(&self, answered: Answered) {
        let Answered { route, method, status, took } = answered;
        self.record(|| {
            let status = status.to_string();
            counter!("lockstep_http_requests_total", "route" => route, "method" => method, "status" => status)
                .increment(1);
            histogram!("lockstep_http_request_seconds", "route" => route).record(took);
        });
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self, head: Position, polls: usize, requests: usize) -> String {
        self.record(|| {
            // Gauges are floats in Prometheus; positions stay exact up to 2^53.
            gauge!("lockstep_log_head").set(head.0 as f64);
            gauge!("lockstep_long_polls").set(polls as f64);
            gauge!("lockstep_requests_in_flight").set(requests as f64);
        });
        let handle = self.0.handle();
        handle.run_upkeep();
        handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
