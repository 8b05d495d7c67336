//! What application services may do, and what they keep from others.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::server_name;
use serde_json::{Value, json};

use crate::{
    account::Registration as Mode,
    appservice::{Appservices, Registration},
    config::Config,
    http::{
        client::testing::{Server, stored},
        tests::services_for,
    },
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
};

const IRC: &str = "
id: irc
url: http://bridge.example.org
as_token: as_irc
hs_token: hs_irc
sender_localpart: irc_bot
protocols: [irc]
namespaces:
  users: [{ exclusive: true, regex: '@irc_.*' }, { exclusive: false, regex: '@shared_.*' }]
  aliases: [{ exclusive: true, regex: '#irc_.*' }]
";
const NEW: &str = "
id: new
url: null
as_token: as_new
hs_token: hs_new
sender_localpart: new_bot
io.element.msc4190: true
namespaces: { users: [{ exclusive: true, regex: '@new_.*' }] }
";

/// An application service at the other end, which remembers what it is asked.
#[derive(Default)]
struct Bridge(Mutex<Vec<String>>);

impl Net for Bridge {
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        assert_eq!(purpose, Purpose::Appservice);
        assert_eq!(request.headers()["authorization"], "Bearer hs_irc");
        let target = format!("{} {}", request.method(), request.uri());
        let answer = match target.as_str() {
            "POST http://bridge.example.org/_matrix/app/v1/ping" => json!({}),
            "GET http://bridge.example.org/_matrix/app/v1/thirdparty/protocol/irc" => {
                json!({ "user_fields": ["nick"], "instances": [{ "network_id": "libera" }] })
            }
            "GET http://bridge.example.org/_matrix/app/v1/thirdparty/user/irc?nick=bob" => {
                json!([{ "userid": "@irc_bob:localhost", "protocol": "irc", "fields": {} }])
            }
            other if other.contains("/users/") || other.contains("/rooms/") => Value::Null,
            _ => json!({}),
        };
        self.0.lock().push(target);
        let status = if answer.is_null() { 404 } else { 200 };
        let answer = http::Response::builder().status(status).body(Bytes::from(answer.to_string()));
        Box::pin(async move { Ok(answer.unwrap()) })
    }
}

async fn server() -> (Server, Arc<Bridge>) {
    let open = |text| Registration::parse(text).unwrap().open(server_name!("localhost")).unwrap();
    let appservices = Appservices::new(vec![open(IRC), open(NEW)]).unwrap();
    let bridge = Arc::new(Bridge::default());
    let services = services_for(Config::default(), bridge.clone(), appservices).await;
    (Server::over(services, Mode::Open), bridge)
}

fn own(name: &str) -> Value {
    json!({ "type": "m.login.application_service", "username": name })
}

#[tokio::test]
async fn accounts_of_a_namespace_are_made_by_its_application_service_only() {
    let (server, _) = server().await;
    let register = "POST /register";
    let made = server.met("as_irc", register, own("irc_bob")).await;
    assert_eq!(made["user_id"], "@irc_bob:localhost");
    assert!(made["access_token"].is_string());
    let quiet =
        json!({ "type": "m.login.application_service", "username": "irc_eve", "inhibit_login": true });
    let made = server.met("as_irc", register, quiet).await;
    assert_eq!((&made["user_id"], made.get("access_token")), (&json!("@irc_eve:localhost"), None));
    for (token, body, expected) in [
        ("as_irc", own("irc_bob"), "400 M_USER_IN_USE"),
        ("as_irc", own("alice"), "400 M_EXCLUSIVE"),
        ("as_irc", own("new_alice"), "400 M_EXCLUSIVE"),
        ("as_new", own("irc_alice"), "400 M_EXCLUSIVE"),
        ("as_new", own("new_alice"), "400 M_APPSERVICE_LOGIN_UNSUPPORTED"),
        ("", own("irc_alice"), "401 M_MISSING_TOKEN"),
        ("nonsense", own("irc_alice"), "401 M_MISSING_TOKEN"),
        ("", json!({ "username": "irc_alice", "password": "secret" }), "400 M_EXCLUSIVE"),
        ("", json!({ "username": "irc_bot", "password": "secret" }), "400 M_USER_IN_USE"),
    ] {
        server.check(token, register, (body, json!(expected))).await;
    }
    server.check("", "GET /register/available?username=irc_x", (Value::Null, json!("400 M_EXCLUSIVE"))).await;
    // A namespace that is not exclusive leaves room for others.
    server.register("shared_carol").await;

    let login = |name: &str| json!({ "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": name } });
    let session = server.met("as_irc", "POST /login", login("irc_bob")).await;
    assert_eq!(session["user_id"], "@irc_bob:localhost");
    for (token, name, expected) in [
        ("as_irc", "irc_nobody", "403 M_FORBIDDEN"),
        ("as_irc", "alice", "400 M_EXCLUSIVE"),
        ("as_new", "new_bot", "400 M_APPSERVICE_LOGIN_UNSUPPORTED"),
        ("", "irc_bob", "401 M_MISSING_TOKEN"),
    ] {
        server.check(token, "POST /login", (login(name), json!(expected))).await;
    }
}

#[tokio::test]
async fn it_acts_in_the_name_of_its_users_and_of_nobody_else() {
    let (server, _) = server().await;
    let alice = server.register("alice").await;
    server.met("as_irc", "POST /register", own("irc_bob")).await;
    let who = "GET /account/whoami";
    for (query, user) in [("", "@irc_bot:localhost"), ("?user_id=@irc_bob:localhost", "@irc_bob:localhost")] {
        let me = server.met("as_irc", &format!("{who}{query}"), Value::Null).await;
        assert_eq!((&me["user_id"], me.get("device_id")), (&json!(user), None), "{me}");
    }
    for (query, expected) in [
        ("user_id=@alice:localhost", "403 M_FORBIDDEN"),
        ("user_id=@irc_nobody:localhost", "403 M_FORBIDDEN"),
        ("user_id=@irc_bob:other", "403 M_FORBIDDEN"),
        ("user_id=@new_bot:localhost", "403 M_FORBIDDEN"),
        ("user_id=nonsense", "400 M_INVALID_PARAM"),
        ("user_id=@irc_bob:localhost&device_id=NONE", "400 M_UNKNOWN_DEVICE"),
    ] {
        server.check("as_irc", &format!("{who}?{query}"), (Value::Null, json!(expected))).await;
    }
    // A device of somebody else is none of his, under either name of the parameter.
    for name in ["device_id", "org.matrix.msc3202.device_id"] {
        let bob = format!("{who}?user_id=@irc_bob:localhost&{name}=PHONE");
        server.check("as_irc", &bob, (Value::Null, json!("400 M_UNKNOWN_DEVICE"))).await;
    }
    // A user's own token gets no other name by it.
    let me = server.met(&alice, &format!("{who}?user_id=@irc_bob:localhost"), Value::Null).await;
    assert_eq!(me["user_id"], "@alice:localhost");

    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    server.met("as_irc", &format!("POST /join/{room}?user_id=@irc_bob:localhost"), json!({})).await;
    let say = format!("PUT /rooms/{room}/send/m.room.message/1?user_id=@irc_bob:localhost&ts=1234");
    let said = server.met("as_irc", &say, json!({ "msgtype": "m.text", "body": "from the past" })).await;
    let event = format!("GET /rooms/{room}/event/{}", said["event_id"].as_str().unwrap());
    let event = server.met(&alice, &event, Value::Null).await;
    assert_eq!((&event["sender"], &event["origin_server_ts"]), (&json!("@irc_bob:localhost"), &json!(1234)));
    // Nobody else speaks at another time.
    let say = format!("PUT /rooms/{room}/send/m.room.message/2?ts=1234");
    let said = server.met(&alice, &say, json!({ "msgtype": "m.text", "body": "now" })).await;
    let event = format!("GET /rooms/{room}/event/{}", said["event_id"].as_str().unwrap());
    assert_ne!(server.met(&alice, &event, Value::Null).await["origin_server_ts"], 1234);
}

/// The endpoints of administrators, with paths and bodies that make sense, whatever they do.
fn administration() -> Vec<(String, Value)> {
    let body = json!({
        "locked": true, "suspended": true, "admin": true, "new_password": "x", "devices": [], "content": {},
        "user_id": "@alice:localhost", "block": true,
    });
    let value = |name: &str| match name {
        _ if name.to_lowercase().contains("user") => "@alice:localhost",
        _ if name.to_lowercase().contains("room") => "!x:localhost",
        _ => "x",
    };
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => value(name).to_owned(),
        None => segment.to_owned(),
    };
    let endpoints = crate::http::endpoints();
    let admin = endpoints.listed().iter().filter(|(_, path)| {
        // Registration by a shared secret asks for that, and nothing else.
        path.contains("/admin/") && !path.ends_with("/v1/register")
    });
    admin
        .map(|(method, path)| {
            let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
            let body = if *method == http::Method::GET { Value::Null } else { body.clone() };
            (format!("{method} {path}"), body)
        })
        .collect()
}

/// Row 7.9 of the list of known vulnerabilities: an application service acts in the name of the users of its
/// namespaces, and has no part in the administration of the server even where one of them is an administrator. Nor has
/// anybody else who is none, or who was suspended: that could be made undone by it.
#[tokio::test]
async fn row_7_9_no_administration_by_an_application_service() {
    let (server, _) = server().await;
    let (admin, _alice) = (server.register("shared_root").await, server.register("alice").await);
    let (bob, fallen) = (server.register("bob").await, server.register("fallen").await);
    let change = async |name: &str, change: fn(&mut crate::account::User)| {
        let user = ruma::UserId::parse(name).unwrap();
        server.app().accounts.change_user(&user, change).await.unwrap();
    };
    change("@shared_root:localhost", |user| user.admin = true).await;
    change("@fallen:localhost", |user| (user.admin, user.suspended) = (true, true)).await;
    let guest = server.register("visitor").await;
    change("@visitor:localhost", |user| (user.admin, user.guest) = (true, true)).await;
    let name = "user_id=@shared_root:localhost";
    let me = server.met("as_irc", &format!("GET /account/whoami?{name}"), Value::Null).await;
    assert_eq!(me["user_id"], "@shared_root:localhost", "it acts for everything else");
    let administration = administration();
    assert!(administration.len() > 50, "there is something to try: {}", administration.len());
    for (request, body) in administration {
        for query in ["", &format!("?{name}"), &format!("?{name}&device_id=PHONE")] {
            server
                .check("as_irc", &format!("{request}{query}"), (body.clone(), json!("403 M_FORBIDDEN")))
                .await;
        }
        server.check(&bob, &request, (body.clone(), json!("403 M_FORBIDDEN"))).await;
        for (token, other) in [(&fallen, "403 M_USER_SUSPENDED"), (&guest, "403 M_GUEST_ACCESS_FORBIDDEN")] {
            let refused = server.met(token, &request, body.clone()).await;
            assert!(refused == "403 M_FORBIDDEN" || refused == other, "{request}: {refused}");
        }
        server.check("", &request, (body, json!("401 M_MISSING_TOKEN"))).await;
    }
    let ability = server.met("as_irc", &format!("GET /capabilities?{name}"), Value::Null).await;
    assert_eq!(ability["capabilities"]["m.account_moderation"], Value::Null);
    let login = json!({
        "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": "shared_root" },
    });
    server.check("as_irc", "POST /login", (login, json!("403 M_FORBIDDEN"))).await;
    let tokens = server.met(&admin, "GET /_synapse/admin/v1/registration_tokens", Value::Null).await;
    assert!(tokens["registration_tokens"].is_array(), "the administrator does: {tokens}");
}

/// Row 7.9: what one application service has for itself is not lent to another that shares with everybody.
#[tokio::test]
async fn row_7_9_what_is_exclusive_is_so_for_application_services_too() {
    const EVERYBODY: &str = "
id: all
url: null
as_token: as_all
hs_token: hs_all
sender_localpart: all_bot
namespaces: { users: [{ exclusive: false, regex: '@.*' }] }
";
    let open = |text| Registration::parse(text).unwrap().open(server_name!("localhost")).unwrap();
    let appservices = Appservices::new(vec![open(IRC), open(NEW), open(EVERYBODY)]).unwrap();
    let services = services_for(Config::default(), Arc::new(Bridge::default()), appservices).await;
    let server = Server::over(services, Mode::Open);
    server.register("alice").await;
    server.register("shared_carol").await;
    server.met("as_irc", "POST /register", own("irc_bob")).await;
    server.met("as_irc", "GET /account/whoami", Value::Null).await;
    let login = |name: &str| json!({ "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": name } });
    for (token, name, may) in [
        ("as_all", "alice", true),
        ("as_all", "shared_carol", true),
        ("as_all", "irc_bob", false),
        ("as_all", "irc_bot", false),
        ("as_all", "all_bot", true),
        ("as_irc", "irc_bob", true),
        ("as_irc", "irc_bot", true),
        ("as_irc", "shared_carol", true),
        ("as_irc", "all_bot", false),
        ("as_irc", "alice", false),
    ] {
        let who = format!("GET /account/whoami?user_id=@{name}:localhost");
        let me = server.met(token, &who, Value::Null).await;
        assert_eq!(me["user_id"] == json!(format!("@{name}:localhost")), may, "{token} as {name}: {me}");
        let session = server.met(token, "POST /login", login(name)).await;
        assert_eq!(session["access_token"].is_string(), may, "{token} for {name}: {session}");
    }
}

/// Row 7.5 of the list of known vulnerabilities: every way in that is not of the OAuth 2.0 API, and whatever is open
/// already, for every standing.
#[tokio::test]
async fn row_7_5_cve_2023_32682_standing_of_the_account_by_the_older_ways() {
    for (standing, may) in
        [("good", true), ("suspended", true), ("locked", false), ("deactivated", false), ("erased", false)]
    {
        let (server, _) = server().await;
        server.met("as_irc", "POST /register", own("irc_bob")).await;
        let (accounts, bob) = (&server.app().accounts, ruma::user_id!("@irc_bob:localhost"));
        accounts.set_password(bob, "secret").await.unwrap();
        let identifier = json!({ "type": "m.id.user", "user": "irc_bob" });
        let password = json!({ "type": "m.login.password", "password": "secret", "identifier": identifier, "refresh_token": true });
        let session = server.met("", "POST /login", password.clone()).await;
        let (token, refresh) = (session["access_token"].as_str().unwrap(), &session["refresh_token"]);
        let mut login = json!({ "type": "m.login.token", "token": accounts.login_token(bob).await.unwrap() });
        login["device_id"] = json!("OTHER");
        let openid = format!("POST /user/{bob}/openid/request_token");
        let openid = server.met(token, &openid, json!({})).await["access_token"].clone();
        let openid =
            format!("GET /_matrix/federation/v1/openid/userinfo?access_token={}", openid.as_str().unwrap());
        match standing {
            "suspended" => accounts.change_user(bob, |user| user.suspended = true).await.unwrap(),
            "locked" => accounts.change_user(bob, |user| user.locked = true).await.unwrap(),
            "deactivated" => server.app().purge.end_account(bob, false).await.unwrap(),
            "erased" => server.app().purge.end_account(bob, true).await.unwrap(),
            _ => {}
        }
        let as_bob = format!("GET /account/whoami?user_id={bob}");
        let appservice = json!({ "type": "m.login.application_service", "identifier": identifier });
        for (way, token, request, body) in [
            ("access token", token, "GET /account/whoami", Value::Null),
            ("sync", token, "GET /sync", Value::Null),
            ("file", token, "GET /_matrix/client/v1/media/config", Value::Null),
            ("OpenID token", "", &*openid, Value::Null),
            ("appservice", "as_irc", &*as_bob, Value::Null),
            ("refresh token", "", "POST /refresh", json!({ "refresh_token": refresh })),
            ("login token", "", "POST /login", login),
            ("appservice login", "as_irc", "POST /login", appservice),
            ("password", "", "POST /login", password),
        ] {
            // A lock does not end sessions: a token is had for one, and good for nothing.
            let may = may || (standing, way) == ("locked", "refresh token");
            let answer = server.met(token, request, body).await;
            assert_eq!(answer.is_object(), may, "{standing}, by {way}: {answer}");
        }
        let again = server.met("as_irc", "POST /register", own("irc_bob")).await;
        assert_eq!(again, "400 M_USER_IN_USE", "{standing}");
        let logout = server.met(token, "POST /logout", json!({})).await;
        assert!(!may || logout == json!({}) || logout == "401 M_UNKNOWN_TOKEN", "{standing}: {logout}");
    }
}

/// Row 7.8 of the list of known vulnerabilities (conduwuit 0.4.2, continuwuity, tuwunel 1.2.0: one token for two): a token
/// stands for one user on one device, or for one application service, and opens nothing else; what is stored of it opens
/// nothing at all.
#[tokio::test]
async fn row_7_8_a_token_stands_for_one_and_lets_in_nobody_who_reads_the_store() {
    let (server, _) = server().await;
    let mut tokens = Vec::new();
    for name in ["alice", "bob"] {
        tokens.push((server.register(name).await, format!("@{name}:localhost"), "PHONE"));
    }
    let mut bridged = own("irc_bob");
    bridged["device_id"] = "PHONE".into();
    let bridged = server.met("as_irc", "POST /register", bridged).await;
    tokens.push((bridged["access_token"].as_str().unwrap().into(), "@irc_bob:localhost".into(), "PHONE"));
    let desk = server.login(json!({ "device_id": "DESK", "refresh_token": true })).await;
    tokens.push((desk["access_token"].as_str().unwrap().into(), "@alice:localhost".into(), "DESK"));
    for (number, (token, user, device)) in tokens.iter().enumerate() {
        assert!(tokens[..number].iter().all(|(other, ..)| other != token), "{user}");
        let me = server.met(token, "GET /account/whoami", Value::Null).await;
        assert_eq!((&me["user_id"], &me["device_id"]), (&json!(user), &json!(device)), "{me}");
        // Nobody but an application service acts in the name of others.
        let other = "GET /account/whoami?user_id=@irc_bot:localhost";
        assert_eq!(server.met(token, other, Value::Null).await["user_id"], json!(user));
    }
    for (token, user) in [("as_irc", "@irc_bot:localhost"), ("as_new", "@new_bot:localhost")] {
        assert_eq!(server.met(token, "GET /account/whoami", Value::Null).await["user_id"], user);
    }
    let alice = &tokens[0].0;
    let openid = server.met(alice, "POST /user/@alice:localhost/openid/request_token", json!({})).await;
    let auth = json!({
        "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let login = server.met(alice, "POST /_matrix/client/v1/login/get_token", json!({ "auth": auth })).await;
    let others = [&desk["refresh_token"], &openid["access_token"], &login["login_token"]];
    let others: Vec<String> = others.map(|token| token.as_str().unwrap().to_owned()).into();
    let unknown = (Value::Null, json!("401 M_UNKNOWN_TOKEN"));
    for token in others.iter().map(String::as_str).chain(["hs_irc", "hs_new", "as_ir", "as_irc2"]) {
        server.check(token, "GET /account/whoami", unknown.clone()).await;
    }
    let rows = stored(server.app()).await;
    for token in tokens.iter().map(|(token, ..)| token).chain(&others) {
        assert!(!rows.contains(token.as_str()), "{token} is stored");
        server.check(&crate::account::token_hash(token), "GET /account/whoami", unknown.clone()).await;
    }
    let open = |text: &str| Registration::parse(text).unwrap().open(server_name!("localhost")).unwrap();
    assert!(Appservices::new(vec![open(IRC), open(&NEW.replace("as_new", "as_irc"))]).is_err());
}

#[tokio::test]
async fn devices_are_made_and_used_without_a_login() {
    let (server, _) = server().await;
    let quiet =
        json!({ "type": "m.login.application_service", "username": "new_bob", "inhibit_login": true });
    server.met("as_new", "POST /register", quiet).await;
    let named = "user_id=@new_bob:localhost";
    let device = json!({ "display_name": "bridge" });
    let made = server.ask("as_new", &format!("PUT /devices/BRIDGE?{named}"), device.clone()).await;
    assert_eq!(made, (201, json!({})));
    let renamed = server.ask("as_new", &format!("PUT /devices/BRIDGE?{named}"), device).await;
    assert_eq!(renamed, (200, json!({})));
    for device in ["device_id", "org.matrix.msc3202.device_id"] {
        let who = format!("GET /account/whoami?{named}&{device}=BRIDGE");
        let me = server.met("as_new", &who, Value::Null).await;
        let expected = (&json!("@new_bob:localhost"), &json!("BRIDGE"));
        assert_eq!((&me["user_id"], &me["device_id"]), expected, "{me}");
    }
    let list = server.met("as_new", &format!("GET /devices?{named}"), Value::Null).await;
    assert_eq!(list["devices"][0]["display_name"], "bridge");
    server.check("as_new", &format!("DELETE /devices/BRIDGE?{named}"), (json!({}), json!({}))).await;
    let list = server.met("as_new", &format!("GET /devices?{named}"), Value::Null).await;
    assert_eq!(list["devices"], json!([]));
    // One that logs its users in may make them too; nobody else does.
    assert_eq!(server.ask("as_irc", "PUT /devices/BRIDGE", json!({})).await.0, 201);
    let alice = server.register("alice").await;
    server.check(&alice, "PUT /devices/BRIDGE", (json!({}), json!("404 M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn aliases_pings_and_networks() {
    let (server, bridge) = server().await;
    let alice = server.register("alice").await;
    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    let alias = "PUT /directory/room/%23irc_lounge:localhost";
    server.check(&alice, alias, (json!({ "room_id": room }), json!("400 M_EXCLUSIVE"))).await;
    let create = json!({ "room_alias_name": "irc_lounge" });
    server.check(&alice, "POST /createRoom", (create, json!("400 M_EXCLUSIVE"))).await;
    server.met("as_irc", &format!("POST /join/{room}"), json!({})).await;
    server.check("as_irc", alias, (json!({ "room_id": room }), json!({}))).await;
    let gone = "DELETE /directory/room/%23irc_lounge:localhost";
    server.check(&alice, gone, (json!({}), json!("400 M_EXCLUSIVE"))).await;

    let ask = "GET /directory/room/%23irc_new:localhost";
    server.check(&alice, ask, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let asked = |what: &str| bridge.0.lock().iter().any(|target| target.contains(what));
    assert!(asked("/_matrix/app/v1/rooms/%23irc_new%3Alocalhost"));
    server.met(&alice, "POST /knock/%23irc_knock:localhost", json!({})).await;
    assert!(asked("/_matrix/app/v1/rooms/%23irc_knock%3Alocalhost"));
    server.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@irc_x:localhost" })).await;
    assert!(asked("/_matrix/app/v1/users/%40irc_x%3Alocalhost"));

    // It may ask who is there while any of its users is.
    server.met("as_irc", "POST /register", own("irc_x")).await;
    server.met("as_irc", &format!("POST /join/{room}?user_id=@irc_x:localhost"), json!({})).await;
    server.met("as_irc", &format!("POST /rooms/{room}/leave"), json!({})).await;
    let members = format!("GET /rooms/{room}/joined_members");
    let told = server.met("as_irc", &members, Value::Null).await;
    assert!(told["joined"]["@irc_x:localhost"].is_object(), "{told}");
    server.check("as_new", &members, (Value::Null, json!("403 M_FORBIDDEN"))).await;

    let ping = server.met("as_irc", "POST /_matrix/client/v1/appservice/irc/ping", json!({})).await;
    assert!(ping["duration_ms"].is_number(), "{ping}");
    for (token, id, expected) in [
        ("as_irc", "new", "403 M_FORBIDDEN"),
        ("as_new", "new", "400 M_URL_NOT_SET"),
        (alice.as_str(), "irc", "403 M_FORBIDDEN"),
        ("", "irc", "401 M_MISSING_TOKEN"),
    ] {
        let path = format!("POST /_matrix/client/v1/appservice/{id}/ping");
        server.check(token, &path, (json!({}), json!(expected))).await;
    }

    let all = server.met(&alice, "GET /thirdparty/protocols", Value::Null).await;
    assert_eq!(all["irc"]["instances"], json!([{ "network_id": "libera", "instance_id": "irc|libera" }]));
    let one = server.met(&alice, "GET /thirdparty/protocol/irc", Value::Null).await;
    assert_eq!(one, all["irc"]);
    server.check(&alice, "GET /thirdparty/protocol/x", (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let found = server.met(&alice, "GET /thirdparty/user/irc?nick=bob", Value::Null).await;
    assert_eq!(found[0]["userid"], "@irc_bob:localhost");

    let list = format!("PUT /directory/list/appservice/libera/{room}");
    server.check(&alice, &list, (json!({ "visibility": "public" }), json!("403 M_FORBIDDEN"))).await;
    server.check("as_irc", &list, (json!({ "visibility": "public" }), json!({}))).await;
    let ask = json!({ "third_party_instance_id": "irc|libera" });
    let rooms = server.met(&alice, "POST /publicRooms", ask).await;
    assert_eq!(rooms["chunk"][0]["room_id"], room);
    let other = json!({ "preset": "public_chat", "visibility": "public" });
    let other = server.met(&alice, "POST /createRoom", other).await["room_id"].clone();
    for (ask, expected) in [
        (json!({}), vec![&other]),
        (json!({ "include_all_networks": false }), vec![&other]),
        // The one with more members first.
        (json!({ "include_all_networks": true }), vec![&json!(room), &other]),
    ] {
        let rooms = server.met(&alice, "POST /publicRooms", ask.clone()).await;
        let chunk = rooms["chunk"].as_array().unwrap();
        assert_eq!(chunk.iter().map(|room| &room["room_id"]).collect::<Vec<_>>(), expected, "{ask}");
        assert_eq!(rooms["total_room_count_estimate"], expected.len(), "{ask}");
    }
}
