//! Reading a dump.

use std::io::{BufReader, Read};

use zstd::stream::read::Decoder;

use super::{End, Item};
use crate::store::{Digest, Key, SCHEMA_VERSION, StoreError};

pub(super) const MAGIC: [u8; 8] = *b"LSdump01";
pub(super) const ROW: u8 = 1;
pub(super) const GONE: u8 = 2;
pub(super) const END: u8 = 3;
/// No key or value is longer; a damaged length must not ask for the memory.
const LENGTH_MAX: usize = 1 << 30;

/// Reads items one by one.
pub struct Reader<R: Read> {
    input: Decoder<'static, BufReader<R>>,
    hasher: crc32fast::Hasher,
    items: u64,
}

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Opens a dump of that server's store.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it is no dump, of a newer version, or of another server.
    pub fn new(input: R, server_name: &str) -> Result<Self, StoreError> {
        let input = Decoder::new(input).map_err(StoreError::engine)?;
        let mut reader = Self { input, hasher: crc32fast::Hasher::new(), items: 0 };
        let magic: [u8; 8] = reader.array().map_err(|_| no_dump())?;
        if magic != MAGIC {
            return Err(no_dump());
        }
        let schema = u32::from_le_bytes(reader.array()?);
        let length = reader.length()?;
        let name = reader.bytes(length)?;
        reader.check()?;
        if schema > SCHEMA_VERSION {
            return Err(StoreError::Unusable(format!(
                "the dump was written by a newer version (schema {schema}; this one knows {SCHEMA_VERSION})"
            )));
        }
        if name != server_name.as_bytes() {
            let name = String::from_utf8_lossy(&name);
            return Err(StoreError::Unusable(format!(
                "the dump is of the server `{name}`, not of `{server_name}`"
            )));
        }
        Ok(reader)
    }

    /// The next item; after [`Item::End`] there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the dump is cut off or damaged.
    pub fn item(&mut self) -> Result<Item, StoreError> {
        let [tag] = self.array()?;
        let item = match tag {
            ROW => {
                let (key, value) = (self.length()?, self.length()?);
                Item::Row(Key(self.bytes(key)?), self.bytes(value)?)
            }
            GONE => {
                let key = self.length()?;
                Item::Gone(Key(self.bytes(key)?))
            }
            END => {
                let mut number = || self.array().map(u64::from_le_bytes);
                let (frame, head) = (number()?, number()?);
                let digest = Digest { count: number()?, sum: number()? };
                let items = number()?;
                self.check()?;
                let mut more = [0];
                let rest = self.input.read(&mut more).map_err(damaged)?;
                if items != self.items || rest > 0 {
                    return Err(damaged("there are more or fewer items than there should be"));
                }
                return Ok(Item::End(End { frame, head, digest }));
            }
            _ => return Err(damaged("unknown item")),
        };
        self.check()?;
        self.items += 1;
        Ok(item)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(damaged)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, StoreError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        match length <= LENGTH_MAX {
            true => Ok(length),
            false => Err(damaged("a length makes no sense")),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length as u64).read_to_end(&mut bytes).map_err(damaged)?;
        if read < length {
            return Err(damaged("it ends too early"));
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn check(&mut self) -> Result<(), StoreError> {
        let expected = std::mem::replace(&mut self.hasher, crc32fast::Hasher::new()).finalize();
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes).map_err(damaged)?;
        match u32::from_le_bytes(bytes) == expected {
            true => Ok(()),
            false => Err(damaged("a checksum is wrong")),
        }
    }
}

fn no_dump() -> StoreError {
    StoreError::Unusable("this is not a dump of a Lockstep store".to_owned())
}

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("the dump: {what}"))
}
