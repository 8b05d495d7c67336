//! `lockstep appservice …`, on a running server.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{Stop, exchange::command, print};
use crate::{appservice::Registration, config::Config, server::real_ports};

const PATH: &str = "/_lockstep/admin/v1/appservices";

/// Looks after application services (bridges).
#[derive(Debug, clap::Subcommand)]
pub(super) enum AppserviceVerb {
    /// Lists all, and how far each has got.
    List,
    /// Adds one, or changes one that was added: it is served at once, and after restarts.
    Add {
        /// Its registration, a YAML file, which is not needed any more afterwards.
        file: PathBuf,
    },
    /// Removes one that was added. Its users and rooms stay.
    Remove {
        /// Its id.
        id: String,
    },
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: &AppserviceVerb) -> Result<(), Stop> {
    match verb {
        AppserviceVerb::List => {
            let answer = command(config, "GET", PATH, None)?;
            print(&listed(&answer, real_ports().clock.now_ms()))
        }
        AppserviceVerb::Add { file } => {
            let place = file.display();
            let text = fs::read_to_string(file).map_err(|error| Stop::Wrong(format!("{place}: {error}")))?;
            let registration =
                Registration::parse(&text).map_err(|why| Stop::Wrong(format!("{place}: {why}")))?;
            let path = format!("{PATH}/{}", escape(&registration.id));
            let added = command(config, "PUT", &path, Some(&json!(registration)))?;
            print(&format!("serves {}\n", name(&added)))
        }
        AppserviceVerb::Remove { id } => {
            command(config, "DELETE", &format!("{PATH}/{}", escape(id)), None)?;
            print(&format!("removed {id}\n"))
        }
    }
}

fn name(appservice: &Value) -> &str {
    appservice.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn listed(answer: &Value, now_ms: u64) -> String {
    let all = answer.get("appservices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|appservice| line(appservice, now_ms)).collect()
}

fn line(appservice: &Value, now_ms: u64) -> String {
    let text = |name: &str| appservice.get(name).and_then(Value::as_str);
    let number = |name: &str| appservice.get(name).and_then(Value::as_u64);
    let place = text("url").unwrap_or("has no url, so that it gets nothing");
    let lag = number("lag").unwrap_or_default();
    let trouble = number("failing_since_ts").map_or_else(String::new, |since_ms| {
        let minutes = now_ms.saturating_sub(since_ms) / 60_000;
        format!(", has not taken anything for {minutes} minutes: {}", text("last_error").unwrap_or_default())
    });
    let origin = text("origin").unwrap_or_default();
    let taken = number("transactions").unwrap_or_default();
    format!("{}  {place}  {origin}, {taken} transactions taken, {lag} behind{trouble}\n", name(appservice))
}

/// An id as a part of a path.
fn escape(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{escape, listed};

    #[test]
    fn application_services_are_told_a_line_each() {
        let answer = json!({ "appservices": [
            { "id": "irc", "url": "http://a:1", "origin": "added", "transactions": 7, "lag": 0,
              "failing_since_ts": null },
            { "id": "x", "url": "http://b:1", "origin": "configuration", "transactions": 0, "lag": 12,
              "failing_since_ts": 60_000, "last_error": "no answer" },
            { "id": "bot", "url": null, "origin": "added", "transactions": 0, "lag": 0 },
        ]});
        let expected = "irc  http://a:1  added, 7 transactions taken, 0 behind\n\
            x  http://b:1  configuration, 0 transactions taken, 12 behind, \
            has not taken anything for 2 minutes: no answer\n\
            bot  has no url, so that it gets nothing  added, 0 transactions taken, 0 behind\n";
        assert_eq!(listed(&answer, 180_000), expected);
    }

    #[test]
    fn an_id_is_one_part_of_the_path() {
        assert_eq!(escape("irc-1/ü?"), "irc-1%2F%C3%BC%3F");
    }
}
