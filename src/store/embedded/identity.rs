//! Whose store a folder is, in which format; and that only one process uses it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    thread,
};

use super::files;
use crate::{
    limits::{STORE_LOCK_ATTEMPTS, STORE_LOCK_PAUSE},
    store::{SCHEMA_VERSION, StoreError},
};

const MAGIC: &str = "lockstep store";

/// How far the making of a store has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being made: it holds nothing yet.
    New,
    /// Made: from now on something that is missing is damage.
    Ready,
}

/// Takes the folder for this process, for as long as the file stays open.
///
/// A process that ends, or a child it was just starting, may hold the lock for a moment more: it is waited for, shortly.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let file = files::open_or_create(&folder.join("lock")).map_err(StoreError::engine)?;
    for attempt in 1..=STORE_LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if attempt < STORE_LOCK_ATTEMPTS => thread::sleep(STORE_LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => return Err(StoreError::engine(error)),
        }
    }
    Err(StoreError::Unusable(format!("another process is using `{}`", folder.display())))
}

/// Reads what the folder says of itself and refuses what is not ours; `None` for an empty folder.
pub(super) fn read(folder: &Path, server_name: &str) -> Result<Option<Stage>, StoreError> {
    let path = folder.join("identity");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return expect_empty(folder).map(|()| None),
        Err(error) => return Err(StoreError::engine(error)),
    };
    let unusable = |why: String| StoreError::Unusable(format!("`{}`: {why}", path.display()));
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(unusable("it is not the identity of a Lockstep store".to_owned()));
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(str::to_owned).ok_or_else(|| unusable(format!("the line `{name}` is missing or damaged")))
    };
    let (schema, server, stage, sum) = (field("schema")?, field("server")?, field("stage")?, field("crc")?);
    let number: u32 = schema.parse().map_err(|_| unusable("the line `schema` is damaged".to_owned()))?;
    if number > SCHEMA_VERSION {
        return Err(unusable(format!(
            "it was written by a newer version (schema {number}; this one knows {SCHEMA_VERSION})"
        )));
    }
    if sum != checksum(&schema, &server, &stage) {
        return Err(StoreError::Corrupt(format!("`{}`: its checksum is wrong", path.display())));
    }
    if server != server_name {
        return Err(unusable(format!("it belongs to the server `{server}`, not to `{server_name}`")));
    }
    match stage.as_str() {
        "new" => Ok(Some(Stage::New)),
        "ready" => Ok(Some(Stage::Ready)),
        other => Err(unusable(format!("unknown stage `{other}`"))),
    }
}

/// Writes what the folder is.
pub(super) fn write(folder: &Path, server_name: &str, stage: Stage) -> Result<(), StoreError> {
    let stage = match stage {
        Stage::New => "new",
        Stage::Ready => "ready",
    };
    let schema = SCHEMA_VERSION.to_string();
    let sum = checksum(&schema, server_name, stage);
    let text = format!("{MAGIC}\nschema {schema}\nserver {server_name}\nstage {stage}\ncrc {sum}\n");
    files::write_atomically(&folder.join("identity"), text.as_bytes()).map_err(StoreError::engine)
}

fn checksum(schema: &str, server: &str, stage: &str) -> String {
    format!("{:08x}", crc32fast::hash(format!("{schema}\n{server}\n{stage}").as_bytes()))
}

fn expect_empty(folder: &Path) -> Result<(), StoreError> {
    for file in fs::read_dir(folder).map_err(StoreError::engine)? {
        let name = file.map_err(StoreError::engine)?.file_name();
        // The lock and an unfinished identity are what a process leaves that died right at the start.
        if name != "lock" && name != "identity.new" {
            return Err(StoreError::Unusable(format!(
                "`{}` is not empty (there is `{}`) and not a Lockstep store; choose another folder",
                folder.display(),
                name.display()
            )));
        }
    }
    Ok(())
}
