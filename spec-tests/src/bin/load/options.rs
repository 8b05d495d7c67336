//! The command line: which servers, and how much of everything.

use clap::Parser;

/// Measures homeservers over HTTP.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// "lockstep", "synapse", the path of a Lockstep, or an address with the process id: http://127.0.0.1:8008#1234
    #[arg(default_value = "lockstep")]
    pub(crate) servers: Vec<String>,
    /// Small sizes: a few seconds for a look, too few for figures.
    #[arg(long)]
    quick: bool,
    /// Only scenes whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// How often the servers take turns in each scene.
    #[arg(long)]
    rounds: Option<usize>,
    /// Messages sent in each scene of sending.
    #[arg(long)]
    sends: Option<usize>,
    /// Senders at the same time.
    #[arg(long)]
    senders: Option<usize>,
    /// Devices that long-poll while a message is sent, and devices that get a to-device message.
    #[arg(long)]
    devices: Option<usize>,
    /// Rooms of an account that syncs for the first time; several sizes by comma.
    #[arg(long, value_delimiter = ',')]
    rooms: Vec<usize>,
    /// Events of the room that is paged through.
    #[arg(long)]
    events: Option<usize>,
    /// Members of the large room, and idle long polls.
    #[arg(long)]
    members: Option<usize>,
    /// Rooms of the account whose first page of sliding sync is asked for.
    #[arg(long)]
    account_rooms: Option<usize>,
    /// Phones that are told of a message.
    #[arg(long)]
    phones: Option<usize>,
    /// Sizes of the files that go up and down, in MiB, by comma.
    #[arg(long, value_delimiter = ',')]
    file_mib: Vec<usize>,
    /// Messages that are searched.
    #[arg(long)]
    messages: Option<usize>,
    /// Events that an application service catches up on.
    #[arg(long)]
    backlog: Option<usize>,
}

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) rounds: usize,
    pub(crate) sends: usize,
    pub(crate) senders: usize,
    pub(crate) devices: usize,
    pub(crate) rooms: Vec<usize>,
    pub(crate) events: usize,
    pub(crate) members: usize,
    pub(crate) account_rooms: usize,
    pub(crate) phones: usize,
    pub(crate) file_mib: Vec<usize>,
    pub(crate) messages: usize,
    pub(crate) backlog: usize,
}

impl Options {
    pub(crate) fn sizes(&self) -> Sizes {
        let (rounds, sends, devices, rooms, events, members) = match self.quick {
            true => (2, 200, 20, vec![20, 50], 1000, 100),
            false => (3, 1500, 100, vec![100, 500], 10_000, 1000),
        };
        let (account_rooms, phones, file_mib, messages, backlog) = match self.quick {
            true => (100, 5, vec![1, 5], 2_000, 800),
            false => (2_000, 20, vec![1, 20], 100_000, 10_000),
        };
        Sizes {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            sends: self.sends.unwrap_or(sends),
            senders: self.senders.unwrap_or(32).max(1),
            devices: self.devices.unwrap_or(devices).max(1),
            rooms: if self.rooms.is_empty() { rooms } else { self.rooms.clone() },
            events: self.events.unwrap_or(events),
            members: self.members.unwrap_or(members).max(1),
            account_rooms: self.account_rooms.unwrap_or(account_rooms).max(1),
            phones: self.phones.unwrap_or(phones).max(1),
            file_mib: if self.file_mib.is_empty() { file_mib } else { self.file_mib.clone() },
            messages: self.messages.unwrap_or(messages),
            backlog: self.backlog.unwrap_or(backlog),
        }
    }
}
