//! Opens everything in order.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Folder, FolderError, ListenError, Running, connections::Serving, listener::Listener, tls::Certificate,
};
use crate::{
    appservice::{Appservices, RegistrationError},
    config::{Config, Durability, Engine},
    http::{App, Foundation, Front, Services, endpoints},
    limits::{CERTIFICATES_READ_EVERY, FORGET_EVERY, MEDIA_TEND_EVERY},
    log::Log,
    peer::{Dns, Gate, Internet, InternetError, Reach, SystemDns},
    store::{Db, Store, StoreError, embedded, memory::Memory, postgres},
    types::Ports,
    upkeep,
};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder cannot be used: {0}")]
    Folder(#[from] FolderError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others know the secret of this server's signing key.
    #[error("the signing key is among `federation.ignored_keys`: make another with `lockstep key rotate`")]
    KnownKey,
    /// Other servers cannot be talked to.
    #[error("other servers cannot be talked to: {0}")]
    Internet(#[from] InternetError),
    /// An application service cannot be used.
    #[error(transparent)]
    Appservice(#[from] RegistrationError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Binds first, so that a second server in the same place is told at once; opens; then answers.
pub(super) async fn start(
    config: Config,
    ports: Ports,
    dns: Option<Arc<dyn Dns>>,
) -> Result<Running, StartError> {
    let folder = Folder::open(&config)?;
    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(Listener::bind(listen).await?);
    }
    let addresses = listeners.iter().map(|listener| listener.address.clone()).collect();
    let store_tasks = TaskTracker::new();
    let store = open_store(&config, &store_tasks).await?;
    let (app, net) = services(config, ports, &folder, (store.clone(), dns)).await?;
    if let Err(error) = app.media.recover().await {
        tracing::error!(%error, "what a crash has left of files that were on their way in cannot be removed");
    }
    let accepting = CancellationToken::new();
    let cutting = CancellationToken::new();
    let connections = TaskTracker::new();
    let serving = Serving {
        front: Front::new(app.clone(), endpoints()),
        room: Arc::new(Semaphore::new(app.config.limits.connections.min(Semaphore::MAX_PERMITS))),
        accepting: accepting.clone(),
        cutting: cutting.clone(),
        connections: connections.clone(),
    };
    let certificates: Vec<_> = listeners.iter().filter_map(|listener| listener.certificate.clone()).collect();
    if !certificates.is_empty() {
        let (renewed, stopping) = (app.clone(), app.stopping.clone());
        let renewing = move || renew(renewed.clone(), certificates.clone());
        app.tasks.spawn(upkeep::keep("the look at certificates", stopping, renewing));
    }
    for listener in listeners {
        let (serving, listener) = (serving.clone(), Arc::new(listener));
        let listening = move || serving.clone().listen(listener.clone());
        connections.spawn(upkeep::keep("a listener", accepting.clone(), listening));
    }
    let (tended, stopping) = (app.clone(), app.stopping.clone());
    app.tasks.spawn(upkeep::keep("the rate limits", stopping.clone(), {
        let app = app.clone();
        move || forget_rates(app.clone())
    }));
    app.tasks.spawn(learn_heads(app.clone()));
    app.tasks.spawn(upkeep::keep("the look at files", stopping, move || tend_media(tended.clone())));
    Ok(Running { app, net, store, addresses, accepting, cutting, connections, store_tasks })
}

async fn services(
    config: Config,
    ports: Ports,
    folder: &Folder,
    (store, dns): (Arc<dyn Store>, Option<Arc<dyn Dns>>),
) -> Result<(App, Arc<Internet>), StartError> {
    let tasks = TaskTracker::new();
    let net = internet(&config, &ports, dns, &tasks)?;
    let log = Log::open(Db::new(store), &tasks).await?;
    let signing_key = Arc::new(folder.signing_key(&config.server_name, ports.rng.as_ref())?);
    let public = signing_key.public_key().encode();
    if config.federation.ignored_keys.iter().any(|key| key.trim_end_matches('=') == public) {
        return Err(StartError::KnownKey);
    }
    let registration_secret = folder.registration_secret(ports.rng.as_ref())?;
    let old_keys = folder.old_keys()?;
    let appservices = Appservices::read(&config.appservices, &config.server_name)?;
    let foundation = Foundation {
        appservices,
        config,
        ports,
        log,
        signing_key,
        registration_secret,
        old_keys,
        net: net.clone(),
        tasks,
    };
    // In a box: it holds every service and all settings.
    Ok((App::new(Box::pin(Services::open(foundation)).await?), net))
}

/// The network as `config` wants it used; connections live on `tasks`.
///
/// # Errors
/// See [`InternetError`].
pub fn internet(
    config: &Config,
    ports: &Ports,
    dns: Option<Arc<dyn Dns>>,
    tasks: &TaskTracker,
) -> Result<Arc<Internet>, InternetError> {
    let federation = &config.federation;
    let gate = Gate { allow: federation.allow_ranges.clone(), deny: federation.deny_ranges.clone() };
    let push = Gate { allow: config.push.allow_ranges.clone(), deny: config.push.deny_ranges.clone() };
    // What is open to the servers of a company is not open to whoever asks for a preview.
    let allow = config.media.url_preview_allow_ranges.clone();
    let pages = Gate { allow, deny: federation.deny_ranges.clone() };
    let captcha = Gate { allow: config.captcha.allow_ranges.clone(), deny: federation.deny_ranges.clone() };
    let allow = config.identity.allow_ranges.clone();
    let identity = Gate { allow, deny: federation.deny_ranges.clone() };
    let reach = Reach { gate, roots: federation.roots.clone(), push, pages, captcha, identity };
    let dns = match dns {
        Some(dns) => dns,
        None => Arc::new(SystemDns::open()?),
    };
    Ok(Arc::new(Internet::with_dns(dns, reach, ports.clone(), tasks.clone())?))
}

/// Where the store that a configuration names lies, and how to open it.
#[derive(Clone, Debug)]
pub enum Place {
    /// Nowhere but in memory.
    Memory,
    /// In a folder.
    Embedded(embedded::Settings),
    /// In a database.
    Postgres(postgres::Settings),
}

impl Place {
    /// The place that `config` names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let server_name = config.server_name.as_str();
        match &config.store.engine {
            Engine::Memory => Self::Memory,
            Engine::Postgres(url) => Self::Postgres(postgres::Settings::new(url, server_name)),
            Engine::Embedded => {
                let mut settings = embedded::Settings::new(Folder::of(config).store(), server_name);
                settings.durability = match config.store.durability {
                    Durability::EveryCommit => embedded::Durability::EveryCommit,
                    Durability::LoseLastSecondsOnPowerCut => embedded::Durability::LoseLastSecondsOnPowerCut,
                };
                settings.cache_bytes = config.store.cache_mib.saturating_mul(1 << 20);
                settings.archive.clone_from(&config.store.archive);
                Self::Embedded(settings)
            }
        }
    }
}

/// The store that `config` names.
pub(super) async fn open_store(config: &Config, tasks: &TaskTracker) -> Result<Arc<dyn Store>, StoreError> {
    match Place::of(config) {
        Place::Memory => Ok(Arc::new(Memory::new())),
        Place::Postgres(settings) => Ok(Arc::new(postgres::Postgres::open(settings, tasks).await?)),
        Place::Embedded(settings) => {
            // It blocks while it replays what the last run left.
            let opened = tokio::task::spawn_blocking(|| embedded::Embedded::open(settings)).await;
            Ok(Arc::new(opened.map_err(StoreError::engine)??))
        }
    }
}

async fn forget_rates(app: App) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(FORGET_EVERY) => app.throttle.forget(),
        }
    }
}

/// Nobody need wait for it: files of other servers are given a little later meanwhile.
async fn learn_heads(app: App) {
    let learnt = tokio::select! {
        () = app.stopping.cancelled() => return,
        learnt = app.media.learn_heads() => learnt,
    };
    match learnt {
        Ok(0) => {}
        Ok(unknown) => tracing::warn!(
            media.unknown = unknown,
            "it is not known how {unknown} quarantined files begin, whose bytes are gone or damaged: as long as they are \
             quarantined, files of other servers are given to users only when all of them has come"
        ),
        Err(error) => {
            tracing::error!(%error, "it cannot be found out how quarantined files begin: files of other servers are given \
             when all of them has come, until the next start");
        }
    }
}

/// Keeps files within their bounds.
async fn tend_media(app: App) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(MEDIA_TEND_EVERY) => {}
        }
        // It goes on where it was when the server starts again.
        tokio::select! {
            () = app.stopping.cancelled() => return,
            tended = app.media.tend() => {
                if let Err(error) = tended {
                    tracing::error!(%error, "files whose time is over cannot be removed");
                }
            }
        }
    }
}

/// Follows the files of certificates: whoever renews them has nobody to tell.
async fn renew(app: App, certificates: Vec<Arc<Certificate>>) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATES_READ_EVERY) => {}
        }
        for certificate in &certificates {
            let path = certificate.path().display();
            match certificate.refresh() {
                Ok(true) => tracing::info!(certificate.path = %path, "the certificate was renewed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "a renewed certificate cannot be used; the older one stays");
                }
            }
        }
    }
}
