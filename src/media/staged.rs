//! A file on its way in: written to the folder `incoming`, hashed and counted meanwhile.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use super::{
    Body, Hash, MediaError, Offered,
    arrival::Arrival,
    sums::{Summing, Sums},
};
use crate::limits::{MEDIA_BUFFER_BYTES, MEDIA_HEAD_BYTES, MEDIA_PIECE_SECONDS_MAX};

/// Bytes of which it is known what they are; the file is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Staged {
    path: TemporaryPath,
    pub(super) hash: Hash,
    pub(super) size: u64,
    pub(super) sums: Sums,
    /// The first bytes, from which the kind of file can be guessed.
    pub(super) head: Vec<u8>,
}

/// Removes its file when dropped.
#[derive(Debug)]
struct TemporaryPath(PathBuf);

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        // What is left is found at the next start.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Staged {
    /// Writes `body` to `path`, durably, at most `bytes_max` bytes of it. Whoever reads `along` is told of each piece.
    pub(super) async fn receive(
        path: PathBuf,
        mut body: Body,
        bytes_max: u64,
        along: Option<(&Arrival, Offered)>,
    ) -> Result<Self, MediaError> {
        let file = File::create_new(&path).await?;
        let path = TemporaryPath(path);
        let mut readers = None;
        if let Some((arrival, offered)) = along {
            arrival.begin(offered, File::open(&path.0).await?.into_std().await);
            readers = Some(arrival);
        }
        let mut file = BufWriter::with_capacity(MEDIA_BUFFER_BYTES, file);
        let (mut digest, mut sums) = (Sha256::new(), Summing::default());
        let (mut size, mut head) = (0_u64, Vec::new());
        loop {
            let piece = tokio::time::timeout(MEDIA_PIECE_SECONDS_MAX, body.next()).await;
            let piece = piece.map_err(|_| MediaError::Broken(String::from("it took too long")))?;
            let Some(piece) = piece.transpose()? else { break };
            size = size.saturating_add(piece.len() as u64);
            if size > bytes_max {
                return Err(MediaError::TooLarge(bytes_max));
            }
            head.extend(piece.iter().take(MEDIA_HEAD_BYTES.saturating_sub(head.len())));
            digest.update(&piece);
            sums.update(&piece);
            file.write_all(&piece).await?;
            if let Some(arrival) = readers {
                file.flush().await?;
                arrival.wrote(size);
            }
        }
        file.flush().await?;
        file.into_inner().sync_all().await?;
        Ok(Self { path, hash: Hash(digest.finalize().into()), size, sums: sums.finish(), head })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path.0
    }

    /// Gives it the name that it will have in the storage, so that whoever finds it knows what to look for.
    pub(super) async fn rename(&mut self, name: &str) -> Result<(), MediaError> {
        let path = self.path.0.with_file_name(name);
        tokio::fs::rename(&self.path.0, &path).await?;
        // The old path leads nowhere; only the new one is to be removed.
        self.path.0 = path;
        Ok(())
    }
}
