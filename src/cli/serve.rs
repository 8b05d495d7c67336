//! `lockstep serve`

use std::{num::NonZeroUsize, thread};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{Stop, doctor, print};
use crate::{
    config::{Config, RegistrationMode},
    limits::BLOCKING_THREADS_MAX,
    server::{Running, logging},
};

/// Runs the server until it is told to stop.
pub(super) fn serve(config: Config) -> Result<(), Stop> {
    logging::init(&config.logging).map_err(Stop::wrong)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(Stop::failed)?;
    runtime.block_on(until_told(config))
}

async fn until_told(config: Config) -> Result<(), Stop> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Stop::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Stop::failed)?;
    let running = Running::start(config).await.map_err(Stop::failed)?;
    print(&greeting(&running))?;
    doctor::look_once(&running);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let stopped = tokio::select! {
        stopped = running.stop() => stopped.map_err(Stop::failed),
        // Whoever asks twice does not want to wait.
        _ = interrupt.recv() => Err(Stop::failed("stopped before everything was finished")),
    };
    tracing::info!("stopped");
    stopped
}

/// What a newcomer needs to know.
fn greeting(running: &Running) -> String {
    let config = &running.app().config;
    let addresses: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
    let folder = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let mut text = format!("Lockstep {} serves {}\n", env!("CARGO_PKG_VERSION"), config.server_name);
    line(&mut text, "listens on", &addresses.join(", "));
    line(&mut text, "keeps its data in", &format!("{} ({:?})", folder.display(), config.store.engine));
    let registration = match config.registration.mode {
        RegistrationMode::Closed => "closed (LOCKSTEP_REGISTRATION=open lets everybody in)",
        RegistrationMode::Token => "with a token",
        RegistrationMode::Open => "open to everybody",
    };
    line(&mut text, "registration is", registration);
    line(&mut text, "the first administrator", &format!("{} user create NAME --admin", program()));
    text
}

/// How this program is called from here: it may be in no place where a shell looks for it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let shown = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
    match shown.is_empty() {
        true => String::from("lockstep"),
        false => shown,
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("  {name:<24} {value}\n"));
}
