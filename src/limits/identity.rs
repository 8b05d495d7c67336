//! Identity servers.

use std::time::Duration;

/// How long an identity server may take to answer (ours; a client waits).
pub const IDENTITY_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Largest answer of an identity server, in bytes (ours).
pub const IDENTITY_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of what an identity server says to people that are passed on (ours).
pub const IDENTITY_MESSAGE_CHARS_MAX: usize = 200;
/// Longest pepper that is put into a hash, in bytes (ours; Sydent's have 5 characters, others up to 64).
pub const LOOKUP_PEPPER_BYTES_MAX: usize = 1 << 10;
/// How often an address is looked up anew because the pepper has just changed (ours).
pub const LOOKUP_TURNS_MAX: usize = 2;
/// Longest token of an invite by address, in bytes.
/// <https://spec.matrix.org/v1.19/identity-service-api/#post_matrixidentityv2store-invite>
pub const ADDRESS_TOKEN_BYTES_MAX: usize = 255;
/// Keys with which an invite by address may be signed (ours; identity servers name two).
pub const ADDRESS_KEYS_MAX: usize = 10;
/// Longest name that stands for an address in a room, and address of a key, in bytes (ours).
pub const ADDRESS_TEXT_BYTES_MAX: usize = 1 << 10;
/// Longest telephone number, in digits (E.164 has 15).
pub const NUMBER_DIGITS_MAX: usize = 15;
/// Addresses of one user that are bound at identity servers (ours).
pub const BOUND_ADDRESSES_MAX: usize = 100;
/// Addresses that may be invited while a room is made (ours; each takes up to three questions to an identity server).
pub const ADDRESSES_INVITED_MAX: usize = 20;
/// Addresses of one request that are asked for at the same time (ours).
pub const ADDRESSES_INVITED_AT_ONCE: usize = 5;
