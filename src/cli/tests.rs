//! Arguments and exit codes; an account made on a running server.

use std::process::ExitCode;

use ruma::user_id;

use super::run;
use crate::{
    config::{Address, Config, Engine, Listen, Storage},
    server::Running,
};

fn call(arguments: &[&str]) -> String {
    let arguments = std::iter::once("lockstep").chain(arguments.iter().copied());
    format!("{:?}", run(arguments.map(Into::into), []))
}

#[track_caller]
fn check(arguments: &[&str], code: u8) {
    assert_eq!(call(arguments), format!("{:?}", ExitCode::from(code)), "{arguments:?}");
}

#[test]
fn exit_codes() {
    check(&["config", "docs"], 0);
    check(&["config", "check"], 0);
    check(&["--version"], 0);
    check(&["-O", "store=memory", "config", "check"], 0);
    check(&["-O", "nonsense", "config", "check"], 2);
    check(&["-O", "nonsense=1", "config", "check"], 2);
    check(&["config", "check", "/nowhere/at/all.toml"], 2);
    check(&["nonsense"], 2);
    check(&["user", "create"], 2);
}

#[test]
fn a_store_goes_through_an_export_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let dump = folder.path().join("dump").display().to_string();
    let of = |folder: &std::path::Path| format!("data_dir={}", folder.display());
    let (data, other) = (of(&data), of(&other));
    check(&["-O", "store=memory", "db", "check"], 2);
    check(&["-O", &data, "db", "check"], 1);
    check(&["-O", &data, "room", "graph", "!room:localhost"], 2);
    check(&["-O", &data, "db", "check", "--rebuild"], 0);
    check(&["-O", &data, "db", "export", &dump], 0);
    check(&["-O", &other, "db", "import", &dump], 0);
    check(&["-O", &other, "db", "import", &dump], 1);
    check(&["-O", &other, "db", "compact"], 0);
    check(&["-O", &other, "db", "check"], 0);
    check(&["-O", &other, "-O", "server_name=example.com", "db", "check"], 1);
    let shelf = folder.path().join("other/media/files/00");
    std::fs::create_dir_all(&shelf).unwrap();
    std::fs::write(shelf.join(format!("f{}-x", "0".repeat(64))), "not what it was").unwrap();
    check(&["-O", &other, "db", "check"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrator_is_made_by_the_secret_in_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let socket = folder.path().join("lockstep.sock");
    let data_dir = format!("data_dir={}", data.display());
    let listen = format!("listen=unix:{}", socket.display());
    let create = |name: &'static str| {
        let arguments = [data_dir.clone(), listen.clone(), String::from(name)];
        tokio::task::spawn_blocking(move || {
            let [data_dir, listen, name] = &arguments;
            call(&["-O", data_dir, "-O", listen, "user", "create", name, "--admin"])
        })
    };
    let failed = format!("{:?}", ExitCode::from(1));
    assert_eq!(create("alice").await.unwrap(), failed, "no server has made a secret yet");

    let store = Storage { engine: Engine::Memory, ..Storage::default() };
    let listen = vec![Listen::plain(Address::Unix(socket))];
    let config = Config { data_dir: data, listen, store, ..Config::default() };
    let running = Running::start(config).await.unwrap();
    assert_eq!(create("alice").await.unwrap(), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(create("alice").await.unwrap(), failed, "the name is taken");
    assert_eq!(create("A B").await.unwrap(), failed, "the name is not valid");
    let alice = running.app().accounts.user(user_id!("@alice:localhost")).await.unwrap();
    assert!(alice.unwrap().admin);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_made_without_a_listener() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data_dir = format!("data_dir={}", data.display());
    let create = |name: &'static str| {
        // Nobody listens there, as with a server that has TLS only.
        let arguments = [data_dir.clone(), String::from("listen=127.0.0.1:1"), String::from(name)];
        tokio::task::spawn_blocking(move || {
            let [data_dir, listen, name] = &arguments;
            call(&["-O", data_dir, "-O", listen, "user", "create", name, "--admin"])
        })
    };
    let (done, failed) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(1)));
    assert_eq!(create("alice").await.unwrap(), failed, "there is no store yet");
    assert!(!data.exists(), "and none is made by mistake");
    let listen = vec![Listen::plain(Address::Unix(folder.path().join("lockstep.sock")))];
    let config = Config { data_dir: data.clone(), listen, ..Config::default() };
    let running = Running::start(config.clone()).await.unwrap();
    assert_eq!(create("alice").await.unwrap(), failed, "the store is in use");
    running.stop().await.unwrap();
    assert_eq!(create("alice").await.unwrap(), done);
    assert_eq!(create("alice").await.unwrap(), failed, "the name is taken");
    let running = Running::start(config).await.unwrap();
    let alice = running.app().accounts.user(user_id!("@alice:localhost")).await.unwrap();
    assert!(alice.unwrap().admin);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deliveries_are_told_with_and_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let socket = folder.path().join("lockstep.sock");
    let arguments = [format!("data_dir={}", data.display()), format!("listen=unix:{}", socket.display())];
    let status = async |more: &'static [&'static str]| {
        let [data_dir, listen] = arguments.clone();
        let ask = move || call(&[&["-O", &data_dir, "-O", &listen, "federation", "status"], more].concat());
        tokio::task::spawn_blocking(ask).await.unwrap()
    };
    let (done, failed) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(1)));
    assert_eq!(status(&[]).await, failed, "there is no store yet");
    assert!(!data.exists(), "and none is made by mistake");
    let listen = vec![Listen::plain(Address::Unix(socket.clone()))];
    let config = Config { data_dir: data.clone(), listen, ..Config::default() };
    let running = Running::start(config).await.unwrap();
    assert_eq!(status(&[]).await, done);
    assert_eq!(status(&["b.org"]).await, done);
    running.stop().await.unwrap();
    assert_eq!(status(&[]).await, done);
    assert_eq!(status(&["b.org"]).await, done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_stays_valid_for_what_it_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lockstep.sock");
    let arguments =
        [format!("data_dir={}", folder.path().display()), format!("listen=unix:{}", socket.display())];
    let rotate = async || {
        let [data_dir, listen] = arguments.clone();
        let done = move || call(&["-O", &data_dir, "-O", &listen, "key", "rotate"]);
        tokio::task::spawn_blocking(done).await.unwrap()
    };
    let (good, failed) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(1)));
    let start = async || {
        let store = Storage { engine: Engine::Memory, ..Storage::default() };
        let listen = vec![Listen::plain(Address::Unix(socket.clone()))];
        let config = Config { data_dir: folder.path().to_owned(), listen, store, ..Config::default() };
        Running::start(config).await.unwrap()
    };
    assert_eq!(rotate().await, failed, "there is no key yet");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let running = start().await;
        assert_eq!(rotate().await, failed, "the server runs");
        let document = running.app().peers.own_document().unwrap().deserialize().unwrap();
        let old: Vec<String> = document.old_verify_keys.keys().map(ToString::to_string).collect();
        assert!(old.len() == ids.len() && ids.iter().all(|id| old.contains(id)), "{old:?} {ids:?}");
        ids.push(running.app().signing_key.key_id().to_string());
        assert!(document.verify_keys.keys().all(|id| Some(id.as_str()) == ids.last().map(String::as_str)));
        running.stop().await.unwrap();
        assert_eq!(rotate().await, good);
    }
}
