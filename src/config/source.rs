//! Where settings come from, and the short forms that they may be written in.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Serialized, Toml},
    util::nest,
    value::{Dict, Map, Value},
};

use super::{Config, ConfigError};

/// The environment variables with a meaning of their own: the name of the file, and two that belong to
/// the project's tests.
const RESERVED: [&str; 3] = ["CONFIG", "BIN", "CLIENTS"];

/// Sections for which a single word sets one key.
const SHORT: [(&str, &str); 8] = [
    ("registration", "mode"),
    ("invites", "from"),
    ("store", "engine"),
    ("rate_limits", "enabled"),
    ("federation", "enabled"),
    ("oauth", "enabled"),
    ("search", "enabled"),
    ("retention", "enabled"),
];

/// Where settings come from; later ones win: defaults, the file, the environment, flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, which must exist if it is named.
    pub file: Option<PathBuf>,
    /// Environment variables. `LOCKSTEP_STORE__CACHE_MIB` is the key `store.cache_mib`.
    pub environment: Vec<(String, String)>,
    /// Flags `-O key=value`, with dots in the key.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown or a value is not allowed; see [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(file) = &self.file {
            figment =
                figment.merge(Short(Toml::string(&read(file)?), format!("the file {}", file.display())));
        }
        figment = figment.merge(self.environment()).merge(self.overrides());
        let config: Config = figment.extract().map_err(ConfigError::from_figment)?;
        config.check()?;
        Ok(config)
    }

    fn environment(&self) -> Words {
        let ours = |(name, value): &(String, String)| {
            let name = name.strip_prefix("LOCKSTEP_").filter(|name| !RESERVED.contains(name))?;
            Some((name.to_ascii_lowercase().replace("__", "."), value.clone()))
        };
        let words = self.environment.iter().filter_map(ours).collect();
        Words { words, spelling: Spelling::Environment }
    }

    fn overrides(&self) -> Words {
        Words { words: self.overrides.clone(), spelling: Spelling::Flag }
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError::Read(file.to_owned(), error))
}

/// How a key is written in a source, for errors.
#[derive(Clone, Copy)]
enum Spelling {
    Environment,
    Flag,
}

/// Single settings as words.
struct Words {
    words: Vec<(String, String)>,
    spelling: Spelling,
}

impl Provider for Words {
    fn metadata(&self) -> Metadata {
        match self.spelling {
            Spelling::Environment => {
                Metadata::named("the environment").interpolater(|_: &Profile, keys: &[&str]| {
                    format!("LOCKSTEP_{}", keys.join("__").to_ascii_uppercase())
                })
            }
            Spelling::Flag => Metadata::named("the flags")
                .interpolater(|_: &Profile, keys: &[&str]| format!("-O {}", keys.join("."))),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (key, text) in &self.words {
            let mut nested = Dict::new();
            if let Value::Dict(_, entries) = nest(key, value(text)) {
                nested = entries;
            }
            lengthen(&mut nested);
            join(&mut dict, nested);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// A file in which the short forms are allowed.
struct Short<P>(P, String);

impl<P: Provider> Provider for Short<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.1.clone()).interpolater(|_: &Profile, keys: &[&str]| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.0.data()?;
        data.values_mut().for_each(lengthen);
        Ok(data)
    }
}

/// Puts later words beside earlier ones, inside the same sections.
fn join(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => join(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Replaces the short forms by the long ones.
fn lengthen(dict: &mut Dict) {
    for (section, key) in SHORT {
        let Some(value) = dict.remove(section) else { continue };
        let value = match value {
            Value::Dict(..) => value,
            short => Value::from(Dict::from([(String::from(key), switch(short, key))])),
        };
        dict.insert(String::from(section), value);
    }
    if let Some(Value::String(_, text)) = dict.get("listen") {
        let addresses: Vec<Value> = text.split(',').map(|address| Value::from(address.trim())).collect();
        dict.insert(String::from("listen"), Value::from(addresses));
    }
}

/// `on` and `off` for a key that is switched.
fn switch(value: Value, key: &str) -> Value {
    match (key, value.as_str()) {
        ("enabled", Some("on")) => Value::from(true),
        ("enabled", Some("off")) => Value::from(false),
        _ => value,
    }
}

/// A word as the value it looks like: what TOML would read, else text.
fn value(text: &str) -> Value {
    let text = text.trim();
    let toml: Result<toml::Table, _> = format!("v = {text}").parse();
    let parsed = toml.ok().and_then(|mut table| table.remove("v"));
    match parsed.map(Value::serialize) {
        Some(Ok(value)) => value,
        _ => Value::from(text),
    }
}
