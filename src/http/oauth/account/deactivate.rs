//! `POST /_matrix/oauth2/account/deactivate`: the account ends

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::http::{
    App, Call, Failure, Routes,
    client::account::deactivate::deactivate,
    oauth::{
        page::{Page, complaint, sorry},
        reply::page_form,
    },
};

/// What clients send users here for.
pub(super) const ACTION: &str = "org.matrix.account_deactivate";

#[derive(Deserialize)]
struct Form {
    csrf: String,
    confirmed: String,
    #[serde(default)]
    erase: Option<String>,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/deactivate", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Form { csrf, confirmed, erase } = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    if !owner.is_fresh {
        return owner.sign_in_again(ACTION);
    }
    if confirmed.trim() != owner.user_id.as_str() {
        let page = page(&owner, Some("That is not your user id.")).with_status(StatusCode::BAD_REQUEST);
        return Ok(page.into_response());
    }
    deactivate(&app, owner.user_id, erase.is_some()).await?;
    Ok(sorry("Deactivated", "The account is no more.", StatusCode::OK).into_response())
}

/// Shows it.
pub(super) fn page(owner: &Owner, wrong: Option<&str>) -> Page {
    let body = html! {
        (complaint(wrong))
        p {
            "You leave every room, every device is signed out, and nobody can ever sign in as "
            strong { (owner.user_id) } " again, not even you."
        }
        form method="post" action=(owner.visitor.site.url("account/deactivate")) {
            (owner.visitor.csrf())
            label for="confirmed" { "Type your user id to go on" }
            input type="text" id="confirmed" name="confirmed" autocomplete="off" spellcheck="false" required;
            label.box { input type="checkbox" name="erase" value="yes"; " Hide my messages from those who join later" }
            button.danger type="submit" { "Deactivate for good" }
        }
        (home(owner))
    };
    Page::new("Deactivate the account?", body)
}
