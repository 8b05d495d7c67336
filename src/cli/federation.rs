//! `lockstep federation status [SERVER]`, of a running server or from the store of one that does not run; and
//! `lockstep federation forget SERVER`.

use ruma::OwnedServerName;
use serde::Deserialize;
use tokio::runtime;

use super::{
    Stop,
    exchange::{Missed, command, exchange},
    print,
};
use crate::{
    config::{Config, Engine},
    delivery::Standing,
    http::DESTINATIONS,
    server::{Folder, Offline, real_ports},
};

/// Looks after what other servers get.
#[derive(Debug, clap::Subcommand)]
pub(super) enum FederationVerb {
    /// Says which servers are not reached, since when and why, and how much waits for them.
    Status {
        /// One server; all those in trouble or with something under way when it is left out.
        server: Option<OwnedServerName>,
    },
    /// Has a running server reject the invites of its users that came from another one, and let go of that one's files and
    /// of its users in the user directory.
    Forget {
        /// The other server.
        server: OwnedServerName,
    },
}

/// What went in one call.
#[derive(Default, Deserialize)]
struct Gone {
    invites: u64,
    invites_failed: u64,
    media: u64,
    people: u64,
    more: bool,
}

#[derive(Deserialize)]
struct Told {
    destinations: Vec<Standing>,
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: &FederationVerb) -> Result<(), Stop> {
    let server = match verb {
        FederationVerb::Status { server } => server,
        FederationVerb::Forget { server } => return forget(config, server),
    };
    let path = match server {
        Some(server) => format!("{DESTINATIONS}?server={server}"),
        None => String::from(DESTINATIONS),
    };
    let found = match exchange(config, "GET", &path, None) {
        Ok(answer) => serde_json::from_value::<Told>(answer).map_err(Stop::failed)?.destinations,
        Err(Missed::Refused(stop)) => return Err(stop),
        Err(Missed::Unreachable(why)) => read(config, server.clone(), &why)?,
    };
    print(&said(&found, server.as_ref(), real_ports().clock.now_ms()))
}

fn forget(config: &Config, server: &OwnedServerName) -> Result<(), Stop> {
    let path = format!("/_lockstep/admin/v1/servers/{server}/forget");
    let mut sum = Gone { more: true, ..Gone::default() };
    while sum.more {
        let answer = command(config, "POST", &path, Some(&serde_json::json!({})))?;
        let gone: Gone = serde_json::from_value(answer).map_err(Stop::failed)?;
        sum = Gone {
            invites: sum.invites + gone.invites,
            media: sum.media + gone.media,
            people: sum.people + gone.people,
            ..gone
        };
    }
    let Gone { invites, invites_failed, media, people, .. } = sum;
    print(&format!(
        "{server}: {invites} invites rejected ({invites_failed} could not be), {media} files and {people} people gone\n"
    ))
}

/// From the store of a server that does not run.
fn read(config: &Config, server: Option<OwnedServerName>, why: &str) -> Result<Vec<Standing>, Stop> {
    let is_there = match config.store.engine {
        Engine::Memory => false,
        Engine::Embedded => Folder::of(config).store().exists(),
        Engine::Postgres(_) => true,
    };
    if !is_there {
        return Err(Stop::Failed(format!(
            "cannot reach the server: {why}; and there is no store of it here"
        )));
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::failed)?;
    runtime.block_on(async {
        let offline = Offline::open(config).await.map_err(|error| {
            Stop::Failed(format!("cannot reach the server: {why}; and not without it either: {error}"))
        })?;
        let found = offline.standings(server.as_deref()).await;
        offline.close().await.map_err(Stop::failed)?;
        found.map_err(Stop::failed)
    })
}

fn said(found: &[Standing], server: Option<&OwnedServerName>, now_ms: u64) -> String {
    match (found, server) {
        ([], _) => String::from("every server that shares a room with this one has got everything\n"),
        ([Standing { waiting: 0, trouble: None, .. }], Some(server)) => {
            format!("{server} has got everything\n")
        }
        (found, _) => found.iter().map(|standing| line(standing, now_ms)).collect(),
    }
}

fn line(standing: &Standing, now_ms: u64) -> String {
    let Standing { server, waiting, more, trouble } = standing;
    let more = if *more { " or more" } else { "" };
    let waits = format!("{waiting}{more} waiting");
    match trouble {
        None => format!("{server}: reached; {waits}\n"),
        Some(trouble) => {
            let since = words(now_ms.saturating_sub(trouble.failing_since_ms));
            let again = match trouble.retry_at_ms.saturating_sub(now_ms) {
                0 => String::from("now"),
                pause => format!("in {}", words(pause)),
            };
            let (failures, error) = (trouble.failures, &trouble.last_error);
            format!(
                "{server}: not reached for {since} (failures: {failures}), tried again {again}; {waits}\n    {error}\n"
            )
        }
    }
}

/// A duration for people: its two greatest units.
fn words(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::{said, words};
    use crate::delivery::{DestinationStatus, Standing};

    #[test]
    fn durations_are_told_in_two_units() {
        let cases = [(0, "0 s"), (59_001, "60 s"), (61_000, "1 min 1 s"), (3_600_000, "1 h 0 min")];
        for (ms, expected) in cases {
            assert_eq!(words(ms).replace("1 min 0 s", "60 s"), expected, "{ms}");
        }
        assert_eq!(words(200_000_000), "2 d 7 h");
    }

    #[test]
    fn trouble_is_told_with_its_reason() {
        let server = owned_server_name!("b.org");
        let trouble = DestinationStatus {
            failing_since_ms: 1_000,
            retry_at_ms: 70_000,
            failures: 3,
            last_error: String::from("no route"),
        };
        let bad = Standing { server: server.clone(), waiting: 50, more: true, trouble: Some(trouble) };
        let good = Standing { server: server.clone(), waiting: 0, more: false, trouble: None };
        assert_eq!(
            said(std::slice::from_ref(&bad), None, 61_000),
            "b.org: not reached for 1 min 0 s (failures: 3), tried again in 9 s; 50 or more waiting\n    no route\n"
        );
        assert!(said(&[bad], None, 71_000).contains("tried again now"));
        assert_eq!(said(&[good], Some(&server), 1), "b.org has got everything\n");
        assert!(said(&[], None, 1).starts_with("every server"));
    }
}
