//! The vocabulary of the server: positions and cursors, lanes and facts, readers, and the ports for
//! time and randomness.
//!
//! Owns: the words every other module speaks. May use: ruma's identifiers, serde. Start reading at
//! [`Fact`]. Invariants: a [`Position`] is never 0 for a real fact; a [`Cursor`] has
//! `queue <= log`; a [`Fact`] alone decides its [`Retention`].

mod fact;
mod ports;
mod position;
mod range;
mod secret;
pub mod words;

pub use fact::{Fact, Lane, Membership, Reader, ReceiptKind, RegisterKey, Retention};
#[cfg(test)]
pub use ports::PausedClock;
pub use ports::{Clock, ManualClock, Ports, Rng, SeededRng, random_string};
pub use position::{Cursor, ParseCursorError, Position};
pub use range::{IpRange, translated};
pub use secret::Secret;
