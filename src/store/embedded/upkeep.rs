//! Looking after an embedded store: check it, export it while it runs, compact it, restore it.

use std::{
    fs::{self, File},
    io::{Seek, Write},
    path::{Path, PathBuf},
};

use super::{
    Embedded, Settings, codec, files,
    frame::{Change, Parsed},
    segment::{PREAMBLE_BYTES, Read, Segment},
};
use crate::store::{
    Batch, Digest, Key, Scan, Stamped, Store, StoreError, Write as Put,
    dump::{self, End, Progress, Tell, Writer},
    table::TableId,
};

/// Problems that a report lists before it only counts.
const PROBLEMS_MAX: usize = 100;
/// Rows in one page of a walk.
const PAGE_ROWS: usize = 2_000;
/// The class byte of a register's row in its lane (`log::lane`).
const REGISTER_CLASS: u8 = 1;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that can be read.
    pub rows: u64,
    /// Frames of the log that are whole.
    pub frames: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// What is wrong; the first hundred, in words.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
}

impl Report {
    fn add(&mut self, problem: impl ToString) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.to_string());
        }
    }
}

/// Walks through everything: each frame of the log, each row's checksum, the number and fingerprint of
/// rows, and whether registers and lanes agree.
///
/// # Errors
/// When the store cannot be opened; what is found inside is in the report.
pub async fn check(settings: Settings, tell: Tell<'_>) -> Result<Report, StoreError> {
    let store = Embedded::open(settings)?;
    let mut report = Report::default();
    store.check_log(&mut report, tell);
    store.check_rows(&mut report, tell);
    Ok(report)
}

impl Embedded {
    fn check_log(&self, report: &mut Report, tell: Tell<'_>) {
        let segments: Vec<Segment> = self.shared.state.read().segments.values().cloned().collect();
        let total = segments.iter().map(|segment| segment.size).sum();
        for segment in segments {
            let (mut offset, mut frame) = (PREAMBLE_BYTES, segment.first_frame);
            let begin = report.log_bytes;
            loop {
                match segment.read(offset, frame) {
                    Ok(Read::Frame { end, .. }) => {
                        (offset, frame) = (end, frame + 1);
                        report.frames += 1;
                    }
                    Ok(Read::End) => break,
                    Ok(Read::Torn) => {
                        report.add(segment.damage(offset, "a frame is cut off or zeroed"));
                        break;
                    }
                    Err(error) => {
                        report.add(error);
                        break;
                    }
                }
                report.log_bytes = begin + offset;
                if report.frames.is_multiple_of(256) {
                    tell(Progress { what: "reading the log", done: report.log_bytes, total: Some(total) });
                }
            }
            report.log_bytes = begin + segment.size;
        }
        tell(Progress { what: "reading the log", done: total, total: Some(total) });
    }

    fn check_rows(&self, report: &mut Report, tell: Tell<'_>) {
        let expected = self.shared.state.read().after.digest;
        let mut found = Digest::default();
        let mut registers = Registers::default();
        let mut from = Key(Vec::new());
        loop {
            let scan = Scan { from, to: Key(vec![u8::MAX; 4]), reverse: false, limit: PAGE_ROWS };
            let entries = match self.shared.entries(&scan) {
                Ok(entries) => entries,
                Err(error) => {
                    report.add(error);
                    break;
                }
            };
            for (key, entry) in &entries {
                found.add(&key.0, entry.checksum);
                match self.shared.read(key) {
                    Ok(value) => {
                        report.rows += 1;
                        registers.add(key, &value.unwrap_or_default());
                    }
                    Err(error) => report.add(error),
                }
            }
            tell(Progress { what: "reading rows", done: found.count, total: Some(expected.count) });
            match entries.last() {
                Some((last, _)) if entries.len() == PAGE_ROWS => from = last.successor(),
                _ => break,
            }
        }
        if found != expected {
            report.add(format!(
                "the index has {} rows with fingerprint {:016x}; the log says {} with {:016x} \
                 (`lockstep db check --rebuild` makes the index anew)",
                found.count, found.sum, expected.count, expected.sum
            ));
        }
        if !registers.agree() {
            report.add("registers and the rows of lanes that they point at do not agree");
        }
    }

    /// Writes everything as of some moment while the export runs. Others may go on writing.
    ///
    /// # Errors
    /// When the store or `out` fails, or a row is damaged.
    pub fn export<W: Write>(&self, out: W, tell: Tell<'_>) -> Result<W, StoreError> {
        let mut writer = Writer::new(out, &self.shared.settings.server_name)?;
        let start = {
            let mut state = self.shared.state.write();
            state.pins += 1;
            state.tip
        };
        let written = self.export_rows(&mut writer, tell).and_then(|()| {
            let (end, after) = {
                let state = self.shared.state.read();
                (state.tip, state.after)
            };
            // What changed while the rows were read, in order.
            let mut end_digest = start.digest;
            let segments: Vec<Segment> = self.shared.state.read().segments.values().cloned().collect();
            for segment in segments.iter().filter(|segment| segment.number >= start.segment) {
                let (mut offset, mut frame) = match segment.number == start.segment {
                    true => (start.offset, start.frame + 1),
                    false => (PREAMBLE_BYTES, segment.first_frame),
                };
                while frame <= end.frame {
                    let Read::Frame { parsed, end: next } = segment.read(offset, frame)? else { break };
                    end_digest = parsed.after.digest;
                    write_changes(&mut writer, segment, parsed)?;
                    (offset, frame) = (next, frame + 1);
                }
            }
            match end_digest == end.digest {
                true => Ok(End { frame: end.frame, head: after.head, digest: end.digest }),
                false => Err(StoreError::Corrupt("the log does not lead to its own end".to_owned())),
            }
        });
        self.shared.state.write().pins -= 1;
        writer.finish(written?)
    }

    fn export_rows<W: Write>(&self, writer: &mut Writer<W>, tell: Tell<'_>) -> Result<(), StoreError> {
        let total = Some(self.shared.state.read().after.digest.count);
        let mut from = Key(Vec::new());
        let mut done = 0;
        loop {
            let scan = Scan { from, to: Key(vec![u8::MAX; 4]), reverse: false, limit: PAGE_ROWS };
            let rows = self.shared.scan(&scan)?;
            for (key, value) in &rows {
                writer.row(key, value)?;
            }
            done += rows.len() as u64;
            tell(Progress { what: "writing rows", done, total });
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => from = last.successor(),
                _ => return Ok(()),
            }
        }
    }
}

fn write_changes<W: Write>(
    writer: &mut Writer<W>,
    segment: &Segment,
    parsed: Parsed,
) -> Result<(), StoreError> {
    for (key, value) in values(segment, parsed)? {
        match value {
            Some(value) => writer.row(&key, &value)?,
            None => writer.gone(&key)?,
        }
    }
    Ok(())
}

/// A row as a frame left it; `None` when it went.
type Left = (Key, Option<Vec<u8>>);

/// What a frame did, with the values themselves.
fn values(segment: &Segment, parsed: Parsed) -> Result<Vec<Left>, StoreError> {
    let value = |(key, change): (Key, Change)| match change {
        Change::Delete { .. } => Ok((key, None)),
        Change::Put(entry) => {
            let stored = segment.stored(&entry)?;
            let value = codec::decode(&key.0, &entry, &stored);
            let value =
                value.ok_or_else(|| segment.damage(entry.offset, "the checksum of a row is wrong"))?;
            Ok((key, Some(value)))
        }
    };
    parsed.changes.into_iter().map(value).collect()
}

/// Positions in register indexes and in the rows that they point at; both must be the same.
#[derive(Default)]
struct Registers {
    indexes: Vec<u64>,
    rows: Vec<u64>,
}

impl Registers {
    fn add(&mut self, key: &Key, value: &[u8]) {
        const REGISTER: u8 = TableId::Register as u8;
        const LANE_ROW: u8 = TableId::LaneRow as u8;
        match (key.0.first(), value.try_into()) {
            (Some(&REGISTER), Ok(position)) => self.indexes.push(u64::from_be_bytes(position)),
            (Some(&LANE_ROW), _) => {
                if let Some((rest, position)) = key.0.split_last_chunk::<8>()
                    && rest.last() == Some(&REGISTER_CLASS)
                {
                    self.rows.push(u64::from_be_bytes(*position));
                }
            }
            _ => {}
        }
    }

    fn agree(mut self) -> bool {
        self.indexes.sort_unstable();
        self.rows.sort_unstable();
        self.indexes == self.rows
    }
}

fn sibling(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a new store from a dump at a place where there is none; half a store is never left there.
///
/// # Errors
/// When there is a store already, the dump is damaged or of another server, or the disk fails.
pub async fn import(
    settings: Settings,
    dump: impl std::io::Read + Seek,
    tell: Tell<'_>,
) -> Result<End, StoreError> {
    restore(settings, dump, &[], tell).await
}

/// Makes a new store from a dump and the log segments in `folders` (archived ones, and those of a
/// damaged store) that continue it.
///
/// # Errors
/// As [`import`]; also when the segments do not continue the dump.
pub async fn restore(
    settings: Settings,
    dump: impl std::io::Read + Seek,
    folders: &[PathBuf],
    tell: Tell<'_>,
) -> Result<End, StoreError> {
    let place = settings.folder.clone();
    if place.exists() && fs::read_dir(&place).map_err(StoreError::engine)?.next().is_some() {
        return Err(StoreError::Unusable(format!("`{}` is not empty", place.display())));
    }
    let fresh = sibling(&place, ".importing");
    remove_folder(&fresh)?;
    let store = Embedded::open(Settings { folder: fresh.clone(), archive: None, ..settings.clone() })?;
    let mut end = dump::import(&store, &settings.server_name, dump, tell).await?;
    for segment in segments_of(folders)? {
        apply_segment(&store, &segment, &mut end, tell).await?;
    }
    dump::raise_head(&store, end.head).await?;
    if !folders.is_empty() {
        dump::expect_digest(&store, end.digest, tell).await?;
    }
    store.close().await?;
    drop(store);
    if place.exists() {
        fs::remove_dir(&place).map_err(StoreError::engine)?;
    }
    move_folder(&fresh, &place)?;
    Ok(end)
}

/// Every segment file in `folders`, by number; where two have the same, the longer one.
fn segments_of(folders: &[PathBuf]) -> Result<Vec<Segment>, StoreError> {
    let mut segments = std::collections::BTreeMap::<u64, Segment>::new();
    for folder in folders {
        for file in fs::read_dir(folder).map_err(StoreError::engine)? {
            let path = file.map_err(StoreError::engine)?.path();
            if path.extension().is_none_or(|extension| extension != "seg") {
                continue;
            }
            let segment = Segment::open_file(&path)?;
            if segments.get(&segment.number).is_none_or(|other| other.size < segment.size) {
                segments.insert(segment.number, segment);
            }
        }
    }
    Ok(segments.into_values().collect())
}

async fn apply_segment(
    store: &Embedded,
    segment: &Segment,
    end: &mut End,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let (mut offset, mut frame) = (PREAMBLE_BYTES, segment.first_frame);
    if frame > end.frame + 1 {
        return Err(segment.damage(offset, &format!("frame {} is in none of the folders", end.frame + 1)));
    }
    while let Read::Frame { parsed, end: next } = segment.read(offset, frame)? {
        if frame > end.frame {
            let after = parsed.after;
            let write = |(key, value): (Key, Option<Vec<u8>>)| match value {
                Some(value) => Put::Put(Stamped::plain(key.0), Stamped::plain(value)),
                None => Put::Delete(key),
            };
            let writes = values(segment, parsed)?.into_iter().map(write).collect();
            store.commit(vec![Batch { expects: Vec::new(), writes, slots: 0 }]).await?;
            *end = End { frame, head: after.head.max(after.reserved), digest: after.digest };
            tell(Progress { what: "reading the log", done: frame, total: None });
        }
        (offset, frame) = (next, frame + 1);
    }
    Ok(())
}

/// Writes the store anew, without what the index and the log hold in vain, and puts it in the old one's
/// place once it is known to hold the same. Needs room for both.
///
/// # Errors
/// When the store is in use or damaged, or the disk fails; it is left as it was then.
pub async fn compact(settings: Settings, tell: Tell<'_>) -> Result<(), StoreError> {
    let place = settings.folder.clone();
    let (fresh, old) = (sibling(&place, ".compacting"), sibling(&place, ".before-compacting"));
    remove_folder(&fresh)?;
    let store = Embedded::open(settings.clone())?;
    let copy = Embedded::open(Settings { folder: fresh.clone(), archive: None, ..settings.clone() })?;
    let total = Some(store.shared.state.read().after.digest.count);
    let mut from = Key(Vec::new());
    let mut done = 0;
    loop {
        let scan = Scan { from, to: Key(vec![u8::MAX; 4]), reverse: false, limit: PAGE_ROWS };
        let rows = store.shared.scan(&scan)?;
        let Some((last, _)) = rows.last() else { break };
        from = last.successor();
        done += rows.len() as u64;
        let put = |(key, value): (Key, Vec<u8>)| Put::Put(Stamped::plain(key.0), Stamped::plain(value));
        let writes = rows.into_iter().map(put).collect();
        copy.commit(vec![Batch { expects: Vec::new(), writes, slots: 0 }]).await?;
        tell(Progress { what: "copying rows", done, total });
    }
    dump::raise_head(&copy, store.head().await?.0).await?;
    let expected = store.shared.state.read().after.digest;
    dump::expect_digest(&copy, expected, tell).await?;
    copy.close().await?;
    drop(copy);
    // The old folder stays locked until it is out of the way.
    store.close().await?;
    remove_folder(&old)?;
    move_folder(&place, &old)?;
    move_folder(&fresh, &place)?;
    drop(store);
    remove_folder(&old)
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match path.exists() {
        true => fs::remove_dir_all(path).map_err(StoreError::engine),
        false => Ok(()),
    }
}

fn move_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::rename(from, to).and_then(|()| files::sync_folder(parent)).map_err(StoreError::engine)
}

/// A file that comes into being whole or not at all.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    fresh: PathBuf,
}

impl NewFile {
    /// Begins a file that is going to be at `path`, for the server's user only.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<(Self, File), StoreError> {
        let fresh = sibling(path, ".new");
        let file = files::create_new(&fresh).map_err(StoreError::engine)?;
        Ok((Self { path: path.to_owned(), fresh }, file))
    }

    /// Puts the written file in its place, durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(self, file: &File) -> Result<(), StoreError> {
        file.sync_all().map_err(StoreError::engine)?;
        move_folder(&self.fresh, &self.path)
    }
}

/// What was begun and not finished must not keep the disk full.
impl Drop for NewFile {
    fn drop(&mut self) {
        if self.fresh.exists() {
            let _ = fs::remove_file(&self.fresh);
        }
    }
}
