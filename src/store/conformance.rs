//! What every engine must do: one suite of cases and one random model, for all of them.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};

use super::{Batch, Digest, Expect, Key, Outcome, Row, Scan, Stamped, Store, Write, digest, needed, resolve};
use crate::types::Position;

/// Runs `future` to its end on a runtime of its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// A key of the table byte 01.
pub(crate) fn key(name: &str) -> Key {
    Key([&[1], name.as_bytes()].concat())
}

/// A write that sets a row.
pub(crate) fn put(name: &str, value: &[u8]) -> Write {
    Write::Put(Stamped::plain(key(name).0), Stamped::plain(value.to_vec()))
}

/// A batch without expectations.
pub(crate) fn batch(writes: Vec<Write>, slots: u32) -> Batch {
    Batch { expects: Vec::new(), writes, slots }
}

/// Everything in the store.
pub(crate) async fn all(store: &dyn Store) -> Vec<Row> {
    let scan = Scan { from: Key(vec![0]), to: Key(vec![0xFF]), reverse: false, limit: usize::MAX >> 1 };
    store.scan_many(&[scan]).await.unwrap().remove(0)
}

/// The fingerprint of `rows`.
pub(crate) fn digest_of(rows: &[Row]) -> Digest {
    let mut sum = Digest::default();
    rows.iter().for_each(|(key, value)| sum.add(&key.0, digest::checksum(&key.0, value)));
    sum
}

async fn get(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    store.get_many(&[key(name)]).await.unwrap().remove(0)
}

/// The cases. `store` is empty; `reopen` closes a store and opens it again.
pub(crate) async fn suite(store: Box<dyn Store>, reopen: impl AsyncFn(Box<dyn Store>) -> Box<dyn Store>) {
    assert_eq!(store.head().await.unwrap(), Position(0));
    assert!(store.commit(Vec::new()).await.unwrap().outcomes.is_empty());
    stamps_and_positions(&*store).await;
    expectations(&*store).await;
    scans(&*store).await;
    big_values(&*store).await;
    registers_and_ranges(&*store).await;
    let head = store.head().await.unwrap();
    let rows = all(&*store).await;
    let first = store.reserve(3).await.unwrap();
    assert!(first > head);
    let store = reopen(store).await;
    assert_eq!(all(&*store).await, rows);
    let reserved = store.head().await.unwrap();
    assert!(reserved.0 >= first.0 + 2, "reserved positions are not handed out again");
    let committed = store.commit(vec![batch(vec![put("after", b"x")], 2)]).await.unwrap();
    assert_eq!(committed.outcomes, [Outcome::Done { first: Position(reserved.0 + 1) }]);
    assert_eq!(committed.head, Position(reserved.0 + 2));
    store.close().await.unwrap();
}

async fn stamps_and_positions(store: &dyn Store) {
    let stamped =
        Write::Put(Stamped::around(key("stamp-").0, 1, b"!"), Stamped::around(b"at ".to_vec(), 0, b""));
    let committed =
        store.commit(vec![batch(vec![stamped], 2), batch(vec![put("two", b"2")], 1)]).await.unwrap();
    assert_eq!(committed.head, Position(3));
    let first = |n| Outcome::Done { first: Position(n) };
    assert_eq!(committed.outcomes, [first(1), first(3)]);
    let name = Key([key("stamp-").0, 2_u64.to_be_bytes().to_vec(), b"!".to_vec()].concat());
    let value = store.get_many(&[name]).await.unwrap().remove(0);
    assert_eq!(value, Some([b"at ".as_slice(), &1_u64.to_be_bytes()].concat()));
    let committed = store.commit(vec![batch(vec![put("two", b"22")], 0)]).await.unwrap();
    assert_eq!(committed.outcomes, [first(3)], "a batch without positions gives the head");
}

async fn expectations(store: &dyn Store) {
    let claim =
        |expect, value: &[u8]| Batch { expects: vec![expect], writes: vec![put("name", value)], slots: 0 };
    let group = vec![
        claim(Expect::Absent(key("name")), b"one"),
        claim(Expect::Absent(key("name")), b"two"),
        claim(Expect::Equals(key("name"), b"one".to_vec()), b"three"),
        claim(Expect::Equals(key("nobody"), b"".to_vec()), b"four"),
    ];
    let outcomes = store.commit(group).await.unwrap().outcomes;
    assert!(matches!(outcomes[0], Outcome::Done { .. }));
    assert_eq!(outcomes[1], Outcome::Refused { expect: 0, found: Some(b"one".to_vec()) });
    assert!(matches!(outcomes[2], Outcome::Done { .. }));
    assert_eq!(outcomes[3], Outcome::Refused { expect: 0, found: None });
    assert_eq!(get(store, "name").await, Some(b"three".to_vec()));
}

async fn scans(store: &dyn Store) {
    let names: Vec<String> = (0..20).map(|n| format!("scan{n:02}")).collect();
    store
        .commit(vec![batch(names.iter().map(|name| put(name, name.as_bytes())).collect(), 0)])
        .await
        .unwrap();
    store
        .commit(vec![batch(vec![Write::Delete(key("scan07")), Write::Delete(key("scan99"))], 0)])
        .await
        .unwrap();
    let scan = |from: &str, to: &str, reverse, limit| Scan { from: key(from), to: key(to), reverse, limit };
    let scans = [
        scan("scan", "scan~", false, 3),
        scan("scan05", "scan10", false, 100),
        scan("scan05", "scan10", true, 2),
        scan("scan10", "scan05", false, 5),
        scan("scan", "scan~", true, 0),
        scan("scan06", "scan08", true, 9),
    ];
    let found = store.scan_many(&scans).await.unwrap();
    let short = |rows: &Vec<Row>| -> Vec<String> {
        rows.iter().map(|(_, value)| String::from_utf8_lossy(&value[4..]).into_owned()).collect()
    };
    let found: Vec<Vec<String>> = found.iter().map(short).collect();
    let expected: [&[&str]; 6] =
        [&["00", "01", "02"], &["05", "06", "08", "09"], &["09", "08"], &[], &[], &["06"]];
    assert_eq!(found, expected);
}

async fn big_values(store: &dyn Store) {
    for length in [0, 1, 39, 40, 41, 3_583, 3_584, 65_536, 200_000] {
        let noise: Vec<u8> = (0..length).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for value in [noise, vec![b'x'; length as usize]] {
            store.commit(vec![batch(vec![put("big", &value)], 0)]).await.unwrap();
            assert!(get(store, "big").await.as_ref() == Some(&value), "{length} bytes");
        }
    }
}

async fn registers_and_ranges(store: &dyn Store) {
    let register = |value: &[u8]| Write::Register {
        index: key("register"),
        lane: key("lane").0,
        value: value.to_vec(),
        slot: 0,
    };
    for value in ["one", "two", "three"] {
        store.commit(vec![batch(vec![register(value.as_bytes())], 1)]).await.unwrap();
    }
    let lane = Scan { from: key("lane"), to: key("land"), reverse: false, limit: 9 };
    let lane = Scan { to: lane.from.after_prefix(), ..lane };
    let rows = store.scan_many(&[lane]).await.unwrap().remove(0);
    let head = store.head().await.unwrap().0.to_be_bytes();
    assert_eq!(rows, [(Key([key("lane").0, head.to_vec()].concat()), b"three".to_vec())]);
    assert_eq!(get(store, "register").await, Some(head.to_vec()));
    let wipe = batch(vec![put("scan055", b"scan"), Write::DeleteRange(key("scan03"), key("scan15"))], 0);
    store.commit(vec![wipe]).await.unwrap();
    let left = Scan { from: key("scan"), to: key("scan~"), reverse: false, limit: 99 };
    assert_eq!(store.scan_many(&[left]).await.unwrap()[0].len(), 8);
}

/// What the random model does.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Batch>),
    Scan(Scan),
    Reserve(u64),
    Reopen,
}

fn some_key() -> impl Strategy<Value = Key> {
    // Few keys, so that they meet; neighbours and prefixes of each other.
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, b'a', 0xFF]), 0..4)
        .prop_map(|rest| Key([vec![1], rest].concat()))
}

fn some_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        2 => (0_usize..6_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        1 => prop::collection::vec(any::<u8>(), 3_000..5_000),
    ]
}

fn some_write() -> impl Strategy<Value = Write> {
    let plain = |key: Key| Stamped::plain(key.0);
    prop_oneof![
        5 => (some_key(), some_value())
            .prop_map(move |(key, value)| Write::Put(plain(key), Stamped::plain(value))),
        1 => (some_key(), some_value()).prop_map(|(key, value)| {
            Write::Put(Stamped::around(key.0, 0, b""), Stamped::around(value, 1, b"z"))
        }),
        2 => some_key().prop_map(Write::Delete),
        1 => (some_key(), some_key()).prop_map(|(from, to)| Write::DeleteRange(from, to)),
        2 => (0_u8..3, some_value()).prop_map(|(n, value)| Write::Register {
            index: Key(vec![2, n]),
            lane: vec![3, n],
            value,
            slot: 1,
        }),
    ]
}

fn some_expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        some_key().prop_map(Expect::Absent),
        (some_key(), some_value()).prop_map(|(key, value)| Expect::Equals(key, value)),
    ]
}

fn some_batch() -> impl Strategy<Value = Batch> {
    let expects = prop::collection::vec(some_expect(), 0..2);
    (expects, prop::collection::vec(some_write(), 0..6)).prop_map(|(expects, writes)| Batch {
        expects,
        writes,
        slots: 2,
    })
}

fn some_step() -> impl Strategy<Value = Step> {
    let scan = (some_key(), some_key(), any::<bool>(), 0_usize..9);
    prop_oneof![
        6 => prop::collection::vec(some_batch(), 1..4).prop_map(Step::Commit),
        4 => scan.prop_map(|(from, to, reverse, limit)| Step::Scan(Scan { from, to, reverse, limit })),
        1 => (1_u64..4).prop_map(Step::Reserve),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, Vec<u8>>,
    head: Position,
}

impl Model {
    fn commit(&mut self, group: Vec<Batch>) -> Vec<Outcome> {
        let ranges = needed(&group).ranges;
        let keys_of = |(from, to): (Key, Key)| {
            self.rows.keys().filter(|key| **key >= from && **key < to).cloned().collect()
        };
        let range_keys = ranges.into_iter().map(keys_of).collect();
        let resolved = resolve(group, self.head, &self.rows, range_keys);
        for (key, value) in resolved.writes {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        self.head.0 += resolved.taken;
        resolved.outcomes
    }

    fn scan(&self, scan: &Scan) -> Vec<Row> {
        let inside = |(key, _): &(&Key, &Vec<u8>)| **key >= scan.from && **key < scan.to;
        let mut rows: Vec<Row> =
            self.rows.iter().filter(inside).map(|(k, v)| (k.clone(), v.clone())).collect();
        if scan.reverse {
            rows.reverse();
        }
        rows.truncate(scan.limit);
        rows
    }
}

/// The random model: `fresh` gives an empty store, `reopen` closes or kills one and opens it again.
pub(crate) fn model<S: Store>(cases: u32, fresh: impl Fn() -> S, reopen: impl Fn(S) -> S) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = prop::collection::vec(some_step(), 1..40);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        let mut store = fresh();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Commit(group) => {
                    let committed = runtime.block_on(store.commit(group.clone())).unwrap();
                    prop_assert_eq!(committed.outcomes, model.commit(group));
                    prop_assert_eq!(committed.head, model.head);
                }
                Step::Scan(scan) => {
                    let found =
                        runtime.block_on(store.scan_many(std::slice::from_ref(&scan))).unwrap().remove(0);
                    prop_assert_eq!(found, model.scan(&scan));
                }
                Step::Reserve(count) => {
                    let first = runtime.block_on(store.reserve(count)).unwrap();
                    prop_assert_eq!(first, model.head.next());
                    model.head.0 += count;
                }
                Step::Reopen => {
                    store = reopen(store);
                    let head = runtime.block_on(store.head()).unwrap();
                    prop_assert!(head >= model.head);
                    model.head = head;
                }
            }
        }
        let rows = runtime.block_on(all(&store));
        prop_assert_eq!(rows, model.rows.into_iter().collect::<Vec<Row>>());
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
