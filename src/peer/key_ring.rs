//! The keys with which other servers sign: from memory, the store, their servers, and notaries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::stream::{self, StreamExt};
use quick_cache::sync::Cache;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    UInt,
    api::federation::discovery::{ServerSigningKeys, get_remote_server_keys_batch::v2 as get_keys_of_many},
    room_version_rules::RoomVersionRules,
    serde::Raw,
};
use tokio::sync::Semaphore;

use super::{
    Bounds, PeerError, Peers,
    flights::Flights,
    health::Health,
    key_document::{Document, KnownKey, SERVER_KEYS},
};
use crate::{
    keys::{PublicKeyMap, PublicKeySet},
    limits::{
        KEY_DOCUMENT_BYTES_MAX, KEY_FETCHES_MAX, KEY_PAUSE_FIRST, KEY_PAUSE_MAX, KEY_SECONDS_MAX,
        KEY_STRANGERS_MAX, KEYS_CACHED, KEYS_NOTARY_FIRST, KEYS_PER_NOTARY_REQUEST_MAX,
        NOTARY_ANSWER_BYTES_MAX, NOTARY_FETCHES_MAX,
    },
    log::Commit,
};

/// Keys by server.
pub type Wanted = BTreeMap<OwnedServerName, BTreeSet<OwnedServerSigningKeyId>>;

/// When a key must have been valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// At this moment.
    At(MilliSecondsSinceUnixEpoch),
    /// At any moment: room versions 1 to 4 do not ask.
    Any,
}

impl Validity {
    /// What a room of these rules asks of the key that signed an event of `origin_server_ts`.
    #[must_use]
    pub fn of(rules: &RoomVersionRules, origin_server_ts: MilliSecondsSinceUnixEpoch) -> Self {
        match rules.enforce_key_validity {
            true => Self::At(origin_server_ts),
            false => Self::Any,
        }
    }

    fn suits(self, key: &KnownKey) -> bool {
        match self {
            Self::At(at) => key.is_valid_at(at.get().into()),
            Self::Any => true,
        }
    }
}

/// What is known in memory, and whom not to ask again yet.
pub(super) struct KeyRing {
    known: Cache<(OwnedServerName, String), Arc<KnownKey>>,
    direct: Flights<OwnedServerName, bool>,
    direct_pauses: Health,
    notary_pauses: Health,
    fetches: Semaphore,
    strangers: Semaphore,
    /// Of the fetches, those that are made for who asks us as a notary.
    notarised: Semaphore,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self {
            known: Cache::new(KEYS_CACHED),
            direct: Flights::default(),
            direct_pauses: Health::new(KEY_PAUSE_FIRST, KEY_PAUSE_MAX),
            notary_pauses: Health::new(KEY_PAUSE_FIRST, KEY_PAUSE_MAX),
            fetches: Semaphore::new(KEY_FETCHES_MAX),
            strangers: Semaphore::new(KEY_STRANGERS_MAX),
            notarised: Semaphore::new(NOTARY_FETCHES_MAX),
        }
    }
}

/// How long a server is left alone that did not give its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Full,
    Little,
}

/// Ids of keys by server.
type Ids = BTreeMap<OwnedServerName, BTreeSet<String>>;

impl Peers {
    /// Those of the `wanted` keys that are known or can be had: from the store, from their servers, from
    /// notaries. A key that is missing in the answer was not valid then, or could not be had.
    pub async fn keys(&self, wanted: Wanted, validity: Validity) -> PublicKeyMap {
        let wanted: Ids = wanted
            .into_iter()
            .map(|(server, ids)| (server, ids.iter().map(ToString::to_string).collect()))
            .collect();
        let mut found = PublicKeyMap::new();
        let mut missing = self.look_up(&wanted, validity, &mut found).await;
        if missing.is_empty() {
            return found;
        }
        let many = missing.len() >= KEYS_NOTARY_FIRST;
        if many {
            self.ask_notaries(&missing).await;
            missing = self.look_up(&missing, validity, &mut found).await;
        }
        self.ask_servers(missing.keys()).await;
        missing = self.look_up(&missing, validity, &mut found).await;
        if !many && !missing.is_empty() {
            self.ask_notaries(&missing).await;
            self.look_up(&missing, validity, &mut found).await;
        }
        found
    }

    /// The key `id` of a server that says that it is calling us, if it is valid now. None when too many servers with
    /// unknown keys are calling at once: names that somebody makes up must not keep us from those we know.
    pub async fn caller_key(&self, server: &ServerName, id: &ServerSigningKeyId) -> Option<PublicKeyMap> {
        let wanted = Ids::from([(server.to_owned(), BTreeSet::from([id.to_string()]))]);
        let validity = Validity::At(self.now());
        let mut found = PublicKeyMap::new();
        if self.look_up(&wanted, validity, &mut found).await.is_empty() {
            return Some(found);
        }
        let _place = self.key_ring().strangers.try_acquire().ok()?;
        // It may well be back: it seems to be calling.
        self.ask_server(&server.to_owned(), Patience::Little).await;
        let missing = self.look_up(&wanted, validity, &mut found).await;
        if !missing.is_empty() {
            self.ask_notaries(&missing).await;
            self.look_up(&missing, validity, &mut found).await;
        }
        Some(found)
    }

    /// Adds to `found` what is known and valid; what is left.
    async fn look_up(&self, wanted: &Ids, validity: Validity, found: &mut PublicKeyMap) -> Ids {
        let mut missing = Ids::new();
        for (server, ids) in wanted {
            let set = match server == self.server_name() {
                true => self.own_keys(validity),
                false => {
                    let known = self.known_keys(server, ids).await;
                    let suits =
                        |(_, key): &(String, Arc<KnownKey>)| validity.suits(key) && !self.is_ignored(key);
                    known.into_iter().filter(suits).map(|(id, key)| (id, key.key.clone())).collect()
                }
            };
            let left: BTreeSet<String> = ids.iter().filter(|id| !set.contains_key(*id)).cloned().collect();
            if !set.is_empty() {
                found.entry(server.to_string()).or_default().extend(set);
            }
            if !left.is_empty() && server != self.server_name() {
                missing.insert(server.clone(), left);
            }
        }
        missing
    }

    fn own_keys(&self, validity: Validity) -> PublicKeySet {
        let key = self.signing_key();
        let mut set = PublicKeySet::from([(key.key_id().to_string(), key.public_key())]);
        for old in &self.settings().old_keys {
            let counts = match validity {
                Validity::At(at) => u64::from(at.get()) <= old.expired_ts,
                Validity::Any => true,
            };
            if counts {
                set.entry(old.id.clone()).or_insert_with(|| old.key.clone());
            }
        }
        set
    }

    fn is_ignored(&self, key: &KnownKey) -> bool {
        self.settings().ignored_keys.contains(&key.key)
    }

    async fn known_keys(&self, server: &ServerName, ids: &BTreeSet<String>) -> Vec<(String, Arc<KnownKey>)> {
        let ring = self.key_ring();
        let mut found = Vec::new();
        let mut unread = Vec::new();
        for id in ids {
            let place = (server.to_owned(), id.clone());
            match ring.known.get(&place) {
                Some(key) => found.push((id.clone(), key)),
                None => unread.push(place),
            }
        }
        if unread.is_empty() {
            return found;
        }
        let rows = self.log().db().rows(&SERVER_KEYS, &unread).await;
        let rows = rows.inspect_err(|error| tracing::error!(%error, "keys of {server} cannot be read"));
        for (place, row) in unread.into_iter().zip(rows.unwrap_or_default()) {
            if let Some(key) = row.map(Arc::new) {
                found.push((place.1.clone(), key.clone()));
                ring.known.insert(place, key);
            }
        }
        found
    }

    /// Asks each server for its keys, unless it was asked a moment ago.
    pub(super) async fn ask_servers(&self, servers: impl Iterator<Item = &OwnedServerName>) {
        let servers: Vec<OwnedServerName> = servers.cloned().collect();
        let asking = servers.into_iter().map(|server| async move {
            self.ask_server(&server, Patience::Full).await;
        });
        stream::iter(asking).buffer_unordered(KEY_FETCHES_MAX).collect::<()>().await;
    }

    /// As [`Self::ask_servers`], for somebody who asks us as a notary: they must not take up all fetches.
    pub(super) async fn ask_for_others(&self, servers: &[OwnedServerName]) {
        let asking = servers.iter().cloned().map(|server| async move {
            let _place = self.key_ring().notarised.acquire().await.ok();
            self.ask_server(&server, Patience::Full).await;
        });
        stream::iter(asking).buffer_unordered(NOTARY_FETCHES_MAX).collect::<()>().await;
    }

    async fn ask_server(&self, server: &OwnedServerName, patience: Patience) -> bool {
        let (ring, clock) = (self.key_ring(), self.clock());
        let paused = match patience {
            Patience::Full => ring.direct_pauses.is_down(server, clock.monotonic()),
            Patience::Little => ring.direct_pauses.is_down_still(server, clock.monotonic()),
        };
        if paused {
            return false;
        }
        let work = || async {
            let _place = ring.fetches.acquire().await.ok();
            let answer = self.fetch_own_document(server).await;
            // A success makes a pause as well: there is nothing new to be had so soon.
            if answer.is_ok() {
                ring.direct_pauses.answered(server);
            }
            ring.direct_pauses.failed(server, clock.monotonic());
            match answer {
                Ok(document) => self.keep(&[document], true).await,
                Err(error) => tracing::debug!(%server, %error, "cannot get the keys of {server}"),
            }
            true
        };
        ring.direct.join(server, work).await
    }

    async fn fetch_own_document(&self, server: &ServerName) -> Result<Document, PeerError> {
        let bounds = Bounds::new(KEY_SECONDS_MAX, KEY_DOCUMENT_BYTES_MAX);
        let answer = self.ask_for_keys(server, bounds).await?;
        let document = Document::parse(answer.server_key.json().get()).map_err(PeerError::BadAnswer)?;
        match document.server == server {
            true => Ok(document),
            false => Err(PeerError::BadAnswer(format!("it gives the keys of {}", document.server))),
        }
    }

    /// Asks the notaries one after another for keys that could not be had otherwise.
    async fn ask_notaries(&self, wanted: &Ids) {
        let (ring, clock) = (self.key_ring(), self.clock());
        let mut left: Ids = wanted
            .iter()
            .filter(|(server, _)| !ring.notary_pauses.is_down(server, clock.monotonic()))
            .map(|(server, ids)| (server.clone(), ids.clone()))
            .collect();
        for notary in self.settings().notaries.iter().filter(|notary| *notary != self.server_name()) {
            if left.is_empty() {
                return;
            }
            if self.is_down(notary) {
                continue;
            }
            let servers: Vec<OwnedServerName> = left.keys().cloned().collect();
            for part in servers.chunks(KEYS_PER_NOTARY_REQUEST_MAX) {
                let part: Ids = part.iter().filter_map(|server| left.remove_entry(server)).collect();
                match self.ask_notary(notary, &part).await {
                    Ok(documents) => {
                        self.keep(&documents, false).await;
                        let told =
                            |server: &OwnedServerName| documents.iter().any(|one| one.server == *server);
                        left.extend(part.into_iter().filter(|(server, _)| !told(server)));
                    }
                    Err(error) => {
                        tracing::warn!(%notary, %error, "the notary {notary} gives no keys");
                        left.extend(part);
                        break;
                    }
                }
            }
        }
        // Whoever was told about is not asked for again so soon either.
        let now = clock.monotonic();
        wanted.keys().for_each(|server| ring.notary_pauses.failed(server, now));
    }

    async fn ask_notary(&self, notary: &OwnedServerName, wanted: &Ids) -> Result<Vec<Document>, PeerError> {
        let mut request = get_keys_of_many::Request::new(BTreeMap::new());
        for (server, ids) in wanted {
            let mut criteria = get_keys_of_many::QueryCriteria::new();
            criteria.minimum_valid_until_ts = Some(self.now());
            let ids = ids.iter().filter_map(|id| OwnedServerSigningKeyId::try_from(id.as_str()).ok());
            request.server_keys.insert(server.clone(), ids.map(|id| (id, criteria.clone())).collect());
        }
        let bounds = Bounds::new(KEY_SECONDS_MAX * 2, NOTARY_ANSWER_BYTES_MAX);
        let answer = self.call(notary, request, bounds).await?;
        let keys = self.notary_keys(notary).await;
        let judge = |raw: Raw<ServerSigningKeys>| {
            let document = Document::parse(raw.json().get())?;
            document.is_signed_by(notary, keys.clone())?;
            match wanted.contains_key(&document.server) {
                true => Ok(document),
                false => Err(format!("nobody asked for {}", document.server)),
            }
        };
        let judged = answer.server_keys.into_iter().take(10 * KEYS_PER_NOTARY_REQUEST_MAX).map(judge);
        let good = judged.filter_map(|one: Result<Document, String>| {
            one.inspect_err(|error| tracing::debug!(%notary, %error, "a document of a notary is refused"))
                .ok()
        });
        Ok(good.collect())
    }

    /// The keys with which a notary signs now.
    async fn notary_keys(&self, notary: &OwnedServerName) -> PublicKeySet {
        let known = self.current_keys(notary).await;
        if !known.is_empty() {
            return known;
        }
        self.ask_server(notary, Patience::Full).await;
        self.current_keys(notary).await
    }

    async fn current_keys(&self, server: &OwnedServerName) -> PublicKeySet {
        let now = u64::from(self.now().get());
        let rows = self.all_known(server).await;
        rows.into_iter().filter(|(_, key)| key.is_valid_at(now)).map(|(id, key)| (id, key.key)).collect()
    }

    /// Every key of `server` in the store.
    pub(super) async fn all_known(&self, server: &OwnedServerName) -> Vec<(String, KnownKey)> {
        let rows = self.log().db().range(&SERVER_KEYS, &(server.clone(),), 1_000).await;
        let rows = rows.inspect_err(|error| tracing::error!(%error, "keys of {server} cannot be read"));
        rows.unwrap_or_default().into_iter().map(|((_, id), key)| (id, key)).collect()
    }

    /// Stores what documents say.
    async fn keep(&self, documents: &[Document], direct: bool) {
        let now = u64::from(self.now().get());
        let mut commit = Commit::new();
        for document in documents.iter().filter(|document| document.server != self.server_name()) {
            let fresh = document.keys(now, direct);
            let ids: BTreeSet<String> = fresh.keys().cloned().collect();
            let known: BTreeMap<_, _> = self.known_keys(&document.server, &ids).await.into_iter().collect();
            for (id, key) in fresh {
                if known.get(&id).is_some_and(|known| !replaces(&key, known)) {
                    continue;
                }
                let place = (document.server.clone(), id);
                commit.put(&SERVER_KEYS, &place, &key);
                self.key_ring().known.insert(place, Arc::new(key));
            }
        }
        if let Err(error) = self.log().commit(commit).await {
            // They are in memory, and can be had again.
            tracing::error!(%error, "keys of other servers could not be stored");
        }
    }

    pub(super) fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::try_from(self.clock().now_ms()).unwrap_or(UInt::MAX))
    }
}

/// Whether news of a key count more than what was known of it.
fn replaces(new: &KnownKey, known: &KnownKey) -> bool {
    if new.direct {
        return true;
    }
    // A notary may know more recent things, but it does not contradict the server itself.
    match known.direct {
        true => new.key == known.key && new.valid_until_ts > known.valid_until_ts,
        false => new.valid_until_ts >= known.valid_until_ts,
    }
}
