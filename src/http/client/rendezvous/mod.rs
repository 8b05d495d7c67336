//! Signing in by QR code: where the two devices meet. MSC4388, and MSC4108 as of 2024.
//!
//! It is of use only together with the device authorisation grant, so it is there when the OAuth 2.0 API is.

mod create;
mod delete;
mod discover;
mod get;
mod old;
mod update;

#[cfg(test)]
mod tests;

use http::StatusCode;

use crate::{
    http::{App, Failure, Routes},
    limits::BUSY_RETRY_AFTER,
    oauth::Unwritten,
};

/// The features that are there only with the OAuth 2.0 API.
pub(in crate::http) const FEATURES: [&str; 2] = ["io.element.msc4388", "org.matrix.msc4108"];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(create::handle);
    routes.add(delete::handle);
    routes.add(discover::handle);
    routes.add(get::handle);
    routes.add(update::handle);
    old::routes(routes);
    for feature in FEATURES {
        routes.feature(feature);
    }
}

fn check_on(app: &App) -> Result<(), Failure> {
    app.oauth.site().map(drop).ok_or_else(Failure::unrecognized)
}

fn gone() -> Failure {
    Failure::not_found("There is no such rendezvous session")
}

fn unwritten(why: Unwritten, concurrent: StatusCode) -> Failure {
    match why {
        Unwritten::Gone => gone(),
        Unwritten::Concurrent => {
            Failure::custom(concurrent, "M_CONCURRENT_WRITE", "Somebody else has written meanwhile")
        }
        Unwritten::TooLarge => Failure::too_large("The payload is too large"),
        Unwritten::Busy => Failure::busy(BUSY_RETRY_AFTER),
        Unwritten::Failed(error) => error.into(),
    }
}
