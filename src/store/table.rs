//! The registry of tables, and [`Rows`], which ties a table to the types of its keys and values.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::{Key, KeyFields, KeyReader, StoreError};

/// One table; the number is the first byte of its keys and is never given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TableId {
    /// Schema version, server name, secrets.
    Meta = 0x01,
    /// Facts by lane, class and position.
    LaneRow = 0x10,
    /// The position of each register of each lane.
    Register = 0x11,
    /// When an audience began and ceased to read a lane.
    Subscription = 0x12,
    /// Cursors that we keep for readers.
    Cursor = 0x13,
    /// Requests that have taken effect, with their answers.
    Once = 0x14,
    /// What clients of sliding sync have been sent, by device and connection.
    Connection = 0x15,
    /// Events with what we know of them, by event id.
    Event = 0x20,
    /// Rooms: version, heads, current state.
    Room = 0x21,
    /// Nodes of the state trees.
    StateNode = 0x22,
    /// Order of events from before we were there, by room.
    Backfill = 0x23,
    /// Relations between events, by the event related to, how, and the place of the relating one.
    Relation = 0x24,
    /// Which event redacts which.
    Redaction = 0x25,
    /// Room aliases.
    Alias = 0x26,
    /// Aliases by room.
    RoomAlias = 0x27,
    /// Rooms that are published in the directory.
    Published = 0x28,
    /// Threads by room and the place of their latest event.
    Thread = 0x29,
    /// Events by room and `origin_server_ts`.
    Timestamp = 0x2A,
    /// Stripped state of rooms that we are invited to or knock on.
    Stripped = 0x2B,
    /// Rooms that a user has forgotten.
    Forgotten = 0x2C,
    /// The edges of the auth chain index.
    AuthChain = 0x2D,
    /// Which rooms upgrade which.
    Upgrade = 0x2E,
    /// Users whose events are hidden from those who join later.
    Erased = 0x2F,
    /// Events that are named as previous ones and are not here, by room.
    Gap = 0x30,
    /// Where an event from before we were there has its place, by its id.
    BackfillPlace = 0x31,
    /// Events that could not be judged when they came, by room.
    Unjudged = 0x36,
    /// When they are tried again.
    UnjudgedRetry = 0x37,
    /// State events that were found good only after states had been made without them, by room.
    Amendment = 0x38,
    /// Rooms that were joined without most of their members.
    Partial = 0x39,
    /// Where such rooms became whole.
    Grown = 0x32,
    /// Rooms that are published in the directories of other networks.
    PublishedIn = 0x33,
    /// Events that are to be sent later.
    Delayed = 0x34,
    /// Events that are told to those who come later, by room and by when that ends.
    Sticky = 0x35,
    /// Rooms and events that the search index is to forget.
    ForgottenText = 0x3A,
    /// Rooms that are being removed.
    RoomRemoval = 0x3B,
    /// Up to where the time of a room's messages has been looked at.
    Retained = 0x3C,
    /// Rooms that nobody of this server may come into.
    BlockedRoom = 0x3D,
    /// Rooms whose guests are to be looked at, because the room may want none any more.
    GuestRoom = 0x3E,
    /// Up to when nothing of a room's past from before we were there is over.
    RetainedPast = 0x3F,
    /// Other servers that are yet to be told that an invite of theirs was rejected, by user and room.
    Farewell = 0xB0,
    /// Leaves that are sent when somebody is not in a call any more, by the call and by who it is there.
    DelegatedLeave = 0xB1,
    /// Local users.
    User = 0x40,
    /// Access tokens, by their hash.
    Token = 0x41,
    /// Refresh tokens, by their hash.
    RefreshToken = 0x42,
    /// User-interactive authentication sessions.
    UiaSession = 0x43,
    /// Profile fields.
    Profile = 0x44,
    /// When each field of a profile last changed.
    ProfileChange = 0x5D,
    /// Account data by user, room and type.
    AccountData = 0x45,
    /// Filters by user and id.
    Filter = 0x46,
    /// Registration tokens.
    RegistrationToken = 0x47,
    /// Login tokens.
    LoginToken = 0x48,
    /// OpenID tokens.
    OpenIdToken = 0x49,
    /// Third-party identifiers.
    ThirdParty = 0x4A,
    /// Reports of events, rooms and users.
    Report = 0x4B,
    /// Reported events as they were.
    ReportEvidence = 0x5F,
    /// Local users by the room they share, and other membership indexes.
    UserRoom = 0x4C,
    /// Users by the words that they are found by.
    UserWord = 0x4D,
    /// Rooms whose members everybody may find.
    OpenRoom = 0x4E,
    /// The room in which each user is told what the server has to say.
    NoticeRoom = 0x4F,
    /// Sessions by what their refresh tokens have in common.
    TokenFamily = 0x50,
    /// Clients of the OAuth 2.0 API.
    OauthClient = 0x51,
    /// Authorisation codes of the OAuth 2.0 API.
    OauthCode = 0x52,
    /// Device codes of the OAuth 2.0 API.
    OauthDeviceCode = 0x53,
    /// Device codes by the code that a user types.
    OauthUserCode = 0x54,
    /// Browsers that are signed in to the server's pages.
    BrowserSession = 0x55,
    /// Where two devices meet to sign one of them in by a QR code.
    Rendezvous = 0x56,
    /// Users by the identities that providers know them by.
    ProviderLink = 0x57,
    /// Identities by user.
    UserLink = 0x58,
    /// Browsers that are away at a provider of identities.
    ProviderAway = 0x59,
    /// Those whom a provider knows and this server does not.
    ProviderNewcomer = 0x5A,
    /// Addresses by user.
    UserThirdParty = 0x5B,
    /// Addresses that are being proved.
    AddressProof = 0x5C,
    /// At which identity servers addresses of users are bound.
    BoundAddress = 0x5E,
    /// Devices by user.
    Device = 0x60,
    /// Device keys.
    DeviceKeys = 0x61,
    /// One-time keys in upload order.
    OneTimeKey = 0x62,
    /// One-time keys by key id.
    OneTimeKeyId = 0x63,
    /// Fallback keys.
    FallbackKey = 0x64,
    /// Cross-signing keys.
    CrossSigningKey = 0x65,
    /// Signatures that users put on keys.
    KeySignature = 0x66,
    /// Key backup versions.
    BackupVersion = 0x67,
    /// Keys in a backup.
    BackupKey = 0x68,
    /// Dehydrated devices.
    DehydratedDevice = 0x69,
    /// Counts of one-time and fallback keys by device.
    KeyCounts = 0x6A,
    /// When and from where devices were last heard of.
    DeviceSeen = 0x6B,
    /// When each device last changed, as other servers see it.
    DeviceChange = 0x6C,
    /// Devices of users of other servers.
    RemoteDevices = 0x6D,
    /// Users of other servers whose devices are to be asked for anew.
    StaleDevices = 0x6E,
    /// Servers that could not be reached.
    Destination = 0x80,
    /// The last update of each user's devices that each server has.
    DeliveredDevices = 0x81,
    /// Pushers.
    Pusher = 0x70,
    /// Cached unread counts.
    Unread = 0x71,
    /// What is kept of users' presence.
    Presence = 0x72,
    /// Pushers by what they are known by to their gateways.
    PusherKey = 0x73,
    /// How far application services have got.
    Appservice = 0x82,
    /// Registrations of application services that were added while the server ran.
    AppserviceRegistration = 0x83,
    /// Keys of other servers.
    ServerKey = 0x90,
    /// Files by server and media id.
    Media = 0xA0,
    /// The bytes of files, by their hash.
    MediaContent = 0xA1,
    /// What users have uploaded.
    MediaOwned = 0xA2,
    /// How much users have uploaded.
    MediaUsage = 0xA3,
    /// Media ids that wait for an upload.
    MediaReserved = 0xA4,
    /// Files by when they were last looked at.
    MediaSeen = 0xA5,
    /// Thumbnails by the hash of the image.
    MediaThumbnail = 0xA6,
    /// Bytes that are to be removed.
    MediaGarbage = 0xA7,
    /// What pages of the web say about themselves.
    UrlPreview = 0xA8,
    /// Files by the events that show them.
    MediaUse = 0xA9,
    /// Files that were shown by what is gone.
    MediaLetGo = 0xAA,
    /// The check sums of files and thumbnails, by name.
    MediaSums = 0xAB,
    /// What quarantined files begin with.
    MediaQuarantinedHead = 0xAC,
}

/// A table whose keys are the fields `K` and whose values are JSON of `V`.
#[derive(Debug)]
pub struct Rows<K, V> {
    table: TableId,
    types: PhantomData<fn(K, V)>,
}

impl<K: KeyFields, V: Serialize + DeserializeOwned> Rows<K, V> {
    /// Declares the types of `table`.
    #[must_use]
    pub const fn new(table: TableId) -> Self {
        Self { table, types: PhantomData }
    }

    /// Which table it is.
    #[must_use]
    pub const fn table(&self) -> TableId {
        self.table
    }

    /// The key of a row.
    #[must_use]
    pub fn key(&self, fields: &K) -> Key {
        Key::new(self.table, fields)
    }

    /// What the keys of all rows that begin with `fields` begin with.
    #[must_use]
    pub fn prefix<P: KeyFields>(&self, fields: &P) -> Key {
        Key::new(self.table, fields)
    }

    /// A value as it is stored.
    #[must_use]
    pub fn encode(&self, value: &V) -> Vec<u8> {
        // Our own types have string keys and no failing serializers.
        serde_json::to_vec(value).expect("a row value serializes")
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are not a value of this table.
    pub fn decode(&self, value: &[u8]) -> Result<V, StoreError> {
        serde_json::from_slice(value)
            .map_err(|error| StoreError::Corrupt(format!("a value of table {:?}: {error}", self.table)))
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are not a key of this table.
    pub fn decode_key(&self, key: &Key) -> Result<K, StoreError> {
        K::read(&mut KeyReader::new(key))
            .ok_or_else(|| StoreError::Corrupt(format!("a key of table {:?}: {:02x?}", self.table, key.0)))
    }
}
