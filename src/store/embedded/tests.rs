//! The suite and the model on this engine, and what is its own: recovery, refusals, collecting.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    Durability, Embedded, Settings,
    segment::{self, Stale},
};
use crate::store::{
    Key, Stamped, Store, StoreError, Write,
    conformance::{self, all, batch, digest_of, put, run},
    table::TableId,
};

fn settings(folder: &Path) -> Settings {
    Settings { segment_bytes: 16 << 10, cache_bytes: 4 << 20, ..Settings::new(folder, "example.org") }
}

fn open(folder: &Path) -> Embedded {
    Embedded::open(settings(folder)).unwrap()
}

#[test]
fn conforms() {
    let folder = TempDir::new().unwrap();
    run(conformance::suite(Box::new(open(folder.path())), async |store: Box<dyn Store>| {
        store.close().await.unwrap();
        drop(store);
        Box::new(open(folder.path())) as Box<dyn Store>
    }));
}

#[test]
fn conforms_when_killed_instead_of_closed() {
    let folder = TempDir::new().unwrap();
    run(conformance::suite(Box::new(open(folder.path())), async |store: Box<dyn Store>| {
        drop(store);
        Box::new(open(folder.path())) as Box<dyn Store>
    }));
}

/// A store with its folder, checkpointing after every commit when asked.
fn model(cases: u32, busy: bool, how: impl Fn(Embedded) -> Settings) {
    let folders = std::cell::RefCell::new(Vec::new());
    let fresh = || {
        let folder = TempDir::new().unwrap();
        let mut settings = settings(folder.path());
        if busy {
            settings.checkpoint_bytes = 1;
        }
        folders.borrow_mut().clear();
        folders.borrow_mut().push(folder);
        Embedded::open(settings).unwrap()
    };
    conformance::model(cases, fresh, |store| Embedded::open(how(store)).unwrap());
}

#[test]
fn behaves_like_the_model() {
    model(40, false, |store| {
        let settings = store.shared.settings.clone();
        drop(store);
        settings
    });
}

#[test]
fn behaves_like_the_model_with_constant_checkpoints_and_closing() {
    model(25, true, |store| {
        let settings = store.shared.settings.clone();
        run(store.close()).unwrap();
        drop(store);
        settings
    });
}

#[test]
fn behaves_like_the_model_when_the_index_is_always_lost() {
    model(25, true, |store| {
        let settings = store.shared.settings.clone();
        drop(store);
        fs::remove_dir_all(settings.folder.join("index")).unwrap();
        settings
    });
}

/// Writes over a few rows until segments were collected; every value is different.
fn churn(store: &Embedded, rounds: u32) {
    run(async {
        for round in 0..rounds {
            let name = |n: u32| format!("row{n:04}");
            let noise = |n: u32| -> Vec<u8> {
                (0..700_u32)
                    .map(|i| (i.wrapping_mul(n + 7).wrapping_mul(2_654_435_761) >> 11) as u8)
                    .collect()
            };
            let mut writes = vec![put(&name(round), &noise(round)), put("counter", &round.to_be_bytes())];
            writes.push(put(&format!("hot{}", round % 5), &noise(round + 1_000_000)));
            if round >= 20 && round % 3 != 0 {
                writes.push(crate::store::Write::Delete(conformance::key(&name(round - 20))));
            }
            store.commit(vec![batch(writes, 1)]).await.unwrap();
            if round % 50 == 49 {
                store.shared.checkpoint().unwrap();
                store.jobs.lock().as_ref().unwrap().try_send(super::engine::Job::Collect).unwrap();
            }
        }
    });
}

#[test]
fn collecting_gives_space_back_and_the_log_stays_complete() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    churn(&store, 1_500);
    let rows = run(all(&store));
    let live: usize = rows.iter().map(|(key, value)| key.0.len() + value.len()).sum();
    store.shared.checkpoint().unwrap();
    let numbers = segment::list(folder.path()).unwrap();
    assert!(numbers[0] > 1, "the first segment was collected: {numbers:?}");
    let total: u64 =
        numbers.iter().map(|n| fs::metadata(segment::path(folder.path(), *n)).unwrap().len()).sum();
    assert!(total < 3 * live as u64, "{total} bytes on disk for {live} bytes");
    drop(store);
    // The index is rebuilt from what is left of the log, and no deleted row comes back.
    let rebuilt = Embedded::open(Settings { rebuild_index: true, ..settings(folder.path()) }).unwrap();
    assert_eq!(run(all(&rebuilt)), rows);
    assert_eq!(rebuilt.shared.state.read().after.digest, digest_of(&rows));
}

/// How many files of the store have these bytes in them.
fn holding(folder: &Path, bytes: &[u8]) -> usize {
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        count += match file.is_dir() {
            true => holding(&file, bytes),
            false => usize::from(fs::read(&file).unwrap().windows(bytes.len()).any(|window| window == bytes)),
        };
    }
    count
}

/// Collects until nothing is worth it any more.
fn collect_all(store: &Embedded) {
    run(async {
        let is_due = || {
            let state = store.shared.state.read();
            state.segments.values().any(|segment| segment.stale == Stale::Goes)
        };
        for round in 0..10_000_u32 {
            if !is_due() {
                return;
            }
            let writes = vec![put("counter", &round.to_be_bytes())];
            store.commit(vec![batch(writes, 1)]).await.unwrap();
            store.shared.checkpoint().unwrap();
            drop(store.jobs.lock().as_ref().unwrap().try_send(super::engine::Job::Collect));
        }
        panic!("there are stale segments left");
    });
}

#[test]
fn what_was_removed_is_on_the_disk_until_the_next_scrub() {
    const SECRETS: [&[u8]; 2] =
        [b"canary-that-is-redacted-and-stands-in-the-log", b"canary-that-is-deleted-and-stands-in-the-log"];
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let event = |n: usize| Key::new(TableId::Event, &(format!("$event{n}"),));
    let row = |n: usize, value: &[u8]| Write::Put(Stamped::plain(event(n).0), Stamped::plain(value.to_vec()));
    run(async {
        for n in 0..400 {
            let text = format!("{n} is what somebody has said, which stays as long as anybody wants it");
            let value = SECRETS.get(n).map_or(text.as_bytes(), |secret| *secret);
            store.commit(vec![batch(vec![row(n, value)], 1)]).await.unwrap();
        }
        let gone = vec![row(0, b"pruned"), Write::Delete(event(1))];
        store.commit(vec![batch(gone, 1)]).await.unwrap();
    });
    store.shared.checkpoint().unwrap();
    let rows = run(all(&store));
    // Nearly everything in their segment counts, so that it is not collected.
    collect_all(&store);
    assert!(SECRETS.iter().all(|secret| holding(folder.path(), secret) > 0));
    drop(store);
    let store = open(folder.path());
    run(store.scrub()).unwrap();
    collect_all(&store);
    assert!(SECRETS.iter().all(|secret| holding(folder.path(), secret) == 0));
    let kept = |rows: Vec<crate::store::Row>| -> Vec<_> {
        rows.into_iter().filter(|(key, _)| key.0[0] == TableId::Event as u8).collect()
    };
    assert_eq!(kept(run(all(&store))), kept(rows.clone()));
    run(store.close()).unwrap();
    drop(store);
    let rebuilt = Embedded::open(Settings { rebuild_index: true, ..settings(folder.path()) }).unwrap();
    assert_eq!(kept(run(all(&rebuilt))), kept(rows));
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    run(async {
        for n in 0..10_u8 {
            store.commit(vec![batch(vec![put(&format!("row{n}"), &[n; 300])], 1)]).await.unwrap();
        }
    });
    let rows = run(all(&store));
    drop(store);
    let path = segment::path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.len() - 20;
    damaged[at] ^= 4;
    fs::write(&path, &damaged).unwrap();
    let error = Embedded::open(settings(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    fs::write(&path, &whole).unwrap();
    for tail in [b"LSf1".to_vec(), vec![0; 700], whole[32..60].to_vec()] {
        fs::write(&path, [whole.clone(), tail].concat()).unwrap();
        // A repeated frame is neither torn nor next.
        match Embedded::open(settings(folder.path())) {
            Ok(store) => assert_eq!(run(all(&store)), rows),
            Err(error) => assert!(error.to_string().contains("frame"), "{error}"),
        }
        fs::write(&path, &whole).unwrap();
    }
}

/// What a store is left with that dies after the index took a checkpoint and before the record of it was written.
fn die_before_the_record(store: Embedded, folder: &Path, commits: impl FnOnce(&Embedded)) {
    let record = fs::read(folder.join("checkpoint")).unwrap();
    commits(&store);
    store.shared.checkpoint().unwrap();
    drop(store);
    assert_ne!(fs::read(folder.join("checkpoint")).unwrap(), record);
    fs::write(folder.join("checkpoint"), record).unwrap();
}

#[test]
fn an_index_ahead_of_the_record_gives_no_position_twice() {
    // From the first record, and from a later one; with commits after the checkpoint, and without.
    for (before, after) in [(0, 0), (0, 3), (40, 0), (40, 3)] {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path());
        churn(&store, before);
        store.shared.checkpoint().unwrap();
        let mut expected = None;
        die_before_the_record(store, folder.path(), |store| {
            churn(store, 45);
            run(store.reserve(7)).unwrap();
        });
        if after > 0 {
            let store = open(folder.path());
            churn(&store, after);
            expected = Some((run(all(&store)), run(store.head()).unwrap()));
        }
        let store = open(folder.path());
        let (rows, head) = (run(all(&store)), run(store.head()).unwrap());
        assert!(head >= crate::types::Position(u64::from(before + 45 + 7 + after)), "{head}");
        assert_eq!(store.shared.state.read().after.digest, digest_of(&rows));
        if let Some((expected, handed_out)) = expected {
            assert_eq!(rows, expected);
            assert!(head >= handed_out);
        }
        run(store.close()).unwrap();
        drop(store);
        let report = run(super::check(settings(folder.path()), &|_| {})).unwrap();
        assert_eq!((report.rows, report.problem_count), (rows.len() as u64, 0), "{:?}", report.problems);
    }
}

#[test]
fn an_index_ahead_of_the_record_still_forgets_what_was_removed() {
    const SECRET: &[u8] = b"canary-that-is-redacted-just-before-the-server-dies";
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let event = |n: u32| Key::new(TableId::Event, &(format!("$event{n}"),));
    let row = |n: u32, value: &[u8]| Write::Put(Stamped::plain(event(n).0), Stamped::plain(value.to_vec()));
    let say = |store: &Embedded, n: u32, value: &[u8]| {
        run(store.commit(vec![batch(vec![row(n, value)], 1)])).unwrap();
    };
    (0..400).for_each(|n| {
        say(&store, n, if n == 3 { SECRET } else { b"what stays as long as anybody wants it" })
    });
    store.shared.checkpoint().unwrap();
    die_before_the_record(store, folder.path(), |store| say(store, 3, b"pruned"));
    let store = open(folder.path());
    assert!(holding(folder.path(), SECRET) > 0);
    run(store.scrub()).unwrap();
    collect_all(&store);
    assert_eq!(holding(folder.path(), SECRET), 0);
    assert_eq!(run(all(&store)).len(), 401);
}

#[test]
fn foreign_newer_and_used_folders_are_refused_and_left_alone() {
    let check = |file: &str, text: &str, expected: &str| {
        let folder = TempDir::new().unwrap();
        drop(open(folder.path()));
        if file != "identity" {
            fs::remove_file(folder.path().join("identity")).unwrap();
        }
        fs::write(folder.path().join(file), text).unwrap();
        let error = Embedded::open(settings(folder.path())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(file)).unwrap(), text);
    };
    check("holiday.jpg", "sun", "not a Lockstep store");
    check("identity", "SQLite format 3", "not the identity");
    check("identity", "lockstep store\nschema 99\nserver example.org\nstage ready\ncrc 0\n", "newer version");
    check("identity", "lockstep store\nschema 1\nserver example.org\nstage ready\ncrc 0\n", "checksum");
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let again = Embedded::open(settings(folder.path())).unwrap_err().to_string();
    assert!(again.contains("another process"), "{again}");
    drop(store);
    let other = Embedded::open(Settings::new(folder.path(), "example.com")).unwrap_err().to_string();
    assert!(other.contains("belongs to the server `example.org`"), "{other}");
    fs::remove_file(folder.path().join("checkpoint")).unwrap();
    let error = Embedded::open(settings(folder.path())).unwrap_err().to_string();
    assert!(error.contains("checkpoint record is missing"), "{error}");
}

#[test]
fn files_are_private_and_other_promises_get_other_segments() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let lazy = Settings { durability: Durability::LoseLastSecondsOnPowerCut, ..settings(&path) };
    let store = Embedded::open(lazy).unwrap();
    run(store.commit(vec![batch(vec![put("a", b"1")], 1)])).unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(run(all(&store)).len(), 1);
    assert_eq!(segment::list(&path).unwrap(), [1, 2]);
    for (name, mode) in [("", 0o700), ("log", 0o700), ("identity", 0o600), ("checkpoint", 0o600)] {
        let found = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn a_check_finds_what_was_damaged_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    churn(&store, 120);
    let count = run(all(&store)).len() as u64;
    run(store.close()).unwrap();
    drop(store);
    let report = run(super::check(settings(folder.path()), &|_| {})).unwrap();
    assert_eq!((report.rows, report.problem_count), (count, 0), "{:?}", report.problems);
    let path = segment::path(folder.path(), segment::list(folder.path()).unwrap()[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let report = run(super::check(settings(folder.path()), &|_| {})).unwrap();
    assert!(report.problem_count > 0);
}

#[test]
fn an_export_of_a_store_in_use_is_one_moment_and_segments_continue_it() {
    let (folder, archive) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archived = archive.path().to_owned();
    let store =
        Embedded::open(Settings { archive: Some(archived.clone()), ..settings(folder.path()) }).unwrap();
    churn(&store, 300);
    let dump = std::thread::scope(|scope| {
        let writing = scope.spawn(|| churn(&store, 600));
        let dump = store.export(Vec::new(), &|_| {}).unwrap();
        writing.join().unwrap();
        dump
    });
    let rows = run(all(&store));
    let head = run(store.head()).unwrap();
    drop(store);
    let copy = TempDir::new().unwrap();
    let place = copy.path().join("imported");
    let end = run(super::import(settings(&place), std::io::Cursor::new(&dump), &|_| {})).unwrap();
    assert!(end.frame >= 300);
    assert_eq!(digest_of(&run(all(&open(&place)))), end.digest);
    let place = copy.path().join("restored");
    let folders = [archived, folder.path().join("log")];
    run(super::restore(settings(&place), std::io::Cursor::new(&dump), &folders, &|_| {})).unwrap();
    let restored = open(&place);
    assert_eq!(run(all(&restored)), rows);
    assert!(run(restored.head()).unwrap() >= head);
    drop(restored);
    let again = run(super::import(settings(&place), std::io::Cursor::new(&dump), &|_| {})).unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
}

#[test]
fn compacting_keeps_everything_and_gives_space_back() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("store");
    let store = open(&place);
    churn(&store, 700);
    let (rows, head) = (run(all(&store)), run(store.head()).unwrap());
    drop(store);
    run(super::compact(settings(&place), &|_| {})).unwrap();
    let store = open(&place);
    assert_eq!(run(all(&store)), rows);
    assert!(run(store.head()).unwrap() >= head);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["store"]);
}
