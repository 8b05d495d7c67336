//! A real identity server, Sydent: addresses are invited, bound and unbound, over one homeserver and two.

use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    matrix::{Client, PASSWORD},
    server::Kind,
    sydent::Sydent,
    world::{Person, World},
};

const ACCOUNT: &str = "/_matrix/client/v3/account";

/// Two servers that may ask the identity server, alice on the first and bob on the second, with accounts there.
struct Scene {
    world: World,
    sydent: Sydent,
    alice: Person,
    bob: Person,
    alice_there: Client,
    bob_there: Client,
}

impl Scene {
    async fn new(there: Kind) -> Outcome<Self> {
        let mut world = World::start(Kind::lockstep()?, there).await?;
        let sydent = Sydent::start(&world.authority).await?;
        let servers = format!("[\"{}\"]", sydent.name());
        for server in [&mut world.here, &mut world.there] {
            server.set("LOCKSTEP_IDENTITY__SERVERS", &servers);
            server.set("LOCKSTEP_IDENTITY__ALLOW_RANGES", "[\"127.0.0.0/8\", \"::1/128\"]");
            server.restart().await?;
        }
        let (alice, bob) = world.people("identity").await?;
        let (alice_there, bob_there) =
            (sydent.register(&alice.client).await?, sydent.register(&bob.client).await?);
        Ok(Self { world, sydent, alice, bob, alice_there, bob_there })
    }

    fn third(&self, address: &str) -> Value {
        json!({
            "id_server": self.sydent.name(), "id_access_token": self.alice_there.token,
            "medium": "email", "address": address,
        })
    }

    /// Has alice invite an address into a new room.
    async fn invite(&self, name: &str, address: &str) -> Outcome<String> {
        let room = self.alice.client.create_room(&json!({ "preset": "private_chat", "name": name })).await?;
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        self.alice.client.post(&path, &self.third(address)).await?;
        Ok(room)
    }

    /// The content of the event by which an address is invited into a room, if there is one.
    async fn waiting(&self, room: &str) -> Outcome<Option<Value>> {
        let state = self.alice.client.get(&format!("/_matrix/client/v3/rooms/{room}/state")).await?;
        let mut events = state.as_array().into_iter().flatten();
        let found = events.find(|event| event["type"] == "m.room.third_party_invite");
        Ok(found.map(|event| event["content"].clone()))
    }

    /// The invite of an address waits in the room, and a letter tells of it.
    async fn waits(&self, room: &str, name: &str) -> Outcome<()> {
        let event = self.waiting(room).await?.ok_or("no address is invited")?;
        assert_eq!(event["display_name"], "bob...@exa...", "{event}");
        assert_eq!(event["public_keys"].as_array().map(Vec::len), Some(2), "{event}");
        let letters = self.sydent.letters.all()?;
        let letter = letters.last().ok_or("there is no letter")?;
        let told = format!("invited by Alice into {name} (invite, )");
        assert!(letter.contains(&told), "{told}: {letter}");
        Ok(())
    }

    async fn bob_asks(&self, path: &str, body: &Value) -> Outcome<Value> {
        let answer = self.bob.client.ask(Method::POST, &format!("{ACCOUNT}/{path}"), Some(body)).await?;
        match answer.status {
            200 => Ok(answer.json()),
            status => Err(format!("{path}: {status} {}", answer.json()).into()),
        }
    }

    /// Has bob prove an address to the identity server, and his homeserver bind it there.
    async fn bob_binds(&self, address: &str) -> Outcome<()> {
        let session = self.sydent.prove(&self.bob_there, address).await?;
        let body = json!({
            "sid": session.sid, "client_secret": session.secret,
            "id_server": self.sydent.name(), "id_access_token": self.bob_there.token,
        });
        self.bob_asks("3pid/bind", &body).await.map(drop)
    }
}

async fn told<T>(scene: &Scene, outcome: Outcome<T>) -> Outcome<T> {
    if outcome.is_err() {
        println!("the identity server:\n{}", scene.sydent.log());
        println!("the first server:\n{}", scene.world.here.log());
        println!("the second server:\n{}", scene.world.there.log());
    }
    outcome
}

async fn name_alice(scene: &Scene) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", scene.alice.id());
    scene.alice.client.put(&path, &json!({ "displayname": "Alice" })).await.map(drop)
}

/// Bob is invited into `room`, comes in and is heard.
async fn comes_in(scene: &mut Scene, room: &str) -> Outcome<()> {
    scene.bob.invited(room).await?;
    // It is shown to him a moment before it is in the room.
    let bob = scene.bob.id();
    scene.alice.finds_member(room, &bob, "invite").await?;
    scene.bob.join_via(room, &scene.world.here.name()).await?;
    scene.bob.client.say(room, "here I am").await?;
    scene.alice.hears(room, "here I am").await.map(drop)
}

#[tokio::test]
async fn an_address_is_invited_bound_found_and_unbound() -> Outcome<()> {
    let mut scene = Scene::new(Kind::lockstep()?).await?;
    let played = play(&mut scene).await;
    told(&scene, played).await
}

async fn play(scene: &mut Scene) -> Outcome<()> {
    const BOB: &str = "Bobby@example.org";
    name_alice(scene).await?;
    let mut elsewhere = scene.third(BOB);
    elsewhere["id_server"] = json!("vector.im");
    let kitchen = scene.invite("Kitchen", BOB).await?;
    let path = format!("/_matrix/client/v3/rooms/{kitchen}/invite");
    let refused = scene.alice.client.ask(Method::POST, &path, Some(&elsewhere)).await?;
    assert_eq!((refused.status, &*refused.errcode()), (403, "M_SERVER_NOT_TRUSTED"));
    scene.waits(&kitchen, "Kitchen").await?;

    // Nobody has the address. Now bob has: the identity server tells his server, which asks alice's.
    scene.bob_binds(BOB).await?;
    let member = scene.alice.sees_member(&kitchen, &scene.bob.id(), "invite").await?;
    assert_eq!(member["content"]["third_party_invite"]["display_name"], "bob...@exa...", "{member}");
    comes_in(scene, &kitchen).await?;

    // He is found by it.
    let cellar = scene.invite("Cellar", BOB).await?;
    assert_eq!(scene.waiting(&cellar).await?, None);
    comes_in(scene, &cellar).await?;
    let direct = json!({ "is_direct": true, "invite_3pid": [scene.third(BOB)] });
    let attic = scene.alice.client.create_room(&direct).await?;
    let member = scene.alice.sees_member(&attic, &scene.bob.id(), "invite").await?;
    assert_eq!(member["content"]["is_direct"], true, "{member}");
    comes_in(scene, &attic).await?;

    // And no more.
    let address = json!({ "medium": "email", "address": BOB });
    let done = json!({ "id_server_unbind_result": "success" });
    assert_eq!(scene.bob_asks("3pid/unbind", &address).await?, done);
    assert_eq!(scene.bob_asks("3pid/unbind", &address).await?["id_server_unbind_result"], "no-support");
    let garden = scene.invite("Garden", BOB).await?;
    scene.waits(&garden, "Garden").await?;
    scene.bob_binds(BOB).await?;
    comes_in(scene, &garden).await?;

    // What is bound goes with the account.
    let auth = json!({ "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": scene.bob.id() } });
    assert_eq!(scene.bob_asks("deactivate", &json!({ "auth": auth })).await?, done);
    let shed = scene.invite("Shed", BOB).await?;
    scene.waits(&shed, "Shed").await
}

/// A user of the same server, who tells the identity server without their homeserver: it comes back to it all the same.
#[tokio::test]
async fn an_invite_reaches_a_user_of_the_same_server() -> Outcome<()> {
    let scene = Scene::new(Kind::lockstep()?).await?;
    let played = at_home(&scene).await;
    told(&scene, played).await
}

async fn at_home(scene: &Scene) -> Outcome<()> {
    name_alice(scene).await?;
    let room = scene.invite("Kitchen", "bob.at.home@example.org").await?;
    let carol = Client::anonymous(&scene.world.here.url())?.register("carol").await?;
    let carol_there = scene.sydent.register(&carol).await?;
    let session = scene.sydent.prove(&carol_there, "bob.at.home@example.org").await?;
    scene.sydent.bind(&carol_there, &session, &carol.user_id).await?;
    let mut since = String::new();
    for _ in 0..20 {
        let synced = carol.sync(&since, 3_000).await?;
        if synced["rooms"]["invite"].get(&room).is_some() {
            return carol.join(&room).await;
        }
        since = synced["next_batch"].as_str().unwrap_or_default().to_owned();
    }
    Err("no invite came".into())
}

/// Bob is on Synapse, which takes the invite and asks alice's server for it.
#[tokio::test]
async fn an_invite_reaches_a_user_of_synapse() -> Outcome<()> {
    let mut scene = Scene::new(Kind::synapse()?).await?;
    let played = abroad(&mut scene).await;
    told(&scene, played).await
}

async fn abroad(scene: &mut Scene) -> Outcome<()> {
    name_alice(scene).await?;
    let room = scene.invite("Kitchen", "bobby@example.org").await?;
    scene.waits(&room, "Kitchen").await?;
    let session = scene.sydent.prove(&scene.bob_there, "bobby@example.org").await?;
    scene.sydent.bind(&scene.bob_there, &session, &scene.bob.id()).await?;
    comes_in(scene, &room).await
}
