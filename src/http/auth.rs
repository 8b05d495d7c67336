//! From access token to caller.

use http::{header, request::Parts};
use ruma::api::auth_scheme::{ExtractTokenError, extract_bearer_or_query_token};

use super::{Access, Failure};
use crate::{
    account::{Accounts, Caller, Standing},
    store::BoxFuture,
};

/// Knows whom an access token stands for. The accounts of a server do; a test may have its own.
pub trait Authenticate: Send + Sync + 'static {
    /// The caller that `token` stands for and what they may do; else what to answer.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<(Caller, Standing), Failure>>;
}

/// The caller of `request`, as far as `access` asks for one.
pub(super) async fn identify(
    gate: &dyn Authenticate,
    access: Access,
    parts: &Parts,
) -> Result<Option<(Caller, Standing)>, Failure> {
    if matches!(access, Access::Open | Access::Signed) {
        return Ok(None);
    }
    let token = token_of(parts)?;
    match (token, access) {
        (Some(token), _) => gate.authenticate(&token).await.map(Some),
        (None, Access::Required) => Err(Failure::missing_token()),
        (None, Access::Optional | Access::Open | Access::Signed) => Ok(None),
    }
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
