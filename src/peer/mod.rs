//! The other servers: how they are found, called and recognised.
//!
//! Owns: the one door to the network ([`Net`]), signed requests, the keys of other servers, and what is known of
//! who does not answer. May use: `types`, `limits`, `store`, `log`, `keys`. Start reading at [`Peers`]. Invariants:
//! nothing leaves but through [`Net`]; every exchange has a bound on its time and its size; a key counts only
//! when its server, or a notary named in the configuration, has signed it.

mod call;
mod error;
mod health;
mod key_ring;
mod net;
mod x_matrix;

pub use call::{Peers, Proof, Settings};
pub use error::PeerError;
pub use key_ring::{Validity, Wanted};
pub use net::{Bounds, Isolated, Net, NetError};
pub use x_matrix::{BadProof, XMatrix};
