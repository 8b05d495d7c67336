//! Transactions that come while this server cannot write.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{
    account::{NewSession, NewUser},
    history::tables::{Part, RETRIES, RetryRow, UNJUDGED},
    log::Commit,
    store::{Batch, Committed, Key, Row, Scan},
    types::Clock,
};

/// A store whose disk may be full.
#[derive(Default)]
struct Filled {
    store: Memory,
    is_full: AtomicBool,
    /// Whoever reads a row whose key has this in it comes to a mistake in the program.
    cursed: Mutex<Vec<String>>,
}

impl Filled {
    fn look_at(&self, key: &Key) {
        let text = String::from_utf8_lossy(&key.0);
        let is_cursed = self.cursed.lock().iter().any(|cursed| text.contains(cursed));
        assert!(!is_cursed, "a mistake that this event brings to light");
    }
}

impl Store for Filled {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        keys.iter().for_each(|key| self.look_at(key));
        self.store.get_many(keys)
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        scans.iter().for_each(|scan| self.look_at(&scan.from));
        self.store.scan_many(scans)
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(StoreError::engine("no space left on the device")) }),
            false => self.store.commit(group),
        }
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.store.reserve(count)
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.store.head()
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.close()
    }
}

/// The server a, whose disk may be full, and b, with whom alice's room is shared.
async fn world() -> (Arc<Wire>, Arc<Filled>, OwnedRoomId) {
    let wire = Wire::new(&["b"]).await;
    let store = Arc::new(Filled::default());
    let a = Node::with_store(&wire, server("a"), (9, store.clone())).await;
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
    wire.nodes.lock().insert(server("a"), Arc::new(a));
    let (a, b) = (wire.node("a"), wire.node("b"));
    let room = a.create("alice@a", "11").await;
    b.join_through(&a, &room, "bob@b").await.unwrap();
    (wire, store, room)
}

fn key_for_alice(n: u64) -> Box<RawValue> {
    let content = json!({
        "sender": "@bob:b.org",
        "type": "m.room_key",
        "message_id": format!("m{n}"),
        "messages": { "@alice:a.org": { "PHONE": { "n": n } } },
    });
    to_raw_value(&json!({ "edu_type": "m.direct_to_device", "content": content })).unwrap()
}

impl Node {
    /// The numbers of the messages that wait for alice's phone.
    async fn inbox(&self) -> Vec<u64> {
        let inbox = Lane::Inbox(user("alice@a"), "PHONE".into());
        let queued = self.federation.log.queued(&inbox, Position::ZERO, 100).await.unwrap();
        let number = |(_, fact): (Position, Fact)| match fact {
            Fact::ToDevice { content, .. } => {
                serde_json::from_str::<Value>(&content).unwrap()["n"].as_u64().unwrap()
            }
            other => panic!("unexpected {other:?}"),
        };
        queued.into_iter().map(number).collect()
    }
}

/// What cannot be written is not said to be taken: the same transaction is taken when it can be.
#[tokio::test]
async fn what_the_disk_has_no_room_for_comes_again() {
    let (wire, store, room) = world().await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let said = b.say("bob@b", &room, "hello").await.unwrap();
    let event = b.history().event(&said).await.unwrap().unwrap().pdu.clone();
    let transaction = |id: &str, pdus: &[&Pdu], numbers: &[u64]| Transaction {
        id: id.to_owned(),
        pdus: pdus.iter().map(|pdu| pdu.json().to_owned()).collect(),
        edus: numbers.iter().copied().map(key_for_alice).collect(),
    };
    let with_keys = transaction("1", &[], &[1, 2]);
    let with_event = transaction("2", &[&event], &[3]);

    store.is_full.store(true, Ordering::SeqCst);
    for transaction in [&with_keys, &with_event] {
        let failure = a.federation.receive(&b.name, transaction.clone()).await.unwrap_err();
        assert!(matches!(failure, FederationError::Trouble(_)), "{failure}");
    }
    assert!(a.inbox().await.is_empty());

    store.is_full.store(false, Ordering::SeqCst);
    for transaction in [with_keys.clone(), with_event.clone(), with_event] {
        let answer = a.federation.receive(&b.name, transaction).await.unwrap();
        assert!(answer.values().all(Result::is_ok), "{answer:?}");
    }
    assert_eq!(a.inbox().await, [1, 2, 3]);
    assert!(a.history().event(event.event_id()).await.unwrap().is_some_and(|event| event.is_shown()));
}

/// What is damaged of one room keeps no other from being tried again.
#[tokio::test]
async fn one_rooms_trouble_does_not_end_the_attempts_of_others() {
    let (wire, _, first) = world().await;
    let a = wire.node("a");
    let second = a.create("alice@a", "11").await;
    let part = Part::News.number();
    let log = &a.federation.log;
    let mut commit = Commit::new();
    let damaged = UNJUDGED.key(&(first.clone(), part, EventId::parse("$x").unwrap()));
    commit.put_raw(damaged, b"?".to_vec());
    for room in [&first, &second] {
        commit.put(&RETRIES, &(room.clone(), part), &RetryRow::default());
    }
    log.commit(commit).await.unwrap();
    a.rooms().judge_due().await.unwrap();
    log.commit(Commit::new()).await.unwrap();
    let retry = async |room: &OwnedRoomId| log.db().row(&RETRIES, &(room.clone(), part)).await.unwrap();
    assert_eq!(retry(&second).await, None, "nothing is left to be done there");
    let put_off = retry(&first).await.unwrap();
    assert!(put_off.failures == 1 && put_off.retry_at_ms > wire.clock.now_ms(), "{put_off:?}");
}

/// What is wrong with an EDU is not our trouble: its neighbours are taken, and it does not come again.
#[tokio::test]
async fn an_edu_that_makes_no_sense_is_no_trouble() {
    let (wire, _, _) = world().await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let foreign = json!({ "sender": "@alice:a.org", "type": "m", "message_id": "m", "messages": {} });
    let foreign = json!({ "edu_type": "m.direct_to_device", "content": foreign });
    let edus =
        vec![key_for_alice(1), to_raw_value(&foreign).unwrap(), to_raw_value(&1).unwrap(), key_for_alice(2)];
    let transaction = Transaction { id: "1".into(), pdus: Vec::new(), edus };
    a.federation.receive(&b.name, transaction).await.unwrap();
    assert_eq!(a.inbox().await, [1, 2]);
}

/// Row 3.17 of the list of known vulnerabilities (dendrite 0.15.1 and 0.15.2, tuwunel 1.9.0): what makes the program fail in
/// one room, or by one EDU, is answered, so that it does not come again for ever with all that is behind it.
#[tokio::test]
async fn row_3_17_a_mistake_in_one_room_is_no_reason_for_others_to_wait() {
    let (wire, store, first) = world().await;
    let (a, b) = (wire.node("a"), wire.node("b"));
    let second = a.create("alice@a", "11").await;
    b.join_through(&a, &second, "bob@b").await.unwrap();
    let mut events = Vec::new();
    for room in [&first, &second] {
        let said = b.say("bob@b", room, "hello").await.unwrap();
        events.push(b.history().event(&said).await.unwrap().unwrap().pdu.clone());
    }
    let (bad, good) = (events[0].event_id(), events[1].event_id());
    let lost = json!({
        "sender": "@bob:b.org",
        "type": "m.room_key",
        "message_id": "m0",
        "messages": { "@cursed:a.org": { "PHONE": { "n": 0 } } },
    });
    let lost = json!({ "edu_type": "m.direct_to_device", "content": lost });
    let transaction = Transaction {
        id: "1".into(),
        pdus: events.iter().map(|pdu| pdu.json().to_owned()).collect(),
        edus: vec![to_raw_value(&lost).unwrap(), key_for_alice(1)],
    };
    *store.cursed.lock() = vec![bad.to_string(), String::from("@cursed:")];
    for _ in 0..2 {
        let answer = a.federation.receive(&b.name, transaction.clone()).await.unwrap();
        assert_eq!(answer[good], Ok(()));
        assert_eq!(answer[bad], Err(String::from("This server has made a mistake")));
    }
    assert!(a.history().event(good).await.unwrap().is_some_and(|event| event.is_shown()));
    assert_eq!(a.inbox().await, [1]);
    // The room goes on: what comes next builds on it, and it is asked for.
    store.cursed.lock().clear();
    let next = b.say("bob@b", &first, "again").await.unwrap();
    let pdu = b.history().event(&next).await.unwrap().unwrap().pdu.json().to_owned();
    let next_one = Transaction { id: "2".into(), pdus: vec![pdu], edus: Vec::new() };
    let answer = a.federation.receive(&b.name, next_one).await.unwrap();
    assert_eq!(answer[&next], Ok(()));
    assert!(a.history().event(bad).await.unwrap().is_some_and(|event| event.is_shown()));
}
