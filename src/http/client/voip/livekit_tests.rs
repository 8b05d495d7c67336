//! Who is let into calls, and whose leave is sent when.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::testing::{FakeSfu, URL, claims, configure, vouch};
use crate::{
    account::Registration,
    appservice::Appservices,
    config::Config,
    http::{
        client::testing::Server,
        endpoints,
        tests::{services_by, services_with},
    },
    store::{Db, memory::Memory},
    types::ManualClock,
};

const TOKEN: &str = "POST /_matrix/client/v1/rtc/livekit/get_token";
const LEAVE: &str = "POST /_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave";
const HOUR_MS: u64 = 3_600_000;

struct World {
    server: Server,
    sfu: Arc<FakeSfu>,
    clock: Arc<ManualClock>,
    db: Db,
    alice: String,
    bob: String,
    room: String,
}

impl World {
    async fn new() -> Self {
        let (sfu, clock) = (Arc::new(FakeSfu::default()), Arc::new(ManualClock::at(1_700_000_000_000)));
        let db = Db::new(Arc::new(Memory::new()));
        let server = Self::serve(&sfu, &clock, &db).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let created = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
        let room = created["room_id"].as_str().unwrap().to_owned();
        Self { server, sfu, clock, db, alice, bob, room }
    }

    async fn serve(sfu: &Arc<FakeSfu>, clock: &Arc<ManualClock>, db: &Db) -> Server {
        let mut config = Config::default();
        configure(&mut config);
        let means = (clock.clone(), db.clone());
        Server::over(
            services_by(config, sfu.clone(), Appservices::default(), means).await,
            Registration::Open,
        )
    }

    /// The server dies and comes again.
    async fn restart(&mut self) {
        self.server = Self::serve(&self.sfu, &self.clock, &self.db).await;
    }

    /// What alice asks for, as her member `member` of the slot.
    fn seat(&self, member: &str) -> Value {
        json!({ "url": URL, "room_id": self.room, "slot_id": "m.call#ROOM", "member_id": member })
    }

    /// Schedules a state event of alice's.
    async fn schedule(&self, key: &str, delay_ms: u64) -> String {
        let path = format!("PUT /rooms/{}/state/m.x/{key}?org.matrix.msc4140.delay={delay_ms}", self.room);
        let answer = self.server.met(&self.alice, &path, json!({})).await;
        answer["delay_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn delegate(&self, member: &str, delay_id: &str) -> Value {
        let mut body = self.seat(member);
        body["delay_id"] = json!(delay_id);
        self.server.met(&self.alice, LEAVE, body).await
    }

    /// Lets alice into the call; her place there.
    async fn enter(&self, member: &str) -> (String, String) {
        let answer = self.server.met(&self.alice, TOKEN, self.seat(member)).await;
        self.sfu.connect(answer["jwt"].as_str().unwrap_or_else(|| panic!("{answer}")))
    }

    /// The SFU says that something has changed in a call; whether it is believed.
    async fn hear(&self, call: &str, token: impl Fn(&str) -> String) -> u16 {
        let body = json!({ "event": "participant_left", "room": { "name": call } }).to_string();
        let request = http::Request::post("/_matrix/livekit/webhook").header("authorization", token(&body));
        let request =
            request.header("content-type", "application/webhook+json").body(Body::from(body)).unwrap();
        let router = endpoints().into_router(self.server.app().clone());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    }

    async fn look(&self) {
        self.server.app().rtc.as_ref().unwrap().look().await;
    }

    /// Whether a scheduled state event was sent, or `None` when it waits.
    async fn is_sent(&self, delay_id: &str) -> bool {
        let path = format!("GET /_matrix/client/v1/delayed_events/{delay_id}");
        let row = self.server.met(&self.alice, &path, Value::Null).await;
        assert!(row["delay_ms"].is_u64(), "{row}");
        row["event_id"].is_string()
    }
}

#[tokio::test]
async fn who_is_in_the_room_is_let_into_its_calls() {
    let world = World::new().await;
    let (server, seat) = (&world.server, world.seat("xyz"));
    let without = |field: &str| {
        let mut body = seat.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = seat.clone();
        body[field] = value;
        body
    };
    let (alice, bob) = (world.alice.as_str(), world.bob.as_str());
    for (token, body, expected) in [
        ("", seat.clone(), "401 M_MISSING_TOKEN"),
        (bob, seat.clone(), "403 M_FORBIDDEN"),
        (alice, with("room_id", json!("!nowhere:localhost")), "403 M_FORBIDDEN"),
        (alice, with("url", json!("wss://other.example.org")), "400 M_INVALID_PARAM"),
        (alice, with("slot_id", json!("")), "400 M_INVALID_PARAM"),
        (alice, with("member_id", json!("x".repeat(256))), "400 M_INVALID_PARAM"),
        (alice, without("url"), "400 M_BAD_JSON"),
        (alice, without("slot_id"), "400 M_BAD_JSON"),
        (alice, without("member_id"), "400 M_BAD_JSON"),
        (alice, with("server_name", json!("nobody.example.org")), "502 M_UNKNOWN"),
        (bob, with("server_name", json!("nobody.example.org")), "403 M_FORBIDDEN"),
    ] {
        server.check(token, TOKEN, (body, json!(expected))).await;
    }
    let old = json!({ "id": "xyz", "claimed_device_id": "PHONE", "claimed_user_id": "@x:y" });
    let mut identities = Vec::new();
    for body in
        [seat.clone(), with("url", json!(format!("{URL}/"))), with("server_name", json!("localhost")), {
            let mut body = without("member_id");
            body["member"] = old;
            body
        }]
    {
        let answer = server.met(alice, TOKEN, body).await;
        let claims = claims(answer["jwt"].as_str().unwrap_or_else(|| panic!("{answer}")));
        let now = 1_700_000_000;
        assert_eq!(
            (&claims["iss"], &claims["nbf"], &claims["exp"]),
            (&json!("key"), &json!(now), &json!(now + 600))
        );
        let room = claims["video"]["room"].clone();
        assert_eq!(
            claims["video"],
            json!({
                "room": room, "roomCreate": false, "roomJoin": true,
                "canPublish": true, "canSubscribe": true, "canUpdateOwnMetadata": true,
            })
        );
        world.sfu.connect(answer["jwt"].as_str().unwrap());
        identities.push(claims["sub"].as_str().unwrap().to_owned());
    }
    // That of the proposal, thrice, and the one that clients of today reckon with.
    identities.dedup();
    assert_eq!(identities.len(), 2, "{identities:?}");
    world.sfu.set_down(true);
    server.check(alice, TOKEN, (seat.clone(), json!("502 M_UNKNOWN"))).await;
    world.sfu.set_down(false);
    server.met(alice, &format!("POST /rooms/{}/leave", world.room), json!({})).await;
    server.check(alice, TOKEN, (seat, json!("403 M_FORBIDDEN"))).await;
}

#[tokio::test]
async fn a_leave_waits_for_as_long_as_somebody_is_in_the_call() {
    let mut world = World::new().await;
    let id = world.schedule("alice", HOUR_MS).await;
    let place = world.enter("one").await;
    assert_eq!(world.delegate("one", &id).await, json!({}));
    world.look().await;
    for _ in 0..5 {
        world.clock.advance(Duration::from_millis(HOUR_MS / 2 + 1));
        world.look().await;
        assert!(!world.is_sent(&id).await);
    }
    world.restart().await;
    world.sfu.set_down(true);
    world.sfu.disconnect(&place);
    world.look().await;
    assert!(!world.is_sent(&id).await, "nobody knows whether they are still there");
    world.sfu.set_down(false);
    for (token, status) in [("nonsense".to_owned(), 401), (vouch("another body"), 401)] {
        assert_eq!(world.hear(&place.0, |_| token.clone()).await, status);
    }
    assert!(!world.is_sent(&id).await);
    assert_eq!(world.hear(&place.0, vouch).await, 200);
    assert!(world.is_sent(&id).await);
    assert_eq!(world.hear(&place.0, vouch).await, 200, "twice is no mistake");
}

#[tokio::test]
async fn a_leave_is_sent_for_those_only_who_were_there() {
    let world = World::new().await;
    let (early, first, second) = (
        world.schedule("a", HOUR_MS).await,
        world.schedule("b", HOUR_MS).await,
        world.schedule("c", HOUR_MS).await,
    );
    // Delegated before the member comes.
    assert_eq!(world.delegate("one", &early).await, json!({}));
    world.look().await;
    assert!(!world.is_sent(&early).await, "they have not come yet");
    let place = world.enter("one").await;
    world.look().await;
    world.sfu.disconnect(&place);
    world.look().await;
    assert!(world.is_sent(&early).await);
    // Of one member the last one counts.
    assert_eq!(world.delegate("two", &first).await, json!({}));
    let place = world.enter("two").await;
    world.look().await;
    assert_eq!(world.delegate("two", &second).await, json!({}));
    world.look().await;
    world.sfu.disconnect(&place);
    world.look().await;
    assert_eq!((world.is_sent(&first).await, world.is_sent(&second).await), (false, true));
    // Of one event the last member counts.
    world.enter("three").await;
    assert_eq!(world.delegate("three", &first).await, json!({}));
    world.look().await;
    assert_eq!(world.delegate("four", &first).await, json!({}));
    world.look().await;
    assert!(!world.is_sent(&first).await, "the fourth has not come yet");
    // One that is cancelled is no more.
    let path = format!("POST /_matrix/client/v1/delayed_events/{first}/cancel");
    assert_eq!(world.server.met("", &path, json!({})).await, json!({}));
    world.look().await;
    assert_eq!(world.delegate("four", &first).await, "400 M_INVALID_PARAM");
}

#[tokio::test]
async fn what_cannot_be_delegated_is_refused() {
    let world = World::new().await;
    let (id, short) = (world.schedule("a", HOUR_MS).await, world.schedule("b", 59_999).await);
    let body = |id: &str| {
        let mut body = world.seat("one");
        body["delay_id"] = json!(id);
        body
    };
    let (mut elsewhere, mut other) = (body(&id), body(&id));
    elsewhere["room_id"] = json!("!other:localhost");
    other["url"] = json!("wss://other.example.org");
    let mut bare = body(&id);
    bare.as_object_mut().unwrap().remove("url");
    let (alice, bob) = (world.alice.as_str(), world.bob.as_str());
    for (token, body, expected) in [
        ("", body(&id), json!("401 M_MISSING_TOKEN")),
        ("", Value::Null, json!("401 M_MISSING_TOKEN")),
        (bob, body(&id), json!("400 M_INVALID_PARAM")),
        (alice, body("lkd_none"), json!("400 M_INVALID_PARAM")),
        (alice, body(&short), json!("400 M_INVALID_PARAM")),
        (alice, elsewhere, json!("400 M_INVALID_PARAM")),
        (alice, other, json!("400 M_INVALID_PARAM")),
        (alice, world.seat("one"), json!("400 M_BAD_JSON")),
        (alice, bare, json!({})),
    ] {
        world.server.check(token, LEAVE, (body, expected)).await;
    }
}

/// Clients go by it: without an SFU they are told that there is no such endpoint, and look after their leaves themselves.
#[tokio::test]
async fn without_an_sfu_nobody_is_promised_one() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    for (token, request) in [
        ("", LEAVE),
        (&*alice, LEAVE),
        ("", "POST /_matrix/livekit/webhook"),
        (&alice, "POST /_matrix/livekit/webhook"),
    ] {
        server.check(token, request, (json!({}), json!("404 M_UNRECOGNIZED"))).await;
    }
    for path in ["sfu/get", "get_token", "delegate_delayed_leave"] {
        let request = format!("POST /_matrix/livekit/jwt/{path}");
        server.check("", &request, (json!({}), json!("404 M_UNRECOGNIZED"))).await;
    }
    let body = json!({ "url": URL, "room_id": "!r:localhost", "slot_id": "s", "member_id": "m" });
    server.check(&alice, TOKEN, (body, json!("400 M_INVALID_PARAM"))).await;
}

#[tokio::test]
async fn clients_are_told_of_it_in_every_way_that_they_look() {
    let (service, own) = ("https://rtc.example.org/jwt", "https://m.example.org/_matrix/livekit/jwt");
    for (has_sfu, has_service, expected, foci) in [
        (false, false, json!([]), Value::Null),
        (
            false,
            true,
            json!([{ "type": "livekit", "livekit_service_url": service }]),
            json!([{ "type": "livekit", "livekit_service_url": service }]),
        ),
        (
            true,
            true,
            json!([
                { "type": "livekit", "livekit_service_url": service, "url": URL },
                { "type": "m.livekit", "url": URL },
            ]),
            json!([{ "type": "livekit", "livekit_service_url": service }]),
        ),
        (
            true,
            false,
            json!([
                { "type": "livekit", "livekit_service_url": own, "url": URL },
                { "type": "m.livekit", "url": URL },
            ]),
            json!([{ "type": "livekit", "livekit_service_url": own }]),
        ),
    ] {
        let mut config =
            Config { public_base_url: Some("https://m.example.org".to_owned()), ..Config::default() };
        if has_sfu {
            configure(&mut config);
        }
        config.voip.livekit_service_url = has_service.then(|| service.to_owned());
        let services = services_with(config, Arc::new(FakeSfu::default())).await;
        let server = Server::over(services, Registration::Open);
        let alice = server.register("alice").await;
        let told = server.met(&alice, "GET /_matrix/client/v1/rtc/transports", Value::Null).await;
        assert_eq!(told["rtc_transports"], expected);
        let request = http::Request::get("/.well-known/matrix/client").body(Body::empty()).unwrap();
        let response = endpoints().into_router(server.app().clone()).oneshot(request).await.unwrap();
        let told = response.into_body().collect().await.unwrap().to_bytes();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["org.matrix.msc4143.rtc_foci"], foci, "{told}");
    }
}

/// As a service beside the server would do it, for clients that know no other way.
#[tokio::test]
async fn older_clients_are_let_in_by_an_openid_token() {
    let world = World::new().await;
    let server = &world.server;
    let openid = async |token: &str, user: &str| {
        let answer = server.met(token, &format!("POST /user/{user}/openid/request_token"), json!({})).await;
        json!({ "access_token": answer["access_token"], "matrix_server_name": "localhost" })
    };
    let alice = openid(&world.alice, "@alice:localhost").await;
    let bob = openid(&world.bob, "@bob:localhost").await;
    let made_up = json!({ "access_token": "x", "matrix_server_name": "localhost" });
    let elsewhere = json!({ "access_token": "x", "matrix_server_name": "nobody.example.org" });
    let (old, new, leave) = (
        "POST /_matrix/livekit/jwt/sfu/get",
        "POST /_matrix/livekit/jwt/get_token",
        "POST /_matrix/livekit/jwt/delegate_delayed_leave",
    );
    let of = |openid: &Value| json!({ "room": world.room, "device_id": "PHONE", "openid_token": openid });
    let member = |openid: &Value, user: &str| {
        json!({
            "room_id": world.room, "slot_id": "m.call#ROOM", "openid_token": openid,
            "member": { "id": "xyz", "claimed_user_id": user, "claimed_device_id": "PHONE" },
        })
    };
    let me = "@alice:localhost";
    for (request, body, expected) in [
        (old, of(&made_up), "401 M_UNAUTHORIZED"),
        (old, of(&elsewhere), "401 M_UNAUTHORIZED"),
        (old, of(&bob), "403 M_FORBIDDEN"),
        (old, json!({ "room": world.room }), "400 M_BAD_JSON"),
        (new, member(&made_up, me), "401 M_UNAUTHORIZED"),
        (new, member(&bob, "@bob:localhost"), "403 M_FORBIDDEN"),
        (new, member(&bob, me), "401 M_UNAUTHORIZED"),
        (leave, member(&alice, me), "400 M_INVALID_PARAM"),
        (leave, Value::Null, "400 M_NOT_JSON"),
    ] {
        server.check("", request, (body, json!(expected))).await;
    }
    let answer = server.met("", old, of(&alice)).await;
    assert_eq!(answer["url"], URL, "{answer}");
    let place = world.sfu.connect(answer["jwt"].as_str().unwrap());
    assert_eq!(place.1, "@alice:localhost:PHONE");
    let answer = server.met("", new, member(&alice, me)).await;
    let same = world.sfu.connect(answer["jwt"].as_str().unwrap());
    assert_eq!(same.0, place.0, "it is the same call");
    assert_eq!(claims(answer["jwt"].as_str().unwrap())["video"]["canPublish"], true);
    let (first, second) = (world.schedule("a", HOUR_MS).await, world.schedule("b", HOUR_MS).await);
    let mut body = of(&alice);
    body["delay_id"] = json!(first);
    assert!(server.met("", old, body).await["jwt"].is_string());
    let mut body = member(&alice, me);
    body["delay_id"] = json!(second);
    server.check("", leave, (body, json!({}))).await;
    world.look().await;
    world.sfu.disconnect(&place);
    world.look().await;
    assert_eq!((world.is_sent(&first).await, world.is_sent(&second).await), (true, false));
    world.sfu.disconnect(&same);
    world.look().await;
    assert!(world.is_sent(&second).await);
    server.check("", "GET /_matrix/livekit/jwt/healthz", (Value::Null, json!({}))).await;
}

#[tokio::test]
async fn who_leaves_the_room_is_put_out_of_its_calls() {
    let world = World::new().await;
    let (server, sfu) = (&world.server, &world.sfu);
    let path = format!("/rooms/{}", world.room);
    server.met(&world.bob, &format!("POST {path}/join"), json!({})).await;
    let alice = world.enter("a").await;
    let token = server.met(&world.bob, TOKEN, world.seat("b")).await["jwt"].as_str().unwrap().to_owned();
    let bob = sfu.connect(&token);
    world.look().await;
    assert!(sfu.is_there(&alice) && sfu.is_there(&bob));
    server.met(&world.alice, &format!("POST {path}/kick"), json!({ "user_id": "@bob:localhost" })).await;
    assert_eq!(world.hear(&bob.0, vouch).await, 200);
    assert!(sfu.is_there(&alice) && !sfu.is_there(&bob));
    // The token is good for a while yet; so is one that the SFU has given to whoever was connected.
    world.clock.advance(Duration::from_secs(599));
    sfu.connect(&token);
    world.look().await;
    assert!(sfu.is_there(&alice) && !sfu.is_there(&bob));
    server.met(&world.bob, &format!("POST {path}/join"), json!({})).await;
    sfu.connect(&token);
    world.look().await;
    assert!(sfu.is_there(&bob));
}
