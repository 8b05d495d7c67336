//! One question to an identity server, and its answer.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use ruma::ServerName;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Identity, IdentityError};
use crate::{
    limits::{IDENTITY_ANSWER_BYTES_MAX, IDENTITY_MESSAGE_CHARS_MAX, IDENTITY_SECONDS_MAX},
    peer::{Bounds, NetError, Purpose, XMatrix},
};

/// Below this path is what is asked.
const API: &str = "/_matrix/identity/v2";

/// In whose name something is asked.
#[derive(Clone, Copy)]
pub(super) enum Proof<'a> {
    /// In a user's, by the token that they have there.
    Token(&'a str),
    /// In that of this server, by its signature.
    Signature,
}

impl Identity {
    /// Gets what is at `path`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        path: &str,
        token: &str,
    ) -> Result<T, IdentityError> {
        let request = plain(Method::GET, &format!("https://{server}{API}{path}"), Bytes::new())?;
        self.send(server, request, Some(Proof::Token(token))).await
    }

    /// Posts `body` to `path`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        path: &str,
        (proof, body): (Proof<'_>, &Value),
    ) -> Result<T, IdentityError> {
        let body = Bytes::from(body.to_string());
        let mut request = plain(Method::POST, &format!("https://{server}{API}{path}"), body)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(server, request, Some(proof)).await
    }

    /// Gets what is at a whole address of `server`, in nobody's name.
    pub(super) async fn visit<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        url: &str,
    ) -> Result<T, IdentityError> {
        self.send(server, plain(Method::GET, url, Bytes::new())?, None).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        mut request: Request<Bytes>,
        proof: Option<Proof<'_>>,
    ) -> Result<T, IdentityError> {
        let value = match proof {
            None => None,
            Some(Proof::Token(token)) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value.map_err(|_| IdentityError::Invalid("The token is malformed"))?;
                value.set_sensitive(true);
                Some(value)
            }
            Some(Proof::Signature) => {
                let signed = XMatrix::sign_for_identity(&request, &self.0.key, server);
                Some(signed.map_err(|_| IdentityError::Invalid("The request cannot be signed"))?.header())
            }
        };
        if let Some(value) = value {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let bounds = Bounds::new(IDENTITY_SECONDS_MAX, IDENTITY_ANSWER_BYTES_MAX);
        let answer = self.0.net.visit(Purpose::Identity, request, bounds).await;
        read(&answer.map_err(unreached)?)
    }
}

fn plain(method: Method, url: &str, body: Bytes) -> Result<Request<Bytes>, IdentityError> {
    let url: Uri = url.parse().map_err(|_| IdentityError::Unreachable(String::from("it has no address")))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = url;
    Ok(request)
}

fn unreached(error: NetError) -> IdentityError {
    IdentityError::Unreachable(match error {
        NetError::Forbidden(_) => format!("{error}; `identity.allow_ranges` can admit it"),
        error => error.to_string(),
    })
}

fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, IdentityError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refusal {
        errcode: String,
        error: String,
    }
    let status = answer.status();
    match status {
        status if status.is_success() => {
            serde_json::from_slice(answer.body()).map_err(|_| IdentityError::BadAnswer("a field is missing"))
        }
        status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
            let refusal: Refusal = serde_json::from_slice(answer.body()).unwrap_or_default();
            let message = match refusal.error.is_empty() {
                true => status.to_string(),
                false => refusal.error.chars().take(IDENTITY_MESSAGE_CHARS_MAX).collect(),
            };
            Err(IdentityError::Refused { status, errcode: refusal.errcode, message })
        }
        // As the specification has it where unbinding is not supported.
        StatusCode::NOT_IMPLEMENTED => {
            let (errcode, message) = (String::new(), status.to_string());
            Err(IdentityError::Refused { status, errcode, message })
        }
        status => Err(IdentityError::Unreachable(format!("it answered {status}"))),
    }
}
