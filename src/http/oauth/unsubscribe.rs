//! `GET` and `POST /_matrix/oauth2/unsubscribe`: somebody wants no more letters about what they have not read
//!
//! The link proves by itself whose letters they are, so that a mail program can send the form (RFC 8058). Opening it does
//! nothing yet: programs that look through mail open what is in it.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::html;
use ruma::OwnedUserId;
use serde::Deserialize;

use super::{
    page::{Page, sorry},
    reply::query,
};
use crate::{
    http::{App, Call, Failure, Routes, digest::is_proof},
    push::{MAIL_APP, PusherId},
};

const PATH: &str = "/_matrix/oauth2/unsubscribe";

#[derive(Deserialize)]
struct Given {
    user: OwnedUserId,
    address: String,
    token: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, end);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let given = given(&app, &call)?;
    let body = html! {
        p {
            "Letters about what " strong { (given.user) } " has not read go to " strong { (given.address) } "."
        }
        form method="post" { button type="submit" { "Send no more" } }
    };
    Ok(Page::new("No more letters?", body).into_response())
}

async fn end(app: App, call: Call) -> Result<Response, Failure> {
    let Given { user: user_id, address: pushkey, .. } = given(&app, &call)?;
    app.push.remove_pusher(&PusherId { user_id, app_id: MAIL_APP.to_owned(), pushkey }).await?;
    Ok(sorry("Done", "You get no more of these letters.", StatusCode::OK).into_response())
}

fn given(app: &App, call: &Call) -> Result<Given, Failure> {
    let given: Given = query(call)?;
    match is_proof(&app.registration_secret, (&given.user, &given.address), &given.token) {
        true => Ok(given),
        false => Err(Failure::forbidden("This link is not the one in a letter.")),
    }
}
