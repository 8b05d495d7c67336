//! Places in the log, and how far a reader has got.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A place in this server's one log: strictly increasing, never reused (not even after a crash),
/// and 0 only for "before everything". Stored big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self(0);
    /// Beyond everything that can be assigned.
    pub const MAX: Self = Self(u64::MAX);

    /// The next place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The bytes of this position in a key: big-endian, so that byte order is log order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a reader has got: everything at or below it is acknowledged.
///
/// `queue <= log`; the two differ only while a backlog of queued messages is drained in pages. The
/// text form is `s{log}` when they are equal, else `s{log}_{queue}`; it is a client's sync token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Acknowledged facts of `Append`, `Register` and `Volatile` retention.
    pub log: Position,
    /// Acknowledged facts of `Queue` retention.
    pub queue: Position,
}

impl Cursor {
    /// A cursor that has acknowledged everything up to `position`.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { log: position, queue: position }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log == self.queue {
            true => write!(f, "s{}", self.log),
            false => write!(f, "s{}_{}", self.log, self.queue),
        }
    }
}

/// The text is not a sync token of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sync token of this server")]
pub struct ParseCursorError;

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse().map(Position).map_err(|_| ParseCursorError),
            false => Err(ParseCursorError),
        };
        let rest = text.strip_prefix('s').ok_or(ParseCursorError)?;
        let cursor = match rest.split_once('_') {
            Some((log, queue)) => Self { log: number(log)?, queue: number(queue)? },
            None => Self::at(number(rest)?),
        };
        match cursor.queue <= cursor.log {
            true => Ok(cursor),
            false => Err(ParseCursorError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u64, u64)>) {
        let parsed = text.parse::<Cursor>().ok().map(|c| (c.log.0, c.queue.0));
        assert_eq!(parsed, expected, "{text}");
        if let Ok(cursor) = text.parse::<Cursor>() {
            assert_eq!(cursor.to_string(), text);
        }
    }

    #[test]
    fn tokens_round_trip_and_nonsense_is_refused() {
        check("s0", Some((0, 0)));
        check("s17", Some((17, 17)));
        check("s17_3", Some((17, 3)));
        check("s3_17", None);
        check("17", None);
        check("s", None);
        check("s-1", None);
        check("s+1", None);
        check("s1_", None);
        check("s99999999999999999999", None);
        check("", None);
    }
}
