//! The door to the network, as a trait, so that a test may put a simulated network behind it.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use ruma::ServerName;

use crate::{
    limits::{PEER_ANSWER_BYTES_MAX, PEER_SECONDS_MAX},
    store::BoxFuture,
};

/// What one exchange may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the first look-up to the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub bytes_max: usize,
}

impl Bounds {
    /// Other bounds than the usual ones.
    #[must_use]
    pub const fn new(timeout: Duration, bytes_max: usize) -> Self {
        Self { timeout, bytes_max }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new(PEER_SECONDS_MAX, PEER_ANSWER_BYTES_MAX)
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NetError {
    /// The server was not found, nobody listens there, or what answers is not it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The answer took too long.
    #[error("did not answer in time")]
    Timeout,
    /// The answer is larger than allowed.
    #[error("answered with more than is allowed")]
    TooLarge,
    /// Its address is one that this server does not talk to.
    #[error("may not be talked to: {0}")]
    Forbidden(String),
}

/// Why a web server is talked to: each purpose has ranges of addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To hand over notifications: a user has named it.
    Push,
    /// To hand over events: the operator has named it, so it may lie anywhere.
    Appservice,
    /// To ask who somebody is: the operator has named it, so it may lie anywhere.
    Provider,
    /// To have the solution of a puzzle judged: the operator has named it, mostly without a thought of the network.
    Captcha,
    /// To let users into calls: the operator has named it, so it may lie anywhere.
    Sfu,
    /// To ask an identity server: the operator has named it, mostly without a thought of the network.
    Identity,
    /// To look at a page: a user, or a stranger, has named it.
    Page,
}

/// The body of an answer, piece by piece.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, NetError>> + Send>>;

/// Carries requests to other servers by their names, and to web servers by their addresses.
pub trait Net: Send + Sync + 'static {
    /// Sends `request`, whose target is a path with a query, to `server`, and waits for the whole answer.
    /// Redirects are answers like others.
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        drop((server, request, bounds));
        nobody()
    }

    /// Sends `request`, whose target is a whole URL (`http` or `https`), and waits for the whole answer.
    /// Redirects are answers like others.
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        drop((purpose, request, bounds));
        nobody()
    }

    /// As [`Self::exchange`], but waits for the head of the answer only, at most `timeout`.
    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<http::Response<Pieces>, NetError>> {
        Box::pin(async move {
            let answer = self.exchange(server, request, Bounds::new(timeout, PEER_ANSWER_BYTES_MAX)).await?;
            Ok(answer.map(|body| stream::iter([Ok(body)]).boxed()))
        })
    }

    /// As [`Self::visit`] for a page, but waits for the head of the answer only, at most `timeout`.
    fn browse<'a>(
        &'a self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<http::Response<Pieces>, NetError>> {
        Box::pin(async move {
            let bounds = Bounds::new(timeout, PEER_ANSWER_BYTES_MAX);
            let answer = self.visit(Purpose::Page, request, bounds).await?;
            Ok(answer.map(|body| stream::iter([Ok(body)]).boxed()))
        })
    }
}

/// Where a network does not lead.
fn nobody<T: 'static>() -> BoxFuture<'static, Result<T, NetError>> {
    Box::pin(async { Err(NetError::Unreachable(String::from("there is no network"))) })
}

/// No network at all: nobody can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Isolated;

impl Net for Isolated {}
