//! Profiles of users, what clients are told of them, and who shares rooms with whom.

/// Largest profile of a user, in bytes of JSON (client-server API, "Profiles").
pub const PROFILE_BYTES_MAX: usize = 65_536;
/// Longest name of a profile field, in bytes (client-server API, "Profiles").
pub const PROFILE_KEY_BYTES_MAX: usize = 255;
/// Fields that a user has removed and of which it is remembered when (ours; about 100 bytes each). Whoever was last here
/// before the removal of an older one, and asks for fields of any name, is not told that it is gone.
pub const PROFILE_REMOVALS_KEPT: usize = 100;
/// Users of other servers for whom it is looked up one by one whether they share a room (ours; beyond it, all at once).
pub const SHARING_LOOKED_UP_MAX: usize = 16;
/// The same of users of this server, for whom it is one look (ours).
pub const SHARING_LOCALS_LOOKED_UP_MAX: usize = 500;
/// Profiles that are read at once (ours; at most 64 KiB each, mostly 100 bytes).
pub const PROFILES_READ_AT_ONCE: usize = 200;
/// Names of profile fields for which one request of sliding sync may ask (ours).
pub const SLIDING_PROFILE_FIELDS_MAX: usize = 100;
