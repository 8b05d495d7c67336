//! One request on its way to a handler: path, caller, peer and body.

use std::{net::IpAddr, sync::Arc};

use axum::body::Body as Stream;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ruma::api::{
    IncomingRequest, IncomingRequestExt,
    error::{DeserializationError, FromHttpRequestError, HeaderDeserializationError},
};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Failure, bodies::Room, federation::Origin};
use crate::{account::Caller, appservice::Appservice, limits::BODY_SECONDS_MAX};

/// From where a request came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client; none over a Unix socket without a proxy's word.
    pub ip: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The application service whose token the request bears.
    pub appservice: Option<Arc<Appservice>>,
}

/// A request whose caller is known and whose body is read.
#[derive(Debug)]
pub struct Call {
    /// Method, target and headers.
    pub parts: Parts,
    /// The percent-decoded values of the path's variables, in order.
    pub path: Vec<String>,
    /// Who calls, as far as the endpoint asks.
    pub caller: Option<Caller>,
    /// Which server calls, when the endpoint asks.
    pub origin: Option<Origin>,
    /// From where.
    pub peer: Peer,
    /// The body.
    pub body: Bytes,
}

/// A request as ruma's type, with what the shapes of handlers may want beside it.
#[derive(Debug)]
pub struct Given<R> {
    /// Who calls.
    pub caller: Option<Caller>,
    /// Which server calls.
    pub origin: Option<Origin>,
    /// From where.
    pub peer: Peer,
    /// The target, for what ruma's type leaves out of the query.
    pub uri: Uri,
    /// The request.
    pub request: R,
    /// The body that it was read from.
    pub body: Body,
}

/// The body of a request, for what ruma's type leaves out.
#[derive(Clone, Debug, Default)]
pub struct Body(Bytes);

impl Body {
    /// Reads it; no body is an empty object.
    ///
    /// # Errors
    /// 400 with the reason.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let body: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        serde_json::from_slice(body).map_err(|error| reject_json(body, &error.to_string()))
    }
}

impl Call {
    /// As [`Self::json`]; no body at all says nothing.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// Reads the body, which must be a JSON object, for hand-written endpoints.
    ///
    /// # Errors
    /// 400 with the reason.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if !is_object(&self.body) {
            return Err(reject_json(&self.body, "The body must be a JSON object"));
        }
        serde_json::from_slice(&self.body).map_err(|error| reject_json(&self.body, &error.to_string()))
    }

    /// Reads path, query, headers and body into `R`.
    ///
    /// # Errors
    /// What the specification's client is to be told: see [`Failure`].
    pub fn decode<R: IncomingRequest>(self) -> Result<Given<R>, Failure> {
        let Self { parts, path, caller, origin, peer, body: whole } = self;
        let body: &[u8] = match (&parts.method, whole.is_empty()) {
            // Clients leave the body out where nothing in it is required: logout, join, leave, …
            (&Method::POST | &Method::DELETE, true) => b"{}",
            // ruma would take it for an empty object; an event without content is a mistake.
            (&Method::PUT, true) => return Err(Failure::not_json("The body is empty")),
            _ => &whole,
        };
        // The whole text is judged first: ruma stops where it has what it needs, or looks at the query before.
        if !body.is_empty() && (!is_object(body) || !is_json(body)) {
            return Err(reject_json(body, "The body must be a JSON object"));
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let uri = parts.uri.clone();
        let request = R::try_from_http_request(http::Request::from_parts(parts, body), &path)
            .map_err(|error| rejection(error, body))?;
        Ok(Given { caller, origin, peer, uri, request, body: Body(whole) })
    }
}

/// Reads the whole body, at most `limit` bytes of it.
pub(super) async fn read_body(
    body: Stream,
    limit: usize,
    (headers, room): (&HeaderMap, &mut Room<'_>),
) -> Result<Bytes, Failure> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        return Err(Failure::too_large("The body is too large"));
    }
    match tokio::time::timeout(BODY_SECONDS_MAX, gather(body, limit, room)).await {
        Ok(read) => read,
        Err(_) => Err(Failure::not_json("The body took too long")),
    }
}

/// Reads a body into room that grows with it.
async fn gather(body: Stream, limit: usize, room: &mut Room<'_>) -> Result<Bytes, Failure> {
    let (mut body, mut whole) = (Limited::new(body, limit), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::too_large("The body is too large"),
            false => Failure::not_json("The body could not be read"),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let needed = whole.len() + data.len();
        if needed > room.bytes() {
            room.grow(needed.max(2 * room.bytes()).min(limit))?;
        }
        if whole.capacity() < needed {
            whole.reserve(room.bytes() - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Whether there is a brace at both ends: serde would take an array for a struct too, and ruma reads
/// the content of events without looking at what follows it.
fn is_object(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    // serde passes over what nobody reads without looking whether it is text at all.
    body.first() == Some(&b'{') && body.last() == Some(&b'}') && std::str::from_utf8(body).is_ok()
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Tells broken JSON from JSON that is not what the endpoint takes. serde reports whichever it meets
/// first, so the whole text is judged again.
fn reject_json(body: &[u8], message: &str) -> Failure {
    match std::str::from_utf8(body).is_ok() && is_json(body) {
        true => Failure::bad_json(String::from(message)),
        false => Failure::not_json("The body is not JSON"),
    }
}

fn rejection(error: FromHttpRequestError, body: &[u8]) -> Failure {
    match error {
        FromHttpRequestError::Deserialization(error) => deserialization(error, body),
        FromHttpRequestError::MethodMismatch { .. } => Failure::method_not_allowed(),
        _ => Failure::bad_json("The request could not be understood"),
    }
}

fn deserialization(error: DeserializationError, body: &[u8]) -> Failure {
    let message = error.to_string();
    match error {
        DeserializationError::Utf8(_) => Failure::not_json("The body is not UTF-8"),
        DeserializationError::Json(_) => reject_json(body, &message),
        DeserializationError::Query(_) if message.starts_with("missing field") => {
            Failure::missing_param(message)
        }
        DeserializationError::Header(HeaderDeserializationError::MissingHeader(_)) => {
            Failure::missing_param(message)
        }
        _ => Failure::invalid_param(message),
    }
}
