//! What can be found: people by their names, messages by their words.
//!
//! Owns: the table `OpenRoom`, the rows of `UserWord` for users of other servers, and how far these have
//! followed the log; and the folder of the index of messages. May use: `types`, `limits`, `upkeep`, `store`, `log`, `dag`, `history`, `account`. Start reading at
//! [`People`] and [`Messages`]. Invariants: what is found in an index is looked up where it is kept before it is shown, so an index
//! that is behind, or says too much, shows nothing wrong; each index can be made anew from the rest of the store.

mod error;
mod follow;
mod messages;
mod people;

pub use error::SearchError;
pub use messages::{Ask, Findings, Found, Key, Messages, OrderBy, Place};
pub use people::{People, Person};
