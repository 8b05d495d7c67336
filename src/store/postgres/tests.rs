//! The suite and the model on a real PostgreSQL, and what is this engine's own.

use std::cell::Cell;

use tokio_util::task::TaskTracker;

use super::{Postgres, Settings};
use crate::store::{
    Outcome, Store,
    conformance::{self, all, batch, put, run},
};

#[path = "../../../spec-tests/src/postgres.rs"]
#[expect(unreachable_pub, reason = "the file is a public module of `spec-tests`")]
mod server;
use server::PostgresServer;

async fn open(url: &str) -> Postgres {
    Postgres::open(Settings::new(url, "example.org"), &TaskTracker::new()).await.unwrap()
}

#[test]
fn conforms() {
    let server = PostgresServer::start();
    let url = server.database("suite");
    run(async {
        let store = Box::new(open(&url).await) as Box<dyn Store>;
        conformance::suite(store, async |store: Box<dyn Store>| {
            store.close().await.unwrap();
            drop(store);
            Box::new(open(&url).await) as Box<dyn Store>
        })
        .await;
    });
}

#[test]
fn behaves_like_the_model() {
    let server = PostgresServer::start();
    // The connections' tasks need a runtime that lives as long as they do.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let names = Cell::new(0);
    let url = std::cell::RefCell::new(String::new());
    let fresh = || {
        names.set(names.get() + 1);
        url.replace(server.database(&format!("model{}", names.get())));
        let url = url.borrow().clone();
        runtime.block_on(open(&url))
    };
    let reopen = |store: Postgres| {
        runtime.block_on(store.close()).unwrap();
        drop(store);
        let url = url.borrow().clone();
        runtime.block_on(open(&url))
    };
    conformance::model(12, fresh, reopen);
}

#[test]
fn survives_a_crash_of_the_database() {
    let mut server = PostgresServer::start();
    let url = server.database("crash");
    run(async {
        let store = open(&url).await;
        store.commit(vec![batch(vec![put("a", b"1")], 1)]).await.unwrap();
        let first = store.reserve(1).await.unwrap();
        server.kill();
        let down = store.commit(vec![batch(vec![put("b", b"2")], 1)]).await;
        assert!(down.is_err());
        server.resume();
        let committed = store.commit(vec![batch(vec![put("c", b"3")], 1)]).await.unwrap();
        let [Outcome::Done { first: next }] = committed.outcomes.as_slice() else { panic!("a commit") };
        assert!(*next > first, "reserved positions are not handed out again");
        assert_eq!(all(&store).await.len(), 2);
    });
}

#[test]
fn foreign_databases_are_refused() {
    let server = PostgresServer::start();
    let url = server.database("foreign");
    run(async {
        let store = open(&url).await;
        let tasks = TaskTracker::new();
        let error = |settings| async { Postgres::open(settings, &tasks).await.unwrap_err().to_string() };
        let used = error(Settings::new(&*url, "example.org")).await;
        assert!(used.contains("another process"), "{used}");
        store.close().await.unwrap();
        let other = error(Settings::new(&*url, "example.com")).await;
        assert!(other.contains("belongs to the server `example.org`"), "{other}");
        let (client, driver) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tasks.spawn(driver);
        client.execute("update lockstep_identity set schema = 99", &[]).await.unwrap();
        let newer = error(Settings::new(&*url, "example.org")).await;
        assert!(newer.contains("newer version"), "{newer}");
        client.batch_execute("drop table lockstep_identity").await.unwrap();
        let half = error(Settings::new(&*url, "example.org")).await;
        assert!(half.contains("some but not all"), "{half}");
    });
}
