//! `GET` and `POST /_matrix/oauth2/authorize`: a client asks for access, and the user decides
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#authorisation-code-flow>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use ruma::{DeviceId, UserId};
use serde::Deserialize;
use url::{Host, Url};

use super::{
    Visitor,
    page::{Page, go_to, hidden, sorry},
    reply::{page_form, query},
    visitor::here,
};
use crate::{
    http::{App, Call, Failure, Routes},
    oauth::{Authorization, AuthorizationParams, Client, Misled, Prompt},
};

const PATH: &str = "/_matrix/oauth2/authorize";

#[derive(Deserialize)]
struct Form {
    csrf: String,
    decision: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, decide);
}

/// Puts the request to the user, who may have to sign in before.
async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let asked = match authorization(&app, &call).await? {
        Ok(asked) => asked,
        Err(response) => return Ok(response),
    };
    let user = visitor.browser.as_ref();
    match (asked.prompt, user) {
        (Some(Prompt::None), None) => go_to(&asked.login_required()),
        (Some(Prompt::None), Some(_)) => go_to(&asked.interaction_required()),
        (Some(Prompt::Create), None) => go_to(&visitor.register_url(&here(&call))),
        (Some(Prompt::Login), Some(browser)) if !browser.is_fresh => go_to(&visitor.login_url(&here(&call))),
        (_, None) => go_to(&visitor.login_url(&here(&call))),
        (_, Some(browser)) => {
            let body = consent(&app, &visitor, (&asked, &browser.user_id), &here(&call)).await?;
            let leads_to = form_target(&asked.redirect_uri);
            let title = format!("Sign in to {}?", asked.client.shown_name());
            Ok(visitor.show(Page { leads_to, ..Page::new(title, body) }))
        }
    }
}

/// Takes the user's decision back to the client.
async fn decide(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Form { csrf, decision } = page_form(&call)?;
    visitor.check(&csrf)?;
    let asked = match authorization(&app, &call).await? {
        Ok(asked) => asked,
        Err(response) => return Ok(response),
    };
    let Some(browser) = &visitor.browser else { return go_to(&visitor.login_url(&here(&call))) };
    match decision.as_str() {
        "allow" => go_to(&asked.granted(&app.oauth.grant(&asked, &browser.user_id).await?)),
        _ => go_to(&asked.denied()),
    }
}

/// The request, or what to do with the browser when it makes no sense.
async fn authorization(app: &App, call: &Call) -> Result<Result<Authorization, Response>, Failure> {
    let params: AuthorizationParams = query(call)?;
    match app.oauth.authorization(params).await {
        Ok(asked) => Ok(Ok(asked)),
        Err(Misled::Back(url)) => Ok(Err(go_to(&url)?)),
        Err(Misled::Shown(text)) => {
            let page = sorry("The application made a mistake", text, StatusCode::BAD_REQUEST);
            Ok(Err(axum::response::IntoResponse::into_response(page)))
        }
        Err(Misled::Failed(error)) => Err(error.into()),
    }
}

async fn consent(
    app: &App,
    visitor: &Visitor,
    (asked, user): (&Authorization, &UserId),
    here: &str,
) -> Result<Markup, Failure> {
    let device = &asked.scope.device_id;
    let replaced = replaced(app, user, device).await;
    Ok(html! {
        (introduction(&asked.client, user))
        p { "It will be the device " code { (device) } "." }
        (replaced)
        p { "You will go back to " strong { (destination(&asked.redirect_uri)) } "." }
        form method="post" action=(visitor.site.at(here)) {
            (visitor.csrf())
            button type="submit" name="decision" value="allow" { "Allow" }
            button.plain type="submit" name="decision" value="deny" { "Refuse" }
        }
        (somebody_else(visitor, user, here))
    })
}

/// Warns of what becomes of a device that exists: the client names its device itself.
pub(super) async fn replaced(app: &App, user: &UserId, device: &DeviceId) -> Markup {
    let replaced = app.devices.device(user, device).await.ok();
    html! {
        @if let Some(replaced) = replaced {
            p.wrong {
                "You have this device already" @if let Some(name) = replaced.display_name { " (" (name) ")" }
                ": whatever is signed in there now will be signed out."
            }
        }
    }
}

/// Who asks whom for what.
pub(super) fn introduction(client: &Client, user: &UserId) -> Markup {
    html! {
        p {
            strong { (client.shown_name()) } " of " strong { (client.host()) } " wants to use your account "
            strong { (user) } "."
        }
        p.soft {
            "It will be able to read and write everything there, as you can. The name is what the application calls "
            "itself: allow it only if you have just opened it and trust it."
        }
        @if client.policy_uri.is_some() || client.tos_uri.is_some() {
            p.soft {
                @if let Some(uri) = &client.policy_uri { a href=(uri) rel="noreferrer" { "Its privacy policy" } " " }
                @if let Some(uri) = &client.tos_uri { a href=(uri) rel="noreferrer" { "Its terms of service" } }
            }
        }
    }
}

/// A way out for somebody who is not the one who is signed in.
pub(super) fn somebody_else(visitor: &Visitor, user: &UserId, next: &str) -> Markup {
    html! {
        form method="post" action=(visitor.site.url("logout")) {
            (visitor.csrf())
            (hidden("next", next))
            p.soft { "Not " (user) "?" }
            button.plain type="submit" { "Use another account" }
        }
    }
}

/// Where a redirect URI leads, for people.
fn destination(redirect_uri: &str) -> String {
    let Ok(url) = Url::parse(redirect_uri) else { return redirect_uri.to_owned() };
    match (url.scheme(), url.host_str()) {
        ("https", Some(host)) => host.to_owned(),
        (_, Some(_)) => "an application on this device".to_owned(),
        (scheme, None) => format!("the application {scheme} on this device"),
    }
}

/// Where a redirect URI leads, for browsers: a source of `Content-Security-Policy`.
pub(super) fn form_target(redirect_uri: &str) -> Option<String> {
    let url = Url::parse(redirect_uri).ok()?;
    match (url.scheme(), url.host()) {
        // Sources have no IPv6 addresses.
        ("http" | "https", Some(Host::Ipv6(_))) => Some(format!("{}:", url.scheme())),
        ("http" | "https", Some(_)) => Some(url.origin().ascii_serialization()),
        (scheme, _) => Some(format!("{scheme}:")),
    }
}
