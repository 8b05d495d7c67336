//! What a site says of a page in JSON, for those who want to show it elsewhere.
//!
//! A page names the address in a `link`. Of a few sites it is known beforehand, because their pages say nothing to
//! those who are not signed in.
//!
//! <https://oembed.com/>

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Fields, html};

/// Sites whose addresses of this kind are known: hosts (and what is below them), what the path of a page begins with or
/// has in it, and whom to ask.
const PROVIDERS: [(&[&str], &[&str], &str); 3] = [
    (&["twitter.com", "x.com"], &["/status/", "/moments/"], "https://publish.twitter.com/oembed"),
    (&["youtube.com"], &["/watch", "/shorts/", "/live/"], "https://www.youtube.com/oembed"),
    (&["youtu.be"], &["/"], "https://www.youtube.com/oembed"),
];

/// An answer. What is of another type than it should be is as if it were not there.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    #[serde(rename = "type")]
    kind: Value,
    title: Value,
    author_name: Value,
    provider_name: Value,
    thumbnail_url: Value,
    url: Value,
    html: Value,
}

/// What was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Embed {
    /// As the specification gives it to clients, without the picture.
    pub(super) fields: Fields,
    /// The address of a picture, maybe a relative one.
    pub(super) picture: Option<String>,
}

/// Whom to ask of a page, where that is known before the page is.
pub(super) fn endpoint(page: &Url) -> Option<Url> {
    let host = page.domain()?.trim_end_matches('.');
    let is_of =
        |site: &&str| host == *site || host.strip_suffix(*site).is_some_and(|rest| rest.ends_with('.'));
    let fits = |(hosts, paths, _): &&(&[&str], &[&str], &str)| {
        hosts.iter().any(is_of) && paths.iter().any(|path| page.path().contains(path)) && page.path() != "/"
    };
    let (_, _, asked) = PROVIDERS.iter().find(fits)?;
    Url::parse_with_params(asked, [("format", "json"), ("url", page.as_str())]).ok()
}

/// Reads an answer; `None` if it is none.
pub(super) fn read(bytes: &[u8]) -> Option<Embed> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let text = |value: &Value| value.as_str().map(html::field).filter(|text| !text.is_empty());
    let mut embed = Embed { picture: text(&answer.thumbnail_url), ..Embed::default() };
    let mut description = None;
    let shown = answer.html.as_str().map(html::shown).unwrap_or_default();
    let kind = match answer.kind.as_str()? {
        "photo" => {
            embed.picture = text(&answer.url).or(embed.picture);
            "photo"
        }
        "video" => "video.other",
        "rich" => {
            description = Some(shown.text).filter(|text| !text.is_empty());
            embed.picture = embed.picture.or(shown.picture);
            "website"
        }
        "link" => "website",
        _ => return None,
    };
    let said = [
        ("og:type", Some(String::from(kind))),
        ("og:title", text(&answer.title).or_else(|| text(&answer.author_name))),
        ("og:site_name", text(&answer.provider_name)),
        ("og:description", description),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((String::from(name), Value::from(value?))));
    embed.fields = said.collect();
    Some(embed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use url::Url;

    use super::{endpoint, read};

    #[test]
    fn sites_that_are_known() {
        let check = |page: &str, expected: Option<&str>| {
            let found = endpoint(&Url::parse(page).unwrap()).map(String::from);
            assert_eq!(found.as_deref(), expected, "{page}");
        };
        let asked = "https://publish.twitter.com/oembed?format=json&url=https%3A%2F%2F";
        check("https://twitter.com/a/status/1", Some(&format!("{asked}twitter.com%2Fa%2Fstatus%2F1")));
        check(
            "https://mobile.X.com/a/status/1?s=2",
            Some(&format!("{asked}mobile.x.com%2Fa%2Fstatus%2F1%3Fs%3D2")),
        );
        let asked = "https://www.youtube.com/oembed?format=json&url=https%3A%2F%2F";
        check("https://youtu.be/abc", Some(&format!("{asked}youtu.be%2Fabc")));
        check(
            "https://www.youtube.com/watch?v=abc",
            Some(&format!("{asked}www.youtube.com%2Fwatch%3Fv%3Dabc")),
        );
        for page in [
            "https://twitter.com/a",
            "https://nottwitter.com/a/status/1",
            "https://twitter.com.example.org/a/status/1",
            "https://youtu.be/",
            "https://youtube.com/oembed?url=https://youtube.com/watch",
            "http://127.0.0.1/status/",
        ] {
            check(page, None);
        }
    }

    #[track_caller]
    fn check(answer: &Value, expected: &Value, picture: Option<&str>) {
        let embed = read(answer.to_string().as_bytes()).unwrap();
        assert_eq!((&Value::from(embed.fields), embed.picture.as_deref()), (expected, picture), "{answer}");
    }

    #[test]
    fn answers_of_every_type() {
        check(
            &json!({ "type": "link", "version": "1.0", "title": " A\n page ", "provider_name": "Site" }),
            &json!({ "og:type": "website", "og:title": "A page", "og:site_name": "Site" }),
            None,
        );
        check(
            &json!({ "type": "photo", "url": "/large.png", "thumbnail_url": "/small.png", "author_name": "alice" }),
            &json!({ "og:type": "photo", "og:title": "alice" }),
            Some("/large.png"),
        );
        check(
            &json!({ "type": "video", "html": "<iframe src=x>no</iframe>", "thumbnail_url": "/t.png", "title": "V" }),
            &json!({ "og:type": "video.other", "og:title": "V" }),
            Some("/t.png"),
        );
        let markup = "<blockquote><p>It &amp; that <a href='/x'>link</a></p><style>p{}</style>&mdash; alice\
            <img src=/i.png></blockquote><script>alert(1)</script>";
        check(
            &json!({ "type": "rich", "html": markup }),
            &json!({ "og:type": "website", "og:description": "It & that link — alice" }),
            Some("/i.png"),
        );
        // What is of a wrong type is not there.
        check(
            &json!({ "type": "rich", "html": 5, "title": ["x"], "thumbnail_url": {}, "url": null }),
            &json!({ "og:type": "website" }),
            None,
        );
    }

    /// Row 4.8: answers that take parsers down.
    #[test]
    fn row_4_8_hostile_answers_are_read_in_bounds() {
        for nonsense in ["", "null", "[]", "5", "{}", "{\"type\":5}", "{\"type\":\"other\"}", "<html>"] {
            assert_eq!(read(nonsense.as_bytes()), None, "{nonsense}");
        }
        assert_eq!(read(format!("{{\"html\":{}", "[".repeat(100_000)).as_bytes()), None);
        let deep = json!({ "type": "rich", "html": "<div>".repeat(100_000) + "deep" });
        check(&deep, &json!({ "og:type": "website", "og:description": "deep" }), None);
        let long = json!({ "type": "link", "title": "a".repeat(1 << 20) }).to_string();
        assert_eq!(read(long.as_bytes()).unwrap().fields["og:title"].as_str().unwrap().len(), 1_000);
    }
}
