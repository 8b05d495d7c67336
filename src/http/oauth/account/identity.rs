//! `POST /_matrix/oauth2/account/identity`: an identity at a provider is no way in any more

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::{
    account::{AccountError, Identity},
    http::{
        App, Call, Failure, Routes,
        oauth::{
            page::{Page, complaint, hidden},
            reply::page_form,
        },
    },
};

/// Ours: the specification has no name for it.
pub(super) const ACTION: &str = "identities";

#[derive(Deserialize)]
struct Form {
    csrf: String,
    provider: String,
    subject: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/identity", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Form { csrf, provider, subject } = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    if !owner.is_fresh {
        return owner.sign_in_again(ACTION);
    }
    let identity = Identity { provider, subject };
    let leads_in = |identity: &Identity| name_of(&app, &identity.provider).is_some();
    match app.accounts.unlink(&owner.user_id, &identity, leads_in).await {
        // It is gone already.
        Ok(()) | Err(AccountError::NotFound(_)) => {}
        Err(error @ AccountError::Invalid(_)) => {
            let page = page(&app, &owner, Some(&format!("{error}."))).await?;
            return Ok(page.with_status(StatusCode::FORBIDDEN).into_response());
        }
        Err(error) => return Err(error.into()),
    }
    // That has signed out every browser, this one too.
    let cookie = app.oauth.sign_in(&owner.user_id).await?;
    owner.visitor.sign_in(&cookie, &format!("{}?action={ACTION}", owner.visitor.site.url("account")))
}

/// Shows all identities.
pub(super) async fn page(app: &App, owner: &Owner, wrong: Option<&str>) -> Result<Page, Failure> {
    let identities = app.accounts.identities(&owner.user_id).await?;
    let body = html! {
        (complaint(wrong))
        @if identities.is_empty() { p { "Nobody signs in to this account by another provider." } }
        ul.rows {
            @for Identity { provider, subject } in &identities {
                li {
                    form method="post" action=(owner.visitor.site.url("account/identity")) {
                        (owner.visitor.csrf())
                        (hidden("provider", provider))
                        (hidden("subject", subject))
                        p { (name_of(app, provider).unwrap_or(provider)) }
                        p.soft { "Known there as " code { (subject) } }
                        button.danger type="submit" { "Disconnect" }
                    }
                }
            }
        }
        p.soft { "Whoever can sign in there can sign in here. Disconnecting one signs out every other browser." }
        (home(owner))
    };
    Ok(Page::new("Sign-in by other providers", body))
}

fn name_of<'a>(app: &'a App, provider: &str) -> Option<&'a str> {
    app.oauth.providers().find(|(id, _)| *id == provider).map(|(_, name)| name)
}
