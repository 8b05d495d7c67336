//! Writing a dump.

use std::io::{self, Write};

use zstd::stream::write::Encoder;

use super::{End, reader};
use crate::store::{Key, SCHEMA_VERSION, StoreError};

const LEVEL: i32 = 3;

/// Writes items one by one.
pub struct Writer<W: Write> {
    out: Encoder<'static, W>,
    items: u64,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a dump of that server's store.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(out: W, server_name: &str) -> Result<Self, StoreError> {
        let mut out = Encoder::new(out, LEVEL).map_err(StoreError::engine)?;
        out.include_checksum(true).map_err(StoreError::engine)?;
        let mut header = reader::MAGIC.to_vec();
        header.extend_from_slice(&SCHEMA_VERSION.to_le_bytes());
        header.extend_from_slice(&length(server_name.as_bytes())?);
        header.extend_from_slice(server_name.as_bytes());
        let mut writer = Self { out, items: 0 };
        writer.checked(&[&header])?;
        Ok(writer)
    }

    fn checked(&mut self, parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut hasher = crc32fast::Hasher::new();
        let written: io::Result<()> = parts.iter().try_for_each(|part| {
            hasher.update(part);
            self.out.write_all(part)
        });
        written
            .and_then(|()| self.out.write_all(&hasher.finalize().to_le_bytes()))
            .map_err(StoreError::engine)
    }

    /// A row is this.
    ///
    /// # Errors
    /// When the output fails.
    pub fn row(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError> {
        self.items += 1;
        self.checked(&[&[reader::ROW], &length(&key.0)?, &length(value)?, &key.0, value])
    }

    /// A row is gone.
    ///
    /// # Errors
    /// When the output fails.
    pub fn gone(&mut self, key: &Key) -> Result<(), StoreError> {
        self.items += 1;
        self.checked(&[&[reader::GONE], &length(&key.0)?, &key.0])
    }

    /// Ends the dump and gives the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self, end: End) -> Result<W, StoreError> {
        let numbers = [end.frame, end.head, end.digest.count, end.digest.sum, self.items];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.checked(&[&[reader::END], &numbers])?;
        let mut out = self.out.finish().map_err(StoreError::engine)?;
        out.flush().map_err(StoreError::engine)?;
        Ok(out)
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4], StoreError> {
    let length =
        u32::try_from(bytes.len()).map_err(|_| StoreError::engine("a row is longer than four gibibytes"))?;
    Ok(length.to_le_bytes())
}
