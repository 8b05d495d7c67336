//! `lockstep doctor federation [SERVER]`: what keeps two servers apart, found step by step, each with the line that
//! puts it right.

mod bodies;
mod start;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ruma::OwnedServerName;
use tokio::runtime;
use tokio_util::task::TaskTracker;

pub(super) use start::look_once;

use self::bodies::Sizes;
use super::{Stop, print};
use crate::{
    config::Config,
    keys::SigningKey,
    peer::Internet,
    server::{Folder, internet, real_ports},
    types::Ports,
};

/// What to look at.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DoctorVerb {
    /// Checks whether this server and another one find and believe each other.
    Federation {
        /// The other server; this one when it is left out, which is then looked at from outside.
        server: Option<OwnedServerName>,
    },
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    /// Not wrong, but worth knowing.
    Note,
    Bad,
}

/// What one step has shown.
#[derive(Clone, Debug)]
struct Finding {
    mark: Mark,
    step: &'static str,
    text: String,
    /// What to do about it.
    fix: Option<String>,
}

impl Finding {
    fn good(step: &'static str, text: impl Into<String>) -> Self {
        Self { mark: Mark::Good, step, text: text.into(), fix: None }
    }

    fn note(step: &'static str, text: impl Into<String>) -> Self {
        Self { mark: Mark::Note, step, text: text.into(), fix: None }
    }

    fn bad(step: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { mark: Mark::Bad, step, text: text.into(), fix: Some(fix.into()) }
    }
}

/// Who asks, and about whom.
struct Patient {
    net: Arc<Internet>,
    ports: Ports,
    /// This server's key; there is none before its first start.
    key: Option<Arc<SigningKey>>,
    server: OwnedServerName,
    /// Whether `server` is this one.
    own: bool,
    /// What large bodies are tried with, if they are.
    sizes: Option<Sizes>,
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: DoctorVerb) -> Result<(), Stop> {
    let DoctorVerb::Federation { server } = verb;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::failed)?;
    let findings = runtime.block_on(async {
        let (ports, tasks) = (real_ports(), TaskTracker::new());
        let net = internet(config, &ports, None, &tasks).map_err(Stop::wrong)?;
        let key = Folder::of(config).known_signing_key(&config.server_name).map_err(Stop::failed)?;
        let server = server.unwrap_or_else(|| config.server_name.clone());
        let own = server == config.server_name;
        let key = key.map(Arc::new);
        let (upload_mib, base_url) = (config.media.upload_mib, config.public_base_url.clone());
        // Nobody sends another server so much without need.
        let sizes = own.then_some(Sizes { upload_mib, base_url });
        let patient = Patient { net: net.clone(), ports, key, server, own, sizes };
        let mut findings = Vec::new();
        if !config.federation.enabled {
            let fix = "remove `enabled = false` from the section [federation] of the configuration";
            findings.push(Finding::bad("settings", "federation is switched off", fix));
        }
        findings.extend(steps::examine(&patient).await);
        net.close();
        tasks.close();
        tasks.wait().await;
        Ok::<_, Stop>(findings)
    })?;
    print(&render(&findings))?;
    match findings.iter().filter(|finding| finding.mark == Mark::Bad).count() {
        0 => Ok(()),
        bad => Err(Stop::Failed(format!("{bad} of {} checks failed", findings.len()))),
    }
}

fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { mark, step, text: found, fix } in findings {
        let mark = match mark {
            Mark::Good => "ok",
            Mark::Note => "note",
            Mark::Bad => "FAIL",
        };
        text.push_str(&format!("{mark:<5} {step:<12} {found}\n"));
        if let Some(fix) = fix {
            text.push_str(&format!("{:18} -> {fix}\n", ""));
        }
    }
    text
}
