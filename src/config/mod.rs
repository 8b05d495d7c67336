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
mod values;

pub use error::ConfigError;
pub use listen::{Address, Listen};
pub use manual::manual;
pub use source::Sources;
pub use tree::{
    Captcha, Config, Email, Federation, Identity, Invites, Limits, Logging, Media, Moderation, Notices,
    Oauth, Push, RateLimits, Registration, Retention, Search, Sso, Storage, UserDirectory, Voip, WellKnown,
};
pub use values::{
    DefaultRoomVersion, Durability, Engine, InvitesFrom, LogFormat, MailProtection, OldVerifyKey, Options,
    Policy, Provider, Rate, RegistrationEmail, RegistrationMode,
};
