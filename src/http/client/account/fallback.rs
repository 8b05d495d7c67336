//! `GET` and `POST /_matrix/client/v3/auth/{authType}/fallback/web`: a stage is passed on a page, for clients that do
//! not know it
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#fallback>

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use ruma::api::client::uiaa::{AuthData, AuthType, Dummy, ReCaptcha, RegistrationToken, Terms};
use serde::Deserialize;

use crate::{
    account::Stage,
    http::{
        App, Call, Failure, Routes,
        oauth::{
            page::{Page, accepting, complaint, go_to, hidden, puzzle, puzzle_field},
            reply::{page_form, query},
        },
    },
};

const PATHS: [&str; 2] =
    ["/_matrix/client/r0/auth/{auth_type}/fallback/web", "/_matrix/client/v3/auth/{auth_type}/fallback/web"];
/// Tells the client that the page was left, as the specification has it.
pub(in crate::http) const DONE: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
    else if (window.opener && window.opener.postMessage) { window.opener.postMessage('authDone', '*'); }";

#[derive(Deserialize)]
struct Given {
    session: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    terms: String,
    #[serde(default, rename = "g-recaptcha-response")]
    captcha: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    for path in PATHS {
        routes.page(Method::GET, path, ask);
        routes.page(Method::POST, path, handle);
    }
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let given: Given = query(&call)?;
    if let Some(url) = sign_in(&app, &call, &given).await? {
        return go_to(&url);
    }
    let stage = stage(&app, &call, &given).await?;
    Ok(page(&app, &given, &stage, None).into_response())
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let given: Given = page_form(&call)?;
    let stage = stage(&app, &call, &given).await?;
    if stage == Stage::Terms && given.terms.is_empty() {
        let page = page(&app, &given, &stage, Some("The policies have to be accepted."));
        return Ok(page.with_status(StatusCode::BAD_REQUEST).into_response());
    }
    Ok(match app.accounts.pass_on_page(&shown(&given, &stage)).await? {
        Ok(()) => Page::new("Done", html! { p { "You can close this page and go on." } }).with_script(DONE),
        Err(wrong) => page(&app, &given, &stage, Some(wrong)).with_status(StatusCode::FORBIDDEN),
    }
    .into_response())
}

/// The page where somebody without a password proves who they are, if that is what is asked for.
async fn sign_in(app: &App, call: &Call, given: &Given) -> Result<Option<String>, Failure> {
    let is_sso = call.path.first().is_some_and(|kind| kind == AuthType::Sso.as_str());
    let Some(site) = app.oauth.site().filter(|_| is_sso) else { return Ok(None) };
    let left = app.accounts.stage_left(&given.session, &AuthType::Sso).await?;
    Ok(left.map(|_| {
        let query = serde_html_form::to_string([("session", &given.session)]).unwrap_or_default();
        format!("{}?{query}", site.url("prove"))
    }))
}

/// What is to be passed here.
async fn stage(app: &App, call: &Call, given: &Given) -> Result<Stage, Failure> {
    let auth_type = AuthType::from(call.path.first().map(String::as_str).unwrap_or_default());
    let stage = app.accounts.stage_left(&given.session, &auth_type).await?;
    let stage = stage.filter(|stage| {
        matches!(stage, Stage::Dummy | Stage::Terms | Stage::RegistrationToken | Stage::Captcha)
    });
    stage.ok_or_else(|| Failure::not_found("There is nothing to do here, or its time is over"))
}

fn shown(given: &Given, stage: &Stage) -> AuthData {
    let session = Some(given.session.clone());
    match stage {
        Stage::Terms => {
            let mut terms = Terms::new();
            terms.session = session;
            AuthData::Terms(terms)
        }
        Stage::RegistrationToken => {
            let mut token = RegistrationToken::new(given.token.clone());
            token.session = session;
            AuthData::RegistrationToken(token)
        }
        Stage::Captcha => {
            let mut captcha = ReCaptcha::new(given.captcha.clone());
            captcha.session = session;
            AuthData::ReCaptcha(captcha)
        }
        _ => {
            let mut dummy = Dummy::new();
            dummy.session = session;
            AuthData::Dummy(dummy)
        }
    }
}

fn page(app: &App, given: &Given, stage: &Stage, wrong: Option<&str>) -> Page {
    let asked: Markup = match stage {
        Stage::Terms => accepting(&app.accounts.settings().terms),
        Stage::RegistrationToken => html! {
            label for="token" { "Registration token, which those who run this server give out" }
            input type="text" id="token" name="token" autocomplete="off" spellcheck="false" required autofocus;
        },
        Stage::Captcha => puzzle_field(app),
        _ => html! { p { "There is nothing more to prove." } },
    };
    let body = html! {
        (complaint(wrong))
        form method="post" {
            (hidden("session", &given.session))
            (asked)
            button type="submit" { "Go on" }
        }
    };
    let page = Page::new(format!("Go on to {}", app.server_name), body);
    page.with_puzzle(puzzle(app).filter(|_| *stage == Stage::Captcha))
}
