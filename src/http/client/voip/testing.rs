//! A LiveKit server at the other end.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use parking_lot::Mutex;
use ruma::ServerName;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    config::Config,
    http::Wire,
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
    types::Secret,
};

pub(in crate::http) const URL: &str = "wss://livekit.example.org";
const SECRET: &str = "the secret that both know, and nobody else";

/// Carries what goes to other servers over a wire, and is the LiveKit server itself.
#[derive(Default)]
pub(in crate::http) struct FakeSfu {
    wire: Wire,
    /// Calls that were made.
    made: Mutex<BTreeSet<String>>,
    /// Who is in which call.
    there: Mutex<BTreeSet<(String, String)>>,
    is_down: Mutex<bool>,
}

/// Says that the SFU is there.
pub(in crate::http) fn configure(config: &mut Config) {
    config.voip.livekit_url = Some(URL.to_owned());
    config.voip.livekit_api_url = Some("http://sfu:7880/".to_owned());
    config.voip.livekit_key = Some("key".to_owned());
    config.voip.livekit_secret = Some(Secret::from(SECRET.to_owned()));
}

/// What a token says; `{}` when it does not bear the right signature.
pub(in crate::http) fn claims(token: &str) -> Value {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let read = decode::<Value>(token, &DecodingKey::from_secret(SECRET.as_bytes()), &validation);
    read.map_or_else(|_| json!({}), |read| read.claims)
}

/// The token with which the SFU sends `body`.
pub(in crate::http) fn vouch(body: &str) -> String {
    let hash = STANDARD.encode(Sha256::digest(body));
    let claims = json!({ "iss": "key", "exp": 4_000_000_000_u64, "sha256": hash });
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

impl FakeSfu {
    pub(in crate::http) fn on(wire: &Wire) -> Self {
        Self { wire: wire.clone(), ..Self::default() }
    }

    pub(in crate::http) fn is_there(&self, place: &(String, String)) -> bool {
        self.there.lock().contains(place)
    }

    /// Lets whoever bears `token` in, if its call was made.
    pub(in crate::http) fn connect(&self, token: &str) -> (String, String) {
        let claims = claims(token);
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{claims}")).to_owned();
        let place = (text(&claims["video"]["room"]), text(&claims["sub"]));
        assert!(self.made.lock().contains(&place.0), "there is no such call");
        self.there.lock().insert(place.clone());
        place
    }

    pub(in crate::http) fn disconnect(&self, place: &(String, String)) {
        self.there.lock().remove(place);
    }

    pub(in crate::http) fn set_down(&self, is_down: bool) {
        *self.is_down.lock() = is_down;
    }

    fn answer(&self, request: &http::Request<Bytes>) -> (u16, Value) {
        let token = request.headers()["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let (video, body) = (claims(token)["video"].take(), request.body());
        let body: Value = serde_json::from_slice(body).unwrap();
        match request.uri().to_string().as_str() {
            "http://sfu:7880/twirp/livekit.RoomService/CreateRoom" => {
                assert_eq!(video["roomCreate"], true);
                self.made.lock().insert(body["name"].as_str().unwrap().to_owned());
                (200, json!({ "sid": "RM_1" }))
            }
            "http://sfu:7880/twirp/livekit.RoomService/ListParticipants" => {
                assert_eq!((&video["roomAdmin"], &video["room"]), (&json!(true), &body["room"]));
                let there = self.there.lock();
                let there = there.iter().filter(|(room, _)| body["room"] == *room);
                let there = there.map(|(_, who)| json!({ "identity": who, "state": "ACTIVE" }));
                let gone = json!({ "identity": "gone", "state": "DISCONNECTED" });
                (200, json!({ "participants": there.chain([gone]).collect::<Vec<_>>() }))
            }
            "http://sfu:7880/twirp/livekit.RoomService/RemoveParticipant" => {
                assert_eq!((&video["roomAdmin"], &video["room"]), (&json!(true), &body["room"]));
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                match self.there.lock().remove(&(text("room"), text("identity"))) {
                    true => (200, json!({})),
                    false => (404, json!({ "code": "not_found", "msg": "participant not found" })),
                }
            }
            other => panic!("{other}"),
        }
    }
}

impl Net for FakeSfu {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        self.wire.exchange(server, request, bounds)
    }

    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        assert_eq!(purpose, Purpose::Sfu);
        if *self.is_down.lock() {
            return Box::pin(async { Err(NetError::Timeout) });
        }
        let (status, answer) = self.answer(&request);
        let answer = http::Response::builder().status(status).body(Bytes::from(answer.to_string()));
        Box::pin(async move { Ok(answer.unwrap()) })
    }
}
