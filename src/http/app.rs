//! What every handler is given.

use std::{collections::BTreeMap, ops::Deref, path::Path, sync::Arc, time::Duration};

use ruma::{
    OwnedServerName, RoomId, UserId,
    api::client::uiaa::{LoginTermsParams, PolicyDefinition, PolicyTranslation},
    owned_user_id,
    serde::{Base64, base64::Standard},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Budget, auth::Authenticate, metrics::Metrics, throttle::Throttle};
use crate::{
    account::{self, AccountError, Accounts, Inheritance, NewUser},
    appservice::Appservices,
    config::{self, Config, Engine, MailProtection, RegistrationMode},
    delivery::{
        self, AppserviceClient, AppserviceCouriers, AppserviceTransport, ByNet, ByPeers, Couriers, Pushers,
    },
    device::Devices,
    ephemeral::Ephemeral,
    federation::{Federation, Neighbours},
    history::History,
    keys::SigningKey,
    limits::{
        APPSERVICE_FIRST_PAUSE, APPSERVICE_LONGEST_PAUSE, COURIER_ANSWER_SECONDS_MAX, COURIER_FIRST_PAUSE,
        COURIER_LONGEST_PAUSE, PUSH_FIRST_PAUSE, PUSH_LONGEST_PAUSE,
    },
    log::Log,
    mail::{self, Post, Smtp},
    media::{self, Media, Place, Previews},
    notice::{self, Notices},
    oauth::{self, Oauth, ProviderSettings, Site},
    peer::{self, Net, OldKey, Peers, Slots},
    purge::{self, Purge},
    push::Push,
    report::Reports,
    room::{Delayed, Profile, Profiles, Rooms},
    search::{self, Messages, People},
    store::{BoxFuture, StoreError},
    sync::Sync,
    types::Ports,
};

/// What the services of a server stand on; `server` and tests make it.
pub struct Foundation {
    /// The settings.
    pub config: Config,
    /// Time and randomness.
    pub ports: Ports,
    /// The log.
    pub log: Log,
    /// The key with which this server signs.
    pub signing_key: Arc<SigningKey>,
    /// Lets whoever knows it register accounts, administrators included.
    pub registration_secret: String,
    /// Keys with which this server has signed in the past.
    pub old_keys: Vec<OldKey>,
    /// The door to other servers.
    pub net: Arc<dyn Net>,
    /// The application services.
    pub appservices: Appservices,
    /// Every task of the server belongs to it.
    pub tasks: TaskTracker,
}

/// The services of a running server, for handlers. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Services>);

/// One field for each service; [`Services::open`] fills them in.
pub struct Services {
    /// The settings.
    pub config: Config,
    /// The name of this server, the part of its users' ids after the colon.
    pub server_name: OwnedServerName,
    /// Time and randomness.
    pub ports: Ports,
    /// The key with which this server signs.
    pub signing_key: Arc<SigningKey>,
    /// Lets whoever knows it register accounts, administrators included.
    pub registration_secret: String,
    /// The log.
    pub log: Log,
    /// The other servers.
    pub peers: Peers,
    /// Answers to other servers.
    pub federation: Federation,
    /// Accounts and their sessions.
    pub accounts: Accounts,
    /// Bring to other servers what is owed to them.
    pub couriers: Couriers,
    /// Bring to users' phones what they are to be told of.
    pub pushers: Pushers,
    /// The application services.
    pub appservices: Appservices,
    /// Asks application services.
    pub appservice_client: AppserviceClient,
    /// Bring to application services what they want to hear of.
    pub appservice_couriers: AppserviceCouriers,
    /// Events that are to be sent later.
    pub delayed: Delayed,
    /// Devices and their keys.
    pub devices: Devices,
    /// Takes letters to users, if there is a mail server.
    pub post: Option<Arc<dyn Post>>,
    /// The OAuth 2.0 API, and browsers that are signed in.
    pub oauth: Oauth,
    /// Typing, receipts and presence.
    pub ephemeral: Ephemeral,
    /// The read side of rooms.
    pub history: History,
    /// Files.
    pub media: Media,
    /// Finds people.
    pub people: People,
    /// Finds messages, unless that is off.
    pub messages: Option<Messages>,
    /// Removes things for good.
    pub purge: Purge,
    /// What the administrators tell users.
    pub notices: Notices,
    /// What users have reported.
    pub reports: Reports,
    /// The verbs of rooms.
    pub rooms: Rooms,
    /// Push rules, unread counts and the rows of pushers.
    pub push: Push,
    /// Pages of the log for clients.
    pub sync: Sync,
    /// Knows whom an access token stands for: the accounts, unless a test says otherwise.
    pub gate: Arc<dyn Authenticate>,
    /// Who asked how often.
    pub throttle: Throttle,
    /// How much is being worked on.
    pub budget: Budget,
    /// How much is being worked on for each other server.
    pub slots: Slots,
    /// What is counted.
    pub metrics: Metrics,
    /// Every task of the server belongs to it.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops: long polls answer at once.
    pub stopping: CancellationToken,
}

impl Services {
    /// Builds every service on `foundation`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(foundation: Foundation) -> Result<Self, StoreError> {
        let Foundation { config, ports, log, signing_key, registration_secret, old_keys, .. } = foundation;
        let (net, appservices, tasks) = (foundation.net, foundation.appservices, foundation.tasks);
        let peers = open_peers(&config, (&net, &log), &ports, (&signing_key, old_keys));
        let name = config.server_name.clone();
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), account_settings(&config));
        let history = History::open(log.clone(), ports.clone(), name.clone()).await?;
        let devices = Devices::new(log.clone(), ports.clone(), name.clone());
        let oauth = open_oauth(&config, (&log, &ports, &net), (&accounts, &devices))?;
        let media = open_media(&config, (&log, &ports, &peers, &tasks))?;
        let stopping = CancellationToken::new();
        devices.keep_lists((peers.clone(), history.clone()), (&tasks, stopping.clone()));
        let on = (&tasks, stopping.clone());
        let ephemeral = Ephemeral::new(history.clone(), accounts.clone(), ports.clone(), config.presence, on);
        let watched = (history.clone(), peers.clone());
        let rooms = start_rooms(watched, &accounts, &ports, (&tasks, stopping.clone()));
        let delayed = Delayed::start(rooms.clone(), accounts.clone(), (&tasks, stopping.clone())).await?;
        let watched = (history.clone(), devices.clone());
        let couriers = start_couriers(watched, peers.clone(), &ports, (&tasks, stopping.clone()));
        let push = Push::new(history.clone(), accounts.clone());
        let watched = (history.clone(), push.clone());
        let pushers = start_pushers(watched, net.clone(), &ports, (&tasks, stopping.clone()));
        let watched = (history.clone(), accounts.clone(), devices.clone());
        let (appservice_client, appservice_couriers) =
            start_appservices((&appservices, net), watched, &ports, (&tasks, stopping.clone())).await;
        let found_in = (&history, &accounts, &ports);
        let (people, messages) = start_search(&config, found_in, (&tasks, stopping.clone()));
        let (notices, reports) = open_desks(&config, found_in, &rooms);
        let purge = start_purge(&config, found_in, (&media, &rooms), (&tasks, stopping.clone()));
        let users = (&history, &accounts, &devices);
        let sync =
            Sync::new(history.clone(), accounts.clone(), devices.clone(), push.clone(), ephemeral.clone());
        let federation = open_federation(&log, (&ports, &peers), users, (&ephemeral, &rooms));
        Ok(Self {
            peers,
            couriers,
            appservices,
            appservice_client,
            appservice_couriers,
            pushers,
            federation,
            sync,
            push,
            ephemeral,
            delayed,
            devices,
            post: open_post(&config.email)?,
            oauth,
            notices,
            reports,
            purge,
            rooms,
            history,
            media,
            people,
            messages,
            gate: Arc::new(accounts.clone()),
            accounts,
            throttle: Throttle::new(&config.rate_limits, &ports.clock),
            budget: Budget::of(&config),
            slots: Slots::new(config.federation.requests_per_server),
            metrics: Metrics::new(),
            stopping,
            config,
            server_name: name,
            ports,
            signing_key,
            registration_secret,
            log,
            tasks,
        })
    }
}

fn open_peers(
    config: &Config,
    (net, log): (&Arc<dyn Net>, &Log),
    ports: &Ports,
    (key, old_keys): (&Arc<SigningKey>, Vec<OldKey>),
) -> Peers {
    let others = peer_settings(&config.federation, old_keys);
    Peers::new(net.clone(), log.clone(), ports.clone(), key.clone(), others)
}

/// Every application service has a user that stands for it.
async fn make_senders(accounts: &Accounts, appservices: &Appservices) {
    for appservice in appservices.iter() {
        let username = Some(String::from(appservice.sender.localpart()));
        match accounts.create_user(NewUser { username, ..NewUser::default() }).await {
            Ok(_) | Err(AccountError::UserInUse) => {}
            Err(error) => tracing::error!(%error, "cannot make the user {}", appservice.sender),
        }
    }
}

fn start_rooms(
    (history, peers): (History, Peers),
    accounts: &Accounts,
    ports: &Ports,
    (tasks, stopping): (&TaskTracker, CancellationToken),
) -> Rooms {
    let rooms = Rooms::new(history, peers, ports.clone(), Arc::new(accounts.clone()), tasks.clone());
    rooms.keep_judging(stopping);
    rooms
}

fn open_federation(
    log: &Log,
    (ports, peers): (&Ports, &Peers),
    (history, accounts, devices): (&History, &Accounts, &Devices),
    (ephemeral, rooms): (&Ephemeral, &Rooms),
) -> Federation {
    Federation::new(Neighbours {
        log: log.clone(),
        ports: ports.clone(),
        peers: peers.clone(),
        history: history.clone(),
        accounts: accounts.clone(),
        devices: devices.clone(),
        ephemeral: ephemeral.clone(),
        rooms: rooms.clone(),
    })
}

fn open_desks(
    config: &Config,
    (history, accounts, ports): (&History, &Accounts, &Ports),
    rooms: &Rooms,
) -> (Notices, Reports) {
    let notices = Notices::new((history.clone(), accounts.clone()), rooms.clone(), notice_settings(config));
    (notices, Reports::new(history.clone(), accounts.clone(), ports.clone()))
}

fn start_search(
    config: &Config,
    (history, accounts, ports): (&History, &Accounts, &Ports),
    (tasks, stopping): (&TaskTracker, CancellationToken),
) -> (People, Option<Messages>) {
    let everybody = config.user_directory.everybody;
    let people = People::start(history.clone(), accounts.clone(), everybody, (tasks, stopping.clone()));
    let place = match config.store.engine {
        Engine::Memory => search::Place::Memory,
        _ => {
            let folder = config.search.folder.clone();
            search::Place::Folder(folder.unwrap_or_else(|| config.data_dir.join("search")))
        }
    };
    let found_in = (history.clone(), ports.clone());
    let messages = config.search.enabled.then(|| Messages::start(found_in, place, (tasks, stopping)));
    (people, messages)
}

fn start_couriers(
    watched: (History, Devices),
    peers: Peers,
    ports: &Ports,
    running: (&TaskTracker, CancellationToken),
) -> Couriers {
    let by_peers = ByPeers { peers, ports: ports.clone(), timeout: COURIER_ANSWER_SECONDS_MAX };
    let patience =
        delivery::Settings { first_pause: COURIER_FIRST_PAUSE, longest_pause: COURIER_LONGEST_PAUSE };
    Couriers::start(watched, Arc::new(by_peers), patience, ports.clone(), running)
}

async fn start_appservices(
    (all, net): (&Appservices, Arc<dyn Net>),
    watched: (History, Accounts, Devices),
    ports: &Ports,
    running: (&TaskTracker, CancellationToken),
) -> (AppserviceClient, AppserviceCouriers) {
    make_senders(&watched.1, all).await;
    let client = AppserviceClient::new(net, ports.clone());
    let patience =
        delivery::Settings { first_pause: APPSERVICE_FIRST_PAUSE, longest_pause: APPSERVICE_LONGEST_PAUSE };
    let means = (Arc::new(client.clone()) as Arc<dyn AppserviceTransport>, patience);
    (client, AppserviceCouriers::start(all, watched, means, ports.clone(), running))
}

fn start_pushers(
    watched: (History, Push),
    net: Arc<dyn Net>,
    ports: &Ports,
    running: (&TaskTracker, CancellationToken),
) -> Pushers {
    let patience = delivery::Settings { first_pause: PUSH_FIRST_PAUSE, longest_pause: PUSH_LONGEST_PAUSE };
    Pushers::start(watched, Arc::new(ByNet(net)), patience, ports.clone(), running)
}

impl Profiles for Accounts {
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async move {
            let (displayname, avatar_url) = self.display(user).await.map_err(|error| match error {
                AccountError::Store(error) => error,
                error => StoreError::engine(error),
            })?;
            Ok(Profile { displayname, avatar_url })
        })
    }

    fn refuses_invite<'a>(
        &'a self,
        user: &'a UserId,
        inviter: &'a UserId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            Self::refuses_invite(self, user, inviter).await.map_err(|error| match error {
                AccountError::Store(error) => error,
                error => StoreError::engine(error),
            })
        })
    }

    fn inheritance<'a>(
        &'a self,
        user: &'a UserId,
        old: &'a RoomId,
        new: &'a RoomId,
    ) -> BoxFuture<'a, Result<Option<Inheritance>, StoreError>> {
        Box::pin(async move {
            match Self::inheritance(self, user, old, new).await {
                Ok(inheritance) => Ok(Some(inheritance)),
                Err(AccountError::Store(error)) => Err(error),
                Err(error) => Err(StoreError::engine(error)),
            }
        })
    }
}

fn account_settings(config: &Config) -> account::Settings {
    let registration = &config.registration;
    account::Settings {
        registration: match registration.mode {
            RegistrationMode::Closed => account::Registration::Closed,
            RegistrationMode::Token => account::Registration::Token,
            RegistrationMode::Open => account::Registration::Open,
        },
        registration_tokens: registration.tokens.clone(),
        terms: terms(&registration.terms),
        provider_registration: config.sso.registers,
        reserved: vec![config.notices.localpart.clone()],
        access_token_lifetime: match config.access_token_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
    }
}

/// The policies as clients are told of them.
fn terms(policies: &[config::Policy]) -> LoginTermsParams {
    let mut terms = LoginTermsParams::default();
    for policy in policies {
        let version = || PolicyDefinition::new(policy.version.clone(), BTreeMap::new());
        let definition = terms.policies.entry(policy.id.clone()).or_insert_with(version);
        let translation = PolicyTranslation::new(policy.name.clone(), policy.url.clone());
        definition.translations.insert(policy.language.clone(), translation);
    }
    terms
}

fn open_post(email: &config::Email) -> Result<Option<Arc<dyn Post>>, StoreError> {
    let (Some(host), Some(from)) = (&email.host, &email.from) else { return Ok(None) };
    let password = secret(email.password.as_ref(), email.password_file.as_deref())?;
    let settings = mail::Settings {
        host: host.clone(),
        port: email.port,
        protection: match email.protection {
            MailProtection::Tls => mail::Protection::Tls,
            MailProtection::Starttls => mail::Protection::Starttls,
            MailProtection::Plain => mail::Protection::Plain,
        },
        login: email.user.clone().zip(password),
        from: from.clone(),
    };
    let smtp = Smtp::new(&settings).map_err(|error| StoreError::Unusable(format!("email: {error}")))?;
    Ok(Some(Arc::new(smtp)))
}

/// A secret that is given as it is, or lies in a file.
fn secret(given: Option<&String>, file: Option<&Path>) -> Result<Option<String>, StoreError> {
    match (given, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| StoreError::Unusable(format!("{}: {error}", file.display())))?;
            Ok(Some(text.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn open_oauth(
    config: &Config,
    (log, ports, net): (&Log, &Ports, &Arc<dyn Net>),
    (accounts, devices): (&Accounts, &Devices),
) -> Result<Oauth, StoreError> {
    let base_url = config.public_base_url.as_deref().filter(|_| config.oauth.enabled);
    let providers: Result<_, _> = config.sso.providers.iter().map(provider_settings).collect();
    Ok(Oauth::new(oauth::Foundation {
        log: log.clone(),
        ports: ports.clone(),
        net: net.clone(),
        accounts: accounts.clone(),
        devices: devices.clone(),
        site: base_url.and_then(Site::new),
        providers: providers?,
    }))
}

fn provider_settings(provider: &config::Provider) -> Result<ProviderSettings, StoreError> {
    let secret = secret(provider.client_secret.as_ref(), provider.client_secret_file.as_deref())?;
    Ok(ProviderSettings {
        id: provider.id.clone(),
        name: provider.name.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: secret,
        scopes: provider.scopes.clone(),
        localpart: provider.localpart.clone(),
    })
}

fn start_purge(
    config: &Config,
    (history, accounts, ports): (&History, &Accounts, &Ports),
    (media, rooms): (&Media, &Rooms),
    running: (&TaskTracker, CancellationToken),
) -> Purge {
    let means = (ports.clone(), purge_settings(config));
    let purge = Purge::new((history.clone(), accounts.clone()), media.clone(), rooms.clone(), means);
    purge.keep(running);
    purge
}

fn purge_settings(config: &Config) -> purge::Settings {
    let retention = &config.retention;
    let ms = |days: u64| (days > 0).then(|| days.saturating_mul(DAY_MS));
    purge::Settings {
        retention: retention.enabled.then(|| purge::Retention {
            usual_ms: ms(retention.days),
            shortest_ms: ms(retention.shortest_days),
            longest_ms: ms(retention.longest_days),
        }),
        files: config.media.delete_with_events,
    }
}

fn notice_settings(config: &Config) -> notice::Settings {
    let notices = &config.notices;
    notice::Settings {
        // The configuration has been checked: this is a user id.
        sender: UserId::parse(format!("@{}:{}", notices.localpart, config.server_name))
            .unwrap_or_else(|_| owned_user_id!("@_server:localhost")),
        display_name: notices.display_name.clone(),
        avatar_url: notices.avatar_url.clone(),
        room_name: notices.room_name.clone(),
        room_version: config.default_room_version.id().clone(),
    }
}

fn open_media(
    config: &Config,
    (log, ports, peers, tasks): (&Log, &Ports, &Peers, &TaskTracker),
) -> Result<Media, StoreError> {
    let settings = media_settings(config);
    let media = Media::open(log.clone(), ports.clone(), peers.clone(), settings, tasks.clone());
    media.map_err(|error| StoreError::Unusable(error.to_string()))
}

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Where the files are that a configuration names.
#[must_use]
pub fn media_place(config: &Config) -> Place {
    let media = &config.media;
    Place {
        folder: media.folder.clone().unwrap_or_else(|| config.data_dir.join("media")),
        url: media.url.clone(),
        options: media.options.0.clone(),
    }
}

fn media_settings(config: &Config) -> media::Settings {
    let media = &config.media;
    let bytes = |mib: u64| mib.saturating_mul(1 << 20);
    media::Settings {
        place: media_place(config),
        upload_bytes_max: bytes(media.upload_mib),
        quota_bytes: (media.quota_mib > 0).then(|| bytes(media.quota_mib)),
        remote_bytes_max: bytes(media.remote_mib),
        cache_bytes_max: bytes(media.cache_mib),
        local_keep_ms: (media.local_keep_days > 0).then(|| media.local_keep_days.saturating_mul(DAY_MS)),
        remote_keep_ms: (media.remote_keep_days > 0).then(|| media.remote_keep_days.saturating_mul(DAY_MS)),
        previews: media.url_previews.then(|| Previews {
            denied_hosts: media.url_preview_denied_hosts.clone(),
            languages: media.url_preview_languages.clone(),
        }),
        unauthenticated_before_ms: media.unauthenticated_before_ts,
    }
}

/// What the configuration says of other servers; `old_keys` are those that this server itself remembers.
fn peer_settings(federation: &config::Federation, mut old_keys: Vec<OldKey>) -> peer::Settings {
    // The configuration has been checked: these are keys.
    let key = |text: &String| Base64::<Standard>::parse(text).map(|key| Base64::new(key.into_inner())).ok();
    for (id, old) in &federation.old_verify_keys {
        let old = key(&old.key).map(|key| OldKey { id: id.clone(), key, expired_ts: old.expired_ts });
        old_keys.extend(old);
    }
    peer::Settings {
        notaries: federation.trusted_key_servers.clone(),
        old_keys,
        ignored_keys: federation.ignored_keys.iter().filter_map(key).collect(),
        off: !federation.enabled,
    }
}

impl App {
    /// Handlers share `services`.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for App {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}
