//! SIGTERM while clients wait: they are answered, and the process ends well and soon.

use std::time::Duration;

use reqwest::Method;
use spec_tests::{
    Outcome,
    matrix::Client,
    server::{Kind, Server},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Clients that wait.
const WAITING: usize = 10;
/// Time for their requests to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);
/// Within this, everybody is answered and the process is gone.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn who_waits_is_answered_before_the_end() -> Outcome<()> {
    let mut server = Server::start(Kind::lockstep()?).await?;
    let nobody = Client::anonymous(&server.url())?;
    let mut polls = JoinSet::new();
    for number in 0..WAITING {
        let client = nobody.register(&format!("waiter{number}")).await?;
        let first = client.sync("", 0).await?;
        let since = first["next_batch"].as_str().unwrap_or_default().to_owned();
        polls.spawn(async move { client.sync(&since, 60_000).await.map(|answer| (since, answer)) });
    }
    timeout(ARRIVAL, all_wait(&nobody)).await??;
    assert!(polls.try_join_next().is_none(), "nobody has been answered yet");
    let begun = Instant::now();
    server.stop().await?;
    let took = begun.elapsed();
    assert!(took < DEADLINE, "the server took {took:?} to stop: {}", server.log());
    while let Some(poll) = polls.join_next().await {
        let (since, answer) = poll??;
        assert!(answer["next_batch"].is_string(), "{since}: {answer}");
    }
    // What was there before is there again.
    server.up().await?;
    server.stop().await
}

/// Returns once the server has all the polls; it alone knows.
async fn all_wait(client: &Client) -> Outcome<()> {
    let expected = format!("lockstep_long_polls {WAITING}");
    loop {
        let metrics = client.bytes(Method::GET, "/metrics", None).await?;
        if String::from_utf8_lossy(&metrics).lines().any(|line| line.trim() == expected) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}
