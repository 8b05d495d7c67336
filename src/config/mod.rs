//! The configuration tree; its doc comments are the manual.
//!
//! Owns: what can be set ([`Config`]), where it comes from ([`Sources`]) and how mistakes are told
//! ([`ConfigError`]). May use: `types`, `limits`. Start reading at [`Config`]. Invariants: an unknown
//! key is an error; every error names the key and its source; `docs/configuration.md` is what
//! [`manual()`] writes.

mod error;
mod listen;
mod manual;
mod section;
mod source;
#[cfg(test)]
mod tests;
mod tree;

pub use error::ConfigError;
pub use listen::{Address, Listen};
pub use manual::manual;
pub use source::Sources;
pub use tree::{
    Config, DefaultRoomVersion, Durability, Email, Engine, Federation, Limits, LogFormat, Logging,
    MailProtection, Media, Notices, Oauth, OldVerifyKey, Options, Policy, Provider, Push, Rate, RateLimits,
    Registration, RegistrationMode, Retention, Search, Sso, Storage, UserDirectory, Voip, WellKnown,
};
