//! The endpoints of the built-in OAuth 2.0 API, and the pages that people see when they sign in or look after their
//! account.
//!
//! Every page comes with a strict `Content-Security-Policy` and needs no script ([`page`]); every form carries a
//! token that only the browser's own cookie yields ([`Visitor`]).
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>

mod account;
mod authorize;
mod clients;
mod device;
mod forgot;
mod letter;
mod link;
mod login;
mod logout;
mod mail;
mod metadata;
pub(super) mod page;
mod prove;
mod register;
pub(super) mod reply;
mod revoke;
mod sso;
mod style;
mod token;
mod unsubscribe;
mod upstream;
mod visitor;
mod welcome;

#[cfg(test)]
mod tests;

use super::Routes;

pub(super) use page::failure_page;
use visitor::Visitor;

/// Below this path all pages are.
pub(super) const PAGES: &str = "/_matrix/oauth2/";

/// Adds the endpoints and pages.
pub(super) fn routes(routes: &mut Routes) {
    metadata::routes(routes);
    clients::route(routes);
    authorize::routes(routes);
    token::route(routes);
    revoke::route(routes);
    device::route(routes);
    link::routes(routes);
    login::routes(routes);
    forgot::routes(routes);
    prove::routes(routes);
    logout::route(routes);
    mail::routes(routes);
    register::routes(routes);
    account::routes(routes);
    sso::routes(routes);
    unsubscribe::routes(routes);
    upstream::routes(routes);
    welcome::routes(routes);
    style::route(routes);
}
