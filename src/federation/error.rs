//! Why another server does not get what it asks for.

use crate::{
    account::AccountError,
    device::DeviceError,
    room::{ReceiveFailure, RoomError},
    store::StoreError,
};

/// Why another server does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// It may not have it, or not do it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such thing, or it may not know that there is.
    #[error("{0}")]
    NotFound(&'static str),
    /// What it sent is not what the specification says.
    #[error("{0}")]
    Invalid(String),
    /// The event that it handed over was not taken.
    #[error(transparent)]
    Received(#[from] ReceiveFailure),
    /// The rooms say why.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The accounts say why.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The devices say why.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// This server could not take in all of a transaction, which is to come again.
    #[error("this server is in trouble: {0}")]
    Trouble(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
