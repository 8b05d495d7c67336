//! What a committer hands to an engine: expectations and writes, all or nothing.

use super::Key;
use crate::types::Position;

/// Bytes with at most one place where the engine writes a position, big-endian, when it assigns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The bytes, with eight zero bytes where the position goes.
    pub bytes: Vec<u8>,
    /// Offset of those eight bytes, and which of the batch's positions they take (0 is the first).
    pub stamp: Option<(usize, u32)>,
}

impl Stamped {
    /// Bytes that carry no position.
    #[must_use]
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, stamp: None }
    }

    /// `before`, then position number `slot` of the batch, then `after`.
    #[must_use]
    pub fn around(mut before: Vec<u8>, slot: u32, after: &[u8]) -> Self {
        let offset = before.len();
        before.extend_from_slice(&[0; 8]);
        before.extend_from_slice(after);
        Self { bytes: before, stamp: Some((offset, slot)) }
    }

    /// The bytes with the position filled in, given the batch's first position.
    #[must_use]
    pub fn fill(mut self, first: Position) -> Vec<u8> {
        if let Some((offset, slot)) = self.stamp {
            let position = first.0 + u64::from(slot);
            self.bytes[offset..offset + 8].copy_from_slice(&position.to_be_bytes());
        }
        self.bytes
    }
}

/// What must hold at the moment of writing; otherwise the whole batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no such row.
    Absent(Key),
    /// The row exists and has this value.
    Equals(Key, Vec<u8>),
}

impl Expect {
    /// The row that is looked at.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Equals(key, _) => key,
        }
    }

    /// Whether `found` is what was expected.
    #[must_use]
    pub fn holds(&self, found: Option<&[u8]>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Equals(_, value) => found == Some(value.as_slice()),
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a row.
    Put(Stamped, Stamped),
    /// Removes a row; a row that is not there is fine.
    Delete(Key),
    /// Removes every row from the first key up to, not including, the second.
    DeleteRange(Key, Key),
    /// Overwrites a register: the row `lane ++ old position` goes, `lane ++ new position` comes with
    /// `value`, and `index` (which holds the position as eight bytes) points at it.
    Register {
        /// The row that holds the register's present position.
        index: Key,
        /// The key of the register's row without its trailing position.
        lane: Vec<u8>,
        /// The value of the row.
        value: Vec<u8>,
        /// Which of the batch's positions the row takes.
        slot: u32,
    },
}

/// What one request wants written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Conditions, judged in order.
    pub expects: Vec<Expect>,
    /// Changes, applied in order.
    pub writes: Vec<Write>,
    /// How many positions the batch takes.
    pub slots: u32,
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written; its positions begin here (for a batch without positions: the head).
    Done {
        /// The first position of the batch.
        first: Position,
    },
    /// Expectation number `expect` did not hold; `found` is what the row holds.
    Refused {
        /// Index into [`Batch::expects`].
        expect: usize,
        /// The row's value, if there is one.
        found: Option<Vec<u8>>,
    },
}
