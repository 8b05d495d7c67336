//! `GET` and `POST /_matrix/oauth2/welcome`: somebody whom a provider knows and this server does not gets an account,
//! or says which one is theirs

use axum::response::Response;
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{
    Visitor, letter,
    page::{Page, accepting, complaint, hidden},
    reply::{page_form, query},
    sso,
    upstream::failed,
};
use crate::{
    account::AccountError,
    http::{App, Call, Failure, Routes, client::account::login::user_id},
    oauth::{Newcomer, OauthError, ProviderError},
};

const NEW: &str = "/_matrix/oauth2/welcome";
/// Apart, because a password can be guessed there.
const OLD: &str = "/_matrix/oauth2/welcome/login";

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    csrf: String,
    ticket: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    terms: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, NEW, ask);
    routes.page(Method::POST, NEW, make);
    routes.page(Method::POST, OLD, connect);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Given = query(&call)?;
    match app.oauth.newcomer(&given.ticket, visitor.cookie()).await {
        Ok(newcomer) => Ok(visitor.show(page(&app, &visitor, &newcomer, None))),
        Err(error) => failed(&visitor, error),
    }
}

async fn make(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Given = page_form(&call)?;
    visitor.check(&given.csrf)?;
    let newcomer = match app.oauth.newcomer(&given.ticket, visitor.cookie()).await {
        Ok(newcomer) => newcomer,
        Err(error) => return failed(&visitor, error),
    };
    if !app.accounts.settings().terms.policies.is_empty() && given.terms.is_empty() {
        let newcomer = Newcomer { localpart: given.username, ..newcomer };
        let page = page(&app, &visitor, &newcomer, Some("The policies have to be accepted."));
        return Ok(visitor.show(page.with_status(StatusCode::BAD_REQUEST)));
    }
    let reserved = app.accounts.available(&given.username).await;
    let reserved = reserved.is_ok_and(|user| app.appservices.keeps_user(&user, None));
    let made = match reserved {
        true => Err(ProviderError::from(AccountError::UserInUse)),
        false => app.oauth.welcome((&given.ticket, visitor.cookie()), &given.username).await,
    };
    match made {
        Ok(user) => visitor.sign_in(&app.oauth.sign_in(&user).await?, &visitor.onwards(&newcomer.next)),
        Err(ProviderError::Failed(OauthError::Account(
            error @ (AccountError::UserInUse
            | AccountError::InvalidUsername(_)
            | AccountError::RegistrationRefused(_)),
        ))) => {
            let newcomer = Newcomer { localpart: given.username, ..newcomer };
            let page = page(&app, &visitor, &newcomer, Some(&format!("{error}.")));
            Ok(visitor.show(page.with_status(StatusCode::BAD_REQUEST)))
        }
        Err(error) => failed(&visitor, error),
    }
}

async fn connect(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Given = page_form(&call)?;
    visitor.check(&given.csrf)?;
    let newcomer = match app.oauth.newcomer(&given.ticket, visitor.cookie()).await {
        Ok(newcomer) => newcomer,
        Err(error) => return failed(&visitor, error),
    };
    let checked = match user_id(&app, &given.username) {
        Ok(user) => app.accounts.check_password(&user, &given.password).await,
        Err(_) => Err(AccountError::WrongPassword),
    };
    let verified = match checked {
        Ok(verified) => verified,
        Err(error @ (AccountError::WrongPassword | AccountError::Deactivated)) => {
            let page = page(&app, &visitor, &newcomer, Some(&format!("{error}.")));
            return Ok(visitor.show(page.with_status(StatusCode::FORBIDDEN)));
        }
        Err(error) => return Err(error.into()),
    };
    match app.oauth.connect((&given.ticket, visitor.cookie()), &verified).await {
        Ok(()) => {
            letter::tell_linked(&app, verified.user_id(), newcomer.provider);
            visitor.sign_in(&app.oauth.sign_in_by(&verified).await?, &visitor.onwards(&newcomer.next))
        }
        Err(error) => failed(&visitor, error),
    }
}

fn page(app: &App, visitor: &Visitor, newcomer: &Newcomer, wrong: Option<&str>) -> Page {
    let registers = app.accounts.check_provider_registration().is_ok();
    let body = html! {
        (complaint(wrong))
        p { (newcomer.provider) " has told us who you are; you have not been here before." }
        @if registers {
            form method="post" action=(visitor.site.url("welcome")) {
                (visitor.csrf())
                (hidden("ticket", &newcomer.ticket))
                label for="username" { "Choose your user name: it can never be changed" }
                input type="text" id="username" name="username" value=(newcomer.localpart) autocomplete="username"
                    autocapitalize="none" spellcheck="false" required autofocus;
                p.soft { "You will be known as @name:" (app.server_name) }
                @if !app.accounts.settings().terms.policies.is_empty() {
                    (accepting(&app.accounts.settings().terms))
                }
                button type="submit" { "Make account" }
            }
        }
        h2 { "You have an account here already?" }
        form method="post" action=(visitor.site.url("welcome/login")) {
            (visitor.csrf())
            (hidden("ticket", &newcomer.ticket))
            label for="old" { "User name" }
            input type="text" id="old" name="username" autocomplete="username" autocapitalize="none"
                spellcheck="false" required;
            label for="password" { "Password" }
            input type="password" id="password" name="password" autocomplete="current-password" required;
            button.plain type="submit" { "Connect" }
        }
    };
    Page::new(format!("Welcome to {}", app.server_name), body).leading_to(sso::leads_to(app, &newcomer.next))
}
