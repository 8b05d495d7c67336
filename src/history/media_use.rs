//! Which files are used by which events, so that files go with the last event that shows them.
//!
//! It is written down which events show them. A file that was shown by what is gone is let go: whoever keeps files finds
//! that row, and looks whether it is still used.

use std::collections::BTreeSet;

use memchr::memmem;
use ruma::{OwnedServerName, ServerName};

use super::{
    StoredEvent,
    tables::{MEDIA_LET_GO, MEDIA_USES},
};
use crate::log::Commit;

/// A file: its server and its media id.
pub type MediaAddress = (OwnedServerName, String);

impl StoredEvent {
    /// Has `commit` write down which files the event shows; `server` is this one.
    pub fn use_media(&self, server: &ServerName, commit: &mut Commit) {
        for (of, id) in addresses(self.pdu.content().get()) {
            let key = use_key(server, (&of, &id));
            commit.put(&MEDIA_USES, &(key, self.pdu.event_id().to_owned()), &());
        }
    }

    /// Has `commit` let the files go that the event shows.
    pub fn let_media_go(&self, server: &ServerName, commit: &mut Commit) {
        for (of, id) in addresses(self.pdu.content().get()) {
            let key = use_key(server, (&of, &id));
            commit.delete(&MEDIA_USES, &(key, self.pdu.event_id().to_owned()));
            commit.put(&MEDIA_LET_GO, &(of, id), &self.pdu.sender().to_owned());
        }
    }

    /// Whether the event shows any file.
    #[must_use]
    pub fn has_media(&self) -> bool {
        !addresses(self.pdu.content().get()).is_empty()
    }
}

/// By what uses of a file are found; `server` is this one, whose files are named by their ids alone. No id has a slash in it.
#[must_use]
pub fn use_key(server: &ServerName, (of, id): (&ServerName, &str)) -> String {
    match of == server {
        true => String::from(id),
        false => format!("{of}/{id}"),
    }
}

/// The addresses `mxc://SERVER/ID` anywhere in a text of canonical JSON.
#[must_use]
pub fn addresses(text: &str) -> BTreeSet<MediaAddress> {
    const SCHEME: &str = "mxc://";
    let mut found = BTreeSet::new();
    for at in memmem::find_iter(text.as_bytes(), SCHEME) {
        let rest = text.get(at + SCHEME.len()..).unwrap_or_default();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:[]/".contains(c)));
        let address = &rest[..end.unwrap_or(rest.len())];
        if let Some((server, id)) = address.split_once('/')
            && let Ok(server) = ServerName::parse(server)
            && !id.is_empty()
            && !id.contains('/')
        {
            found.insert((server, String::from(id)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> =
            addresses(text).into_iter().map(|(server, id)| format!("{server}/{id}")).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn addresses_are_found_wherever_they_are() {
        check(r#"{"url":"mxc://a.org/x"}"#, &["a.org/x"]);
        check(
            r#"{"file":{"url":"mxc://a.org:8448/X_-1"},"info":{"thumbnail_url":"mxc://b/y"}}"#,
            &["a.org:8448/X_-1", "b/y"],
        );
        check(r#"{"body":"see mxc://a/b, and mxc://a/b"}"#, &["a/b"]);
        check(r#"{"body":"mxc:// mxc:///x mxc://a mxc://a/ mxc://a/b/c http://a/b"}"#, &[]);
    }
}
