//! One frame of the log: what one group of commits changed, all or nothing.
//!
//! ```text
//! header   magic "LSf1" · payload length u32 · frame number u64 · payload crc u32 · header crc u32
//! payload  state after the frame · number of records · records in key order · a5
//! record   op · shared key length · rest of the key · …
//!            delete: how many segments back versions of the row may be
//!            put:    row crc u32 · the same · stored length · stored bytes
//! ```
//! A key shares its beginning with the key of the record before. The last byte is never zero, so that
//! no part of a frame that fell into one disk sector is all zeros unless it never reached the disk.

use super::{
    codec::{self, Entry},
    wire::{Wire, put_varint},
};
use crate::store::{Digest, Key};

pub(super) const HEADER_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"LSf1";
const DELETE: u8 = 0;
const END: u8 = 0xA5;
/// What a record costs beside key and stored bytes, about.
const RECORD_BYTES: u64 = 12;

/// The state of the whole store after a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct After {
    /// The highest position assigned.
    pub(super) head: u64,
    /// Positions up to this one may have been handed out.
    pub(super) reserved: u64,
    /// All rows.
    pub(super) digest: Digest,
}

/// The first part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) number: u64,
    pub(super) checksum: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..20].copy_from_slice(&self.checksum.to_le_bytes());
        let own = crc32fast::hash(&out[..20]);
        out[20..].copy_from_slice(&own.to_le_bytes());
        out
    }

    /// `None` when the bytes are no header or a damaged one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let magic = wire.array::<4>()?;
        let header = Self { length: wire.u32()?, number: wire.u64()?, checksum: wire.u32()? };
        let sound = magic == MAGIC && wire.u32()? == crc32fast::hash(&bytes[..20]);
        sound.then_some(header)
    }

    pub(super) fn frame_bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }
}

/// What happened to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The row is at this place of the log now.
    Put(Entry),
    /// The row is gone; versions of it may be left in segments from `origin` on.
    Delete { origin: u64 },
}

/// Writes one frame.
pub(super) struct Builder {
    segment: u64,
    /// Where the frame will begin.
    start: u64,
    records: u64,
    last_key: Vec<u8>,
    body: Vec<u8>,
    /// Offsets of stored bytes are known only when the state's length is; they are relative first.
    changes: Vec<(Key, Change)>,
}

/// A finished frame and what it changes.
pub(super) struct Built {
    pub(super) bytes: Vec<u8>,
    pub(super) changes: Vec<(Key, Change)>,
}

/// A stored value on its way into a frame.
pub(super) struct Stored {
    pub(super) codec: u8,
    pub(super) checksum: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) origin: u64,
}

impl Builder {
    pub(super) fn new(segment: u64, start: u64) -> Self {
        Self { segment, start, records: 0, last_key: Vec::new(), body: Vec::new(), changes: Vec::new() }
    }

    fn key(&mut self, op: u8, key: &Key) {
        let shared = self.last_key.iter().zip(&key.0).take_while(|(a, b)| a == b).count();
        self.body.push(op);
        put_varint(&mut self.body, shared as u64);
        put_varint(&mut self.body, (key.0.len() - shared) as u64);
        self.body.extend_from_slice(&key.0[shared..]);
        self.last_key.clear();
        self.last_key.extend_from_slice(&key.0);
        self.records += 1;
    }

    pub(super) fn put(&mut self, key: Key, stored: &Stored) {
        self.key(stored.codec, &key);
        self.body.extend_from_slice(&stored.checksum.to_le_bytes());
        put_varint(&mut self.body, self.segment.saturating_sub(stored.origin));
        put_varint(&mut self.body, stored.bytes.len() as u64);
        let inline = stored.bytes.len() <= codec::INLINE_MAX;
        let entry = Entry {
            codec: stored.codec,
            checksum: stored.checksum,
            segment: self.segment,
            offset: self.body.len() as u64,
            origin: stored.origin.min(self.segment),
            length: stored.bytes.len() as u64,
            inline: inline.then(|| Box::from(stored.bytes.as_slice())),
        };
        self.body.extend_from_slice(&stored.bytes);
        self.changes.push((key, Change::Put(entry)));
    }

    pub(super) fn delete(&mut self, key: Key, origin: u64) {
        self.key(DELETE, &key);
        put_varint(&mut self.body, self.segment.saturating_sub(origin));
        self.changes.push((key, Change::Delete { origin }));
    }

    /// The whole frame; `None` when it is too long for its header.
    pub(super) fn finish(mut self, number: u64, after: &After) -> Option<Built> {
        let mut payload = Vec::with_capacity(HEADER_BYTES + 48 + self.body.len());
        payload.extend_from_slice(&[0; HEADER_BYTES]);
        put_varint(&mut payload, after.head);
        put_varint(&mut payload, after.reserved.saturating_sub(after.head));
        put_varint(&mut payload, after.digest.count);
        payload.extend_from_slice(&after.digest.sum.to_le_bytes());
        put_varint(&mut payload, self.records);
        let base = self.start + payload.len() as u64;
        payload.append(&mut self.body);
        payload.push(END);
        let length = u32::try_from(payload.len() - HEADER_BYTES).ok()?;
        let header = Header { length, number, checksum: crc32fast::hash(&payload[HEADER_BYTES..]) };
        payload[..HEADER_BYTES].copy_from_slice(&header.encode());
        for (_, change) in &mut self.changes {
            if let Change::Put(entry) = change {
                entry.offset += base;
            }
        }
        Some(Built { bytes: payload, changes: self.changes })
    }
}

/// A frame read back.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) after: After,
    pub(super) changes: Vec<(Key, Change)>,
}

/// Takes a payload apart whose checksum was right; `start` is where its frame begins in `segment`.
/// `None` means that it was written wrong.
pub(super) fn parse(payload: &[u8], segment: u64, start: u64) -> Option<Parsed> {
    let mut wire = Wire::new(payload);
    let head = wire.varint()?;
    let reserved = head.checked_add(wire.varint()?)?;
    let digest = Digest { count: wire.varint()?, sum: wire.u64()? };
    let records = wire.varint()?;
    let mut changes = Vec::new();
    let mut last_key: Vec<u8> = Vec::new();
    for _ in 0..records {
        let op = wire.u8()?;
        let shared = usize::try_from(wire.varint()?).ok()?;
        let rest = wire.counted()?;
        let key = [last_key.get(..shared)?, rest].concat();
        last_key.clone_from(&key);
        let change = match op {
            DELETE => Change::Delete { origin: segment.checked_sub(wire.varint()?)? },
            codec => {
                let checksum = wire.u32()?;
                let origin = segment.checked_sub(wire.varint()?)?;
                let stored = wire.counted()?;
                let at = HEADER_BYTES + wire.at() - stored.len();
                let inline = stored.len() <= codec::INLINE_MAX;
                Change::Put(Entry {
                    codec,
                    checksum,
                    segment,
                    offset: start + at as u64,
                    origin,
                    length: stored.len() as u64,
                    inline: inline.then(|| Box::from(stored)),
                })
            }
        };
        changes.push((Key(key), change));
    }
    let complete = wire.u8()? == END && wire.is_empty();
    complete.then_some(Parsed { after: After { head, reserved, digest }, changes })
}

/// How many bytes of its segment a row keeps alive, about.
pub(super) fn weight(key: &Key, entry: &Entry) -> u64 {
    key.0.len() as u64 + entry.length + RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_with_the_same_places() {
        let mut builder = Builder::new(9, 1_000);
        let stored = |bytes: &[u8], origin| Stored {
            codec: codec::RAW,
            checksum: bytes.len() as u32,
            bytes: bytes.to_vec(),
            origin,
        };
        builder.put(Key(b"apple".to_vec()), &stored(b"small", 9));
        builder.put(Key(b"apply".to_vec()), &stored(&[7; 500], 4));
        builder.delete(Key(b"b".to_vec()), 8);
        let after = After { head: 12, reserved: 70_000, digest: Digest { count: 5, sum: u64::MAX } };
        let built = builder.finish(77, &after).unwrap();
        let header = Header::decode(&built.bytes).unwrap();
        assert_eq!(header.number, 77);
        assert_eq!(header.frame_bytes(), built.bytes.len() as u64);
        let payload = &built.bytes[HEADER_BYTES..];
        assert_eq!(crc32fast::hash(payload), header.checksum);
        let parsed = parse(payload, 9, 1_000).unwrap();
        assert_eq!(parsed.after, after);
        assert_eq!(parsed.changes, built.changes);
        let Change::Put(big) = &parsed.changes[1].1 else { panic!("a put") };
        let at = (big.offset - 1_000) as usize;
        assert_eq!(built.bytes[at..at + 500], [7; 500]);
        assert_eq!(big.inline, None);
    }

    #[test]
    fn no_payload_makes_the_parser_panic() {
        for seed in 0..2_000_u32 {
            let bytes: Vec<u8> =
                (0..seed % 90).map(|n| (seed.wrapping_mul(2_654_435_761) >> (n % 25)) as u8).collect();
            let _ = parse(&bytes, 3, 0);
            assert_eq!(Header::decode(&bytes), None);
        }
    }
}
