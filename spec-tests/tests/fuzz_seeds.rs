//! What the fuzz targets check, over their seeds and random changes of them: without a fuzzer, on any
//! toolchain, in a few seconds. `FUZZ_ROUNDS` says how many changes of each seed (default 2,000), `FUZZ_SEED`
//! repeats a run.

use std::{fs, path::Path};

#[path = "../fuzz/src/checks.rs"]
mod checks;
#[path = "../fuzz/src/federation.rs"]
mod federation;

/// Pieces that texts of this kind are made of.
const PIECES: [&str; 24] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-1",
    "1.5",
    "1e400",
    "9007199254740992",
    "\\u0000",
    "\\ud800",
    "é",
    "@a:b",
    "!r:b",
    "$e",
    "#x:b",
    ":",
    "*",
    "m.room.member",
    "m.room.create",
    "\"state_key\":\"\",",
    "\n",
    "\0",
];

/// A small generator of numbers (SplitMix64), so that a seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or(0)
    }
}

fn run(name: &str, check: fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number("FUZZ_ROUNDS").unwrap_or(2_000);
    println!("{name}: FUZZ_SEED={seed}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the seeds lie beside the targets")
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has seeds");
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a seed can be read")).collect();
    let mut random = Random(seed);
    for first in &seeds {
        check(first);
        for _ in 0..rounds {
            let mut data = first.clone();
            for _ in 0..=random.below(4) {
                change(&mut data, &seeds, &mut random);
            }
            check(&data);
        }
    }
}

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let end = (at + random.below(24)).min(data.len());
    match random.below(6) {
        0 => data.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => drop(data.drain(at..end)),
        2 => drop(data.splice(at..end, PIECES[random.below(PIECES.len())].bytes())),
        3 => drop(data.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        4 => {
            let piece = data[at..end].to_vec();
            let place = random.below(data.len() + 1);
            data.splice(place..place, piece);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            data.splice(at..end, other[from..to].iter().copied());
        }
    }
}

#[test]
fn events() {
    run("pdu", checks::pdu);
}

#[test]
fn sync_tokens_and_filters() {
    run("sync", checks::sync);
}

#[test]
fn identifiers() {
    run("ids", checks::ids);
}

#[test]
fn transactions() {
    run("transaction", federation::transaction);
}

#[test]
fn answers_of_other_servers() {
    run("response", federation::response);
}

#[test]
fn proofs_of_who_asks() {
    run("x_matrix", federation::x_matrix);
}

#[test]
fn names_of_servers() {
    run("server_names", federation::server_names);
}
