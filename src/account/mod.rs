//! Users, passwords, sessions and tokens, UIA, profiles, account data, filters.
//!
//! Owns: who somebody is ([`Caller`]). May use: `types`, `store`, `log`.

mod caller;

pub use caller::Caller;
