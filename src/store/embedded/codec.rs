//! How a value is stored: compressed when that is smaller, with a checksum over key and value.
//!
//! The codec byte says how; a number is never given another meaning. The dictionary belongs to its
//! codec number: a better dictionary is a new number.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use super::wire::{Wire, put_varint};
use crate::store::{StoreError, digest};

/// The bytes as they are.
pub(super) const RAW: u8 = 1;
/// zstd with [`DICTIONARY`], without the four magic bytes at the beginning.
pub(super) const ZSTD: u8 = 2;
/// In an index entry: the stored bytes are in the entry itself.
const INLINE: u8 = 0x80;

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const LEVEL: i32 = 2;
/// Below this many bytes compression gains nothing: most such rows are little more than an event id.
const COMPRESS_MIN: usize = 64;
/// Stored values up to this many bytes are kept in the index as well: reading them costs no access
/// to the log. Longer ones would only make the index big (sled needs two to four times the space).
pub(super) const INLINE_MAX: usize = 40;
/// No value is longer (limits of the layers above keep far below it).
const VALUE_MAX: usize = 1 << 30;

/// What most of our values look like; likelier things stand nearer to the end.
const DICTIONARY: &[u8] = include_bytes!("dictionary.txt");

/// Where a row's newest version is, as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// [`RAW`] or [`ZSTD`].
    pub(super) codec: u8,
    /// CRC-32 over key and value.
    pub(super) checksum: u32,
    /// The log segment with the record.
    pub(super) segment: u64,
    /// Where in it the stored bytes begin.
    pub(super) offset: u64,
    /// No version of the row in a segment before this one can be left.
    pub(super) origin: u64,
    /// How many bytes are stored.
    pub(super) length: u64,
    /// The stored bytes, when they are few.
    pub(super) inline: Option<Box<[u8]>>,
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.push(self.codec | if self.inline.is_some() { INLINE } else { 0 });
        out.extend_from_slice(&self.checksum.to_le_bytes());
        put_varint(&mut out, self.segment);
        put_varint(&mut out, self.offset);
        put_varint(&mut out, self.segment.saturating_sub(self.origin));
        match &self.inline {
            Some(bytes) => out.extend_from_slice(bytes),
            None => put_varint(&mut out, self.length),
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let codec = wire.u8()?;
        let checksum = wire.u32()?;
        let segment = wire.varint()?;
        let offset = wire.varint()?;
        let origin = segment.checked_sub(wire.varint()?)?;
        let rest = &bytes[wire.at()..];
        let (inline, length) = match codec & INLINE {
            0 => (None, wire.varint()?),
            _ => (Some(Box::from(rest)), rest.len() as u64),
        };
        let complete = inline.is_some() || wire.is_empty();
        complete.then_some(Self { codec: codec & !INLINE, checksum, segment, offset, origin, length, inline })
    }

    /// Whether both are the same record of the log.
    pub(super) fn is_at(&self, segment: u64, offset: u64) -> bool {
        self.segment == segment && self.offset == offset
    }
}

/// Compresses values; one per writing thread.
pub(super) struct Encoder(Compressor<'static>);

impl Encoder {
    pub(super) fn new() -> Result<Self, StoreError> {
        Compressor::with_dictionary(LEVEL, DICTIONARY).map(Self).map_err(StoreError::engine)
    }

    /// The codec and the bytes to store for `value`.
    pub(super) fn encode(&mut self, value: Vec<u8>) -> (u8, Vec<u8>) {
        if value.len() < COMPRESS_MIN {
            return (RAW, value);
        }
        match self.0.compress(&value) {
            Ok(packed) if packed.len() < value.len() && packed.starts_with(&MAGIC) => {
                (ZSTD, packed[MAGIC.len()..].to_vec())
            }
            _ => (RAW, value),
        }
    }
}

thread_local! {
    static DECODER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The value of a row from its stored bytes; `None` when they are not what was stored.
pub(super) fn decode(key: &[u8], entry: &Entry, stored: &[u8]) -> Option<Vec<u8>> {
    let value = match entry.codec {
        RAW => stored.to_vec(),
        ZSTD => unpack(stored)?,
        _ => return None,
    };
    (digest::checksum(key, &value) == entry.checksum).then_some(value)
}

fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    let packed = [&MAGIC, stored].concat();
    let size = zstd::zstd_safe::get_frame_content_size(&packed).ok()??;
    let size = usize::try_from(size).ok().filter(|size| *size <= VALUE_MAX)?;
    DECODER.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::with_dictionary(DICTIONARY).ok()?);
        }
        slot.as_mut()?.decompress(&packed, size).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(codec: u8, checksum: u32, inline: Option<&[u8]>) -> Entry {
        let length = inline.map_or(77, |bytes| bytes.len() as u64);
        let inline = inline.map(Box::from);
        Entry { codec, checksum, segment: 300, offset: 70_000, origin: 299, length, inline }
    }

    #[test]
    fn entries_round_trip_and_nonsense_is_none() {
        for entry in [entry(RAW, 7, Some(b"abc")), entry(RAW, 7, Some(b"")), entry(ZSTD, 9, None)] {
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
        assert_eq!(Entry::decode(&[]), None);
        assert_eq!(Entry::decode(&[ZSTD, 0, 0]), None);
    }

    #[test]
    fn values_round_trip_and_every_flip_is_noticed() {
        let event = r#"{"auth_events":["$a","$b"],"content":{"body":"hello","msgtype":"m.text"},"depth":3}"#;
        for value in [b"".to_vec(), b"short".to_vec(), event.as_bytes().repeat(3), vec![0; 200_000]] {
            let (codec, stored) = Encoder::new().unwrap().encode(value.clone());
            let entry = entry(codec, digest::checksum(b"key", &value), None);
            assert_eq!(decode(b"key", &entry, &stored), Some(value.clone()));
            assert_eq!(decode(b"other", &entry, &stored), None);
            for at in 0..stored.len().min(300) {
                let mut flipped = stored.clone();
                flipped[at] ^= 0x10;
                // Either noticed, or the flip made no difference to what comes out.
                let read = decode(b"key", &entry, &flipped);
                assert!(read.is_none() || read == Some(value.clone()), "byte {at}");
            }
        }
    }
}
