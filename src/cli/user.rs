//! `lockstep user create`, on a running server or in the store of one that does not run.

use std::io::{self, BufRead, IsTerminal};

use hmac::{Hmac, KeyInit, Mac};
use ruma::OwnedUserId;
use serde_json::{Value, json};
use sha1::Sha1;
use tokio::runtime;

use super::{
    Stop,
    exchange::{Missed, command, exchange},
    print,
};
use crate::{
    account::NewUser,
    config::{Config, Engine},
    server::{Folder, Offline, real_ports},
    types::random_string,
};

const PATH: &str = "/_synapse/admin/v1/register";
/// Characters of a password that we make up.
const PASSWORD_CHARACTERS: usize = 20;

/// An account to be made.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The name: the part between `@` and `:`.
    name: String,
    /// Makes it an administrator.
    #[arg(long)]
    admin: bool,
    /// Reads the password from standard input instead of making one up.
    #[arg(long)]
    password_stdin: bool,
}

/// An account to be ended.
#[derive(Debug, clap::Args)]
pub(super) struct Erase {
    /// The user's id.
    user: OwnedUserId,
    /// Really does it: nothing of what the user said can be had back.
    #[arg(long)]
    yes: bool,
}

/// A user.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The user's id.
    user: OwnedUserId,
}

/// Has a running server tell what it knows of an account.
pub(super) fn show(config: &Config, named: &Named) -> Result<(), Stop> {
    let path = format!("/_synapse/admin/v2/users/{}", named.user.as_str().replace('/', "%2F"));
    let known = command(config, "GET", &path, None)?;
    print(&format!("{known:#}\n"))
}

/// Has a running server lock an account, or unlock it.
pub(super) fn lock(config: &Config, named: &Named, locks: bool) -> Result<(), Stop> {
    let path = format!("/_lockstep/admin/v1/users/{}/lock", named.user.as_str().replace('/', "%2F"));
    command(config, "PUT", &path, Some(&json!({ "locked": locks })))?;
    print(&format!("{} is {}\n", named.user, if locks { "locked" } else { "unlocked" }))
}

/// Has a running server suspend a user, or end that.
pub(super) fn suspend(config: &Config, named: &Named, suspends: bool) -> Result<(), Stop> {
    let path = format!("/_synapse/admin/v1/suspend/{}", named.user.as_str().replace('/', "%2F"));
    command(config, "PUT", &path, Some(&json!({ "suspend": suspends })))?;
    print(&format!("{} is {}\n", named.user, if suspends { "suspended" } else { "not suspended any more" }))
}

/// Tells how a user's pushers stand, a line each.
pub(super) fn pushers(config: &Config, named: &Named) -> Result<(), Stop> {
    let path = format!("/_synapse/admin/v1/users/{}/pushers", named.user.as_str().replace('/', "%2F"));
    let answer = command(config, "GET", &path, None)?;
    let pushers = answer.get("pushers").and_then(Value::as_array).cloned().unwrap_or_default();
    if pushers.is_empty() {
        return print(&format!("{} has none\n", named.user));
    }
    pushers.iter().try_for_each(|pusher| print(&pusher_line(pusher)))
}

fn pusher_line(pusher: &Value) -> String {
    let text = |name: &str| pusher.get(name).and_then(Value::as_str).unwrap_or("-");
    let url = pusher.pointer("/data/url").and_then(Value::as_str).unwrap_or("-");
    let standing = match (pusher.get("enabled"), pusher.get("failures").and_then(Value::as_u64)) {
        (Some(Value::Bool(false)), _) => String::from("off"),
        (_, None | Some(0)) => String::from("works"),
        (_, Some(failures)) => format!("has failed {failures} times: {}", text("last_error")),
    };
    format!("{} {} {url} {standing}\n", text("device_id"), text("app_id"))
}

/// Has a running server end an account, and remove what its user said and showed.
pub(super) fn erase(config: &Config, erase: &Erase) -> Result<(), Stop> {
    if !erase.yes {
        return Err(Stop::wrong(
            "nothing of what the user said can be had back; say --yes to remove it all the same",
        ));
    }
    let path = format!("/_lockstep/admin/v1/users/{}/erase", erase.user.as_str().replace('/', "%2F"));
    let answer = command(config, "POST", &path, Some(&json!({})))?;
    let events = answer.get("events").and_then(Value::as_u64).unwrap_or_default();
    print(&format!("{} is gone, and the content of {events} events\n", erase.user))
}

/// Has the running server make an account, by the secret in its data folder; without a server, makes it in
/// the store.
pub(super) fn create(config: &Config, create: &Create) -> Result<(), Stop> {
    let (password, made_up) = match create.password_stdin {
        true => (read_password()?, false),
        false => (random_string(real_ports().rng.as_ref(), PASSWORD_CHARACTERS), true),
    };
    let secret = Folder::of(config).known_registration_secret().map_err(Stop::failed)?;
    let asked = match secret {
        Some(secret) => ask(config, create, (&secret, &password)),
        None => Err(Missed::Unreachable(String::from("it has made no secret in its data folder"))),
    };
    let user_id = match asked {
        Ok(user_id) => user_id,
        Err(Missed::Refused(stop)) => return Err(stop),
        Err(Missed::Unreachable(why)) => make(config, create, (&password, &why))?,
    };
    let mut said = format!("made {user_id}\n");
    if made_up {
        said.push_str(&format!("its password is {password}\n"));
    }
    print(&said)
}

/// By the running server.
fn ask(config: &Config, create: &Create, (secret, password): (&str, &str)) -> Result<String, Missed> {
    let answer = exchange(config, "GET", PATH, None)?;
    let nonce = text(&answer, "nonce").map_err(Missed::Refused)?;
    let body = json!({
        "nonce": nonce,
        "username": create.name,
        "password": password,
        "admin": create.admin,
        "mac": mac(secret, [nonce, &create.name, password, role(create.admin)]),
    });
    let answer = exchange(config, "POST", PATH, Some(&body))?;
    text(&answer, "user_id").map(String::from).map_err(Missed::Refused)
}

/// In the store of a server that does not run.
fn make(config: &Config, create: &Create, (password, why): (&str, &str)) -> Result<String, Stop> {
    let folder = Folder::of(config).store();
    match config.store.engine {
        Engine::Memory => return Err(Stop::Failed(format!("cannot reach the server: {why}"))),
        Engine::Embedded if !folder.exists() => {
            return Err(Stop::Failed(format!(
                "there is no server yet: {why}, and there is no store in `{}`. Start it first, here or with the \
                 same configuration",
                folder.display()
            )));
        }
        Engine::Embedded | Engine::Postgres(_) => {}
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::failed)?;
    runtime.block_on(async {
        let offline = Offline::open(config).await.map_err(|error| {
            Stop::Failed(format!("cannot reach the server: {why}; and not without it either: {error}"))
        })?;
        let (username, password) = (Some(create.name.clone()), Some(String::from(password)));
        let made = offline.accounts.create_user(NewUser { username, password, admin: create.admin }).await;
        offline.close().await.map_err(Stop::failed)?;
        made.map(|user_id| user_id.to_string()).map_err(Stop::failed)
    })
}

fn read_password() -> Result<String, Stop> {
    if io::stdin().is_terminal() {
        // To standard error, so that standard output stays for the answer.
        eprintln!("the password, and return:");
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Stop::failed)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(Stop::wrong("the password is empty")),
        password => Ok(String::from(password)),
    }
}

fn role(admin: bool) -> &'static str {
    if admin { "admin" } else { "notadmin" }
}

fn mac(secret: &str, fields: [&str; 4]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a secret may have any length");
    mac.update(fields.join("\0").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str, Stop> {
    let found = answer.get(name).and_then(Value::as_str);
    found.ok_or_else(|| Stop::Failed(format!("the server's answer lacks `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::mac;

    #[test]
    fn the_mac_covers_every_field() {
        let all = mac("secret", ["n", "u", "p", "admin"]);
        assert_eq!(all.len(), 40);
        let others = [["x", "u", "p", "admin"], ["n", "x", "p", "admin"], ["n", "u", "p", "notadmin"]];
        assert!(others.iter().all(|fields| mac("secret", *fields) != all));
        assert_ne!(mac("other", ["n", "u", "p", "admin"]), all);
    }
}
