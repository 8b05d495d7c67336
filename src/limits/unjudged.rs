//! Bounds of what is kept of other servers' events until it can be judged, and of looks at what was judged.

use std::time::Duration;

/// Events of one room that came as news and could not be judged yet (ours; at most 32 MiB).
pub const UNJUDGED_NEWS_MAX: usize = 500;
/// Events of one room's state that could not be judged yet (ours; a dead server leaves a few in most rooms).
pub const UNJUDGED_STATE_MAX: usize = 10_000;
/// How long such events are kept, in milliseconds (ours; a week).
pub const UNJUDGED_KEPT_MS: u64 = 7 * 86_400_000;
/// The pause before what could not be judged is tried again; each failure doubles it (ours).
pub const UNJUDGED_PAUSE_FIRST: Duration = Duration::from_secs(60);
/// The longest such pause (ours).
pub const UNJUDGED_PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Rooms in which such events are tried again at the same time (ours).
pub const UNJUDGED_ROOMS_AT_ONCE: usize = 4;
/// How long nothing of the kind is looked for at most (ours).
pub const UNJUDGED_IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a late event of the state is looked for in states to which others go back, in milliseconds (ours; a
/// week: what is sent by a server that has not heard of it for longer stands on an old fork).
pub const AMENDED_KEPT_MS: u64 = 7 * 86_400_000;
/// Events of an auth chain that are looked at to tell whether a state went back (ours; most chains have less than a
/// hundred that are not members).
pub const SETBACK_CHAIN_MAX: usize = 1_000;
