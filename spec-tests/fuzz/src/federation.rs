//! What must hold of any bytes that other servers send: nothing panics, and nothing leads to where this server
//! must not go.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use lockstep::{
    dag::{Pdu, versions::SUPPORTED},
    peer::{Discovery, Dns, DnsError, Gate, Locator, NetError, Service, Web, XMatrix, read_key_document},
    store::BoxFuture,
    types::{ManualClock, SeededRng},
};
use ruma::{
    OwnedServerName,
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
            let rules = lockstep::dag::versions::rules(version).expect("the version is supported");
            let _ = Pdu::parse(pdu.get(), rules);
        }
    }
    for edu in &request.edus {
        let _ = edu.deserialize();
    }
}

/// The answer of another server. The first byte chooses to what.
pub(crate) fn response(data: &[u8]) {
    let Some((call, body)) = data.split_first() else { return };
    fn read<R: IncomingResponse>(body: &[u8]) {
        let answer = http::Response::builder().header("content-type", "application/json").body(body);
        let _ = R::try_from_http_response(answer.expect("the answer is well-formed"));
    }
    let calls: [fn(&[u8]); 26] = [
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
        read::<prepare_join_event::v1::Response>,
        read::<prepare_knock_event::v1::Response>,
        read::<prepare_leave_event::v1::Response>,
        read::<get_profile_information::v1::Response>,
        read::<get_room_information::v1::Response>,
        read::<get_hierarchy::v1::Response>,
        read::<send_transaction_message::v1::Response>,
        read::<sign_event::v1::Response>,
    ];
    calls[usize::from(*call) % calls.len()](body);
    if let Ok(text) = std::str::from_utf8(body) {
        let _ = read_key_document(text);
    }
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
