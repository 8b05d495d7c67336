//! Every setting, with its meaning and its default.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ruma::{OwnedRoomOrAliasId, OwnedServerName, OwnedUserId, owned_server_name};
use serde::{Deserialize, Serialize};

use super::{
    listen::{self, Listen},
    section::{Documented, sections},
    values::{
        DefaultRoomVersion, Durability, Engine, InvitesFrom, LogFormat, MailProtection, OldVerifyKey,
        Options, Policy, Provider, Rate, RegistrationEmail, RegistrationMode,
    },
};
use crate::limits::{ACCESS_TOKEN_LIFETIME, LETTER_DELAY};
use crate::types::{IpRange, Secret};

sections! {
    /// The settings of the whole server.
    Config {
        /// The name of this server: the part after the colon in `@user:example.org`. It is written into
        /// every identifier, so it can never be changed once the server has users.
        server_name: OwnedServerName = owned_server_name!("localhost"),
        /// Where to listen: `ADDRESS:PORT`, or `unix:/path/of/socket`. An entry may also be a table
        /// `{ address = "…", tls_certificate = "chain.pem", tls_key = "key.pem" }`, which serves HTTPS; renewed
        /// files are taken up within a minute.
        /// In the environment and in flags several addresses are separated by commas.
        listen: Vec<Listen> = vec![Listen::plain(listen::Address::Tcp(([127, 0, 0, 1], 8008).into()))],
        /// The folder that holds the signing key, the secrets and the embedded store. It is created with
        /// mode 0700.
        data_dir: PathBuf = PathBuf::from("lockstep-data"),
        /// The address under which clients reach this server, for example `https://matrix.example.org`.
        /// When it is set, `/.well-known/matrix/client` is served, and `/.well-known/matrix/server` unless
        /// `well_known.server` says otherwise.
        public_base_url: Option<String> = None,
        /// Reverse proxies whose `X-Forwarded-For` header is believed. A Unix socket is always believed.
        trusted_proxies: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        /// Clients that may read `/metrics`, and how the deliveries to other servers stand. Clients over a Unix
        /// socket always may.
        metrics_readers: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        /// Whether users see who of those with whom they share a room is there. It costs a little for everybody
        /// whenever somebody comes or goes.
        presence: bool = true,
        /// The room version of new rooms when their creator does not ask for another: one from `"1"` to `"12"`.
        default_room_version: DefaultRoomVersion = DefaultRoomVersion::default(),
        /// Whether a kick or a ban that says so redacts what the user has sent since they came into the room (MSC4293,
        /// which is not part of the specification yet), whichever server it comes from, and clients hear that it is so.
        /// It takes somebody who may redact in the room, and cannot be taken back. Clients that do not know of it go on
        /// showing what they have.
        redact_on_ban: bool = false,
        /// How long an access token is valid whose client can refresh it, in seconds; 0: for ever. Tokens of
        /// clients that cannot refresh are valid until they log out.
        access_token_seconds: u64 = ACCESS_TOKEN_LIFETIME.as_secs(),
        /// Who may register an account.
        registration: Registration = Registration::default(),
        /// A puzzle for newcomers that programs do not solve.
        captcha: Captcha = Captcha::default(),
        /// Signing in on pages of this server, which most clients prefer.
        oauth: Oauth = Oauth::default(),
        /// Signing in by other providers of identities.
        sso: Sso = Sso::default(),
        /// Letters to users: whoever has added a mail address can get a new password by it.
        email: Email = Email::default(),
        /// Identity servers, which know whose an address is.
        identity: Identity = Identity::default(),
        /// Where everything is kept.
        store: Storage = Storage::default(),
        /// How often one client may ask for the same kind of thing.
        rate_limits: RateLimits = RateLimits::default(),
        /// How much the server takes on at once.
        limits: Limits = Limits::default(),
        /// The other servers.
        federation: Federation = Federation::default(),
        /// Registrations of application services (bridges): YAML files, or folders whose `*.yaml` and `*.yml` are
        /// read. They are read once, at the start; one that cannot be used is told in the log and left out. Others
        /// can be added to a running server: `lockstep appservice add`.
        appservices: Vec<PathBuf> = Vec::new(),
        /// How users' phones are told of what happens.
        push: Push = Push::default(),
        /// Files that users send and receive.
        media: Media = Media::default(),
        /// Calls.
        voip: Voip = Voip::default(),
        /// How users find each other.
        user_directory: UserDirectory = UserDirectory::default(),
        /// How users find messages.
        search: Search = Search::default(),
        /// How long messages are kept.
        retention: Retention = Retention::default(),
        /// Who may invite the users of this server.
        invites: Invites = Invites::default(),
        /// Whom and what the server keeps from its users.
        moderation: Moderation = Moderation::default(),
        /// What the administrators tell users.
        notices: Notices = Notices::default(),
        /// What is served under `/.well-known/matrix/`.
        well_known: WellKnown = WellKnown::default(),
        /// What the server tells about itself while it runs.
        logging: Logging = Logging::default(),
    }

    /// Calls: what the server tells clients of the servers that carry sound and pictures.
    Voip {
        /// TURN servers, such as `turn:turn.example.org?transport=udp`. Without an entry there is none.
        turn_uris: Vec<String> = Vec::new(),
        /// The secret that is shared with them (`static-auth-secret` of coturn): each user is given a password of
        /// their own that ends.
        turn_shared_secret: Option<Secret> = None,
        /// How long such a password is valid, in seconds.
        turn_seconds: u64 = 86_400,
        /// Name and password for all, when there is no shared secret.
        turn_username: Option<String> = None,
        /// See `turn_username`.
        turn_password: Option<Secret> = None,
        /// The address of a LiveKit server, which carries the calls of many (MatrixRTC), as clients reach it, such as
        /// `wss://livekit.example.org`. This server lets users into it; no other service is needed for that. Its webhooks
        /// are best sent to `/_matrix/livekit/webhook` of this server, so that whoever leaves a call is gone at once. It
        /// should not make rooms by itself (`auto_create: false` in its configuration).
        livekit_url: Option<String> = None,
        /// The address at which this server reaches it, such as `http://127.0.0.1:7880`, where that is another one.
        livekit_api_url: Option<String> = None,
        /// The name of the key that both know (`keys` in its configuration).
        livekit_key: Option<String> = None,
        /// The secret of that key.
        livekit_secret: Option<Secret> = None,
        /// A file with the secret instead.
        livekit_secret_file: Option<PathBuf> = None,
        /// The address of a service that lets users into the calls of a LiveKit server (`lk-jwt-service`), for clients
        /// that ask such a service and not their server. Where `livekit_url` is set, this server is one.
        livekit_service_url: Option<String> = None,
    }

    /// Who may register an account. In short: `registration = "open"` sets `mode`.
    Registration {
        /// `closed`: only `lockstep user create` and the shared secret make accounts. `token`: whoever
        /// knows one of `tokens`. `open`: everybody.
        mode: RegistrationMode = RegistrationMode::Closed,
        /// Registration tokens (`m.login.registration_token`), for `mode = "token"`. More of them, which may end or be
        /// good for some accounts only, are made by `lockstep token create`.
        tokens: Vec<Secret> = Vec::new(),
        /// Policies that newcomers have to accept (`m.login.terms`), each a table `[[registration.terms]]` with `id`
        /// (such as `privacy`), `version`, `name` (for people), `url` (of the text) and as needed `language` (`"en"`).
        /// Several of one `id` are one policy in several languages.
        terms: Vec<Policy> = Vec::new(),
        /// Whether newcomers prove a mail address (`m.login.email.identity`), which is theirs then and by which they can get
        /// a new password. `off`: they are not asked. `offered`: they may. `required`: everybody has to, except whom a
        /// provider of identities knows. It takes a mail server (see `email`), and for the page that a letter leads to what
        /// `oauth` takes.
        email: RegistrationEmail = RegistrationEmail::Off,
        /// Whether programs are let in as guests, without registering (`kind=guest`). They may read and write in rooms whose
        /// `m.room.guest_access` wants them, and little else.
        guests: bool = false,
        /// Days after which the account of a guest ends who has not been heard of: they leave their rooms and nobody gets
        /// the name. Guests who register are none any more. 0: never.
        guest_days: u64 = 30,
        /// The file with the secret that lets a program register accounts, administrators included, over
        /// `/_synapse/admin/v1/register`. Without a setting it is `registration.secret` in `data_dir`,
        /// and is created at the first start. The server does not start while every user of the machine can read it.
        shared_secret_file: Option<PathBuf> = None,
    }

    /// A puzzle for newcomers that programs do not solve (`m.login.recaptcha`): that of reCAPTCHA, or of another maker
    /// who is asked in the same way, such as hCaptcha or Turnstile. Without a `site_key` there is none. Whom a provider of
    /// identities knows is not asked.
    Captcha {
        /// Under which name its maker knows this server; newcomers are told of it.
        site_key: Option<String> = None,
        /// How this server proves to the maker who it is.
        secret: Option<Secret> = None,
        /// A file with the secret instead.
        secret_file: Option<PathBuf> = None,
        /// Where solutions are judged.
        verify_url: String = String::from("https://www.google.com/recaptcha/api/siteverify"),
        /// The script that shows the puzzle on the pages of this server, for example
        /// `https://js.hcaptcha.com/1/api.js` or `https://challenges.cloudflare.com/turnstile/v0/api.js?compat=recaptcha`.
        script_url: String = String::from("https://www.google.com/recaptcha/api.js"),
        /// Where else such a script may take things from on those pages, beside its own site: for hCaptcha
        /// `https://*.hcaptcha.com`.
        script_sources: Vec<String> = vec![String::from("https://www.gstatic.com/recaptcha/")],
        /// Ranges of addresses (`ADDRESS/BITS`) in which `verify_url` may lie though they are private or special. Without an
        /// entry it cannot lead there.
        allow_ranges: Vec<IpRange> = Vec::new(),
    }

    /// Signing in on pages of this server (the OAuth 2.0 API of Matrix), under `/_matrix/oauth2/`. Clients that know it
    /// use it instead of asking for the password themselves; those that do not are served as before. In short:
    /// `oauth = "off"` sets `enabled`.
    Oauth {
        /// Whether clients are offered it. It takes a `public_base_url` with `https`, or one with `http` on this machine;
        /// without one it is off.
        enabled: bool = true,
    }

    /// Signing in by other providers of identities, on the pages of this server: it takes what `oauth` takes.
    Sso {
        /// The providers (OpenID Connect), each a table `[[sso.providers]]` with `id` (part of addresses: `a-z`, `0-9`,
        /// `-`, `_`), `name` (for people), `issuer` (`https`, or `http` on the same machine), `client_id`, and as needed
        /// `client_secret` or `client_secret_file`, `scopes` (`["openid", "profile", "email"]`) and `localpart` (the user
        /// name that is proposed, with claims in braces: `"{preferred_username}"`). The redirect URI to register there is
        /// `PUBLIC_BASE_URL/_matrix/oauth2/callback/ID`.
        providers: Vec<Provider> = Vec::new(),
        /// Whether somebody whom a provider knows gets an account here at the first sign-in, whatever `registration`
        /// says. Without, only those come in who connect an account that they have.
        registers: bool = true,
        /// Addresses of clients, such as `https://app.example.org/`, that get a login token without a question when a user
        /// signs in by the older way (`m.login.sso`). What lies below them is trusted too.
        trusted_clients: Vec<String> = Vec::new(),
    }

    /// Letters to users: whoever has added a mail address, by a client or on the account page of the server, can get
    /// a new password by it. It takes what `oauth` takes, for the page that a letter leads to.
    Email {
        /// The mail server that takes letters; without one none are sent.
        host: Option<String> = None,
        /// Its port. Without a setting it is 465, 587 or 25, as `protection` says.
        port: Option<u16> = None,
        /// `tls`: from the first byte. `starttls`: after a greeting, and not without. `plain`: none, for a mail server on
        /// the same machine.
        protection: MailProtection = MailProtection::Tls,
        /// The name of this server there.
        user: Option<String> = None,
        /// Its password.
        password: Option<Secret> = None,
        /// A file with the password instead.
        password_file: Option<PathBuf> = None,
        /// Whom letters come from, for example `Lockstep <lockstep@example.org>`.
        from: Option<String> = None,
    }

    /// Identity servers: they know which user has a mail address or a telephone number. Users name one and bring a token
    /// for it, and this server asks it for them: to invite whoever has an address, and to bind addresses of their own
    /// there, by which others find them. Each learns who invites whom.
    Identity {
        /// The identity servers that may be asked, such as `vector.im` or `id.example.org:8448`, at that name and by HTTPS.
        /// Without an entry none is, and nobody is invited by an address.
        servers: Vec<OwnedServerName> = Vec::new(),
        /// Ranges of addresses (`ADDRESS/BITS`) in which they may lie though they are private or special. Without an entry no
        /// name leads there.
        allow_ranges: Vec<IpRange> = Vec::new(),
    }

    /// Where everything is kept. In short: `store = "memory"` sets `engine`.
    Storage {
        /// `embedded`: in the folder `store` in `data_dir`. `memory`: nowhere, all is lost when the server
        /// stops. `postgres://…`: in a PostgreSQL database.
        engine: Engine = Engine::Embedded,
        /// When an acknowledged request is safe. `every-commit`: always. `lose-last-seconds-on-power-cut`:
        /// faster on slow disks, and true to its name. For the embedded engine.
        durability: Durability = Durability::EveryCommit,
        /// Memory for the cache of the embedded engine, in MiB.
        cache_mib: u64 = 128,
        /// A folder to which the embedded engine copies every finished log segment: they and an export restore
        /// any later moment.
        archive: Option<PathBuf> = None,
    }

    /// How often one client may ask for the same kind of thing: `burst` requests at once and `per_second`
    /// on average. What exceeds it is answered with 429 and `Retry-After`. In short:
    /// `rate_limits = "off"` sets `enabled`.
    RateLimits {
        /// Whether anything is limited.
        enabled: bool = true,
        /// Logins, by address; the networks behind one /48 of IPv6 together have 64 times as many.
        login: Rate = Rate { per_second: 0.5, burst: 10 },
        /// Registrations, by address.
        registration: Rate = Rate { per_second: 0.2, burst: 5 },
        /// Messages and other events sent, by user.
        messages: Rate = Rate { per_second: 10.0, burst: 100 },
        /// Joins and knocks, by user.
        joins: Rate = Rate { per_second: 1.0, burst: 30 },
        /// Invites, by user. Each of those that come with a new room counts; more than `burst` at once are refused.
        invites: Rate = Rate { per_second: 1.0, burst: 30 },
        /// Invites that another server brings, by server.
        invites_by_server: Rate = Rate { per_second: 1.0, burst: 200 },
        /// Invites that other servers bring, by the user invited.
        invites_received: Rate = Rate { per_second: 0.02, burst: 50 },
        /// Reports of events, rooms and users, by user.
        reports: Rate = Rate { per_second: 0.05, burst: 20 },
        /// Sign-ins by QR code that are begun, by address.
        rendezvous: Rate = Rate { per_second: 0.1, burst: 20 },
        /// Clients that register themselves before somebody signs in with them, by address.
        clients: Rate = Rate { per_second: 1.0, burst: 100 },
        /// Everything else that the specification wants limited, by user or else by address.
        general: Rate = Rate { per_second: 50.0, burst: 500 },
    }

    /// How much the server takes on at once. What exceeds it is answered with 503 and `Retry-After`.
    Limits {
        /// Requests that are worked on at the same time, once their bodies are here, without long polls. One user has at
        /// most 256, an application service 1,024.
        concurrent_requests: usize = 1024,
        /// Long polls that wait at the same time, and requests for files, which may have to wait. One user has at most
        /// 256, an application service 1,024.
        long_polls: usize = 100_000,
        /// Open connections, over all listeners.
        connections: usize = 100_000,
    }

    /// The other servers. In short: `federation = "off"` sets `enabled`.
    Federation {
        /// Whether this server talks to others at all.
        enabled: bool = true,
        /// Ranges of addresses (`ADDRESS/BITS`) that may be connected to though they are private or special, such
        /// as `10.0.0.0/8` for servers within a company. Without an entry no name leads there: not into the
        /// network of this machine, and not to the machine itself.
        allow_ranges: Vec<IpRange> = Vec::new(),
        /// Ranges of addresses that are not connected to though they are public.
        deny_ranges: Vec<IpRange> = Vec::new(),
        /// Servers that this one has nothing to do with, by name, where `*` stands for anything and `?` for one character: nothing
        /// is taken from them nor sent or shown to them, and none of their files is fetched. Rooms are not left for it: what their
        /// users say there comes through the other servers, unless the room denies them too, and is checked by their keys, which
        /// they are still asked for.
        denied_servers: Vec<String> = Vec::new(),
        /// PEM files with certificates of authorities that are trusted beside those of the system.
        roots: Vec<PathBuf> = Vec::new(),
        /// Servers that are asked for the keys of other servers that do not answer any more. They are believed, so
        /// choose them well.
        trusted_key_servers: Vec<OwnedServerName> = vec![owned_server_name!("matrix.org")],
        /// Keys with which this server has signed under its name before, when it ran another software: key ids with
        /// `{ key = "BASE64", expired_ts = MILLISECONDS }`. `lockstep key rotate` takes note of its own.
        old_verify_keys: BTreeMap<String, OldVerifyKey> = BTreeMap::new(),
        /// Public keys in base64 that prove nothing, because others know their secrets. A server whose own key is among
        /// them does not start.
        ignored_keys: Vec<String> = Vec::new(),
        /// Whether the server looks once after its start, in the background, whether others can reach it, and logs what is
        /// wrong: the part of `lockstep doctor federation` that costs little.
        check_at_start: bool = true,
        /// Requests of one other server that are worked on at the same time. More of them wait.
        requests_per_server: usize = 16,
        /// Requests of all other servers that are taken on at the same time. What exceeds it is answered with 503.
        concurrent_requests: usize = 512,
    }

    /// How users' phones are told of what happens. Each names a push gateway, to which this server connects.
    Push {
        /// Ranges of addresses (`ADDRESS/BITS`) in which push gateways may lie though they are private or special,
        /// such as `192.168.0.0/16` for one at home. Without an entry no name leads there.
        allow_ranges: Vec<IpRange> = Vec::new(),
        /// Ranges of addresses in which no push gateway may lie though they are public.
        deny_ranges: Vec<IpRange> = Vec::new(),
        /// How long something may stay unread, in seconds, before a letter is written about it to users who want letters
        /// (pushers of the kind `email`). It takes a mail server: see `email`.
        email_delay_seconds: u64 = LETTER_DELAY.as_secs(),
        /// Whether these letters quote what was said, where it is not encrypted. Otherwise they say in which room and by
        /// whom.
        email_quotes: bool = true,
        /// Whether users are told only of those threads to which they have subscribed, and of mentions (MSC4306, which is
        /// not part of the specification yet), and clients hear that it is so. Clients that do not know of it subscribe to
        /// nothing, so that their users miss what is said in threads.
        thread_subscriptions: bool = false,
    }

    /// Files that users send and receive: pictures, documents, voice messages.
    Media {
        /// The largest file that a user may upload, in MiB.
        upload_mib: u64 = 50,
        /// What all files that one user has uploaded may have together, in MiB; 0: no bound.
        quota_mib: u64 = 0,
        /// The folder for files. Without a setting it is `media` in `data_dir`. With `url` only files on their way in are
        /// here; each process needs one of its own.
        folder: Option<PathBuf> = None,
        /// An object store instead of the folder: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`.
        /// Lockstep must have been built with the feature `s3`, `gcs` or `azure`. Bucket or container must exist. See
        /// [administration.md](administration.md#files-in-an-object-store).
        url: Option<String> = None,
        /// What the object store wants to be told, for example
        /// `{ aws_access_key_id = "…", aws_secret_access_key = "…", aws_region = "…", aws_endpoint = "https://…" }`. What
        /// is not said here may be in the environment, in capitals: `AWS_ACCESS_KEY_ID`. A key that the store does not
        /// know is refused.
        options: Options = Options::default(),
        /// The largest file of another server that is fetched, in MiB.
        remote_mib: u64 = 100,
        /// What all files of other servers, and previews with their pictures, may have together, in MiB. When there is no
        /// more room, those go that nobody has looked at for longest; they can be had again.
        cache_mib: u64 = 10_240,
        /// After how many days files of our users are deleted that nobody has looked at; 0: never.
        local_keep_days: u64 = 0,
        /// After how many days files of other servers are removed that nobody has looked at; 0: when there is no room.
        remote_keep_days: u64 = 0,
        /// Whether a file goes with the last event that shows it: when that is redacted, when its time is over, or when its
        /// room or its sender is removed. Events in encrypted rooms cannot be looked into, so a file that is sent again
        /// there goes too.
        delete_with_events: bool = true,
        /// Whether this server looks at web pages that users name and tells what they are about. What is private does not
        /// stay so: the site learns of the look, though not of the user.
        url_previews: bool = false,
        /// Sites of which no previews are made, and of nothing below them.
        url_preview_denied_hosts: Vec<String> = Vec::new(),
        /// Ranges of addresses (`ADDRESS/BITS`) that previews may connect to though they are private or special. Every
        /// user can have pages there looked at.
        url_preview_allow_ranges: Vec<IpRange> = Vec::new(),
        /// The languages that pages are asked for in, as in the header `Accept-Language`.
        url_preview_languages: String = String::from("en"),
        /// Files that came here before this moment, in milliseconds since 1970, are also given to whoever has no access
        /// token, under the older paths; set it to the moment of the change when an older server is replaced. 0: none.
        unauthenticated_before_ts: u64 = 0,
    }

    /// How users find each other.
    UserDirectory {
        /// Whether every user of this server is found by all others. Otherwise only those are with whom they share a
        /// room, or who are in a room that everybody may join or read.
        everybody: bool = false,
    }

    /// How users find messages that are not encrypted. In short: `search = "off"` sets `enabled`.
    Search {
        /// Whether there is an index of messages. It takes about as much room as the texts in it.
        enabled: bool = true,
        /// The folder of the index. Without a setting it is `search` in `data_dir`. It can be deleted while the server
        /// does not run, and is made anew then. Each process needs one of its own.
        folder: Option<PathBuf> = None,
    }

    /// How long messages are kept. What is left of one whose time is over is what its room needs to go on; other servers
    /// keep what they have. In short: `retention = "on"` sets `enabled`.
    Retention {
        /// Whether messages are removed at all when their time is over. A room says how long it wants to keep them in its
        /// state `m.room.retention`.
        enabled: bool = false,
        /// How many days messages are kept in rooms that do not say it; 0: for ever.
        days: u64 = 0,
        /// A room keeps its messages for so many days at least, whatever it says; 0: as it likes.
        shortest_days: u64 = 0,
        /// No room keeps its messages for more days than this; 0: as it likes.
        longest_days: u64 = 0,
    }

    /// Who may invite the users of this server, beside what each of them says for themselves. Administrators of this
    /// server always may, and so may everybody whom a user has asked by a knock. In short: `invites = "local"` sets `from`.
    Invites {
        /// `anyone`: everybody. `shared-room`: who is in some room with whom they invite, both joined; that goes for users
        /// of this server too (also those of bridges), unless its own name is in `allowed_servers`. `local`: users of this
        /// server, and nobody else.
        from: InvitesFrom = InvitesFrom::Anyone,
        /// Servers whose users may invite whatever `from` says: names in which `*` stands for anything and `?` for one
        /// character, such as `*.example.org`. `from = "local"` with some of them lets only these in. It does not go
        /// before a policy list.
        allowed_servers: Vec<String> = Vec::new(),
    }

    /// Whom and what the server keeps from its users.
    Moderation {
        /// Policy lists that bind this server: ids or aliases of their rooms, 64 at most. A list counts as long as some user
        /// of this server is in its room; have one join it. See
        /// [administration.md](administration.md#policy-lists) for what a list does.
        policy_lists: Vec<OwnedRoomOrAliasId> = Vec::new(),
    }

    /// What the administrators tell users, in a room with each of them (`lockstep notice`).
    Notices {
        /// Who tells them: the part of a Matrix id between `@` and `:`. Nobody can register it.
        localpart: String = String::from("_server"),
        /// How the sender is called.
        display_name: String = String::from("Server notices"),
        /// The picture of the sender, an address `mxc://…`.
        avatar_url: Option<String> = None,
        /// The name of the rooms.
        room_name: String = String::from("Server notices"),
    }

    /// What is served under `/.well-known/matrix/`, which must be reachable under the name of the server.
    WellKnown {
        /// Where other servers reach this one, `HOST:PORT`. Without a setting it is the host and the port of
        /// `public_base_url`.
        server: Option<String> = None,
        /// Further fields of `/.well-known/matrix/client`, as JSON text.
        client: Option<String> = None,
        /// The mail address of the administrator, for `/.well-known/matrix/support`.
        support_email: Option<String> = None,
        /// The Matrix id of the administrator.
        support_matrix_id: Option<OwnedUserId> = None,
        /// A page with help for the users of this server.
        support_page: Option<String> = None,
        /// The public key (ed25519, unpadded base64) of the policy server that goes by this server's name, for
        /// `/.well-known/matrix/policy_server`. Lockstep is none itself.
        policy_server_key: Option<String> = None,
    }

    /// What the server tells about itself while it runs.
    Logging {
        /// `error`, `warn`, `info`, `debug` or `trace`; also directives such as `info,lockstep::sync=debug`.
        level: String = String::from("info"),
        /// `text` for people, `json` for programs.
        format: LogFormat = LogFormat::Text,
    }
}
