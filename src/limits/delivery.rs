//! What is brought to other servers, and when.

use std::time::Duration;

/// How long another server may take over a transaction (ours; it may have to fetch events for it).
pub const COURIER_ANSWER_SECONDS_MAX: Duration = Duration::from_secs(60);
/// The pause after a first failed delivery; further failures double it (ours).
pub const COURIER_FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Servers whose troubles began so close together, in milliseconds, may have had them for one reason (ours).
pub const COURIER_FELL_TOGETHER_MS: u64 = 600_000;
/// How often a server's pause may be cut short because another one is reached again, in milliseconds (ours).
pub const COURIER_HASTENED_EVERY_MS: u64 = 60_000;
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
/// How long the ids are remembered of what other servers have brought for devices, so that none of it is put into an inbox
/// twice, in milliseconds (ours: 30 days; a server gives up earlier or makes up other ids).
pub const RECEIVED_KEPT_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Time between two looks for such ids that may go, in milliseconds (ours).
pub const RECEIVED_LOOKED_AT_EVERY_MS: u64 = 24 * 3_600 * 1_000;
/// After so long without news others are told again of whoever is there, in milliseconds (ours: others take a user for gone
/// after half an hour).
pub const PRESENCE_TOLD_EVERY_MS: u64 = 1_500_000;
/// After so long other servers are told again that a user types on, in milliseconds (ours: some forget it after half a
/// minute, and clients say it every 20 to 25 seconds).
pub const TYPING_TOLD_EVERY_MS: u64 = 20_000;
/// How often a user's list of devices is asked for because a message came from a device that is not in it, in milliseconds
/// (ours; a message may name any).
pub const DEVICE_DOUBT_EVERY_MS: u64 = 3_600_000;
/// Users of whom it is remembered when that was (ours).
pub const DEVICE_DOUBTS_MAX: usize = 10_000;
/// Devices of other servers' users of which it is remembered that they are in their lists (ours).
pub const DEVICES_FOUND_KEPT: usize = 10_000;
/// A room with more heads gets an event of ours that follows them (ours; each event that comes has the states after all heads
/// resolved).
pub const HEADS_MERGED_OVER: usize = 10;
/// .. after a while that is chosen by lot, so that of all servers in the room one does it (ours, in milliseconds: at least
/// and at most),
pub const HEADS_MERGED_AFTER_MS: (u64, u64) = (5_000, 60_000);
/// .. or soon, if it has more than so many (ours): after
pub const HEADS_MERGED_SOON_OVER: usize = 100;
/// .. such a while, by lot as well (ours, in milliseconds: at least and at most).
pub const HEADS_MERGED_SOON_MS: (u64, u64) = (0, 5_000);
/// Such events in a room at a time (ours; each follows [`PREV_EVENTS_MAX`](super::PREV_EVENTS_MAX) heads at most).
pub const HEADS_MERGED_BY_MAX: usize = 8;
/// Users of ours who are tried for it (ours; some may not speak).
pub const HEADS_MERGERS_MAX: usize = 5;
/// People in one presence EDU, as it is sent, and that are looked at of one that comes (ours).
pub const PRESENCE_EDU_USERS_MAX: usize = 1_000;
/// Receipts in one receipt EDU that are looked at, of all rooms (ours).
pub const RECEIPT_EDU_MAX: usize = 1_000;
/// How long after the start the server looks whether others can reach it (ours; a proxy may start together with it).
pub const DOCTOR_AFTER_START: Duration = Duration::from_secs(20);
/// How long that look takes at most (ours).
pub const DOCTOR_LOOK_MAX: Duration = Duration::from_secs(120);
/// How long the doctor waits for a large body to be sent and answered (ours; 50 MiB at 8 Mbit/s).
pub const DOCTOR_BODY_MAX: Duration = Duration::from_secs(60);
/// Largest body that the doctor sends, in MiB (ours; it is in memory, and more would not be sent in that time).
pub const DOCTOR_BODY_MIB_MAX: u64 = 64;
/// Time for an application service to answer when keys are wanted (ours; users send nothing until they have them).
pub const APPSERVICE_KEYS_SECONDS_MAX: Duration = Duration::from_secs(5);
/// For how long an application service is not asked for keys, users or aliases again that could not be reached (ours).
pub const APPSERVICE_PAUSE: Duration = Duration::from_secs(30);
/// The same where it says that it knows no such question (ours).
pub const APPSERVICE_KEYS_UNKNOWN_PAUSE: Duration = Duration::from_secs(600);
