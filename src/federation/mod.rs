//! What other servers ask of this one: transactions, joins, history, queries.
//!
//! Owns: the inbound side of federation. May use: everything down to `room`. Start reading at [`Federation`].
//! Invariants: whatever it is given comes from a server that has proved its name, and is not believed for
//! that; one bad item never stops its neighbours.

mod asking;
mod edu;
mod error;
mod handshake;
mod query;
mod reading;
mod service;
mod sight;
mod transaction;

pub use error::FederationError;
pub use handshake::{Exchange, HandedOver, Joined};
pub use query::{DeviceList, Hierarchy};
pub use reading::Between;
pub use service::{Federation, Neighbours};
pub use transaction::{Answer, Transaction};

#[cfg(test)]
mod tests;
