//! Files on their way into an object store, in it, and back, with stores that `clients/setup` installs.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::fs;

use reqwest::{Client as Http, Method};
use spec_tests::{
    Outcome,
    matrix::Client,
    server::{Kind, Server},
    stores::{ObjectStore, Speech},
};

fn content(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + at / 251 + seed) % 256).unwrap_or(0)).collect()
}

async fn upload(user: &Client, bytes: &[u8]) -> Outcome<String> {
    let path = "/_matrix/media/v3/upload?filename=noise";
    let answer = user.upload(path, "application/octet-stream", bytes.to_vec()).await?;
    let uri = answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://"));
    Ok(format!("/_matrix/client/v1/media/download/{}", uri.ok_or("no content_uri")?))
}

async fn have(user: &Client, files: &[(&String, &Vec<u8>)]) -> Outcome<()> {
    for (path, bytes) in files {
        let got = user.bytes(Method::GET, path, None).await?;
        assert!(got == **bytes, "{path}: {} bytes came of {}", got.len(), bytes.len());
    }
    Ok(())
}

async fn check(speech: Speech) -> Outcome<()> {
    let store = ObjectStore::start(speech).await?;
    let mut server = Server::prepare(Kind::lockstep()?, &[]).await?;
    for (name, value) in store.environment()? {
        server.set(name, &value);
    }
    fs::create_dir_all(server.data())?;
    let [here, there] =
        ["here.toml", "there.toml"].map(|name| server.data().join(name).display().to_string());
    fs::write(&here, "")?;
    fs::write(&there, store.configuration())?;
    if let Err(error) = server.command(&["config", "check", &there]).await {
        // A program that was built without it says what it lacks. The gates build it with it.
        assert!(error.to_string().contains("build it with `--features"), "{error}");
        println!("not tried: {error}");
        return Ok(());
    }
    // From the folder into the store; most of it while the server runs.
    server.set("LOCKSTEP_CONFIG", &here);
    server.up().await?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    // The large ones go up in parts.
    let [small, large, third] = [content(1, 70_000), content(2, 25 << 20), content(3, 25 << 20)];
    let small_path = upload(&alice, &small).await?;
    let copy = ["media", "copy", &there];
    assert!(server.command(&[&copy[..], &["--ahead"]].concat()).await?.contains("copied 1 files"));
    let large_path = upload(&alice, &large).await?;
    let refused = server.command(&copy).await.map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|error| error.contains("--ahead")), "{refused:?}");
    server.stop().await?;
    let told = server.command(&[&copy[..], &["--remove"]].concat()).await?;
    assert!(told.contains("copied 1 files with 26214400 bytes; 1 were there before"), "{told}");
    assert!(told.contains("removed 2 files"), "{told}");
    assert_eq!(store.objects().await?, 2);

    // In the store.
    server.set("LOCKSTEP_CONFIG", &there);
    server.up().await?;
    have(&alice, &[(&small_path, &small), (&large_path, &large)]).await?;
    let third_path = upload(&alice, &third).await?;
    let again = upload(&alice, &small).await?;
    assert_eq!(store.objects().await?, 3, "the same bytes are kept once");
    server.restart().await?;
    let all = [(&small_path, &small), (&large_path, &large), (&third_path, &third), (&again, &small)];
    have(&alice, &all).await?;
    let part = Http::builder().no_proxy().build()?.get(format!("{}{third_path}", server.url()));
    let part = part.bearer_auth(&alice.token).header("range", "bytes=9999990-10000009").send().await?;
    assert_eq!(part.status().as_u16(), 206);
    assert!(part.bytes().await? == third[9_999_990..10_000_010]);
    server.stop().await?;

    // And back.
    let told = server.command(&["media", "copy", &here]).await?;
    assert!(told.contains("copied 3 files"), "{told}");
    server.set("LOCKSTEP_CONFIG", &here);
    server.up().await?;
    have(&alice, &all).await?;
    server.stop().await?;

    // What the store has lost is not there.
    server.set("LOCKSTEP_CONFIG", &there);
    server.up().await?;
    store.forget().await?;
    let lost = alice.bytes(Method::GET, &small_path, None).await;
    assert!(lost.is_err() || lost.is_ok_and(|got| got.len() < small.len()), "nobody has these bytes");
    server.stop().await
}

#[tokio::test]
async fn files_are_kept_in_a_store_that_speaks_as_amazons() -> Outcome<()> {
    check(Speech::S3).await
}

#[tokio::test]
async fn files_are_kept_in_a_store_that_speaks_as_googles() -> Outcome<()> {
    check(Speech::Gcs).await
}

#[tokio::test]
async fn files_are_kept_in_a_store_that_speaks_as_azures() -> Outcome<()> {
    check(Speech::Azure).await
}
