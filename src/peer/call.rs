//! Requests to other servers, signed by this one.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::header;
use ruma::{
    ServerName,
    api::{
        IncomingResponse, OutgoingBody, OutgoingRequest,
        auth_scheme::{AuthScheme, NoAuthentication},
        error::IntoHttpError,
        federation::authentication::ServerSignatures,
        path_builder::SinglePath,
    },
};

use super::{Bounds, Net, NetError, PeerError, XMatrix, health::Health};
use crate::{keys::SigningKey, log::Log, types::Ports};

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
pub struct Settings {}

/// The other servers. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    net: Arc<dyn Net>,
    ports: Ports,
    key: Arc<SigningKey>,
    health: Health,
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
        drop((log, settings));
        Self(Arc::new(Inner { net, ports, key, health: Health::default() }))
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
        R::IncomingResponse::try_from_http_response_inner(http::Response::from_parts(parts, &*body))
            .map_err(|error| PeerError::BadAnswer(error.to_string()))
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
