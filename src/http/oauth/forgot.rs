//! `GET` and `POST /_matrix/oauth2/forgot` and `/_matrix/oauth2/reset`: somebody has forgotten their password, and gets
//! another by a letter

use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Visitor, letter,
    page::{Page, complaint, hidden, sorry, sorry_but, unlinking},
    reply::{page_form, query},
    sso,
};
use crate::{
    account::{AccountError, ProofOf, Proved},
    http::{App, Call, Failure, Routes},
};

const FORGOT: &str = "/_matrix/oauth2/forgot";
const RESET: &str = "/_matrix/oauth2/reset";

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
struct Given {
    sid: String,
    code: String,
    #[serde(default)]
    next: String,
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    again: String,
    #[serde(default)]
    logout: Option<String>,
    #[serde(default)]
    unlink: Option<String>,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, FORGOT, ask);
    routes.page(Method::POST, FORGOT, write);
    routes.page(Method::GET, RESET, choose);
    routes.page(Method::POST, RESET, reset);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Asked = query(&call)?;
    if app.post.is_none() {
        return Ok(visitor.show(no_letters()));
    }
    Ok(visitor.show(Page::new("Forgotten password", address_form(&visitor, &given, None))))
}

async fn write(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Asked = page_form(&call)?;
    visitor.check(&given.csrf)?;
    if app.post.is_none() {
        return Ok(visitor.show(no_letters()));
    }
    match app.accounts.user_of_address(&given.email).await {
        Ok(_) => {}
        Err(error @ AccountError::Invalid(_)) => {
            let body = address_form(&visitor, &given, Some(&format!("{error}.")));
            return Ok(
                visitor.show(Page::new("Forgotten password", body).with_status(StatusCode::BAD_REQUEST))
            );
        }
        Err(error) => return Err(error.into()),
    }
    letter::send(&app, ProofOf::Password, given.email, ("reset", given.next));
    let text = "If this address belongs to an account here, a letter is on its way to it. Open the link in it to go on.";
    Ok(visitor.show(sorry("Look into your mail", text, StatusCode::OK)))
}

async fn choose(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Given = query(&call)?;
    Ok(visitor.show(match proved(&app, &given).await? {
        Some(_) => password_page((&app, &visitor), &given, None),
        None => too_old(&visitor),
    }))
}

async fn reset(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let given: Given = page_form(&call)?;
    visitor.check(&given.csrf)?;
    let Some(proved) = proved(&app, &given).await? else { return Ok(visitor.show(too_old(&visitor))) };
    let Some(user) = app.accounts.user_of_address(&proved.address).await? else {
        return Ok(visitor.show(too_old(&visitor)));
    };
    let changed = match given.password == given.again {
        true => app.accounts.reset_password(&user, &given.password, &proved).await,
        false => Err(AccountError::Invalid(String::from("The two passwords differ"))),
    };
    let mut verified = match changed {
        Ok(verified) => verified,
        Err(error @ (AccountError::Invalid(_) | AccountError::TooLarge(_))) => {
            let page = password_page((&app, &visitor), &given, Some(&format!("{error}.")));
            return Ok(visitor.show(page.with_status(StatusCode::BAD_REQUEST)));
        }
        // Somebody has used the letter at this moment.
        Err(AccountError::Contended) => return Ok(visitor.show(too_old(&visitor))),
        Err(error) => return Err(error.into()),
    };
    if given.unlink.is_some() {
        verified = app.accounts.unlink_all(&verified).await?;
    }
    if given.logout.is_some() {
        app.devices.remove_all(&user, None).await?;
    }
    match app.oauth.sign_in_by(&verified).await {
        Ok(cookie) => visitor.sign_in(&cookie, &visitor.onwards(&given.next)),
        Err(error @ (AccountError::WrongPassword | AccountError::Deactivated | AccountError::Locked)) => {
            Ok(visitor.show(sorry("Changed", &format!("{error}."), StatusCode::FORBIDDEN)))
        }
        Err(error) => Err(error.into()),
    }
}

async fn proved(app: &App, given: &Given) -> Result<Option<Proved>, Failure> {
    Ok(app.accounts.proved_by_letter(ProofOf::Password, (&given.sid, &given.code)).await?)
}

fn no_letters() -> Page {
    let text = "This server sends no mail. Those who run it can set a new password.";
    sorry("No letters", text, StatusCode::NOT_FOUND)
}

fn too_old(visitor: &Visitor) -> Page {
    let (text, again) = ("The letter is too old, or has been used.", visitor.site.url("forgot"));
    sorry_but("That did not work", text, (&again, "Have another letter sent"), StatusCode::BAD_REQUEST)
}

fn address_form(visitor: &Visitor, given: &Asked, wrong: Option<&str>) -> Markup {
    html! {
        (complaint(wrong))
        p { "We can send you a letter by which you set a new password." }
        form method="post" action=(visitor.site.url("forgot")) {
            (visitor.csrf())
            (hidden("next", &given.next))
            label for="email" { "The mail address of your account" }
            input type="email" id="email" name="email" value=(given.email) autocomplete="email" required autofocus;
            button type="submit" { "Send the letter" }
        }
        p { a href=(visitor.login_url(&given.next)) { "Back" } }
    }
}

fn password_page((app, visitor): (&App, &Visitor), given: &Given, wrong: Option<&str>) -> Page {
    let body = html! {
        (complaint(wrong))
        form method="post" action=(visitor.site.url("reset")) {
            (visitor.csrf())
            (hidden("sid", &given.sid))
            (hidden("code", &given.code))
            (hidden("next", &given.next))
            label for="password" { "New password" }
            input type="password" id="password" name="password" autocomplete="new-password" required autofocus;
            label for="again" { "New password again" }
            input type="password" id="again" name="again" autocomplete="new-password" required;
            label.box { input type="checkbox" name="logout" value="all" checked; " Sign out all devices" }
            @if app.oauth.providers().next().is_some() { (unlinking()) }
            button type="submit" { "Set the password" }
        }
    };
    Page::new("New password", body).leading_to(sso::leads_to(app, &given.next))
}
