//! `POST /_matrix/client/v1/appservice/{appserviceId}/ping`
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#post_matrixclientv1appserviceappserviceidping>

use http::StatusCode;
use ruma::api::client::appservice::request_ping::v1::{Request, Response};

use crate::{
    account::Caller,
    delivery::AppserviceError,
    http::{App, Failure, Peer},
};

pub(super) async fn handle(app: App, _: Caller, peer: Peer, request: Request) -> Result<Response, Failure> {
    let Some(appservice) = peer.appservice.filter(|it| it.is(&request.appservice_id)) else {
        return Err(Failure::forbidden("The token is not the one of this application service"));
    };
    let txn_id = request.transaction_id.as_ref().map(|id| id.as_str());
    let duration = app.appservice_client.ping(&appservice, txn_id).await.map_err(failure)?;
    app.appservice_couriers.heard_from(&appservice);
    Ok(Response::new(duration))
}

fn failure(error: AppserviceError) -> Failure {
    let message = error.to_string();
    match error {
        AppserviceError::NoUrl => Failure::custom(StatusCode::BAD_REQUEST, "M_URL_NOT_SET", message),
        AppserviceError::Unreachable(_) => {
            Failure::custom(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", message)
        }
        AppserviceError::Timeout => {
            Failure::custom(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT", message)
        }
        AppserviceError::Status { status, body } => {
            let failure = Failure::custom(StatusCode::BAD_GATEWAY, "M_BAD_STATUS", message);
            failure.with("status", status).with("body", body)
        }
    }
}
