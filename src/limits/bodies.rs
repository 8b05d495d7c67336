//! Bodies of requests, how many of them may be on their way in, and how many requests one user may have.

use std::time::Duration;

/// Largest body of an ordinary request, in bytes (ours; a whole key backup fits).
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// The same of a request of sliding sync (ours; a thousand subscriptions fit).
pub const SLIDING_BODY_BYTES_MAX: usize = 1 << 20;
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
/// Bytes of these over all addresses (ours; twenty of the largest).
pub const SERVER_BODIES_BYTES: usize = 320 << 20;
/// What a body counts for before anything of it is there, in bytes (ours). Beyond that only what has come counts, and what is
/// set aside for more: whoever says how much will come, and sends nothing, takes no room.
pub const BODY_BYTES_FIRST: usize = 4 << 10;
/// When all other room is taken, one part in so many more is left for what bodies count for at first (ours).
pub const BODIES_SPARE_PART: usize = 8;
/// Requests of one user that are worked on at the same time, or of one address that has not said who it is (ours; bots ask
/// about a hundred rooms at once, and most is answered soon).
pub const REQUESTS_EACH_MAX: usize = 256;
/// Requests of one user that wait at the same time, for news or for files (ours; somebody may have many devices, and browsers
/// ask for a hundred pictures at once).
pub const POLLS_EACH_MAX: usize = 256;
/// How many times as many an application service may have, for all of its users (ours).
pub const BRIDGE_SHARES_FACTOR: usize = 4;
/// Look-ups at other servers and bridges at the same time that are made for those who have not said who they are (ours; each is
/// a few of `PEER_EXCHANGES_MAX`).
pub const STRANGERS_MAX: usize = 64;
/// The same of one address (ours).
pub const STRANGERS_EACH_MAX: usize = 16;
