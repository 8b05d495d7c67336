//! Getting a page: bounded in redirects, bytes and time.

use encoding_rs::{Encoding, UTF_8};
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use url::{Host, Url};

use super::Previews;
use crate::{
    limits::{
        PREVIEW_EMBED_BYTES_MAX, PREVIEW_HEAD_SECONDS_MAX, PREVIEW_PAGE_BYTES_MAX, PREVIEW_REDIRECTS_MAX,
    },
    media::{Body, Media, MediaError},
    peer::Pieces,
};

/// What is at an address.
pub(super) enum Fetched {
    Page(Page),
    /// A picture, to be read.
    Picture(Body),
    /// Something of which nothing is said.
    Other,
}

/// The text of a page, and where it was in the end.
pub(super) struct Page {
    pub(super) url: Url,
    pub(super) text: String,
}

/// How this server calls itself to the web: honestly, with the word that makes sites give what is for previews.
const USER_AGENT: &str = concat!("Mozilla/5.0 (compatible; Lockstep/", env!("CARGO_PKG_VERSION"), "; bot)");

fn lost(why: impl Into<String>) -> MediaError {
    MediaError::Unreachable(why.into())
}

impl Previews {
    /// Whether a preview of `url` may be made, as far as the text tells.
    pub(super) fn admit(&self, url: &Url) -> Result<(), MediaError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(MediaError::Invalid("Only http and https have previews"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(MediaError::Invalid("An address with a password has no preview"));
        }
        let host = match url.host() {
            Some(Host::Domain(host)) => host.trim_end_matches('.').to_ascii_lowercase(),
            Some(host) => host.to_string(),
            None => return Err(MediaError::Invalid("The address names no host")),
        };
        let below = |denied: &String| {
            let denied = denied.to_ascii_lowercase();
            host == denied || host.strip_suffix(&denied).is_some_and(|rest| rest.ends_with('.'))
        };
        match self.denied_hosts.iter().any(below) {
            true => Err(MediaError::Forbidden("No previews are made of this site")),
            false => Ok(()),
        }
    }
}

impl Media {
    /// What is at `url`, redirects followed.
    pub(super) async fn fetch_page(&self, url: &Url) -> Result<Fetched, MediaError> {
        let wanted = "text/html,application/xhtml+xml,image/*;q=0.9,*/*;q=0.1";
        let (url, answer) = self.answer_of(url, wanted).await?;
        read(url, answer).await
    }

    /// JSON at `url`, redirects followed, and where it was in the end.
    pub(super) async fn fetch_json(&self, url: &Url) -> Result<(Url, Vec<u8>), MediaError> {
        let (url, answer) = self.answer_of(url, "application/json").await?;
        let (parts, mut pieces) = answer.into_parts();
        check_plain(&parts.headers)?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| lost(error.to_string()))?);
            if bytes.len() > PREVIEW_EMBED_BYTES_MAX {
                return Err(lost("the description is too large"));
            }
        }
        Ok((url, bytes))
    }

    /// What is answered at `url`, redirects followed, and where that was. Each of the addresses must be one that
    /// previews may look at.
    async fn answer_of(
        &self,
        url: &Url,
        wanted: &'static str,
    ) -> Result<(Url, http::Response<Pieces>), MediaError> {
        let settings = self.settings.previews.as_ref().ok_or(MediaError::NotFound)?;
        let mut url = url.clone();
        for _ in 0..=PREVIEW_REDIRECTS_MAX {
            settings.admit(&url)?;
            let request = http::Request::get(url.as_str())
                .header(header::USER_AGENT, USER_AGENT)
                .header(header::ACCEPT, wanted)
                .header(header::ACCEPT_LANGUAGE, settings.languages.as_str())
                .body(())
                .map_err(|_| MediaError::Invalid("The address is none"))?;
            let answer = self.peers.browse(request, PREVIEW_HEAD_SECONDS_MAX).await;
            let answer = answer.map_err(|error| lost(error.to_string()))?;
            let status = answer.status();
            if status.is_redirection() {
                let next = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                let next = next.and_then(|next| url.join(next).ok());
                url = next.ok_or_else(|| lost("it redirects to nowhere"))?;
                continue;
            }
            if !status.is_success() {
                return Err(lost(format!("it answers {status}")));
            }
            return Ok((url, answer));
        }
        Err(lost("it redirects too often"))
    }
}

/// We have not said that we can read anything packed.
fn check_plain(headers: &HeaderMap) -> Result<(), MediaError> {
    match headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        true => Err(lost("it is compressed though nobody asked for that")),
        false => Ok(()),
    }
}

async fn read(url: Url, answer: http::Response<Pieces>) -> Result<Fetched, MediaError> {
    let (parts, pieces) = answer.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    check_plain(&parts.headers)?;
    match essence {
        "text/html" | "application/xhtml+xml" => {
            let bytes = beginning(pieces).await?;
            let text = decode(&parts.headers, &bytes);
            Ok(Fetched::Page(Page { url, text }))
        }
        // What it really is, its bytes tell.
        picture if picture.starts_with("image/") => {
            Ok(Fetched::Picture(pieces.map_err(|error| lost(error.to_string())).boxed()))
        }
        _ => Ok(Fetched::Other),
    }
}

/// As much of a page as is looked at: what it says about itself stands at its beginning.
async fn beginning(mut pieces: Pieces) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| lost(error.to_string()))?;
        bytes.extend_from_slice(&piece[..piece.len().min(PREVIEW_PAGE_BYTES_MAX - bytes.len())]);
        if bytes.len() == PREVIEW_PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(bytes)
}

/// The text of a page in the encoding that its header names, or itself.
fn decode(headers: &HeaderMap, bytes: &[u8]) -> String {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let named = kind
        .as_deref()
        .and_then(label)
        .or_else(|| label(&bytes.get(..2_048).unwrap_or(bytes).to_ascii_lowercase()));
    named.unwrap_or(UTF_8).decode(bytes).0.into_owned()
}

/// The encoding named after `charset=` in lower-case text.
fn label(text: &[u8]) -> Option<&'static Encoding> {
    let at = memchr::memmem::find(text, b"charset=")?;
    let rest = text.get(at + 8..)?;
    let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
    let end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_.:".contains(byte)));
    Encoding::for_label(&rest[..end.unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};
    use url::Url;

    use super::{Previews, decode};

    #[test]
    fn encodings_are_told_by_header_or_page() {
        let check = |kind: &str, bytes: &[u8], expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(decode(&headers, bytes), expected, "{kind}");
        };
        check("text/html", "grün".as_bytes(), "grün");
        check("text/html; charset=ISO-8859-1", b"gr\xfcn", "grün");
        check("text/html; Charset=\"shift_jis\"", b"\x93\xfa\x96\x7b", "日本");
        check("text/html", b"<meta charset=windows-1252>gr\xfcn", "<meta charset=windows-1252>grün");
        check("text/html; charset=utf-8", b"gr\xfcn", "gr\u{fffd}n");
        check("text/html; charset=nonsense", "grün".as_bytes(), "grün");
        check("text/html; charset=", b"\xef\xbb\xbfa", "a");
    }

    #[test]
    fn addresses_that_have_no_preview() {
        let previews = Previews { denied_hosts: vec![String::from("Evil.example")], ..Previews::default() };
        let check = |url: &str, expected: bool| {
            assert_eq!(previews.admit(&Url::parse(url).unwrap()).is_ok(), expected, "{url}");
        };
        check("https://example.org/a?b", true);
        check("http://[2001:db8::1]/", true);
        check("https://notevil.example/", true);
        for url in [
            "ftp://example.org/",
            "file:///etc/passwd",
            "gopher://example.org/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://user@example.org/",
            "https://user:password@example.org/",
            "https://evil.example/",
            "https://EVIL.example./",
            "https://a.b.evil.example/",
        ] {
            check(url, false);
        }
    }
}
