//! `PUT /_matrix/federation/v1/send/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

use ruma::api::federation::transactions::send_transaction_message::v1::{Request, Response};

use crate::{
    federation::Transaction,
    http::{App, Failure, federation::Origin},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    if request.origin != *origin {
        return Err(Failure::forbidden("The origin is not the server that has signed the request"));
    }
    let transaction = Transaction {
        id: request.transaction_id.to_string(),
        pdus: request.pdus,
        edus: request.edus.into_iter().map(ruma::serde::Raw::into_json).collect(),
    };
    Ok(Response::new(app.federation.receive(&origin, transaction).await?))
}
