//! Requests to application services over the network.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use ruma::{RoomAliasId, UserId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{AppserviceTransport, TransportError};
use crate::{
    appservice::Appservice,
    limits::{
        APPSERVICE_ANSWER_BYTES_MAX, APPSERVICE_KEYS_SECONDS_MAX, APPSERVICE_KEYS_UNKNOWN_PAUSE,
        APPSERVICE_PAUSE, APPSERVICE_QUERY_SECONDS_MAX, APPSERVICE_SECONDS_MAX,
    },
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
    types::Ports,
};

/// Why an application service gave no answer that is of use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppserviceError {
    /// It has no address.
    #[error("The application service has no URL")]
    NoUrl,
    /// It cannot be reached; the text says why.
    #[error("The application service cannot be reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("The application service did not answer in time")]
    Timeout,
    /// It answered with another status than 200.
    #[error("The application service answered {status}")]
    Status {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
}

impl From<NetError> for AppserviceError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            error => Self::Unreachable(error.to_string()),
        }
    }
}

/// Asks application services. Cheap to clone.
#[derive(Clone)]
pub struct AppserviceClient {
    net: Arc<dyn Net>,
    ports: Ports,
    /// Who is not to be asked what until when, by the monotonic clock.
    resting: Resting,
}

type Resting = Arc<Mutex<BTreeMap<(String, &'static str), Duration>>>;

const USERS: &str = "/_matrix/app/v1/users/";
const ROOMS: &str = "/_matrix/app/v1/rooms/";
const CLAIM: &str = "/_matrix/app/unstable/org.matrix.msc3983/keys/claim";
const QUERY: &str = "/_matrix/app/unstable/org.matrix.msc3984/keys/query";

impl AppserviceClient {
    /// Speaks through `net`.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, ports: Ports) -> Self {
        Self { net, ports, resting: Resting::default() }
    }

    /// How long it takes to answer.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#post_matrixappv1ping>
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self, to: &Appservice, txn_id: Option<&str>) -> Result<Duration, AppserviceError> {
        let body = match txn_id {
            Some(txn_id) => json!({ "transaction_id": txn_id }),
            None => json!({}),
        };
        let begun = self.ports.clock.monotonic();
        let bounds = Bounds::new(APPSERVICE_QUERY_SECONDS_MAX, APPSERVICE_ANSWER_BYTES_MAX);
        let body = Bytes::from(body.to_string());
        self.ask(to, (Method::POST, "/_matrix/app/v1/ping"), body, bounds).await?;
        // It is there again.
        self.resting
            .lock()
            .retain(|(id, path), _| *id != to.registration.id || ![USERS, ROOMS].contains(path));
        Ok(self.ports.clock.monotonic().saturating_sub(begun))
    }

    /// Whether it knows a user of its namespace, who then may have been made meanwhile.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#get_matrixappv1usersuserid>
    pub async fn knows_user(&self, to: &Appservice, user: &UserId) -> bool {
        self.knows(to, USERS, user.as_str()).await
    }

    /// Whether it knows an alias of its namespace, which then may have been made meanwhile.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#get_matrixappv1roomsroomalias>
    pub async fn knows_alias(&self, to: &Appservice, alias: &RoomAliasId) -> bool {
        self.knows(to, ROOMS, alias.as_str()).await
    }

    /// Asks whether it knows somebody or something, unless it has just failed to answer.
    async fn knows(&self, to: &Appservice, path: &'static str, name: &str) -> bool {
        let key = (to.registration.id.clone(), path);
        if self.rests(&key) {
            return false;
        }
        let error = match self.get(to, &format!("{path}{}", escape(name))).await {
            Ok(_) => {
                self.resting.lock().remove(&key);
                return true;
            }
            Err(error) => error,
        };
        // That it knows nothing of the name is an answer too.
        let is_answer = matches!(&error, AppserviceError::Status { status, .. } if *status < 500);
        if !is_answer && !matches!(error, AppserviceError::NoUrl) {
            tracing::warn!(%error, appservice = %key.0, "an application service does not say whom it knows");
            self.resting.lock().insert(key, self.ports.clock.monotonic() + APPSERVICE_PAUSE);
        }
        false
    }

    fn rests(&self, key: &(String, &'static str)) -> bool {
        let now = self.ports.clock.monotonic();
        self.resting.lock().get(key).is_some_and(|until| now < *until)
    }

    /// What it answers to a look-up under `/_matrix/app/v1/thirdparty`.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#third-party-networks>
    ///
    /// # Errors
    /// When it does not answer with JSON.
    pub async fn third_party(&self, to: &Appservice, path: &str) -> Result<Value, AppserviceError> {
        let answer = self.get(to, &format!("/_matrix/app/v1/thirdparty/{path}")).await?;
        serde_json::from_slice(answer.body()).map_err(|error| AppserviceError::Unreachable(error.to_string()))
    }

    /// One-time keys of its users, in the form of `claim`; none, whatever goes wrong.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/3983>
    pub async fn claim_keys<T: DeserializeOwned>(
        &self,
        to: &Appservice,
        claim: &impl Serialize,
    ) -> Option<T> {
        self.ask_for_keys(to, CLAIM, claim).await
    }

    /// Device keys of its users, in the form of `query`; none, whatever goes wrong.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/3984>
    pub async fn query_keys<T: DeserializeOwned>(
        &self,
        to: &Appservice,
        query: &impl Serialize,
    ) -> Option<T> {
        self.ask_for_keys(to, QUERY, query).await
    }

    /// Asks, unless it has just failed to answer.
    async fn ask_for_keys<T: DeserializeOwned>(
        &self,
        to: &Appservice,
        path: &'static str,
        question: &impl Serialize,
    ) -> Option<T> {
        let key = (to.registration.id.clone(), path);
        if self.rests(&key) {
            return None;
        }
        let bounds = Bounds::new(APPSERVICE_KEYS_SECONDS_MAX, APPSERVICE_ANSWER_BYTES_MAX);
        let body = Bytes::from(serde_json::to_vec(question).ok()?);
        let error = match self.ask(to, (Method::POST, path), body, bounds).await {
            Ok(answer) => match serde_json::from_slice(answer.body()) {
                Ok(answer) => {
                    self.resting.lock().remove(&key);
                    return Some(answer);
                }
                Err(error) => AppserviceError::Unreachable(error.to_string()),
            },
            Err(error) => error,
        };
        let pause = match &error {
            AppserviceError::Status { status: 404 | 405, .. } => APPSERVICE_KEYS_UNKNOWN_PAUSE,
            _ => APPSERVICE_PAUSE,
        };
        tracing::warn!(%error, appservice = %key.0, "an application service gives no keys");
        self.resting.lock().insert(key, self.ports.clock.monotonic() + pause);
        None
    }

    async fn get(&self, to: &Appservice, path: &str) -> Result<Response<Bytes>, AppserviceError> {
        let bounds = Bounds::new(APPSERVICE_QUERY_SECONDS_MAX, APPSERVICE_ANSWER_BYTES_MAX);
        self.ask(to, (Method::GET, path), Bytes::new(), bounds).await
    }

    async fn ask(
        &self,
        to: &Appservice,
        (method, path): (Method, &str),
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, AppserviceError> {
        let base = to.registration.url.as_ref().ok_or(AppserviceError::NoUrl)?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", to.registration.hs_token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| AppserviceError::Unreachable(error.to_string()))?;
        let answer = self.net.visit(Purpose::Appservice, request, bounds).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => {
                let body = String::from_utf8_lossy(answer.body()).chars().take(1_000).collect();
                Err(AppserviceError::Status { status: status.as_u16(), body })
            }
        }
    }
}

impl AppserviceTransport for AppserviceClient {
    fn put<'a>(
        &'a self,
        to: &'a Appservice,
        txn_id: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let path = format!("/_matrix/app/v1/transactions/{txn_id}");
            let bounds = Bounds::new(APPSERVICE_SECONDS_MAX, APPSERVICE_ANSWER_BYTES_MAX);
            match self.ask(to, (Method::PUT, &path), body, bounds).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let (message, is_refusal) = (error.to_string(), is_refusal(&error));
                    Err(TransportError { message, retry_after: None, is_refusal })
                }
            }
        })
    }
}

/// Whether it is what the transaction holds that the application service does not take.
fn is_refusal(error: &AppserviceError) -> bool {
    matches!(error, AppserviceError::Status { status: 400 | 413 | 422, .. })
}

/// Percent-encoded for a path or a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
