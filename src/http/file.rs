//! How files leave: headers that keep browsers from running them, ranges, and the answer to those who have them already.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::ops::Range;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header, request::Parts};
use ruma::http_headers::{ContentDisposition, ContentDispositionType};

use super::{App, Failure};
use crate::media::{Coming, Door, File};

/// Types that a browser only shows as what they are.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];
/// What a browser may do with a file that it opens as a page: nothing.
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";
/// What it is called when nobody says what it is.
const UNKNOWN: &str = "application/octet-stream";

/// The type and the disposition that go with `file`.
pub(super) fn description(file: &File) -> (HeaderValue, HeaderValue) {
    describe(file.content_type.as_deref(), file.filename.clone())
}

fn describe(content_type: Option<&str>, filename: Option<String>) -> (HeaderValue, HeaderValue) {
    let given = content_type.map(str::trim);
    let kind = given.and_then(|kind| HeaderValue::from_str(kind).ok());
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static(UNKNOWN));
    let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let disposition = match INLINE.contains(&essence.as_str()) {
        true => ContentDispositionType::Inline,
        false => ContentDispositionType::Attachment,
    };
    let text = ContentDisposition::new(disposition).with_filename(filename).to_string();
    let attachment = HeaderValue::from_static("attachment");
    (kind, HeaderValue::from_str(&text).unwrap_or(attachment))
}

/// Answers with `file`, or with the part of it that is asked for.
pub(super) async fn send(
    app: &App,
    file: &File,
    (request, door): (&HeaderMap, Door),
) -> Result<Response, Failure> {
    let tag = HeaderValue::from_str(&format!("\"{}\"", file.tag())).map_err(Failure::internal)?;
    let mut response = match judge(request, &tag, file.size) {
        Part::Known => empty(StatusCode::NOT_MODIFIED),
        Part::Beyond => {
            let mut response = Failure::custom(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "M_INVALID_PARAM",
                "The file has no such part",
            )
            .into_response();
            let whole = HeaderValue::from_str(&format!("bytes */{}", file.size));
            response.headers_mut().insert(header::CONTENT_RANGE, whole.map_err(Failure::internal)?);
            return Ok(response);
        }
        Part::Whole => {
            let mut response = Response::new(Body::from_stream(app.media.read(file, None).await?));
            response.headers_mut().insert(header::CONTENT_LENGTH, file.size.into());
            response
        }
        Part::Range(range) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            let length = range.end - range.start;
            let mut response = Response::new(Body::from_stream(app.media.read(file, Some(range)).await?));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&text).map_err(Failure::internal)?);
            headers.insert(header::CONTENT_LENGTH, length.into());
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    guard(headers, description(file), door);
    Ok(response)
}

/// Whether a request can be answered with a file of which not all is here: it asks for no other part, and for nothing
/// that has to be compared. With HTTP/1.0 an answer that breaks off looks like a whole one.
pub(super) fn may_come(request: &Parts) -> bool {
    let range = request.headers.get(header::RANGE);
    request.version >= Version::HTTP_11
        && !request.headers.contains_key(header::IF_NONE_MATCH)
        && range.is_none_or(|range| range == "bytes=0-")
}

/// Answers with a file that is on its way here. If it does not come, the answer breaks off.
pub(super) fn pass(coming: Coming) -> Response {
    let description = describe(coming.content_type.as_deref(), coming.filename);
    let mut response = Response::new(Body::from_stream(coming.body));
    let headers = response.headers_mut();
    if let Some(size) = coming.size {
        headers.insert(header::CONTENT_LENGTH, size.into());
    }
    guard(headers, description, Door::User);
    response
}

/// Says what it is, and keeps browsers from making more of it.
fn guard(headers: &mut HeaderMap, (kind, disposition): (HeaderValue, HeaderValue), door: Door) {
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    let age = match door {
        Door::Open => "public, max-age=86400",
        Door::User | Door::Server => "private, max-age=86400",
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(age));
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// How much of a file is to be sent.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Range(Range<u64>),
    /// There is no such part.
    Beyond,
    /// Nothing: whoever asks has it.
    Known,
}

fn judge(request: &HeaderMap, tag: &HeaderValue, size: u64) -> Part {
    let text = |name| request.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let tag = tag.to_str().unwrap_or_default();
    if let Some(known) = text(header::IF_NONE_MATCH) {
        let same = |known: &str| known.trim().trim_start_matches("W/") == tag;
        if known.trim() == "*" || known.split(',').any(same) {
            return Part::Known;
        }
    }
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Part::Whole;
    }
    text(header::RANGE).and_then(|range| part(range, size)).unwrap_or(Part::Whole)
}

/// The part that a `Range` header names; none when it is one that need not be understood.
///
/// RFC 9110, section 14
fn part(range: &str, size: u64) -> Option<Part> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return None;
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let range = match (first.trim(), last.trim()) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start < range.end { Part::Range(range) } else { Part::Beyond })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{Part, judge};

    #[track_caller]
    fn check(range: &str, expected: Part) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        assert_eq!(judge(&headers, &HeaderValue::from_static("\"tag\""), 100), expected, "{range}");
    }

    #[test]
    fn ranges_are_read_as_browsers_write_them() {
        check("bytes=0-", Part::Range(0..100));
        check("bytes=0-0", Part::Range(0..1));
        check("bytes=10-19", Part::Range(10..20));
        check("bytes=90-1000", Part::Range(90..100));
        check("bytes=-10", Part::Range(90..100));
        check("bytes=-1000", Part::Range(0..100));
        check("Bytes = 5-", Part::Range(5..100));
        check("bytes=100-", Part::Beyond);
        check("bytes=-0", Part::Beyond);
        check("bytes=18446744073709551615-18446744073709551615", Part::Beyond);
        for ignored in
            ["bytes=9-5", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=--5", "bytes", "bytes=-"]
        {
            check(ignored, Part::Whole);
        }
    }

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        let tag = HeaderValue::from_static("\"tag\"");
        let judged = |pairs: &[(header::HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            judge(&headers, &tag, 100)
        };
        assert_eq!(judged(&[(header::IF_NONE_MATCH, "\"x\", W/\"tag\"")]), Part::Known);
        assert_eq!(judged(&[(header::IF_NONE_MATCH, "\"x\"")]), Part::Whole);
        assert_eq!(judged(&[(header::IF_RANGE, "\"tag\""), (header::RANGE, "bytes=1-2")]), Part::Range(1..3));
        assert_eq!(judged(&[(header::IF_RANGE, "\"old\""), (header::RANGE, "bytes=1-2")]), Part::Whole);
    }
}
