//! What another server sends: two parts, of which the second is the file, or says where it is.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem;

use super::{Body, MediaError};
use crate::{
    limits::{MEDIA_PART_BYTES_MAX, MEDIA_PIECE_SECONDS_MAX},
    peer::Pieces,
};

/// The second part.
pub struct Part {
    /// What it says about itself.
    pub headers: HeaderMap,
    /// What it is.
    pub body: Body,
}

struct Reader {
    pieces: Pieces,
    buffer: BytesMut,
    /// What stands before each part and after the last one.
    delimiter: Vec<u8>,
    is_done: bool,
}

fn broken(why: &str) -> MediaError {
    MediaError::Unreachable(String::from(why))
}

/// Reads an answer up to where its second part begins.
///
/// # Errors
/// When it does not consist of parts, or breaks off before the second one.
pub async fn second_part(headers: &HeaderMap, pieces: Pieces) -> Result<Part, MediaError> {
    let boundary = boundary(headers).ok_or_else(|| broken("the answer does not consist of parts"))?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first delimiter may stand at the very beginning.
    let mut reader = Reader { pieces, buffer: BytesMut::from(&b"\r\n"[..]), delimiter, is_done: false };
    reader.skip_to_delimiter().await?;
    reader.headers().await?;
    reader.skip_to_delimiter().await?;
    let headers = reader.headers().await?;
    let body = stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.piece().await?.map(|piece| (piece, reader)))
    });
    Ok(Part { headers, body: body.boxed() })
}

/// The boundary that a content type names.
fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut parts = kind.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let named = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    // RFC 2046, section 5.1.1
    named.filter(|boundary| (1..=70).contains(&boundary.len()))
}

impl Reader {
    /// Reads more; false at the end.
    async fn more(&mut self) -> Result<bool, MediaError> {
        let piece = tokio::time::timeout(MEDIA_PIECE_SECONDS_MAX, self.pieces.next()).await;
        let piece = piece.map_err(|_| broken("the answer took too long"))?;
        match piece {
            Some(Ok(piece)) => {
                self.buffer.extend_from_slice(&piece);
                Ok(true)
            }
            Some(Err(error)) => Err(broken(&error.to_string())),
            None => Ok(false),
        }
    }

    /// Where `text` stands; there must not be much before it.
    async fn find(&mut self, text: &[u8]) -> Result<usize, MediaError> {
        loop {
            if let Some(at) = memmem::find(&self.buffer, text) {
                return Ok(at);
            }
            if self.buffer.len() > MEDIA_PART_BYTES_MAX {
                return Err(broken("the answer has too long a head"));
            }
            if !self.more().await? {
                return Err(broken("the answer broke off"));
            }
        }
    }

    async fn skip_to_delimiter(&mut self) -> Result<(), MediaError> {
        let delimiter = self.delimiter.clone();
        let at = self.find(&delimiter).await?;
        drop(self.buffer.split_to(at + delimiter.len()));
        Ok(())
    }

    /// The headers of a part, up to the empty line.
    async fn headers(&mut self) -> Result<HeaderMap, MediaError> {
        let end = self.find(b"\r\n\r\n").await?;
        let head = self.buffer.split_to(end + 4);
        let text = String::from_utf8_lossy(&head);
        let line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        };
        // The first line is the rest of the delimiter's.
        Ok(text.split("\r\n").skip(1).filter_map(line).collect())
    }

    /// The next piece of the part's body.
    async fn piece(&mut self) -> Result<Option<Bytes>, MediaError> {
        while !self.is_done {
            if let Some(at) = memmem::find(&self.buffer, &self.delimiter) {
                self.is_done = true;
                return Ok(Some(self.buffer.split_to(at).freeze()));
            }
            // The delimiter may have begun at the end of what is here.
            let sure = self.buffer.len().saturating_sub(self.delimiter.len());
            if sure > 0 {
                return Ok(Some(self.buffer.split_to(sure).freeze()));
            }
            if !self.more().await? {
                return Err(broken("the answer broke off"));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, TryStreamExt, stream};
    use http::{HeaderMap, header};
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::second_part;

    /// Content type, disposition and body of the second part of `text`, however it is cut into pieces.
    #[track_caller]
    fn check(kind: &str, text: &str, expected: Result<(&str, &str), ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for size in [1, 2, 3, 7, 1_000] {
            let pieces: Vec<_> =
                text.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            let read = runtime.block_on(async {
                let part = second_part(&headers, stream::iter(pieces).boxed()).await.map_err(drop)?;
                let kind = part.headers.get(header::CONTENT_TYPE).cloned();
                let body: Vec<Bytes> = part.body.try_collect().await.map_err(drop)?;
                let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
                Ok((kind, String::from_utf8(body.concat()).unwrap()))
            });
            let read = match &read {
                Ok((kind, body)) => Ok((kind.as_str(), body.as_str())),
                Err(()) => Err(()),
            };
            assert_eq!(read, expected, "{size} {text:?}");
        }
    }

    #[test]
    fn two_parts_as_servers_write_them() {
        let kind = "multipart/mixed; boundary=abc";
        let usual = "--abc\r\nContent-Type: application/json\r\n\r\n{}\r\n--abc\r\nContent-Type: text/plain\r\n\r\n\
                     a\r\n--ab\r\nb\r\n--abc--\r\n";
        check(kind, usual, Ok(("text/plain", "a\r\n--ab\r\nb")));
        check("Multipart/Mixed;charset=x; Boundary=\"abc\"", usual, Ok(("text/plain", "a\r\n--ab\r\nb")));
        check(kind, "\r\n--abc\r\n\r\n{}\r\n--abc\r\n\r\n\r\n--abc", Ok(("", "")));
        check(kind, "--abc\r\n\r\n\r\n--abc\r\ncontent-type:a/b\r\n\r\n\r\n\r\n--abc--", Ok(("a/b", "\r\n")));
    }

    /// What is changed at random is read or refused, alike however it is cut into pieces, and never becomes more.
    #[tokio::test]
    async fn changed_answers_are_read_or_refused_however_they_come() {
        let usual = "--abc\r\nContent-Type: application/json\r\n\r\n{}\r\n--abc\r\nContent-Type: text/plain\r\n\
                     Content-Disposition: attachment\r\n\r\na\r\n--ab\r\nb\r\n--abc--\r\n";
        let pieces = ["\r\n", "--abc", "--", "\r", "\n", "a: b\r\n", ":", "\0", "Content-Type: ", "\u{e9}"];
        let mut read = 0;
        for seed in 0..2_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut text = usual.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..5) {
                let (at, until) = (rng.random_range(0..text.len()), rng.random_range(0..8));
                let until = text.len().min(at + until);
                match rng.random_range(0..3) {
                    0 => drop(text.drain(at..until)),
                    1 => text[at] = rng.random(),
                    _ => drop(text.splice(at..at, pieces.choose(&mut rng).unwrap().bytes())),
                }
            }
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, "multipart/mixed; boundary=abc".parse().unwrap());
            let mut outcomes = Vec::new();
            for size in [1, 5, 10_000] {
                let chunks: Vec<_> = text.chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
                let body = async {
                    let part = second_part(&headers, stream::iter(chunks).boxed()).await.ok()?;
                    let body: Vec<Bytes> = part.body.try_collect().await.ok()?;
                    Some((format!("{:?}", part.headers), body.concat()))
                };
                outcomes.push(body.await);
            }
            assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {outcomes:?}");
            if let Some((_, body)) = &outcomes[0] {
                assert!(body.len() < text.len(), "seed {seed}");
                read += 1;
            }
        }
        assert!((200..1_900).contains(&read), "{read} of them were read");
    }

    #[test]
    fn what_is_no_such_answer_is_told() {
        let kind = "multipart/mixed; boundary=abc";
        check("multipart/mixed", "--abc\r\n\r\n{}\r\n--abc\r\n\r\nx\r\n--abc--", Err(()));
        check("text/plain; boundary=abc", "--abc\r\n\r\n{}\r\n--abc\r\n\r\nx\r\n--abc--", Err(()));
        check(kind, "", Err(()));
        check(kind, "--abc\r\n\r\n{}\r\n--abc--", Err(()));
        check(kind, "--abc\r\n\r\n{}\r\n--abc\r\n\r\ncut of", Err(()));
        check(kind, &format!("--abc\r\n{}", "a: b\r\n".repeat(20_000)), Err(()));
        check(&format!("multipart/mixed; boundary={}", "a".repeat(71)), "--", Err(()));
    }
}
