//! To whom a name delegates: `/.well-known/matrix/server`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use quick_cache::sync::Cache;
use ruma::OwnedServerName;
use serde_json::{Map, Value};

use super::{NetError, flights::Flights};
use crate::{
    limits::{
        WELL_KNOWN_ABSENT, WELL_KNOWN_CACHED, WELL_KNOWN_DEFAULT, WELL_KNOWN_FAILED, WELL_KNOWN_MAX,
        WELL_KNOWN_MIN, WELL_KNOWN_REDIRECTS_MAX,
    },
    store::BoxFuture,
    types::Clock,
};

/// Fetches documents of the web.
pub trait Web: Send + Sync + 'static {
    /// Gets `uri`, which is `https`. Redirects are answers like others.
    fn get<'a>(&'a self, uri: &'a Uri) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>>;
}

/// What a name says about delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// This server stands for it.
    To(OwnedServerName),
    /// It says nothing, for this reason.
    None(String),
    /// It says something that makes no sense, which counts as nothing.
    Broken(String),
}

#[derive(Clone)]
struct Known {
    delegation: Delegation,
    until: Duration,
    /// Until when a delegation still counts if it cannot be had anew.
    stale_until: Duration,
}

/// Asks, and remembers the answers.
pub(super) struct WellKnown {
    web: Arc<dyn Web>,
    clock: Arc<dyn Clock>,
    known: Cache<String, Known>,
    flights: Flights<String, Known>,
}

impl WellKnown {
    pub(super) fn new(web: Arc<dyn Web>, clock: Arc<dyn Clock>) -> Self {
        Self { web, clock, known: Cache::new(WELL_KNOWN_CACHED), flights: Flights::default() }
    }

    /// To whom `host`, in lower case, delegates.
    pub(super) async fn of(&self, host: &str) -> Delegation {
        let key = String::from(host);
        let before = self.known.get(&key);
        if let Some(known) = before.as_ref().filter(|known| self.clock.monotonic() < known.until) {
            return known.delegation.clone();
        }
        let known = self.flights.join(&key, || self.ask(host, before)).await;
        known.delegation
    }

    async fn ask(&self, host: &str, before: Option<Known>) -> Known {
        let answer = fetch(self.web.as_ref(), host).await;
        let now = self.clock.monotonic();
        let known = match answer {
            Ok((server, age)) => Known {
                delegation: Delegation::To(server),
                until: now + age,
                stale_until: now + WELL_KNOWN_MAX,
            },
            Err(why) => {
                let until = now + if why.absent { WELL_KNOWN_ABSENT } else { WELL_KNOWN_FAILED };
                let stale = before.filter(|known| !why.absent && now < known.stale_until);
                match stale {
                    Some(known) => Known { until, ..known },
                    None => {
                        let told = if why.broken { Delegation::Broken } else { Delegation::None };
                        Known { delegation: told(why.text), until, stale_until: now }
                    }
                }
            }
        };
        self.known.insert(String::from(host), known.clone());
        known
    }
}

struct Nothing {
    /// The web server says that there is nothing, or something else; it was reached at least.
    absent: bool,
    /// Nobody can have meant it so.
    broken: bool,
    text: String,
}

impl Nothing {
    fn broken(text: impl Into<String>) -> Self {
        Self { absent: true, broken: true, text: text.into() }
    }
}

async fn fetch(web: &dyn Web, host: &str) -> Result<(OwnedServerName, Duration), Nothing> {
    let mut uri: Uri = format!("https://{host}/.well-known/matrix/server")
        .parse()
        .map_err(|_| Nothing::broken("the name cannot be written into an address"))?;
    for _ in 0..=WELL_KNOWN_REDIRECTS_MAX {
        let answer = web.get(&uri).await;
        let answer = answer.map_err(|error| {
            let text = format!("{uri} {error}");
            Nothing { absent: false, broken: false, text }
        })?;
        let status = answer.status();
        if status.is_redirection() {
            uri = next_hop(&uri, answer.headers())?;
            continue;
        }
        if status != StatusCode::OK {
            let text = format!("{uri} answers {status}");
            let broken = !matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
            return Err(Nothing { absent: !status.is_server_error(), broken, text });
        }
        let server = read(answer.body()).map_err(|why| Nothing::broken(format!("{uri}: {why}")))?;
        return Ok((server, age(answer.headers())));
    }
    Err(Nothing::broken(format!("{uri}: too many redirects")))
}

fn read(body: &[u8]) -> Result<OwnedServerName, String> {
    // Not a struct: serde would take an array for one.
    let document: Map<String, Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let server = document.get("m.server").and_then(Value::as_str).ok_or("there is no `m.server`")?;
    OwnedServerName::try_from(server).map_err(|error| format!("m.server: {error}"))
}

/// Where a redirect leads; never out of HTTPS.
fn next_hop(from: &Uri, headers: &HeaderMap) -> Result<Uri, Nothing> {
    let bad = || Nothing::broken(format!("{from} redirects to nowhere"));
    let to = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(bad)?;
    let host = from.authority().ok_or_else(bad)?;
    let absolute = match to {
        to if to.starts_with("//") => format!("https:{to}"),
        to if to.starts_with('/') => format!("https://{host}{to}"),
        to if to.contains("://") => String::from(to),
        _ => return Err(bad()),
    };
    let uri: Uri = absolute.parse().map_err(|_| bad())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(uri),
        _ => Err(Nothing::broken(format!("{from} redirects out of HTTPS"))),
    }
}

/// How long an answer may be kept.
fn age(headers: &HeaderMap) -> Duration {
    let control = headers.get_all(header::CACHE_CONTROL).iter();
    let control = control.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut age = WELL_KNOWN_DEFAULT;
    for directive in control.map(|directive| directive.trim().to_ascii_lowercase()) {
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse::<u64>();
            age = seconds.map_or(age, Duration::from_secs);
        } else if directive == "no-store" || directive == "no-cache" {
            age = Duration::ZERO;
        }
    }
    age.clamp(WELL_KNOWN_MIN, WELL_KNOWN_MAX)
}
