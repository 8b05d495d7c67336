//! Mistakes in the configuration, told so that they can be put right.

use std::{fmt, io, path::PathBuf};

use figment::error::Kind;

use super::Config;

/// Least likeness of a known key to an unknown one that is worth a question.
const LIKENESS_MIN: f64 = 0.7;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    /// One or more settings are wrong; one line for each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Mistake>),
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as it is written in its source.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// Where it was set.
    pub source: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, " (in {source})"),
            None => Ok(()),
        }
    }
}

impl ConfigError {
    pub(super) fn from_figment(error: figment::Error) -> Self {
        Self::Wrong(error.into_iter().map(|error| mistake(&error)).collect())
    }
}

fn mistake(error: &figment::Error) -> Mistake {
    let path = error.path.clone();
    let profile = error.profile.clone().unwrap_or_default();
    let spelt = |path: &[String]| match &error.metadata {
        Some(metadata) => metadata.interpolate(&profile, path),
        None => path.join("."),
    };
    let source = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
    let message = match &error.kind {
        Kind::UnknownField(name, known) => unknown(name, known),
        kind => kind.to_string(),
    };
    Mistake { key: spelt(&path), message, source }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let likeness = |other: &&str| strsim::jaro_winkler(name, other);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= LIKENESS_MIN) {
        Some(best) => format!("unknown key `{name}`; did you mean `{best}`?"),
        None => format!("unknown key `{name}`; known are {}", known.join(", ")),
    }
}

impl Config {
    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, message: &str| {
            mistakes.push(Mistake { key: String::from(key), message: String::from(message), source: None });
        };
        if self.listen.is_empty() {
            wrong("listen", "the server must listen somewhere");
        }
        if let Some(url) = &self.public_base_url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
                wrong("public_base_url", "it is written as https://host or https://host:port");
            }
        }
        let limits = &self.rate_limits;
        let rates = [
            ("rate_limits.login", limits.login),
            ("rate_limits.registration", limits.registration),
            ("rate_limits.messages", limits.messages),
            ("rate_limits.joins", limits.joins),
            ("rate_limits.invites", limits.invites),
            ("rate_limits.general", limits.general),
        ];
        for (key, rate) in rates {
            if !(rate.per_second > 0.0 && rate.per_second.is_finite()) || rate.burst == 0 {
                wrong(key, "`per_second` and `burst` are above 0");
            }
        }
        if self.limits.concurrent_requests == 0 || self.limits.long_polls == 0 || self.limits.connections == 0
        {
            wrong("limits", "a limit is above 0");
        }
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(mistakes)) }
    }
}
