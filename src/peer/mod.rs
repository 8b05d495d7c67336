//! The other servers: how they are found, called and recognised.
//!
//! Owns: the one door to the network ([`Net`]), signed requests, the keys of other servers, and what is known of
//! who does not answer. May use: `types`, `limits`, `store`, `log`, `keys`. Start reading at [`Peers`]. Invariants:
//! nothing leaves but through [`Net`]; every exchange has a bound on its time and its size; a key counts only
//! when its server, or a notary named in the configuration, has signed it.

mod call;
mod connect;
mod discovery;
mod dns;
mod error;
mod flights;
mod gate;
mod health;
mod hedge;
mod internet;
mod key_document;
mod key_ring;
mod net;
mod notary;
mod patient;
mod slots;
mod well_known;
mod x_matrix;

#[cfg(test)]
mod tests;

pub use call::{Peers, Proof, Settings};
pub use discovery::{Discovery, Locator, Place};
pub use dns::{Dns, DnsError, Service, SystemDns};
pub use error::PeerError;
pub use flights::Flights;
pub use gate::Gate;
pub use hedge::{Hedge, Told};
pub use internet::{Internet, InternetError, Reach};
pub use key_document::{KeyReport, read_key_document};
pub use key_ring::{Validity, Wanted};
pub use net::{Bounds, Isolated, Net, NetError, Pieces, Purpose};
pub use notary::{Asked, OldKey, Query};
pub use slots::{Slot, Slots};
pub use well_known::{Delegation, Web};
pub use x_matrix::{BadProof, XMatrix};
