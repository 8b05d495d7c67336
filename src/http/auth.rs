//! From access token to caller.

use std::sync::Arc;

use axum::extract::Query;
use http::{StatusCode, header, request::Parts};
use ruma::{
    OwnedDeviceId, UserId,
    api::auth_scheme::{ExtractTokenError, extract_bearer_or_query_token},
};
use serde::Deserialize;

use super::{Access, App, Failure};
use crate::{
    account::{Accounts, Caller, NO_DEVICE, Standing},
    appservice::{Appservice, Appservices},
    store::BoxFuture,
};

/// Knows whom an access token stands for. The accounts of a server do; a test may have its own.
pub trait Authenticate: Send + Sync + 'static {
    /// The caller that `token` stands for and what they may do; else what to answer.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(Caller, Standing), Failure>>;
}

/// The application service whose token a request bears, if it bears one.
pub(super) fn appservice_of(all: &Appservices, access: Access, parts: &Parts) -> Option<Arc<Appservice>> {
    if all.is_empty() || access == Access::Signed {
        return None;
    }
    all.by_token(&token_of(parts).ok().flatten()?)
}

/// The caller of `request`, as far as `access` asks for one.
pub(super) async fn identify(
    app: &App,
    access: Access,
    (parts, appservice): (&Parts, Option<&Appservice>),
) -> Result<Option<(Caller, Standing)>, Failure> {
    if matches!(access, Access::Open | Access::Signed) {
        return Ok(None);
    }
    if let Some(appservice) = appservice {
        return masquerade(app, appservice, parts).await.map(Some);
    }
    let gate = app.gate.as_ref();
    let token = token_of(parts)?;
    match (token, access) {
        (Some(token), _) => gate.authenticate(&token).await.map(Some),
        (None, Access::Required) => Err(Failure::missing_token()),
        (None, Access::Optional | Access::Open | Access::Signed) => Ok(None),
    }
}

/// In whose name an application service wants to act.
#[derive(Deserialize)]
struct Masquerade {
    user_id: Option<String>,
    device_id: Option<OwnedDeviceId>,
    #[serde(rename = "org.matrix.msc3202.device_id")]
    unstable_device_id: Option<OwnedDeviceId>,
}

/// The user, and perhaps the device, in whose name the application service acts.
///
/// <https://spec.matrix.org/v1.19/application-service-api/#identity-assertion>
async fn masquerade(
    app: &App,
    appservice: &Appservice,
    parts: &Parts,
) -> Result<(Caller, Standing), Failure> {
    let Query(named) = Query::<Masquerade>::try_from_uri(&parts.uri)
        .map_err(|error| Failure::invalid_param(error.to_string()))?;
    let user_id = match named.user_id.filter(|named| !named.is_empty()) {
        Some(named) => UserId::parse(named).map_err(|error| Failure::invalid_param(error.to_string()))?,
        None => appservice.sender.clone(),
    };
    if user_id.server_name() != app.server_name || !app.appservices.may_act_as(appservice, &user_id) {
        return Err(Failure::forbidden("The application service may not act in the name of this user"));
    }
    let user = app.accounts.user(&user_id).await?.filter(|user| !user.deactivated);
    let user =
        user.ok_or_else(|| Failure::forbidden("The application service has not registered this user"))?;
    let device_id = match named.device_id.or(named.unstable_device_id) {
        Some(device_id) => {
            app.devices.device(&user_id, &device_id).await.map_err(|_| {
                let message = "The user has no such device";
                Failure::custom(StatusCode::BAD_REQUEST, "M_UNKNOWN_DEVICE", message)
            })?;
            device_id
        }
        None => NO_DEVICE.into(),
    };
    Ok((Caller { user_id, device_id }, user.standing()))
}

fn token_of(parts: &Parts) -> Result<Option<String>, Failure> {
    // ruma reads the token from a whole request; the body plays no part.
    let mut request = http::Request::new(());
    *request.uri_mut() = parts.uri.clone();
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, value.clone());
    }
    extract_bearer_or_query_token(&request).map_err(|error| match error {
        // Another scheme than `Bearer` is no access token.
        ExtractTokenError::MissingAccessToken | ExtractTokenError::InvalidAuthorizationScheme => {
            Failure::missing_token()
        }
        ExtractTokenError::FromQuery(error) => Failure::invalid_param(error.to_string()),
        _ => Failure::unknown_token(false),
    })
}

impl Authenticate for Accounts {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(Caller, Standing), Failure>> {
        Box::pin(async move {
            let (caller, user) = self.recognize(token).await?;
            Ok((caller, user.standing()))
        })
    }
}
