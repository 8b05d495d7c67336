//! The read side of rooms: stored events, room states at any point, members, who may see what, and how
//! an event looks to a client.
//!
//! Owns: the rows of rooms ([`tables`]) and the memory of what was read from them. May use: `types`,
//! `limits`, `store`, `log`, `keys`, `dag`. Start reading at [`History`], then [`Viewer`]. Whoever
//! changes a room (`room`, later `federation`) writes the rows that are declared here, in one commit
//! with its facts, and then tells [`History`] with [`History::note`].
//!
//! Invariants: a room's current state moves only with an event of its timeline, whose row says to what
//! ([`States::current`]), or with a fact in the room's lane that says so itself; state nodes and events never change,
//! but for the redaction of an event and the states around it when more of them becomes known; memory never shows what
//! the log has not published.

mod access;
mod acl;
mod auth_chain;
mod bundle;
mod cache;
mod chains;
mod damage;
mod erasure;
mod event;
mod explain;
mod graph;
mod handle;
mod media_use;
mod members;
mod pages;
mod past;
mod people;
mod predecessors;
mod relations;
mod remove;
mod render;
mod servers;
mod state;
mod sticky;
mod summary;
pub mod tables;
mod tame;
mod thread;
mod timestamp;
mod viewer;

pub use access::Reach;
pub use chains::Fresh;
pub use erasure::without_profile;
pub use event::{DUMMY_EVENT, EventNotes, States, Status, StoredEvent};
pub use explain::{Candidate, Explanation};
pub use handle::History;
pub use media_use::{MediaAddress, addresses as media_addresses, use_key as media_use_key};
pub use members::{Member, Members};
pub use pages::{EventPage, Source, Walk};
pub use past::{Boundary, PastPage, Stroll};
pub use people::MembershipEntry;
pub use relations::Related;
pub use remove::RemovalWalk;
pub use render::{Bundles, DELAY_ID, Shape, stripped};
pub(crate) use state::node_key;
pub use sticky::sticky_until_ms;
pub use summary::{is_open, tellable};
pub use tables::RoomRow;
pub use tame::tame;
pub use viewer::Viewer;
