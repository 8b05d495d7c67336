//! What every handler is given.

use std::{ops::Deref, sync::Arc, time::Duration};

use ruma::{OwnedServerName, ServerName};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Bodies, Budget, Errands,
    auth::Authenticate,
    digest::ByPost,
    metrics::Metrics,
    settings::{
        account_settings, captcha, media_settings, moderation_settings, notice_settings, peer_settings,
        provider_settings, purge_settings, rtc_settings, secret, site,
    },
    throttle::Throttle,
};
use crate::{
    account::{self, Accounts},
    appservice::Appservices,
    config::{self, Config, Engine, MailProtection},
    delivery::{
        self, AppserviceClient, AppserviceCouriers, AppserviceTransport, ByNet, ByPeers, Couriers, Letters,
        Means, Pushers,
    },
    device::Devices,
    ephemeral::Ephemeral,
    federation::{Federation, Neighbours},
    history::History,
    identity::Identity,
    keys::SigningKey,
    limits::{
        APPSERVICE_FIRST_PAUSE, APPSERVICE_LONGEST_PAUSE, COURIER_ANSWER_SECONDS_MAX, COURIER_FIRST_PAUSE,
        COURIER_LONGEST_PAUSE, PUSH_FIRST_PAUSE, PUSH_LONGEST_PAUSE,
    },
    log::Log,
    mail::{self, Post, Smtp},
    media::Media,
    notice::Notices,
    oauth::{self, Oauth},
    peer::{Net, OldKey, Peers, Slots},
    purge::Purge,
    push::Push,
    report::Reports,
    room::{Delayed, Rooms},
    rtc::Rtc,
    search::{self, Messages, People},
    store::StoreError,
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
    /// The LiveKit server, if there is one.
    pub rtc: Option<Rtc>,
    /// Devices and their keys.
    pub devices: Devices,
    /// Takes letters to users, if there is a mail server.
    pub post: Option<Arc<dyn Post>>,
    /// The OAuth 2.0 API, and browsers that are signed in.
    pub oauth: Oauth,
    /// Typing, receipts and presence.
    pub ephemeral: Ephemeral,
    /// Identity servers.
    pub identity: Identity,
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
    /// What is still on its way in.
    pub bodies: Bodies,
    /// How much is being worked on for each other server.
    pub slots: Slots,
    /// What is done for users after they have been answered.
    pub errands: Errands,
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
        let identity = open_identity(&config, (&net, &log), &signing_key);
        let people = account::Settings { captcha: captcha(&config, &net)?, ..account_settings(&config) };
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), people);
        let history = History::open(log.clone(), ports.clone(), name.clone()).await?;
        let devices = Devices::new(log.clone(), ports.clone(), name.clone());
        let oauth = open_oauth(&config, (&log, &ports, &net), (&accounts, &devices))?;
        let media = open_media(&config, (&log, &ports, &peers, &tasks))?;
        let stopping = CancellationToken::new();
        let on = || (&tasks, stopping.clone());
        devices.keep_lists((peers.clone(), history.clone()), on());
        let ephemeral =
            Ephemeral::new(history.clone(), accounts.clone(), ports.clone(), config.presence, on());
        let rooms = start_rooms(&config, (history.clone(), peers.clone()), &accounts, &ports, on());
        let delayed = Delayed::start(rooms.clone(), accounts.clone(), on()).await?;
        let rtc = start_rtc(&config, &net, (&history, &rooms, &delayed, &ports), on()).await?;
        let couriers = start_couriers((history.clone(), devices.clone()), peers.clone(), &ports, on());
        let push = Push::new(history.clone(), accounts.clone());
        let post = open_post(&config.email)?;
        let letters = letters(&config, post.as_ref(), &registration_secret);
        let means = (net.clone(), letters, Duration::from_secs(config.push.email_delay_seconds));
        let pushers = start_pushers((history.clone(), push.clone()), means, &ports, on());
        let watched = (history.clone(), accounts.clone(), devices.clone());
        let (appservice_client, appservice_couriers) =
            start_appservices((&appservices, net, &name), watched, &ports, on()).await?;
        let found_in = (&history, &accounts, &ports);
        let (people, messages) = start_search(&config, found_in, on());
        let (notices, reports) = open_desks(&config, found_in, &rooms);
        let purge = start_purge(&config, found_in, (&devices, &media, &reports), (&rooms, &delayed), on());
        let users = (&history, &accounts, &devices);
        let sync =
            Sync::new(history.clone(), accounts.clone(), devices.clone(), push.clone(), ephemeral.clone());
        let federation = open_federation((&log, &identity), (&ports, &peers), users, (&ephemeral, &rooms));
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
            identity,
            delayed,
            rtc,
            devices,
            post,
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
            bodies: Bodies::new(),
            slots: Slots::new(config.federation.requests_per_server),
            errands: Errands::default(),
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

fn open_identity(config: &Config, (net, log): (&Arc<dyn Net>, &Log), key: &Arc<SigningKey>) -> Identity {
    Identity::new(net.clone(), log.clone(), key.clone(), config.identity.servers.clone())
}

fn start_rooms(
    config: &Config,
    (history, peers): (History, Peers),
    accounts: &Accounts,
    ports: &Ports,
    (tasks, stopping): (&TaskTracker, CancellationToken),
) -> Rooms {
    let rooms = Rooms::new(history, peers, ports.clone(), Arc::new(accounts.clone()), tasks.clone());
    rooms.heed_sweeps(config.redact_on_ban);
    rooms.moderate(moderation_settings(config));
    rooms.keep_policy_lists(stopping.clone());
    rooms.keep_judging(stopping.clone());
    rooms.keep_saying_farewell(stopping.clone());
    rooms.keep_guests_out(stopping);
    rooms
}

async fn start_rtc(
    config: &Config,
    net: &Arc<dyn Net>,
    (history, rooms, delayed, ports): (&History, &Rooms, &Delayed, &Ports),
    running: (&TaskTracker, CancellationToken),
) -> Result<Option<Rtc>, StoreError> {
    let Some(settings) = rtc_settings(&config.voip)? else { return Ok(None) };
    let means = (history.clone(), rooms.clone(), delayed.clone(), ports.clone());
    Ok(Some(Rtc::start(settings, net.clone(), means, running).await?))
}

fn open_federation(
    (log, identity): (&Log, &Identity),
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
        identity: identity.clone(),
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
    (all, net, server): (&Appservices, Arc<dyn Net>, &ServerName),
    watched: (History, Accounts, Devices),
    ports: &Ports,
    running: (&TaskTracker, CancellationToken),
) -> Result<(AppserviceClient, AppserviceCouriers), StoreError> {
    delivery::load_registered(all, watched.0.log(), server).await?;
    for appservice in all.all() {
        if let Err(error) = delivery::make_sender(&watched.1, &appservice).await {
            tracing::error!(%error, "cannot make the user {}", appservice.sender);
        }
    }
    let client = AppserviceClient::new(net, ports.clone());
    let patience =
        delivery::Settings { first_pause: APPSERVICE_FIRST_PAUSE, longest_pause: APPSERVICE_LONGEST_PAUSE };
    let means = (Arc::new(client.clone()) as Arc<dyn AppserviceTransport>, patience);
    Ok((client, AppserviceCouriers::start(all, watched, means, ports.clone(), running)))
}

/// What takes letters about what users have not read, if there is a mail server and pages that they lead to.
fn letters(config: &Config, post: Option<&Arc<dyn Post>>, secret: &str) -> Option<Arc<dyn Letters>> {
    let (post, site) = (post?.clone(), site(config)?);
    let (server_name, secret) = (config.server_name.clone(), secret.to_owned());
    Some(Arc::new(ByPost { post, site, server_name, secret, quotes: config.push.email_quotes }))
}

fn start_pushers(
    watched: (History, Push),
    (net, letters, letter_delay): (Arc<dyn Net>, Option<Arc<dyn Letters>>, Duration),
    ports: &Ports,
    running: (&TaskTracker, CancellationToken),
) -> Pushers {
    let patience = delivery::Settings { first_pause: PUSH_FIRST_PAUSE, longest_pause: PUSH_LONGEST_PAUSE };
    let means = Means { gateway: Arc::new(ByNet(net)), letters, letter_delay };
    Pushers::start(watched, means, patience, ports.clone(), running)
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

fn open_oauth(
    config: &Config,
    (log, ports, net): (&Log, &Ports, &Arc<dyn Net>),
    (accounts, devices): (&Accounts, &Devices),
) -> Result<Oauth, StoreError> {
    let providers: Result<_, _> = config.sso.providers.iter().map(provider_settings).collect();
    Ok(Oauth::new(oauth::Foundation {
        log: log.clone(),
        ports: ports.clone(),
        net: net.clone(),
        accounts: accounts.clone(),
        devices: devices.clone(),
        site: site(config),
        providers: providers?,
    }))
}

fn start_purge(
    config: &Config,
    (history, accounts, ports): (&History, &Accounts, &Ports),
    (devices, media, reports): (&Devices, &Media, &Reports),
    (rooms, delayed): (&Rooms, &Delayed),
    running: (&TaskTracker, CancellationToken),
) -> Purge {
    let means = (ports.clone(), purge_settings(config));
    let people = (history.clone(), accounts.clone(), devices.clone());
    let purge = Purge::new(people, (media.clone(), reports.clone()), (rooms.clone(), delayed.clone()), means);
    purge.keep(running);
    purge
}

fn open_media(
    config: &Config,
    (log, ports, peers, tasks): (&Log, &Ports, &Peers, &TaskTracker),
) -> Result<Media, StoreError> {
    let settings = media_settings(config);
    let media = Media::open(log.clone(), ports.clone(), peers.clone(), settings, tasks.clone());
    media.map_err(|error| StoreError::Unusable(error.to_string()))
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
