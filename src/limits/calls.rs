//! Calls that a LiveKit server carries.

use std::time::Duration;

/// How long a LiveKit server may take for an answer (ours; it stands beside this one).
pub const SFU_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Largest answer of a LiveKit server, in bytes (ours; about 4,000 participants with their tracks).
pub const SFU_ANSWER_BYTES_MAX: usize = 8 << 20;
/// How long a token lets somebody into a call, in seconds (ours; MSC4195 wants it short, and LiveKit gives those who are in
/// newer ones).
pub const SFU_TOKEN_SECONDS: u64 = 600;
/// How long a token is valid with which this server itself asks, in seconds (ours).
pub const SFU_ADMIN_TOKEN_SECONDS: u64 = 60;
/// By how much the clock of a LiveKit server may differ, in seconds (ours).
pub const SFU_SKEW_SECONDS: u64 = 60;
/// How often a LiveKit server is asked who is still there, for those whose leave waits for that (ours).
pub const SFU_LOOK_EVERY: Duration = Duration::from_secs(15);
/// Rooms about which a LiveKit server is asked at the same time (ours).
pub const SFU_LOOKS_AT_ONCE: usize = 4;
/// Shortest delay of a leave that is delegated, in milliseconds (ours; four looks. MSC4195 advises an hour).
pub const DELEGATED_DELAY_MS_MIN: u64 = 60_000;
/// Longest id of a slot or of a member, in bytes (ours; as for other identifiers).
pub const RTC_ID_BYTES_MAX: usize = 255;
/// Members of calls that are put out of them when they leave the room (ours; a seat has 500 bytes).
pub const RTC_SEATS_MAX: usize = 20_000;
/// Those of one user (ours; a seat is held for ten minutes at least).
pub const RTC_SEATS_PER_USER_MAX: usize = 40;
/// How long another server may take to say who an OpenID token stands for (ours; a user waits to be let into a call).
pub const RTC_OPENID_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Largest answer of another server to the wish for a token, in bytes (ours; a token has 500).
pub const RTC_TOKEN_ANSWER_BYTES_MAX: usize = 64 << 10;
