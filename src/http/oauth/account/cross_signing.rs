//! `POST /_matrix/oauth2/account/cross_signing`: the user lets a client replace their cross-signing keys
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-authentication>

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::{
    http::{
        App, Call, Failure, Routes,
        oauth::{
            page::{Page, sorry},
            reply::page_form,
        },
    },
    limits::CROSS_SIGNING_RESET_MS,
};

/// What clients send users here for.
pub(super) const ACTION: &str = "org.matrix.cross_signing_reset";

#[derive(Deserialize)]
struct Form {
    csrf: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/cross_signing", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Form { csrf } = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    if !owner.is_fresh {
        return owner.sign_in_again(ACTION);
    }
    let until_ms = app.ports.clock.now_ms() + CROSS_SIGNING_RESET_MS;
    app.accounts.change_user(&owner.user_id, |user| user.cross_signing_reset_until_ms = until_ms).await?;
    let text = "Go back to the application: for ten minutes it may replace your digital identity.";
    Ok(sorry("Allowed", text, StatusCode::OK).into_response())
}

/// Shows it.
pub(super) fn page(owner: &Owner) -> Page {
    let body = html! {
        p {
            "Your digital identity tells others that your devices are yours. If you have lost every device and the "
            "recovery key, it can be replaced. Everybody with whom you are verified will be told that it changed, and "
            "messages whose keys are nowhere else stay unreadable."
        }
        p.wrong { "Allow it only if you have just asked for it in an application." }
        form method="post" action=(owner.visitor.site.url("account/cross_signing")) {
            (owner.visitor.csrf())
            button.danger type="submit" { "Allow the reset" }
        }
        (home(owner))
    };
    Page::new("Reset your digital identity?", body)
}
