//! Which users, aliases and rooms an application service has to do with.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#definition-namespace>

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::limits::APPSERVICE_REGEX_BYTES_MAX;

/// One entry, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    regex: String,
    #[serde(default)]
    exclusive: bool,
}

/// The entries of one kind. Expressions take time in proportion to what they look at.
#[derive(Debug, Default)]
pub struct Namespace(Vec<(Regex, bool)>);

/// The entries of all kinds.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Of user ids.
    pub users: Namespace,
    /// Of room aliases.
    pub aliases: Namespace,
    /// Of room ids.
    pub rooms: Namespace,
}

impl Namespace {
    pub(super) fn read(entries: Vec<Entry>) -> Result<Self, regex::Error> {
        let read = |entry: Entry| {
            // They have to match from the beginning, as they do elsewhere, and may end before the end.
            let regex = RegexBuilder::new(&format!("^(?:{})", entry.regex))
                .size_limit(APPSERVICE_REGEX_BYTES_MAX)
                .build()?;
            Ok((regex, entry.exclusive))
        };
        Ok(Self(entries.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether some entry matches.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        self.0.iter().any(|(regex, _)| regex.is_match(id))
    }

    /// Whether some exclusive entry matches.
    #[must_use]
    pub fn keeps(&self, id: &str) -> bool {
        self.0.iter().any(|(regex, exclusive)| *exclusive && regex.is_match(id))
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
