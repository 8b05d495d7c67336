//! `GET` and `POST /_matrix/oauth2/link`: the user types the code that a device shows
//!
//! The code is looked up only after the user has sent it, never because a link was opened, and no more often than
//! somebody may try passwords (RFC 8628, 5.1 and 5.4).

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use ruma::UserId;
use serde::Deserialize;

use super::{
    Visitor,
    authorize::{introduction, replaced, somebody_else},
    page::{Page, complaint, go_to, hidden, sorry},
    reply::{page_form, query},
    visitor::here,
};
use crate::{
    http::{App, Call, Failure, Routes},
    oauth::DeviceCode,
};

const PATH: &str = "/_matrix/oauth2/link";

#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    user_code: String,
}

#[derive(Deserialize)]
struct Form {
    csrf: String,
    user_code: String,
    #[serde(default)]
    decision: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, handle);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    if visitor.browser.is_none() {
        return go_to(&visitor.login_url(&here(&call)));
    }
    let Typed { user_code } = query(&call)?;
    Ok(visitor.show(code_page(&visitor, &user_code, None)))
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Form { csrf, user_code, decision } = page_form(&call)?;
    visitor.check(&csrf)?;
    let Some(browser) = &visitor.browser else { return go_to(&visitor.login_url(PATH)) };
    let user = &browser.user_id;
    let unknown = || {
        let text = "There is no such code, or its time is over.";
        visitor.show(code_page(&visitor, "", Some(text)).with_status(StatusCode::BAD_REQUEST))
    };
    if decision.is_empty() {
        return Ok(match app.oauth.device_code(&user_code).await? {
            Some(asked) => {
                let replaced = replaced(&app, user, &asked.device_id).await;
                visitor.show(consent(&visitor, (&asked, user), (&user_code, replaced)))
            }
            None => unknown(),
        });
    }
    let grant = decision == "allow";
    Ok(match (app.oauth.decide(&user_code, user, grant).await?, grant) {
        (true, true) => {
            visitor.show(sorry("Done", "The device is signed in. You can close this page.", StatusCode::OK))
        }
        (true, false) => visitor.show(sorry("Refused", "The device gets no access.", StatusCode::OK)),
        (false, _) => unknown(),
    })
}

fn code_page(visitor: &Visitor, user_code: &str, wrong: Option<&str>) -> Page {
    let body = html! {
        (complaint(wrong))
        p { "Enter the code that the device or application shows which you want to sign in." }
        form method="post" action=(visitor.site.url("link")) {
            (visitor.csrf())
            label for="user_code" { "Code" }
            input type="text" id="user_code" name="user_code" value=(user_code) autocomplete="off"
                spellcheck="false" required autofocus;
            button type="submit" { "Continue" }
        }
    };
    Page::new("Sign in another device", body)
}

fn consent(
    visitor: &Visitor,
    (asked, user): (&DeviceCode, &UserId),
    (user_code, replaced): (&str, Markup),
) -> Page {
    let body = html! {
        (introduction(&asked.client, user))
        p.wrong {
            "Go on only if you see the code " code { (user_code) } " on your own device, in front of you. Nobody who "
            "sends you such a code means well."
        }
        p { "It will be the device " code { (asked.device_id) } "." }
        (replaced)
        form method="post" action=(visitor.site.url("link")) {
            (visitor.csrf())
            (hidden("user_code", user_code))
            button type="submit" name="decision" value="allow" { "Allow" }
            button.plain type="submit" name="decision" value="deny" { "Refuse" }
        }
        (somebody_else(visitor, user, "/_matrix/oauth2/link"))
    };
    Page::new(format!("Sign in to {}?", asked.client.shown_name()), body)
}
