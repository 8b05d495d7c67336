//! A PostgreSQL server of a test's own, from Debian's package, on a Unix socket in a temporary folder.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    bin: PathBuf,
    child: Option<Child>,
}

impl PostgresServer {
    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed (the text says what to install) or does not start.
    #[must_use]
    pub fn start() -> Self {
        let bin = newest_bin().expect("PostgreSQL is needed for this test: `apt-get install postgresql`");
        let folder = tempfile::Builder::new().prefix("lockstep-pg").tempdir().expect("a temporary folder");
        own(folder.path());
        let data = folder.path().join("data");
        let made = command(&bin, "initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "`initdb` failed");
        let mut server = Self { folder, bin, child: None };
        server.resume();
        server
    }

    /// Starts the server again after [`Self::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        let child = command(&self.bin, "postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50", "-k"])
            .arg(self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("PostgreSQL starts"));
        for _ in 0..600 {
            let ready = command(&self.bin, "pg_isready")
                .arg("-q")
                .arg("-h")
                .arg(self.folder.path())
                .args(["-U", "postgres"])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL did not get ready");
    }

    /// Stops the server at once, as a crash would.
    pub fn kill(&mut self) {
        self.signal("QUIT");
    }

    /// A fresh database of that name, as a URL.
    ///
    /// # Panics
    /// When the database cannot be made.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let made = command(&self.bin, "createdb")
            .arg("-h")
            .arg(self.folder.path())
            .args(["-U", "postgres", name])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "`createdb` failed");
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{name}")
    }

    fn signal(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next() {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
        }
        let _ = child.wait();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.signal("INT");
    }
}

fn newest_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let bins = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    bins.max_by_key(|bin| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// PostgreSQL refuses to run as root; Debian's package brings a user for it.
fn command(bin: &Path, program: &str) -> Command {
    let program = bin.join(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // When the test's process dies, the server must not stay behind.
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT", "--"]);
    command.arg(program).current_dir("/");
    command
}

fn own(folder: &Path) {
    if is_root() {
        let id = Command::new("id").args(["-u", "postgres"]).output();
        let id = id.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
        // Without that user `initdb` is going to fail with a clear line of its own.
        let _ = chown(folder, id, id);
    }
}
