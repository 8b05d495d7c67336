//! Transactions of a server whose items have been changed at random, beside good ones.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::{RoomId, RoomVersionId};

use super::*;
use crate::{
    account::{NewSession, NewUser},
    keys::parse_object,
    limits::{TRANSACTION_EDUS_MAX, TRANSACTION_PDUS_MAX},
};

/// Values that nobody expects.
fn odd(rng: &mut StdRng) -> Value {
    let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_993_u64),
        json!(""),
        json!("\u{0}"),
        json!("x".repeat(70_000)),
        json!("@alice:a.org"),
        json!("@:"),
        json!("!x"),
        json!("$x"),
        json!("m.room.member"),
        json!("m.room.create"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "": {} }),
        deep,
    ];
    values.choose(rng).unwrap().clone()
}

/// Changes one thing somewhere within `value`.
fn mutate(value: &mut Value, rng: &mut StdRng) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = names.choose(rng).unwrap();
            match rng.random_range(0..6) {
                0 => drop(fields.remove(name)),
                1 => drop(fields.insert(format!("{name}x"), odd(rng))),
                2 => drop(fields.insert(name.clone(), odd(rng))),
                _ => mutate(fields.get_mut(name).unwrap(), rng),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            match rng.random_range(0..5) {
                0 => drop(items.remove(at)),
                1 => {
                    let item = items[at].clone();
                    items.extend(vec![item; rng.random_range(1..30)]);
                }
                2 => items[at] = odd(rng),
                _ => mutate(&mut items[at], rng),
            }
        }
        _ => *value = odd(rng),
    }
}

/// A text with some bytes changed, if that is still JSON: nothing else comes so far.
fn scratched(text: &str, rng: &mut StdRng) -> Option<Box<RawValue>> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random_range(0x20..0x7F);
    }
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}

/// A changed event; mostly signed, so that it is looked at closely.
fn mutated_pdu(pdu: &Pdu, by: &Node, rng: &mut StdRng) -> Box<RawValue> {
    let mut value: Value = serde_json::from_str(pdu.text()).unwrap();
    for _ in 0..rng.random_range(1..3) {
        mutate(&mut value, rng);
    }
    if rng.random_bool(0.1)
        && let Some(scratched) = scratched(pdu.text(), rng)
    {
        return scratched;
    }
    if rng.random_bool(0.8)
        && let Ok(mut object) = parse_object(&value.to_string())
    {
        let rules = crate::dag::versions::rules(&RoomVersionId::V11).unwrap();
        object.remove("signatures");
        object.remove("hashes");
        if by.key.hash_and_sign(&mut object, rules).is_ok() {
            return RawValue::from_string(canonical_text(&object)).unwrap();
        }
    }
    to_raw_value(&value).unwrap()
}

/// An honest EDU of each kind.
fn edus(room: &RoomId, event: &EventId, number: u64) -> Vec<Value> {
    let receipt = json!({ "event_ids": [event], "data": { "ts": 5, "thread_id": "main" } });
    let keys =
        json!({ "user_id": "@bob:b.org", "device_id": "D", "algorithms": [], "keys": {}, "signatures": {} });
    let contents = [
        ("m.typing", json!({ "room_id": room, "user_id": "@bob:b.org", "typing": true })),
        ("m.receipt", json!({ room.as_str(): { "m.read": { "@bob:b.org": receipt } } })),
        (
            "m.presence",
            json!({ "push": [{ "user_id": "@bob:b.org", "presence": "online", "last_active_ago": 1 }] }),
        ),
        (
            "m.device_list_update",
            json!({ "user_id": "@bob:b.org", "device_id": "D", "stream_id": number, "prev_id": [], "keys": keys }),
        ),
        (
            "m.signing_key_update",
            json!({ "user_id": "@bob:b.org", "master_key": { "user_id": "@bob:b.org", "usage": ["master"], "keys": {} } }),
        ),
        ("m.direct_to_device", message(number)),
    ];
    contents.into_iter().map(|(kind, content)| json!({ "edu_type": kind, "content": content })).collect()
}

fn message(number: u64) -> Value {
    json!({
        "sender": "@bob:b.org", "type": "m.test", "message_id": number.to_string(),
        "messages": { "@alice:a.org": { "PHONE": { "n": number } } },
    })
}

/// Whatever comes beside it, what is good is taken, each thing once, and the room stays usable.
#[tokio::test]
async fn what_is_good_gets_through_beside_what_is_not() {
    let wire = Wire::new(&["a", "b"]).await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let new = NewUser { username: Some("alice".into()), ..NewUser::default() };
    a.federation.accounts.create_user(new).await.unwrap();
    let session = NewSession {
        user_id: user("alice@a"),
        device_id: Some("PHONE".into()),
        display_name: None,
        refreshes: false,
        client: None,
    };
    a.federation.accounts.start_session(session).await.unwrap();
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    wire.drive().await;
    let mut kinds = BTreeSet::new();
    for seed in 0..25 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let said = b.say("bob@b", &room, &seed.to_string()).await.unwrap();
        let good = b.history().event(&said).await.unwrap().unwrap().pdu.clone();
        let mut pdus: Vec<Box<RawValue>> =
            (1..TRANSACTION_PDUS_MAX).map(|_| mutated_pdu(&good, &b, &mut rng)).collect();
        pdus.insert(rng.random_range(0..pdus.len()), good.json().to_owned());
        let honest = edus(&room, &said, 1_000 + seed);
        let mut bad: Vec<Box<RawValue>> = (2..=TRANSACTION_EDUS_MAX)
            .map(|_| {
                let mut edu = honest.choose(&mut rng).unwrap().clone();
                mutate(&mut edu, &mut rng);
                to_raw_value(&edu).unwrap()
            })
            .collect();
        let direct = json!({ "edu_type": "m.direct_to_device", "content": message(seed) });
        bad.insert(rng.random_range(0..bad.len()), to_raw_value(&direct).unwrap());
        let transaction = Transaction { id: seed.to_string(), pdus, edus: bad };
        let answer = a.federation.receive(&b.name, transaction).await.unwrap();
        assert_eq!(answer.get(&said), Some(&Ok(())), "seed {seed}");
        let words = answer.values().filter_map(|result| result.as_ref().err());
        kinds.extend(words.filter_map(|why| why.split(':').next().map(str::to_owned)));
        assert_eq!(a.status(&said).await, Some(Status::Timeline), "seed {seed}");
        a.say("alice@a", &room, "still here").await.unwrap();
        wire.drive().await;
    }
    assert!(kinds.len() > 2, "they are refused for different reasons: {kinds:?}");
    let inbox = Lane::Inbox(user("alice@a"), "PHONE".into());
    let queued = a.federation.log.queued(&inbox, Position::ZERO, 10_000).await.unwrap();
    let number = |fact: &Fact| match fact {
        Fact::ToDevice { content, .. } => serde_json::from_str::<Value>(content).ok()?["n"].as_u64(),
        _ => None,
    };
    let mut numbers: Vec<u64> =
        queued.iter().filter_map(|(_, fact)| number(fact)).filter(|n| *n < 25).collect();
    numbers.dedup();
    assert!(numbers.into_iter().eq(0..25), "each good message came, in order");
}

/// What somebody has made of an event says nothing about the event, in whichever order they come.
#[tokio::test]
async fn a_bad_copy_of_an_event_hides_no_good_one() {
    for version in ["1", "2", "6", "11", "12"] {
        let wire = Wire::new(&["a", "b"]).await;
        let (a, b) = (wire.node("a"), wire.node("b"));
        let room = a.create("alice@a", version).await;
        b.join_through(&a, &room, "bob@b").await.unwrap();
        wire.drive().await;
        let spoilt: [fn(&mut Value); 6] = [
            |event| event["signatures"] = json!({}),
            |event| event["signatures"]["b.org"]["ed25519:k"] = json!("A".repeat(86)),
            // By a key that nobody has heard of.
            |event| event["signatures"] = json!({ "b.org": { "ed25519:none": "A".repeat(86) } }),
            // The signatures still cover what a redaction would leave of it.
            |event| event["content"] = json!({ "body": "another" }),
            |event| event["content"]["body"] = json!(1.5),
            |event| event["hashes"] = json!({ "sha256": 7 }),
        ];
        for (number, spoil) in spoilt.into_iter().enumerate() {
            for is_first in [false, true] {
                let said = b.say("bob@b", &room, &format!("{number} {is_first}")).await.unwrap();
                let good = b.history().event(&said).await.unwrap().unwrap().pdu.clone();
                let mut bad: Value = serde_json::from_str(good.text()).unwrap();
                spoil(&mut bad);
                let mut pdus = vec![to_raw_value(&bad).unwrap()];
                pdus.insert(usize::from(is_first), good.json().to_owned());
                let id = format!("{number} {is_first}");
                let transaction = Transaction { id: id.clone(), pdus, edus: Vec::new() };
                let answer = a.federation.receive(&b.name, transaction).await.unwrap();
                assert_eq!(answer.get(&said), Some(&Ok(())), "version {version}, {id}");
                let event = a.history().event(&said).await.unwrap().unwrap();
                assert_eq!((event.status, event.pdu.text()), (Status::Timeline, good.text()), "{id}");
            }
        }
    }
}
