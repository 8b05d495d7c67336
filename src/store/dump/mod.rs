//! The whole store as one stream: the backup, the way from one engine to another, and the offline
//! compaction.
//!
//! ```text
//! zstd ( "LSdump01" · schema u32 · length u32 · server name · crc u32
//!        1 · key length u32 · value length u32 · key · value · crc u32        a row
//!        2 · key length u32 · key · crc u32                                  a row that is gone
//!        3 · frame u64 · head u64 · rows u64 · sum u64 · items u64 · crc u32  the end )
//! ```
//! Later items win over earlier ones, so an export of a running store is rows read while it changes,
//! followed by everything that changed meanwhile. The end says what the result must be; a stream that
//! is cut off or changed is refused before anything of it is written.

mod reader;
mod writer;

use std::io::{Read, Seek, Write};

pub use reader::Reader;
pub use writer::Writer;

use super::{
    Batch, Digest, Key, Row, Scan, Stamped, Store, StoreError, Write as Change,
    digest::{self},
};
use crate::limits::SCAN_ROWS_MAX;

/// How far something that takes long has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

/// Told now and then how far it has got.
pub type Tell<'a> = &'a dyn Fn(Progress);

/// One item of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A row is this.
    Row(Key, Vec<u8>),
    /// A row is gone.
    Gone(Key),
    /// All has been said.
    End(End),
}

/// The last item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The last frame of the log that is in the dump; 0 for engines without one.
    pub frame: u64,
    /// The highest position assigned.
    pub head: u64,
    /// The fingerprint of all rows.
    pub digest: Digest,
}

/// Rows of one commit while importing.
const IMPORT_ROWS: usize = 2_000;
/// Bytes of one commit while importing.
const IMPORT_BYTES: usize = 4 << 20;

/// Calls `each` with every row of `store`, in key order.
///
/// # Errors
/// When the engine fails, a row is damaged, or `each` fails.
pub async fn walk(
    store: &dyn Store,
    mut each: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = Key(Vec::new());
    // Rows may be large, so a page holds fewer than a scan may give.
    let limit = SCAN_ROWS_MAX / 10;
    loop {
        let scan = Scan { from, to: Key(vec![u8::MAX; 4]), reverse: false, limit };
        let rows = store.scan_many(&[scan]).await?.pop().unwrap_or_default();
        let full = rows.len() == limit;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = last.successor();
        rows.into_iter().try_for_each(&mut each)?;
        if !full {
            return Ok(());
        }
    }
}

/// The fingerprint of what is in `store`.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub async fn fingerprint(
    store: &dyn Store,
    what: &'static str,
    tell: Tell<'_>,
) -> Result<Digest, StoreError> {
    let mut found = Digest::default();
    walk(store, |(key, value)| {
        found.add(&key.0, digest::checksum(&key.0, &value));
        if found.count.is_multiple_of(1_000) {
            tell(Progress { what, done: found.count, total: None });
        }
        Ok(())
    })
    .await?;
    tell(Progress { what, done: found.count, total: Some(found.count) });
    Ok(found)
}

/// Writes everything in `store`, to which nobody may write meanwhile (the embedded engine has an export
/// for a store in use).
///
/// # Errors
/// When the engine or `out` fails, or a row is damaged.
pub async fn export<W: Write>(
    store: &dyn Store,
    server_name: &str,
    out: W,
    tell: Tell<'_>,
) -> Result<W, StoreError> {
    let mut writer = Writer::new(out, server_name)?;
    let mut digest = Digest::default();
    walk(store, |(key, value)| {
        digest.add(&key.0, digest::checksum(&key.0, &value));
        if digest.count.is_multiple_of(1_000) {
            tell(Progress { what: "writing rows", done: digest.count, total: None });
        }
        writer.row(&key, &value)
    })
    .await?;
    let head = store.head().await?.0;
    writer.finish(End { frame: 0, head, digest })
}

/// Reads a dump into `store`, which must be empty, and gives its last item. The whole dump is checked
/// before anything is written, and the store is counted afterwards.
///
/// # Errors
/// [`StoreError::Unusable`] when the store is not empty or the dump not for this server;
/// [`StoreError::Corrupt`] when the dump is damaged or the store does not hold afterwards what it says.
pub async fn import<R: Read + Seek>(
    store: &dyn Store,
    server_name: &str,
    mut input: R,
    tell: Tell<'_>,
) -> Result<End, StoreError> {
    let probe = Scan { from: Key(Vec::new()), to: Key(vec![u8::MAX; 4]), reverse: false, limit: 1 };
    if store.scan_many(&[probe]).await?.pop().is_some_and(|rows| !rows.is_empty()) {
        return Err(StoreError::Unusable("an import needs an empty store".to_owned()));
    }
    let mut checked = 0;
    let mut reader = Reader::new(&mut input, server_name)?;
    let end = loop {
        match reader.item()? {
            Item::End(end) => break end,
            _ => checked += 1,
        }
        if checked % 1_000 == 0 {
            tell(Progress { what: "checking the dump", done: checked, total: None });
        }
    };
    drop(reader);
    input.rewind().map_err(StoreError::engine)?;
    let mut reader = Reader::new(&mut input, server_name)?;
    let mut done = 0;
    let mut writes = Vec::new();
    let mut bytes = 0;
    loop {
        let item = reader.item()?;
        let ended = matches!(item, Item::End(_));
        match item {
            Item::Row(key, value) => {
                bytes += key.0.len() + value.len();
                writes.push(Change::Put(Stamped::plain(key.0), Stamped::plain(value)));
            }
            Item::Gone(key) => writes.push(Change::Delete(key)),
            Item::End(_) => {}
        }
        if ended || writes.len() >= IMPORT_ROWS || bytes >= IMPORT_BYTES {
            done += writes.len() as u64;
            let batch = Batch { expects: Vec::new(), writes: std::mem::take(&mut writes), slots: 0 };
            store.commit(vec![batch]).await?;
            bytes = 0;
            tell(Progress { what: "reading rows", done, total: Some(checked) });
        }
        if ended {
            break;
        }
    }
    raise_head(store, end.head).await?;
    expect_digest(store, end.digest, tell).await?;
    Ok(end)
}

/// Makes the head at least `head`.
pub(super) async fn raise_head(store: &dyn Store, head: u64) -> Result<(), StoreError> {
    let now = store.head().await?.0;
    if now < head {
        store.reserve(head - now).await?;
    }
    Ok(())
}

/// Counts the rows and refuses when they are not what they should be.
pub(super) async fn expect_digest(
    store: &dyn Store,
    expected: Digest,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let found = fingerprint(store, "counting rows", tell).await?;
    match found == expected {
        true => Ok(()),
        false => Err(StoreError::Corrupt(format!(
            "there are {} rows with fingerprint {:016x}; there should be {} with {:016x}",
            found.count, found.sum, expected.count, expected.sum
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::store::{
        Memory,
        conformance::{all, batch, put, run},
    };

    fn some_store() -> Memory {
        let store = Memory::new();
        run(async {
            for n in 0..50_u8 {
                let name = format!("row{n:02}");
                store.commit(vec![batch(vec![put(&name, &vec![n; usize::from(n) * 90])], 1)]).await.unwrap();
            }
        });
        store
    }

    #[test]
    fn a_dump_gives_the_same_store() {
        let store = some_store();
        run(async {
            let dump = export(&store, "example.org", Vec::new(), &|_| {}).await.unwrap();
            let copy = Memory::new();
            let end = import(&copy, "example.org", Cursor::new(&dump), &|_| {}).await.unwrap();
            assert_eq!(end.digest.count, 50);
            assert_eq!(all(&copy).await, all(&store).await);
            assert_eq!(copy.head().await.unwrap(), store.head().await.unwrap());
            let again = import(&copy, "example.org", Cursor::new(&dump), &|_| {}).await.unwrap_err();
            assert!(again.to_string().contains("empty store"), "{again}");
            let other = import(&Memory::new(), "example.com", Cursor::new(&dump), &|_| {}).await.unwrap_err();
            assert!(other.to_string().contains("`example.org`"), "{other}");
        });
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused_before_anything_is_written() {
        let store = some_store();
        run(async {
            let dump = export(&store, "example.org", Vec::new(), &|_| {}).await.unwrap();
            let mut broken: Vec<Vec<u8>> = (0..dump.len()).step_by(3).map(|at| dump[..at].to_vec()).collect();
            for at in 0..dump.len() {
                let mut flipped = dump.clone();
                flipped[at] ^= 0x20;
                broken.push(flipped);
            }
            broken.push([dump.as_slice(), b"more"].concat());
            broken.push(vec![0; 64]);
            for dump in broken {
                let copy = Memory::new();
                match import(&copy, "example.org", Cursor::new(&dump), &|_| {}).await {
                    Err(_) => assert!(all(&copy).await.is_empty()),
                    // A bit of zstd's own that does not matter.
                    Ok(_) => assert_eq!(all(&copy).await, all(&store).await),
                }
            }
        });
    }
}
