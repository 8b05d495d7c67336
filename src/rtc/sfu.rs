//! What the SFU is asked.
//!
//! <https://docs.livekit.io/reference/other/roomservice-api/>

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Grant, RtcError, Settings,
    token::{Claims, Video, sign, vouched},
};
use crate::{
    limits::{SFU_ADMIN_TOKEN_SECONDS, SFU_ANSWER_BYTES_MAX, SFU_SECONDS_MAX, SFU_TOKEN_SECONDS},
    peer::{Bounds, Net, Purpose},
    types::Ports,
};

/// The SFU at the other end.
pub(super) struct Sfu {
    settings: Settings,
    net: Arc<dyn Net>,
    ports: Ports,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    participants: Vec<Participant>,
}

#[derive(Deserialize)]
struct Participant {
    #[serde(default)]
    identity: String,
    #[serde(default)]
    state: Value,
}

#[derive(Deserialize)]
struct Mistake {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Webhook {
    #[serde(default)]
    room: Option<Room>,
}

#[derive(Deserialize)]
struct Room {
    #[serde(default)]
    name: String,
}

impl Sfu {
    pub(super) fn new(settings: Settings, net: Arc<dyn Net>, ports: Ports) -> Self {
        Self { settings, net, ports }
    }

    /// Has `room` made, unless it is there.
    pub(super) async fn create_room(&self, room: &str) -> Result<(), RtcError> {
        let video = Video { room_create: true, ..Video::default() };
        self.ask("CreateRoom", &json!({ "name": room }), video).await.map(drop)
    }

    /// Who is connected to `room`; nobody, if there is no such room.
    pub(super) async fn participants(&self, room: &str) -> Result<BTreeSet<String>, RtcError> {
        let video = Video { room: Some(room), room_admin: true, ..Video::default() };
        let Some(answer) = self.ask("ListParticipants", &json!({ "room": room }), video).await? else {
            return Ok(BTreeSet::new());
        };
        let listed: Listed =
            serde_json::from_slice(&answer).map_err(|error| RtcError::Sfu(error.to_string()))?;
        // One that has gone may still be listed for a moment; states are numbers or names.
        let is_there =
            |participant: &Participant| participant.state != "DISCONNECTED" && participant.state != 3;
        let there = listed.participants.into_iter().filter(is_there);
        Ok(there.map(|participant| participant.identity).collect())
    }

    /// Has `identity` put out of `room`, if they are in it.
    pub(super) async fn remove(&self, room: &str, identity: &str) -> Result<(), RtcError> {
        let video = Video { room: Some(room), room_admin: true, ..Video::default() };
        self.ask("RemoveParticipant", &json!({ "room": room, "identity": identity }), video).await.map(drop)
    }

    /// A token that lets `identity` into `room`.
    pub(super) fn join_token(&self, room: &str, identity: &str, grant: Grant) -> String {
        let video = Video {
            room: Some(room),
            room_join: true,
            can_publish: grant == Grant::Publish,
            can_subscribe: true,
            can_update_own_metadata: true,
            ..Video::default()
        };
        self.sign(identity, video, SFU_TOKEN_SECONDS)
    }

    /// The room that a webhook is about; none, if it is about something else.
    ///
    /// # Errors
    /// When it was not the SFU that sent it.
    pub(super) fn heard(&self, token: &str, body: &[u8]) -> Result<Option<String>, RtcError> {
        let settings = &self.settings;
        let known = vouched(token, (&settings.key, &settings.secret), self.now());
        if known.is_none_or(|hash| hash != STANDARD.encode(Sha256::digest(body))) {
            return Err(RtcError::NotBySfu);
        }
        let webhook: Webhook = serde_json::from_slice(body).map_err(|_| RtcError::NotBySfu)?;
        Ok(webhook.room.map(|room| room.name))
    }

    fn sign(&self, identity: &str, video: Video<'_>, seconds: u64) -> String {
        let now = self.now();
        let claims = Claims { iss: &self.settings.key, sub: identity, nbf: now, exp: now + seconds, video };
        sign(&claims, &self.settings.secret)
    }

    /// The answer; none, if there is nothing of that name.
    async fn ask(&self, verb: &str, body: &Value, video: Video<'_>) -> Result<Option<Bytes>, RtcError> {
        let failed = |error: String| RtcError::Sfu(format!("{verb}: {error}"));
        let base = self.settings.api_url.trim_end_matches('/');
        let request = Request::post(format!("{base}/twirp/livekit.RoomService/{verb}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.sign("", video, SFU_ADMIN_TOKEN_SECONDS)),
            )
            .body(Bytes::from(body.to_string()))
            .map_err(|error| failed(error.to_string()))?;
        let bounds = Bounds::new(SFU_SECONDS_MAX, SFU_ANSWER_BYTES_MAX);
        let answer = self.net.visit(Purpose::Sfu, request, bounds).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.into_body())),
            status => match serde_json::from_slice::<Mistake>(answer.body()) {
                Ok(mistake) if mistake.code == "not_found" => Ok(None),
                Ok(mistake) => Err(failed(format!("it answered {status} {}", mistake.code))),
                Err(_) => Err(failed(format!("it answered {status}"))),
            },
        }
    }

    /// Seconds since the epoch.
    fn now(&self) -> u64 {
        self.ports.clock.now_ms() / 1_000
    }
}
