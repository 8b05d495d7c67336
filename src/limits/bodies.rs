//! Bodies of requests, and how many of them may be on their way in.

use std::time::Duration;

/// Largest body of an ordinary request, in bytes (ours; a whole key backup fits).
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Time for a request's body to arrive (ours; a slow sender holds a connection no longer).
pub const BODY_SECONDS_MAX: Duration = Duration::from_secs(60);
/// Largest body of somebody who has not said who they are, in bytes (ours; most have 1 KiB).
pub const OPEN_BODY_BYTES_MAX: usize = 64 << 10;
/// The same where it may be long: logins, registrations, questions for keys of servers (ours).
pub const OPEN_LONG_BODY_BYTES_MAX: usize = 1 << 20;
/// Bodies that one address has on their way in before anybody has said who they are (ours; most are here at once).
pub const OPEN_BODIES_EACH: usize = 64;
/// Bytes of these (ours; eight long ones).
pub const OPEN_BODIES_BYTES_EACH: usize = 8 << 20;
/// Bytes of these over all addresses (ours).
pub const OPEN_BODIES_BYTES: usize = 128 << 20;
/// Bodies that one user has on their way in (ours; somebody may have many devices).
pub const USER_BODIES_EACH: usize = 128;
/// Bytes of these (ours; four of the largest).
pub const USER_BODIES_BYTES_EACH: usize = 64 << 20;
/// Bytes of these over all users (ours).
pub const USER_BODIES_BYTES: usize = 1 << 30;
/// Bodies that one address has on their way in before it is proved which server that is (ours; servers send one
/// transaction after another, and some ask a lot beside them).
pub const SERVER_BODIES_EACH: usize = 64;
/// Bytes of these (ours; four of the largest).
pub const SERVER_BODIES_BYTES_EACH: usize = 64 << 20;
/// Bytes of these over all addresses (ours; the large ones, and 1,024 small ones).
pub const SERVER_BODIES_BYTES: usize = 320 << 20;
/// Large bodies that are held while it is not proved yet which servers send them (ours; 256 MiB in all).
pub const UNPROVEN_BODIES_MAX: usize = 16;
/// A body up to this size counts as small, in bytes (ours).
pub const UNPROVEN_BODY_BYTES_MIN: u64 = 64 << 10;
