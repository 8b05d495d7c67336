//! `GET` and `POST /_matrix/oauth2/prove`: somebody without a password proves who they are, because an application asks
//! for it before it does what cannot be undone (`m.login.sso`)
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#single-sign-on>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{
    Visitor,
    authorize::somebody_else,
    page::{Page, go_to, hidden, sorry},
    reply::{page_form, query},
    visitor::here,
};
use crate::{
    account::Purpose,
    http::{App, Call, Failure, Routes, client::account::fallback::DONE},
};

const PATH: &str = "/_matrix/oauth2/prove";

#[derive(Deserialize)]
struct Given {
    session: String,
    #[serde(default)]
    csrf: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, confirm);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Given { session, .. } = query(&call)?;
    let Some(Purpose::Operation(operation, owner, _)) = app.accounts.purpose_of(&session) else {
        return Ok(visitor.show(too_late()));
    };
    let user = match visitor.browser.as_ref().filter(|browser| browser.is_fresh) {
        Some(browser) => &browser.user_id,
        None => return Ok(visitor.keep_cookie(go_to(&visitor.login_url(&here(&call)))?)),
    };
    let body = html! {
        @if *user == owner {
            p { "An application in which you are signed in as " strong { (user) } " wants to " (told(operation)) "." }
            p.wrong { "Allow it only if you have just asked for it there." }
            form method="post" action=(visitor.site.url("prove")) {
                (visitor.csrf())
                (hidden("session", &session))
                button type="submit" { "Allow" }
            }
        } @else {
            p { "The application asks for " strong { (owner) } ", but you are signed in here as " strong { (user) } "." }
        }
        (somebody_else(&visitor, user, &here(&call)))
    };
    Ok(visitor.show(Page::new("Is it you?", body)))
}

async fn confirm(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Given { session, csrf } = page_form(&call)?;
    visitor.check(&csrf)?;
    let Some(browser) = visitor.browser.as_ref().filter(|browser| browser.is_fresh) else {
        return Err(Failure::forbidden("Please sign in first."));
    };
    Ok(visitor.show(match app.accounts.pass_as(&session, &browser.user_id).await? {
        true => Page::new("Done", html! { p { "You can close this page and go on." } }).with_script(DONE),
        false => too_late(),
    }))
}

/// What the operations are that ask for it, in words.
fn told(operation: &str) -> &'static str {
    match operation {
        "account/deactivate" => "end your account",
        "account/password" => "set a password",
        "account/3pid/add" => "add a mail address to your account",
        "delete_device" | "delete_devices" => "sign out devices",
        "login/get_token" => "sign another device in",
        "device_signing" => "replace your digital identity",
        _ => "do what cannot be undone",
    }
}

fn too_late() -> Page {
    let text = "There is nothing to prove, or the time for it is over. Please try again in the application.";
    sorry("That did not work", text, StatusCode::NOT_FOUND)
}
