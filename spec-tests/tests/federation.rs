//! Lockstep and another server over TLS on loopback: with itself, and with a real Synapse, which
//! `spec-tests/clients/setup` installs.

use std::path::Path;

use spec_tests::{
    Outcome,
    server::{Kind, Server},
    tls::Authority,
};
use tokio::process::Command;

/// What `lockstep doctor federation SERVER` prints about a server, run as the server `here`.
async fn doctor(binary: &Path, here: &Server, there: &str) -> Outcome<(bool, String)> {
    let config = here.data().with_file_name("lockstep.toml");
    let data = here.data();
    let mut command = Command::new(binary);
    command.args(["doctor", "federation", there]).arg("--config").arg(config).env("LOCKSTEP_DATA_DIR", data);
    let output = command.output().await?;
    let text = format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// The other server is found, its certificate and keys are good, and it believes what this one signs: for
/// that it has fetched and checked this server's keys.
async fn believes(there: Kind, expected: &[&str]) -> Outcome<()> {
    let Kind::Lockstep(binary) = Kind::lockstep()? else { return Err("no lockstep".into()) };
    let authority = Authority::new()?;
    let mut here = Server::start_federated(Kind::Lockstep(binary.clone()), &authority).await?;
    let mut there = Server::start_federated(there, &authority).await?;
    let (healthy, told) = doctor(&binary, &here, &there.name()).await?;
    let missing: Vec<_> = expected.iter().filter(|words| !told.contains(**words)).collect();
    if !healthy || !missing.is_empty() {
        return Err(format!("{missing:?} is not in\n{told}\nits log:\n{}", there.log()).into());
    }
    // Nobody listens there any more: the doctor says so, and fails.
    let name = there.name();
    there.stop().await?;
    let (healthy, told) = doctor(&binary, &here, &name).await?;
    if healthy {
        return Err(format!("a server that is down is called healthy:\n{told}").into());
    }
    here.stop().await
}

#[tokio::test]
async fn lockstep_believes_lockstep() -> Outcome<()> {
    believes(Kind::lockstep()?, &["signed and valid", "arrives unchanged"]).await
}

#[tokio::test]
async fn synapse_believes_lockstep() -> Outcome<()> {
    believes(Kind::synapse()?, &["it is Synapse", "signed and valid", "a signed request is believed"]).await
}
