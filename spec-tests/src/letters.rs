//! A real mail server, which `clients/setup` installs: it takes every letter and keeps it to be read.

use std::{fs, net::TcpListener, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::Child;

use crate::{
    Outcome,
    clients::{home, installed},
};

/// How often the mail server is looked at before the test gives up.
const POLLS: u32 = 400;
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// A running mail server; it ends when dropped.
#[derive(Debug)]
pub struct Letters {
    port: u16,
    _server: Child,
    folder: TempDir,
}

impl Letters {
    /// Starts one.
    pub async fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = installed(&home().join("smtp/bin/python"))?
            .args(["-u", "-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--class", "aiosmtpd.handlers.Debugging", "stdout"])
            .stdout(fs::File::create(folder.path().join("letters"))?)
            .stderr(Stdio::null())
            .spawn()?;
        for _ in 0..POLLS {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Self { port, _server: server, folder });
            }
            tokio::time::sleep(POLL).await;
        }
        Err("the mail server did not start".into())
    }

    /// Where it takes letters, on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The letters that have come, each without the line ends that mail puts into it.
    pub fn all(&self) -> Outcome<Vec<String>> {
        let text =
            fs::read_to_string(self.folder.path().join("letters"))?.replace("=\n", "").replace("=3D", "=");
        let whole = text.split("MESSAGE FOLLOWS").filter(|letter| letter.contains("END MESSAGE"));
        Ok(whole.map(str::to_owned).collect())
    }

    /// The letter of this number, once it has come.
    pub async fn letter(&self, number: usize) -> Outcome<String> {
        for _ in 0..POLLS {
            if let Some(letter) = self.all()?.get(number) {
                return Ok(letter.clone());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("letter {number} did not come").into())
    }
}
