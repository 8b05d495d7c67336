//! Rooms of other servers, and users of other servers: join, knock, leave and invite across servers.
//!
//! Owns: what this server asks of others so that its users can get into rooms and out of them, and what it
//! knows of rooms that it is not in (invites, knocks). May use: the rest of `room`, and `peer`. Start
//! reading at [`Rooms::enter`](super::Rooms::enter). Invariants: every event that this server signs was
//! built by itself; of a template only the place in the graph is taken, and that is checked; nothing is
//! signed that does not concern one of its users; when one server fails, the next one is asked.

mod ask;
mod farewell;
mod invite;
mod invite_v1;
mod invited;
mod join;
mod knock;
mod leave;
mod look;
mod offer;
mod outside;

pub use invite_v1::read_signed_invite;
pub use invited::Invitation;
