//! The account page: what users look after in their browser, and what clients send them here for.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-account-management>

mod address;
mod cross_signing;
mod deactivate;
mod device;
mod identity;
mod overview;
mod password;
mod profile;

use axum::response::Response;
use ruma::OwnedUserId;

use super::{Visitor, page::go_to};
use crate::http::{App, Call, Failure, Routes};

/// The path of the page.
const PATH: &str = "/_matrix/oauth2/account";

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    overview::route(routes);
    profile::route(routes);
    address::route(routes);
    device::route(routes);
    password::route(routes);
    identity::route(routes);
    cross_signing::route(routes);
    deactivate::route(routes);
}

/// A browser whose user is signed in.
struct Owner {
    visitor: Visitor,
    user_id: OwnedUserId,
    /// Whether they signed in just now.
    is_fresh: bool,
}

impl Owner {
    /// Who sends a form; or where the browser has to go first. `csrf` is the token in the form.
    async fn of(app: &App, call: &Call, csrf: &str) -> Result<Result<Self, Response>, Failure> {
        let visitor = Visitor::of(app, call).await?;
        visitor.check(csrf)?;
        Self::signed_in(visitor, PATH)
    }

    fn signed_in(visitor: Visitor, here: &str) -> Result<Result<Self, Response>, Failure> {
        match visitor.browser.clone() {
            Some(browser) => Ok(Ok(Self { visitor, user_id: browser.user_id, is_fresh: browser.is_fresh })),
            None => Ok(Err(go_to(&visitor.login_url(here))?)),
        }
    }

    /// Refuses somebody who is suspended what the endpoints of clients refuse them too.
    async fn refuse_suspended(&self, app: &App) -> Result<(), Failure> {
        match app.accounts.user(&self.user_id).await?.is_some_and(|user| user.suspended) {
            true => Err(Failure::suspended()),
            false => Ok(()),
        }
    }

    /// Back to the part of the page that `action` names.
    fn back(&self, action: &str) -> Result<Response, Failure> {
        go_to(&format!("{}?action={action}", self.visitor.site.url("account")))
    }

    /// Has the user sign in again before they do what cannot be undone.
    fn sign_in_again(&self, action: &str) -> Result<Response, Failure> {
        go_to(&self.visitor.login_url(&format!("{PATH}?action={action}")))
    }
}
