//! Two clients made of the services that Element X is made of (room list, encryption sync, timeline,
//! notifications), talking through the server at `HS_URL`. Prints "ok NAME" or "FAIL NAME: why" for each
//! scenario, as the scripts in the other languages do.

#![recursion_limit = "256"] // What the SDK's futures are made of is nested that deep.

mod browser;
mod qr;

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use matrix_sdk::{
    Client, Room, RoomState,
    authentication::matrix::MatrixSession,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedEventId, OwnedRoomId,
        api::client::{
            account::register::v3::Request as Register,
            room::create_room::v3::{Request as CreateRoom, RoomPreset},
            uiaa::{AuthData, Dummy},
        },
        events::{
            InitialStateEvent, room::encryption::RoomEncryptionEventContent,
            room::message::RoomMessageEventContent,
        },
    },
};
use matrix_sdk_ui::{
    notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus},
    room_list_service::RoomListLoadingState,
    sync_service::SyncService,
    timeline::{RoomExt as _, Timeline},
};
use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery";

/// One device, as the app on it.
struct Phone {
    client: Client,
    service: Arc<SyncService>,
    store: TempDir,
}

impl Phone {
    /// Registers a new user, and starts to sync.
    async fn register(name: &str) -> Outcome<Self> {
        let store = TempDir::new()?;
        let client = app(&store, &env::var("HS_URL")?).await?;
        let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let mut request = Register::new();
        request.username = Some(format!("{name}_{run}"));
        request.password = Some(PASSWORD.to_owned());
        request.auth = Some(AuthData::Dummy(Dummy::new()));
        client.matrix_auth().register(request).await?;
        Self::start(client, store).await
    }

    async fn start(client: Client, store: TempDir) -> Outcome<Self> {
        let service = Arc::new(SyncService::builder(client.clone()).with_share_pos(true).build().await?);
        service.start().await;
        Ok(Self { client, service, store })
    }

    /// Stops, and starts again with what is on the disk.
    async fn restart(self) -> Outcome<Self> {
        let Self { client, service, store } = self;
        service.stop().await;
        let session: MatrixSession = client.matrix_auth().session().ok_or("no session")?;
        drop((service, client));
        let client = app(&store, &env::var("HS_URL")?).await?;
        client.restore_session(session).await?;
        Self::start(client, store).await
    }

    /// A room, once it is there and the user is in it as is said.
    async fn room(&self, id: &OwnedRoomId, state: RoomState) -> Outcome<Room> {
        let what = format!("{id} as {state:?}");
        until(&what, async || Ok(self.client.get_room(id).filter(|room| room.state() == state))).await
    }

    /// Waits until the timeline ends with the given messages, decrypted.
    async fn reads(&self, timeline: &Timeline, expected: &[String]) -> Outcome<()> {
        let mut seen = Vec::new();
        let found = until("the messages", async || {
            seen = bodies(timeline).await;
            Ok(seen.ends_with(expected).then_some(()))
        });
        let outcome = found.await;
        outcome.map_err(|error| format!("{error}: read {seen:?}, expected {expected:?}").into())
    }
}

/// The app as it is before somebody signs in, set as Element X is.
async fn app(store: &TempDir, server: &str) -> Outcome<Client> {
    let settings = EncryptionSettings {
        auto_enable_cross_signing: true,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: true,
    };
    let builder = Client::builder().server_name_or_homeserver_url(server).handle_refresh_tokens();
    let builder = builder.with_encryption_settings(settings).sqlite_store(store.path(), None);
    Ok(builder.build().await?)
}

async fn bodies(timeline: &Timeline) -> Vec<String> {
    let items = timeline.items().await;
    let body = |item: &Arc<matrix_sdk_ui::timeline::TimelineItem>| {
        Some(item.as_event()?.content().as_message()?.body().to_owned())
    };
    items.iter().filter_map(body).collect()
}

/// Asks again and again until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("no {what} within {DEADLINE:?}").into())
}

async fn say(room: &Room, body: &str) -> Outcome<OwnedEventId> {
    Ok(room.send(RoomMessageEventContent::text_plain(body)).await?.response.event_id)
}

/// An encrypted room of two, talked in, with one of them away for a while.
async fn conversation() -> Outcome<()> {
    let alice = Phone::register("alice").await?;
    let bob = Phone::register("bob").await?;
    let mut request = CreateRoom::new();
    request.preset = Some(RoomPreset::TrustedPrivateChat);
    request.name = Some("den".to_owned());
    request.invite = vec![bob.client.user_id().ok_or("bob is nobody")?.to_owned()];
    request.is_direct = true;
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(encryption).to_raw_any()];
    let id = alice.client.create_room(request).await?.room_id().to_owned();
    let invited = bob.room(&id, RoomState::Invited).await?;
    invited.join().await?;
    let (of_alice, of_bob) =
        (alice.room(&id, RoomState::Joined).await?, bob.room(&id, RoomState::Joined).await?);
    until("both members", async || Ok((of_alice.joined_members_count() == 2).then_some(()))).await?;
    until("encryption", async || Ok(of_bob.encryption_state().is_encrypted().then_some(()))).await?;

    // Whoever opens a room asks for more of it than its last event.
    for phone in [&alice, &bob] {
        phone.service.room_list_service().subscribe_to_rooms(&[&id]).await;
    }
    let timeline = of_bob.timeline().await?;
    let mut said = Vec::new();
    for n in 0..3 {
        said.push(format!("hello {n}"));
        say(&of_alice, &said[n]).await?;
    }
    bob.reads(&timeline, &said).await?;
    let theirs = of_alice.timeline().await?;
    say(&of_bob, "hello back").await?;
    said.push("hello back".to_owned());
    alice.reads(&theirs, &said).await?;

    let last = say(&of_alice, "notify").await?;
    said.push("notify".to_owned());
    let setup = NotificationProcessSetup::SingleProcess { sync_service: bob.service.clone() };
    let notifier = NotificationClient::new(bob.client.clone(), setup).await?;
    match notifier.get_notification(&id, &last).await? {
        NotificationStatus::Event(item) if format!("{:?}", item.event).contains("notify") => {}
        other => return Err(format!("the notification is {other:?}").into()),
    }
    bob.reads(&timeline, &said).await?;

    drop((timeline, of_bob, notifier, invited));
    let bob = bob.restart().await?;
    for n in 0..10 {
        said.push(format!("away {n}"));
        say(&of_alice, &said[said.len() - 1]).await?;
    }
    let room = bob.room(&id, RoomState::Joined).await?;
    bob.service.room_list_service().subscribe_to_rooms(&[&id]).await;
    bob.reads(&room.timeline().await?, &said[said.len() - 10..]).await?;
    alice.service.stop().await;
    bob.service.stop().await;
    Ok(())
}

/// More rooms than the first window shows.
async fn many_rooms() -> Outcome<()> {
    const ROOMS: usize = 45;
    let alice = Phone::register("alice").await?;
    for n in 0..ROOMS {
        let mut request = CreateRoom::new();
        request.name = Some(format!("room {n}"));
        alice.client.create_room(request).await?;
    }
    let list = alice.service.room_list_service().all_rooms().await?;
    until("a loaded list", async || {
        let loaded = matches!(list.loading_state().get(), RoomListLoadingState::Loaded { maximum_number_of_rooms: Some(count) } if count as usize == ROOMS);
        Ok((loaded && alice.client.joined_rooms().len() == ROOMS).then_some(()))
    })
    .await?;
    // The app knows of the rooms that it has made; what they are called the server says.
    let mut named = 0;
    let found = until("the names", async || {
        let rooms = alice.client.joined_rooms();
        let names: BTreeSet<String> = rooms.iter().filter_map(|room| room.name()).collect();
        named = names.len();
        Ok((named == ROOMS).then_some(()))
    });
    found.await.map_err(|error| format!("{error}: {named} rooms of {ROOMS} have one"))?;
    Ok(alice.service.stop().await)
}

/// Plays a scenario; whether it went well.
async fn play(name: &str) -> bool {
    let begun = Instant::now();
    let outcome = match name {
        "conversation" => conversation().await,
        "qr_login" => qr::sign_in().await,
        _ => many_rooms().await,
    };
    match &outcome {
        Ok(()) => println!("ok {name} ({} ms)", begun.elapsed().as_millis()),
        Err(error) => println!("FAIL {name}: {}", error.to_string().replace('\n', " ")),
    }
    outcome.is_ok()
}

/// All at once: most of their time they wait.
#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    let is_wanted = |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let played =
        join_all(["conversation", "many_rooms", "qr_login"].into_iter().filter(is_wanted).map(play)).await;
    let failed = played.iter().filter(|went_well| !**went_well).count();
    println!("{} passed, {failed} failed", played.len() - failed);
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
