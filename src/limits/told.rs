//! What is brought to push gateways and application services.

use std::time::Duration;

/// Pushers of one user (ours; a client sets one for each device).
pub const PUSHERS_PER_USER_MAX: usize = 100;
/// Bytes of an `app_id` (client-server API, `POST /pushers/set`).
pub const PUSHER_APP_ID_BYTES_MAX: usize = 64;
/// Bytes of a `pushkey` (client-server API, `POST /pushers/set`).
pub const PUSHKEY_BYTES_MAX: usize = 512;
/// Bytes of a pusher with all its fields (ours).
pub const PUSHER_BYTES_MAX: usize = 16 << 10;
/// Events as push rules look at them that are kept in memory (ours; a few times as large as the events).
pub const PUSH_EVENTS_MAX: usize = 100;
/// Connections to one push gateway that are kept though nobody uses them (ours; many phones have the same gateway, and each
/// new connection costs as much as many notifications).
pub const PUSH_IDLE_EACH_MAX: usize = 32;
/// Users whose unread counts over all rooms are kept in memory (ours; about 100 bytes for each room that has some).
pub const PUSH_BADGES_MAX: usize = 20_000;
/// Events of one room that a page of a pusher carries (ours).
pub const PUSH_PAGE_EVENTS: usize = 100;
/// An event that is older than this is not told of any more, in milliseconds (ours; Synapse gives up as early).
pub const PUSH_AGE_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// How far a pusher gets without telling anything before that is written down, in positions (ours).
pub const PUSH_UNWRITTEN_MAX: u64 = 1_000;
/// Pushers that are served at the same time and were answered quickly the last time (ours; each holds a page and a
/// connection).
pub const PUSHERS_AT_ONCE: usize = 200;
/// Others that are served at the same time: those whose gateways were slow or failed, and those that have told nothing yet
/// (ours).
pub const PUSHERS_SLOW_AT_ONCE: usize = 200;
/// Pushers of one user that are served at the same time (ours; hardly anybody has more phones).
pub const PUSHERS_OF_USER_AT_ONCE: usize = 8;
/// Pushers at one gateway that are served at the same time, quick ones and others apart (ours; a third of all).
pub const PUSHERS_OF_GATEWAY_AT_ONCE: usize = 64;
/// Who takes longer to answer is slow (ours; most gateways take less than half a second).
pub const PUSH_QUICK_MAX: Duration = Duration::from_secs(3);
/// After so long a pusher that has more to tell lets others have a turn (ours; it reads its page anew then).
pub const PUSH_TURN_MAX: Duration = Duration::from_secs(1);
/// The pause of a pusher after a first failure (ours; doubled with each further one).
pub const PUSH_FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause of a pusher (ours; Synapse waits as long).
pub const PUSH_LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// Time for a push gateway to answer (ours; it asks the makers of phones).
pub const PUSH_ANSWER_SECONDS_MAX: Duration = Duration::from_secs(30);
/// Largest answer of a push gateway, in bytes (ours).
pub const PUSH_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Events that are judged for one answer to `/notifications` (ours; the next page goes on).
pub const NOTIFICATION_EVENTS_MAX: usize = 2_000;
/// Events of each room that are read at once for `/notifications` (ours).
pub const NOTIFICATION_EVENTS_READ: usize = 50;
/// Notifications in one answer (ours).
pub const NOTIFICATIONS_MAX: usize = 100;
/// Notifications in one answer unless the client says otherwise (ours).
pub const NOTIFICATIONS_DEFAULT: usize = 20;
/// Bytes of a compiled expression in the namespaces of an application service (ours; most take some KiB).
pub const APPSERVICE_REGEX_BYTES_MAX: usize = 1 << 20;
/// Events in one transaction to an application service (ours; Synapse sends as many).
pub const APPSERVICE_EVENTS_MAX: usize = 100;
/// Events of one room that are read for one transaction (ours).
pub const APPSERVICE_LANE_EVENTS: usize = 200;
/// Rooms that are read in one question to the store (ours).
pub const APPSERVICE_LANES_AT_ONCE: usize = 500;
/// To-device messages in one transaction to an application service (ours; Synapse sends as many).
pub const APPSERVICE_MESSAGES_MAX: usize = 100;
/// Ephemeral events in one transaction to an application service (ours; Synapse sends as many).
pub const APPSERVICE_EDUS_MAX: usize = 100;
/// Bytes of one transaction to an application service, unless a single item is larger: half for messages to devices, half
/// for the rest (ours; some proxies let 1 MiB through).
pub const APPSERVICE_BYTES_MAX: usize = 512 << 10;
/// Rooms of which is known who of an application service's users is in them (ours; about 200 bytes each).
pub const APPSERVICE_ROOMS_CACHED: usize = 50_000;
/// How far an application service gets without being sent anything before that is written down, in positions (ours).
pub const APPSERVICE_UNWRITTEN_MAX: u64 = 1_000;
/// The pause of an application service after a first failure (ours; doubled with each further one).
pub const APPSERVICE_FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of an application service (ours; it mostly lies on the same machine).
pub const APPSERVICE_LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Time for an application service to take a transaction (ours; bridges work on it before they answer).
pub const APPSERVICE_SECONDS_MAX: Duration = Duration::from_secs(120);
/// Time for an application service to answer what a user waits for (ours).
pub const APPSERVICE_QUERY_SECONDS_MAX: Duration = Duration::from_secs(15);
/// Users that application services are asked for at the same time because of one request (ours; they make each of them).
pub const APPSERVICE_QUERIES_AT_ONCE: usize = 16;
/// Largest answer of an application service, in bytes (ours).
pub const APPSERVICE_ANSWER_BYTES_MAX: usize = 1 << 20;
