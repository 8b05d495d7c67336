//! Transactions over the network.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

use std::time::Duration;

use http::StatusCode;
use ruma::{
    MilliSecondsSinceUnixEpoch, ServerName, UInt,
    api::{
        error::{ErrorKind, RetryAfter},
        federation::transactions::{edu::Edu, send_transaction_message::v1::Request},
    },
    serde::Raw,
};

use super::{Transaction, Transport, TransportError};
use crate::{
    limits::COURIER_ANSWER_BYTES_MAX,
    peer::{Bounds, PeerError, Peers},
    store::BoxFuture,
    types::Ports,
};

/// How long the server asks to wait.
fn retry_after(error: &PeerError) -> Option<Duration> {
    let PeerError::Refused { errcode: ErrorKind::LimitExceeded(limit), .. } = error else { return None };
    match limit.retry_after {
        Some(RetryAfter::Delay(delay)) => Some(delay),
        _ => None,
    }
}

/// Whether it is what the transaction holds that the server does not take.
fn is_refusal(error: &PeerError) -> bool {
    let refusals = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    matches!(error, PeerError::Refused { status, .. } if refusals.contains(status))
}

/// Signed requests to other servers.
pub struct ByPeers {
    /// The other servers.
    pub peers: Peers,
    /// Tells the time that transactions carry.
    pub ports: Ports,
    /// How long a server may take to answer.
    pub timeout: Duration,
}

impl Transport for ByPeers {
    fn denies(&self, server: &ServerName) -> bool {
        self.peers.denies(server)
    }

    fn put<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let now = UInt::try_from(transaction.made_ms).unwrap_or(UInt::MAX);
            let mut request = Request::new(
                transaction.id.clone(),
                self.peers.server_name().to_owned(),
                MilliSecondsSinceUnixEpoch(now),
            );
            request.pdus.clone_from(&transaction.pdus);
            request.edus = transaction.edus.iter().map(|edu| Raw::<Edu>::from_json(edu.clone())).collect();
            let bounds = Bounds::new(self.timeout, COURIER_ANSWER_BYTES_MAX);
            match self.peers.call(server, request, bounds).await {
                Ok(answer) => {
                    for (event, result) in answer.pdus {
                        if let Err(why) = result {
                            tracing::debug!("{server} does not take {event}: {why}");
                        }
                    }
                    Ok(())
                }
                // The server has it, and did not say so in a way that we read.
                Err(PeerError::BadAnswer(_)) => Ok(()),
                Err(error) => {
                    let (message, retry_after) = (error.to_string(), retry_after(&error));
                    Err(TransportError { message, retry_after, is_refusal: is_refusal(&error) })
                }
            }
        })
    }
}
