//! Which endpoints the random users and servers ask: all whose answers have events of rooms in them.

use std::{
    collections::BTreeSet,
    sync::{LazyLock, Mutex},
};

use crate::http::{
    Routes, client, federation,
    tests::surface::{nameless, serves},
};

/// What is asked in every run of the tests, with the answers held against the plain list.
const ASKED: [&str; 35] = [
    "GET /_matrix/client/v1/room_summary/{}",
    "GET /_matrix/client/v1/rooms/{}/hierarchy",
    "GET /_matrix/client/v1/rooms/{}/relations/{}",
    "GET /_matrix/client/v1/rooms/{}/relations/{}/{}",
    "GET /_matrix/client/v1/rooms/{}/relations/{}/{}/{}",
    "GET /_matrix/client/v1/rooms/{}/threads",
    "GET /_matrix/client/v1/rooms/{}/timestamp_to_event",
    "GET /_matrix/client/v3/events",
    "GET /_matrix/client/v3/events/{}",
    "GET /_matrix/client/v3/initialSync",
    "GET /_matrix/client/v3/notifications",
    "GET /_matrix/client/v3/rooms/{}/context/{}",
    "GET /_matrix/client/v3/rooms/{}/event/{}",
    "GET /_matrix/client/v3/rooms/{}/initialSync",
    "GET /_matrix/client/v3/rooms/{}/joined_members",
    "GET /_matrix/client/v3/rooms/{}/members",
    "GET /_matrix/client/v3/rooms/{}/messages",
    "GET /_matrix/client/v3/rooms/{}/state",
    "GET /_matrix/client/v3/rooms/{}/state/{}/{}",
    "GET /_matrix/client/v3/rooms/{}/state/{}/",
    "GET /_matrix/client/v3/sync",
    "POST /_matrix/client/v3/search",
    "POST /_matrix/client/v4/sync",
    "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    "GET /_matrix/federation/v1/backfill/{}",
    "GET /_matrix/federation/v1/event/{}",
    "GET /_matrix/federation/v1/event_auth/{}/{}",
    "GET /_matrix/federation/v1/hierarchy/{}",
    "GET /_matrix/federation/v1/state/{}",
    "GET /_matrix/federation/v1/state_ids/{}",
    "GET /_matrix/federation/v1/timestamp_to_event/{}",
    "POST /_matrix/federation/v1/get_missing_events/{}",
    "PUT /_matrix/federation/v1/send_knock/{}/{}",
    "PUT /_matrix/federation/v2/invite/{}/{}",
    "PUT /_matrix/federation/v2/send_join/{}/{}",
];

/// What is not asked, by why.
const LEFT: [(&str, &[&str]); 6] = [
    (
        "it answers with an id, or with nothing",
        &[
            "POST /_matrix/client/v3/createRoom",
            "POST /_matrix/client/v3/join/{}",
            "POST /_matrix/client/v3/knock/{}",
            "POST /_matrix/client/v3/pushers/set",
            "POST /_matrix/client/v3/rooms/{}/ban",
            "POST /_matrix/client/v3/rooms/{}/forget",
            "POST /_matrix/client/v3/rooms/{}/invite",
            "POST /_matrix/client/v3/rooms/{}/join",
            "POST /_matrix/client/v3/rooms/{}/kick",
            "POST /_matrix/client/v3/rooms/{}/leave",
            "POST /_matrix/client/v3/rooms/{}/unban",
            "POST /_matrix/client/v3/rooms/{}/upgrade",
            "POST /_matrix/federation/v1/3pid/onbind",
            "PUT /_matrix/federation/v1/3pid/onbind",
            "PUT /_matrix/federation/v1/exchange_third_party_invite/{}",
            "PUT /_matrix/federation/v1/send_leave/{}/{}",
            "PUT /_matrix/federation/v2/send_leave/{}/{}",
        ],
    ),
    (
        "it tells of people, devices or addresses, and of no event",
        &[
            "GET /_matrix/client/v1/mutual_rooms",
            "GET /_matrix/client/v3/directory/list/room/{}",
            "GET /_matrix/client/v3/directory/room/{}",
            "GET /_matrix/client/v3/joined_rooms",
            "GET /_matrix/client/v3/pushers",
            "GET /_matrix/client/v3/rooms/{}/aliases",
            "POST /_matrix/client/v3/user_directory/search",
            "GET /_matrix/federation/v1/query/directory",
            "GET /_matrix/federation/v1/query/profile",
            "GET /_matrix/federation/v1/query/{}",
            "GET /_matrix/federation/v1/user/devices/{}",
            "POST /_matrix/federation/v1/user/keys/claim",
            "POST /_matrix/federation/v1/user/keys/query",
        ],
    ),
    (
        "the directory has what a room's members put there for everybody: read::directory_tests",
        &[
            "GET /_matrix/client/v3/publicRooms",
            "POST /_matrix/client/v3/publicRooms",
            "GET /_matrix/federation/v1/publicRooms",
            "POST /_matrix/federation/v1/publicRooms",
        ],
    ),
    ("it is `state/{}/{}` with an empty key", &["GET /_matrix/client/v3/rooms/{}/state/{}"]),
    (
        "an event of the one who asks, with the ids of those before it: federation::tests::handshakes",
        &[
            "GET /_matrix/federation/v1/make_join/{}/{}",
            "GET /_matrix/federation/v1/make_knock/{}/{}",
            "GET /_matrix/federation/v1/make_leave/{}/{}",
        ],
    ),
    (
        "an older form of the same answer",
        &["PUT /_matrix/federation/v1/invite/{}/{}", "PUT /_matrix/federation/v1/send_join/{}/{}"],
    ),
];

/// The endpoints of the areas that may tell of events, with methods and without the names of variables.
static SERVED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut routes = Routes::default();
    client::looking(&mut routes);
    federation::looking(&mut routes);
    let is_current = |path: &str| {
        let stable = ["client/v1/", "client/v3/", "client/v4/", "federation/v1/", "federation/v2/"];
        let path = path.trim_start_matches("/_matrix/");
        stable.iter().any(|begin| path.starts_with(begin)) || path.contains("simplified_msc3575")
    };
    // A client is told nothing by what it puts or deletes.
    let tells = |method: &http::Method, path: &str| {
        matches!(*method, http::Method::GET | http::Method::POST) || path.contains("/federation/")
    };
    let served = routes.listed().iter().filter(|(method, path)| is_current(path) && tells(method, path));
    served.map(|(method, path)| nameless(method.as_str(), path)).collect()
});

/// What was asked until now.
static UNTIL_NOW: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Which endpoints somebody has asked.
#[derive(Default)]
pub(super) struct Asked(Mutex<BTreeSet<String>>);

impl Asked {
    /// Notes a request: a method and a path.
    pub(super) fn note(&self, request: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let path = if path.starts_with("/_") { path.to_owned() } else { format!("/_matrix/client/v3{path}") };
        let is_it = |served: &&String| {
            served.split_once(' ').is_some_and(|(of, template)| of == method && serves(template, &path))
        };
        let mut asked = self.0.lock().unwrap();
        asked.extend(SERVED.iter().filter(is_it).cloned());
    }

    /// Has what was asked count.
    pub(super) fn count(&self) {
        UNTIL_NOW.lock().unwrap().extend(self.0.lock().unwrap().iter().cloned());
    }
}

/// After all runs of either kind: that all was asked which is said to be.
pub(super) fn check_all(is_of_servers: bool) {
    let until_now = UNTIL_NOW.lock().unwrap();
    let mine = ASKED.iter().filter(|asked| asked.contains("/federation/") == is_of_servers);
    let missing: Vec<_> = mine.filter(|asked| !until_now.contains(**asked)).collect();
    assert!(missing.is_empty(), "nobody has asked {missing:#?}");
}

#[test]
fn every_endpoint_that_tells_of_events_is_asked() {
    let left = LEFT.iter().flat_map(|(_, paths)| paths.iter());
    let known: BTreeSet<String> = ASKED.iter().chain(left).map(|path| (*path).to_owned()).collect();
    let (missing, idle): (Vec<_>, Vec<_>) =
        (SERVED.difference(&known).collect(), known.difference(&SERVED).collect());
    assert!(missing.is_empty() && idle.is_empty(), "in no list: {missing:#?}; not served: {idle:#?}");
}
