//! What must hold of any bytes that other servers send: nothing panics, and nothing leads to where this server
//! must not go.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, header};
use lockstep::{
    dag::{
        Pdu, Policy, build,
        versions::{self, SUPPORTED},
    },
    keys, media,
    peer::{Discovery, Dns, DnsError, Gate, Locator, NetError, Service, Web, XMatrix, read_key_document},
    room,
    store::BoxFuture,
    types::{ManualClock, SeededRng},
};
use ruma::{
    OwnedServerName, RoomVersionId, ServerName,
    api::{
        IncomingRequestExt, IncomingResponse, IncomingResponseExt,
        federation::{
            authorization::get_event_authorization,
            backfill::get_backfill,
            device::get_devices,
            directory::get_public_rooms,
            discovery::{get_remote_server_keys_batch, get_server_keys, get_server_version},
            event::{
                get_event, get_event_by_timestamp, get_missing_events, get_room_state, get_room_state_ids,
            },
            keys::{claim_keys, get_keys},
            membership::{
                create_invite, create_join_event, create_knock_event, create_leave_event, prepare_join_event,
                prepare_knock_event, prepare_leave_event,
            },
            policy::sign_event,
            query::{get_profile_information, get_room_information},
            space::get_hierarchy,
            transactions::send_transaction_message,
        },
    },
    http_headers::ContentDisposition,
    room_version_rules::RoomVersionRules,
};

/// The body of a transaction.
pub(crate) fn transaction(data: &[u8]) {
    let request = http::Request::builder().method("PUT").uri("/_matrix/federation/v1/send/1").body(data);
    let request = request.expect("the request is well-formed");
    let Ok(request) = send_transaction_message::v1::Request::try_from_http_request(request, &["1"]) else {
        return;
    };
    for pdu in &request.pdus {
        for version in &SUPPORTED {
            let _ = Pdu::parse(pdu.get(), rules_of(version));
        }
    }
    for edu in &request.edus {
        let _ = edu.deserialize();
    }
}

fn rules_of(version: &RoomVersionId) -> &'static RoomVersionRules {
    versions::rules(version).expect("the version is supported")
}

/// What is asked of other servers, and how each answer is read.
const CALLS: [fn(&[u8]); 28] = [
    read::<get_event_authorization::v1::Response>,
    read::<get_backfill::v1::Response>,
    read::<get_devices::v1::Response>,
    read::<get_public_rooms::v1::Response>,
    read::<get_remote_server_keys_batch::v2::Response>,
    read::<get_server_keys::v2::Response>,
    read::<get_server_version::v1::Response>,
    read::<get_event::v1::Response>,
    read::<get_event_by_timestamp::v1::Response>,
    read::<get_missing_events::v1::Response>,
    read::<get_room_state::v1::Response>,
    read::<get_room_state_ids::v1::Response>,
    read::<claim_keys::v1::Response>,
    read::<get_keys::v1::Response>,
    read::<create_invite::v2::Response>,
    read::<create_join_event::v2::Response>,
    read::<create_knock_event::v1::Response>,
    read::<create_leave_event::v2::Response>,
    read_template,
    read::<prepare_knock_event::v1::Response>,
    read::<prepare_leave_event::v1::Response>,
    read::<get_profile_information::v1::Response>,
    read::<get_room_information::v1::Response>,
    read::<get_hierarchy::v1::Response>,
    read::<send_transaction_message::v1::Response>,
    read_word_of_policy,
    read_signed_invite,
    read_file,
];

/// The answer of another server. The first byte chooses to what.
pub(crate) fn response(data: &[u8]) {
    let Some((call, body)) = data.split_first() else { return };
    CALLS[usize::from(*call) % CALLS.len()](body);
    if let Ok(text) = std::str::from_utf8(body) {
        let _ = read_key_document(text);
    }
}

fn read<R: IncomingResponse>(body: &[u8]) {
    let _ = answer::<R>(body);
}

fn answer<R: IncomingResponse>(body: &[u8]) -> Option<R> {
    let answer = http::Response::builder().header("content-type", "application/json").body(body);
    R::try_from_http_response(answer.expect("the answer is well-formed")).ok()
}

/// The template of a join: its place in the graph is taken from it.
fn read_template(body: &[u8]) {
    let Some(answer) = answer::<prepare_join_event::v1::Response>(body) else { return };
    let Ok(template) = keys::parse_object(answer.event.get()) else { return };
    for version in &SUPPORTED {
        for field in ["prev_events", "auth_events"] {
            if let Ok(heads) = build::template_heads(&template, (field, 10), 5, rules_of(version)) {
                assert!(heads.len() <= 10, "there are no more than were asked for");
            }
        }
    }
}

/// The word of a policy server. The first line is the event that was asked about, in the newest room version.
fn read_word_of_policy(body: &[u8]) {
    let at = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let (event, said) = (&body[..at], body.get(at + 1..).unwrap_or_default());
    let Some(answer) = answer::<sign_event::v1::Response>(said) else { return };
    let rules = rules_of(&RoomVersionId::V12);
    let event = std::str::from_utf8(event).ok().and_then(|text| Pdu::parse(text, rules).ok());
    let server = <&ServerName>::try_from("b").expect("this is a server");
    let (Some(event), Some(signature)) = (event, answer.ed25519_signature(server)) else { return };
    let named = format!(
        "{{\"type\":\"m.room.policy\",\"state_key\":\"\",\"room_id\":\"{}\",\"sender\":\"@a:b\",\"depth\":1,\
         \"origin_server_ts\":1,\"prev_events\":[],\"auth_events\":[],\"hashes\":{{\"sha256\":\"x\"}},\"signatures\":{{}},\
         \"content\":{{\"via\":\"b\",\"public_keys\":{{\"ed25519\":\"{}\"}}}}}}",
        event.room_id(),
        "A".repeat(43)
    );
    let policy = Pdu::parse(&named, rules).ok().and_then(|named| Policy::of(&named));
    if let Some(signed) = policy.and_then(|policy| policy.accept(&event, signature, rules)) {
        assert_eq!(signed.event_id(), event.event_id(), "a signature does not make another event of it");
    }
}

/// An invite as a server of the first version signs it.
fn read_signed_invite(body: &[u8]) {
    let Ok(event) = room::read_signed_invite(body) else { return };
    for version in &SUPPORTED[..2] {
        let _ = Pdu::parse(event.get(), rules_of(version));
    }
}

/// A file. The first line is the content type, and the rest comes in pieces as long as the line is, and whole.
fn read_file(body: &[u8]) {
    let at = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let (kind, parts) = (&body[..at], body.get(at + 1..).unwrap_or_default());
    let Ok(kind) = http::HeaderValue::from_bytes(kind) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, kind);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime can be made");
    let file = |size: usize| {
        let pieces: Vec<_> = parts.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        runtime.block_on(async {
            let part = media::second_part(&headers, stream::iter(pieces).boxed()).await.ok()?;
            let bytes: Vec<Bytes> = part.body.try_collect().await.ok()?;
            Some((part.headers, bytes.concat()))
        })
    };
    let found = file(parts.len().max(1));
    assert_eq!(found, file(at.clamp(1, 64)), "a file is the same however it comes");
    let Some((headers, bytes)) = found else { return };
    assert!(bytes.len() < parts.len(), "a file is no more than what came");
    let name = headers.get(header::CONTENT_DISPOSITION);
    let _ = name.map(|name| ContentDisposition::try_from(name.as_bytes()).map(|name| name.to_string()));
}

/// The header that proves who asks.
pub(crate) fn x_matrix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = XMatrix::parse(text) else { return };
    // Keys of other names are known to nobody; only what could be written is written.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
    if !proof.key.as_str().bytes().all(is_plain) {
        return;
    }
    let header = proof.header();
    let written = header.to_str().expect("a header of ours is ASCII");
    // What is written in full may be longer than what was read.
    if let Ok(again) = XMatrix::parse(written) {
        assert_eq!(again, proof, "a proof stays the same");
    }
}

/// A server name, what it delegates to, and what the DNS says, on three lines.
pub(crate) fn server_names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (name, delegation, dns) = (lines.next(), lines.next(), lines.next());
    let Some(server) = name.and_then(|name| OwnedServerName::try_from(name).ok()) else { return };
    let script = Arc::new(Script {
        delegation: Bytes::from(String::from(delegation.unwrap_or_default())),
        dns: dns.unwrap_or_default().split_ascii_whitespace().map(String::from).collect(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    runtime.block_on(async {
        let discovery = Discovery::new(script.clone(), Arc::new(ManualClock::at(1)));
        let (authority, _) = discovery.authority(&server).await;
        assert!(OwnedServerName::try_from(authority.as_str()).is_ok(), "an authority is a server name");
        let locator = Locator::new(script, Gate::default(), Arc::new(SeededRng::new(1)));
        if let Ok(place) = locator.locate(&authority).await {
            let gate = Gate::default();
            assert!(place.addresses.iter().all(|address| gate.admits(address.ip())), "{place:?}");
        }
    });
}

/// Answers every question alike.
struct Script {
    delegation: Bytes,
    /// Addresses, and services as `PRIORITY,WEIGHT,PORT,TARGET`.
    dns: Vec<String>,
}

impl Web for Script {
    fn get<'a>(&'a self, _: &'a http::Uri) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async { Ok(http::Response::new(self.delegation.clone())) })
    }
}

impl Dns for Script {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async { Ok(self.dns.iter().filter_map(|word| word.parse().ok()).collect()) })
    }

    fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
        let service = |word: &String| {
            let mut fields = word.splitn(4, ',');
            let mut number = || fields.next()?.parse().ok();
            let (priority, weight, port) = (number()?, number()?, number()?);
            Some(Service { priority, weight, port, target: String::from(fields.next()?) })
        };
        Box::pin(async move { Ok(self.dns.iter().filter_map(service).collect()) })
    }
}
