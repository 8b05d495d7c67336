//! The index: where the newest version of each row is in the log. The only module that knows sled.
//!
//! sled is not trusted. It is written only from the log, after the log is durable; a checkpoint
//! outside it says how far it must have got; and it can be rebuilt from the log at any time.

use std::{
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{codec::Entry, frame::Change, wire::Wire};
use crate::store::{Digest, Key, Scan, StoreError};

/// How far the index has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// The last frame that it holds whole.
    pub(super) frame: u64,
    /// The segment of that frame.
    pub(super) segment: u64,
    /// Where that frame ends.
    pub(super) offset: u64,
    /// The fingerprint of all rows after that frame.
    pub(super) digest: Digest,
}

impl Tip {
    fn encode(self) -> [u8; 40] {
        let mut out = [0; 40];
        let numbers = [self.frame, self.segment, self.offset, self.digest.count, self.digest.sum];
        for (part, number) in out.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let (frame, segment, offset) = (wire.u64()?, wire.u64()?, wire.u64()?);
        let digest = Digest { count: wire.u64()?, sum: wire.u64()? };
        wire.is_empty().then_some(Self { frame, segment, offset, digest })
    }
}

const TIP: &[u8] = b"tip";
const SEGMENT_BYTES: usize = 512 * 1024;

/// The open index.
pub(super) struct Index {
    rows: sled::Tree,
    meta: sled::Tree,
    db: sled::Db,
    folder: PathBuf,
}

impl Index {
    /// Opens the index in `folder`, or makes an empty one. Any failure means: move it away, rebuild.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        // A snapshot that was being written when the process died would keep sled from opening.
        if let Ok(files) = fs::read_dir(folder) {
            for file in files.flatten() {
                if file.file_name().to_string_lossy().ends_with(".generating") {
                    fs::remove_file(file.path()).map_err(StoreError::engine)?;
                }
            }
        }
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(1_000));
        // sled panics on some damaged files.
        let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<Self> {
            let db = config.open()?;
            let meta = db.open_tree("meta")?;
            let rows = db.open_tree("rows")?;
            Ok(Self { rows, meta, db, folder: folder.to_owned() })
        }));
        match opened {
            Ok(opened) => opened.map_err(failure),
            Err(_) => Err(StoreError::Corrupt("the index cannot be opened".to_owned())),
        }
    }

    /// How far it has got; `None` for an index that is empty or does not know.
    pub(super) fn tip(&self) -> Result<Option<Tip>, StoreError> {
        Ok(self.meta.get(TIP).map_err(failure)?.and_then(|bytes| Tip::decode(&bytes)))
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let found = self.rows.get(&key.0).map_err(failure)?;
        found.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// The entries of a range, one by one in the scan's direction; its limit is not looked at.
    pub(super) fn range(
        &self,
        scan: &Scan,
    ) -> impl Iterator<Item = Result<(Key, Entry), StoreError>> + use<> {
        let mut iter = self.rows.range(scan.from.0.as_slice()..scan.to.0.as_slice());
        let reverse = scan.reverse;
        std::iter::from_fn(move || match reverse {
            false => iter.next(),
            true => iter.next_back(),
        })
        .map(|row| {
            let (key, value) = row.map_err(failure)?;
            let key = Key(key.to_vec());
            let entry = decode(&key, &value)?;
            Ok((key, entry))
        })
    }

    /// Applies a change; the order of changes to one row matters, nothing else does.
    pub(super) fn apply(&self, key: &Key, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Put(entry) => self.rows.insert(&key.0, entry.encode()).map(|_| ()),
            // Many rows come and go between two checkpoints and never were here.
            Change::Delete { .. } => match self.rows.contains_key(&key.0) {
                Ok(true) => self.rows.remove(&key.0).map(|_| ()),
                other => other.map(|_| ()),
            },
        }
        .map_err(failure)
    }

    /// Records how far the index has got and makes everything in it durable.
    pub(super) fn checkpoint(&self, tip: Tip) -> Result<(), StoreError> {
        self.meta.insert(TIP, tip.encode().as_slice()).map_err(failure)?;
        self.db.flush().map_err(failure)?;
        // sled's own flush asks for no more than starting to write (`sync_file_range`).
        File::open(self.folder.join("db")).and_then(|file| file.sync_all()).map_err(StoreError::engine)?;
        super::files::sync_folder(&self.folder).map_err(StoreError::engine)
    }
}

fn decode(key: &Key, bytes: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(bytes).ok_or_else(|| StoreError::Corrupt(format!("the index entry of {:02x?}", key.0)))
}

fn failure(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(format!(
            "the index: {error}; rebuilding it from the log (`lockstep db check --rebuild`) mends that"
        )),
        error => StoreError::engine(error),
    }
}
