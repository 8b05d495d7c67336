//! Letters by mail: to whom, about what, and over which server they go.
//!
//! Owns: the connection to a mail server (SMTP). May use: `types`, `limits`, `store` (for the shape of futures). Start
//! reading at [`Post`]. Invariants: letters go over TLS whose certificate has been checked, unless the mail server is
//! on the same machine; what somebody else has written is never part of a header.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::authentication::Credentials,
};

use crate::{limits::MAIL_SECONDS_MAX, store::BoxFuture};

/// A letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The address that it goes to.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// The address of a page by which there are no more of this kind; mail programs show a button for it (RFC 8058).
    pub unsubscribe: Option<String>,
}

/// `List-Unsubscribe` (RFC 2369).
#[derive(Clone)]
struct Unsubscribe(String);

impl Header for Unsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.trim_matches(['<', '>']).to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), format!("<{}>", self.0))
    }
}

/// `List-Unsubscribe-Post` (RFC 8058).
#[derive(Clone)]
struct OneClick;

impl Header for OneClick {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), String::from("List-Unsubscribe=One-Click"))
    }
}

/// Why a letter cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// An address is not valid.
    #[error("the address is not valid: {0}")]
    Address(#[from] lettre::address::AddressError),
    /// The letter cannot be put together.
    #[error("the letter cannot be put together: {0}")]
    Letter(#[from] lettre::error::Error),
    /// The mail server cannot be reached or does not take it.
    #[error("the mail server does not take it: {0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
    /// The mail server does not answer in time.
    #[error("the mail server takes too long")]
    Timeout,
}

/// Takes letters to where they go.
pub trait Post: Send + Sync + 'static {
    /// Sends a letter; it has been handed over when this ends.
    fn send<'a>(&'a self, letter: Letter) -> BoxFuture<'a, Result<(), MailError>>;
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// TLS from the first byte.
    Tls,
    /// TLS after a greeting in the clear; nothing goes out without.
    Starttls,
    /// None: only for a mail server on the same machine.
    Plain,
}

/// Which mail server.
#[derive(Clone)]
pub struct Settings {
    /// Its host.
    pub host: String,
    /// Its port; without one, the usual one.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub protection: Protection,
    /// A name and a password there.
    pub login: Option<(String, String)>,
    /// Whom letters come from, as in `Lockstep <lockstep@example.org>`.
    pub from: String,
}

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Smtp {
    /// Prepares to use a mail server; it is not connected to yet.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn new(settings: &Settings) -> Result<Self, MailError> {
        let host = &settings.host;
        let builder = match settings.protection {
            Protection::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host)?,
            Protection::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host)?,
            Protection::Plain => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host),
        };
        let builder = match settings.port {
            Some(port) => builder.port(port),
            None => builder,
        };
        let builder = match &settings.login {
            Some((name, password)) => builder.credentials(Credentials::new(name.clone(), password.clone())),
            None => builder,
        };
        let timeout: Duration = MAIL_SECONDS_MAX;
        Ok(Self { transport: builder.timeout(Some(timeout)).build(), from: settings.from.parse()? })
    }
}

impl Post for Smtp {
    fn send<'a>(&'a self, letter: Letter) -> BoxFuture<'a, Result<(), MailError>> {
        Box::pin(async move {
            let Letter { to, subject, text, unsubscribe } = letter;
            let mut message = Message::builder()
                .from(self.from.clone())
                .to(Mailbox::new(None, to.parse()?))
                .subject(subject)
                .header(ContentType::TEXT_PLAIN);
            if let Some(url) = unsubscribe {
                message = message.header(Unsubscribe(url)).header(OneClick);
            }
            let message = message.body(text)?;
            // The time limit of the transport is for the connection alone.
            let sent = tokio::time::timeout(MAIL_SECONDS_MAX, self.transport.send(message)).await;
            sent.map_err(|_| MailError::Timeout)??;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{Letter, MailError, Post, Protection, Settings, Smtp};

    #[tokio::test(start_paused = true)]
    async fn a_mail_server_that_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let smtp = Smtp::new(&Settings {
            host: String::from("127.0.0.1"),
            port: Some(silent.local_addr().unwrap().port()),
            protection: Protection::Plain,
            login: None,
            from: String::from("lockstep@example.org"),
        })
        .unwrap();
        let letter = Letter { to: String::from("alice@example.org"), ..Letter::default() };
        let sent = smtp.send(letter).await;
        assert!(matches!(sent, Err(MailError::Timeout | MailError::Smtp(_))), "{sent:?}");
    }
}
