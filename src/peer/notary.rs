//! What this server publishes: its own keys, and, as a notary, those of others.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName,
    api::federation::discovery::ServerSigningKeys,
    serde::{Base64, Raw},
};
use serde_json::value::to_raw_value;

use super::Peers;
use crate::{
    keys::{ObjectError, parse_object},
    limits::{KEY_PUBLISHED_MS, NOTARY_SECONDS_MAX, NOTARY_SERVERS_MAX},
};

/// Which keys somebody asks a notary for, by server.
pub type Query = BTreeMap<OwnedServerName, Asked>;

/// Which keys of one server somebody asks a notary for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All; one of them must be valid until this moment.
    All(Option<MilliSecondsSinceUnixEpoch>),
    /// Some by their ids, each with the moment until which it must be valid.
    Some(BTreeMap<String, Option<MilliSecondsSinceUnixEpoch>>),
}

/// A key with which this server has signed in the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// `ed25519:<version>`.
    pub id: String,
    /// The public half.
    pub key: Base64,
    /// When it was used for the last time.
    pub expired_ts: u64,
}

impl Peers {
    /// What this server says about its own keys, signed.
    ///
    /// # Errors
    /// When it cannot be written; a mistake of ours.
    pub fn own_document(&self) -> Result<Raw<ServerSigningKeys>, ObjectError> {
        Ok(raw(&self.own_object()?))
    }

    fn own_object(&self) -> Result<CanonicalJsonObject, ObjectError> {
        let key = self.signing_key();
        let text = |text: &str| CanonicalJsonValue::String(String::from(text));
        let number = |number: u64| {
            // Beyond 2^53 there is no such number in canonical JSON; no clock shows it.
            CanonicalJsonValue::Integer(
                i64::try_from(number).ok().and_then(|n| n.try_into().ok()).unwrap_or_default(),
            )
        };
        let entry = |fields: &[(&str, CanonicalJsonValue)]| {
            let fields = fields.iter().map(|(name, value)| (String::from(*name), value.clone()));
            CanonicalJsonValue::Object(fields.collect())
        };
        let public = entry(&[("key", text(&key.public_key().encode()))]);
        let current = CanonicalJsonObject::from([(key.key_id().to_string(), public)]);
        let old = self.settings().old_keys.iter().filter(|old| old.id != key.key_id().as_str()).map(|old| {
            let fields = [("key", text(&old.key.encode())), ("expired_ts", number(old.expired_ts))];
            (old.id.clone(), entry(&fields))
        });
        let until = self.clock().now_ms().saturating_add(KEY_PUBLISHED_MS);
        let mut object = CanonicalJsonObject::from([
            (String::from("server_name"), text(self.server_name().as_str())),
            (String::from("valid_until_ts"), number(until)),
            (String::from("verify_keys"), CanonicalJsonValue::Object(current)),
            (String::from("old_verify_keys"), CanonicalJsonValue::Object(old.collect())),
        ]);
        key.sign_json(&mut object)?;
        Ok(object)
    }

    /// What is known of the keys of others, each document signed by us as well. Servers whose keys are not known,
    /// or not known for long enough, are asked first, within bounds: anybody may ask this, for names that do not exist.
    pub async fn notarise(&self, query: Query) -> Vec<Raw<ServerSigningKeys>> {
        let query: Query = query.into_iter().take(NOTARY_SERVERS_MAX).collect();
        let now = self.now();
        let mut stale = Vec::new();
        for (server, wanted) in query.iter().filter(|(server, _)| *server != self.server_name()) {
            let known: BTreeMap<String, _> = self.all_known(server).await.into_iter().collect();
            let moment = |until: &Option<MilliSecondsSinceUnixEpoch>| u64::from(until.unwrap_or(now).get());
            let suffices = |id: &String, until| {
                known
                    .get(id)
                    .is_some_and(|key| key.expired_ts.is_some() || key.valid_until_ts >= moment(until))
            };
            let enough = match wanted {
                Asked::All(until) => known.values().any(|key| key.is_valid_at(moment(until))),
                Asked::Some(ids) => ids.iter().all(|(id, until)| suffices(id, until)),
            };
            if !enough {
                stale.push(server.clone());
            }
        }
        // Who asks waits no longer than this; what comes later is known the next time.
        drop(tokio::time::timeout(NOTARY_SECONDS_MAX, self.ask_for_others(&stale)).await);
        let mut answer = Vec::new();
        for (server, wanted) in &query {
            let ids = match wanted {
                Asked::All(_) => BTreeSet::new(),
                Asked::Some(ids) => ids.keys().collect(),
            };
            answer.extend(self.documents(server, ids).await);
        }
        answer
    }

    async fn documents(
        &self,
        server: &OwnedServerName,
        ids: BTreeSet<&String>,
    ) -> Vec<Raw<ServerSigningKeys>> {
        if server == self.server_name() {
            return self.own_document().into_iter().collect();
        }
        let known = self.all_known(server).await.into_iter();
        let known = known.filter(|(id, _)| ids.is_empty() || ids.contains(id));
        // Several keys may stand in the same document.
        let documents: BTreeSet<String> = known.map(|(_, key)| key.document).collect();
        let sign = |text: &String| {
            let mut object = parse_object(text).ok()?;
            self.signing_key().sign_json(&mut object).ok()?;
            Some(raw(&object))
        };
        documents.iter().filter_map(sign).collect()
    }
}

fn raw(object: &CanonicalJsonObject) -> Raw<ServerSigningKeys> {
    Raw::from_json(to_raw_value(object).expect("a map of JSON values can be written"))
}
