//! `GET /_matrix/oauth2/account`: the parts of the account page, by `action`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-management-url-parameters>

use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Owner, PATH, cross_signing, deactivate, device, password, profile};
use crate::http::{
    App, Call, Failure, Routes,
    oauth::{Visitor, page::Page, reply::query, visitor::here},
};

/// What a link to the page may say.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    action: String,
    #[serde(default)]
    device_id: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::GET, PATH, handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Wanted { action, device_id } = query(&call)?;
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
        password::ACTION => password::page(&app, &owner, None).await?,
        cross_signing::ACTION if !owner.is_fresh => return owner.sign_in_again(&action),
        cross_signing::ACTION => cross_signing::page(&owner),
        deactivate::ACTION if !owner.is_fresh => return owner.sign_in_again(&action),
        deactivate::ACTION => deactivate::page(&owner, None),
        _ => overview(&owner),
    };
    Ok(owner.visitor.show(page))
}

fn overview(owner: &Owner) -> Page {
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
            @for (action, name) in parts { li { a href=(address(owner, action)) { (name) } } }
        }
        form method="post" action=(owner.visitor.site.url("logout")) {
            (owner.visitor.csrf())
            button.plain type="submit" { "Sign out of this page" }
        }
    };
    Page::new("Your account", body)
}

fn address(owner: &Owner, action: &str) -> String {
    format!("{}?action={action}", owner.visitor.site.url("account"))
}

/// The way back to the overview.
pub(super) fn home(owner: &Owner) -> Markup {
    html! { p { a href=(owner.visitor.site.url("account")) { "Back to your account" } } }
}
