//! Black-box tests of Lockstep by specification section, with real clients, and its benchmarks.
//!
//! The library is what they share: [`server`] starts, stops and kills a homeserver in a folder of its own,
//! [`matrix`] speaks to it over HTTP, [`clients`] runs the scripts with real client libraries against it, and
//! [`gateway`] is a push gateway (on a [`listener`]), [`measure`] reads what a process costs, [`postgres`] starts a database, [`stores`] object stores, [`letters`] a mail
//! server, [`sydent`] an identity server, [`world`] has two servers and people on both. None of these link Lockstep: their tests see what a client sees.
//! [`store_load`] and [`store_faults`] do, for the benchmark and the fault tests of the store.

pub mod clients;
pub mod gateway;
pub mod keys;
pub mod letters;
pub mod listener;
pub mod matrix;
pub mod measure;
pub mod postgres;
pub mod server;
pub mod store_faults;
pub mod store_load;
pub mod stores;
pub mod sydent;
pub mod tls;
pub mod world;

/// A result whose error is a sentence for whoever reads the failed test.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
