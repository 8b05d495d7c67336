//! Changing rooms, and what is sent later.

use std::time::Duration;

/// How often a change of a room begins anew because another was faster (ours).
pub const ROOM_CONFLICTS_MAX: usize = 10;
/// Users who are invited with the making of a room (ours).
pub const CREATE_INVITES_MAX: usize = 1_000;
/// Users of other servers who are invited at the same time with the making of a room (ours).
pub const CREATE_INVITES_AT_ONCE: usize = 16;
/// Aliases of other servers that one event may add to those by which a room goes (ours; each server is asked).
pub const CANONICAL_ALIASES_ASKED_MAX: usize = 32;
/// Longest time that an event can be delayed, in milliseconds (ours; MSC4140 wants a limit).
pub const DELAYED_EVENT_MS_MAX: u64 = 31 * 24 * 3_600 * 1_000;
/// Delayed events of one user that wait at the same time (ours; MSC4140 wants a limit).
pub const DELAYED_EVENTS_PER_USER_MAX: usize = 100;
/// How long it can be asked what came of a delayed event, in milliseconds (ours).
pub const DELAYED_EVENT_KEEP_MS: u64 = 24 * 3_600 * 1_000;
/// A delayed event that is to wait anew waits on if it has waited for no longer than this, in milliseconds, and for no more
/// than a quarter of its delay (ours; whoever knows its id may ask for that at any time, and clients do every few seconds).
pub const DELAYED_EVENT_RESTART_MS: u64 = 1_000;
/// When a delayed event is tried again that the server could not send, in milliseconds (ours).
pub const DELAYED_EVENT_RETRY_MS: u64 = 5_000;
/// Longest wait for the next delayed event, in case that the machine's clock is set (MSC4140: at most 30 s late).
pub const DELAYED_EVENT_WAIT_MAX: Duration = Duration::from_secs(15);
/// Random characters of the id of a delayed event, which is a secret (ours; 190 bits).
pub const DELAYED_ID_CHARS: usize = 32;
/// Longest time for which an event sticks, in milliseconds (MSC4354).
pub const STICKY_MS_MAX: u64 = 3_600_000;
/// Sticky events of a room that are looked at (ours; those that end last).
pub const STICKY_EVENTS_MAX: usize = 1_000;
/// Sticky events in one answer of sliding sync (MSC4480 leaves it to servers).
pub const STICKY_EVENTS_PAGE_MAX: usize = 100;
/// Policy lists that bind the server (ours; each is asked at every invite and join).
pub const POLICY_LISTS_MAX: usize = 64;
/// Rules of one policy list that count (ours; about 200 bytes of memory each).
pub const POLICY_RULES_MAX: usize = 100_000;
/// Events of a policy list that are read at once (ours).
pub const POLICY_EVENTS_AT_ONCE: usize = 500;
/// Time between two looks at whether the policy lists count (ours; they bind at once, it is for the log and for aliases of
/// servers that could not be reached).
pub const POLICY_LIST_PAUSE: Duration = Duration::from_secs(600);
/// Invites that one call of an administrator's rejects (ours; each is a commit).
pub const INVITES_REJECTED_MAX: usize = 1_000;
/// Files of a server that one call of an administrator's removes (ours; each is a commit).
pub const SERVER_FILES_FORGOTTEN_MAX: usize = 5_000;
/// People of a server whom one call of an administrator's takes out of the user directory (ours).
pub const SERVER_PEOPLE_FORGOTTEN_MAX: usize = 10_000;
