//! Numbered batches whose effect is known, so that a store tells after any accident whether it still holds
//! what it promised: after batch `n` its content is [`content`]`(n)` and nothing else.

use std::{collections::BTreeMap, path::Path};

use lockstep::{
    store::{
        Batch, Key, Row, Scan, Stamped, Store, StoreError, Write,
        embedded::{self, Settings},
        table::TableId,
    },
    types::Position,
};

/// How long before their removal the rows of a batch live that do not stay.
const LIFE: u64 = 40;
/// Every so many batches write a value of 200 KB.
const BIG_EVERY: u64 = 7;

/// Small segments, so that they are finished and collected while somebody watches.
#[must_use]
pub fn settings(folder: &Path) -> Settings {
    Settings {
        segment_bytes: 256 << 10,
        checkpoint_every: std::time::Duration::from_millis(150),
        cache_bytes: 8 << 20,
        ..embedded::Settings::new(folder, "example.org")
    }
}

fn key(kind: &str, number: u64) -> Key {
    Key::new(TableId::Meta, &(kind.to_owned(), number))
}

/// Bytes that do not compress and are the same for the same number.
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn puts(number: u64) -> Vec<(Key, Vec<u8>)> {
    let mut rows = vec![
        (key("stays", number), noise(number, 700)),
        (key("goes", number), noise(number + 1, 100)),
        (key("hot", number % 5), noise(number + 2, 90)),
        (key("last", 0), number.to_be_bytes().to_vec()),
    ];
    if number.is_multiple_of(BIG_EVERY) {
        // Over and over in the same three places: segments must be collected.
        rows.push((key("big", number / BIG_EVERY % 3), noise(number + 3, 200_000)));
    }
    rows
}

/// Batch `number`, from 1 on.
#[must_use]
pub fn batch(number: u64) -> Batch {
    let put = |(key, value): Row| Write::Put(Stamped::plain(key.0), Stamped::plain(value));
    let mut writes: Vec<Write> = puts(number).into_iter().map(put).collect();
    if let Some(old) = number.checked_sub(LIFE).filter(|old| *old > 0) {
        writes.push(Write::Delete(key("goes", old)));
    }
    Batch { expects: Vec::new(), writes, slots: 1 }
}

/// Everything that a store holds after batch `number`.
#[must_use]
pub fn content(number: u64) -> BTreeMap<Key, Vec<u8>> {
    let mut rows: BTreeMap<Key, Vec<u8>> = (1..=number).flat_map(puts).collect();
    for old in 1..=number.saturating_sub(LIFE) {
        rows.remove(&key("goes", old));
    }
    rows
}

/// Everything that `store` holds.
pub async fn all(store: &dyn Store) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
    let mut rows = BTreeMap::new();
    let mut from = Key(Vec::new());
    loop {
        let scan = Scan { from, to: Key(vec![u8::MAX]), reverse: false, limit: 500 };
        let page = store.scan_many(&[scan]).await?.pop().unwrap_or_default();
        let Some((last, _)) = page.last() else { return Ok(rows) };
        from = last.successor();
        rows.extend(page);
    }
}

/// The number of the last batch that is in `store`; 0 for none.
pub async fn last(store: &dyn Store) -> Result<u64, StoreError> {
    let found = store.get_many(&[key("last", 0)]).await?.pop().flatten();
    let bytes = found.and_then(|value| value.try_into().ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

/// Insists that `store` holds whole batches, at least up to `acknowledged`, and gives the last.
///
/// # Panics
/// When it does not.
pub async fn verify(store: &dyn Store, acknowledged: u64) -> Result<u64, StoreError> {
    let number = last(store).await?;
    assert!(number >= acknowledged, "batch {acknowledged} was acknowledged, the store ends at {number}");
    let (found, expected) = (all(store).await?, content(number));
    for (key, value) in &expected {
        assert!(found.get(key) == Some(value), "row {:02x?} after batch {number}", key.0);
    }
    assert_eq!(found.len(), expected.len(), "rows that should not be there, after batch {number}");
    let head = store.head().await?;
    assert!(head >= Position(number), "{head} is below what was handed out after batch {number}");
    Ok(number)
}
