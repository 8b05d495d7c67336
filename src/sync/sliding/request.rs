//! What a client of sliding sync asks for: both shapes of the body, and what they come to.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedRoomId, UserId, presence::PresenceState};
use serde::Deserialize;

use super::wanted::{MEMBER, Pattern, RoomConfig, Wanted};
use crate::{
    limits::{
        PROFILE_KEY_BYTES_MAX, SLIDING_ALL_PATTERNS_MAX, SLIDING_CONNECTION_ID_BYTES_MAX,
        SLIDING_FILTER_NAMES_MAX, SLIDING_LIST_NAME_BYTES_MAX, SLIDING_LISTS_MAX, SLIDING_NAME_BYTES_MAX,
        SLIDING_PATTERNS_MAX, SLIDING_PROFILE_FIELDS_MAX, SLIDING_SUBSCRIPTIONS_MAX,
        SLIDING_UNSTABLE_SUBSCRIPTIONS_MAX, SYNC_TIMELINE_MAX,
    },
    sync::{ProfileFields, SyncError},
    types::Position,
};

/// Which shape of the endpoint the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `org.matrix.simplified_msc3575`, as in clients of today.
    #[default]
    Unstable,
    /// `/v4/sync`, as it was accepted.
    Final,
}

/// The body of a request of either shape: each field under every name that it has or had.
#[derive(Debug, Default, Deserialize)]
pub struct SlidingBody {
    conn_id: Option<String>,
    txn_id: Option<String>,
    /// Only in the final shape; the other has these three in the query.
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, ListBody>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, ConfigBody>,
    #[serde(default)]
    extensions: Extensions,
}

impl SlidingBody {
    /// The same with position, timeout and presence from the query, where the unstable shape has them.
    #[must_use]
    pub fn in_query(mut self, query: (Option<String>, Option<u64>, Option<String>)) -> Self {
        (self.pos, self.timeout, self.set_presence) = query;
        self
    }
}

#[derive(Debug, Deserialize)]
struct ListBody {
    #[serde(flatten)]
    config: ConfigBody,
    ranges: Option<BTreeSet<(u64, u64)>>,
    range: Option<(u64, u64)>,
    #[serde(default)]
    filters: Option<Filters>,
}

#[derive(Debug, Deserialize)]
struct ConfigBody {
    #[serde(default)]
    required_state: StateBody,
    timeline_limit: u64,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum StateBody {
    Pairs(Vec<(String, String)>),
    Parts {
        #[serde(default)]
        include: Vec<PatternBody>,
        #[serde(default)]
        exclude: Vec<PatternBody>,
        #[serde(default)]
        lazy_members: bool,
    },
}

impl Default for StateBody {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct PatternBody {
    #[serde(rename = "type")]
    event_type: Option<String>,
    state_key: Option<String>,
}

/// Which of the user's rooms a list is of.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Filters {
    pub(super) is_dm: Option<bool>,
    pub(super) is_encrypted: Option<bool>,
    #[serde(alias = "is_invited")]
    pub(super) is_invite: Option<bool>,
    pub(super) room_types: Option<BTreeSet<Option<String>>>,
    pub(super) not_room_types: Option<BTreeSet<Option<String>>>,
    /// In lower case.
    pub(super) room_name_like: Option<String>,
    pub(super) tags: Option<BTreeSet<String>>,
    pub(super) not_tags: Option<BTreeSet<String>>,
    pub(super) spaces: Option<BTreeSet<String>>,
}

impl Filters {
    fn is_too_wide(&self) -> bool {
        let types = [&self.room_types, &self.not_room_types];
        let plain = [&self.tags, &self.not_tags, &self.spaces];
        let mut texts = types.into_iter().flatten().flatten().flatten().chain(&self.room_name_like);
        types.into_iter().flatten().any(|names| names.len() > SLIDING_FILTER_NAMES_MAX)
            || texts.any(|text| text.len() > SLIDING_NAME_BYTES_MAX)
            || plain.into_iter().any(|names| are_too_many(names.as_ref(), SLIDING_FILTER_NAMES_MAX))
    }
}

/// Whether there are more than `most` names, or one that is longer than any name is.
fn are_too_many(names: Option<&BTreeSet<String>>, most: usize) -> bool {
    let is_long = |names: &BTreeSet<String>| names.iter().any(|name| name.len() > SLIDING_NAME_BYTES_MAX);
    names.is_some_and(|names| names.len() > most || is_long(names))
}

/// What the client wants beside rooms.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Extensions {
    #[serde(default)]
    pub(super) to_device: Stream,
    #[serde(default)]
    pub(super) e2ee: Scope,
    #[serde(default)]
    pub(super) account_data: Scope,
    #[serde(default)]
    pub(super) receipts: Scope,
    #[serde(default)]
    pub(super) typing: Scope,
    #[serde(default, alias = "io.element.msc4308.thread_subscriptions")]
    pub(super) thread_subscriptions: Threads,
    #[serde(default, alias = "org.matrix.msc4354.sticky_events")]
    pub(super) sticky: Stream,
    #[serde(default, rename = "org.matrix.msc4262.profiles")]
    pub(super) profiles: Profiles,
}

impl Extensions {
    fn are_too_wide(&self) -> bool {
        let scopes = [&self.e2ee, &self.account_data, &self.receipts, &self.typing, &self.profiles.scope];
        scopes.into_iter().any(Scope::is_too_wide)
    }
}

/// An extension with a token of its own.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Stream {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    pub(super) limit: Option<u64>,
    pub(super) since: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Threads {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    pub(super) limit: Option<u64>,
}

/// The extension for profiles.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Profiles {
    #[serde(flatten)]
    pub(super) scope: Scope,
    /// Without names, all.
    fields: Option<BTreeSet<String>>,
}

impl Profiles {
    pub(super) fn fields(&self) -> ProfileFields {
        self.fields.clone().map_or(ProfileFields::All, ProfileFields::Named)
    }

    fn is_too_wide(&self) -> bool {
        let fields = self.fields.iter().flatten();
        fields.clone().count() > SLIDING_PROFILE_FIELDS_MAX
            || fields.clone().any(|name| name.len() > PROFILE_KEY_BYTES_MAX)
    }
}

/// An extension, and of which rooms it speaks: of those in the lists and the subscriptions named, and
/// without names of all of them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Scope {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    lists: Option<BTreeSet<String>>,
    rooms: Option<BTreeSet<String>>,
}

impl Scope {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    /// Whether the extension speaks of a room that is in `lists`, or subscribed to.
    pub(super) fn covers(&self, room: &str, lists: &[ListName], subscribed: bool) -> bool {
        let by_list = match &self.lists {
            None => !lists.is_empty(),
            Some(named) if named.contains("*") => !lists.is_empty(),
            Some(named) => lists.iter().any(|list| named.contains(&**list)),
        };
        let is_named = |named: &BTreeSet<String>| named.contains("*") || named.contains(room);
        let by_room = subscribed && self.rooms.as_ref().is_none_or(is_named);
        self.is_enabled() && (by_list || by_room)
    }

    fn is_too_wide(&self) -> bool {
        are_too_many(self.lists.as_ref(), SLIDING_LISTS_MAX)
            || are_too_many(self.rooms.as_ref(), SLIDING_UNSTABLE_SUBSCRIPTIONS_MAX)
    }
}

/// The name of a list, shared by all of its rooms.
pub(super) type ListName = Arc<str>;

/// One list.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// First and last index of each range; without ranges, all.
    pub(super) ranges: Option<BTreeSet<(u64, u64)>>,
    pub(super) config: RoomConfig,
    pub(super) filters: Filters,
}

impl List {
    pub(super) fn covers(&self, index: usize) -> bool {
        let index = index as u64;
        self.ranges
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&index)))
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct SlidingRequest {
    pub(super) shape: Shape,
    pub(super) conn_id: String,
    pub(super) txn_id: Option<String>,
    pub(super) pos: Option<Pos>,
    pub(super) timeout: Duration,
    pub(super) set_presence: Option<PresenceState>,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) subscriptions: BTreeMap<OwnedRoomId, RoomConfig>,
    pub(super) extensions: Extensions,
}

impl SlidingRequest {
    /// Whether something is wanted of rooms of lists that are in no window.
    pub(super) fn wants_beyond(&self) -> bool {
        self.extensions.sticky.enabled == Some(true)
    }

    /// What `body` comes to for `user`.
    ///
    /// # Errors
    /// When something is larger than it may be, or is no position or presence.
    pub fn new(shape: Shape, user: &UserId, body: SlidingBody) -> Result<Self, SyncError> {
        check(shape, &body)?;
        let lists = body.lists.into_iter().map(|(name, list)| Ok((name, read_list(list, user)?)));
        let lists = lists.collect::<Result<BTreeMap<_, _>, SyncError>>()?;
        let subscriptions =
            body.room_subscriptions.into_iter().map(|(room, config)| Ok((room, read_config(config, user)?)));
        let subscriptions = subscriptions.collect::<Result<BTreeMap<_, _>, SyncError>>()?;
        check_patterns(lists.values().map(|list| &list.config).chain(subscriptions.values()))?;
        Ok(Self {
            shape,
            conn_id: body.conn_id.unwrap_or_default(),
            txn_id: body.txn_id,
            pos: body.pos.map(|pos| pos.parse()).transpose()?,
            timeout: Duration::from_millis(body.timeout.unwrap_or_default()),
            set_presence: body.set_presence.map(|word| presence(&word)).transpose()?,
            lists,
            subscriptions,
            extensions: body.extensions,
        })
    }
}

/// Refuses what is more, or longer, than a request may have.
fn check(shape: Shape, body: &SlidingBody) -> Result<(), SyncError> {
    let subscriptions_max = match shape {
        Shape::Unstable => SLIDING_UNSTABLE_SUBSCRIPTIONS_MAX,
        Shape::Final => SLIDING_SUBSCRIPTIONS_MAX,
    };
    let is_long = |name: &String| name.len() > SLIDING_LIST_NAME_BYTES_MAX;
    let conn_id_bytes = body.conn_id.as_ref().map_or(0, String::len);
    for (is_wrong, message) in [
        (body.lists.len() > SLIDING_LISTS_MAX, "There are too many lists"),
        (body.lists.keys().any(is_long), "The name of a list is too long"),
        (body.room_subscriptions.len() > subscriptions_max, "There are too many room subscriptions"),
        (
            body.extensions.profiles.is_too_wide(),
            "There are too many profile fields, or one with too long a name",
        ),
        (
            body.extensions.are_too_wide(),
            "An extension names too many lists or rooms, or one with too long a name",
        ),
        (conn_id_bytes > SLIDING_CONNECTION_ID_BYTES_MAX, "`conn_id` is too long"),
    ] {
        if is_wrong {
            return Err(SyncError::Invalid(message));
        }
    }
    Ok(())
}

/// Each piece of a room's state may be held against all of them.
fn check_patterns<'a>(configs: impl Iterator<Item = &'a RoomConfig>) -> Result<(), SyncError> {
    let wanted: BTreeSet<&Wanted> = configs.flat_map(|config| &config.wanted).collect();
    let patterns: usize = wanted.into_iter().map(|wanted| wanted.include.len() + wanted.exclude.len()).sum();
    match patterns > SLIDING_ALL_PATTERNS_MAX {
        true => {
            Err(SyncError::Invalid("`required_state` is too long in all lists and subscriptions together"))
        }
        false => Ok(()),
    }
}

fn presence(word: &str) -> Result<PresenceState, SyncError> {
    match word {
        "online" => Ok(PresenceState::Online),
        "offline" => Ok(PresenceState::Offline),
        "unavailable" => Ok(PresenceState::Unavailable),
        _ => Err(SyncError::Invalid("`set_presence` is none of the three that there are")),
    }
}

fn read_list(list: ListBody, user: &UserId) -> Result<List, SyncError> {
    let ranges = list.ranges.or(list.range.map(|range| [range].into()));
    if ranges.iter().flatten().any(|(first, last)| first > last) {
        return Err(SyncError::Invalid("A range ends before it begins"));
    }
    if ranges.as_ref().is_some_and(|ranges| ranges.len() > SLIDING_FILTER_NAMES_MAX) {
        return Err(SyncError::Invalid("A list has too many ranges"));
    }
    let mut filters = list.filters.unwrap_or_default();
    if filters.is_too_wide() {
        return Err(SyncError::Invalid("A filter names too much, or something with too long a name"));
    }
    filters.room_name_like = filters.room_name_like.map(|part| part.to_lowercase());
    Ok(List { ranges, config: read_config(list.config, user)?, filters })
}

fn read_config(config: ConfigBody, user: &UserId) -> Result<RoomConfig, SyncError> {
    let limit = usize::try_from(config.timeline_limit).unwrap_or(SYNC_TIMELINE_MAX);
    let wanted = match config.required_state {
        StateBody::Pairs(pairs) => from_pairs(pairs, user),
        StateBody::Parts { include, exclude, lazy_members } => {
            let read = |pattern: PatternBody| {
                let PatternBody { event_type, state_key } = pattern;
                Pattern { event_type, state_key }
            };
            let (include, exclude) = (include.into_iter().map(read), exclude.into_iter().map(read));
            Wanted { include: include.collect(), exclude: exclude.collect(), lazy_members }
        }
    };
    if wanted.include.len() + wanted.exclude.len() > SLIDING_PATTERNS_MAX {
        return Err(SyncError::Invalid("`required_state` is too long"));
    }
    let patterns = || wanted.include.iter().chain(&wanted.exclude);
    if patterns().any(|pattern| pattern.texts().any(|text| text.len() > SLIDING_NAME_BYTES_MAX)) {
        return Err(SyncError::Invalid("A type or state key in `required_state` is too long"));
    }
    Ok(RoomConfig { timeline_limit: limit.min(SYNC_TIMELINE_MAX), wanted: [wanted].into() })
}

/// The unstable shape has words for the user, for anything, and for members as they are needed.
fn from_pairs(pairs: Vec<(String, String)>, user: &UserId) -> Wanted {
    let mut wanted = Wanted::default();
    for (event_type, state_key) in pairs {
        let any = |part: String| (part != "*").then_some(part);
        match (&*event_type, &*state_key) {
            (MEMBER, "$LAZY") => wanted.lazy_members = true,
            (_, "$ME") => wanted
                .include
                .push(Pattern { event_type: any(event_type), state_key: Some(user.to_string()) }),
            _ => wanted.include.push(Pattern { event_type: any(event_type), state_key: any(state_key) }),
        }
    }
    wanted
}

/// How far a connection has got: the place in the log, and which state of the connection goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub(super) log: Position,
    pub(super) state: u64,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}~{:x}", self.log, self.state)
    }
}

impl FromStr for Pos {
    type Err = SyncError;

    fn from_str(text: &str) -> Result<Self, SyncError> {
        let parts = text.strip_prefix('s').and_then(|rest| rest.split_once('~'));
        let (log, state) = parts.ok_or(SyncError::UnknownPos)?;
        let log = log.parse().map_err(|_| SyncError::UnknownPos)?;
        let state = u64::from_str_radix(state, 16).map_err(|_| SyncError::UnknownPos)?;
        Ok(Self { log: Position(log), state })
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn read(shape: Shape, body: Value) -> Result<SlidingRequest, String> {
        let body: SlidingBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        SlidingRequest::new(shape, user_id!("@me:a.org"), body).map_err(|error| error.to_string())
    }

    #[test]
    fn both_shapes_say_the_same() {
        let old = json!({"lists": {"a": {"ranges": [[0, 19]], "timeline_limit": 3, "required_state":
            [["m.room.member", "$ME"], ["m.room.member", "$LAZY"], ["*", "*"]], "filters": {"is_invite": true}}}});
        let new = json!({"lists": {"a": {"range": [0, 19], "timeline_limit": 3, "required_state": {"include":
            [{"type": "m.room.member", "state_key": "@me:a.org"}, {}], "lazy_members": true},
            "filters": {"is_invited": true}}}});
        let (old, new) = (read(Shape::Unstable, old).unwrap(), read(Shape::Final, new).unwrap());
        let (old, new) = (&old.lists["a"], &new.lists["a"]);
        assert_eq!(old.config, new.config);
        assert_eq!((&old.ranges, old.filters.is_invite), (&new.ranges, new.filters.is_invite));
        assert!(old.covers(0) && old.covers(19) && !old.covers(20));
    }

    #[test]
    fn nonsense_is_refused() {
        let list = |list: Value| json!({"lists": {"a": list}});
        let many: BTreeMap<String, Value> =
            (0..101).map(|n| (n.to_string(), json!({"timeline_limit": 1}))).collect();
        let rooms: BTreeMap<String, Value> =
            (0..101).map(|n| (format!("!{n}:a.org"), json!({"timeline_limit": 1}))).collect();
        let long = "x".repeat(256);
        let names: Vec<String> = (0..101).map(|n| n.to_string()).collect();
        let filter =
            |name: &str, value: Value| list(json!({ "timeline_limit": 1, "filters": { name: value } }));
        let extension = |name: &str, scope: Value| json!({ "extensions": { name: scope } });
        // Too many only together.
        let wide: BTreeMap<String, Value> = (0..6)
            .map(|list| {
                let state: Vec<[String; 2]> =
                    (0..180).map(|n| [format!("{list}.{n}"), String::new()]).collect();
                (list.to_string(), json!({ "timeline_limit": 1, "required_state": state }))
            })
            .collect();
        for body in [
            list(json!({"ranges": [[5, 1]], "timeline_limit": 1})),
            list(json!({"ranges": [[-1, 1]], "timeline_limit": 1})),
            list(json!({"ranges": [[0]], "timeline_limit": 1})),
            list(json!({"timeline_limit": -1})),
            list(json!({})),
            json!({ "lists": many }),
            json!({ "room_subscriptions": rooms }),
            json!({ "room_subscriptions": {"nonsense": {"timeline_limit": 1}} }),
            json!({ "pos": "x" }),
            json!({ "set_presence": "asleep" }),
            json!({ "conn_id": "x".repeat(300) }),
            json!({ "lists": { long.clone(): {"timeline_limit": 1} } }),
            list(json!({ "timeline_limit": 1, "ranges": (0..101).map(|n| [n, n]).collect::<Vec<_>>() })),
            list(json!({ "timeline_limit": 1, "required_state": [[long, ""]] })),
            list(json!({ "timeline_limit": 1, "required_state": {"exclude": [{"state_key": long}]} })),
            filter("room_types", json!(names)),
            filter("not_room_types", json!([null, long])),
            filter("tags", json!(names)),
            filter("not_tags", json!([long])),
            filter("spaces", json!(names)),
            filter("room_name_like", json!(long)),
            extension("e2ee", json!({ "lists": names })),
            extension(
                "account_data",
                json!({ "rooms": (0..1_001).map(|n| n.to_string()).collect::<Vec<_>>() }),
            ),
            extension("receipts", json!({ "rooms": [long] })),
            extension("typing", json!({ "lists": [long] })),
            extension("org.matrix.msc4262.profiles", json!({ "lists": names })),
            json!({ "lists": wide }),
            json!({ "extensions": { "org.matrix.msc4262.profiles": {
                "fields": (0..101).map(|n| n.to_string()).collect::<Vec<_>>() } } }),
        ] {
            assert!(read(Shape::Final, body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_said_twice_counts_once() {
        let twice: Vec<&str> = std::iter::repeat_n("m.a", 10_000).collect();
        let state: Vec<[String; 2]> = (0..180).map(|n| [n.to_string(), String::new()]).collect();
        let list = json!({ "timeline_limit": 1, "required_state": state, "filters":
            {"tags": twice, "spaces": twice, "room_types": twice, "room_name_like": "DEN"} });
        let lists: BTreeMap<String, Value> = (0..100).map(|n| (n.to_string(), list.clone())).collect();
        let body = json!({ "lists": lists, "extensions": {"typing": {"enabled": true, "rooms": twice}} });
        let read = read(Shape::Final, body).unwrap();
        let filters = &read.lists["7"].filters;
        assert_eq!(filters.spaces, Some(["m.a".to_owned()].into()));
        assert_eq!(filters.room_name_like.as_deref(), Some("den"));
    }

    #[test]
    fn a_scope_covers_what_it_names() {
        let check = |scope: Value, lists: &[&str], subscribed, expected| {
            let read: Scope = serde_json::from_value(scope.clone()).unwrap();
            let lists: Vec<ListName> = lists.iter().map(|list| ListName::from(*list)).collect();
            assert_eq!(read.covers("!r", &lists, subscribed), expected, "{scope} {lists:?} {subscribed}");
        };
        check(json!({"enabled": true}), &["a"], false, true);
        check(json!({"enabled": true}), &[], true, true);
        check(json!({}), &["a"], true, false);
        check(json!({"enabled": true, "lists": []}), &["a"], false, false);
        check(json!({"enabled": true, "lists": ["b"]}), &["a"], false, false);
        check(json!({"enabled": true, "lists": ["*"]}), &["a"], false, true);
        check(json!({"enabled": true, "lists": [], "rooms": ["!r"]}), &["a"], true, true);
        check(json!({"enabled": true, "lists": [], "rooms": ["!r"]}), &["a"], false, false);
        check(json!({"enabled": true, "lists": [], "rooms": ["!s"]}), &["a"], true, false);
    }

    #[test]
    fn positions_round_trip() {
        for pos in [Pos { log: Position(7), state: 0 }, Pos { log: Position(7), state: u64::MAX }] {
            assert_eq!(pos.to_string().parse::<Pos>().unwrap(), pos);
        }
        for text in ["", "s7", "7~1", "s7~", "s~1", "s7~g"] {
            assert!(text.parse::<Pos>().is_err(), "{text}");
        }
    }
}
