//! An application service on mautrix with ghosts: `spec-tests/clients/setup` installs it first.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/>

use std::net::TcpListener;

use spec_tests::{
    Outcome,
    clients::{Script, run_with},
    server::{Kind, Server},
};

#[tokio::test]
async fn a_bridge_with_ghosts() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let file = folder.path().join("bridge.yaml");
    let registration = format!(
        "id: bridge
url: http://127.0.0.1:{port}
as_token: as_bridge
hs_token: hs_bridge
sender_localpart: bridge_bot
rate_limited: false
receive_ephemeral: true
namespaces:
  users: [{{ exclusive: true, regex: '@bridge_.*' }}]
  aliases: [{{ exclusive: true, regex: '#bridge_.*' }}]
  rooms: []
"
    );
    std::fs::write(&file, registration)?;
    let setting = format!("[{:?}]", file.display().to_string());
    let mut server =
        Server::start_with(Kind::lockstep()?, &[("LOCKSTEP_APPSERVICES", setting.as_str())]).await?;
    let name = server.name();
    let port = port.to_string();
    let environment = [("HS_NAME", name.as_str()), ("AS_PORT", port.as_str())];
    if let Err(error) = run_with(Script::Mautrix, &environment, &mut server).await {
        println!("the server's log:\n{}", server.log());
        return Err(error);
    }
    server.stop().await
}
