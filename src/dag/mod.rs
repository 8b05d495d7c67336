//! What a room is, without any I/O: parse, build, judge, resolve, state snapshots, redaction.
//!
//! Owns: [`Pdu`] and every rule of the room versions. May use: `types`, `limits`, `keys`, ruma's state
//! resolution, petgraph (which no other module knows). Everything here is pure and synchronous: what a
//! function needs is handed in, and what is missing is said so that the caller can load it and ask
//! again. Start reading at [`pdu`], then [`build`], [`judge`] and [`tree`]. Invariants: a missing event
//! is never a rejection; equal states have equal roots, whatever way they came about.

pub mod auth;
pub mod build;
pub mod extremities;
pub mod graph;
pub mod judge;
pub mod pdu;
pub mod policy;
pub mod power;
pub mod redact;
pub mod relates;
pub mod resolve;
pub mod tree;
pub mod versions;
pub mod visibility;

pub use auth::Denied;
pub use build::{BuildError, Draft, Head};
pub use judge::{Missing, RoomView, Signed, Verdict};
pub use pdu::{FormatError, Pdu};
pub use policy::Policy;
pub use tree::{NeedNodes, Node, NodeId, NodeSource, StateId, StateKey, StateValue};

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;
