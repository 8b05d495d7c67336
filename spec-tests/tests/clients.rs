//! Real client libraries against the built binary: `spec-tests/clients/setup` installs them first.

use spec_tests::{
    Outcome,
    clients::{Script, run},
    server::{Kind, Server},
};
use tokio::sync::Mutex;

/// One library at a time: the scripts' deadlines are meant for a machine that does nothing else.
static TURN: Mutex<()> = Mutex::const_new(());

async fn check(script: Script) -> Outcome<()> {
    let _turn = TURN.lock().await;
    let mut server = Server::start(Kind::from_environment()?).await?;
    if let Err(error) = run(script, &mut server).await {
        println!("the server's log:\n{}", server.log());
        return Err(error);
    }
    server.stop().await
}

#[tokio::test]
async fn js_sdk() -> Outcome<()> {
    check(Script::JsSdk).await
}

#[tokio::test]
async fn nio() -> Outcome<()> {
    check(Script::Nio).await
}

#[tokio::test]
async fn rust_sdk() -> Outcome<()> {
    check(Script::RustSdk).await
}
