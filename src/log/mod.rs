//! The log: one committer, lanes, registers, subscriptions, cursors, pages, and the switchboard that
//! wakes readers.
//!
//! Owns: the tables `LaneRow`, `Register`, `Subscription`, `Cursor` and `Once`, and the order in which
//! anything becomes visible. May use: `types`, `limits`, `store`. Start reading at [`Log`] and
//! [`Commit`].
//!
//! Invariants (architecture §5): a position is published only when every lower one is readable; a
//! published fact never changes; a reader given a page up to `h` has every fact of its lanes up to
//! `h`, or a `gap` mark on facts of `Append` retention; queues never gap; nothing is shown to anyone
//! before it would survive a power cut.

mod commit;
mod committer;
mod couriers;
mod followers;
mod handle;
mod heads;
mod lane;
mod page;
mod page_server;
mod page_user;
mod readers;
mod servers;
mod subscription;
mod waiters;

pub use commit::{Commit, CommitError, OnceKey};
pub use couriers::KnownServers;
pub use handle::{Direction, Log, Ticket};
pub use page::{Page, PageLimits, Slice};
pub use servers::News;
pub use subscription::{Audience, Interval, Subscriptions};

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;
