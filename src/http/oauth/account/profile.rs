//! `POST /_matrix/oauth2/account/profile`: another display name

use axum::response::Response;
use http::Method;
use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Owner, address,
    overview::{home, link},
};
use crate::http::{
    App, Call, Failure, Routes,
    client::profile::change,
    oauth::{page::Page, reply::page_form},
};

#[derive(Deserialize)]
struct Form {
    csrf: String,
    displayname: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/profile", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Form { csrf, displayname } = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    owner.refuse_suspended(&app).await?;
    let name = Some(displayname.trim().to_owned()).filter(|name| !name.is_empty());
    change(&app, &owner.user_id, "displayname", name.map(Value::from)).await?;
    owner.back("org.matrix.profile")
}

/// Shows it.
pub(super) async fn page(app: &App, owner: &Owner) -> Result<Page, Failure> {
    let (name, _) = app.accounts.display(&owner.user_id).await?;
    let body = html! {
        p { "Your user id is " strong { (owner.user_id) } "." }
        form method="post" action=(owner.visitor.site.url("account/profile")) {
            (owner.visitor.csrf())
            label for="displayname" { "The name that others see" }
            input type="text" id="displayname" name="displayname" value=(name.unwrap_or_default()) autocomplete="name";
            button type="submit" { "Save" }
        }
        @if app.post.is_some() {
            p { a href=(link(owner, address::ACTION)) { "Mail addresses" } }
        }
        (home(owner))
    };
    Ok(Page::new("Profile", body))
}
