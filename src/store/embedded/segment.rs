//! The files of the log: numbered segments of frames.
//!
//! A frame is written with one call and synced before anybody learns of it. When the machine dies in
//! between, the last frame may be torn; that is the only damage that is repaired (by cutting it off).

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    codec::Entry,
    files,
    frame::{self, HEADER_BYTES, Header, Parsed},
    wire::Wire,
};
use crate::store::StoreError;

/// Bytes before the first frame.
pub(super) const PREAMBLE_BYTES: u64 = 32;
const MAGIC: [u8; 8] = *b"LSsegm01";
const SECTOR: u64 = 512;

/// One file of the log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    /// Bytes of the preamble and all whole frames.
    pub(super) size: u64,
    /// About how many of them are rows that still count.
    pub(super) live: u64,
    /// The number of the first frame.
    pub(super) first_frame: u64,
    /// Whether every frame was synced before the next was written.
    pub(super) synced: bool,
    /// All that counted was copied to later segments by this frame; after a checkpoint it may go.
    pub(super) retired: Option<u64>,
    /// Whether it has words in it that were removed.
    pub(super) stale: Stale,
}

/// Whether a segment has words in it that were removed, or replaced by fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stale {
    /// It has not.
    #[default]
    No,
    /// It has; it is collected when it is mostly dead, or with the next scrub.
    Holds,
    /// It is to be collected however much of it counts.
    Goes,
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join("log").join(format!("{number:010}.seg"))
}

/// The numbers of the segments in `folder`, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder.join("log")).map_err(StoreError::engine)? {
        let name = file.map_err(StoreError::engine)?.file_name();
        let text = name.to_str().unwrap_or_default();
        match text.strip_suffix(".seg").and_then(|number| number.parse().ok()) {
            Some(number) => numbers.push(number),
            // A segment that was being made when the process died; nothing was ever in it.
            None if text.ends_with(".new") => {}
            None => return Err(StoreError::Unusable(format!("`log/{}` is no segment", name.display()))),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Segment {
    /// Makes a new, empty segment, durable with its name.
    pub(super) fn create(folder: &Path, number: u64, first_frame: u64, synced: bool) -> io::Result<Self> {
        let mut preamble = Vec::with_capacity(PREAMBLE_BYTES as usize);
        preamble.extend_from_slice(&MAGIC);
        preamble.extend_from_slice(&number.to_le_bytes());
        preamble.extend_from_slice(&first_frame.to_le_bytes());
        preamble.extend_from_slice(&u32::from(synced).to_le_bytes());
        let own = crc32fast::hash(&preamble);
        preamble.extend_from_slice(&own.to_le_bytes());
        let path = path(folder, number);
        files::write_atomically(&path, &preamble)?;
        let file = Arc::new(files::open_existing(&path)?);
        Ok(Self {
            number,
            file,
            size: PREAMBLE_BYTES,
            live: 0,
            first_frame,
            synced,
            retired: None,
            stale: Stale::No,
        })
    }

    /// Opens a segment; `size` is the file's length.
    pub(super) fn open(folder: &Path, number: u64) -> Result<Self, StoreError> {
        let segment = Self::open_file(&path(folder, number))?;
        match segment.number == number {
            true => Ok(segment),
            false => Err(StoreError::Corrupt(format!("segment {number} says it is {}", segment.number))),
        }
    }

    /// Opens a segment whose number is known from itself only.
    pub(super) fn open_file(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(files::open_existing(path).map_err(StoreError::engine)?);
        let size = file.metadata().map_err(StoreError::engine)?.len();
        let mut bytes = [0; PREAMBLE_BYTES as usize];
        let damaged = |what: &str| StoreError::Corrupt(format!("`{}`: {what}", path.display()));
        file.read_exact_at(&mut bytes, 0).map_err(|_| damaged("it ends within its preamble"))?;
        let mut wire = Wire::new(&bytes);
        let known = wire.array() == Some(MAGIC);
        let fields = (wire.u64(), wire.u64(), wire.u32());
        let sound = known && wire.u32() == Some(crc32fast::hash(&bytes[..28]));
        match fields {
            (Some(number), Some(first_frame), Some(synced @ 0..=1)) if sound => Ok(Self {
                number,
                file,
                size,
                live: 0,
                first_frame,
                synced: synced == 1,
                retired: None,
                stale: Stale::No,
            }),
            _ => Err(damaged("its preamble is damaged")),
        }
    }

    /// The stored bytes of a row.
    pub(super) fn stored(&self, entry: &Entry) -> Result<Vec<u8>, StoreError> {
        if let Some(bytes) = &entry.inline {
            return Ok(bytes.to_vec());
        }
        match entry.offset.checked_add(entry.length) {
            Some(end) if end <= self.size => {}
            _ => return Err(self.damage(entry.offset, "a row lies beyond the end")),
        }
        let mut bytes = vec![0; entry.length as usize];
        self.file.read_exact_at(&mut bytes, entry.offset).map_err(StoreError::engine)?;
        Ok(bytes)
    }

    /// Writes a frame at the end; after an error nothing of it is left.
    pub(super) fn append(&mut self, bytes: &[u8], sync: bool) -> Result<(), AppendError> {
        let written = self.file.write_all_at(bytes, self.size);
        let synced = written.and_then(|()| match sync {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        match synced {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => match self.file.set_len(self.size).and_then(|()| self.file.sync_data()) {
                Ok(()) => Err(AppendError::Nothing(error)),
                Err(_) => Err(AppendError::Unclear(error)),
            },
        }
    }

    /// Reads the frame at `offset`, which must have the number `expected`.
    pub(super) fn read(&self, offset: u64, expected: u64) -> Result<Read, StoreError> {
        let mut header = [0; HEADER_BYTES];
        let left = self.size.saturating_sub(offset);
        if left == 0 {
            return Ok(Read::End);
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Read::Torn);
        }
        self.file.read_exact_at(&mut header, offset).map_err(StoreError::engine)?;
        let Some(header) = Header::decode(&header) else {
            return self.judge(offset, offset + HEADER_BYTES as u64, "a frame header is damaged");
        };
        if header.number != expected {
            let what = format!("frame {expected} is missing, there is {}", header.number);
            return Err(self.damage(offset, &what));
        }
        let end = offset + header.frame_bytes();
        if end > self.size {
            return Ok(Read::Torn);
        }
        let mut payload = vec![0; header.length as usize];
        let at = offset + HEADER_BYTES as u64;
        self.file.read_exact_at(&mut payload, at).map_err(StoreError::engine)?;
        if crc32fast::hash(&payload) != header.checksum {
            return self.judge(offset, end, "the checksum of a frame is wrong");
        }
        match frame::parse(&payload, self.number, offset) {
            Some(parsed) => Ok(Read::Frame { parsed, end }),
            None => Err(self.damage(offset, "a frame makes no sense")),
        }
    }

    /// A frame that never reached the disk whole has a part of a sector that is all zeros.
    fn judge(&self, offset: u64, end: u64, what: &str) -> Result<Read, StoreError> {
        let mut bytes = vec![0; (end - offset) as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(StoreError::engine)?;
        let mut rest = bytes.as_slice();
        let mut at = offset;
        while !rest.is_empty() {
            let part = (SECTOR - at % SECTOR).min(rest.len() as u64);
            let (sector, after) = rest.split_at(part as usize);
            if sector.iter().all(|byte| *byte == 0) {
                return Ok(Read::Torn);
            }
            rest = after;
            at += part;
        }
        Err(self.damage(offset, what))
    }

    /// Whether a whole header of a frame after `number` stands anywhere from `offset` on.
    pub(super) fn has_later_frame(&self, offset: u64, number: u64) -> Result<bool, StoreError> {
        let mut bytes = vec![0; self.size.saturating_sub(offset) as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(StoreError::engine)?;
        let headers = bytes.windows(HEADER_BYTES).filter_map(Header::decode);
        Ok(headers.into_iter().any(|header| header.number > number))
    }

    /// Cuts everything from `offset` on.
    pub(super) fn cut(&mut self, offset: u64) -> Result<(), StoreError> {
        self.file.set_len(offset).and_then(|()| self.file.sync_all()).map_err(StoreError::engine)?;
        self.size = offset;
        Ok(())
    }

    pub(super) fn damage(&self, offset: u64, what: &str) -> StoreError {
        StoreError::Corrupt(format!("segment {} at byte {offset}: {what}", self.number))
    }
}

/// What stands at a place of a segment.
pub(super) enum Read {
    /// A whole frame, and where the next one begins.
    Frame {
        /// What it says.
        parsed: Parsed,
        /// Where the next frame begins.
        end: u64,
    },
    /// The end of the segment.
    End,
    /// A frame that was being written when the machine or the process died.
    Torn,
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// Nothing of it is left; writing may be tried again.
    #[error(transparent)]
    Nothing(io::Error),
    /// The disk does not say what is left of it; nothing may be written until the store is reopened.
    #[error("{0}; the log cannot be written until the store is reopened")]
    Unclear(io::Error),
}
