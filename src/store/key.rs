//! Keys: one table byte, then fields in an encoding whose byte order is the fields' order.
//!
//! Numbers are big-endian. In strings a zero byte becomes `00 FF`, and `00 00` ends the string, so that
//! a string sorts before every longer one that begins with it, whatever field comes next.

use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId};

use super::table::TableId;
use crate::types::Position;

/// A whole key: table byte and fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// The key of a row, or the beginning that several rows share.
    #[must_use]
    pub fn new<F: KeyFields>(table: TableId, fields: &F) -> Self {
        let mut writer = KeyWriter::new(table);
        fields.write(&mut writer);
        writer.finish()
    }

    /// The first key after every key that begins with this one.
    #[must_use]
    pub fn after_prefix(&self) -> Self {
        let mut bytes = self.0.clone();
        while let Some(last) = bytes.pop() {
            if last < u8::MAX {
                bytes.push(last + 1);
                break;
            }
        }
        // Only a key of nothing but FF bytes has no successor, and no table has the number FF.
        Self(bytes)
    }

    /// The key right after this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut bytes = self.0.clone();
        bytes.push(0);
        Self(bytes)
    }
}

/// Builds a key field by field.
#[derive(Debug)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// A key of `table` without fields yet.
    #[must_use]
    pub fn new(table: TableId) -> Self {
        Self(vec![table as u8])
    }

    /// Appends a string.
    pub fn string(&mut self, text: &str) {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self.0.extend_from_slice(&[0, 0]);
    }

    /// Appends bytes as they are; only for a last field or one of fixed length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The finished key.
    #[must_use]
    pub fn finish(self) -> Key {
        Key(self.0)
    }
}

/// Takes a key apart.
#[derive(Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Starts after the table byte.
    #[must_use]
    pub fn new(key: &'a Key) -> Self {
        Self(key.0.get(1..).unwrap_or_default())
    }

    /// The next field as a string.
    pub fn string(&mut self) -> Option<String> {
        let mut text = Vec::new();
        let mut at = 0;
        loop {
            match (self.0.get(at)?, self.0.get(at + 1)) {
                (0, Some(0)) => {
                    self.0 = &self.0[at + 2..];
                    return String::from_utf8(text).ok();
                }
                (0, Some(0xFF)) => {
                    text.push(0);
                    at += 2;
                }
                (0, _) => return None,
                (byte, _) => {
                    text.push(*byte);
                    at += 1;
                }
            }
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// One field of a key.
pub trait Field: Sized {
    /// Appends the field.
    fn write(&self, writer: &mut KeyWriter);
    /// Reads the field back; `None` when the bytes are not such a field.
    fn read(reader: &mut KeyReader<'_>) -> Option<Self>;
}

impl Field for String {
    fn write(&self, writer: &mut KeyWriter) {
        writer.string(self);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        reader.string()
    }
}

macro_rules! identifier_fields {
    ($($id:ty),*) => {$(
        impl Field for $id {
            fn write(&self, writer: &mut KeyWriter) {
                writer.string(self.as_str());
            }

            fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
                reader.string()?.try_into().ok()
            }
        }
    )*};
}
identifier_fields!(OwnedUserId, OwnedRoomId, OwnedEventId, OwnedServerName, OwnedRoomAliasId);

impl Field for OwnedDeviceId {
    fn write(&self, writer: &mut KeyWriter) {
        writer.string(self.as_str());
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        Some(reader.string()?.into())
    }
}

impl Field for u64 {
    fn write(&self, writer: &mut KeyWriter) {
        writer.raw(&self.to_be_bytes());
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        reader.array().map(Self::from_be_bytes)
    }
}

impl Field for Position {
    fn write(&self, writer: &mut KeyWriter) {
        writer.raw(&self.to_bytes());
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        reader.array().map(u64::from_be_bytes).map(Self)
    }
}

impl<const N: usize> Field for [u8; N] {
    fn write(&self, writer: &mut KeyWriter) {
        writer.raw(self);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        reader.array()
    }
}

/// The fields of a key, or the first few of them: a tuple of [`Field`]s.
pub trait KeyFields: Sized {
    /// Appends the fields.
    fn write(&self, writer: &mut KeyWriter);
    /// Reads the fields back.
    fn read(reader: &mut KeyReader<'_>) -> Option<Self>;
}

macro_rules! tuple_keys {
    ($(($($name:ident),*)),*) => {$(
        impl<$($name: Field),*> KeyFields for ($($name,)*) {
            #[expect(non_snake_case, reason = "the macro binds fields by their type's name")]
            fn write(&self, writer: &mut KeyWriter) {
                let ($($name,)*) = self;
                $($name.write(writer);)*
            }

            fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
                Some(($($name::read(reader)?,)*))
            }
        }
    )*};
}
impl KeyFields for () {
    fn write(&self, _: &mut KeyWriter) {}

    fn read(_: &mut KeyReader<'_>) -> Option<Self> {
        Some(())
    }
}
tuple_keys!((A), (A, B), (A, B, C), (A, B, C, D));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn byte_order_is_tuple_order(a: (String, u64, String), b: (String, u64, String)) {
            let (left, right) = (Key::new(TableId::Meta, &a), Key::new(TableId::Meta, &b));
            // Rust compares strings by bytes, so the tuples' own order is the expected one.
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(<(String, u64, String)>::read(&mut KeyReader::new(&left)), Some(a));
        }

        #[test]
        fn prefix_range_holds_exactly_the_prefix(a: String, b: String, n: u64) {
            let prefix = Key::new(TableId::Meta, &(a.clone(),));
            let row = Key::new(TableId::Meta, &(b.clone(), n));
            prop_assert_eq!(row >= prefix && row < prefix.after_prefix(), a == b);
        }
    }
}
