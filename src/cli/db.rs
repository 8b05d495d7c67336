//! `lockstep db check|export|import|restore|compact`

use std::{
    fs::File,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime;
use tokio_util::task::TaskTracker;

use super::{Stop, print};
use crate::{
    config::Config,
    http::media_place,
    media,
    server::Place,
    store::{
        Store, StoreError,
        dump::{self, End, Progress},
        embedded,
        postgres::{self, Postgres},
    },
};

/// Looks after the store.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DbVerb {
    /// Reads everything, media too, and says what is damaged.
    Check {
        /// Makes the index of the embedded store anew from its log first.
        #[arg(long)]
        rebuild: bool,
    },
    /// Writes everything to one file: a backup, or the way to another engine.
    Export {
        /// The file to make.
        file: PathBuf,
    },
    /// Makes the store from such a file; there must be none yet.
    Import {
        /// The file to read.
        file: PathBuf,
    },
    /// Makes the embedded store from an export and the log segments since.
    Restore {
        /// The export.
        file: PathBuf,
        /// Folders with log segments: the archive, and `log` of the damaged store.
        #[arg(required = true)]
        segments: Vec<PathBuf>,
    },
    /// Writes the embedded store anew to give space back. Needs room for both meanwhile.
    Compact,
}

/// Does what `verb` says with the store of `config`.
pub(super) fn obey(config: &Config, verb: DbVerb) -> Result<(), Stop> {
    // The tasks of a database connection have to run while a file is read.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let place = Place::of(config);
    let bar = Bar::new();
    let checks = matches!(verb, DbVerb::Check { .. });
    let done = runtime.map_err(Stop::failed)?.block_on(async {
        match place {
            Place::Memory => Err(Stop::wrong("the memory engine keeps nothing to look after")),
            Place::Embedded(settings) => in_folder(settings, verb, &bar).await,
            Place::Postgres(settings) => in_database(settings, verb, &bar).await,
        }
    });
    let done = done.and_then(|done| match checks {
        true => Ok(done + &check_files(config, &bar)?),
        false => Ok(done),
    });
    bar.clear();
    print(&done?)
}

/// Media are in the data folder too, beside the store.
fn check_files(config: &Config, bar: &Bar) -> Result<String, Stop> {
    let tell = |done, total| bar.tell(Progress { what: "reading media", done, total: Some(total) });
    let media::Checked { files, bytes, damaged } =
        media::check(&media_place(config), &tell).map_err(Stop::failed)?;
    if damaged.is_empty() {
        return Ok(format!("So it is with media: {files} files with {bytes} bytes.\n"));
    }
    let paths: Vec<String> = damaged.iter().map(|path| path.display().to_string()).collect();
    Err(Stop::failed(format!(
        "The store is well, but {} of {files} files of media are not what was uploaded:\n{}",
        paths.len(),
        paths.join("\n")
    )))
}

/// A progress bar, where there is a terminal to draw it on.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }

    pub(super) fn tell(&self, progress: Progress) {
        if self.0.message() != progress.what {
            self.0.set_message(progress.what);
            self.0.reset_eta();
        }
        match progress.total {
            Some(total) => self.0.set_length(total),
            None => self.0.unset_length(),
        }
        self.0.set_position(progress.done);
    }
}

async fn in_folder(mut settings: embedded::Settings, verb: DbVerb, bar: &Bar) -> Result<String, Stop> {
    let tell = |progress| bar.tell(progress);
    let makes = matches!(verb, DbVerb::Import { .. } | DbVerb::Restore { .. });
    if !makes && !settings.folder.exists() {
        return Err(Stop::failed(format!("there is no store in `{}`", settings.folder.display())));
    }
    match verb {
        DbVerb::Check { rebuild } => {
            settings.rebuild_index = rebuild;
            let report = embedded::check(settings, &tell).await.map_err(Stop::failed)?;
            match report.problem_count {
                0 => Ok(format!(
                    "All is well: {} rows, {} frames in {} bytes of log.\n",
                    report.rows, report.frames, report.log_bytes
                )),
                count => Err(Stop::failed(format!("{count} problems\n{}", report.problems.join("\n")))),
            }
        }
        DbVerb::Export { file } => {
            let store = embedded::Embedded::open(settings).map_err(Stop::failed)?;
            let (place, out) = embedded::NewFile::create(&file).map_err(Stop::failed)?;
            let out = store.export(out, &tell).map_err(Stop::failed)?;
            place.finish(&out).map_err(Stop::failed)?;
            store.close().await.map_err(Stop::failed)?;
            Ok(format!("wrote {}\n", file.display()))
        }
        DbVerb::Import { file } => {
            let end = embedded::import(settings, open(&file)?, &tell).await.map_err(Stop::failed)?;
            Ok(imported(&end))
        }
        DbVerb::Restore { file, segments } => {
            let end = embedded::restore(settings, open(&file)?, &segments, &tell).await;
            Ok(imported(&end.map_err(Stop::failed)?))
        }
        DbVerb::Compact => {
            embedded::compact(settings, &tell).await.map_err(Stop::failed)?;
            Ok(String::from("The store is compact.\n"))
        }
    }
}

async fn in_database(settings: postgres::Settings, verb: DbVerb, bar: &Bar) -> Result<String, Stop> {
    let tell = |progress| bar.tell(progress);
    let server_name = settings.server_name.clone();
    let tasks = TaskTracker::new();
    let store = Postgres::open(settings, &tasks).await.map_err(Stop::failed)?;
    let done = match verb {
        DbVerb::Check { .. } => dump::fingerprint(&store, "reading rows", &tell)
            .await
            .map(|found| format!("All {} rows can be read (fingerprint {:016x}).\n", found.count, found.sum)),
        DbVerb::Export { file } => export(&store, &server_name, &file, bar).await,
        DbVerb::Import { file } => {
            let input = open(&file)?;
            dump::import(&store, &server_name, input, &tell).await.map(|end| imported(&end))
        }
        DbVerb::Restore { .. } | DbVerb::Compact => {
            return Err(Stop::wrong("this is for the embedded store; PostgreSQL has its own ways"));
        }
    };
    let closed = store.close().await;
    done.and_then(|done| closed.map(|()| done)).map_err(Stop::failed)
}

async fn export(store: &Postgres, server_name: &str, file: &Path, bar: &Bar) -> Result<String, StoreError> {
    let tell = |progress| bar.tell(progress);
    let (place, out) = embedded::NewFile::create(file)?;
    let out = dump::export(store, server_name, out, &tell).await?;
    place.finish(&out)?;
    Ok(format!("wrote {}\n", file.display()))
}

fn open(file: &Path) -> Result<File, Stop> {
    File::open(file).map_err(|error| Stop::failed(format!("{}: {error}", file.display())))
}

fn imported(end: &End) -> String {
    format!("read {} rows; the log goes on from position {}\n", end.digest.count, end.head)
}
