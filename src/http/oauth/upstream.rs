//! `GET /_matrix/oauth2/upstream/{provider}` and `GET /_matrix/oauth2/callback/{provider}`: the browser goes to a
//! provider of identities, and comes back

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{
    Visitor,
    page::{go_to, sorry_but},
    reply::query,
};
use crate::{
    http::{App, Call, Failure, Routes},
    oauth::{ProviderError, Returned},
};

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

/// What a provider sends the browser back with.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, "/_matrix/oauth2/upstream/{provider}", leave);
    routes.page(Method::GET, "/_matrix/oauth2/callback/{provider}", come_back);
}

async fn leave(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Next { next } = query(&call)?;
    match app.oauth.leave(provider(&call)?, visitor.cookie(), &next).await {
        Ok(url) => Ok(visitor.keep_cookie(go_to(&url)?)),
        Err(error) => failed(&visitor, error),
    }
}

async fn come_back(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Answer { state, code, error } = query(&call)?;
    let code = code.as_deref().ok_or(error.as_deref().unwrap_or("there is no code"));
    match app.oauth.come_back((provider(&call)?, visitor.cookie()), &state, code).await {
        Ok(Returned::User(verified, next)) => match app.oauth.sign_in_by(&verified).await {
            Ok(cookie) => visitor.sign_in(&cookie, &visitor.onwards(&next)),
            Err(error) => failed(&visitor, error.into()),
        },
        Ok(Returned::Newcomer(ticket)) => go_to(&format!("{}?ticket={ticket}", visitor.site.url("welcome"))),
        Err(error) => failed(&visitor, error),
    }
}

fn provider(call: &Call) -> Result<&str, Failure> {
    call.path.first().map(String::as_str).ok_or_else(Failure::unrecognized)
}

/// Shows why nobody was signed in.
pub(super) fn failed(visitor: &Visitor, error: ProviderError) -> Result<Response, Failure> {
    let (text, status) = match error {
        ProviderError::Unknown => ("There is no such provider.", StatusCode::NOT_FOUND),
        ProviderError::Stale => (
            "This took too long, or was begun in another browser. Please try again.",
            StatusCode::BAD_REQUEST,
        ),
        ProviderError::Denied(_) => ("The provider has not let you in.", StatusCode::FORBIDDEN),
        ProviderError::Unreachable(_) | ProviderError::Refused(_) | ProviderError::Wrong(_) => {
            tracing::warn!(%error, "nobody can sign in by a provider");
            ("The provider does not answer as it should. Please try again later.", StatusCode::BAD_GATEWAY)
        }
        ProviderError::Failed(error) => return Err(error.into()),
    };
    let again = visitor.login_url("");
    Ok(visitor.show(sorry_but("You are not signed in", text, (&again, "Sign in"), status)))
}
