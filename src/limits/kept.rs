//! Bounds of what users keep here, and of what one request may name of it.

/// Events of which it is said in the log that they are damaged, until the next start (ours; more of them say nothing new).
pub const DAMAGED_EVENTS_TOLD_MAX: usize = 1_000;
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
/// Largest `auth_data` of a key backup, in bytes of JSON (ours; clients write about 1 KiB).
pub const BACKUP_AUTH_BYTES_MAX: usize = 64 << 10;
/// Key backups of a user that are not deleted (ours; clients delete the old ones when they make another).
pub const BACKUP_VERSIONS_MAX: usize = 100;
/// Keys in a backup (ours; an old account in large rooms has about 100,000).
pub const BACKUP_KEYS_MAX: u64 = 1_000_000;
/// Keys of a backup that are in memory at a time when they are read (ours; mostly about 350 KiB).
pub const BACKUP_KEYS_PAGE: usize = 500;
/// Types of account data in one place, global or a room (ours; clients use some tens, and a few for each device).
pub const ACCOUNT_DATA_TYPES_MAX: usize = 1_000;
/// All account data of a user but the push rules, in bytes with the names (ours; tags and read markers of 10,000 rooms are
/// about 5 MiB).
pub const ACCOUNT_DATA_TOTAL_BYTES_MAX: usize = 32 << 20;
/// Users of whom is remembered how much account data they have at most, and places of which is remembered how many types
/// they have (ours; about 100 bytes each).
pub const ACCOUNT_DATA_USERS_MAX: usize = 20_000;
/// So often at most, in milliseconds, is it counted again before somebody is refused (ours; that reads all of it).
pub const ACCOUNT_DATA_COUNTED_EVERY_MS: u64 = 600_000;
/// Rows of a user that are in memory at a time when it is counted how many there are (ours).
pub const COUNTED_ROWS_PAGE: usize = 100;
/// Filters of a user (ours; clients make one, and the same one has the same id).
pub const FILTERS_MAX: usize = 1_000;
/// All filters of a user, in bytes (ours; filters are mostly shorter than 1 KiB).
pub const FILTERS_TOTAL_BYTES_MAX: usize = 8 << 20;
/// Events that stood at a place of a room's state before, which its explanation names (ours).
pub const EXPLAINED_EVENTS_MAX: usize = 20;
/// Events for that place that were not taken, which its explanation names (ours).
pub const EXPLAINED_HIDDEN_MAX: usize = 100;
