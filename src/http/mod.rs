//! Routes, extractors, error rendering, rate limits.
//!
//! Owns: everything between a parsed HTTP request and a service of the layers below. May use: all of
//! them. Start reading at [`Routes`], which binds ruma's request types to handlers, then [`App`], what
//! every handler is given, and [`Failure`], what it answers when it cannot. One endpoint is one file,
//! `client/<area>/<endpoint>.rs`. Invariants: handlers contain no storage access; every answer of
//! 400 or more is the specification's JSON, or on the pages
//! that people look at a page; no secret reaches a log.

pub mod admin;
mod app;
mod appservices;
pub mod auth;
mod bodies;
mod bridged;
mod budget;
mod call;
mod captcha;
pub mod client;
mod digest;
mod errands;
mod error;
pub mod federation;
mod file;
mod front;
mod handler;
mod identity;
mod metrics;
mod oauth;
mod operate;
mod profiles;
mod prove;
mod routes;
mod settings;
mod standing;
mod throttle;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod wire;

pub use app::{App, Foundation, Services};
pub(crate) use appservices::{meet_alias, meet_users};
pub use bodies::Bodies;
pub use budget::{Budget, Share};
pub use call::{Body, Call, Peer};
pub use errands::{Errand, Errands};
pub use error::Failure;
pub use front::{Front, Source};
pub use handler::{Access, Anonymous, Handle};
pub use metrics::Metrics;
pub use operate::DESTINATIONS;
use prove::prove;
pub use routes::Routes;
pub use settings::media_place;
pub use throttle::{Class, Throttle};
#[cfg(test)]
pub(crate) use wire::Wire;

/// Every endpoint of the server.
#[must_use]
pub fn endpoints() -> Routes {
    let mut routes = Routes::default();
    operate::routes(&mut routes);
    client::routes(&mut routes);
    oauth::routes(&mut routes);
    federation::routes(&mut routes);
    admin::routes(&mut routes);
    routes
}
