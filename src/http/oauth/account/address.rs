//! `POST /_matrix/oauth2/account/address`: the mail addresses of the account

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::{
    account::{AccountError, ProofOf, Proved},
    http::{
        App, Call, Failure, Routes,
        oauth::{
            letter,
            page::{Page, complaint, hidden, sorry},
            reply::page_form,
        },
    },
};

/// Ours: the specification counts addresses among the profile, and has no name for them alone.
pub(super) const ACTION: &str = "addresses";

#[derive(Deserialize)]
struct Form {
    csrf: String,
    change: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    current: String,
    #[serde(default)]
    sid: String,
    #[serde(default)]
    code: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/address", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let form: Form = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &form.csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    if app.post.is_none() {
        return Ok(no_letters().into_response());
    }
    match form.change.as_str() {
        "remove" => {
            // Nobody could be written to any more.
            owner.refuse_suspended(&app).await?;
            app.accounts.remove_address(&owner.user_id, &form.address).await?;
        }
        "add" => match proved(&app, &owner, (&form.sid, &form.code)).await? {
            Some(proved) => match app.accounts.add_address(&owner.user_id, &proved).await {
                Ok(()) => {}
                // Somebody has got it, or has used the letter, since it was sent.
                Err(AccountError::AddressInUse) => return Ok(too_old(&owner).into_response()),
                Err(error) => return Err(error.into()),
            },
            None => return Ok(too_old(&owner).into_response()),
        },
        _ => return write(&app, &owner, form).await,
    }
    owner.back(ACTION)
}

/// Has a letter sent. Whoever could add an address would get the account by it: another password is sent there.
async fn write(app: &App, owner: &Owner, form: Form) -> Result<Response, Failure> {
    let (status, wrong) = match check(app, owner, &form).await {
        Ok(()) => {
            letter::send_to_owner(app, &owner.user_id, form.address);
            let text = "If this address belongs to no account here, a letter is on its way to it. Open the link in it \
                        to go on.";
            return Ok(sorry("Look into your mail", text, StatusCode::OK).into_response());
        }
        Err(AccountError::WrongPassword) => {
            (StatusCode::FORBIDDEN, String::from("The present password is wrong."))
        }
        Err(error @ AccountError::Invalid(_)) => (StatusCode::BAD_REQUEST, format!("{error}.")),
        Err(error) => return Err(error.into()),
    };
    Ok(page(app, owner, Some(&wrong)).await?.with_status(status).into_response())
}

async fn check(app: &App, owner: &Owner, form: &Form) -> Result<(), AccountError> {
    if app.accounts.has_password(&owner.user_id).await? {
        app.accounts.check_password(&owner.user_id, &form.current).await?;
    } else if !owner.is_fresh {
        return Err(AccountError::Invalid(String::from("Please sign in again first")));
    }
    // Whose it is, is not told; only whether it is one.
    app.accounts.user_of_address(&form.address).await.map(drop)
}

/// A proof that the owner, and nobody else, has asked for.
async fn proved(app: &App, owner: &Owner, given: (&str, &str)) -> Result<Option<Proved>, Failure> {
    let secret = letter::secret_of(app, &owner.user_id);
    Ok(app.accounts.proved_by_letter_to(ProofOf::Account, given, &secret).await?)
}

/// Shows all addresses.
pub(super) async fn page(app: &App, owner: &Owner, wrong: Option<&str>) -> Result<Page, Failure> {
    if app.post.is_none() {
        return Ok(no_letters());
    }
    let addresses = app.accounts.addresses(&owner.user_id).await?;
    let has_password = app.accounts.has_password(&owner.user_id).await?;
    let form = owner.visitor.site.url("account/address");
    let body = html! {
        (complaint(wrong))
        @if addresses.is_empty() { p { "There is none. With one you can get a new password by a letter." } }
        ul.rows {
            @for (address, _) in &addresses {
                li {
                    form method="post" action=(form) {
                        (owner.visitor.csrf())
                        (hidden("address", address))
                        p { (address) }
                        button.plain type="submit" name="change" value="remove" { "Remove" }
                    }
                }
            }
        }
        h2 { "Another address" }
        form method="post" action=(form) {
            (owner.visitor.csrf())
            label for="address" { "Mail address" }
            input type="email" id="address" name="address" autocomplete="email" required;
            @if has_password {
                label for="current" { "Present password" }
                input type="password" id="current" name="current" autocomplete="current-password" required;
            }
            button type="submit" name="change" value="write" { "Send a letter" }
        }
        (home(owner))
    };
    Ok(Page::new("Mail addresses", body))
}

/// Asks whoever has opened the letter. Opening the page adds nothing yet: programs that look through mail open what is in
/// it.
pub(super) async fn confirm(app: &App, owner: &Owner, (sid, code): (&str, &str)) -> Result<Page, Failure> {
    let Some(proved) = proved(app, owner, (sid, code)).await? else { return Ok(too_old(owner)) };
    let body = html! {
        p { "Add " strong { (proved.address) } " to the account " strong { (owner.user_id) } "?" }
        form method="post" action=(owner.visitor.site.url("account/address")) {
            (owner.visitor.csrf())
            (hidden("sid", sid))
            (hidden("code", code))
            button type="submit" name="change" value="add" { "Add" }
        }
        (home(owner))
    };
    Ok(Page::new("Mail addresses", body))
}

fn no_letters() -> Page {
    sorry("No letters", "This server sends no mail.", StatusCode::NOT_FOUND)
}

fn too_old(owner: &Owner) -> Page {
    let body = html! {
        p { "The letter is too old or has been used, or it is for somebody else." }
        (home(owner))
    };
    Page::new("That did not work", body).with_status(StatusCode::BAD_REQUEST)
}
