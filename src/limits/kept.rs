//! Bounds of what users keep here, and of what one request may name of it.

/// Push rules of a user beside the server's own (ours; one for each of some hundred rooms and people fits).
pub const PUSH_RULES_MAX: usize = 1_000;
/// Conditions of one push rule (ours; clients use four at most).
pub const PUSH_CONDITIONS_MAX: usize = 32;
/// Longest pattern, id and property of a push rule, in bytes (ours; identifiers have 255). Longer ones from before match
/// nothing, and so does a longer display name.
pub const PUSH_PATTERN_BYTES_MAX: usize = 256;
/// How much of a text in an event is matched with patterns, in bytes (ours; the first pages of a long message).
pub const PUSH_VALUE_BYTES_MAX: usize = 8 << 10;
/// Properties of an event's content that push rules see (ours; events have about 20).
pub const PUSH_PROPERTIES_MAX: usize = 1_000;
/// Elements of a list in an event that push rules see (ours; as many users as an event can mention).
pub const PUSH_LIST_MAX: usize = 4_000;
/// Steps of matching after which others have their turn (ours; a step is a character or so, about 5 ns).
pub const PUSH_STEPS_PER_TURN: usize = 16_384;
/// Users and devices whose keys one request may ask for or claim (ours; as `TO_DEVICE_TARGETS_MAX`).
pub const KEYS_ASKED_MAX: usize = 10_000;
/// Devices whose keys are claimed in one commit (ours; requests about the same devices wait meanwhile).
pub const KEYS_CLAIMED_AT_ONCE: usize = 100;
/// Users whose keys are read in one go (ours; a user takes four scans).
pub const KEYS_READ_AT_ONCE: usize = 100;
