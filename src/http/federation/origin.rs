//! Which server a request comes from.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::ops::Deref;

use bytes::Bytes;
use http::{Request, StatusCode, request::Parts};
use ruma::{OwnedServerName, ServerName, api::error::ErrorKind};

use super::echo;
use crate::{
    http::{App, Failure},
    limits::BUSY_RETRY_AFTER,
    peer::{BadProof, XMatrix},
};

/// The server that a request comes from; it has proved that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub OwnedServerName);

impl Deref for Origin {
    type Target = ServerName;

    fn deref(&self) -> &ServerName {
        &self.0
    }
}

/// The server that has signed this request for us. `path` is the template of the path.
pub(in crate::http) async fn prove(
    app: &App,
    path: &str,
    (parts, body): (&Parts, &Bytes),
) -> Result<Origin, Failure> {
    if !app.config.federation.enabled {
        return Err(Failure::forbidden("This server talks to no other"));
    }
    let proof = XMatrix::of(&parts.headers).map_err(refusal)?;
    // What is for somebody else is not worth the look-up of a key.
    if proof.destination.as_ref().is_some_and(|destination| *destination != app.server_name) {
        return Err(refusal(BadProof::WrongDestination));
    }
    // What we do for others we do for ourselves by other ways; whoever signs as we do has stolen the key.
    if proof.origin == app.server_name && path != echo::PATH {
        return Err(Failure::forbidden("This server does not ask itself"));
    }
    if app.peers.denies(&proof.origin) {
        return Err(Failure::forbidden("This server has nothing to do with yours"));
    }
    let keys = app.peers.caller_key(&proof.origin, &proof.key).await;
    let keys = keys.ok_or_else(|| Failure::busy(BUSY_RETRY_AFTER))?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    proof.verify(&request, &app.server_name, &keys).map_err(refusal)?;
    app.peers.heard_from(&proof.origin);
    app.couriers.heard_from(&proof.origin);
    Ok(Origin(proof.origin))
}

fn refusal(why: BadProof) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, why.to_string())
}
