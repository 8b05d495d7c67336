//! `lockstep media copy FILE`

use std::path::PathBuf;

use tokio::runtime;

use super::{Stop, db::Bar, load, print};
use crate::{
    config::{Config, Engine, Sources},
    http::media_place,
    media::{self, Among, Copied, Wish},
    server::{Folder, Offline, real_ports},
    store::dump::Progress,
};

/// Looks after the files that users send.
#[derive(Debug, clap::Subcommand)]
pub(super) enum MediaVerb {
    /// Copies all files from where they are to where another configuration has them; once more, it goes on.
    Copy(Copy),
}

/// Where to, and what else to do.
#[derive(Debug, clap::Args)]
pub(super) struct Copy {
    /// The other configuration file, of which `media` counts.
    file: PathBuf,
    /// Copies what is there already while the server runs; the rest is for another time when it does not.
    #[arg(long, conflicts_with_all = ["remove", "tidy"])]
    ahead: bool,
    /// In the end removes the files from where they were. Each of them is read once more in the other place before.
    #[arg(long)]
    remove: bool,
    /// Removes files from the other place of which the store does not know.
    #[arg(long)]
    tidy: bool,
}

/// Does what `verb` says.
pub(super) fn obey(sources: &Sources, verb: MediaVerb) -> Result<(), Stop> {
    let MediaVerb::Copy(copy) = verb;
    let from = load(sources)?;
    let to = load(&other(sources, &copy))?;
    let bar = Bar::new();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let copied = runtime.map_err(Stop::failed)?.block_on(async {
        match copy.ahead {
            true => run((&from, &to), Among::Found, &copy, &bar).await,
            false => offline((&from, &to), &copy, &bar).await,
        }
    });
    bar.clear();
    tell(&copied?, &copy)
}

/// What flags and the environment say of media is said of the place where the files are.
fn other(sources: &Sources, copy: &Copy) -> Sources {
    let mut other = Sources { file: Some(copy.file.clone()), ..sources.clone() };
    other.environment.retain(|(name, _)| !name.to_ascii_uppercase().starts_with("LOCKSTEP_MEDIA"));
    other.overrides.retain(|(key, _)| !key.starts_with("media"));
    other
}

async fn offline(places: (&Config, &Config), copy: &Copy, bar: &Bar) -> Result<Copied, Stop> {
    let (from, _) = places;
    let folder = Folder::of(from).store();
    match from.store.engine {
        Engine::Memory => return Err(Stop::wrong("the memory engine does not know which files there are")),
        Engine::Embedded if !folder.exists() => {
            return Err(Stop::failed(format!("there is no store in `{}`", folder.display())));
        }
        _ => {}
    }
    let offline = Offline::open(from).await.map_err(|error| {
        Stop::failed(format!("{error}; to copy what is there while the server runs, say --ahead"))
    })?;
    let copied = run(places, Among::Known(offline.db()), copy, bar).await;
    offline.close().await.map_err(Stop::failed)?;
    copied
}

async fn run(
    (from, to): (&Config, &Config),
    among: Among<'_>,
    copy: &Copy,
    bar: &Bar,
) -> Result<Copied, Stop> {
    let tell = |done, total| bar.tell(Progress { what: "copying media", done, total: Some(total) });
    let wish = Wish { remove: copy.remove, tidy: copy.tidy };
    let ports = real_ports();
    let (from, to) = (media_place(from), media_place(to));
    media::copy((&from, &to), among, wish, (&*ports.rng, &tell)).await.map_err(Stop::failed)
}

fn tell(copied: &Copied, copy: &Copy) -> Result<(), Stop> {
    let Copied { files, bytes, before, failed, removed, strays, left } = copied;
    let mut text = format!("copied {files} files with {bytes} bytes; {before} were there before\n");
    if *strays > 0 {
        let fate = if copy.tidy { "were removed" } else { "are left; --tidy removes them" };
        text.push_str(&format!("{strays} files there, of which the store does not know, {fate}\n"));
    }
    if copy.remove && failed.is_empty() {
        text.push_str(&format!("removed {removed} files from where they were"));
        text.push_str(&match left {
            0 => String::from("\n"),
            left => format!("; {left}, of which the store does not know, are left there\n"),
        });
    }
    if copy.ahead {
        text.push_str("for the rest, stop the server, and do it once more without --ahead\n");
    }
    print(&text)?;
    if failed.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = failed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let kept = if copy.remove { "; nothing was removed" } else { "" };
    Err(Stop::failed(format!("{} files cannot be had{kept}:\n{}", lines.len(), lines.join("\n"))))
}
