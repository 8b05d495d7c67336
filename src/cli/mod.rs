//! Arguments, configuration, exit codes; subcommands.
//!
//! Owns: the `lockstep` command. May use: `server`, `config`. Start reading at [`run`]. Invariants: exit
//! code 0 is success, 1 is failure, 2 is a mistake in arguments or configuration.

mod appservice;
mod db;
mod doctor;
mod exchange;
mod federation;
mod key;
mod media;
mod notice;
mod report;
mod room;
mod serve;
#[cfg(test)]
mod tests;
mod token;
mod user;

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Config, Sources},
    http::media_place,
};

/// A Matrix homeserver that keeps every device and every server in step.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version)]
struct Command {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Where settings come from.
#[derive(Debug, Args)]
struct Settings {
    /// The configuration file.
    #[arg(long, short, global = true, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    config: Option<PathBuf>,
    /// Sets one key, whatever the file and the environment say; say `-O store.cache_mib=512`.
    #[arg(short = 'O', global = true, value_name = "KEY=VALUE", value_parser = parse_override)]
    overrides: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the server; so does no verb at all.
    Serve,
    /// Looks after application services (bridges), on a running server.
    #[command(subcommand)]
    Appservice(appservice::AppserviceVerb),
    /// Looks after the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Looks after accounts, whether the server runs or not.
    #[command(subcommand)]
    User(UserVerb),
    /// Looks after the store while the server does not run.
    #[command(subcommand)]
    Db(db::DbVerb),
    /// Finds out why something does not work.
    #[command(subcommand)]
    Doctor(doctor::DoctorVerb),
    /// Looks after what other servers get.
    #[command(subcommand)]
    Federation(federation::FederationVerb),
    /// Looks after the key with which the server signs.
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Looks after the files that users send.
    #[command(subcommand)]
    Media(media::MediaVerb),
    /// Tells a user something, in the name of the server.
    Notice(notice::Notice),
    /// Looks at what users have reported.
    #[command(subcommand)]
    Report(report::ReportVerb),
    /// Looks into rooms while the server does not run; removes them while it does.
    #[command(subcommand)]
    Room(RoomVerb),
    /// Looks after registration tokens, on a running server.
    #[command(subcommand)]
    Token(token::TokenVerb),
}

#[derive(Debug, Subcommand)]
enum UserVerb {
    /// Makes an account.
    Create(user::Create),
    /// Ends an account for good, and removes what its user said and showed.
    Erase(user::Erase),
    /// Shows what is known of an account, on a running server.
    Show(user::Named),
    /// Lets nobody use an account any more, on a running server.
    Lock(user::Named),
    /// Lets its user use it again.
    Unlock(user::Named),
    /// Lets a user do nothing but read, and leave rooms, on a running server.
    Suspend(user::Named),
    /// Lets them do everything again.
    Unsuspend(user::Named),
    /// Tells where a user's notifications go and whether they arrive, by a running server.
    Pushers(user::Named),
}

#[derive(Debug, Subcommand)]
enum RoomVerb {
    /// Draws the events of a room and what they follow, as DOT and SVG.
    Graph(room::Graph),
    /// Says why what stands at a place of a room's state stands there, by a running server.
    Explain(room::Explain),
    /// Removes a room with everything that was said there, on a running server.
    Delete(room::Delete),
    /// Lets nobody of this server into a room any more, on a running server.
    Block(room::Block),
    /// Lets them again.
    Unblock(room::Block),
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Says whether the configuration is right.
    Check {
        /// The file to check, in the place of `--config`.
        file: Option<PathBuf>,
    },
    /// Prints the manual of the configuration, in Markdown.
    Docs,
}

/// How a command ended that did not succeed.
#[derive(Debug)]
enum Stop {
    /// Something failed.
    Failed(String),
    /// The arguments or the configuration are wrong.
    Wrong(String),
}

impl Stop {
    fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    fn wrong(error: impl Display) -> Self {
        Self::Wrong(error.to_string())
    }
}

fn parse_override(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.trim().is_empty());
    let (key, value) = parts.ok_or_else(|| String::from("it is written as KEY=VALUE"))?;
    Ok((String::from(key.trim()), String::from(value)))
}

/// Does what `arguments` (the name of the program first) say, with the variables of `environment`.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            // Nothing can be done when the terminal is gone.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match obey(command, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed(message)) => complain(&message, 1),
        Err(Stop::Wrong(message)) => complain(&message, 2),
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("lockstep: {message}");
    ExitCode::from(code)
}

fn obey(command: Command, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Stop> {
    let Command { settings, verb } = command;
    let environment = environment.into_iter();
    let mut sources = Sources {
        file: settings.config,
        environment: environment
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        overrides: settings.overrides,
    };
    match verb {
        None | Some(Verb::Serve) => serve::serve(load(&sources)?),
        Some(Verb::User(UserVerb::Erase(erase))) => user::erase(&load(&sources)?, &erase),
        Some(Verb::User(UserVerb::Show(user))) => user::show(&load(&sources)?, &user),
        Some(Verb::User(UserVerb::Lock(user))) => user::lock(&load(&sources)?, &user, true),
        Some(Verb::User(UserVerb::Unlock(user))) => user::lock(&load(&sources)?, &user, false),
        Some(Verb::User(UserVerb::Suspend(user))) => user::suspend(&load(&sources)?, &user, true),
        Some(Verb::User(UserVerb::Unsuspend(user))) => user::suspend(&load(&sources)?, &user, false),
        Some(Verb::User(UserVerb::Pushers(user))) => user::pushers(&load(&sources)?, &user),
        Some(Verb::Appservice(verb)) => appservice::obey(&load(&sources)?, &verb),
        Some(Verb::Token(verb)) => token::obey(&load(&sources)?, &verb),
        Some(Verb::Room(RoomVerb::Delete(delete))) => room::delete(&load(&sources)?, &delete),
        Some(Verb::Room(RoomVerb::Block(block))) => room::block(&load(&sources)?, &block, true),
        Some(Verb::Room(RoomVerb::Unblock(block))) => room::block(&load(&sources)?, &block, false),
        Some(Verb::Room(RoomVerb::Explain(explain))) => room::explain(&load(&sources)?, &explain),
        Some(Verb::Room(RoomVerb::Graph(graph))) => room::graph(&load(&sources)?, &graph),
        Some(Verb::Notice(notice)) => notice::send(&load(&sources)?, &notice),
        Some(Verb::Report(verb)) => report::obey(&load(&sources)?, &verb),
        Some(Verb::Doctor(verb)) => doctor::obey(&load(&sources)?, verb),
        Some(Verb::Federation(verb)) => federation::obey(&load(&sources)?, &verb),
        Some(Verb::Key(verb)) => key::obey(&load(&sources)?, &verb),
        Some(Verb::Media(verb)) => media::obey(&sources, verb),
        Some(Verb::Db(verb)) => db::obey(&load(&sources)?, verb),
        Some(Verb::User(UserVerb::Create(create))) => user::create(&load(&sources)?, &create),
        Some(Verb::Config(ConfigVerb::Docs)) => print(&config::manual()),
        Some(Verb::Config(ConfigVerb::Check { file })) => {
            sources.file = file.or(sources.file);
            media_place(&load(&sources)?).check().map_err(Stop::wrong)?;
            print("The configuration is right.\n")
        }
    }
}

fn load(sources: &Sources) -> Result<Config, Stop> {
    sources.load().map_err(Stop::wrong)
}

fn print(text: &str) -> Result<(), Stop> {
    io::stdout().write_all(text.as_bytes()).map_err(Stop::failed)
}
