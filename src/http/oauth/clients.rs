//! `POST /_matrix/oauth2/clients`: a client registers itself
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#dynamic-client-registration-flow>

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::reply::{answer, failed, refusal};
use crate::{
    http::{Access, App, Call, Failure, Routes},
    oauth::Code,
};

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    routes.raw(Method::POST, "/_matrix/oauth2/clients", Access::Open, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    app.oauth.site().ok_or_else(Failure::unrecognized)?;
    let Ok(given) = serde_json::from_slice(&call.body) else {
        return Ok(refusal(
            Code::InvalidClientMetadata,
            "The body must be a JSON object with client metadata",
        ));
    };
    match app.oauth.register_client(given).await {
        Ok((id, client)) => {
            let client = serde_json::to_value(client).map_err(Failure::internal)?;
            let mut body = Map::from_iter([(String::from("client_id"), Value::from(id))]);
            body.extend(client.as_object().cloned().unwrap_or_default());
            Ok(answer(StatusCode::CREATED, Value::Object(body)))
        }
        Err(error) => failed(error),
    }
}
