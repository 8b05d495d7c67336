//! What is owed to a server, cut into what one transaction holds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use ruma::{OwnedRoomId, OwnedUserId};

use super::lists::Met;
use crate::{
    limits::{TRANSACTION_BYTES_MAX, TRANSACTION_EDUS_MAX, TRANSACTION_PDUS_MAX},
    store::StoreError,
    types::Position,
};

/// What a page owes to a server.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
    /// Up to where the server has then been told of whose devices.
    pub(super) told: Vec<(OwnedUserId, Position)>,
    /// Of whom is told with the next parcel that is sent anyway.
    pub(super) waiting: Met,
    /// Who types where, and of which of them the server is told with this.
    pub(super) typing: Vec<(OwnedRoomId, BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>)>,
}

/// What goes into one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) pdus: Vec<Box<RawValue>>,
    pub(super) edus: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Edu<'a, C> {
    edu_type: &'a str,
    content: C,
}

impl Parcel {
    pub(super) fn is_empty(&self) -> bool {
        self.pdus.is_empty() && self.edus.is_empty()
    }

    pub(super) fn edu(&mut self, edu_type: &str, content: impl Serialize) -> Result<(), StoreError> {
        self.edus.push(to_raw_value(&Edu { edu_type, content }).map_err(StoreError::engine)?);
        Ok(())
    }

    /// The transactions: one, unless there is more than one may carry. An empty parcel is one too.
    pub(super) fn parts(self) -> Vec<Part> {
        let mut pdus = cut(self.pdus, TRANSACTION_PDUS_MAX).into_iter();
        let mut edus = cut(self.edus, TRANSACTION_EDUS_MAX).into_iter();
        let count = pdus.len().max(edus.len()).max(1);
        (0..count)
            .map(|_| Part { pdus: pdus.next().unwrap_or_default(), edus: edus.next().unwrap_or_default() })
            .collect()
    }
}

/// Cuts a list into pieces of at most `count` items and half a transaction's bytes; an item that is larger goes alone.
fn cut(items: Vec<Box<RawValue>>, count: usize) -> Vec<Vec<Box<RawValue>>> {
    let (mut pieces, mut bytes): (Vec<Vec<Box<RawValue>>>, usize) = (Vec::new(), 0);
    for item in items {
        let size = item.get().len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < count && bytes + size <= TRANSACTION_BYTES_MAX / 2 => {
                bytes += size;
                piece.push(item);
            }
            _ => {
                bytes = size;
                pieces.push(vec![item]);
            }
        }
    }
    pieces
}

impl Part {
    /// Two halves, the EDUs first; a single item comes back as it is.
    pub(super) fn halves(self) -> Result<[Self; 2], Self> {
        let Self { pdus, edus } = &self;
        let half = (pdus.len() + edus.len()) / 2;
        if half == 0 {
            return Err(self);
        }
        let (first, second) = edus.split_at(half.min(edus.len()));
        let (early, late) = pdus.split_at(half - first.len());
        Ok([(early, first), (late, second)]
            .map(|(pdus, edus)| Self { pdus: pdus.to_vec(), edus: edus.to_vec() }))
    }

    /// What kind of thing a single item is, for the log.
    pub(super) fn kind(&self) -> String {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(alias = "edu_type", rename = "type")]
            kind: String,
        }
        let item = self.edus.first().or(self.pdus.first()).map_or("", |item| item.get());
        let kind = serde_json::from_str::<Kind>(item).map_or_else(|_| "nothing".into(), |kind| kind.kind);
        format!("{kind} ({} bytes)", item.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(count: usize, bytes: usize) -> Vec<Box<RawValue>> {
        let item = |n: usize| to_raw_value(&json!({ "n": n, "filling": "x".repeat(bytes) })).unwrap();
        (0..count).map(item).collect()
    }

    fn texts(items: &[Box<RawValue>]) -> Vec<&str> {
        items.iter().map(|item| item.get()).collect()
    }

    #[track_caller]
    fn check(parcel: Parcel, expected: &[(usize, usize)]) {
        let (pdus, edus) = (parcel.pdus.clone(), parcel.edus.clone());
        let parts = parcel.parts();
        let sizes: Vec<_> = parts.iter().map(|part| (part.pdus.len(), part.edus.len())).collect();
        assert_eq!(sizes, expected);
        let all =
            |of: fn(&Part) -> &Vec<Box<RawValue>>| parts.iter().flat_map(of).cloned().collect::<Vec<_>>();
        assert_eq!(texts(&all(|part| &part.pdus)), texts(&pdus));
        assert_eq!(texts(&all(|part| &part.edus)), texts(&edus));
    }

    #[test]
    fn a_parcel_becomes_transactions_that_hold_so_many_and_so_much() {
        let parcel = |pdus, edus| Parcel { pdus, edus, ..Parcel::default() };
        check(Parcel::default(), &[(0, 0)]);
        check(parcel(items(51, 1), items(101, 1)), &[(50, 100), (1, 1)]);
        let third = TRANSACTION_BYTES_MAX / 2 / 3;
        check(parcel(Vec::new(), items(5, third)), &[(0, 2), (0, 2), (0, 1)]);
        check(parcel(items(1, 1), items(2, TRANSACTION_BYTES_MAX)), &[(1, 1), (0, 1)]);
    }

    #[test]
    fn halves_are_smaller_and_nothing_is_lost() {
        let mut parts = vec![Part { pdus: items(3, 1), edus: items(4, 1) }];
        let mut single = Vec::new();
        while let Some(part) = parts.pop() {
            match part.halves() {
                Ok([first, second]) => parts.extend([second, first]),
                Err(part) => single.push(part),
            }
        }
        let counts: Vec<_> = single.iter().map(|part| (part.pdus.len(), part.edus.len())).collect();
        assert_eq!(counts, [vec![(0, 1); 4], vec![(1, 0); 3]].concat());
    }
}
