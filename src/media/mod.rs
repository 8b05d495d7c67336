//! Files: what users upload, what other servers hold, thumbnails of both, previews of web pages.
//!
//! Owns: the tables `Media` to `MediaSums`, and the bytes behind them, in a folder or an object store. May use:
//! `types`, `limits`, `store`, `log`, `peer`. Start reading at [`Media`], then [`Settings`]. Invariants: a file is never
//! in memory as a whole; its bytes are durable before the row that names them, and the row before anybody hears of
//! it, but for those who read a file of another server along while it comes; what a crash leaves between the two is found by its name in the folder `incoming` and removed at the start;
//! bytes are kept once, by their hash, and go in the commit that removes the last row that names them; nothing that a
//! stranger has written becomes part of a path; whatever is quarantined leaves by no door,
//! and no byte that is not the one that came.

mod arrival;
mod blobs;
mod check;
mod copy;
mod error;
mod find;
mod keep;
mod multipart;
mod object;
mod owned;
mod passing;
mod preview;
mod quarantine;
mod remote;
mod rows;
mod service;
mod staged;
mod sums;
mod tend;
mod thumbnail;
mod upload;

pub use blobs::{Body, Place};
pub use check::{Checked, check};
pub use copy::{Among, Copied, Wish, copy};
pub use error::MediaError;
pub use find::{Door, File, Wanted};
pub use multipart::{Part, second_part};
pub use owned::Upload;
pub use passing::{Coming, Given};
pub use preview::{Fields, Previews};
pub use rows::Hash;
pub use service::{Media, Settings};
pub use thumbnail::{Method, Shape};
pub use upload::{Offered, Reserved};

use remote::Loss;

#[cfg(test)]
mod tests;
