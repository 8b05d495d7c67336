//! `POST /_matrix/oauth2/logout`: the browser is signed out, and perhaps somebody else signs in

use axum::response::Response;
use http::Method;
use serde::Deserialize;

use super::{Visitor, page::go_to, reply::page_form};
use crate::http::{App, Call, Failure, Routes};

#[derive(Deserialize)]
struct Form {
    csrf: String,
    #[serde(default)]
    next: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/logout", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Form { csrf, next } = page_form(&call)?;
    visitor.check(&csrf)?;
    visitor.sign_out(&app).await?;
    go_to(&visitor.login_url(&next))
}
