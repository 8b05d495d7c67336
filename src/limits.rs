//! Every number of the server with its unit and source, so that reviewing a bound is reading one file.
//!
//! Uses nothing.

mod bodies;
mod calls;
mod delivery;
mod finding;
mod identity;
mod kept;
mod media;
mod oauth;
mod profiles;
mod rooms;
mod told;
mod unjudged;
mod waits;

use std::time::Duration;

pub use bodies::*;
pub use calls::*;
pub use delivery::*;
pub use finding::*;
pub use identity::*;
pub use kept::*;
pub use media::*;
pub use oauth::*;
pub use profiles::*;
pub use rooms::*;
pub use told::*;
pub use unjudged::*;
pub use waits::*;

/// When a client may come back to a server that has too much to do (ours).
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(2);
/// Smallest answer that is worth compressing, in bytes (ours; it must not fit into one packet).
pub const COMPRESS_BYTES_MIN: u64 = 1_400;
/// Time for a request's head to arrive, and for an idle connection to be used again (ours).
pub const HEAD_SECONDS_MAX: Duration = Duration::from_secs(75);
/// Time for a TLS handshake (ours).
pub const HANDSHAKE_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Requests on one HTTP/2 connection at the same time (RFC 9113 recommends at least 100).
pub const STREAMS_MAX: u32 = 256;
/// Largest head of a request, in bytes (ours; the longest legal `since` and filter fit).
pub const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Time for the requests under way to end when the server stops (ours; systemd gives 90 s by default).
pub const DRAIN_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Pause after `accept` fails, mostly because too many files are open (ours).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Before work is begun anew for the first time that a fault of this server has ended (ours).
pub const UPKEEP_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause (ours).
pub const UPKEEP_PAUSE_MAX: Duration = Duration::from_secs(300);
/// How often full rate-limit buckets are forgotten (ours).
pub const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often the files of certificates are looked at (ours; renewal has weeks).
pub const CERTIFICATES_READ_EVERY: Duration = Duration::from_secs(60);
/// Threads for work that blocks: password hashes, opening the store, thumbnails (ours).
pub const BLOCKING_THREADS_MAX: usize = 16;
/// Largest event, in bytes of canonical JSON (client-server API, "Size limits").
pub const EVENT_BYTES_MAX: usize = 65_536;
/// Longest identifier, event type or state key, in bytes (client-server API, "Size limits").
pub const ID_BYTES_MAX: usize = 255;
/// Commits that wait for the committer before senders are held back (ours; a full queue is about 8 MiB).
pub const COMMIT_QUEUE_MAX: usize = 4_096;
/// Commits that the committer takes in one group (measured: beyond 256 the gain is under 10 %).
pub const COMMIT_GROUP_MAX: usize = 512;
/// How often a group of commits that grows lets others run once more before it is written.
pub const COMMIT_GATHER_MAX: usize = 8;
/// To-device messages in one sync page (client-server API, "Send-to-Device messaging").
pub const TO_DEVICE_PAGE_MAX: usize = 100;
/// Lane heads kept in memory before the oldest are dropped (ours; about 100 bytes each).
pub const LANE_HEADS_MAX: usize = 200_000;
/// Rows that one scan may return (ours; keeps a scan's memory bounded).
pub const SCAN_ROWS_MAX: usize = 10_000;
/// Events that an event may name in `prev_events` (room version 1, "Event format").
pub const PREV_EVENTS_MAX: usize = 20;
/// Events that an event may name in `auth_events` (room version 1, "Event format").
pub const AUTH_EVENTS_MAX: usize = 10;
/// Greatest depth of an event: the greatest integer of canonical JSON (appendices, "Canonical JSON").
pub const DEPTH_MAX: u64 = (1 << 53) - 1;
/// Unaccepted events that one new event is followed through to find which heads it covers (ours).
pub const EXTREMITY_WALK_MAX: usize = 1_000;
/// Rows of the auth chain index that are read of one event at first (ours: mostly the first one decides).
pub const CITERS_PAGE_FIRST: usize = 32;
/// Rows of the auth chain index that are read of one event at a time after that (ours).
pub const CITERS_PAGE_NEXT: usize = 1_000;
/// Audiences whose subscriptions are kept in memory (ours; about 100 bytes per room of each).
pub const SUBSCRIPTION_CACHE_MAX: usize = 10_000;
/// Changed rows that wait in memory for the index before commits are refused (ours; about 100 MiB).
pub const STORE_PENDING_ROWS_MAX: usize = 400_000;
/// Positions that the embedded store sets aside at a time (ours; what a crash may skip).
pub const STORE_RESERVE_BLOCK: u64 = 65_536;
/// Bytes that commits leave free on the disk of the embedded store (ours; what a checkpoint may need).
pub const STORE_FREE_BYTES_MIN: u64 = 8 << 20;
/// Changes of one user's devices of which other servers are told one by one; when there are more since they were last
/// told, they are made to ask (ours). Also how many are read at a time.
pub const DEVICE_CHANGES_READ_MAX: usize = 5_000;
/// How long a user of another server types without another word, in milliseconds (ours).
pub const TYPING_REMOTE_MS: u64 = 60_000;
/// How long the presence of a user of another server holds without another word, in milliseconds (ours).
pub const PRESENCE_REMOTE_MS: u64 = 1_800_000;
/// Memory for small rows that are read again and again (ours; tens of thousands of them).
pub const HOT_ROWS_BYTES: u64 = 16 << 20;
/// The longest value kept there (ours; events have a cache of their own).
pub const HOT_ROW_BYTES_MAX: usize = 1_024;
/// How often the lock of the embedded store's folder is tried (ours; a process that ends may hold it for a moment).
pub const STORE_LOCK_ATTEMPTS: u32 = 20;
/// Between two of these attempts (ours; one second in all).
pub const STORE_LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Jobs that wait for the embedded store's thread (ours; the log has one commit under way).
pub const STORE_JOBS_MAX: usize = 64;
/// Memory for events that were read or written lately (ours; about 20,000 events).
pub const EVENT_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// State tree nodes kept in memory (ours; a node takes about 2 KiB).
pub const STATE_NODE_CACHE_NODES: usize = 20_000;
/// Rooms whose present row is kept in memory (ours; a row takes about 300 bytes).
pub const ROOM_CACHE_ROOMS: usize = 20_000;
/// Rooms whose members are kept in memory (ours; a member takes about 200 bytes).
pub const MEMBERS_CACHE_ROOMS: usize = 1_000;
/// Aliases that one room may have on this server (ours; keeps listing them one scan).
pub const ALIASES_PER_ROOM_MAX: usize = 1_000;
/// Memory for device lists and cross-signing keys as they are shown (ours; a device takes about 1 KiB).
pub const SHOWN_KEYS_BYTES: u64 = 16 << 20;
/// Locks over which requests about the same device or backup are spread (ours; 64 bytes each).
pub const DEVICE_TURNS: usize = 256;
/// Attempts at a commit whose rows others change meanwhile (ours; within one process requests take turns).
pub const DEVICE_ATTEMPTS_MAX: usize = 64;
/// Largest key object (device keys, cross-signing key, one-time key), in bytes of JSON (ours; as events).
pub const KEY_OBJECT_BYTES_MAX: usize = 65_536;
/// One-time keys of one device and algorithm that the server keeps (ours; clients keep about 50).
pub const ONE_TIME_KEYS_MAX: u64 = 5_000;
/// Devices that are removed in one commit (ours; each is about ten rows).
pub const DEVICES_REMOVED_AT_ONCE: usize = 500;
/// Devices that one request may have removed (ours; each is a read, whether or not it exists).
pub const DEVICES_NAMED_MAX: usize = 5_000;
/// Algorithms of which a device may have one-time or fallback keys (ours; clients use one).
pub const KEY_ALGORITHMS_MAX: usize = 16;
/// Devices that one account may have in answers and in `*` (ours; keeps a scan's memory bounded).
pub const DEVICES_MAX: usize = 10_000;
/// Largest content of a to-device message, in bytes of JSON (ours; as events).
pub const TO_DEVICE_BYTES_MAX: usize = 65_536;
/// Servers that share no room with this one and that one `sendToDevice` request may name (ours; whoever makes names up
/// has something kept for each of them).
pub const TO_DEVICE_STRANGERS_MAX: usize = 100;
/// Bytes of the contents in one EDU with to-device messages, unless one content is larger (ours; as events).
pub const TO_DEVICE_EDU_BYTES_MAX: usize = 65_536;
/// Devices that one `sendToDevice` request may name, `*` expanded (ours; about 20 rows of 1 KiB a user).
pub const TO_DEVICE_TARGETS_MAX: usize = 10_000;
/// Largest key of a backup, in bytes of JSON (ours; clients write about 700 bytes).
pub const BACKUP_KEY_BYTES_MAX: usize = 65_536;
/// Longest display name of a device, in bytes (ours; others allow 100 characters).
pub const DEVICE_NAME_BYTES_MAX: usize = 400;
/// Keys that one request may write to a backup (ours; clients send at most 200 at a time).
pub const BACKUP_KEYS_PER_REQUEST_MAX: usize = 10_000;
/// Largest secret part of a dehydrated device, in bytes of JSON (ours; clients write about 10 KiB).
pub const DEHYDRATED_BYTES_MAX: usize = 262_144;
/// When a body took longer than this, whoever sends it is looked at again before it is answered (ours; they may have been
/// logged out meanwhile).
pub const BODY_REJUDGED_AFTER: Duration = Duration::from_secs(1);
/// Letters to one address that can be had at once, whoever asks for them, and how many seconds each takes to be had again
/// (ours; somebody who waits for one asks a few times).
pub const LETTERS_TO_ONE_BURST: u32 = 8;
/// See [`LETTERS_TO_ONE_BURST`].
pub const LETTERS_TO_ONE_SECONDS: f64 = 300.0;
/// Password hashes computed at the same time (ours; each takes 19 MiB and a core).
pub const PASSWORD_HASHES_AT_ONCE: usize = 2;
/// Requests that wait for a password to be hashed; the others are told to come again (ours; some seconds of hashing, and
/// far fewer than the requests that are answered at once).
pub const PASSWORD_HASHES_WAITING_MAX: usize = 64;
/// How many times as many logins the networks behind one /48 of IPv6 may make as one of them (ours; a customer is often
/// given 256 networks, and where several customers share a /48 one is not to keep out the others).
pub const LOGIN_SITE_FACTOR: u32 = 64;
/// Longest password, in bytes (ours; hashing time grows with it).
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Devices whose last request is remembered (ours; about 150 bytes each).
pub const LAST_SEEN_MAX: usize = 50_000;
/// How long what is known of a device's last request may be ahead of the store, in milliseconds (ours).
pub const LAST_SEEN_KEEP_MS: u64 = 10 * 60 * 1_000;
/// Attempts at a change of an account's rows before it is given up (ours).
pub const ACCOUNT_ATTEMPTS_MAX: usize = 16;
/// Largest account data of one type, in bytes of JSON (ours; `m.direct` of 5,000 conversations fits).
pub const ACCOUNT_DATA_BYTES_MAX: usize = 512 * 1_024;
/// Largest set of push rules of a user, in bytes of JSON (ours; about 4,000 rules).
pub const PUSH_RULES_BYTES_MAX: usize = 1 << 20;
/// Largest filter, in bytes of JSON (ours).
pub const FILTER_BYTES_MAX: usize = 65_536;
/// Sessions of user-interactive authentication kept at once (ours).
pub const UIA_SESSIONS_MAX: usize = 10_000;
/// Such sessions of one user, or of newcomers from one network; the oldest goes (ours; a client has one at a time).
pub const UIA_SESSIONS_EACH_MAX: usize = 100;
/// How long such a session lives, in milliseconds (ours).
pub const UIA_SESSION_MS: u64 = 15 * 60 * 1_000;
/// Times that an account is tried to be made while others use the same registration token or address (ours).
pub const REGISTRATION_CONFLICTS_MAX: usize = 10;
/// Joins of one user that are followed back to find out whether they have left meanwhile (ours; beyond it, they may have).
pub const DEVICE_JOINS_LOOKED_AT: usize = 16;
/// Patterns by which a user sorts invites that are looked at (ours; account data may be a MiB of them).
pub const INVITE_RULES_MAX: usize = 10_000;
/// How long a room's policy server may think about an event (ours; the room stands still meanwhile).
pub const POLICY_SECONDS_MAX: Duration = Duration::from_secs(5);
/// Annotations of an event that are looked at for a double (ours).
pub const ANNOTATIONS_LOOKED_AT_MAX: usize = 1_000;
/// Timeline events of a room in one sync page when the client does not say (client-server API, "Filtering").
pub const SYNC_TIMELINE_DEFAULT: usize = 10;
/// Timeline events of a room in one sync page at most (ours; other servers use the same).
pub const SYNC_TIMELINE_MAX: usize = 100;
/// Longest wait of a sync request (ours; proxies cut connections that are silent for longer).
pub const SYNC_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(90);
/// Users who name a room without a name (client-server API, "Syncing").
pub const SYNC_HEROES_MAX: usize = 5;
/// Relations that are followed from an event to find its thread (ours; an edit of a reply in a thread is two).
pub const RELATION_HOPS_MAX: usize = 3;
/// Longest that somebody counts as typing without saying so again, in milliseconds (ours).
pub const TYPING_MS_MAX: u64 = 120_000;
/// How long somebody counts as typing when the client does not say, in milliseconds (ours).
pub const TYPING_MS_DEFAULT: u64 = 30_000;
/// After so long without a sync a device counts as gone, in milliseconds (ours; longer than a client's pause).
pub const PRESENCE_GONE_MS: u64 = 30_000;
/// After so long without activity an online user counts as idle, in milliseconds (ours).
pub const PRESENCE_IDLE_MS: u64 = 300_000;
/// So long after activity a user counts as currently active, in milliseconds (ours).
pub const PRESENCE_ACTIVE_MS: u64 = 60_000;
/// Longest status message, in bytes (ours).
pub const STATUS_BYTES_MAX: usize = 2_048;
/// How often a receipt is tried again when others move the same one (ours).
pub const RECEIPT_ATTEMPTS_MAX: usize = 5;
/// Nonces for registration by shared secret that wait for their use (ours).
pub const REGISTRATION_NONCES_MAX: usize = 1_000;
/// How long such a nonce lives, in milliseconds (ours; as in Synapse).
pub const REGISTRATION_NONCE_MS: u64 = 60 * 1_000;
/// How long an OpenID token is valid, in milliseconds (client-server API, "OpenID": an example).
pub const OPENID_TOKEN_MS: u64 = 3_600 * 1_000;
/// Events in one page of a room's history when the client does not say (client-server API, `/messages`).
pub const PAGE_EVENTS_DEFAULT: usize = 10;
/// Events in one page of a room's history (ours; other servers use the same).
pub const PAGE_EVENTS_MAX: usize = 1_000;
/// Events that are looked at for one page; a filter may want few of them (ours).
pub const PAGE_EVENTS_LOOKED_AT_MAX: usize = 10_000;
/// Kinds of relation to one event that are told apart (ours; clients use about five).
pub const RELATION_KINDS_MAX: usize = 64;
/// Relations of relations that are followed (client-server API, `/relations`: at least 3 levels).
pub const RELATION_DEPTH_MAX: u32 = 3;
/// Relating events that are gathered for one request that follows them, or looked at for one event (ours).
pub const RELATIONS_FOLLOWED_MAX: usize = 5_000;
/// Relations of one kind to one event that are looked at at once for those whom a filter names (ours; for all kinds together
/// less than [`RELATIONS_FOLLOWED_MAX`]).
pub const RELATIONS_PAGE: usize = 50;
/// Users whom a filter may name as those who relate to events (ours).
pub const RELATED_SENDERS_MAX: usize = 100;
/// Relating events that are looked at to tell whether a user takes part in a thread, or named as
/// references of an event (ours).
pub const RELATIONS_BUNDLED_MAX: usize = 200;
/// Further events that claim to edit another one in which an edit by its sender is looked for (ours).
pub const EDITS_LOOKED_AT_MAX: usize = 2_000;
/// Further replies in a thread that are looked at for whether a user has a part in it (ours).
pub const THREAD_REPLIES_LOOKED_AT_MAX: usize = 10_000;
/// Rooms in one page of the public directory or of a space's hierarchy (ours).
pub const ROOM_LIST_MAX: usize = 100;
/// Levels of a space's hierarchy that are walked (ours).
pub const HIERARCHY_DEPTH_MAX: u64 = 50;
/// Rooms of a hierarchy that are walked for one request (ours).
pub const HIERARCHY_ROOMS_MAX: usize = 2_000;
/// Events around a moment among which the nearest is looked for (ours; as many arrive out of order).
pub const TIMESTAMP_NEIGHBOURS: usize = 100;
/// Pages of events that a user may not see before the search for one near a moment ends (ours).
pub const TIMESTAMP_PAGES_MAX: usize = 10;
/// Users whose push rules are kept in memory (ours; about 10 KiB each).
pub const PUSH_PEOPLE_MAX: usize = 2_000;
/// Unread counts kept in memory, one for each room of each user (ours; about 200 bytes each).
pub const UNREAD_ROOMS_MAX: usize = 100_000;
/// Rooms whose events are held at once while unread ones are counted (ours).
pub const UNREAD_ROOMS_AT_ONCE: usize = 32;
/// Newest events of a room that are looked at for its unread count (ours; clients show `99+`).
pub const UNREAD_EVENTS_MAX: usize = 1_000;
/// Rounds of looking for older events when a filter wants few of them (ours).
pub const SYNC_FILL_ROUNDS: usize = 5;
/// Members that are looked at for whom a room is called by (ours; clients name at most five).
pub const SYNC_HEROES_LOOKED_AT: usize = 50;
/// Events at the beginning of a larger room among which its first members are looked for (ours).
pub const SYNC_HEROES_EVENTS_MAX: usize = 5_000;
/// Devices whose members sent are remembered (ours; see `LAZY_MEMBERS_MAX`).
pub const LAZY_DEVICES_MAX: usize = 10_000;
/// Members sent that are remembered for one device (ours; about 150 bytes each).
pub const LAZY_MEMBERS_MAX: usize = 1_000;
/// Lists in one request of sliding sync (MSC4186).
pub const SLIDING_LISTS_MAX: usize = 100;
/// Room subscriptions in one request of the final shape of sliding sync (MSC4186).
pub const SLIDING_SUBSCRIPTIONS_MAX: usize = 100;
/// Room subscriptions in one request of the unstable shape, which has no bound of its own (ours).
pub const SLIDING_UNSTABLE_SUBSCRIPTIONS_MAX: usize = 1_000;
/// Bytes of a list's name (MSC4186: an opaque identifier).
pub const SLIDING_LIST_NAME_BYTES_MAX: usize = 255;
/// Ranges of one list; names in one of its filters (ours; clients send one or two).
pub const SLIDING_FILTER_NAMES_MAX: usize = 100;
/// Bytes of such a name, or of one half of a state pattern (client-server API, "Size limits": no type, key, tag or id is longer).
pub const SLIDING_NAME_BYTES_MAX: usize = 255;
/// State patterns of one list or subscription (ours; Element X asks for about 20).
pub const SLIDING_PATTERNS_MAX: usize = 200;
/// State patterns of all lists and subscriptions of one request, each set of them counted once (ours).
pub const SLIDING_ALL_PATTERNS_MAX: usize = 1_000;
/// Bytes of what a connection's client wants of its rooms, each combination counted once (ours; mostly 4 KiB).
pub const SLIDING_CONFIGS_BYTES_MAX: usize = 2 << 20;
/// Rooms that are rendered at once (ours; each may hold 100 events).
pub const SYNC_ROOMS_AT_ONCE: usize = 50;
/// Bytes of rooms in one answer of sliding sync beyond which the others are left for the next (ours; ten times what the
/// first 100 rooms of a large account have).
pub const SLIDING_ROOMS_BYTES_MAX: usize = 32 << 20;
/// Bytes of a connection's id (ours; the unstable shape promises 16).
pub const SLIDING_CONNECTION_ID_BYTES_MAX: usize = 255;
/// Connections of one device; the one that was changed longest ago goes (ours; Element X has three).
pub const SLIDING_CONNECTIONS_MAX: usize = 16;
/// What is remembered of one connection: the state that the client has, and answers that it may have (ours).
pub const SLIDING_STATES_MAX: usize = 4;
/// Bytes of connections that are kept in memory (ours; about 250 for each room). All of it is stored too.
pub const SLIDING_CACHED_BYTES_MAX: u64 = 100 << 20;
/// Rooms of users whose order is kept in memory (ours; about 250 bytes each). All of it can be computed.
pub const SLIDING_ROSTER_ROOMS_MAX: u64 = 400_000;
/// To-device messages in one answer of sliding sync at most (ours).
pub const SLIDING_TO_DEVICE_MAX: usize = 100;
/// Events looked at for the last one that moves a room up the list (ours).
pub const SLIDING_BUMP_LOOKED_AT: usize = 200;
/// Thread subscriptions in one page (MSC4308: the default; servers may give fewer).
pub const THREAD_SUBSCRIPTIONS_PAGE_MAX: usize = 100;
/// How long an access token that can be refreshed is valid (ours; a token that leaks is soon useless).
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// Places in the index of who waits in which room, before it is built anew (ours; four bytes each).
pub const ROOM_READERS_MAX: usize = 4_000_000;
/// Rooms as users' push rules look at them that are kept in memory (ours; about 1 KiB each).
pub const PUSH_CONTEXTS_MAX: usize = 5_000;
/// Largest body of a request of another server, in bytes (ours; 50 events and 100 full EDUs fit).
pub const FEDERATION_BODY_BYTES_MAX: usize = 16 << 20;
/// Longest header that proves where a request comes from, in bytes (ours; real ones take about 300).
pub const X_MATRIX_BYTES_MAX: usize = 4_096;
/// Deepest nesting of JSON that has no canonical form and is signed all the same (ours; the cost grows with it).
pub const JSON_DEPTH_MAX: usize = 40;
/// Time for one exchange with another server (ours; other servers wait for 60 s).
pub const PEER_SECONDS_MAX: Duration = Duration::from_secs(30);
/// Largest ordinary answer of another server, in bytes (ours; the state of a large room has its own bound).
pub const PEER_ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long a server that did not answer is left alone, at first (ours; doubled each time).
pub const PEER_DOWN_FIRST: Duration = Duration::from_secs(5);
/// How long a server that did not answer is left alone, at most (ours).
pub const PEER_DOWN_MAX: Duration = Duration::from_secs(300);
/// Servers that are remembered as not answering (ours; about 150 bytes each).
pub const PEERS_DOWN_MAX: usize = 50_000;
/// Events from outside that one commit of a room takes (server-server API, a transaction has as many).
pub const TURN_EVENTS_MAX: usize = 50;
/// Events whose signatures are checked on one thread before another helps (ours; about 2 ms of work).
pub const VERIFY_CHUNK: usize = 32;
/// Threads that check the signatures of the events of one answer (ours; it is their memory that counts).
pub const VERIFY_CHUNKS_AT_ONCE: usize = 8;
/// Servers that are asked for what events lack, the sender included (ours).
pub const FETCH_SOURCES_MAX: usize = 5;
/// These, and those that take the places of some that do not answer or do not let us know anything (ours).
pub const FETCH_SPARE_MAX: usize = 20;
/// Time for getting everything that a batch of events lacks (ours; senders wait 60 s for an answer).
pub const FETCH_MAX: Duration = Duration::from_secs(40);
/// Time for one request of these (ours).
pub const FETCH_CALL_MAX: Duration = Duration::from_secs(15);
/// Requests for what a batch of events lacks (ours).
pub const FETCH_REQUESTS_MAX: usize = 500;
/// Requests of these that are under way at the same time (ours).
pub const FETCH_AT_ONCE: usize = 8;
/// Auth events that are followed one by one, or taken from one answer (ours).
pub const FETCH_EVENTS_MAX: usize = 10_000;
/// How many stored events are in memory at once while many are looked through.
pub const EVENTS_LOOKED_THROUGH_AT_ONCE: usize = 500;
/// Events of a state that are asked for one by one; beyond it the whole state is asked for (ours).
pub const FETCH_ONE_BY_ONE_MAX: usize = 100;
/// Events between what came and what is here that are fetched (ours; the rest is left to backfill).
pub const GAP_EVENTS_MAX: usize = 500;
/// Events that one request for missing events asks for (ours; Synapse gives at most 20).
pub const GAP_PAGE_EVENTS: usize = 50;
/// Missing events of one answer below which the other server has no more (ours; the smallest bound, Synapse's).
pub const GAP_ANSWER_EVENTS_LEAST: usize = 20;
/// States at events that are not here that one batch may ask for (ours).
pub const CLAIMED_STATES_MAX: usize = 10;
/// Events of a state with its auth chain (ours; the largest public rooms have about 100,000).
pub const STATE_EVENTS_MAX: usize = 300_000;
/// Bytes of an answer to a question about events of a room, unless it is about a whole state (ours).
pub const FETCH_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest answer that carries a state, in bytes (ours; see `STATE_EVENTS_MAX`).
pub const STATE_ANSWER_BYTES_MAX: usize = 256 << 20;
/// Outliers in one commit (ours; about 1 MiB).
pub const OUTLIERS_PER_COMMIT: usize = 1_000;
/// Redactions of one event that are looked at when it arrives (ours).
pub const REDACTIONS_LOOKED_AT_MAX: usize = 50;
/// Exchanges with other servers at the same time (ours; a connection takes about 40 KiB).
pub const PEER_EXCHANGES_MAX: usize = 1_024;
/// Exchanges with one other server at the same time (ours; each is a connection).
pub const PEER_EXCHANGES_EACH_MAX: usize = 16;
/// Time to connect to a server, TLS included, over all of its addresses (ours).
pub const PEER_CONNECT_SECONDS_MAX: Duration = Duration::from_secs(10);
/// When the next address is tried beside those that have not answered (RFC 8305 recommends it).
pub const PEER_NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long a connection that nobody uses is kept (ours; proxies close theirs after 60 s to 75 s).
pub const PEER_IDLE_SECONDS: Duration = Duration::from_secs(50);
/// Connections to one server that are kept though nobody uses them (ours).
pub const PEER_IDLE_EACH_MAX: usize = 2;
/// Largest head of another server's answer, in bytes (ours; hyper needs at least 8 KiB).
pub const PEER_HEAD_BYTES_MAX: usize = 64 << 10;
/// Addresses of one server that are tried (ours).
pub const PEER_ADDRESSES_MAX: usize = 8;
/// SRV records of one name that are looked at (ours).
pub const SRV_RECORDS_MAX: usize = 8;
/// Answers of the DNS that are kept (ours; about 500 bytes each).
pub const DNS_ANSWERS_CACHED: u64 = 10_000;
/// Shortest time that an answer of the DNS is kept (ours; some say zero).
pub const DNS_POSITIVE_MIN: Duration = Duration::from_secs(30);
/// Longest time that an answer of the DNS is kept (ours).
pub const DNS_POSITIVE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Shortest time that a missing name is remembered (ours).
pub const DNS_NEGATIVE_MIN: Duration = Duration::from_secs(5);
/// Longest time that a missing name is remembered (ours).
pub const DNS_NEGATIVE_MAX: Duration = Duration::from_secs(300);
/// How long an answer with addresses is waited for (ours; a connection takes `PEER_CONNECT_SECONDS_MAX` at most).
pub const DNS_ADDRESSES_MAX: Duration = Duration::from_secs(8);
/// How long an answer with services is waited for (ours; some resolvers drop such questions).
pub const DNS_SERVICES_MAX: Duration = Duration::from_secs(3);
/// How long it is remembered that addresses could not be told (ours; it may be a hiccup).
pub const DNS_ADDRESSES_FAILED: Duration = Duration::from_secs(15);
/// How long it is remembered that services could not be told (ours).
pub const DNS_SERVICES_FAILED: Duration = Duration::from_secs(60);
/// Failed questions to the DNS that are remembered (ours; about 200 bytes each).
pub const DNS_FAILURES_KEPT: usize = 10_000;
/// Delegations that are remembered (ours; about 200 bytes each).
pub const WELL_KNOWN_CACHED: usize = 20_000;
/// How long a delegation counts that does not say (server-server API, "Server discovery").
pub const WELL_KNOWN_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How long a delegation counts at most (server-server API, "Server discovery").
pub const WELL_KNOWN_MAX: Duration = Duration::from_secs(48 * 3_600);
/// How long a delegation counts at least (ours; some say zero).
pub const WELL_KNOWN_MIN: Duration = Duration::from_secs(300);
/// How long it is remembered that there is no delegation (server-server API: an hour at most).
pub const WELL_KNOWN_ABSENT: Duration = Duration::from_secs(3_600);
/// How long it is remembered that a delegation could not be asked for (ours; it may be a hiccup).
pub const WELL_KNOWN_FAILED: Duration = Duration::from_secs(300);
/// Redirects that are followed to a delegation (ours).
pub const WELL_KNOWN_REDIRECTS_MAX: usize = 5;
/// Largest delegation, in bytes (ours; a real one takes 50).
pub const WELL_KNOWN_BYTES_MAX: usize = 16 << 10;
/// Time for one hop to a delegation (ours).
pub const WELL_KNOWN_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Largest document about the keys of a server, in bytes (ours; most take 500).
pub const KEY_DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// Keys in one list of such a document that are looked at (ours).
pub const KEYS_OF_SERVER_MAX: usize = 100;
/// How long a key is valid at most after we have heard of it, in milliseconds (room version 5, "Signing key validity period").
pub const KEY_VALIDITY_MAX_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How long this server vouches for its own key, in milliseconds (ours; others ask anew after that).
pub const KEY_PUBLISHED_MS: u64 = 24 * 3_600 * 1_000;
/// Time for a server to give its keys (ours; it is done before a request is answered).
pub const KEY_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Servers that are asked for their keys at the same time (ours).
pub const KEY_FETCHES_MAX: usize = 64;
/// How long a server is not asked for its keys again, at first (ours; doubled with each failure).
pub const KEY_PAUSE_FIRST: Duration = Duration::from_secs(20);
/// How long a server is not asked for its keys again, at most (ours).
pub const KEY_PAUSE_MAX: Duration = Duration::from_secs(900);
/// Keys of servers that are kept in memory (ours; about 1 KiB each).
pub const KEYS_CACHED: usize = 20_000;
/// From so many servers on, notaries are asked before the servers themselves (ours; a join of a large room).
pub const KEYS_NOTARY_FIRST: usize = 20;
/// Servers in one question to a notary (ours; Synapse answers some hundreds in time).
pub const KEYS_PER_NOTARY_REQUEST_MAX: usize = 100;
/// Largest answer of a notary, in bytes (ours).
pub const NOTARY_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Servers in one question to us as a notary that are answered (ours).
pub const NOTARY_SERVERS_MAX: usize = 200;
/// Servers that are asked for their keys at the same time because somebody asks us as a notary (ours; a quarter of
/// `KEY_FETCHES_MAX`: anybody may ask, for names that do not exist).
pub const NOTARY_FETCHES_MAX: usize = 16;
/// How long who asks us as a notary waits for servers that are asked (ours).
pub const NOTARY_SECONDS_MAX: Duration = Duration::from_secs(10);
/// How long a request of a server waits for its earlier ones (ours; the other side waits for 60 s).
pub const FEDERATION_WAIT_MAX: Duration = Duration::from_secs(20);
/// Time to answer a request of another server (ours; fetching what is missing for a transaction takes long).
pub const FEDERATION_SECONDS_MAX: Duration = Duration::from_secs(300);
/// How far apart the clocks of two servers may be before the doctor complains (ours; keys and events carry times).
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30);
/// Servers with unknown keys whose requests are looked into at the same time (ours; half of `KEY_FETCHES_MAX`).
pub const KEY_STRANGERS_MAX: usize = 32;
/// Events that one request for the past of a room asks for (ours; Synapse gives at most 100).
pub const BACKFILL_EVENTS: usize = 100;
/// Missing events that one such request names (ours).
pub const BACKFILL_FROM_MAX: usize = 20;
/// The number behind which the first back-filled events of a place are put (ours; numbers only go down).
pub const BACKFILL_NUMBER_FIRST: u64 = 1 << 48;
/// Fetches of the past for one page of history (ours; each takes a few seconds at most).
pub const BACKFILLS_PER_PAGE: usize = 3;
/// Places of a room's timeline where events are missing that are looked at (ours).
pub const PAST_ANCHORS_MAX: usize = 1_000;
/// Events in one answer to `/backfill` (ours; as in Synapse).
pub const BACKFILL_SERVED_MAX: usize = 100;
/// Events in one answer to `/get_missing_events` (ours; Synapse gives 20).
pub const MISSING_EVENTS_SERVED_MAX: usize = 100;
/// Events of the graph that are walked through for one answer (ours).
pub const GRAPH_WALK_MAX: usize = 2_000;
/// Servers that are named for an alias (ours; whoever wants to join tries a few of them).
pub const DIRECTORY_SERVERS_MAX: usize = 50;
/// Servers that are tried for one join, knock or leave (ours; see `HEDGE_AFTER` and `JOIN_MAX`).
pub const REMOTE_SERVERS_MAX: usize = 10;
/// Of these, servers that are known to be in the room and that nobody has named (ours).
pub const REMOTE_MEMBER_SERVERS_MAX: usize = 5;
/// Servers that may say that a user must not enter before no more are asked (ours; one may be wrong).
pub const REMOTE_REFUSALS_MAX: usize = 3;
/// Time for one step of a handshake with another server (ours).
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(20);
/// Time for the answer to `send_join`, which carries the room's state (ours; other servers take minutes).
pub const SEND_JOIN_MAX: Duration = Duration::from_secs(300);
/// Users of one question for devices of whom it is noted that they were asked for (ours).
pub const DEVICE_LISTS_ASKED_MAX: usize = 1_000;
/// How long events of a room wait for a user of ours who is just joining it (ours; senders wait 60 s for an answer).
pub const JOIN_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long whoever needs to know the members of a room waits for them, when a user of ours has just joined it (ours;
/// senders wait 60 s for an answer).
pub const PARTIAL_WAIT_MAX: Duration = Duration::from_secs(50);
/// Servers that another one may name as being in a room (ours; the largest rooms have some 20,000).
pub const PARTIAL_SERVERS_MAX: usize = 50_000;
/// Attempts in vain to get the members of a room before one in which everybody says that we are not there has our users
/// leave it (ours; they take a quarter of an hour).
pub const PARTIAL_REFUSALS_MAX: u32 = 4;
/// Users of ours in a room of whose devices its servers are told once its members are known (ours; the others they ask
/// for when they need them).
pub const PARTIAL_INTRODUCED_MAX: usize = 100;
/// How long the answer to a join waits for the room's members (ours; in most rooms they are here by then).
pub const PARTIAL_JOIN_PATIENCE: Duration = Duration::from_secs(2);
/// How long a user waits for another server to hear that they reject its invite (ours).
pub const LEAVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time for a look-up that a user waits for: an alias, a profile, a directory (ours).
pub const LOOK_UP_MAX: Duration = Duration::from_secs(15);
/// Events of stripped state that are taken from another server (ours; the specification lists nine kinds).
pub const STRIPPED_EVENTS_MAX: usize = 100;
/// Bytes of stripped state that are taken from another server, and sent to one (ours; the four events that clients need
/// most always fit).
pub const STRIPPED_BYTES_MAX: usize = 256 << 10;
/// Users who are invited or knock of whom what they were told is read at once, when something of it is redacted (ours; mostly
/// about 300 KiB).
pub const STRIPPED_REWRITTEN_AT_ONCE: usize = 100;
/// The lowest power level of a user that clients are told: as a hundredfold it is still a number that JSON may hold (ours;
/// clients make percentages of them).
pub const LEVEL_TOLD_MIN: i64 = -90_071_992_547_409;
/// Invites by address that one call of an identity server may bring (ours).
pub const ONBIND_INVITES_MAX: usize = 50;
/// Bytes of an answer to such a look-up (ours).
pub const LOOK_UP_BYTES_MAX: usize = 1 << 20;
/// Servers that are asked for one look-up (ours).
pub const LOOK_UP_SERVERS_MAX: usize = 3;
/// Servers that are asked for keys of their users at the same time (ours).
pub const KEY_SERVERS_AT_ONCE: usize = 32;
/// Largest answer with keys of users, in bytes (ours; a device takes about 1.5 KiB).
pub const KEY_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Largest list of a remote user's devices that is kept, in bytes (ours; about 300 devices).
pub const DEVICE_LIST_BYTES_MAX: usize = 512 << 10;
/// Local members of a room among whom the one who is there longest is looked for (ours; any of them will do).
pub const DEVICE_LIST_MEMBERS_LOOKED_AT: usize = 20;
/// Users of one server who are asked about one by one; for more, one question is asked (ours).
pub const DEVICE_LISTS_ASKED_SINGLY_MAX: usize = 5;
/// Stale device lists that are asked for at the same time (ours).
pub const DEVICE_LISTS_AT_ONCE: usize = 8;
/// The pause after a first failure to get a stale device list; each further failure doubles it (ours).
pub const DEVICE_LISTS_PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest such pause (ours; whoever asks for the keys tries at once).
pub const DEVICE_LISTS_PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// How long stale device lists are not looked for at most (ours).
pub const DEVICE_LISTS_IDLE_MAX: Duration = Duration::from_secs(600);
/// Rooms of a hierarchy that other servers are asked about for one request (ours).
pub const HIERARCHY_REMOTE_MAX: usize = 50;
/// Servers that are kept for a room of a hierarchy (ours).
pub const HIERARCHY_VIA_MAX: usize = 5;
