//! Requests to other servers, signed by this one.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponse, OutgoingBody, OutgoingRequest,
        auth_scheme::{AuthScheme, NoAuthentication},
        error::IntoHttpError,
        federation::{authentication::ServerSignatures, discovery::get_server_keys::v2 as get_keys},
        path_builder::SinglePath,
    },
    events::room::server_acl::RoomServerAclEventContent,
    serde::Base64,
};
use serde::de::IgnoredAny;

use super::{Bounds, Net, NetError, OldKey, PeerError, Pieces, XMatrix, health::Health, key_ring::KeyRing};
use crate::{
    keys::SigningKey,
    limits::{PEER_DOWN_FIRST, PEER_DOWN_MAX, REFUSAL_BYTES_MAX},
    log::Log,
    types::{Clock, Ports},
};

/// What a request to another server must carry.
pub trait Proof: AuthScheme {
    /// Whether it is signed.
    const SIGNED: bool;
}

impl Proof for ServerSignatures {
    const SIGNED: bool = true;
}

impl Proof for NoAuthentication {
    const SIGNED: bool = false;
}

/// What can be set about other servers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Servers that are asked for the keys of servers that do not give them.
    pub notaries: Vec<OwnedServerName>,
    /// Keys with which this server has signed in the past.
    pub old_keys: Vec<OldKey>,
    /// Public keys that prove nothing, because their secrets are known to others.
    pub ignored_keys: Vec<Base64>,
    /// Nobody is talked to.
    pub off: bool,
    /// Servers that are not talked to, as a list of denied servers in a room names them.
    pub denied: Vec<String>,
}

/// The other servers. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    net: Arc<dyn Net>,
    log: Log,
    ports: Ports,
    key: Arc<SigningKey>,
    settings: Settings,
    health: Health,
    key_ring: KeyRing,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers of {}", self.server_name())
    }
}

impl Peers {
    /// Speaks through `net` in the name of the server that `key` belongs to.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, log: Log, ports: Ports, key: Arc<SigningKey>, settings: Settings) -> Self {
        let health = Health::new(PEER_DOWN_FIRST, PEER_DOWN_MAX);
        let key_ring = KeyRing::default();
        Self(Arc::new(Inner { net, log, ports, key, settings, health, key_ring }))
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        self.0.key.server()
    }

    /// The key with which this server signs.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.0.key
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn log(&self) -> &Log {
        &self.0.log
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.0.ports.clock.as_ref()
    }

    pub(super) fn key_ring(&self) -> &KeyRing {
        &self.0.key_ring
    }

    /// Whether the operator wants nothing to do with `server`.
    #[must_use]
    pub fn denies(&self, server: &ServerName) -> bool {
        let denied = &self.0.settings.denied;
        // Names are matched as those in the list of a room.
        !denied.is_empty()
            && !RoomServerAclEventContent::new(true, vec![String::from("*")], denied.clone())
                .is_allowed(server)
    }

    fn admit(&self, server: &ServerName) -> Result<(), PeerError> {
        self.admit_any()?;
        match self.denies(server) {
            true => Err(PeerError::Forbidden(String::from("`federation.denied_servers` names it"))),
            false => Ok(()),
        }
    }

    fn admit_any(&self) -> Result<(), PeerError> {
        match self.0.settings.off {
            true => Err(PeerError::Forbidden(String::from("federation is switched off"))),
            false => Ok(()),
        }
    }

    /// Asks `server`, and reads its answer. The request is signed if the specification wants it signed.
    ///
    /// # Errors
    /// See [`PeerError`]. An answer of status 300 or more is [`PeerError::Refused`].
    pub async fn call<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, PeerError>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Send,
    {
        self.admit(server)?;
        self.ask(server, request, bounds).await
    }

    /// Asks `server` for its keys. One that is denied is asked too: what its users say in rooms that others are in is
    /// judged as these judge it.
    pub(super) async fn ask_for_keys(
        &self,
        server: &ServerName,
        bounds: Bounds,
    ) -> Result<get_keys::Response, PeerError> {
        self.admit_any()?;
        self.ask(server, get_keys::Request::new(), bounds).await
    }

    async fn ask<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, PeerError>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Send,
    {
        let mut request = write(request).map_err(|error| PeerError::BadRequest(error.to_string()))?;
        if <R::Authentication as Proof>::SIGNED {
            let proof = XMatrix::sign(&request, &self.0.key, server);
            let proof = proof.map_err(|error| PeerError::BadRequest(error.to_string()))?;
            request.headers_mut().insert(header::AUTHORIZATION, proof.header());
        }
        let answer = self.exchange(server, request, bounds).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(PeerError::refused(status, answer.body()));
        }
        let (parts, body) = answer.into_parts();
        R::IncomingResponse::try_from_http_response_inner(http::Response::from_parts(parts, &*body)).map_err(
            |error| match serde_json::from_slice::<IgnoredAny>(&body) {
                Ok(_) => PeerError::BadAnswer(error.to_string()),
                Err(error) => PeerError::Stranger(error.to_string()),
            },
        )
    }

    /// Puts `body`, which is JSON, at `target`, a path: a signed request that ruma's types do not express. The body of
    /// the answer.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub async fn put(
        &self,
        server: &ServerName,
        target: &str,
        body: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Bytes, PeerError> {
        self.hand(server, http::Request::put(target), body, bounds).await
    }

    /// As [`Self::put`], by `POST`.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub async fn post(
        &self,
        server: &ServerName,
        target: &str,
        body: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Bytes, PeerError> {
        self.hand(server, http::Request::post(target), body, bounds).await
    }

    async fn hand(
        &self,
        server: &ServerName,
        request: http::request::Builder,
        body: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Bytes, PeerError> {
        self.admit(server)?;
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body));
        let mut request = request.map_err(|error| PeerError::BadRequest(error.to_string()))?;
        let proof = XMatrix::sign(&request, &self.0.key, server);
        let proof = proof.map_err(|error| PeerError::BadRequest(error.to_string()))?;
        request.headers_mut().insert(header::AUTHORIZATION, proof.header());
        let answer = self.exchange(server, request, bounds).await?;
        match answer.status() {
            status if status.is_success() => Ok(answer.into_body()),
            status => Err(PeerError::refused(status, answer.body())),
        }
    }

    /// Gets `target`, a path with a query, from `server`, and waits for the head of the answer, at most `timeout`. The
    /// body comes piece by piece, however long it is.
    ///
    /// # Errors
    /// See [`PeerError`]. An answer of status 400 or more is [`PeerError::Refused`].
    pub async fn open(
        &self,
        server: &ServerName,
        target: &str,
        (signed, timeout): (bool, Duration),
    ) -> Result<http::Response<Pieces>, PeerError> {
        self.admit(server)?;
        let request = http::Request::get(target).body(Bytes::new());
        let mut request = request.map_err(|error| PeerError::BadRequest(error.to_string()))?;
        if signed {
            let proof = XMatrix::sign(&request, &self.0.key, server);
            let proof = proof.map_err(|error| PeerError::BadRequest(error.to_string()))?;
            request.headers_mut().insert(header::AUTHORIZATION, proof.header());
        }
        let answer = self.0.net.open(server, request, timeout).await;
        match &answer {
            Ok(_) => self.0.health.answered(server),
            Err(_) => self.0.health.failed(server, self.0.ports.clock.monotonic()),
        }
        let answer = answer?;
        let status = answer.status();
        if status.as_u16() < 400 {
            return Ok(answer);
        }
        Err(PeerError::refused(status, &gather(answer.into_body(), timeout).await))
    }

    /// Gets what is at `request`'s address anywhere in the web, with a body that comes piece by piece. Addresses in
    /// private ranges are refused, whatever name leads there. Redirects are answers like others.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn browse(
        &self,
        request: http::Request<()>,
        timeout: Duration,
    ) -> Result<http::Response<Pieces>, PeerError> {
        Ok(self.0.net.browse(request.map(|()| Bytes::new()), timeout).await?)
    }

    /// Whether `server` has just failed to answer and is not worth waiting for. For what can be done
    /// without it, or by another server; couriers have a patience of their own.
    #[must_use]
    pub fn is_down(&self, server: &ServerName) -> bool {
        self.0.health.is_down(server, self.0.ports.clock.monotonic())
    }

    /// Takes note that `server` is there: it has asked us something.
    pub fn heard_from(&self, server: &ServerName) {
        self.0.health.answered(server);
    }

    /// Takes note that others have answered what `server` was asked before them.
    pub(super) fn overtaken(&self, server: &ServerName) {
        self.0.health.failed(server, self.0.ports.clock.monotonic());
    }

    async fn exchange(
        &self,
        server: &ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Result<http::Response<Bytes>, NetError> {
        let answer = self.0.net.exchange(server, request, bounds).await;
        match &answer {
            Ok(_) | Err(NetError::TooLarge) => self.0.health.answered(server),
            Err(_) => self.0.health.failed(server, self.0.ports.clock.monotonic()),
        }
        answer
    }
}

/// The beginning of a refusal.
async fn gather(mut body: Pieces, timeout: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(Ok(piece)) = body.next().await {
            bytes.extend(piece.iter().take(REFUSAL_BYTES_MAX.saturating_sub(bytes.len())));
            if bytes.len() == REFUSAL_BYTES_MAX {
                break;
            }
        }
    };
    // What has come until then is enough, or nothing is.
    drop(tokio::time::timeout(timeout, reading).await);
    bytes
}

/// `request` as bytes, its target a path with a query.
fn write<R: OutgoingRequest<PathBuilder = SinglePath>>(
    request: R,
) -> Result<http::Request<Bytes>, IntoHttpError> {
    let (mut parts, body) = request.try_into_http_request_inner("", ())?.into_parts();
    if let Some(kind) = body.content_type()
        && !parts.headers.contains_key(header::CONTENT_TYPE)
    {
        parts.headers.insert(header::CONTENT_TYPE, kind);
    }
    let body: BytesMut = body.try_into_buf().map_err(Into::into)?;
    Ok(http::Request::from_parts(parts, body.freeze()))
}
