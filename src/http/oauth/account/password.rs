//! `POST /_matrix/oauth2/account/password`: another password

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::{
    account::{AccountError, Verified},
    http::{
        App, Call, Failure, Routes,
        oauth::{
            page::{Page, complaint, unlinking},
            reply::page_form,
        },
    },
};

/// Ours: the specification has no name for it.
pub(super) const ACTION: &str = "password";

#[derive(Deserialize)]
struct Form {
    csrf: String,
    #[serde(default)]
    current: String,
    password: String,
    again: String,
    #[serde(default)]
    logout: Option<String>,
    #[serde(default)]
    unlink: Option<String>,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/password", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let given: Form = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &given.csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    let verified = match change(&app, &owner, &given).await {
        Ok(verified) => Ok(verified),
        Err(error @ (AccountError::WrongPassword | AccountError::Invalid(_) | AccountError::TooLarge(_))) => {
            Err(match error {
                AccountError::WrongPassword => String::from("The present password is wrong."),
                error => format!("{error}."),
            })
        }
        Err(error) => return Err(error.into()),
    };
    let mut verified = match verified {
        Ok(verified) => verified,
        Err(wrong) => {
            let page = page(&app, &owner, Some(&wrong)).await?.with_status(StatusCode::FORBIDDEN);
            return Ok(page.into_response());
        }
    };
    if given.unlink.is_some() {
        verified = app.accounts.unlink_all(&verified).await?;
    }
    if given.logout.is_some() {
        app.devices.remove_all(&owner.user_id, None).await?;
    }
    // The change has signed out every browser, this one too.
    let cookie = app.oauth.sign_in_by(&verified).await?;
    owner.visitor.sign_in(&cookie, &owner.visitor.site.url("account"))
}

async fn change(app: &App, owner: &Owner, given: &Form) -> Result<Verified, AccountError> {
    let verified = match app.accounts.without_password(&owner.user_id).await? {
        None => app.accounts.check_password(&owner.user_id, &given.current).await?,
        Some(verified) if owner.is_fresh => verified,
        Some(_) => return Err(AccountError::Invalid(String::from("Please sign in again first"))),
    };
    if given.password != given.again {
        return Err(AccountError::Invalid(String::from("The two passwords differ")));
    }
    app.accounts.replace_password(&verified, &given.password).await
}

/// Shows it.
pub(super) async fn page(app: &App, owner: &Owner, wrong: Option<&str>) -> Result<Page, Failure> {
    let has_password = app.accounts.has_password(&owner.user_id).await?;
    let has_identities = !app.accounts.identities(&owner.user_id).await?.is_empty();
    let body = html! {
        (complaint(wrong))
        form method="post" action=(owner.visitor.site.url("account/password")) {
            (owner.visitor.csrf())
            @if has_password {
                label for="current" { "Present password" }
                input type="password" id="current" name="current" autocomplete="current-password" required;
            }
            label for="password" { "New password" }
            input type="password" id="password" name="password" autocomplete="new-password" required;
            label for="again" { "New password again" }
            input type="password" id="again" name="again" autocomplete="new-password" required;
            label.box { input type="checkbox" name="logout" value="all"; " Sign out all devices" }
            @if has_identities { (unlinking()) }
            button type="submit" { "Change" }
        }
        (home(owner))
    };
    Ok(Page::new("Password", body))
}
