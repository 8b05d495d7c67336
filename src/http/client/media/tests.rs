//! Files over HTTP. What is named after a row of the list of known vulnerabilities shows that it does not happen here.

mod bombs;
mod hostile;
mod plain;
mod scene;
mod thumbnails;
