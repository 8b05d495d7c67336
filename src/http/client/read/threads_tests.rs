//! What a page of threads costs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    http::{client::testing::Server, tests::services_over},
    store::{Batch, BoxFuture, Committed, Db, Key, Row, Scan, Store, StoreError, memory::Memory},
    types::{ManualClock, Position},
};

/// Counts how often it is asked.
struct Counting(Memory, Arc<AtomicUsize>);

impl Store for Counting {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get_many(keys)
    }

    fn scan_many<'a>(&'a self, scans: &'a [Scan]) -> BoxFuture<'a, Result<Vec<Vec<Row>>, StoreError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.scan_many(scans)
    }

    fn commit(&self, group: Vec<Batch>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.0.commit(group)
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.0.reserve(count)
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.0.head()
    }

    fn is_exclusive(&self) -> bool {
        self.0.is_exclusive()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.close()
    }
}

#[tokio::test]
async fn the_store_is_asked_as_often_for_many_threads_as_for_few() {
    let asked = Arc::new(AtomicUsize::new(0));
    let db = Db::new(Arc::new(Counting(Memory::new(), asked.clone())));
    let services = services_over(Config::default(), Arc::new(ManualClock::at(0)), db).await;
    let server = Server::over(services, Registration::Open);
    let alice = server.register("alice").await;
    let room = server.met(&alice, "POST /createRoom", json!({})).await["room_id"].clone();
    let room = room.as_str().unwrap();
    let mut number = 0;
    let mut say = async |relation: Value| {
        number += 1;
        let path = format!("PUT /rooms/{room}/send/m.room.message/{number}");
        let content =
            json!({ "body": "x", "msgtype": "m.text", "m.relates_to": relation, "m.new_content": {} });
        server.met(&alice, &path, content).await["event_id"].clone()
    };
    let path = format!("GET /_matrix/client/v1/rooms/{room}/threads?limit=50");
    let mut costs = Vec::new();
    for threads in [2, 12] {
        for _ in 0..threads {
            let root = say(Value::Null).await;
            say(json!({ "rel_type": "m.thread", "event_id": root })).await;
            let latest = say(json!({ "rel_type": "m.thread", "event_id": root })).await;
            say(json!({ "rel_type": "m.replace", "event_id": latest })).await;
        }
        // Who indexes what was said asks too, for a while.
        let mut least = usize::MAX;
        for _ in 0..5 {
            let before = asked.load(Ordering::Relaxed);
            let page = server.met(&alice, &path, Value::Null).await;
            least = least.min(asked.load(Ordering::Relaxed) - before);
            let chunk = page["chunk"].as_array().unwrap_or_else(|| panic!("{page}"));
            assert!(chunk.len() >= threads, "{page}");
            let latest = &chunk[0]["unsigned"]["m.relations"]["m.thread"]["latest_event"];
            assert!(latest["unsigned"]["m.relations"]["m.replace"].is_object(), "{latest}");
        }
        costs.push(least);
    }
    assert_eq!(costs[0], costs[1]);
}
