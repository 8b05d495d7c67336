//! `GET` and `POST /_matrix/oauth2/register`: somebody makes an account
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-registration>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Visitor, letter,
    page::{Page, accepting, complaint, hidden, puzzle, puzzle_field, sorry, sorry_but},
    reply::{page_form, query},
    sso,
};
use crate::{
    account::{AccountError, NewUser, ProofOf, Proved, Shown, Stage},
    http::{App, Call, Failure, Routes},
};

const PATH: &str = "/_matrix/oauth2/register";

/// Where newcomers have a letter sent who have to prove an address.
const LETTER: &str = "/_matrix/oauth2/register/letter";

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
    /// What is in the letter.
    #[serde(default)]
    sid: String,
    #[serde(default)]
    code: String,
    /// They do not want to name an address, where they need not.
    #[serde(default)]
    without: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    csrf: String,
    next: String,
    email: String,
}

#[derive(Default, Deserialize)]
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
    #[serde(default)]
    sid: String,
    #[serde(default)]
    code: String,
    #[serde(default, rename = "g-recaptcha-response")]
    captcha: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, handle);
    routes.page(Method::POST, LETTER, write);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Next { next, sid, code, without } = query(&call)?;
    let stages = match app.accounts.newcomer_stages(without.is_none()) {
        Ok(stages) => stages,
        Err(error) => {
            return Ok(visitor.show(sorry("No new accounts", &error.to_string(), StatusCode::FORBIDDEN)));
        }
    };
    if stages.contains(&Stage::Email) {
        if sid.is_empty() {
            return Ok(visitor.show(Page::new(title(&app), address_form(&app, &visitor, (&next, ""), None))));
        }
        if proved(&app, (&sid, &code)).await?.is_none() {
            let again = serde_html_form::to_string([("next", &next)]).map_err(Failure::internal)?;
            let again = format!("{}?{again}", visitor.site.url("register"));
            let text = "The letter is too old, or has been used.";
            let on = (&*again, "Have another letter sent");
            let page = sorry_but("That did not work", text, on, StatusCode::BAD_REQUEST);
            return Ok(visitor.show(page));
        }
    }
    let given = Form { next, sid, code, ..Form::default() };
    Ok(visitor.show(page(&app, &visitor, (&given, &stages), None)))
}

/// Sends a letter to the address of a newcomer; it leads back to the page.
async fn write(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Address { csrf, next, email } = page_form(&call)?;
    visitor.check(&csrf)?;
    app.accounts.check_newcomer_address()?;
    match app.accounts.user_of_address(&email).await {
        Ok(_) => {}
        Err(error @ AccountError::Invalid(_)) => {
            let body = address_form(&app, &visitor, (&next, &email), Some(&format!("{error}.")));
            return Ok(visitor.show(Page::new(title(&app), body).with_status(StatusCode::BAD_REQUEST)));
        }
        Err(error) => return Err(error.into()),
    }
    letter::send(&app, ProofOf::Registration, email, ("register", next));
    let text = "Unless this address belongs to an account already, a letter is on its way to it. Open the link in it to \
        go on.";
    Ok(visitor.show(sorry("Look into your mail", text, StatusCode::OK)))
}

async fn proved(app: &App, (sid, code): (&str, &str)) -> Result<Option<Proved>, Failure> {
    Ok(app.accounts.proved_by_letter(ProofOf::Registration, (sid, code)).await?)
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Form = page_form(&call)?;
    visitor.check(&given.csrf)?;
    let stages = app.accounts.newcomer_stages(!given.sid.is_empty())?;
    let (status, wrong) = match make(&app, &given, &stages).await? {
        Ok(cookie) => return visitor.sign_in(&cookie, &visitor.onwards(&given.next)),
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong),
    };
    Ok(visitor.show(page(&app, &visitor, (&given, &stages), Some(&wrong)).with_status(status)))
}

/// Makes the account: the cookie of a browser that is signed in to it, or what is wrong with the form.
async fn make(app: &App, given: &Form, stages: &[Stage]) -> Result<Result<String, String>, Failure> {
    let wrong = |text: &str| Ok(Err(text.to_owned()));
    if given.password != given.again {
        return wrong("The two passwords differ.");
    }
    let mut shown = Shown::default();
    for stage in stages {
        match stage {
            Stage::Dummy => {}
            Stage::Terms if given.terms.is_empty() => return wrong("The policies have to be accepted."),
            Stage::Terms => shown.terms = true,
            Stage::RegistrationToken if app.accounts.is_registration_token(&given.token).await? => {
                shown.token = Some(given.token.clone());
            }
            Stage::RegistrationToken => return wrong("The registration token is not valid."),
            Stage::Email => match proved(app, (&given.sid, &given.code)).await? {
                Some(proved) => shown.address = Some(proved),
                None => return wrong("The letter is too old, or has been used."),
            },
            Stage::Captcha => {
                if let Err(unsolved) = app.accounts.is_captcha_solved(&given.captcha).await {
                    return wrong(&format!("{unsolved}."));
                }
            }
            Stage::Password | Stage::Sso | Stage::Oauth { .. } => {
                return Err(Failure::internal("not a stage of registration"));
            }
        }
    }
    let making = async {
        let user = app.accounts.available(&given.username).await?;
        if app.appservices.keeps_user(&user, None) {
            return Err(AccountError::UserInUse);
        }
        let (username, password) = (Some(given.username.clone()), Some(given.password.clone()));
        app.accounts.create_invited(NewUser { username, password, admin: false }, &shown).await
    };
    match making.await {
        Ok(user) => Ok(Ok(app.oauth.sign_in(&user).await?)),
        Err(
            error @ (AccountError::UserInUse
            | AccountError::AddressInUse
            | AccountError::AddressNotProved
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

fn address_form(app: &App, visitor: &Visitor, (next, email): (&str, &str), wrong: Option<&str>) -> Markup {
    let needed = app.accounts.newcomer_stages(false).is_ok_and(|stages| stages.contains(&Stage::Email));
    let without = serde_html_form::to_string([("next", next), ("without", "address")]).unwrap_or_default();
    html! {
        (complaint(wrong))
        p { "We send you a letter first. The account can get a new password by this address later." }
        form method="post" action=(visitor.site.url("register/letter")) {
            (visitor.csrf())
            (hidden("next", next))
            label for="email" { "Your mail address" }
            input type="email" id="email" name="email" value=(email) autocomplete="email" required autofocus;
            button type="submit" { "Send the letter" }
        }
        @if !needed {
            p { a href=(format!("{}?{without}", visitor.site.url("register"))) { "Go on without an address" } }
        }
        p { "Have an account already? " a href=(visitor.login_url(next)) { "Sign in" } }
    }
}

fn page(app: &App, visitor: &Visitor, (given, stages): (&Form, &[Stage]), wrong: Option<&str>) -> Page {
    let (next, username) = (&*given.next, &*given.username);
    let body = html! {
        (complaint(wrong))
        form method="post" action=(visitor.site.url("register")) {
            (visitor.csrf())
            (hidden("next", next))
            @if stages.contains(&Stage::Email) {
                (hidden("sid", &given.sid))
                (hidden("code", &given.code))
            }
            label for="username" { "User name" }
            input type="text" id="username" name="username" value=(username) autocomplete="username"
                autocapitalize="none" spellcheck="false" required autofocus;
            label for="password" { "Password" }
            input type="password" id="password" name="password" autocomplete="new-password" required;
            label for="again" { "Password again" }
            input type="password" id="again" name="again" autocomplete="new-password" required;
            @if stages.contains(&Stage::RegistrationToken) {
                label for="token" { "Registration token, which those who run this server give out" }
                input type="text" id="token" name="token" value=(given.token) autocomplete="off" spellcheck="false"
                    required;
            }
            @if stages.contains(&Stage::Terms) { (accepting(&app.accounts.settings().terms)) }
            @if stages.contains(&Stage::Captcha) { (puzzle_field(app)) }
            button type="submit" { "Make account" }
        }
        p { "Have one already? " a href=(visitor.login_url(next)) { "Sign in" } }
    };
    let page = Page::new(title(app), body).leading_to(sso::leads_to(app, next));
    page.with_puzzle(puzzle(app).filter(|_| stages.contains(&Stage::Captcha)))
}
