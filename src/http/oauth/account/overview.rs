//! `GET /_matrix/oauth2/account`: the parts of the account page, by `action`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-management-url-parameters>

use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Owner, PATH, address, cross_signing, deactivate, device, identity, password, profile};
use crate::http::{
    App, Call, Failure, Routes,
    oauth::{Visitor, letter, page::Page, reply::query, visitor::here},
};

/// What a link to the page may say.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    action: String,
    #[serde(default)]
    device_id: String,
    #[serde(default)]
    sid: String,
    #[serde(default)]
    code: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::GET, PATH, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Wanted { action, device_id, sid, code } = query(&call)?;
    let owner = match Owner::signed_in(visitor, &here(&call))? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    let page = match action.as_str() {
        "org.matrix.profile" => profile::page(&app, &owner).await?,
        "org.matrix.devices_list" | "org.matrix.sessions_list" => device::list(&app, &owner).await?,
        "org.matrix.device_view"
        | "org.matrix.session_view"
        | "org.matrix.device_delete"
        | "org.matrix.session_end" => device::view(&app, &owner, &device_id).await?,
        address::ACTION => address::page(&app, &owner, None).await?,
        letter::CONFIRM_ADDRESS => address::confirm(&app, &owner, (&sid, &code)).await?,
        password::ACTION => password::page(&app, &owner, None).await?,
        identity::ACTION => identity::page(&app, &owner, None).await?,
        cross_signing::ACTION if !owner.is_fresh => return owner.sign_in_again(&action),
        cross_signing::ACTION => cross_signing::page(&owner),
        deactivate::ACTION if !owner.is_fresh => return owner.sign_in_again(&action),
        deactivate::ACTION => deactivate::page(&owner, None),
        _ => overview(&app, &owner),
    };
    Ok(owner.visitor.show(page))
}

fn overview(app: &App, owner: &Owner) -> Page {
    let addresses = app.post.is_some().then_some((address::ACTION, "Mail addresses"));
    let providers = app.oauth.providers().next().map(|_| (identity::ACTION, "Sign-in by other providers"));
    let parts = [
        ("org.matrix.profile", "Profile"),
        ("org.matrix.devices_list", "Devices"),
        (password::ACTION, "Password"),
        (cross_signing::ACTION, "Reset your digital identity"),
        (deactivate::ACTION, "Deactivate the account"),
    ];
    let body = html! {
        p { "You are signed in as " strong { (owner.user_id) } "." }
        ul.rows {
            @for (action, name) in parts.into_iter().chain(addresses).chain(providers) {
                li { a href=(link(owner, action)) { (name) } }
            }
        }
        form method="post" action=(owner.visitor.site.url("logout")) {
            (owner.visitor.csrf())
            button.plain type="submit" { "Sign out of this page" }
        }
    };
    Page::new("Your account", body)
}

/// Where a part of the page is.
pub(super) fn link(owner: &Owner, action: &str) -> String {
    format!("{}?action={action}", owner.visitor.site.url("account"))
}

/// The way back to the overview.
pub(super) fn home(owner: &Owner) -> Markup {
    html! { p { a href=(owner.visitor.site.url("account")) { "Back to your account" } } }
}
