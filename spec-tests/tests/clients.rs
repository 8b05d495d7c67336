//! Real client libraries against the built binary: `spec-tests/clients/setup` installs them first.

use spec_tests::{
    clients::{Script, run},
    server::{Kind, Server},
};
use tokio::sync::Mutex;

/// One library at a time: the scripts' deadlines are meant for a machine that does nothing else.
static TURN: Mutex<()> = Mutex::const_new(());

async fn check(script: Script) {
    let _turn = TURN.lock().await;
    let mut server = Server::start(Kind::from_environment().unwrap()).await.unwrap();
    if let Err(error) = run(script, &mut server).await {
        panic!("{error}\nthe server's log:\n{}", server.log());
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn js_sdk() {
    check(Script::JsSdk).await;
}

#[tokio::test]
async fn nio() {
    check(Script::Nio).await;
}
