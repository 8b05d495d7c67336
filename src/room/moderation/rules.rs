//! The rules of one policy list: what its state events say, and what fits them.
//!
//! Rules are globs, which are matched from left to right and never by trying everything that a `*` may stand for: an
//! entity is compared with a rule in at most as many steps as both have characters, multiplied. Both are short.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#moderation-policy-lists>

use std::collections::{BTreeMap, HashSet};

use ruma::serde::{Base64, base64::Standard};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wildmatch::WildMatch;

use crate::limits::ID_BYTES_MAX;

/// The types of rules: those of the specification, then those from before it, the newest first. Where one stands, an older
/// one with the same key counts no more. Each generation is about users, servers and rooms, in this order.
pub(super) const TYPES: [&str; 9] = [
    "m.policy.rule.user",
    "m.policy.rule.server",
    "m.policy.rule.room",
    "m.room.rule.user",
    "m.room.rule.server",
    "m.room.rule.room",
    "org.matrix.mjolnir.rule.user",
    "org.matrix.mjolnir.rule.server",
    "org.matrix.mjolnir.rule.room",
];

/// How many kinds of entities there are.
const KINDS: usize = 3;

/// What is wanted of those who are named: that they are kept out, or (MSC4204) that what they left is removed too, which
/// is for administrators to do.
const BANS: [&str; 4] = ["m.ban", "org.matrix.mjolnir.ban", "m.takedown", "org.matrix.msc4204.takedown"];

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Server,
    Room,
}

/// Where a rule stands: the index of its type in [`TYPES`], and its state key.
pub(super) type Place = (usize, String);

/// Whom or what a rule bans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A glob.
    Glob(String),
    /// A SHA-256 (MSC4205).
    Hash([u8; 32]),
}

impl Rule {
    /// What the content of an event bans; nothing if it is no ban, or was taken back.
    pub(super) fn read(content: &str) -> Option<Self> {
        let content: Value = serde_json::from_str(content).ok()?;
        let recommendation = content.get("recommendation")?.as_str()?;
        if !BANS.contains(&recommendation) {
            return None;
        }
        if let Some(entity) = content.get("entity").and_then(Value::as_str) {
            // Nothing that has an id is longer.
            let is_plain = !entity.is_empty() && entity.len() <= ID_BYTES_MAX;
            return is_plain.then(|| Self::Glob(String::from(entity)));
        }
        let hashes = content.get("hashes").or_else(|| content.get("org.matrix.msc4205.hashes"))?;
        let hash = Base64::<Standard>::parse(hashes.get("sha256")?.as_str()?).ok()?;
        hash.into_inner().try_into().ok().map(Self::Hash)
    }
}

/// The rules of a list, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// As they stand in the room's state; nothing where an event says nothing any more.
    places: BTreeMap<Place, Option<Rule>>,
    sets: [Set; KINDS],
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Set {
    exact: HashSet<String>,
    globs: Vec<WildMatch>,
    hashes: HashSet<[u8; 32]>,
}

impl Set {
    fn add(&mut self, rule: &Rule, kind: Kind) {
        match rule {
            Rule::Hash(hash) => {
                self.hashes.insert(*hash);
            }
            Rule::Glob(glob) => {
                let glob = if kind == Kind::Server { glob.to_lowercase() } else { glob.clone() };
                match glob.contains(['*', '?']) {
                    true => self.globs.push(WildMatch::new(&glob)),
                    false => {
                        self.exact.insert(glob);
                    }
                }
            }
        }
    }

    fn fits(&self, entity: &str) -> bool {
        self.exact.contains(entity)
            || (!self.hashes.is_empty() && self.hashes.contains(&<[u8; 32]>::from(Sha256::digest(entity))))
            || self.globs.iter().any(|glob| glob.matches(entity))
    }
}

fn kind_of(index: usize) -> Kind {
    match index % KINDS {
        0 => Kind::User,
        1 => Kind::Server,
        _ => Kind::Room,
    }
}

impl Rules {
    /// The rules at these places.
    pub(super) fn of(places: BTreeMap<Place, Option<Rule>>) -> Self {
        let mut sets: [Set; KINDS] = Default::default();
        for ((index, key), rule) in &places {
            let mut newer = (index % KINDS..*index).step_by(KINDS);
            let is_replaced = newer.any(|newer| places.contains_key(&(newer, key.clone())));
            if let Some(rule) = rule.as_ref().filter(|_| !is_replaced) {
                sets[index % KINDS].add(rule, kind_of(*index));
            }
        }
        Self { places, sets }
    }

    /// What stands at its places.
    pub(super) fn places(&self) -> &BTreeMap<Place, Option<Rule>> {
        &self.places
    }

    /// How many rules there are.
    pub(super) fn count(&self) -> usize {
        self.places.values().flatten().count()
    }

    /// Whether some rule of a kind fits `entity`; the name of a server is in small letters.
    pub(super) fn ban(&self, kind: Kind, entity: &str) -> bool {
        self.sets[kind as usize].fits(entity)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{Kind, Rule, Rules, TYPES};

    fn rules(events: &[(&str, &str, Value)]) -> Rules {
        let mut places = BTreeMap::new();
        for (kind, key, content) in events {
            let index = TYPES.iter().position(|known| known == kind).unwrap();
            places.insert((index, String::from(*key)), Rule::read(&content.to_string()));
        }
        Rules::of(places)
    }

    #[test]
    fn bans_fit_whom_they_name() {
        use Kind::{Room, Server, User};
        let ban = |entity: &str| json!({ "entity": entity, "recommendation": "m.ban", "reason": "spam" });
        let wants = |what: &str| json!({ "entity": "@a:b", "recommendation": what });
        // The SHA-256 of `@a:b`.
        let hash = "IX6nWyredh8FaxgtY+P1vYldyI+KVPLqnB0Mx1Th8i8=";
        let hash = |field: &str| json!({ field: { "sha256": hash }, "recommendation": "m.takedown" });
        let [user, server, room] = ["m.policy.rule.user", "m.policy.rule.server", "m.policy.rule.room"];
        for (kind, content, (asked, entity), expected) in [
            (user, ban("@a:b"), (User, "@a:b"), true),
            (user, ban("@a:b"), (User, "@aa:b"), false),
            (user, ban("@a:b"), (Room, "@a:b"), false),
            (user, ban("@*:b"), (User, "@anybody:b"), true),
            (user, ban("@a?:b"), (User, "@ax:b"), true),
            (user, ban("@a?:b"), (User, "@a:b"), false),
            (user, ban("*"), (User, "@a:b"), true),
            (user, ban(""), (User, "@a:b"), false),
            (server, ban("*.Evil.org"), (Server, "x.evil.org"), true),
            (server, ban("EVIL.org"), (Server, "evil.org"), true),
            (server, ban("evil.org"), (Server, "notevil.org"), false),
            (room, ban("!room:b"), (Room, "!room:b"), true),
            (room, ban("#room:*"), (Room, "#room:b"), true),
            (user, wants("org.matrix.mjolnir.ban"), (User, "@a:b"), true),
            (user, wants("m.takedown"), (User, "@a:b"), true),
            (user, wants("org.matrix.msc4204.takedown"), (User, "@a:b"), true),
            (user, wants("org.matrix.mjolnir.allow"), (User, "@a:b"), false),
            (user, json!({}), (User, "@a:b"), false),
            (user, json!({ "entity": 1, "recommendation": "m.ban" }), (User, "@a:b"), false),
            (user, hash("hashes"), (User, "@a:b"), true),
            (user, hash("org.matrix.msc4205.hashes"), (User, "@a:b"), true),
            (user, hash("hashes"), (User, "@b:b"), false),
            (user, json!({ "hashes": { "sha256": "?" }, "recommendation": "m.ban" }), (User, "@a:b"), false),
            ("m.room.rule.user", ban("@a:b"), (User, "@a:b"), true),
            ("org.matrix.mjolnir.rule.server", ban("b"), (Server, "b"), true),
        ] {
            let found = rules(&[(kind, "rule", content.clone())]).ban(asked, entity);
            assert_eq!(found, expected, "{kind} {content}: {entity}");
        }
    }

    #[test]
    fn what_stands_under_a_newer_type_counts_alone() {
        let ban = json!({ "entity": "@a:b", "recommendation": "m.ban" });
        let older = ("m.room.rule.user", "rule", ban.clone());
        assert!(rules(std::slice::from_ref(&older)).ban(Kind::User, "@a:b"));
        assert!(!rules(&[older.clone(), ("m.policy.rule.user", "rule", json!({}))]).ban(Kind::User, "@a:b"));
        assert!(rules(&[older.clone(), ("m.policy.rule.user", "other", json!({}))]).ban(Kind::User, "@a:b"));
        assert!(rules(&[older, ("m.policy.rule.server", "rule", json!({}))]).ban(Kind::User, "@a:b"));
    }

    /// As CVE-2023-45129 (Synapse: a hostile ACL): what is longest to match is matched at once.
    #[test]
    fn hostile_globs_are_matched_at_once() {
        let glob = format!("{}b", "*a".repeat(120));
        let content = json!({ "entity": glob, "recommendation": "m.ban" });
        let list: Vec<_> =
            (0..100).map(|at| ("m.policy.rule.user", at.to_string(), content.clone())).collect();
        let list: Vec<_> = list.iter().map(|(kind, key, content)| (*kind, &**key, content.clone())).collect();
        let rules = rules(&list);
        // Whoever tries everything that the stars may stand for does not come to an end.
        assert!(!rules.ban(Kind::User, &"a".repeat(255)));
        let long = json!({ "entity": "*a".repeat(200), "recommendation": "m.ban" });
        assert_eq!(Rule::read(&long.to_string()), None);
    }
}
