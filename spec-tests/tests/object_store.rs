//! Files in an object store that speaks S3, which `clients/setup` installs.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::{net::TcpListener, process::Stdio, time::Duration};

use reqwest::{Client as Http, Method};
use spec_tests::{
    Outcome,
    clients::home,
    matrix::Client,
    server::{Kind, Server},
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// How often the object store is looked at before the test gives up.
const POLLS: u32 = 1_200;
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
const BUCKET: &str = "files";

/// A running object store.
struct Store {
    url: String,
    http: Http,
    _child: Child,
}

impl Store {
    async fn start() -> Outcome<Self> {
        let program = home().join("s3/bin/moto_server");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}: run spec-tests/clients/setup first", program.display()))?;
        let store = Self {
            url: format!("http://127.0.0.1:{port}"),
            http: Http::builder().no_proxy().build()?,
            _child: child,
        };
        for _ in 0..POLLS {
            let made = store.http.put(format!("{}/{BUCKET}", store.url)).send().await;
            if made.is_ok_and(|made| made.status().is_success()) {
                return Ok(store);
            }
            sleep(POLL).await;
        }
        Err("the object store did not start".into())
    }

    /// How many objects it holds.
    async fn objects(&self) -> Outcome<usize> {
        let listed = self.http.get(format!("{}/{BUCKET}?list-type=2", self.url)).send().await?.text().await?;
        Ok(listed.matches("<Key>").count())
    }

    /// Has it lose everything.
    async fn forget(&self) -> Outcome<()> {
        self.http.post(format!("{}/moto-api/reset", self.url)).send().await?.error_for_status()?;
        Ok(self.http.put(format!("{}/{BUCKET}", self.url)).send().await?.error_for_status().map(drop)?)
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        let options = format!(
            "{{ aws_access_key_id = \"test\", aws_secret_access_key = \"test\", aws_region = \"us-east-1\", \
             aws_endpoint = \"{}\", aws_allow_http = \"true\" }}",
            self.url
        );
        [("LOCKSTEP_MEDIA__URL", format!("s3://{BUCKET}/lockstep")), ("LOCKSTEP_MEDIA__OPTIONS", options)]
    }
}

fn content(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + at / 251 + seed) % 256).unwrap_or(0)).collect()
}

async fn upload(user: &Client, bytes: Vec<u8>) -> Outcome<String> {
    let path = "/_matrix/media/v3/upload?filename=noise";
    let answer = user.upload(path, "application/octet-stream", bytes).await?;
    let uri = answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://"));
    Ok(format!("/_matrix/client/v1/media/download/{}", uri.ok_or("no content_uri")?))
}

#[tokio::test]
async fn files_are_kept_in_an_object_store() -> Outcome<()> {
    let store = Store::start().await?;
    let settings = store.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut server = match Server::start_with(Kind::lockstep()?, &settings).await {
        Ok(server) => server,
        // A program that was built without it says at its start what it lacks. The gates build it with it.
        Err(error) if error.to_string().contains("not enabled") => {
            println!("not tried: the server was built without `--features s3`");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    // The large one goes up in parts.
    let (small, large) = (content(1, 70_000), content(2, 25 << 20));
    let (small_path, large_path) =
        (upload(&alice, small.clone()).await?, upload(&alice, large.clone()).await?);
    let again = upload(&alice, small.clone()).await?;
    assert_eq!(store.objects().await?, 2, "the same bytes are kept once");
    server.restart().await?;
    for (path, bytes) in [(&small_path, &small), (&large_path, &large), (&again, &small)] {
        let got = alice.bytes(Method::GET, path, None).await?;
        assert!(got == *bytes, "{} bytes came of {}", got.len(), bytes.len());
    }
    let part = Http::builder().no_proxy().build()?.get(format!("{}{large_path}", server.url()));
    let part = part.bearer_auth(&alice.token).header("range", "bytes=9999990-10000009").send().await?;
    assert_eq!(part.status().as_u16(), 206);
    assert!(part.bytes().await? == large[9_999_990..10_000_010]);

    // What the store has lost is not there.
    store.forget().await?;
    let lost = alice.bytes(Method::GET, &small_path, None).await;
    assert!(lost.is_err() || lost.is_ok_and(|got| got.len() < small.len()), "nobody has these bytes");
    server.stop().await
}
