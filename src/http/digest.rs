//! Letters about what a user has not read, and the proof that they want no more of them.

use std::{fmt::Write as _, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use ruma::{OwnedServerName, UserId};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    delivery::{Digest, DigestLine, Letters, TransportError},
    mail::{Letter, Post},
    oauth::Site,
    store::BoxFuture,
};

/// By the mail server.
pub(super) struct ByPost {
    pub(super) post: Arc<dyn Post>,
    pub(super) site: Site,
    pub(super) server_name: OwnedServerName,
    /// What nobody else knows.
    pub(super) secret: String,
    /// Whether letters quote what was said.
    pub(super) quotes: bool,
}

/// What is in the link by which `user` gets no more letters at `address`.
fn proof(secret: &str, user: &UserId, address: &str) -> String {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("unsubscribe\0{user}\0{address}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `given` is what was in the link.
pub(super) fn is_proof(secret: &str, (user, address): (&UserId, &str), given: &str) -> bool {
    let right = proof(secret, user, address);
    !right.is_empty() && bool::from(right.as_bytes().ct_eq(given.as_bytes()))
}

impl ByPost {
    fn letter(&self, digest: &Digest) -> Letter {
        let Digest { user, address, lines, more } = digest;
        let name = &self.server_name;
        let count = lines.len() + more;
        let query = serde_html_form::to_string([
            ("user", user.as_str()),
            ("address", address),
            ("token", &proof(&self.secret, user, address)),
        ]);
        let link = format!("{}?{}", self.site.url("unsubscribe"), query.unwrap_or_default());
        let mut text = format!("What {user} has not read on {name}:\n");
        let mut room = None;
        for line in lines {
            if room != Some(&line.room) {
                room = Some(&line.room);
                let shown = line.room_name.as_deref().unwrap_or("a room without a name");
                let _ = write!(text, "\nIn {shown}:\n");
            }
            let _ = writeln!(text, "  {}", self.line(line));
        }
        if *more > 0 {
            let _ = write!(text, "\nThere are {more} more.\n");
        }
        let _ = write!(
            text,
            "\n-- \nYou get this letter because an application has asked for it in your name. To get none any more, \
             open\n{link}\n"
        );
        let subject = match count {
            1 => format!("A new notification on {name}"),
            count => format!("{count} new notifications on {name}"),
        };
        Letter { to: address.clone(), subject, text, unsubscribe: Some(link) }
    }

    fn line(&self, line: &DigestLine) -> String {
        match (&line.text, line.is_invite) {
            (_, true) => format!("{} invites you", line.sender),
            (Some(said), false) if self.quotes => format!("{}: {said}", line.sender),
            _ => format!("{} has written something", line.sender),
        }
    }
}

impl Letters for ByPost {
    fn send<'a>(&'a self, digest: Digest) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let failed = |message: String| TransportError { message, retry_after: None, is_refusal: false };
            self.post.send(self.letter(&digest)).await.map_err(|error| failed(error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::{owned_room_id, owned_server_name, owned_user_id, user_id};

    use super::{ByPost, is_proof};
    use crate::{
        delivery::{Digest, DigestLine},
        mail::{Letter, MailError, Post},
        oauth::Site,
        store::BoxFuture,
    };

    struct Nowhere;

    impl Post for Nowhere {
        fn send<'a>(&'a self, _: Letter) -> BoxFuture<'a, Result<(), MailError>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn letter(quotes: bool) -> Letter {
        let by = ByPost {
            post: Arc::new(Nowhere),
            site: Site::new("https://matrix.example.org").unwrap(),
            server_name: owned_server_name!("example.org"),
            secret: "secret".into(),
            quotes,
        };
        let line = |text: Option<&str>, is_invite| DigestLine {
            room: owned_room_id!("!a:example.org"),
            room_name: Some("Kitchen".into()),
            sender: "Bob".into(),
            text: text.map(Into::into),
            is_invite,
        };
        by.letter(&Digest {
            user: owned_user_id!("@alice:example.org"),
            address: "alice@example.org".into(),
            lines: vec![line(Some("hello"), false), line(None, false), line(None, true)],
            more: 4,
        })
    }

    #[test]
    fn a_letter_tells_what_was_not_read_and_how_to_get_none() {
        let told = letter(true);
        assert_eq!((&*told.to, &*told.subject), ("alice@example.org", "7 new notifications on example.org"));
        for part in ["In Kitchen:\n  Bob: hello\n  Bob has written something\n  Bob invites you\n", "4 more"]
        {
            assert!(told.text.contains(part), "{part} is not in {}", told.text);
        }
        let link = told.unsubscribe.unwrap();
        assert!(told.text.contains(&link));
        let token = link.split("token=").nth(1).unwrap();
        let alice = user_id!("@alice:example.org");
        assert!(is_proof("secret", (alice, "alice@example.org"), token));
        assert!(!is_proof("secret", (alice, "other@example.org"), token));
        assert!(!is_proof("other", (alice, "alice@example.org"), token));
        assert!(!is_proof("secret", (user_id!("@bob:example.org"), "alice@example.org"), token));
        assert!(!is_proof("secret", (alice, "alice@example.org"), ""));
    }

    #[test]
    fn a_letter_quotes_nothing_where_the_operator_wants_that() {
        assert!(!letter(false).text.contains("hello"));
    }
}
