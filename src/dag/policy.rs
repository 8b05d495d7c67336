//! What a room's policy server has to say of an event.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName,
    room_version_rules::RoomVersionRules, serde::Base64,
};
use serde::Deserialize;

use super::{Pdu, redact::prune};
use crate::keys::{PublicKeyMap, PublicKeySet, verify_object};

/// The id of the key with which every policy server signs.
const KEY_ID: &str = "ed25519:policy_server";

/// The policy server of a room, as its state names it. It counts only while a user of it is in the room.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub via: OwnedServerName,
    keys: PublicKeyMap,
}

impl Policy {
    /// Where a room's state names it: this type with the empty state key.
    pub const EVENT_TYPE: &str = "m.room.policy";

    /// The policy server that a state event names, if it is well made.
    #[must_use]
    pub fn of(event: &Pdu) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            via: OwnedServerName,
            public_keys: Keys,
        }
        #[derive(Deserialize)]
        struct Keys {
            ed25519: Base64,
        }
        let Content { via, public_keys } = event.content_as().ok()?;
        let set = PublicKeySet::from([(KEY_ID.to_owned(), public_keys.ed25519)]);
        Some(Self { keys: PublicKeyMap::from([(via.to_string(), set)]), via })
    }

    /// Whether policy servers have a say in an event: not in the one that names them.
    #[must_use]
    pub fn concerns(event: &Pdu) -> bool {
        event.event_type().to_string() != Self::EVENT_TYPE || event.state_key() != Some("")
    }

    /// Whether the event bears the policy server's signature.
    #[must_use]
    pub fn recommends(&self, event: &Pdu, rules: &RoomVersionRules) -> bool {
        let pruned = prune(event, rules).map(|pruned| pruned.object());
        pruned.is_ok_and(|object| verify_object(&self.via, &object, &self.keys).is_ok())
    }

    /// The event with the signature that the policy server has given for it, if that is good.
    #[must_use]
    pub fn accept(&self, event: &Pdu, signature: &str, rules: &RoomVersionRules) -> Option<Pdu> {
        let mut object = event.object();
        insert_signature(&mut object, &self.via, signature)?;
        let signed =
            Pdu::load(crate::keys::canonical_text(&object), event.event_id().to_owned(), rules).ok()?;
        self.recommends(&signed, rules).then_some(signed)
    }
}

/// Beside what that server may have signed already as the one that made the event.
fn insert_signature(object: &mut CanonicalJsonObject, server: &ServerName, signature: &str) -> Option<()> {
    let all = object.entry("signatures".into()).or_insert_with(|| CanonicalJsonValue::Object(<_>::default()));
    let set = all.as_object_mut()?.entry(server.as_str().into());
    let set = set.or_insert_with(|| CanonicalJsonValue::Object(<_>::default()));
    set.as_object_mut()?.insert(KEY_ID.into(), CanonicalJsonValue::String(signature.to_owned()));
    Some(())
}

#[cfg(test)]
pub(crate) mod tests {
    use ruma::{OwnedServerName, ServerName, room_version_rules::RoomVersionRules};
    use serde_json::{Value, json};

    use super::{KEY_ID, Policy};
    use crate::{
        dag::{Pdu, world::World},
        keys::SigningKey,
    };

    /// The key of the policy server `server`.
    pub(crate) fn policy_key(server: &ServerName) -> SigningKey {
        SigningKey::from_seed(server.to_owned(), "policy_server", [9; 32]).unwrap()
    }

    /// The content that makes `server` the policy server of a room.
    pub(crate) fn policy_content(server: &ServerName) -> Value {
        json!({ "via": server, "public_keys": { "ed25519": policy_key(server).public_key() } })
    }

    /// What the policy server `server` answers when it has nothing against `event`.
    pub(crate) fn signature(server: &ServerName, event: &Pdu, rules: &RoomVersionRules) -> String {
        let mut object = event.object();
        object.remove("signatures");
        policy_key(server).sign_event(&mut object, rules).unwrap();
        let signatures = serde_json::to_value(&object["signatures"]).unwrap();
        signatures[server.as_str()][KEY_ID].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_policy_server_needs_a_name_and_a_key() {
        let server = OwnedServerName::try_from("b.org").unwrap();
        let mut world = World::new("12");
        for (content, expected) in [
            (policy_content(&server), true),
            (json!({}), false),
            (json!({ "via": "b.org" }), false),
            (json!({ "via": "b.org", "public_keys": {} }), false),
            (json!({ "via": "b.org", "public_keys": { "ed25519": 7 } }), false),
            (json!({ "via": "not a name", "public_keys": { "ed25519": "AAAA" } }), false),
        ] {
            let event = world.build("alice", "m.room.policy", Some(""), content.clone()).unwrap();
            assert_eq!(Policy::of(&event).is_some(), expected, "{content}");
            assert!(!Policy::concerns(&event));
        }
        let other = world.build("alice", "m.room.policy", Some("x"), json!({})).unwrap();
        assert!(Policy::concerns(&other));
    }

    #[test]
    fn only_its_own_signature_of_this_event_will_do() {
        for version in ["1", "6", "11", "12"] {
            let (b, c) =
                (OwnedServerName::try_from("b.org").unwrap(), OwnedServerName::try_from("c.org").unwrap());
            let mut world = World::new(version);
            let named = world.build("alice", "m.room.policy", Some(""), policy_content(&b)).unwrap();
            let policy = Policy::of(&named).unwrap();
            let event = world.build("alice", "m.room.message", None, json!({ "body": "x" })).unwrap();
            let other = world.build("alice", "m.room.message", None, json!({ "body": "y" })).unwrap();
            assert!(!policy.recommends(&event, world.rules));
            let good = signature(&b, &event, world.rules);
            let signed = policy.accept(&event, &good, world.rules).unwrap();
            assert!(policy.recommends(&signed, world.rules), "version {version}");
            assert_eq!(signed.event_id(), event.event_id());
            assert!(policy.accept(&other, &good, world.rules).is_none());
            assert!(
                policy.accept(&event, &signature(&c, &event, world.rules), world.rules).is_some(),
                "one key"
            );
            assert!(policy.accept(&event, "nonsense", world.rules).is_none());
            assert!(policy.accept(&event, "", world.rules).is_none());
        }
    }

    #[test]
    fn the_signature_of_who_made_the_event_stays() {
        let a = OwnedServerName::try_from("a.org").unwrap();
        let mut world = World::new("12");
        let named = world.build("alice", "m.room.policy", Some(""), policy_content(&a)).unwrap();
        let policy = Policy::of(&named).unwrap();
        let event = world.build("alice", "m.room.message", None, json!({ "body": "x" })).unwrap();
        let signed = policy.accept(&event, &signature(&a, &event, world.rules), world.rules).unwrap();
        let signatures = serde_json::to_value(signed.object()).unwrap()["signatures"]["a.org"].clone();
        let mut ids: Vec<_> = signatures.as_object().unwrap().keys().cloned().collect();
        ids.sort();
        assert_eq!(ids, ["ed25519:k", "ed25519:policy_server"]);
    }
}
