//! What the embedded store does when the process is killed, the power fails, the disk fills up or rots.
//!
//! Few rounds here; `STORE_FAULT_ROUNDS=1000` asks for more. The tests that mount a disk of their own need
//! root and say so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use lockstep::{
    store::{
        Store,
        embedded::{self, Embedded},
    },
    types::{Rng, SeededRng},
};
use spec_tests::store_faults::{all, batch, content, last, settings, verify};

fn rounds(few: u32) -> u32 {
    std::env::var("STORE_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A process that commits until it is killed.
struct Writer {
    child: Child,
    acknowledged: BufReader<ChildStdout>,
}

impl Writer {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_store_writer"))
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let acknowledged = BufReader::new(child.stdout.take().unwrap());
        Self { child, acknowledged }
    }

    /// Waits for so many more acknowledgements and gives the last.
    fn acknowledged(&mut self, count: u32) -> u64 {
        let mut line = String::new();
        for _ in 0..count {
            line.clear();
            self.acknowledged.read_line(&mut line).unwrap();
        }
        line.trim().parse().expect("the writer goes on")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it and gives the last acknowledgement that got out.
    fn kill(mut self, before: u64) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let lines = self.acknowledged.lines().map_while(Result::ok);
        lines.filter_map(|line| line.parse().ok()).last().unwrap_or(before)
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(7);
    let mut number = 0;
    for round in 0..rounds(8) {
        let mut byte = [0];
        rng.fill(&mut byte);
        let mut writer = Writer::start(folder.path());
        let acknowledged = writer.acknowledged(1 + u32::from(byte[0]) % 60);
        let acknowledged = writer.kill(acknowledged);
        let store = Embedded::open(settings(folder.path())).unwrap();
        number = run(verify(&store, acknowledged.max(number))).unwrap();
        assert!(number > 0, "round {round}");
    }
    let report = run(embedded::check(settings(folder.path()), &|_| {})).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to),
            false => drop(fs::copy(file.path(), to).unwrap()),
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match file.file_type().unwrap().is_dir() {
            true => found.extend(files(&file.path())),
            false => found.push(file.path()),
        }
    }
    found.sort();
    found
}

#[test]
fn one_flipped_byte_is_noticed_or_harmless() {
    const BATCHES: u64 = 30;
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    // Half of it is in the index, half of it only in the log, as a killed process leaves it.
    for (half, closed) in [(1..=BATCHES / 2, true), (BATCHES / 2 + 1..=BATCHES, false)] {
        let store = Embedded::open(settings(&original)).unwrap();
        half.for_each(|number| drop(run(store.commit(vec![batch(number)])).unwrap()));
        if closed {
            run(store.close()).unwrap();
        }
    }
    let expected = content(BATCHES);
    let (mut at_open, mut on_reading, mut by_check, mut harmless) = (0, 0, 0, 0);
    let flips = rounds(16) as usize;
    for file in files(&original) {
        let length = fs::metadata(&file).unwrap().len() as usize;
        for flip in 0..flips.min(length) {
            let damaged = folder.path().join("damaged");
            if damaged.exists() {
                fs::remove_dir_all(&damaged).unwrap();
            }
            copy(&original, &damaged);
            let path = damaged.join(file.strip_prefix(&original).unwrap());
            let mut bytes = fs::read(&path).unwrap();
            // Spread over the file, beginning and end included.
            let at = (length - 1) * flip / (flips.min(length) - 1).max(1);
            bytes[at] ^= 1 << (flip % 8);
            fs::write(&path, bytes).unwrap();
            let Ok(store) = Embedded::open(settings(&damaged)) else {
                at_open += 1;
                continue;
            };
            let found = run(all(&store));
            drop(store);
            let report = run(embedded::check(settings(&damaged), &|_| {}));
            let clean = report.as_ref().is_ok_and(|report| report.problem_count == 0);
            match found {
                Err(_) => on_reading += 1,
                Ok(found) if found == expected && clean => harmless += 1,
                Ok(found) if found == expected => by_check += 1,
                Ok(_) => {
                    assert!(!clean, "byte {at} of {}: less was served, and nobody noticed", file.display())
                }
            }
        }
    }
    println!("noticed at open {at_open}, on reading {on_reading}, by check {by_check}; harmless {harmless}");
    assert!(at_open > 0 && by_check + on_reading > 0);
}

/// Runs a system command that must succeed.
fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}` is needed for this test: {error}"));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`{program} {}` needs root and failed: {error}", arguments.join(" "));
    out.trim().to_owned()
}

/// Something mounted; unmounted when dropped.
struct Mount {
    folder: PathBuf,
    device: Option<String>,
}

impl Mount {
    fn memory(folder: &Path, size: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={size}");
        system("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", folder.to_str().unwrap()]);
        Self { folder: folder.to_owned(), device: None }
    }

    fn image(image: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let device = system("losetup", &["-f", "--show", image.to_str().unwrap()]);
        let mount = Self { folder: folder.to_owned(), device: Some(device.clone()) };
        // The file system writes its journal only when it is told to, so that nothing is safe by chance.
        system("mount", &["-o", "commit=300", &device, folder.to_str().unwrap()]);
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let _mount = Mount::memory(&disk, "32m");
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 6 << 20]).unwrap();
    let place = disk.join("store");
    let store = Embedded::open(settings(&place)).unwrap();
    run(async {
        let mut number = 0;
        let error = loop {
            match store.commit(vec![batch(number + 1)]).await {
                Ok(_) => number += 1,
                Err(error) => break error,
            }
            assert!(number < 1_000_000, "the disk never got full");
        };
        assert!(error.to_string().contains("full"), "{error}");
        // Old values are collected meanwhile, so that now and then there is room again.
        for _ in 0..200 {
            number += u64::from(store.commit(vec![batch(number + 1)]).await.is_ok());
        }
        assert_eq!(verify(&store, number).await.unwrap(), number, "reads go on, and nothing half is left");
        fs::remove_file(&ballast).unwrap();
        for _ in 0..20 {
            store.commit(vec![batch(number + 1)]).await.unwrap();
            number += 1;
        }
        verify(&store, number).await.unwrap();
        drop(store);
        let store = Embedded::open(settings(&place)).unwrap();
        assert_eq!(verify(&store, number).await.unwrap(), number);
        store.close().await.unwrap();
    });
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (image, cut) = (path("image"), path("cut"));
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    system("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0", image.to_str().unwrap()]);
    let rng = SeededRng::new(11);
    for round in 0..rounds(4) {
        let mount = Mount::image(&image, &path("disk"));
        let place = path("disk").join("store");
        let mut writer = Writer::start(&place);
        let mut byte = [0];
        rng.fill(&mut byte);
        let acknowledged = writer.acknowledged(5 + u32::from(byte[0]) % 80);
        writer.signal("-STOP");
        // What the device was given so far, and no more, is what a power cut leaves.
        fs::copy(&image, &cut).unwrap();
        // It was stopped before the copy was made, so all that it ever said must be in the copy.
        let acknowledged = writer.kill(acknowledged);
        drop(mount);
        let survivor = Mount::image(&cut, &path("survivor"));
        let store = Embedded::open(settings(&path("survivor").join("store"))).unwrap();
        let number = run(verify(&store, acknowledged)).unwrap();
        drop(store);
        println!("round {round}: {acknowledged} acknowledged, {number} survived");
        drop(survivor);
    }
    // The device that was not cut goes on as well.
    let _mount = Mount::image(&image, &path("disk"));
    let store = Embedded::open(settings(&path("disk").join("store"))).unwrap();
    let number = run(last(&store)).unwrap();
    run(verify(&store, number)).unwrap();
}
