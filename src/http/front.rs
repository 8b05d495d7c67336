//! The door: everything that happens to every request, whatever its endpoint.

use std::{any::Any, borrow::Cow, net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tower::ServiceExt;
use tower_http::compression::{
    Compression,
    predicate::{Predicate, SizeAbove},
};
use tracing::Instrument;

use super::{App, Failure, Peer, Routes, metrics::Answered, routes::RouteLabel};
use crate::limits::COMPRESS_BYTES_MIN;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This address.
    Tcp(IpAddr),
    /// A program on this machine that may open the socket.
    Unix,
}

/// Answers the requests of every connection. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    app: App,
    router: Compression<Router, Json>,
}

/// Compresses JSON that is worth it. Media are compressed already, and must not be guessed from their
/// length.
#[derive(Clone, Copy, Debug)]
struct Json;

impl Predicate for Json {
    fn should_compress<B: hyper::body::Body>(&self, response: &Response<B>) -> bool {
        let json = response.headers().get(header::CONTENT_TYPE);
        let json = json.is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        json && SizeAbove::new(COMPRESS_BYTES_MIN).should_compress(response)
    }
}

impl Front {
    /// Opens the door to `routes`.
    #[must_use]
    pub fn new(app: App, routes: Routes) -> Self {
        let router = Compression::new(routes.into_router(app.clone())).compress_when(Json);
        Self(Arc::new(Inner { app, router }))
    }

    /// Answers one request; never fails.
    pub async fn answer(&self, mut request: Request<Body>, source: Source) -> Response {
        let app = &self.0.app;
        let started = app.ports.clock.monotonic();
        let method = known(request.method());
        // Neither the query nor the headers: both may carry an access token.
        let span = tracing::info_span!("request", method, path = &*loggable(request.uri().path()));
        let peer = peer(request.headers(), source, &app.config.trusted_proxies);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(source);

        let mut response = match *request.method() {
            Method::OPTIONS => empty(StatusCode::NO_CONTENT),
            _ => self.route(request).instrument(span.clone()).await,
        };
        allow_browsers(response.headers_mut());
        let took = app.ports.clock.monotonic().saturating_sub(started);
        let route = response.extensions().get::<RouteLabel>().map_or("none", |label| label.0);
        let status = response.status().as_u16();
        tracing::debug!(parent: &span, status, took_ms = took.as_millis() as u64, "answered");
        app.metrics.answered(Answered { route, method, status, took });
        response
    }

    async fn route(&self, request: Request<Body>) -> Response {
        let answer = self.0.router.clone().oneshot(request);
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => response.map(Body::new),
            Ok(Err(never)) => match never {},
            Err(panic) => Failure::internal(panic_text(&*panic)).into_response(),
        }
    }
}

/// What follows these in a path lets whoever knows it do something, without any other proof.
const KEPT_SECRET: [&str; 3] = ["/delayed_events/", "/registration_tokens/", "/rendezvous/"];

/// A path as it may be logged.
fn loggable(path: &str) -> Cow<'_, str> {
    let end = KEPT_SECRET.iter().find_map(|word| path.find(word).map(|at| at + word.len()));
    match end {
        Some(end) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| String::from(*text));
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_default())
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// <https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>
fn allow_browsers(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "X-Requested-With, Content-Type, Authorization, Date, If-Match, If-None-Match",
        ),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}

/// The method as a word of a small vocabulary: anybody can invent methods.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Who really asks, when a trusted proxy stands between.
fn peer(headers: &HeaderMap, source: Source, trusted: &[IpAddr]) -> Peer {
    let believed = |ip: &IpAddr| trusted.contains(&ip.to_canonical());
    let (direct, believe) = match source {
        Source::Tcp(ip) => (Some(ip.to_canonical()), believed(&ip)),
        Source::Unix => (None, true),
    };
    // Each proxy adds at the right; what stands left of the first untrusted one may be invented.
    let forwarded = headers.get_all("x-forwarded-for").iter().rev();
    let forwarded = forwarded.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
    let named = forwarded.map_while(|text| text.trim().parse::<IpAddr>().ok());
    let named = if believe { named.map(|ip| ip.to_canonical()).find(|ip| !believed(ip)) } else { None };
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let user_agent = user_agent.map(|text| text.chars().take(500).collect());
    Peer { ip: named.or(direct), user_agent, appservice: None }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::HeaderMap;

    use super::{Source, loggable, peer};

    #[track_caller]
    fn check(source: &str, forwarded: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap()];
        let source = source.parse().map_or(Source::Unix, Source::Tcp);
        let ip = peer(&headers, source, &trusted).ip;
        assert_eq!(ip.map(|ip| ip.to_string()).unwrap_or_default(), expected);
    }

    /// Row 7.15 of the list of known vulnerabilities: what lets somebody do something is in no line of the log.
    #[test]
    fn row_7_15_secrets_in_paths_are_not_logged() {
        let routes = crate::http::endpoints();
        let secret = ["{delay_id}", "{token}", "{id}"];
        let with_secret =
            routes.listed().iter().filter(|(_, path)| secret.iter().any(|name| path.contains(name)));
        let mut count = 0;
        for (_, path) in with_secret {
            let logged = loggable(path);
            assert!(secret.iter().all(|name| !logged.contains(name)), "{path}: {logged}");
            count += 1;
        }
        assert!(count > 5, "{count} paths have secrets in them");
        assert_eq!(
            loggable("/_matrix/client/v3/rooms/!a/send/m.x/1"),
            "/_matrix/client/v3/rooms/!a/send/m.x/1"
        );
    }

    /// Row 7.12 of the list of known vulnerabilities (tuwunel #427: whoever made up an address was counted under that
    /// one): an address is taken from proxies that are trusted, and from the right.
    #[test]
    fn row_7_12_forwarded_addresses_are_believed_from_trusted_proxies_only() {
        check("7.7.7.7", &[], "7.7.7.7");
        check("7.7.7.7", &["1.2.3.4"], "7.7.7.7");
        check("127.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("::ffff:127.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("127.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4");
        check("127.0.0.1", &["6.6.6.6", "1.2.3.4, 10.0.0.9"], "1.2.3.4");
        check("127.0.0.1", &["1.2.3.4, nonsense"], "127.0.0.1");
        check("127.0.0.1", &[], "127.0.0.1");
        check("unix", &["1.2.3.4"], "1.2.3.4");
        check("unix", &[], "");
    }
}
