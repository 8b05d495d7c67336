//! `lockstep token …`, on a running server.

use serde_json::{Value, json};

use super::{Stop, exchange::command, print};
use crate::{config::Config, server::real_ports};

const PATH: &str = "/_synapse/admin/v1/registration_tokens";
const DAY_MS: u64 = 86_400_000;

/// Looks after registration tokens, for `registration.mode = "token"`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenVerb {
    /// Makes one and prints it.
    Create {
        /// The token, instead of one that is made up.
        token: Option<String>,
        /// How many accounts can be made with it; any number otherwise.
        #[arg(long)]
        uses: Option<u64>,
        /// After how many days it ends; never otherwise.
        #[arg(long)]
        days: Option<u64>,
    },
    /// Lists those that are not in the configuration.
    List,
    /// Removes one.
    Remove {
        /// The token.
        token: String,
    },
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: &TokenVerb) -> Result<(), Stop> {
    match verb {
        TokenVerb::Create { token, uses, days } => {
            let now_ms = real_ports().clock.now_ms();
            let expiry_time = days.map(|days| now_ms.saturating_add(days.saturating_mul(DAY_MS)));
            let body = json!({ "token": token, "uses_allowed": uses, "expiry_time": expiry_time });
            let made = command(config, "POST", &format!("{PATH}/new"), Some(&body))?;
            let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
            print(&format!("{token}\n"))
        }
        TokenVerb::List => {
            let answer = command(config, "GET", PATH, None)?;
            print(&listed(&answer, real_ports().clock.now_ms()))
        }
        TokenVerb::Remove { token } => {
            command(config, "DELETE", &format!("{PATH}/{token}"), None)?;
            print(&format!("removed {token}\n"))
        }
    }
}

fn listed(answer: &Value, now_ms: u64) -> String {
    let tokens = answer.get("registration_tokens").and_then(Value::as_array);
    let line = |token: &Value| {
        let number = |name: &str| token.get(name).and_then(Value::as_u64);
        let name = token.get("token").and_then(Value::as_str).unwrap_or_default();
        let used = number("completed").unwrap_or_default();
        let uses = number("uses_allowed").map_or_else(String::new, |allowed| format!(" of {allowed}"));
        let end = number("expiry_time").map_or_else(String::new, |end_ms| match end_ms.checked_sub(now_ms) {
            Some(left_ms) => format!(", ends in {} days", left_ms.div_ceil(DAY_MS)),
            None => String::from(", has ended"),
        });
        format!("{name}  used {used}{uses}{end}\n")
    };
    tokens.map(Vec::as_slice).unwrap_or_default().iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{DAY_MS, listed};

    #[test]
    fn tokens_are_told_a_line_each() {
        let answer = json!({ "registration_tokens": [
            { "token": "a", "uses_allowed": 3, "completed": 1, "expiry_time": DAY_MS * 2 },
            { "token": "b", "uses_allowed": null, "completed": 0, "expiry_time": null },
            { "token": "c", "completed": 7, "expiry_time": 5 },
        ]});
        let expected = "a  used 1 of 3, ends in 1 days\nb  used 0\nc  used 7, has ended\n";
        assert_eq!(listed(&answer, DAY_MS), expected);
    }
}
