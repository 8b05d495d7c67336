//! What a WebP file says of itself, looked at before its decoder believes it. That takes the memory that a chunk asks for
//! before it knows whether the file has as much, and the memory that a frame asks for before it compares that with the size
//! of the picture.

use std::{
    io::{Read, Seek},
    ops::Range,
};

use super::Refusal;
use crate::limits::MEDIA_IMAGE_PIXELS_MAX;

type Name = [u8; 4];

/// Where the first chunk is: after `RIFF`, a size, and `WEBP`.
const FIRST: u64 = 12;
/// Bytes of the head of a chunk: a name and a size.
const HEAD: u64 = 8;
/// Where the chunks of a frame are, within its own.
const FRAME: u64 = 16;

/// Reads a file from its beginning on, without going back far.
struct Chunks<R> {
    source: R,
    at: u64,
}

/// Checks a file of `length` bytes. Nothing is kept of it.
///
/// # Errors
/// When a chunk goes beyond what it is in, or a frame has too many pixels.
pub(super) fn check(source: impl Read + Seek, length: u64) -> Result<(), Refusal> {
    let mut chunks = Chunks { source, at: 0 };
    let mut at = FIRST;
    while let Some((name, place)) = chunks.read(at, length)? {
        chunks.judge(&name, &place, length)?;
        if name == *b"ANMF" {
            let mut within = place.start + FRAME;
            while let Some((name, part)) = chunks.read(within, place.end)? {
                chunks.judge(&name, &part, place.end)?;
                within = after(&part);
            }
        }
        at = after(&place);
    }
    Ok(())
}

/// Where the next chunk is. Each begins at an even number.
fn after(place: &Range<u64>) -> u64 {
    place.end + place.end % 2
}

impl<R: Read + Seek> Chunks<R> {
    /// The chunk at `at`, if there is room for one before `end`: its name, and where its content is.
    fn read(&mut self, at: u64, end: u64) -> Result<Option<(Name, Range<u64>)>, Refusal> {
        if at + HEAD > end {
            return Ok(None);
        }
        let [a, b, c, d, size @ ..]: [u8; 8] = self.bytes(at)?;
        let start = at + HEAD;
        Ok(Some(([a, b, c, d], start..start + u64::from(u32::from_le_bytes(size)))))
    }

    fn judge(&mut self, name: &Name, place: &Range<u64>, end: u64) -> Result<(), Refusal> {
        let is_read =
            [b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"VP8 ", b"VP8L", b"XMP "].contains(&name);
        // A frame of an odd size is none that an encoder writes, and readers do not agree on what follows it.
        let is_odd = *name == *b"ANMF" && place.end % 2 == 1;
        if is_read && (place.end > end || is_odd) {
            return Err(Refusal::NoThumbnail(String::from("a part of the image has no end")));
        }
        if *name == *b"VP8 " && place.end - place.start >= 10 {
            // Three bytes of flags, three that are always the same, width and height.
            let [.., w0, w1, h0, h1]: [u8; 10] = self.bytes(place.start)?;
            let [width, height] =
                [[w0, w1], [h0, h1]].map(|side| u64::from(u16::from_le_bytes(side) & 0x3FFF));
            if width * height > MEDIA_IMAGE_PIXELS_MAX {
                return Err(Refusal::TooManyPixels);
            }
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.source.seek_relative(at.cast_signed() - self.at.cast_signed())?;
        self.source.read_exact(&mut bytes)?;
        self.at = at + N as u64;
        Ok(bytes)
    }
}
