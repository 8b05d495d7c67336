//! What is brought to other servers, and when.

use std::time::Duration;

/// How long another server may take over a transaction (ours; it may have to fetch events for it).
pub const COURIER_ANSWER_SECONDS_MAX: Duration = Duration::from_secs(60);
/// The pause after a first failed delivery; further failures double it (ours).
pub const COURIER_FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between deliveries that fail (ours).
pub const COURIER_LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// Bytes of the answer to a transaction (ours; a line for each of 50 events).
pub const COURIER_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Servers that are delivered to at the same time and were reached the last time (ours; each holds one page in memory).
pub const COURIERS_MAX: usize = 200;
/// Others that are delivered to at the same time: those in trouble and those never reached (ours; most of them only
/// wait for a connection).
pub const COURIERS_UNPROVEN_MAX: usize = 400;
/// How often a transaction is tried before a pause (ours).
pub const COURIER_TRIES: u32 = 2;
/// Between these tries (ours).
pub const COURIER_TRY_PAUSE: Duration = Duration::from_millis(500);
/// Before the store is asked again for what is owed, when it failed (ours).
pub const COURIER_STORE_PAUSE: Duration = Duration::from_secs(5);
/// How long couriers rest at most without a look at who is due (ours).
pub const COURIER_IDLE_MAX: Duration = Duration::from_secs(60);
/// Bytes that are kept of why a server could not be reached (ours).
pub const COURIER_ERROR_BYTES_MAX: usize = 500;
/// Servers whose deliveries are told of at once to those who run this one (ours).
pub const DESTINATIONS_TOLD_MAX: usize = 1_000;
/// What waits for one server is counted up to this (ours).
pub const DESTINATION_WAITING_COUNTED: usize = 1_000;
/// Servers in trouble, and servers for which something waits, that have lines of their own in the metrics (ours).
pub const DESTINATIONS_MEASURED_MAX: usize = 100;
/// Bytes of the items in one transaction (ours; some servers take as little as 10 MiB, and proxies less).
pub const TRANSACTION_BYTES_MAX: usize = 4 << 20;
/// How often a single item is tried that a server refuses, before it is left out (ours).
pub const COURIER_REFUSALS_MAX: u32 = 3;
/// PDUs in one transaction (server-server API, "Transactions").
pub const TRANSACTION_PDUS_MAX: usize = 50;
/// EDUs in one transaction (server-server API, "Transactions").
pub const TRANSACTION_EDUS_MAX: usize = 100;
/// Facts of an outbox in one transaction (ours; room events and receipts are to have a share too).
pub const COURIER_QUEUE_MAX: usize = 40;
/// Events of busy rooms that a server gets one after another, each room with its share of this; of a room where more
/// wait it gets the newest, and asks for what it misses (ours: 100 transactions, so long may another room have to wait).
pub const COURIER_BACKLOG_MAX: usize = 5_000;
/// Transactions after which it is looked again whether so much waits (ours; it costs reading as many rows).
pub const COURIER_BACKLOG_LOOK_EVERY: usize = 20;
/// How long is kept what waits for a server that is not reached and shares no room with this one, in milliseconds (ours;
/// a week).
pub const COURIER_STRANGERS_KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Rooms of one transaction that are worked on at the same time (ours).
pub const TRANSACTION_ROOMS_AT_ONCE: usize = 8;
/// The pause before other servers are told again of a rejected invite (ours; doubled with each failure).
pub const FAREWELL_PAUSE_FIRST: Duration = Duration::from_secs(60);
/// The longest such pause (ours).
pub const FAREWELL_PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// How long they are told again, in milliseconds (ours; a week).
pub const FAREWELL_KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How long rejected invites are not looked for at most (ours).
pub const FAREWELL_IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Rejected invites that are told of at the same time (ours).
pub const FAREWELLS_AT_ONCE: usize = 8;
