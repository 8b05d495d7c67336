//! A real mail server, which `clients/setup` installs, takes the letter that proves an address.

use std::{fs, net::TcpListener, path::Path, process::Stdio, time::Duration};

use reqwest::{Method, header};
use serde_json::json;
use spec_tests::{
    Outcome,
    clients::home,
    matrix::{Client, PASSWORD},
    server::{Kind, Server},
};
use tokio::process::{Child, Command};

/// How often the mail server is looked at before the test gives up.
const POLLS: u32 = 400;
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

async fn mail_server(port: u16, log: &Path) -> Outcome<Child> {
    let program = home().join("smtp/bin/python");
    let child = Command::new(&program)
        .args(["-u", "-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--class", "aiosmtpd.handlers.Debugging", "stdout"])
        .stdout(fs::File::create(log)?)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}: run spec-tests/clients/setup first", program.display()))?;
    for _ in 0..POLLS {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(child);
        }
        tokio::time::sleep(POLL).await;
    }
    Err("the mail server did not start".into())
}

/// The link in the letter, without the line ends that mail puts into it.
async fn link(log: &Path, url: &str) -> Outcome<String> {
    for _ in 0..POLLS {
        let text = fs::read_to_string(log)?.replace("=\n", "").replace("=3D", "=");
        if text.contains("END MESSAGE") {
            let link = text.lines().find(|line| line.trim().starts_with(url));
            return Ok(link.ok_or_else(|| format!("no link in {text}"))?.trim().to_owned());
        }
        tokio::time::sleep(POLL).await;
    }
    Err("no letter came".into())
}

#[tokio::test]
async fn a_letter_proves_an_address() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("letters");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _mail = mail_server(port, &log).await?;
    let port = port.to_string();
    let settings = [
        ("LOCKSTEP_EMAIL__HOST", "127.0.0.1"),
        ("LOCKSTEP_EMAIL__PORT", &*port),
        ("LOCKSTEP_EMAIL__PROTECTION", "plain"),
        ("LOCKSTEP_EMAIL__FROM", "Lockstep <lockstep@example.org>"),
    ];
    let mut server = Server::start_with(Kind::lockstep()?, &settings).await?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    let account = "/_matrix/client/v3/account";
    let ask = json!({ "client_secret": "hidden", "email": "alice@example.org", "send_attempt": 1 });
    let begun = alice.ask(Method::POST, &format!("{account}/3pid/email/requestToken"), Some(&ask)).await?;
    assert_eq!(begun.status, 200, "{}", begun.json());
    let sid = begun.json()["sid"].clone();

    let link = link(&log, &server.url()).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let page = http.get(&link).send().await?;
    let cookie = page.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
    let text = page.text().await?;
    let csrf = text.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let csrf = csrf.ok_or_else(|| format!("no form in {text}"))?;
    let (_, query) = link.split_once('?').ok_or("the link has no query")?;
    let confirmed = http
        .post(format!("{}/_matrix/oauth2/mail", server.url()))
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("{query}&csrf={csrf}"))
        .send()
        .await?;
    assert_eq!(confirmed.status().as_u16(), 200);
    let auth = json!({ "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": "alice" } });
    let add = json!({ "sid": sid, "client_secret": "hidden", "auth": auth });
    let added = alice.ask(Method::POST, &format!("{account}/3pid/add"), Some(&add)).await?;
    assert_eq!(added.status, 200, "{}", added.json());
    let list = alice.ask(Method::GET, &format!("{account}/3pid"), None).await?.json();
    assert_eq!(list["threepids"][0]["address"], "alice@example.org", "{list}");
    server.stop().await
}
