//! Notifications over the network.
//!
//! <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use ruma::api::push_gateway::send_event_notification::v1::Notification;
use serde::Deserialize;

use super::{Gateway, TransportError};
use crate::{
    limits::{PUSH_ANSWER_BYTES_MAX, PUSH_ANSWER_SECONDS_MAX},
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
};

/// Push gateways on the network, wherever its rules for them let us go.
pub struct ByNet(pub Arc<dyn Net>);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    rejected: Vec<String>,
}

fn failed(message: String) -> TransportError {
    TransportError { message, retry_after: None, is_refusal: false }
}

fn told(error: &NetError) -> TransportError {
    match error {
        NetError::Forbidden(_) => failed(format!("{error}; `push.allow_ranges` can admit it")),
        _ => failed(error.to_string()),
    }
}

impl Gateway for ByNet {
    fn notify<'a>(
        &'a self,
        url: &'a str,
        notification: Notification,
    ) -> BoxFuture<'a, Result<Vec<String>, TransportError>> {
        Box::pin(async move {
            let body = super::render::body(&notification).map_err(|error| failed(error.to_string()))?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(url)
                .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(Bytes::from(body.to_string()))
                .map_err(|error| failed(error.to_string()))?;
            let bounds = Bounds::new(PUSH_ANSWER_SECONDS_MAX, PUSH_ANSWER_BYTES_MAX);
            let answer = self.0.visit(Purpose::Push, request, bounds).await.map_err(|error| told(&error))?;
            if answer.status() != StatusCode::OK {
                return Err(failed(format!("it answered {}", answer.status())));
            }
            // One that answers 200 has it, whatever it says.
            let answer: Option<Answer> = serde_json::from_slice(answer.body()).ok();
            Ok(answer.map(|answer| answer.rejected).unwrap_or_default())
        })
    }
}
