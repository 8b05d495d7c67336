//! What an HTML page says about itself, by its tokens: no tree is built, so no nesting is too deep.
//!
//! <https://ogp.me/>

use std::collections::BTreeMap;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use serde_json::Value;

use super::Fields;
use crate::limits::{PREVIEW_FIELD_CHARACTERS_MAX, PREVIEW_FIELDS_MAX, PREVIEW_TOKENS_MAX};

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `og:…`.
    og: BTreeMap<String, String>,
    /// `twitter:…`, the name of a `meta`, and the title.
    other: BTreeMap<String, String>,
    /// The address of a picture, maybe a relative one.
    pub(super) picture: Option<String>,
    /// Where the page is described in JSON ([`super::oembed`]), maybe a relative address.
    pub(super) oembed: Option<String>,
}

/// What somebody would read of a piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) text: String,
    /// The address of the first picture in it, maybe a relative one.
    pub(super) picture: Option<String>,
}

/// What is inside of these elements nobody reads.
const UNREAD: [&[u8]; 4] = [b"script", b"style", b"noscript", b"template"];

fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(text, emitter).flatten().take(PREVIEW_TOKENS_MAX)
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(&value.value).into_owned())
}

/// A text as it stands in a field: in one line, and not too long.
pub(super) fn field(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(PREVIEW_FIELD_CHARACTERS_MAX).collect()
}

/// What somebody would read of a piece of HTML.
pub(super) fn shown(markup: &str) -> Shown {
    let (mut shown, mut unread) = (Shown::default(), None);
    for token in tokens(markup) {
        match token {
            Token::StartTag(tag) if unread.is_none() => {
                unread = UNREAD.into_iter().find(|name| tag.name[..] == **name);
                if &tag.name[..] == b"img" && shown.picture.is_none() {
                    shown.picture = attribute(&tag, "src");
                }
                if !matches!(&tag.name[..], b"a" | b"b" | b"i" | b"em" | b"strong" | b"span") {
                    shown.text.push(' ');
                }
            }
            Token::EndTag(tag) if unread.is_some_and(|name| tag.name[..] == *name) => unread = None,
            Token::String(text) if unread.is_none() => {
                shown.text.push_str(&String::from_utf8_lossy(&text.value));
            }
            _ => {}
        }
    }
    shown.text = field(&shown.text);
    shown
}

/// Reads a page.
pub(super) fn read(text: &str) -> Said {
    let mut said = Said::default();
    let mut title: Option<String> = None;
    let mut in_title = false;
    for token in tokens(text) {
        match token {
            Token::StartTag(tag) => match &tag.name[..] {
                // The first one counts: pictures within the page have titles too.
                b"title" => in_title = title.is_none(),
                b"meta" => {
                    let name = attribute(&tag, "property").or_else(|| attribute(&tag, "name"));
                    if let (Some(name), Some(content)) = (name, attribute(&tag, "content")) {
                        said.note(&name.to_ascii_lowercase(), &content);
                    }
                }
                b"link" if said.oembed.is_none() && leads_to_json(&tag) => {
                    said.oembed = attribute(&tag, "href")
                }
                _ => {}
            },
            Token::String(text) if in_title => {
                title.get_or_insert_default().push_str(&String::from_utf8_lossy(&text.value));
            }
            Token::EndTag(tag) if &tag.name[..] == b"title" => in_title = false,
            _ => {}
        }
    }
    if let Some(title) = title {
        said.note("title", &title);
    }
    let picture =
        ["og:image:secure_url", "og:image:url", "og:image"].iter().find_map(|name| said.og.remove(*name));
    let other = |name: &&str| said.other.get(*name).cloned();
    said.picture = picture.or_else(|| ["twitter:image", "twitter:image:src"].iter().find_map(other));
    said
}

/// Whether a `link` leads to the page's description in JSON. Some say `alternative`.
fn leads_to_json(link: &StartTag<()>) -> bool {
    let is_other =
        |word: &str| word.eq_ignore_ascii_case("alternate") || word.eq_ignore_ascii_case("alternative");
    let kind = attribute(link, "type");
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json+oembed"))
        && attribute(link, "rel").is_some_and(|rel| rel.split_whitespace().any(is_other))
}

impl Said {
    fn note(&mut self, name: &str, content: &str) {
        let content = field(content);
        if content.is_empty() || name.len() > 64 {
            return;
        }
        let into = if name.starts_with("og:") { &mut self.og } else { &mut self.other };
        // What stands first counts, as in a list of pictures.
        if into.len() < PREVIEW_FIELDS_MAX {
            into.entry(String::from(name)).or_insert(content);
        }
    }

    /// As the specification gives it to clients, without the picture.
    pub(super) fn fields(mut self) -> Fields {
        for (field, sources) in [
            ("og:title", &["twitter:title", "title"][..]),
            ("og:description", &["twitter:description", "description"][..]),
            ("og:site_name", &["application-name"][..]),
        ] {
            let found = sources.iter().find_map(|source| self.other.get(*source));
            if let (false, Some(found)) = (self.og.contains_key(field), found) {
                self.og.insert(String::from(field), found.clone());
            }
        }
        // What is said of a picture is only true of the one that we have.
        self.og.retain(|name, _| !name.starts_with("og:image"));
        self.og.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    #[track_caller]
    fn check(page: &str, fields: Value, picture: Option<&str>) {
        let said = read(page);
        assert_eq!(said.picture.as_deref(), picture, "{page}");
        assert_eq!(Value::from(said.fields()), fields, "{page}");
    }

    #[test]
    fn pages_say_it_in_many_ways() {
        check("", json!({}), None);
        check("<title> A\n page </title><body><svg><title>no</title>", json!({ "og:title": "A page" }), None);
        check("<TITLE>a &amp; b</TITLE>", json!({ "og:title": "a & b" }), None);
        check(
            r#"<meta property="og:title" content="One"><meta property=og:title content=Two><title>Three</title>"#,
            json!({ "og:title": "One" }),
            None,
        );
        check(
            r#"<meta name="twitter:title" content="T"><meta name=description content="D">
               <meta name="twitter:image" content="/i.png">"#,
            json!({ "og:title": "T", "og:description": "D" }),
            Some("/i.png"),
        );
        check(
            r#"<meta property="og:image" content="https://e.org/i.png"><meta property="og:image:width" content="9">
               <meta property="og:type" content="website">"#,
            json!({ "og:type": "website" }),
            Some("https://e.org/i.png"),
        );
        // What is in a script or a comment is not said.
        check(
            r#"<script>"<meta property='og:title' content='no'>"</script><!-- <title>no</title> -->"#,
            json!({}),
            None,
        );
    }

    #[test]
    fn where_a_page_is_described() {
        let check = |page: &str, expected: Option<&str>| {
            assert_eq!(read(page).oembed.as_deref(), expected, "{page}");
        };
        let kind = "type=application/json+oembed";
        check(&format!("<link rel=alternate {kind} href=/a><link rel=alternate {kind} href=/b>"), Some("/a"));
        check(&format!("<LINK REL='nofollow Alternate' {kind} href='/a?b&amp;c'>"), Some("/a?b&c"));
        check(&format!("<link rel=alternative {kind} href=https://e.org/>"), Some("https://e.org/"));
        check(&format!("<link rel=stylesheet {kind} href=/a>"), None);
        check("<link rel=alternate type=text/xml+oembed href=/a>", None);
        check(&format!("<!--<link rel=alternate {kind} href=/a>--><a rel=alternate {kind} href=/b>"), None);
    }

    /// Row 4.8: pages that take parsers down.
    #[test]
    fn row_4_8_hostile_pages_are_read_in_bounds() {
        let deep = format!("{}<title>deep</title>", "<div>".repeat(100_000));
        check(&deep, json!({ "og:title": "deep" }), None);
        let many: String = (0..50_000).map(|n| format!("<meta property='og:x{n}' content='y'>")).collect();
        assert!(read(&many).fields().len() <= 50);
        let long = format!("<meta property=og:title content='{}'>", "a".repeat(1 << 20));
        assert!(read(&long).fields()["og:title"].as_str().unwrap().len() <= 2_000);
        let attributes: String = (0..50_000).map(|n| format!(" a{n}=b")).collect();
        check(&format!("<p{attributes}><title>x</title>"), json!({ "og:title": "x" }), None);
        check(&format!("<title>{}</title>", "&lt;".repeat(3)), json!({ "og:title": "<<<" }), None);
        check(&"<".repeat(200_000), json!({}), None);
        check(
            &"<title>".repeat(1_000),
            json!({ "og:title": "<title>".repeat(1_000).chars().take(1_000).collect::<String>() }),
            None,
        );
    }
}
