//! Routes, extractors, error rendering, rate limits.
//!
//! Owns: everything between a parsed HTTP request and a service of the layers below. May use: all of
//! them. Start reading at [`Routes`], which binds ruma's request types to handlers, then [`App`], what
//! every handler is given, and [`Failure`], what it answers when it cannot. One endpoint is one file,
//! `client/<area>/<endpoint>.rs`. Invariants: handlers contain no storage access; every answer of
//! 400 or more is the specification's JSON; no secret reaches a log.

mod app;
pub mod auth;
mod call;
pub mod client;
mod error;
mod handler;
mod routes;

#[cfg(test)]
mod tests;

pub use app::{App, Services};
pub use call::{Call, Peer};
pub use error::Failure;
pub use handler::{Access, Anonymous, Handle};
pub use routes::Routes;
