//! A real identity server, Sydent, which `clients/setup` installs, behind TLS as it wants to be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    Outcome,
    clients::{home, installed},
    letters::Letters,
    matrix::Client,
    server::free_port,
    tls::Authority,
};

/// How often it is looked at while it starts.
const START_POLLS: u32 = 600;
/// Between two looks.
const START_POLL: Duration = Duration::from_millis(50);
/// Below this path it is asked.
const API: &str = "/_matrix/identity/v2";

/// A running identity server; it ends when dropped.
#[derive(Debug)]
pub struct Sydent {
    /// Takes its letters.
    pub letters: Letters,
    /// Where it listens to TLS.
    port: u16,
    /// Where it listens itself.
    plain: u16,
    folder: TempDir,
    _children: Vec<Child>,
}

/// What somebody has proved to it: a session, and its secret.
#[derive(Clone, Debug)]
pub struct Session {
    /// The session id.
    pub sid: String,
    /// The client's secret.
    pub secret: String,
}

impl Sydent {
    /// Starts one whose certificate `authority` signs.
    pub async fn start(authority: &Authority) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let letters = Letters::start().await?;
        let (port, plain) = (free_port()?, free_port()?);
        let identity = authority.identify(folder.path())?;
        fs::write(folder.path().join("sydent.conf"), config(folder.path(), (port, plain), letters.port()))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut sydent = python()?;
        sydent
            .args(["-m", "sydent.sydent"])
            .current_dir(folder.path())
            .env("SYDENT_CONF", folder.path().join("sydent.conf"))
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut tls = python()?;
        tls.arg(scripts().join("tls.py"))
            .arg(port.to_string())
            .args([&identity.certificate, &identity.key])
            .arg(plain.to_string());
        let children = vec![sydent.stdin(Stdio::null()).spawn()?, tls.stdin(Stdio::null()).spawn()?];
        let started = Self { letters, port, plain, folder, _children: children };
        for port in [plain, port] {
            started.await_port(port).await?;
        }
        Ok(started)
    }

    async fn await_port(&self, port: u16) -> Outcome<()> {
        for _ in 0..START_POLLS {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(START_POLL).await;
        }
        Err(format!("Sydent did not start: {}", self.log()).into())
    }

    /// Its name, for clients and homeservers.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Makes an account there for a user of a homeserver; speaks with its token.
    pub async fn register(&self, user: &Client) -> Outcome<Client> {
        let path = format!("/_matrix/client/v3/user/{}/openid/request_token", user.user_id);
        let openid = user.post(&path, &json!({})).await?;
        let anyone = Client::anonymous(&format!("http://127.0.0.1:{}", self.plain))?;
        let account = anyone.post(&format!("{API}/account/register"), &openid).await?;
        Ok(anyone.service(account["token"].as_str().ok_or_else(|| format!("no token: {account}"))?))
    }

    /// Has a user there prove an address, by the letter that comes to it.
    pub async fn prove(&self, user: &Client, address: &str) -> Outcome<Session> {
        let number = self.letters.all()?.len();
        let secret = format!("secret{number}");
        let asked = json!({ "email": address, "client_secret": secret, "send_attempt": 1 });
        let begun = user.post(&format!("{API}/validate/email/requestToken"), &asked).await?;
        let sid = begun["sid"].as_str().ok_or_else(|| format!("no session: {begun}"))?.to_owned();
        let letter = self.letters.letter(number).await?;
        let token = letter.lines().find_map(|line| line.trim().strip_prefix("token="));
        let token = token.ok_or_else(|| format!("no token in {letter}"))?;
        let proof = json!({ "sid": sid, "client_secret": secret, "token": token });
        let proved = user.post(&format!("{API}/validate/email/submitToken"), &proof).await?;
        match proved["success"] == true {
            true => Ok(Session { sid, secret }),
            false => Err(format!("not proved: {proved}").into()),
        }
    }

    /// Has it bind what was proved, without a homeserver in between.
    pub async fn bind(&self, user: &Client, session: &Session, mxid: &str) -> Outcome<Value> {
        let body = json!({ "sid": session.sid, "client_secret": session.secret, "mxid": mxid });
        user.post(&format!("{API}/3pid/bind"), &body).await
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/sydent")
}

fn python() -> Outcome<Command> {
    installed(&home().join("sydent/bin/python"))
}

/// Sydent as it comes, except that homeservers may lie on this machine, with certificates of the tests' own.
fn config(folder: &Path, (port, plain): (u16, u16), letters: u16) -> String {
    let (folder, templates) = (folder.display(), scripts().join("templates"));
    format!(
        "[general]
server.name = localhost:{port}
templates.path = {}
brand.default = matrix-org
ip.whitelist = 127.0.0.0/8
pidfile.path = {folder}/pid
[db]
db.file = {folder}/sydent.db
[http]
clientapi.http.bind_address = 127.0.0.1
clientapi.http.port = {plain}
federation.verifycerts = False
client_http_base = https://localhost:{port}
[email]
email.from = Sydent <sydent@example.org>
email.smtphost = 127.0.0.1
email.smtpport = {letters}
email.hostname = localhost
email.ratelimit_sender.burst = 100
[crypto]
[sms]
",
        templates.display()
    )
}
