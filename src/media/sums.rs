//! A check sum for every block of a file, so that no block leaves whose bytes are not the ones that came.
//!
//! The hash in a file's name says that of the whole file only, once all of it has been read.

use std::ops::Range;

use futures_util::{StreamExt, stream};
use ruma::serde::{Base64, base64::Standard};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::{Body, MediaError};
use crate::limits::MEDIA_BUFFER_BYTES;

const BLOCK_BYTES: u64 = MEDIA_BUFFER_BYTES as u64;
const SUM_BYTES: usize = size_of::<u32>();

/// The CRC-32 of each block of [`MEDIA_BUFFER_BYTES`] bytes; the last may be shorter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums(Base64<Standard, Vec<u8>>);

impl Sums {
    /// What has to be read of a file of `size` bytes for a part of it.
    pub(super) fn span(size: u64, part: &Range<u64>) -> Range<u64> {
        let from = part.start / BLOCK_BYTES * BLOCK_BYTES;
        from..part.end.next_multiple_of(BLOCK_BYTES).min(size)
    }

    fn block(&self, number: u64) -> Option<u32> {
        let at = usize::try_from(number).ok()?.checked_mul(SUM_BYTES)?;
        let sum = self.0.as_bytes().get(at..at + SUM_BYTES)?;
        Some(u32::from_be_bytes(sum.try_into().ok()?))
    }

    /// A part of a file of which `body` is the [`Self::span`], block by block. At the first block that is not what
    /// it was there is [`MediaError::Damaged`], and the end.
    pub(super) fn checked(self, body: Body, size: u64, part: Range<u64>) -> Body {
        let span = Self::span(size, &part);
        let reading = Reading { sums: self, from: StreamReader::new(body.map(to_io)), span, part };
        stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|piece| (piece, reading)))
        })
        .boxed()
    }
}

fn to_io(piece: Result<bytes::Bytes, MediaError>) -> std::io::Result<bytes::Bytes> {
    piece.map_err(std::io::Error::other)
}

struct Reading<R> {
    sums: Sums,
    from: R,
    /// What has not been read yet.
    span: Range<u64>,
    part: Range<u64>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, MediaError> {
        if self.span.is_empty() {
            return Ok(None);
        }
        let start = self.span.start;
        let length = BLOCK_BYTES.min(self.span.end - start);
        self.span.start += length;
        let mut block = vec![0; usize::try_from(length).map_err(MediaError::storage)?];
        match self.from.read_exact(&mut block).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(MediaError::Damaged);
            }
            read => read?,
        };
        if self.sums.block(start / BLOCK_BYTES) != Some(crc32fast::hash(&block)) {
            return Err(MediaError::Damaged);
        }
        let within = |at: u64| usize::try_from(at.saturating_sub(start).min(length)).unwrap_or(usize::MAX);
        let part = within(self.part.start)..within(self.part.end);
        Ok(Some(bytes::Bytes::from(block).slice(part)))
    }
}

/// Sums up bytes as they come.
#[derive(Default)]
pub(super) struct Summing {
    done: Vec<u8>,
    block: crc32fast::Hasher,
    /// Bytes in `block`.
    filled: usize,
}

impl Summing {
    pub(super) fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(MEDIA_BUFFER_BYTES - self.filled));
            self.block.update(now);
            self.filled += now.len();
            piece = rest;
            if self.filled == MEDIA_BUFFER_BYTES {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        let sum = std::mem::take(&mut self.block).finalize();
        self.done.extend(sum.to_be_bytes());
        self.filled = 0;
    }

    pub(super) fn finish(mut self) -> Sums {
        if self.filled > 0 {
            self.end_block();
        }
        Sums(Base64::new(self.done))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn summed(bytes: &[u8], piece: usize) -> Sums {
        let mut summing = Summing::default();
        bytes.chunks(piece).for_each(|piece| summing.update(piece));
        summing.finish()
    }

    async fn read(sums: &Sums, bytes: &[u8], size: u64, part: Range<u64>) -> Result<Vec<u8>, MediaError> {
        let span = Sums::span(size, &part);
        let end = usize::try_from(span.end).unwrap().min(bytes.len());
        let start = usize::try_from(span.start).unwrap().min(end);
        let pieces: Vec<_> = bytes[start..end].chunks(1_000).map(bytes::Bytes::copy_from_slice).collect();
        let body: Body = stream::iter(pieces.into_iter().map(Ok)).boxed();
        let parts: Vec<bytes::Bytes> = sums.clone().checked(body, size, part).try_collect().await?;
        Ok(parts.concat())
    }

    #[tokio::test]
    async fn parts_are_what_came_or_nothing() {
        let block = MEDIA_BUFFER_BYTES;
        for size in [0, 1, block - 1, block, block + 1, 3 * block, 3 * block + 77] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let sums = summed(&bytes, 1_777);
            assert_eq!(sums, summed(&bytes, 5 * block), "pieces of any size have the same sums");
            let all = size as u64;
            let cuts = [0, 1, block as u64 - 1, block as u64, block as u64 + 5, all].map(|at| at.min(all));
            for from in cuts {
                for to in cuts.into_iter().filter(|to| *to >= from) {
                    let found = read(&sums, &bytes, all, from..to).await.unwrap();
                    assert_eq!(found, bytes[from as usize..to as usize], "{from}..{to} of {size}");
                }
            }
            for at in [0, block, size / 2, size.saturating_sub(1)].into_iter().filter(|at| *at < size) {
                let mut other = bytes.clone();
                other[at] ^= 0x10;
                let found = read(&sums, &other, all, at as u64..at as u64 + 1).await;
                assert!(matches!(found, Err(MediaError::Damaged)), "{at} of {size}");
                let before = (at / block * block) as u64;
                assert_eq!(read(&sums, &other, all, 0..before).await.unwrap(), bytes[..before as usize]);
            }
            if size > 0 {
                let found = read(&sums, &bytes[..size - 1], all, 0..all).await;
                assert!(matches!(found, Err(MediaError::Damaged)), "the end of {size} is gone");
            }
        }
    }
}
