//! Every endpoint is given nonsense: the answer is the specification's error code, never a 5xx, never silence.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    matrix::{Answer, Client, txn_id},
    server::{Kind, Server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Method, path, who may ask (none, optional, user, admin), and the body (none, maybe, json) of each endpoint. The environment
/// variable `ENDPOINTS` picks the lines that contain it.
const ENDPOINTS: &str = include_str!("endpoints.tsv");
/// How long any answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Endpoints tried at the same time.
const PARALLEL: usize = 4;
/// More than a server takes in one request.
const OVERSIZED_BYTES: usize = 60 * 1024 * 1024;
/// Things that no path variable should be.
const BAD_IDS: &[&str] = &[
    "nonsense",
    "!",
    "@:",
    "%00",
    "%FF%FE",
    "..%2F..%2Fetc",
    "%F0%9F%92%A5",
    "-1",
    "%20",
    "$",
    "#",
    "@a:b:c:99999999",
];
/// Queries that nobody should ask.
const BAD_QUERIES: &[&str] = &[
    "limit=-1&from=%00",
    "limit=99999999999999999999999",
    "since=s999999999999999999999_1",
    "filter=%7B",
    "timeout=-5&dir=x",
    "ts=1e400&at=x",
    "%FF=%FF",
    "limit=0&limit=1&limit=",
];
/// Bodies that are no JSON.
const MALFORMED: &[&str] =
    &["{", "{\"a\":}", "not json", "{\"a\":1}}", "\u{feff}{}", "{\"a\":\"\u{0}\"}", "{\"a\":1e400", "'{}'"];
/// Bodies that are JSON, but not what anyone asked for.
const WRONG_TOPS: &[&str] = &["[]", "\"text\"", "5", "null", "true", "[{}]"];
/// What a field may wrongly be.
const WRONG_VALUES: &[&str] = &[
    "1e400",
    "-1",
    "123456789012345678901234567890",
    "0.5",
    "[]",
    "{}",
    "[[[[[]]]]]",
    "\"\\u0000\"",
    "null",
    "true",
    "\"\\ud800\"",
];
/// Fields that some endpoint or other reads.
const FIELDS: &str = "
    algorithm auth auth_data certificate client_secret content creation_content device_id
    device_keys devices erase event event_fields event_id events fallback_keys filter
    first_message_index forwarded_count from identifier initial_device_display_name initial_state
    invite is_direct is_verified join_rule limit m.fully_read m.read master_key membership messages
    msgtype name new_password new_version one_time_keys order password power_level_content_override
    preset presence reason refresh_token room room_alias_name room_id room_version rooms score
    search_categories search_term self_signing_key session_data sessions since status_msg thread_id
    timeout token topic type typing user user_id user_signing_key username via visibility
";

struct Endpoint {
    method: Method,
    path: &'static str,
    auth: &'static str,
    body: &'static str,
}

/// Who and what the paths name.
#[derive(Clone)]
struct Scene {
    base: String,
    user: Client,
    /// Who asks: the user, or an administrator about the user.
    by: Client,
    room: String,
    event: String,
}

fn endpoints() -> Vec<Endpoint> {
    let parse = |line: &'static str| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().expect("the table has four columns");
        let method = next().parse().expect("the first column is a method");
        Endpoint { method, path: next(), auth: next(), body: next() }
    };
    let only = std::env::var("ENDPOINTS").unwrap_or_default();
    // What operators ask for is the server's own.
    let others = std::env::var("SPEC_SERVER").is_ok_and(|server| server != "lockstep");
    let wanted = |line: &&str| line.contains(&only) && !(others && line.contains("\tadmin\t"));
    ENDPOINTS.lines().filter(wanted).map(parse).collect()
}

impl Endpoint {
    /// The path with proper values, except that the variable number `bad` is `value`.
    fn path(&self, scene: &Scene, bad: Option<(usize, &str)>) -> String {
        let mut made = String::new();
        for (number, part) in self.path.split('{').enumerate() {
            let Some((name, rest)) = part.split_once('}') else {
                made.push_str(part);
                continue;
            };
            match bad {
                Some((at, value)) if at + 1 == number => made.push_str(value),
                _ => made.push_str(&proper(scene, name)),
            }
            made.push_str(rest);
        }
        made
    }

    fn variables(&self) -> usize {
        self.path.matches('{').count()
    }

    /// Whether a request may end the session, the account or the membership that others need.
    fn ends_session(&self) -> bool {
        ["/leave", "/logout", "/deactivate", "/account/password", "delete_devices"]
            .iter()
            .any(|part| self.path.contains(part))
            || (self.method == Method::DELETE && self.path.contains("/devices/"))
    }
}

fn proper(scene: &Scene, name: &str) -> String {
    match name {
        "roomId" | "roomIdOrAlias" => scene.room.clone(),
        "eventId" => scene.event.clone(),
        "userId" | "targetUserId" => scene.user.user_id.clone(),
        "deviceId" => scene.user.device_id.clone(),
        // An alias of this server: others would have to be asked about theirs.
        "roomAlias" => {
            format!("%23nowhere:{}", scene.user.user_id.split_once(':').map_or("", |(_, server)| server))
        }
        "serverName" => scene.user.user_id.split_once(':').map_or("", |(_, server)| server).to_owned(),
        "txnId" => txn_id(),
        "receiptType" => "m.read".to_owned(),
        "kind" => "override".to_owned(),
        "relType" => "m.annotation".to_owned(),
        "eventType" | "type" => "org.example.kind".to_owned(),
        "keyName" => "displayname".to_owned(),
        "version" => "1".to_owned(),
        _ => "x".to_owned(),
    }
}

async fn scene(server: &Server, name: &str) -> Outcome<Scene> {
    let user = Client::anonymous(&server.url())?.register(name).await?;
    let room = user.create_room(&json!({})).await?;
    let event = user.say(&room, "hello").await?;
    Ok(Scene { base: server.url(), by: user.clone(), user, room, event })
}

/// The statuses and error codes of which one is due; none when any error code will do, and success too.
type Expected = &'static [(u16, &'static str)];

/// What is wrong with an answer, if anything is.
fn judge(answer: &Answer, expected: Expected) -> Option<String> {
    let found = answer.json();
    let shown = || {
        format!(
            "{} {}",
            answer.status,
            String::from_utf8_lossy(&answer.bytes).chars().take(200).collect::<String>()
        )
    };
    match answer.status {
        200..=299 if expected.is_empty() => None,
        // A name of another server, which cannot be reached.
        502 if expected.is_empty() && found["errcode"].is_string() => None,
        // Interactive authentication has an answer of its own.
        401 if expected.is_empty() && found["flows"].is_array() => None,
        // A page for people, whose answers are pages too; and a mistake in the words of RFC 6749.
        303 if expected.is_empty() => None,
        400..=499 if expected.is_empty() && answer.bytes.starts_with(b"<!DOCTYPE html>") => None,
        400 | 401 if expected.is_empty() && found["error_description"].is_string() => None,
        400..=499 if found["errcode"].as_str().is_none_or(str::is_empty) => {
            Some(format!("no errcode: {}", shown()))
        }
        400..=499 if expected.is_empty() => None,
        // What is not served at all has said so.
        404 | 405 if found["errcode"] == "M_UNRECOGNIZED" => None,
        status => match expected.iter().any(|(code, error)| *code == status && found["errcode"] == **error) {
            true => None,
            false => Some(format!("{}, expected {expected:?}", shown())),
        },
    }
}

/// The complaints about one endpoint.
struct Trial<'a> {
    endpoint: &'a Endpoint,
    scene: &'a Scene,
    complaints: Vec<String>,
}

impl Trial<'_> {
    /// Makes one request and keeps what is wrong with the answer.
    async fn give(
        &mut self,
        what: &str,
        client: &Client,
        request: (&str, Option<Bytes>),
        expected: Expected,
    ) {
        let (path, body) = request;
        let ask =
            || timeout(ANSWER_DEADLINE, client.ask_bytes(self.endpoint.method.clone(), path, body.clone()));
        // A server that answers before it has read a body closes the connection, perhaps under the next request.
        let asked = match ask().await {
            Ok(Err(_)) => ask().await,
            asked => asked,
        };
        let complaint = match asked {
            Err(_) => Some("no answer".to_owned()),
            Ok(Err(error)) => Some(format!("no answer: {error}")),
            Ok(Ok(answer)) => judge(&answer, expected),
        };
        if let Some(complaint) = complaint {
            let shown: String = path.chars().take(160).collect();
            self.complaints.push(format!("{} {shown}, {what}: {complaint}", self.endpoint.method));
        }
    }

    /// The same as the user of the scene, with a body of its own on a proper path.
    async fn give_body(&mut self, what: &str, body: impl Into<Bytes>, expected: Expected) {
        let scene = self.scene;
        let path = self.endpoint.path(scene, None);
        self.give(what, &scene.by, (&path, Some(body.into())), expected).await;
    }

    /// An empty object, where there is a body at all.
    fn empty(&self) -> Option<Bytes> {
        (self.endpoint.body != "none").then(|| Bytes::from_static(b"{}"))
    }

    async fn tokens(&mut self) {
        let scene = self.scene;
        let path = self.endpoint.path(scene, None);
        let nobody = scene.user.nobody();
        let mut stranger = nobody.clone();
        "not_one_of_ours".clone_into(&mut stranger.token);
        if ["user", "admin"].contains(&self.endpoint.auth) {
            self.give("without a token", &nobody, (&path, self.empty()), &[(401, "M_MISSING_TOKEN")]).await;
            self.give("with a foreign token", &stranger, (&path, self.empty()), &[(401, "M_UNKNOWN_TOKEN")])
                .await;
        } else {
            self.give("without a token", &nobody, (&path, self.empty()), &[]).await;
        }
        if self.endpoint.auth == "admin" {
            let forbidden: Expected = &[(403, "M_FORBIDDEN")];
            self.give("without the right", &scene.user, (&path, self.empty()), forbidden).await;
        }
    }

    async fn ids(&mut self) {
        let scene = self.scene;
        let long = format!("!{}:example.org", "x".repeat(5000));
        for variable in 0..self.endpoint.variables() {
            for bad in BAD_IDS.iter().copied().chain([long.as_str()]) {
                let path = self.endpoint.path(scene, Some((variable, bad)));
                self.give("with a bad id", &scene.by, (&path, self.empty()), &[]).await;
            }
        }
        for query in BAD_QUERIES {
            let path = format!("{}?{query}", self.endpoint.path(scene, None));
            self.give("with a bad query", &scene.by, (&path, self.empty()), &[]).await;
        }
    }

    async fn bodies(&mut self) {
        let (not_json, bad_json): (Expected, Expected) = match self.endpoint.body {
            "json" => (&[(400, "M_NOT_JSON")], &[(400, "M_BAD_JSON")]),
            // What takes no body, or none just as well, may overlook it.
            _ => (&[], &[]),
        };
        for broken in MALFORMED {
            self.give_body(&format!("with malformed JSON {broken:?}"), *broken, not_json).await;
        }
        let not_text: &[u8] = b"{\"a\":\"\xff\"}";
        self.give_body("with bytes that are not UTF-8", not_text, not_json).await;
        for top in WRONG_TOPS {
            self.give_body(&format!("with {top}"), *top, bad_json).await;
        }
        let deep = format!("{{\"content\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        self.give_body("with deep nesting", deep, &[]).await;
        for value in WRONG_VALUES {
            let fields: Vec<String> =
                FIELDS.split_whitespace().map(|field| format!("\"{field}\":{value}")).collect();
            self.give_body(&format!("with every field {value}"), format!("{{{}}}", fields.join(",")), &[])
                .await;
            for field in fields {
                let body = format!("{{{field}}}");
                self.give_body(&format!("with {body}"), body.clone(), &[]).await;
            }
        }
    }
}

async fn attempt(
    endpoint: &Endpoint,
    server: &Server,
    number: usize,
    shared: &Scene,
) -> Outcome<Vec<String>> {
    let mut own = match endpoint.ends_session() || endpoint.auth == "admin" {
        true => Some(scene(server, &format!("victim{number}")).await?),
        false => None,
    };
    if endpoint.auth == "admin"
        && let Some(own) = &mut own
    {
        own.by = server.administrator(&format!("root{number}")).await?;
    }
    let scene = own.as_ref().unwrap_or(shared);
    let mut trial = Trial { endpoint, scene, complaints: Vec::new() };
    trial.tokens().await;
    if endpoint.body == "none" && endpoint.ends_session() {
        // Done properly it ends the session, and that is no bad input.
        return Ok(trial.complaints);
    }
    trial.ids().await;
    if endpoint.body != "none" {
        trial.bodies().await;
    }
    Ok(trial.complaints)
}

fn no_complaints(complaints: &[String], server: &Server) -> Outcome<()> {
    let log = server.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
    for line in complaints.iter().map(String::as_str).chain(panics.iter().copied()) {
        println!("{line}");
    }
    match complaints.len() + panics.len() {
        0 => Ok(()),
        count => Err(format!("{count} complaints and panics").into()),
    }
}

#[tokio::test]
async fn nonsense_is_answered_with_an_error_code() -> Outcome<()> {
    let mut server = Server::start(Kind::from_environment()?).await?;
    let shared = scene(&server, "alice").await?;
    let (all, by) = (endpoints(), &server);
    let complaints: Vec<String> = stream::iter(all.iter().enumerate())
        .map(|(number, endpoint)| attempt(endpoint, by, number, &shared))
        .buffer_unordered(PARALLEL)
        .map(|tried| tried.unwrap_or_else(|error| vec![error.to_string()]))
        .concat()
        .await;
    no_complaints(&complaints, &server)?;
    // The account that saw all of it is as it was.
    shared.user.get("/_matrix/client/v3/account/whoami").await?;
    shared.user.say(&shared.room, "still here").await?;
    server.stop().await
}

#[tokio::test]
async fn unknown_paths_and_methods_are_unrecognized() -> Outcome<()> {
    let mut server = Server::start(Kind::from_environment()?).await?;
    let shared = scene(&server, "alice").await?;
    let mut complaints = Vec::new();
    for path in [
        "/_matrix/client/v3/nothing",
        "/_matrix/client/v9/sync",
        "/_matrix",
        "/_matrix/client/",
        "/_matrix/%FF",
    ] {
        let answer = shared.user.ask(Method::GET, path, None).await?;
        complaints.extend(judge(&answer, &[(404, "M_UNRECOGNIZED")]).map(|why| format!("{path}: {why}")));
    }
    let all = endpoints();
    let is_patched = |path| all.iter().any(|other| other.method == Method::PATCH && other.path == path);
    for endpoint in all.iter().filter(|endpoint| !is_patched(endpoint.path)) {
        let path = endpoint.path(&shared, None);
        let answer = shared.by.ask(Method::PATCH, &path, Some(&json!({}))).await?;
        let complaint = judge(&answer, &[(405, "M_UNRECOGNIZED")]);
        complaints.extend(complaint.map(|why| format!("PATCH {path}: {why}")));
    }
    no_complaints(&complaints, &server)?;
    server.stop().await
}

#[tokio::test]
async fn events_have_their_size_and_numbers() -> Outcome<()> {
    let mut server = Server::start(Kind::from_environment()?).await?;
    let alice = scene(&server, "alice").await?;
    let mut complaints = Vec::new();
    let send = |kind: &str| format!("/_matrix/client/v3/rooms/{}/send/{kind}/{}", alice.room, txn_id());
    let state = |key: &str| format!("/_matrix/client/v3/rooms/{}/state/org.example/{key}", alice.room);
    let big = json!({"msgtype": "m.text", "body": "x".repeat(65 * 1024)}).to_string();
    let too_large: Expected = &[(413, "M_TOO_LARGE")];
    let bad: Expected = &[(400, "M_BAD_JSON")];
    let long = "k".repeat(256);
    let cases = [
        ("65 KiB message", send("m.room.message"), big.clone(), too_large),
        ("65 KiB state", state("key"), big, too_large),
        (
            "long type",
            send(&long),
            "{}".to_owned(),
            &[(400, "M_TOO_LARGE"), (413, "M_TOO_LARGE"), (400, "M_INVALID_PARAM")][..],
        ),
        (
            "long state key",
            state(&long),
            "{}".to_owned(),
            &[(400, "M_TOO_LARGE"), (413, "M_TOO_LARGE"), (400, "M_INVALID_PARAM")][..],
        ),
        (
            "a fraction",
            send("m.room.message"),
            "{\"msgtype\":\"m.text\",\"body\":\"\",\"a\":0.5}".to_owned(),
            bad,
        ),
        (
            "beyond 2^53",
            send("m.room.message"),
            "{\"msgtype\":\"m.text\",\"body\":\"\",\"a\":9007199254740992}".to_owned(),
            bad,
        ),
        (
            "1e400",
            send("m.room.message"),
            "{\"msgtype\":\"m.text\",\"body\":\"\",\"a\":1e400}".to_owned(),
            &[(400, "M_BAD_JSON"), (400, "M_NOT_JSON")][..],
        ),
    ];
    for (what, path, body, expected) in cases {
        let answer = alice.user.ask_bytes(Method::PUT, &path, Some(Bytes::from(body))).await?;
        complaints.extend(judge(&answer, expected).map(|why| format!("{what}: {why}")));
    }
    let fits = json!({"msgtype": "m.text", "body": "x".repeat(63 * 1024)});
    alice.user.put(&send("m.room.message"), &fits).await?;
    let synced = alice.user.sync("", 0).await?;
    let timeline = &synced["rooms"]["join"][&alice.room]["timeline"]["events"];
    let last = timeline.as_array().and_then(|events| events.last()).map(|event| event["content"].clone());
    if last.as_ref() != Some(&fits) {
        complaints.push("the largest event did not come back whole".to_owned());
    }
    no_complaints(&complaints, &server)?;
    server.stop().await
}

#[tokio::test]
async fn oversized_bodies_are_refused() -> Outcome<()> {
    let mut server = Server::start(Kind::from_environment()?).await?;
    let alice = scene(&server, "alice").await?;
    let mut complaints = Vec::new();
    for endpoint in endpoints().iter().filter(|endpoint| endpoint.body == "json") {
        let path = endpoint.path(&alice, None);
        for chunked in [false, true] {
            let sent = timeout(ANSWER_DEADLINE, pour(&alice, endpoint, &path, chunked)).await;
            let complaint = match sent {
                Err(_) => Some("no answer".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Ok(Ok(answer)) => judge(&answer, &[(413, "M_TOO_LARGE")]),
            };
            complaints
                .extend(complaint.map(|why| format!("{} {path}, chunked {chunked}: {why}", endpoint.method)));
        }
    }
    no_complaints(&complaints, &server)?;
    alice.user.say(&alice.room, "still here").await?;
    server.stop().await
}

/// Pours a body that is too large into the server until it answers, and returns the answer.
async fn pour(scene: &Scene, endpoint: &Endpoint, path: &str, chunked: bool) -> Outcome<Answer> {
    let address = scene.base.strip_prefix("http://").ok_or("the address is not plain HTTP")?;
    let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
    let length = match chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {OVERSIZED_BYTES}"),
    };
    let head = format!(
        "{} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{length}\r\nconnection: close\r\n\r\n",
        endpoint.method, scene.user.token
    );
    let block = vec![b' '; 64 * 1024];
    let pouring = async {
        to.write_all(head.as_bytes()).await?;
        for _ in 0..OVERSIZED_BYTES / block.len() {
            if chunked {
                to.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await?;
            }
            to.write_all(&block).await?;
            if chunked {
                to.write_all(b"\r\n").await?;
            }
        }
        Outcome::Ok(())
    };
    let mut answer = Vec::new();
    let hearing = async {
        let mut piece = [0_u8; 4096];
        // A reset after the answer is the server's way to stop the flood.
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
        }
    };
    let (_, ()) = tokio::join!(pouring, hearing);
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // The body may be chunked: its JSON lies between the first brace and the last.
    let json = body.find('{').zip(body.rfind('}')).map_or("", |(from, to)| &body[from..=to]);
    let status = status.ok_or("the connection ended without an answer")?;
    Ok(Answer {
        status,
        bytes: Bytes::from(Value::to_string(&serde_json::from_str(json).unwrap_or(Value::Null))),
    })
}
