//! A homeserver as a child process: Lockstep, or Synapse to compare with, in a folder and on a port of its own.

use std::{
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    Outcome,
    matrix::{Client, PASSWORD},
    postgres::PostgresServer,
    tls::Authority,
};

/// How long a server may take to answer its first request.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at a server that starts.
const START_POLL: Duration = Duration::from_millis(5);
/// How much of the server's log an error shows.
const LOG_TAIL_BYTES: usize = 4000;

/// Which homeserver to start.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A built `lockstep` binary.
    Lockstep(PathBuf),
    /// A Python that has the package `matrix-synapse`.
    Synapse(PathBuf),
}

impl Kind {
    /// What the environment asks for: Lockstep, unless `SPEC_SERVER=synapse`.
    pub fn from_environment() -> Outcome<Self> {
        match std::env::var("SPEC_SERVER").as_deref() {
            Ok("synapse") => Self::synapse(),
            Ok("lockstep") | Err(_) => Self::lockstep(),
            Ok(other) => Err(format!("SPEC_SERVER is \"{other}\", not lockstep or synapse").into()),
        }
    }

    /// The binary named by `LOCKSTEP_BIN`, or the newest one that cargo built beside this program.
    pub fn lockstep() -> Outcome<Self> {
        if let Some(named) = std::env::var_os("LOCKSTEP_BIN") {
            return Ok(Self::Lockstep(named.into()));
        }
        let own = std::env::current_exe()?;
        let built = own.ancestors().flat_map(|folder| {
            ["lockstep", "release/lockstep", "debug/lockstep"].map(|name| folder.join(name))
        });
        let newest = built
            .filter(|path| path.is_file())
            .max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
        newest.map(Self::Lockstep).ok_or_else(|| {
            "no lockstep binary: run `cargo build --release`, or name one in LOCKSTEP_BIN".into()
        })
    }

    /// The Synapse that `clients/setup` installed, or the Python named by `SYNAPSE_PYTHON`.
    pub fn synapse() -> Outcome<Self> {
        let python = match std::env::var_os("SYNAPSE_PYTHON") {
            Some(named) => named.into(),
            None => crate::clients::home().join("synapse/bin/python"),
        };
        match python.is_file() {
            true => Ok(Self::Synapse(python)),
            false => Err("no Synapse: run `spec-tests/clients/setup` first".into()),
        }
    }

    /// A word for tables and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lockstep(_) => "lockstep",
            Self::Synapse(_) => "synapse",
        }
    }
}

/// A homeserver that is (or was) running. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    folder: TempDir,
    port: u16,
    /// The port for other servers, which the server's name contains.
    federation_port: Option<u16>,
    child: Option<Child>,
    /// Settings added to the environment of Lockstep.
    extra: Vec<(String, String)>,
    /// The database that Lockstep keeps its data in, when it does not keep them in its folder.
    database: Option<PostgresServer>,
}

impl Server {
    /// Starts a new, empty server and waits for its first answer.
    pub async fn start(kind: Kind) -> Outcome<Self> {
        Self::start_with(kind, &[]).await
    }

    /// The same with further environment variables, which only Lockstep looks at.
    pub async fn start_with(kind: Kind, extra: &[(&str, &str)]) -> Outcome<Self> {
        let mut server = Self::prepare(kind, extra).await?;
        server.up().await?;
        Ok(server)
    }

    /// The same for a server that talks to others whose certificates `authority` has signed.
    pub async fn start_federated(kind: Kind, authority: &Authority) -> Outcome<Self> {
        let mut server = Self::lay_out(kind, &[], Some(authority)).await?;
        server.up().await?;
        Ok(server)
    }

    /// Lays out the folder of a server without starting it.
    pub async fn prepare(kind: Kind, extra: &[(&str, &str)]) -> Outcome<Self> {
        Self::lay_out(kind, extra, None).await
    }

    async fn lay_out(kind: Kind, extra: &[(&str, &str)], authority: Option<&Authority>) -> Outcome<Self> {
        let folder = match std::env::var_os("SPEC_FOLDER") {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let port = free_port()?;
        let federation_port = authority.map(|_| free_port()).transpose()?;
        let federation = federation_port.zip(authority);
        if let Kind::Synapse(python) = &kind {
            write_synapse_config(folder.path(), port, federation)?;
            let made = synapse(python, folder.path()).arg("--generate-keys").output().await?;
            if !made.status.success() {
                return Err(format!("Synapse made no keys: {}", String::from_utf8_lossy(&made.stderr)).into());
            }
        }
        let mut extra: Vec<(String, String)> =
            extra.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        if let (Kind::Lockstep(_), Some((federation_port, authority))) = (&kind, federation) {
            write_lockstep_config(folder.path(), (port, federation_port), authority)?;
            extra.push(("LOCKSTEP_CONFIG".into(), "lockstep.toml".into()));
        }
        let database = match (&kind, std::env::var("SPEC_STORE").as_deref()) {
            (Kind::Lockstep(_), Ok("postgres")) => {
                let database = PostgresServer::start();
                extra.push(("LOCKSTEP_STORE".into(), database.database("lockstep")));
                Some(database)
            }
            (_, Ok("embedded") | Err(_)) | (Kind::Synapse(_), _) => None,
            (_, Ok(other)) => {
                return Err(format!("SPEC_STORE is \"{other}\", not embedded or postgres").into());
            }
        };
        Ok(Self { kind, folder, port, federation_port, child: None, extra, database })
    }

    /// Makes an application service known to it, from its next start on.
    pub fn serve_appservice(&mut self, registration: &str) -> Outcome<()> {
        use std::io::Write;
        let path = self.folder.path().join("appservice.yaml");
        fs::write(&path, registration)?;
        match &self.kind {
            Kind::Lockstep(_) => {
                self.extra
                    .push(("LOCKSTEP_APPSERVICES".into(), format!("[{:?}]", path.display().to_string())));
            }
            Kind::Synapse(_) => {
                let mut config =
                    File::options().append(true).open(self.folder.path().join("homeserver.yaml"))?;
                writeln!(config, "app_service_config_files: ['{}']", path.display())?;
            }
        }
        Ok(())
    }

    /// Starts the process on the folder as it is, and returns how long the first answer took.
    pub async fn up(&mut self) -> Outcome<Duration> {
        if self.child.is_some() {
            return Err("the server is running already".into());
        }
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = match &self.kind {
            Kind::Lockstep(binary) => {
                let mut command = lockstep(binary, self.folder.path(), self.port);
                if self.federation_port.is_some() {
                    // The file says it.
                    command.env_remove("LOCKSTEP_SERVER_NAME").env_remove("LOCKSTEP_LISTEN");
                }
                command
            }
            Kind::Synapse(python) => synapse(python, self.folder.path()),
        };
        command
            .envs(self.extra.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let begun = Instant::now();
        self.child = Some(command.spawn().map_err(|error| format!("{:?}: {error}", self.kind))?);
        self.first_answer(begun).await
    }

    async fn first_answer(&mut self, begun: Instant) -> Outcome<Duration> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let versions = format!("{}/_matrix/client/versions", self.url());
        loop {
            let asked = http.get(&versions).timeout(Duration::from_secs(5)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(begun.elapsed());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()) {
                self.child = None;
                return Err(format!("the server ended at once ({}): {}", status?, self.log_tail()).into());
            }
            if begun.elapsed() > START_DEADLINE {
                return Err(format!("no answer within {START_DEADLINE:?}: {}", self.log_tail()).into());
            }
            sleep(START_POLL).await;
        }
    }

    /// Ends the process as a power cut would end it: with no chance to write anything.
    pub async fn kill(&mut self) -> Outcome<()> {
        let mut child = self.child.take().ok_or("the server is not running")?;
        child.kill().await?;
        Ok(())
    }

    /// The same, and its database ends with it, if it has one; that is running again afterwards.
    pub async fn kill_with_database(&mut self) -> Outcome<()> {
        if let Some(database) = &mut self.database {
            database.kill();
        }
        self.kill().await?;
        if let Some(database) = &mut self.database {
            database.resume();
        }
        Ok(())
    }

    /// Asks the process to end (SIGTERM) and insists that it does so cleanly.
    pub async fn stop(&mut self) -> Outcome<()> {
        let status = self.terminate().await?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("after SIGTERM the server ended with {status}: {}", self.log_tail()).into()),
        }
    }

    async fn terminate(&mut self) -> Outcome<ExitStatus> {
        let mut child = self.child.take().ok_or("the server is not running")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.ok_or("the server has ended already")?, Signal::TERM)?;
        match timeout(STOP_DEADLINE, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                child.kill().await?;
                Err(format!("still running {STOP_DEADLINE:?} after SIGTERM: {}", self.log_tail()).into())
            }
        }
    }

    /// Stops cleanly and starts again on the same folder and port.
    pub async fn restart(&mut self) -> Outcome<Duration> {
        self.stop().await?;
        self.up().await
    }

    /// Where it answers, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The name of the server, the part of its users' ids after the colon. With other servers it has one
    /// address only; `localhost` may have two, of which nobody listens on the second.
    pub fn name(&self) -> String {
        match self.federation_port {
            Some(port) => format!("127.0.0.1:{port}"),
            None => format!("localhost:{}", self.port),
        }
    }

    /// Which server it is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Makes an administrator of a running Lockstep, by its own command; the account is logged in.
    pub async fn administrator(&self, name: &str) -> Outcome<Client> {
        let Kind::Lockstep(binary) = &self.kind else { return Err("only Lockstep has the command".into()) };
        let mut command = lockstep(binary, self.folder.path(), self.port);
        command.args(["user", "create", name, "--admin", "--password-stdin"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        }
        match child.wait().await?.success() {
            true => Client::anonymous(&self.url())?.login(name).await,
            false => Err(format!("`user create {name}` failed: {}", self.log_tail()).into()),
        }
    }

    /// Adds a variable to the environment of Lockstep, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.extra.push((name.into(), value.into()));
    }

    /// Runs a command of Lockstep with the settings of the server; what it printed, or an error with its complaint.
    pub async fn command(&self, arguments: &[&str]) -> Outcome<String> {
        let Kind::Lockstep(binary) = &self.kind else { return Err("only Lockstep has commands".into()) };
        let mut command = lockstep(binary, self.folder.path(), self.port);
        command.args(arguments).envs(self.extra.iter().map(|(name, value)| (name, value)));
        let done = command.stdin(Stdio::null()).output().await?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned().into()),
        }
    }

    /// The folder with its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it wrote to standard output and error, over all its lives.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(LOG_TAIL_BYTES);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("its log ends:\n{}", &log[from..])
    }
}

/// A port that nothing listens on. The system hands out those above 32768 to whoever connects to something, so that one
/// of them may be taken before the server listens on it.
pub(crate) fn free_port() -> Outcome<u16> {
    for _ in 0..100 {
        let chance = RandomState::new().build_hasher().finish();
        let port = 20_000 + u16::try_from(chance % 12_000)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}

/// A server that others reach over TLS on a port of its own, and that may reach them on loopback.
fn write_lockstep_config(
    folder: &Path,
    (port, federation_port): (u16, u16),
    authority: &Authority,
) -> Outcome<()> {
    let identity = authority.identify(folder)?;
    let config = format!(
        "server_name = '127.0.0.1:{federation_port}'
listen = ['127.0.0.1:{port}', {{ address = '127.0.0.1:{federation_port}', tls_certificate = '{}', tls_key = '{}' }}]
[federation]
allow_ranges = ['127.0.0.0/8', '::1/128']
roots = ['{}']
trusted_key_servers = []
",
        identity.certificate.display(),
        identity.key.display(),
        authority.certificate().display(),
    );
    fs::write(folder.join("lockstep.toml"), config)?;
    Ok(())
}

fn lockstep(binary: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(binary);
    // What is meant for the tests is no setting of the server.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("LOCKSTEP_")) {
        command.env_remove(name);
    }
    command
        .current_dir(folder)
        .env("LOCKSTEP_SERVER_NAME", format!("localhost:{port}"))
        .env("LOCKSTEP_DATA_DIR", folder.join("data"))
        .env("LOCKSTEP_LISTEN", format!("127.0.0.1:{port}"))
        .env("LOCKSTEP_PUBLIC_BASE_URL", format!("http://127.0.0.1:{port}"))
        .env("LOCKSTEP_REGISTRATION", "open")
        .env("LOCKSTEP_RATE_LIMITS", "off");
    command
}

fn synapse(python: &Path, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.current_dir(folder).args(["-m", "synapse.app.homeserver", "--config-path", "homeserver.yaml"]);
    command
}

/// Synapse as it comes, with sqlite, except that anyone may register, at little cost, no rate is limited, and push
/// gateways may lie here.
fn write_synapse_config(folder: &Path, port: u16, federation: Option<(u16, &Authority)>) -> Outcome<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let data = data.display();
    let tls = match federation {
        Some((port, authority)) => {
            let identity = authority.identify(folder)?;
            format!(
                "  - {{port: {port}, bind_addresses: ['127.0.0.1'], type: http, tls: true, resources: [{{names: [federation]}}]}}
tls_certificate_path: '{}'
tls_private_key_path: '{}'
federation_custom_ca_list: ['{}']
ip_range_blacklist: []
federation: {{destination_min_retry_interval: 1s, destination_retry_multiplier: 1, destination_max_retry_interval: 2s}}
allow_public_rooms_over_federation: true
allow_device_name_lookup_over_federation: true
room_list_publication_rules: [{{action: allow}}]
",
                identity.certificate.display(),
                identity.key.display(),
                authority.certificate().display(),
            )
        }
        None => String::new(),
    };
    let unlimited = "{per_second: 1000000, burst_count: 1000000}";
    let config = format!(
        "server_name: '{}'
listeners:
  - {{port: {port}, bind_addresses: ['127.0.0.1'], type: http, tls: false, resources: [{{names: [client, federation]}}]}}
{tls}database: {{name: sqlite3, args: {{database: '{data}/homeserver.db'}}}}
media_store_path: '{data}/media'
signing_key_path: '{data}/signing.key'
log_config: log.yaml
macaroon_secret_key: 'secret'
form_secret: 'secret'
report_stats: false
suppress_key_server_warning: true
trusted_key_servers: []
ip_range_whitelist: ['127.0.0.0/8']
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
rc_message: {unlimited}
rc_registration: {unlimited}
rc_login: {{address: {unlimited}, account: {unlimited}, failed_attempts: {unlimited}}}
rc_joins: {{local: {unlimited}, remote: {unlimited}}}
rc_joins_per_room: {unlimited}
rc_invites: {{per_room: {unlimited}, per_user: {unlimited}, per_issuer: {unlimited}}}
rc_admin_redaction: {unlimited}
rc_key_requests: {unlimited}
rc_presence: {{per_user: {unlimited}}}
rc_room_creation: {unlimited}
rc_federation: {{sleep_limit: 1000000, reject_limit: 1000000, concurrent: 100}}
",
        federation.map_or_else(|| format!("localhost:{port}"), |(port, _)| format!("127.0.0.1:{port}")),
    );
    fs::write(folder.join("homeserver.yaml"), config)?;
    fs::write(
        folder.join("log.yaml"),
        "version: 1\nroot: {level: WARNING}\ndisable_existing_loggers: false\n",
    )?;
    Ok(())
}
