//! How lanes, registers, subscriptions and cursors are laid out as keys.

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};

use super::Audience;
use crate::{
    store::{Field, Key, KeyReader, KeyWriter, StoreError, table::TableId},
    types::{Fact, Lane, Position, Reader, Retention},
};

/// Facts of a lane are kept apart by class, so that a reader of one need not pass the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    Append = 0,
    Register = 1,
    Queue = 2,
}

fn write_lane(writer: &mut KeyWriter, lane: &Lane) {
    match lane {
        Lane::Room(room) => {
            writer.raw(&[0]);
            room.write(writer);
        }
        Lane::Egress(room) => {
            writer.raw(&[1]);
            room.write(writer);
        }
        Lane::Account(user) => {
            writer.raw(&[2]);
            user.write(writer);
        }
        Lane::Inbox(user, device) => {
            writer.raw(&[3]);
            user.write(writer);
            device.write(writer);
        }
        Lane::Outbox(server) => {
            writer.raw(&[4]);
            server.write(writer);
        }
        Lane::People => writer.raw(&[5]),
        Lane::Profiles => writer.raw(&[6]),
    }
}

fn read_lane(reader: &mut KeyReader<'_>) -> Option<Lane> {
    Some(match reader.array::<1>()?[0] {
        0 => Lane::Room(OwnedRoomId::read(reader)?),
        1 => Lane::Egress(OwnedRoomId::read(reader)?),
        2 => Lane::Account(OwnedUserId::read(reader)?),
        3 => Lane::Inbox(OwnedUserId::read(reader)?, Field::read(reader)?),
        4 => Lane::Outbox(OwnedServerName::read(reader)?),
        5 => Lane::People,
        6 => Lane::Profiles,
        _ => return None,
    })
}

/// What the keys of all facts of one class of a lane begin with.
pub(super) fn class_prefix(lane: &Lane, class: Class) -> Vec<u8> {
    let mut writer = KeyWriter::new(TableId::LaneRow);
    write_lane(&mut writer, lane);
    writer.raw(&[class as u8]);
    writer.finish().0
}

/// The key range of facts of one class in `(from, to]`.
pub(super) fn class_range(lane: &Lane, class: Class, from: Position, to: Position) -> (Key, Key) {
    let prefix = class_prefix(lane, class);
    let at = |position: Position| Key([prefix.as_slice(), position.to_bytes().as_slice()].concat());
    (at(from.next()), at(to.next()))
}

/// The row that holds a register's present position.
pub(super) fn register_index(lane: &Lane, key: &[u8]) -> Key {
    let mut writer = KeyWriter::new(TableId::Register);
    write_lane(&mut writer, lane);
    writer.raw(key);
    writer.finish()
}

/// The position at the end of a lane row's key.
pub(super) fn position_of(key: &Key) -> Result<Position, StoreError> {
    match key.0.last_chunk::<8>() {
        Some(bytes) => Ok(Position(u64::from_be_bytes(*bytes))),
        None => Err(StoreError::Corrupt(format!("a key without a position: {:02x?}", key.0))),
    }
}

pub(super) fn encode_fact(fact: &Fact) -> Vec<u8> {
    // Facts are plain data; postcard fails only on types that it cannot represent.
    postcard::to_stdvec(fact).expect("a fact serializes")
}

pub(super) fn decode_fact(bytes: &[u8]) -> Result<Fact, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Corrupt(format!("a fact: {error}")))
}

pub(super) fn class_of(retention: &Retention) -> Option<Class> {
    match retention {
        Retention::Append => Some(Class::Append),
        Retention::Register(_) => Some(Class::Register),
        Retention::Queue => Some(Class::Queue),
        Retention::Volatile(_) => None,
    }
}

/// What the keys of an audience's subscriptions begin with.
pub(super) fn audience_prefix(audience: &Audience) -> Key {
    let mut writer = KeyWriter::new(TableId::Subscription);
    write_audience(&mut writer, audience);
    writer.finish()
}

fn write_audience(writer: &mut KeyWriter, audience: &Audience) {
    match audience {
        Audience::Account(user) => {
            writer.raw(&[0]);
            user.write(writer);
        }
        Audience::Server(server) => {
            writer.raw(&[1]);
            server.write(writer);
        }
    }
}

/// The key of a subscription's change without its trailing position.
pub(super) fn subscription_prefix(audience: &Audience, lane: &Lane) -> Vec<u8> {
    let mut writer = KeyWriter::new(TableId::Subscription);
    write_audience(&mut writer, audience);
    write_lane(&mut writer, lane);
    writer.finish().0
}

/// The lane and position of a subscription's change.
pub(super) fn read_subscription(audience: &Audience, key: &Key) -> Result<(Lane, Position), StoreError> {
    let skip = audience_prefix(audience).0.len() - 1;
    let rest = Key(key.0.get(skip..).unwrap_or_default().to_vec());
    let mut reader = KeyReader::new(&rest);
    let lane = read_lane(&mut reader);
    match (lane, reader.array()) {
        (Some(lane), Some(position)) => Ok((lane, Position(u64::from_be_bytes(position)))),
        _ => Err(StoreError::Corrupt(format!("a subscription's key: {:02x?}", key.0))),
    }
}

/// The range of all subscriptions of remote servers.
pub(super) fn servers_range() -> (Key, Key) {
    let mut writer = KeyWriter::new(TableId::Subscription);
    writer.raw(&[1]);
    let from = writer.finish();
    let to = from.after_prefix();
    (from, to)
}

/// The server and lane of a subscription in [`servers_range`].
pub(super) fn read_server_subscription(key: &Key) -> Result<(OwnedServerName, Lane), StoreError> {
    let mut reader = KeyReader::new(key);
    let kind = reader.array::<1>();
    match (kind, OwnedServerName::read(&mut reader), read_lane(&mut reader)) {
        (Some([1]), Some(server), Some(lane)) => Ok((server, lane)),
        _ => Err(StoreError::Corrupt(format!("a server's subscription: {:02x?}", key.0))),
    }
}

/// The range of what waits in all outboxes.
pub(super) fn outboxes() -> (Key, Key) {
    let mut writer = KeyWriter::new(TableId::LaneRow);
    writer.raw(&[4]);
    let from = writer.finish();
    let to = from.after_prefix();
    (from, to)
}

/// Whose outbox a row in [`outboxes`] is of.
pub(super) fn outbox_server(key: &Key) -> Result<OwnedServerName, StoreError> {
    match read_lane(&mut KeyReader::new(key)) {
        Some(Lane::Outbox(server)) => Ok(server),
        _ => Err(StoreError::Corrupt(format!("a row of an outbox: {:02x?}", key.0))),
    }
}

/// Where the rows of the next outbox begin.
pub(super) fn outbox_after(server: &OwnedServerName) -> Key {
    let mut writer = KeyWriter::new(TableId::LaneRow);
    write_lane(&mut writer, &Lane::Outbox(server.clone()));
    writer.finish().after_prefix()
}

/// The row of a cursor that we keep for a reader.
pub(super) fn cursor_key(reader: &Reader) -> Key {
    let mut writer = KeyWriter::new(TableId::Cursor);
    match reader {
        Reader::Device(user, device) => {
            writer.raw(&[0]);
            user.write(&mut writer);
            device.write(&mut writer);
        }
        Reader::Server(server) => {
            writer.raw(&[1]);
            server.write(&mut writer);
        }
        Reader::Pusher(user) => {
            writer.raw(&[2]);
            user.write(&mut writer);
        }
    }
    writer.finish()
}
