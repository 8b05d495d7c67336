//! Log lines.

use std::io;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Logging};

/// Crates whose finer lines show headers or queries, and with them secrets. Somebody who really wants
/// them can name them in `logging.level`. The rules of state resolution warn of every event that they look
/// for in vain; it is then loaded, and they are asked again.
const QUIET: &str = "h2=info,hyper=info,rustls=info,tokio_postgres=info,ruma_state_res=error";

/// The level directives are malformed, or somebody else logs already.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `logging.level` is malformed.
    #[error("logging.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else logs already.
    #[error("logging cannot be set up: {0}")]
    Taken(Box<dyn std::error::Error + Send + Sync>),
}

/// Writes log lines of this process to standard error.
///
/// # Errors
/// See [`LoggingError`].
pub fn init(logging: &Logging) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", logging.level))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match logging.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(LoggingError::Taken)
}
