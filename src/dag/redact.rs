//! Redaction: what remains of an event, and who may ask for it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{canonical_json::redact_in_place, events::StateEventType, room_version_rules::RoomVersionRules};

use super::{
    pdu::{FormatError, Pdu},
    power::Power,
};
use crate::keys;

/// What remains of `pdu` once it is redacted, by the rules of its room version. The id stays the same.
pub fn prune(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, FormatError> {
    let mut object = pdu.object();
    redact_in_place(&mut object, &rules.redaction, None).map_err(|_| FormatError::Field("type"))?;
    let pruned = Pdu::load(keys::canonical_text(&object), pdu.event_id().to_owned(), rules)?;
    Ok(if pdu.is_rejected() { pruned.into_rejected() } else { pruned })
}

/// Whether the accepted event `redaction` takes effect on `target`: its sender has the power to redact in
/// `state`, or is on the server of the target's sender.
///
/// <https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions>
pub fn takes_effect(
    redaction: &Pdu,
    target: &Pdu,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
    rules: &RoomVersionRules,
) -> bool {
    if redaction.redacts() != Some(target.event_id()) || redaction.room_id() != target.room_id() {
        return false;
    }
    if redaction.sender().server_name() == target.sender().server_name() {
        return true;
    }
    Power::of(state, &rules.authorization).may_redact_others(redaction.sender())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{prune, takes_effect};
    use crate::dag::{Pdu, versions, world::World};

    /// What is left of a content.
    #[track_caller]
    fn check(version: &str, event_type: &str, content: Value, expected: Value) {
        let mut world = World::new(version);
        let state_key = if event_type == "m.room.member" { "@alice:a.org" } else { "" };
        let pdu = world.build("alice", event_type, Some(state_key), content).unwrap();
        let pruned = prune(&pdu, world.rules).unwrap();
        assert_eq!(pruned.content_as::<Value>().unwrap(), expected);
        assert_eq!(pruned.event_id(), pdu.event_id());
        assert_eq!(Pdu::parse(pruned.text(), world.rules).unwrap().event_id(), pdu.event_id());
    }

    #[test]
    fn what_remains_is_a_matter_of_the_version() {
        let message = json!({"body": "x"});
        check("1", "m.room.message", message.clone(), json!({}));
        check("12", "m.room.message", message, json!({}));
        let member =
            json!({"membership": "join", "displayname": "A", "join_authorised_via_users_server": "@x:a.org"});
        check("8", "m.room.member", member.clone(), json!({"membership": "join"}));
        check(
            "9",
            "m.room.member",
            member,
            json!({"membership": "join", "join_authorised_via_users_server": "@x:a.org"}),
        );
        let rules = json!({"join_rule": "restricted", "allow": []});
        check("7", "m.room.join_rules", rules.clone(), json!({"join_rule": "restricted"}));
        check("8", "m.room.join_rules", rules.clone(), rules);
        let power = json!({"ban": 5, "invite": 6, "users": {}});
        check("10", "m.room.power_levels", power.clone(), json!({"ban": 5, "users": {}}));
        check("11", "m.room.power_levels", power.clone(), power);
        let aliases = json!({"aliases": ["#a:a.org"]});
        check("5", "m.room.aliases", aliases.clone(), aliases.clone());
        check("6", "m.room.aliases", aliases, json!({}));
    }

    #[test]
    fn who_may_redact() {
        for version in versions::SUPPORTED {
            let mut world = World::new(version.as_str());
            world.join("bob:b.org");
            world.join("carol:b.org");
            let target = world.send("bob:b.org", "m.room.message", None, json!({})).unwrap();
            for (sender, expected) in
                [("alice", true), ("bob:b.org", true), ("carol:b.org", true), ("dan:c.org", false)]
            {
                let content = match version.as_str().parse::<u8>().unwrap() >= 11 {
                    true => json!({"redacts": target.event_id()}),
                    false => json!({}),
                };
                let built = world.build(sender, "m.room.redaction", None, content).unwrap();
                let mut object = built.object();
                object.insert(String::from("redacts"), target.event_id().as_str().into());
                let redaction = Pdu::from_object(object, world.rules).unwrap();
                let found = takes_effect(&redaction, &target, |t, k| world.at(t, k), world.rules);
                assert_eq!(found, expected, "version {version}, {sender}");
            }
        }
    }
}
