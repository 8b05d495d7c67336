//! `GET` and `POST /_matrix/oauth2/login`: somebody signs in

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Visitor,
    page::{Page, complaint, hidden},
    reply::{page_form, query},
    sso,
};
use crate::{
    account::AccountError,
    http::{App, Call, Failure, Routes, client::account::login::user_id},
};

const PATH: &str = "/_matrix/oauth2/login";

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
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, handle);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Next { next } = query(&call)?;
    let body = form(&app, &visitor, (&next, ""), None);
    Ok(visitor.show(Page::new(title(&app), body).leading_to(sso::leads_to(&app, &next))))
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Form { csrf, next, username, password } = page_form(&call)?;
    visitor.check(&csrf)?;
    let wrong = || AccountError::WrongPassword;
    let checked = match user_id(&app, &username).map_err(|_| wrong()) {
        Ok(user) => match app.accounts.check_password(&user, &password).await {
            Ok(verified) => app.oauth.sign_in_by(&verified).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let error = match checked {
        Ok(cookie) => return visitor.sign_in(&cookie, &visitor.onwards(&next)),
        Err(error @ (AccountError::WrongPassword | AccountError::Deactivated | AccountError::Locked)) => {
            error
        }
        Err(error) => return Err(error.into()),
    };
    let body = form(&app, &visitor, (&next, &username), Some(&format!("{error}.")));
    let page = Page::new(title(&app), body).leading_to(sso::leads_to(&app, &next));
    Ok(visitor.show(page.with_status(StatusCode::FORBIDDEN)))
}

fn title(app: &App) -> String {
    format!("Sign in to {}", app.server_name)
}

fn form(app: &App, visitor: &Visitor, (next, username): (&str, &str), wrong: Option<&str>) -> Markup {
    let registers = app.accounts.check_registration().is_ok();
    html! {
        (complaint(wrong))
        form method="post" action=(visitor.site.url("login")) {
            (visitor.csrf())
            (hidden("next", next))
            label for="username" { "User name" }
            input type="text" id="username" name="username" value=(username) autocomplete="username"
                autocapitalize="none" spellcheck="false" required autofocus;
            label for="password" { "Password" }
            input type="password" id="password" name="password" autocomplete="current-password" required;
            button type="submit" { "Sign in" }
        }
        @if app.post.is_some() {
            p { a href=(visitor.forgot_url(next)) { "Forgot your password?" } }
        }
        @for (id, name) in app.oauth.providers() {
            p { a href=(visitor.upstream_url(id, next)) { "Sign in with " (name) } }
        }
        @if registers {
            p { "No account yet? " a href=(visitor.register_url(next)) { "Make one" } }
        }
    }
}
