//! The authorisation rules as a table: a room, an event, and what the rules say to it.

use serde_json::{Value, json};

use super::world::World;

type Step = (&'static str, &'static str, &'static str, Value);

fn member(sender: &'static str, target: &'static str, membership: &str) -> Step {
    (sender, "m.room.member", target, json!({ "membership": membership }))
}

fn rule(join_rule: &str) -> Step {
    ("alice", "m.room.join_rules", "", json!({ "join_rule": join_rule }))
}

fn restricted(join_rule: &str) -> Step {
    let allow = json!([{"type": "m.room_membership", "room_id": "!other:a.org"}]);
    ("alice", "m.room.join_rules", "", json!({ "join_rule": join_rule, "allow": allow }))
}

fn join_by(name: &'static str, target: &'static str, via: &str) -> Step {
    let content = json!({"membership": "join", "join_authorised_via_users_server": via});
    (name, "m.room.member", target, content)
}

fn powers(content: Value) -> Step {
    ("alice", "m.room.power_levels", "", content)
}

/// State keys beginning with `-` stand for "none".
fn key(text: &'static str) -> Option<&'static str> {
    (text != "-").then_some(text)
}

/// Whether the last of `steps` is allowed (an empty `expected`) or which words deny it, in each version.
#[track_caller]
fn check(versions: &[&str], steps: &[Step], expected: &str) {
    for version in versions {
        let mut world = World::new(version);
        let ((sender, event_type, state_key, content), before) = steps.split_last().unwrap();
        for (sender, event_type, state_key, content) in before {
            world.send(sender, event_type, key(state_key), content.clone()).unwrap();
        }
        match world.send(sender, event_type, key(state_key), content.clone()) {
            Ok(_) => assert_eq!(expected, "", "version {version}: allowed"),
            Err(denied) => {
                assert!(!expected.is_empty() && denied.0.contains(expected), "version {version}: {denied}");
            }
        }
    }
}

const ALL: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
const BOB: &str = "@bob:b.org";
const CAROL: &str = "@carol:c.org";

fn hello(sender: &'static str) -> Step {
    (sender, "m.room.message", "-", json!({"body": "hello"}))
}

fn bob_joins() -> Step {
    member("bob:b.org", BOB, "join")
}

#[test]
fn who_may_speak() {
    check(&ALL, &[bob_joins(), hello("bob:b.org")], "");
    check(&ALL, &[hello("bob:b.org")], "not `join`");
    check(&ALL, &[bob_joins(), member("alice", BOB, "ban"), hello("bob:b.org")], "not `join`");
    check(&ALL, &[bob_joins(), member("bob:b.org", BOB, "leave"), hello("bob:b.org")], "not `join`");
    check(&ALL, &[member("alice", BOB, "invite"), hello("bob:b.org")], "not `join`");
}

#[test]
fn who_may_join() {
    check(&ALL, &[bob_joins()], "");
    check(&ALL, &[rule("invite"), bob_joins()], "cannot join");
    check(&ALL, &[rule("invite"), member("alice", BOB, "invite"), bob_joins()], "");
    check(&ALL, &[member("alice", BOB, "ban"), bob_joins()], "banned");
    check(&ALL, &[member("alice", BOB, "join")], "sender of join event");
    check(&ALL, &[bob_joins(), rule("invite"), bob_joins()], "");
}

#[test]
fn restricted_joins() {
    let since_8 = ["8", "9", "10", "11", "12"];
    let by_alice = || join_by("bob:b.org", BOB, "@alice:a.org");
    check(&since_8, &[restricted("restricted"), by_alice()], "");
    check(&since_8, &[restricted("restricted"), bob_joins()], "without");
    check(&since_8, &[restricted("restricted"), member("alice", BOB, "invite"), bob_joins()], "");
    check(&since_8, &[restricted("restricted"), join_by("bob:b.org", BOB, "@carol:c.org")], "joined");
    let weak = powers(json!({"users": {}, "invite": 50}));
    let carol = member("carol:c.org", CAROL, "join");
    check(
        &["8", "11", "12"],
        &[carol, restricted("restricted"), weak, join_by("bob:b.org", BOB, CAROL)],
        "power",
    );
    check(&["6", "7"], &[restricted("restricted"), by_alice()], "cannot join");
    check(&["8", "9"], &[restricted("knock_restricted"), by_alice()], "cannot join");
    check(&["10", "11", "12"], &[restricted("knock_restricted"), by_alice()], "");
}

#[test]
fn knocks() {
    let knock = || member("bob:b.org", BOB, "knock");
    check(&["7", "8", "9", "10", "11", "12"], &[rule("knock"), knock()], "");
    check(&["10", "11", "12"], &[restricted("knock_restricted"), knock()], "");
    check(&["7", "8", "9"], &[restricted("knock_restricted"), knock()], "knock");
    check(&["7", "12"], &[rule("invite"), knock()], "knock");
    check(&["1", "6"], &[rule("knock"), knock()], "membership");
    check(&["7", "12"], &[rule("knock"), member("alice", BOB, "ban"), knock()], "knock");
    check(&["7", "12"], &[rule("knock"), knock(), member("alice", BOB, "invite"), bob_joins()], "");
    check(&["7", "12"], &[rule("knock"), knock(), member("bob:b.org", BOB, "leave")], "");
}

#[test]
fn kicks_and_bans() {
    check(&ALL, &[bob_joins(), member("alice", BOB, "leave")], "");
    check(&ALL, &[bob_joins(), member("bob:b.org", "@alice:a.org", "leave")], "power");
    check(&ALL, &[bob_joins(), member("bob:b.org", "@alice:a.org", "ban")], "power");
    check(&ALL, &[member("alice", BOB, "ban"), member("bob:b.org", BOB, "leave")], "leave");
    check(&ALL, &[member("alice", BOB, "ban"), member("alice", BOB, "leave"), bob_joins()], "");
    let moderators = json!({"users": {"@bob:b.org": 50, "@carol:c.org": 50}});
    let carol = member("carol:c.org", CAROL, "join");
    check(&["12"], &[bob_joins(), carol, powers(moderators), member("bob:b.org", CAROL, "ban")], "power");
}

#[test]
fn power_levels() {
    let old = |bob: i64| json!({"users": {"@alice:a.org": 100, "@bob:b.org": bob}});
    let new = |bob: i64| json!({"users": {"@bob:b.org": bob}});
    let below_12 = &ALL[..11];
    let name = || ("bob:b.org", "m.room.name", "", json!({"name": "n"}));
    check(&ALL, &[bob_joins(), name()], "power");
    check(below_12, &[bob_joins(), powers(old(50)), name()], "");
    check(&["12"], &[bob_joins(), powers(new(50)), name()], "");

    let by_bob = |content| ("bob:b.org", "m.room.power_levels", "", content);
    check(below_12, &[bob_joins(), powers(old(50)), by_bob(old(100))], "power");
    check(below_12, &[bob_joins(), powers(old(50)), by_bob(old(40))], "");
    check(below_12, &[bob_joins(), powers(old(100)), by_bob(json!({"users": {"@bob:b.org": 100}}))], "power");
    check(&["12"], &[bob_joins(), powers(new(50)), by_bob(new(51))], "power");

    let text = json!({"users": {"@alice:a.org": 100, "@bob:b.org": "50"}});
    check(&ALL[..9], &[bob_joins(), powers(text.clone())], "");
    check(&["10", "11", "12"], &[bob_joins(), powers(text)], "users");
    let float_like = json!({"ban": "50", "users": {"@alice:a.org": 100}});
    check(&["10", "11"], &[powers(float_like)], "ban");
}

#[test]
fn notification_levels_are_guarded_since_version_6() {
    let at = |room: i64| json!({"users": {"@alice:a.org": 100, "@bob:b.org": 50}, "notifications": {"room": room}});
    let raised = ("bob:b.org", "m.room.power_levels", "", at(60));
    check(&["1", "5"], &[bob_joins(), powers(at(50)), raised.clone()], "");
    check(&["6", "11"], &[bob_joins(), powers(at(50)), raised], "power");
}

#[test]
fn creators_of_version_12_stand_above_all() {
    check(&["12"], &[powers(json!({"users": {"@alice:a.org": 100}}))], "creator");
    check(&["12"], &[powers(json!({"users": {"@bob:b.org": 9_007_199_254_740_991_i64}}))], "");
    let top = json!({"users": {"@bob:b.org": 9_007_199_254_740_991_i64}, "state_default": 1_000});
    let by_bob = ("bob:b.org", "m.room.member", "@alice:a.org", json!({"membership": "ban"}));
    check(&["12"], &[bob_joins(), powers(top.clone()), by_bob], "power");
    check(&["12"], &[bob_joins(), powers(top), ("alice", "m.room.topic", "", json!({"topic": "t"}))], "");
}

#[test]
fn additional_creators_count_since_version_12() {
    for (version, expected) in [("11", false), ("12", true)] {
        let mut world = World::bare(version, json!({"additional_creators": ["@bob:b.org"]}));
        world.send("alice", "m.room.member", Some("@alice:a.org"), json!({"membership": "join"})).unwrap();
        let users = if expected { json!({}) } else { json!({"@alice:a.org": 100}) };
        world.send("alice", "m.room.power_levels", Some(""), json!({ "users": users })).unwrap();
        world.send("alice", "m.room.join_rules", Some(""), json!({"join_rule": "public"})).unwrap();
        world.join("bob:b.org");
        let named = world.send("bob:b.org", "m.room.name", Some(""), json!({"name": "n"}));
        assert_eq!(named.is_ok(), expected, "version {version}");
    }
    let mut bad = World::new("12");
    bad.state.clear();
    bad.heads.clear();
    assert!(bad.send("alice", "m.room.create", Some(""), json!({"additional_creators": ["bob"]})).is_err());
}

#[test]
fn rooms_that_do_not_federate() {
    for version in ["1", "11", "12"] {
        let mut world = World::bare(version, json!({"m.federate": false}));
        world.send("alice", "m.room.member", Some("@alice:a.org"), json!({"membership": "join"})).unwrap();
        world.send("alice", "m.room.join_rules", Some(""), json!({"join_rule": "public"})).unwrap();
        assert!(
            world.send("dora", "m.room.member", Some("@dora:a.org"), json!({"membership": "join"})).is_ok()
        );
        let far = world.send("bob:b.org", "m.room.member", Some(BOB), json!({"membership": "join"}));
        assert!(far.unwrap_err().0.contains("federated"), "version {version}");
    }
}

#[test]
fn state_keys_that_name_a_user_are_the_users_own() {
    check(&ALL, &[("alice", "x.y", "@alice:a.org", json!({}))], "");
    check(&ALL, &[("alice", "x.y", "@bob:b.org", json!({}))], "another user");
    let alias = |key| ("alice", "m.room.aliases", key, json!({"aliases": []}));
    check(&["1", "5"], &[alias("b.org")], "server name");
    check(&["1", "5"], &[alias("a.org")], "");
    check(&["6", "12"], &[alias("b.org")], "");
}

#[test]
fn a_create_event_stands_alone() {
    for version in ["1", "10"] {
        let mut world = World::new(version);
        let again = world.send("alice", "m.room.create", Some(""), json!({"creator": "@alice:a.org"}));
        assert!(again.unwrap_err().0.contains("previous events"), "version {version}");
    }
    let mut world = World::new("10");
    world.heads.clear();
    let without = world.send("alice", "m.room.create", Some(""), json!({"room_version": "10"}));
    assert!(without.unwrap_err().0.contains("creator"));
    let foreign = world.send("bob:b.org", "m.room.create", Some(""), json!({"creator": BOB}));
    assert!(foreign.unwrap_err().0.contains("server name"));
}

/// Row 3.9 (CVE-2022-36009): the level that events need where none is named for them.
#[test]
fn row_3_9_cve_2022_36009_the_default_level_of_events_counts() {
    for (version, names_creator) in ALL.map(|version| (version, version != "12")) {
        let levels = |mut content: Value| {
            if names_creator {
                content["users"]["@alice:a.org"] = json!(100);
            }
            powers(content)
        };
        let cases = [
            (json!({}), ""),
            (json!({ "events_default": 0 }), ""),
            (json!({ "events_default": 1 }), "power"),
            (json!({ "events_default": 100 }), "power"),
            (json!({ "events_default": -1 }), ""),
            (json!({ "events_default": 50, "users_default": 50 }), ""),
            (json!({ "events_default": 50, "users": { "@bob:b.org": 50 } }), ""),
            (json!({ "events_default": 50, "events": { "m.room.message": 0 } }), ""),
            (json!({ "events_default": 0, "events": { "m.room.message": 50 } }), "power"),
            (json!({ "users_default": -1 }), "power"),
        ];
        for (content, expected) in cases {
            check(&[version], &[bob_joins(), levels(content), hello("bob:b.org")], expected);
        }
    }
    // Numbers in strings count in the versions that take them.
    let text = json!({ "users": { "@alice:a.org": 100 }, "events_default": "50" });
    check(&ALL[..9], &[bob_joins(), powers(text.clone()), hello("bob:b.org")], "power");
    check(&["10", "11"], &[powers(text)], "events_default");
}

/// Row 3.8 (CVE-2022-31152): rules that a server has applied otherwise than the others.
#[test]
fn row_3_8_cve_2022_31152_rules_that_servers_have_got_wrong() {
    // Aliases are of the sender's server, as long as there is a rule for them.
    let aliases = |key| ("bob:b.org", "m.room.aliases", key, json!({ "aliases": [] }));
    check(&["1", "3", "5"], &[bob_joins(), aliases("b.org")], "");
    check(&["1", "3", "5"], &[bob_joins(), aliases("a.org")], "server");
    check(&["6", "11", "12"], &[bob_joins(), aliases("b.org")], "power");
    // Invites by address need the power to invite, and not that of the state.
    let by_address = || ("bob:b.org", "m.room.third_party_invite", "token", json!({ "display_name": "c" }));
    let levels = |version: &str, invite: i64| {
        let mut content = json!({ "invite": invite, "state_default": 50 });
        if version != "12" {
            content["users"] = json!({ "@alice:a.org": 100 });
        }
        powers(content)
    };
    for version in ALL {
        check(&[version], &[bob_joins(), levels(version, 0), by_address()], "");
        check(&[version], &[bob_joins(), levels(version, 10), by_address()], "power");
    }
    // A membership that nobody knows, or none, is no membership.
    for content in [json!({}), json!({ "membership": "owner" }), json!({ "membership": 1 })] {
        for version in ALL {
            let mut world = World::new(version);
            assert!(
                world.send("bob:b.org", "m.room.member", Some(BOB), content.clone()).is_err(),
                "{version}"
            );
        }
    }
    // Nobody knocks for another.
    let for_another = || ("bob:b.org", "m.room.member", CAROL, json!({ "membership": "knock" }));
    check(&ALL[6..], &[bob_joins(), rule("knock"), for_another()], "knock");
}
