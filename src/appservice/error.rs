//! What can be wrong with a registration.

use std::path::Path;

/// A registration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the application service {place}: {why}")]
pub struct RegistrationError {
    place: String,
    why: String,
}

impl RegistrationError {
    /// `place` is the file, or the id.
    pub(super) fn new(place: impl AsRef<Path>, why: impl std::fmt::Display) -> Self {
        Self { place: place.as_ref().display().to_string(), why: why.to_string() }
    }
}
