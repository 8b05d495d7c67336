//! `GET` and `POST /_matrix/oauth2/register`: somebody makes an account
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-registration>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Visitor,
    page::{Page, accepting, complaint, hidden, sorry},
    reply::{page_form, query},
};
use crate::{
    account::{AccountError, NewUser, Stage},
    http::{App, Call, Failure, Routes},
};

const PATH: &str = "/_matrix/oauth2/register";

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Form {
    csrf: String,
    next: String,
    username: String,
    password: String,
    again: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    terms: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, handle);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Next { next } = query(&call)?;
    let stages = match app.accounts.newcomer_stages() {
        Ok(stages) => stages,
        Err(error) => {
            return Ok(visitor.show(sorry("No new accounts", &error.to_string(), StatusCode::FORBIDDEN)));
        }
    };
    Ok(visitor.show(Page::new(title(&app), form((&app, &visitor), (&next, ""), &stages, None))))
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Form = page_form(&call)?;
    visitor.check(&given.csrf)?;
    let stages = app.accounts.newcomer_stages()?;
    let (status, wrong) = match make(&app, &given, &stages).await? {
        Ok(cookie) => return visitor.sign_in(&cookie, &visitor.onwards(&given.next)),
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong),
    };
    let body = form((&app, &visitor), (&given.next, &given.username), &stages, Some(&wrong));
    Ok(visitor.show(Page::new(title(&app), body).with_status(status)))
}

/// Makes the account: the cookie of a browser that is signed in to it, or what is wrong with the form.
async fn make(app: &App, given: &Form, stages: &[Stage]) -> Result<Result<String, String>, Failure> {
    let wrong = |text: &str| Ok(Err(text.to_owned()));
    for stage in stages {
        match stage {
            Stage::Dummy => {}
            Stage::Terms if given.terms.is_empty() => return wrong("The policies have to be accepted."),
            Stage::Terms => {}
            Stage::RegistrationToken if app.accounts.is_registration_token(&given.token).await? => {}
            Stage::RegistrationToken => return wrong("The registration token is not valid."),
            Stage::Password | Stage::Email | Stage::Oauth { .. } => {
                return Err(Failure::internal("not a stage of registration"));
            }
        }
    }
    if given.password != given.again {
        return wrong("The two passwords differ.");
    }
    let making = async {
        let user = app.accounts.available(&given.username).await?;
        if app.appservices.keeps_user(&user, None) {
            return Err(AccountError::UserInUse);
        }
        let (username, password) = (Some(given.username.clone()), Some(given.password.clone()));
        let token = stages.contains(&Stage::RegistrationToken).then_some(given.token.as_str());
        app.accounts.create_invited(NewUser { username, password, admin: false }, token).await
    };
    match making.await {
        Ok(user) => Ok(Ok(app.oauth.sign_in(&user).await?)),
        Err(
            error @ (AccountError::UserInUse
            | AccountError::InvalidUsername(_)
            | AccountError::Invalid(_)
            | AccountError::RegistrationRefused(_)
            | AccountError::TooLarge(_)),
        ) => wrong(&format!("{error}.")),
        Err(error) => Err(error.into()),
    }
}

fn title(app: &App) -> String {
    format!("Make an account on {}", app.server_name)
}

fn form(
    (app, visitor): (&App, &Visitor),
    (next, username): (&str, &str),
    stages: &[Stage],
    wrong: Option<&str>,
) -> Markup {
    html! {
        (complaint(wrong))
        form method="post" action=(visitor.site.url("register")) {
            (visitor.csrf())
            (hidden("next", next))
            label for="username" { "User name" }
            input type="text" id="username" name="username" value=(username) autocomplete="username"
                autocapitalize="none" spellcheck="false" required autofocus;
            label for="password" { "Password" }
            input type="password" id="password" name="password" autocomplete="new-password" required;
            label for="again" { "Password again" }
            input type="password" id="again" name="again" autocomplete="new-password" required;
            @if stages.contains(&Stage::RegistrationToken) {
                label for="token" { "Registration token, which those who run this server give out" }
                input type="text" id="token" name="token" autocomplete="off" spellcheck="false" required;
            }
            @if stages.contains(&Stage::Terms) { (accepting(&app.accounts.settings().terms)) }
            button type="submit" { "Make account" }
        }
        p { "Have one already? " a href=(visitor.login_url(next)) { "Sign in" } }
    }
}
