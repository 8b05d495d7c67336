//! Lockstep: a Matrix homeserver that keeps every device and every server in step.
//!
//! A server is one log. Everything that must reach someone is a *fact* in it; everyone who must be
//! reached is a *reader* with a *cursor*. `docs/architecture.md` tells the rest. A module may use
//! only modules named above it in this list; `spec-tests/tests/layers.rs` holds the exact edges.

pub mod types;

pub mod limits;

pub mod upkeep;

pub mod config;

pub mod store;

pub mod log;

pub mod keys;

pub mod dag;

pub mod mail;

pub mod peer;

pub mod identity;

pub mod history;

pub mod appservice;

pub mod account;

pub mod device;

pub mod oauth;

pub mod ephemeral;

pub mod push;

pub mod media;

pub mod search;

pub mod report;

pub mod delivery;

pub mod room;

pub mod rtc;

pub mod notice;

pub mod purge;

pub mod federation;

pub mod sync;

pub mod http;

pub mod server;

pub mod cli;
