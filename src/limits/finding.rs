//! Numbers of the user directory, the search, and reports.

use std::time::Duration;

/// Time between two looks at what is to be removed for good (ours).
pub const PURGE_EVERY: Duration = Duration::from_secs(300);
/// How long an administrator waits for a room to be removed who has asked for that, and is told then how far it has
/// come (ours: most proxies wait for a minute).
pub const ROOM_REMOVAL_WAIT_MAX: Duration = Duration::from_secs(50);
/// Time after which what was removed goes from the disk too, in milliseconds (ours: a week; each time about as much is
/// written as the log segments hold from which something was removed meanwhile).
pub const STORE_SCRUB_EVERY_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Time after which words of removed messages go from the search index on disk, in milliseconds (ours: a day).
pub const SEARCH_SCRUB_EVERY_MS: u64 = 24 * 3_600 * 1_000;
/// Events that are looked at at once while a room is removed (ours).
pub const REMOVAL_PAGE_EVENTS: usize = 500;
/// Such pages with nothing of the room before it is written down how far that is (ours; so many are read anew at most after
/// a crash).
pub const REMOVAL_UNWRITTEN_PAGES: usize = 20;
/// The longest pause after such a page; mostly it is as long as the page took (ours).
pub const REMOVAL_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time after which the last words of the members of a removed room go although another server has not heard them, in
/// milliseconds (ours; a day).
pub const REMOVAL_PARTING_MS: u64 = 86_400_000;
/// Events whose content is taken out at once (ours; one commit).
pub const RETENTION_PAGE_EVENTS: usize = 200;
/// Files that nothing shows any more and that are looked at before their rows go (ours; one commit).
pub const FILES_ENDED_AT_ONCE: usize = 500;
/// Pages of a room in which nothing is over that are looked at each time, because something behind them may be (ours).
pub const RETENTION_PAGES_AHEAD: usize = 2;
/// Events of a room that are looked at at once for those to which others relate (ours).
pub const RELATED_BATCH_EVENTS: usize = 100;
/// How many times as many are looked at for one page (ours).
pub const RELATED_BATCHES_MAX: usize = 10;
/// Events that are redacted because they relate to one that is (ours; each is an event of its own).
pub const RELATED_REDACTIONS_MAX: usize = 1_000;
/// What is done for a user after the answer, and waits for that: so much at a time (ours; one such request makes 1,000 events).
pub const ERRANDS_PER_USER_MAX: usize = 20;
/// Users for whom there is something of that kind (ours).
pub const ERRAND_USERS_MAX: usize = 1_000;
/// When a user may try again who has too much of it (ours).
pub const ERRANDS_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Events that one kick or ban takes back (ours; one commit).
pub const SWEEP_EVENTS_MAX: usize = 1_000;
/// Events of the room that are looked at for them (ours).
pub const SWEEP_LOOKED_AT_MAX: usize = 10_000;
/// Events of a user that are redacted in each room for an administrator who does not say how many (Synapse: as many).
pub const USER_REDACTIONS_DEFAULT: usize = 1_000;
/// How long it is told what has become of that, in milliseconds (Synapse: a day).
pub const USER_REDACTIONS_KEPT_MS: u64 = 86_400_000;
/// How many of these are told of, those that have ended latest (ours).
pub const USER_REDACTIONS_KEPT_MAX: usize = 100;
/// Rooms in one answer about those that two users share (ours).
pub const MUTUAL_ROOMS_PAGE_MAX: usize = 500;
/// Memory in which the index of messages is written before it goes to disk (tantivy: at least 15 MB for each thread).
pub const SEARCH_WRITER_BYTES: usize = 15_000_000;
/// Time between two looks of the index of messages at the log, when nobody waits for it (ours).
pub const SEARCH_PAUSE: Duration = Duration::from_secs(5);
/// Messages after which the index is made durable and visible while it is behind (ours).
pub const SEARCH_COMMIT_DOCUMENTS: usize = 50_000;
/// Positions after which the place of the index is written down though there was nothing to index (ours).
pub const SEARCH_CURSOR_STEP: u64 = 20_000;
/// Words of one search that count (ours).
pub const SEARCH_WORDS_MAX: usize = 32;
/// Characters of a word in the index that count (ours).
pub const SEARCH_TERM_CHARACTERS_MAX: usize = 64;
/// Messages that match which one search looks at (ours).
pub const SEARCH_LOOKED_AT_MAX: usize = 10_000;
/// Messages of which one search looks up what relates to them (ours; as one page of history).
pub const SEARCH_RELATED_LOOK_UPS_MAX: usize = 1_000;
/// Messages that one search looks at at once (ours; as many as are counted).
pub const SEARCH_CHUNK: usize = SEARCH_COUNTED_MAX;
/// Messages up to which those found are counted (ours; the specification wants an approximate count).
pub const SEARCH_COUNTED_MAX: usize = 500;
/// Messages in one answer when the client does not say (ours; as for a page of history).
pub const SEARCH_PAGE_DEFAULT: usize = 10;
/// Messages in one answer (ours).
pub const SEARCH_PAGE_MAX: usize = 100;
/// Events before and after each message in an answer (ours).
pub const SEARCH_CONTEXT_MAX: usize = 20;
/// Rooms that an upgraded room is followed back over (ours).
pub const SEARCH_PREDECESSORS_MAX: usize = 16;
/// How long rows say what the search index is to forget, in milliseconds (ours: 60 days; an index that has not been
/// used for half as long is made anew).
pub const FORGOTTEN_TEXTS_KEPT_MS: u64 = 60 * 24 * 3_600 * 1_000;
/// How much later such a row may appear than it says, in milliseconds (ours).
pub const SEARCH_FORGET_SLACK_MS: u64 = 600_000;

/// The longest reason of a report (ours).
pub const REPORT_REASON_BYTES_MAX: usize = 16_384;
/// How long a reported event is kept as it was, in milliseconds (ours): 90 days.
pub const REPORT_EVIDENCE_MS: u64 = 90 * 86_400_000;
/// Numbers that are tried for a report; a thousand belong to each millisecond (ours).
pub const REPORT_ATTEMPTS_MAX: u64 = 1_000;
/// Reports in one answer (ours).
pub const REPORTS_PAGE_MAX: usize = 1_000;
/// How long the operator's proof is good, in milliseconds either way (ours).
pub const OPERATOR_PROOF_MS: u64 = 60_000;
/// Words of one user that the user directory knows (ours; a name of an article's length is none).
pub const USER_WORDS_MAX: usize = 64;
/// Users with a word that begins as asked who are looked at for one search of the user directory (ours).
pub const USER_SEARCH_LOOKED_AT_MAX: usize = 20_000;
/// Users who are looked at at once for it (ours).
pub const USER_SEARCH_CHUNK: usize = 500;
/// Rooms whose members everybody may find, for one search of the user directory (ours).
pub const USER_SEARCH_OPEN_ROOMS_MAX: usize = 1_000;
/// Time that a search waits for the user directory to have followed the log (ours).
pub const USER_SEARCH_WAIT: Duration = Duration::from_millis(500);
/// Time between two looks of the user directory at the log, when nobody waits for it (ours).
pub const PEOPLE_PAUSE: Duration = Duration::from_secs(2);
/// The same, where other processes write too and every room has to be looked at (ours).
pub const PEOPLE_SHARED_PAUSE: Duration = Duration::from_secs(60);
/// Time after a failure of the store before the user directory or the search goes on (ours).
pub const SEARCH_STORE_PAUSE: Duration = Duration::from_secs(5);
/// Rooms whose last seen state the user directory remembers (ours; about 150 bytes each).
pub const PEOPLE_ROOMS_MAX: usize = 50_000;
/// Positions after which the place of the user directory is written down though there was nothing to do (ours).
pub const PEOPLE_CURSOR_STEP: u64 = 10_000;
/// Users in one answer of the user directory (ours).
pub const USER_SEARCH_MAX: usize = 50;
