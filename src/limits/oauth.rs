//! Numbers of signing in: the OAuth 2.0 API, the server's pages, login tokens.

use std::time::Duration;

/// How long an authorisation code is good, in milliseconds (RFC 6749, 4.1.2: at most ten minutes; ours: a phone
/// may have to start the client anew).
pub const OAUTH_CODE_MS: u64 = 5 * 60 * 1_000;
/// How long a device code is good, in milliseconds (ours; RFC 8628 shows 30 minutes).
pub const OAUTH_DEVICE_CODE_MS: u64 = 15 * 60 * 1_000;
/// How often a client may ask whether a device code has been granted, in seconds (RFC 8628, 3.2: the default).
pub const OAUTH_POLL_SECONDS: u64 = 5;
/// Device codes whose last question is remembered (ours; about 150 bytes each).
pub const OAUTH_POLLS_MAX: usize = 10_000;
/// Characters of the code that a user types (RFC 8628, 6.1: eight out of twenty).
pub const OAUTH_USER_CODE_CHARS: usize = 8;
/// How long a browser is signed in to the server's pages, in milliseconds (ours).
pub const BROWSER_SESSION_MS: u64 = 24 * 3_600 * 1_000;
/// How long ago a user may have shown who they are for what cannot be undone, in milliseconds (ours).
pub const BROWSER_PROOF_MS: u64 = 10 * 60 * 1_000;
/// How long cross-signing keys may be replaced once it was allowed, in milliseconds (ours; as Synapse has it).
pub const CROSS_SIGNING_RESET_MS: u64 = 10 * 60 * 1_000;
/// After how long a client is forgotten that nobody uses, in milliseconds (ours).
pub const OAUTH_CLIENT_KEEP_MS: u64 = 90 * 24 * 3_600 * 1_000;
/// The same of a client by which nobody has ever signed in, in milliseconds (ours; the browser may stay at the page, and the
/// letter of a newcomer is good for a day; that it is registered again is noted after a third of this).
pub const OAUTH_CLIENT_UNUSED_KEEP_MS: u64 = 36 * 3_600 * 1_000;
/// Clients that are new within an hour (ours; most are known already. With the one above and below it bounds what strangers
/// fill: 192 MiB).
pub const OAUTH_CLIENTS_PER_HOUR: u32 = 1_000;
/// Longest description of a client, in bytes (ours; they have about 500).
pub const OAUTH_CLIENT_BYTES_MAX: usize = 8 << 10;
/// How exactly it is known when a client was last used, in milliseconds (ours).
pub const OAUTH_CLIENT_USED_MS: u64 = 24 * 3_600 * 1_000;
/// Clients, or device codes, that are looked at when another one comes, to remove what is old (ours).
pub const OAUTH_SWEEP_ROWS: usize = 20;
/// Redirect URIs of a client (ours).
pub const OAUTH_REDIRECTS_MAX: usize = 20;
/// Longest URI of a client, in bytes (ours).
pub const OAUTH_URI_BYTES_MAX: usize = 2_048;
/// Longest name of a client, in characters (ours).
pub const OAUTH_NAME_CHARS_MAX: usize = 100;
/// Longest address, in bytes, to which a browser goes after it has been at a provider (ours; with the longest `state`).
pub const OAUTH_NEXT_BYTES_MAX: usize = 8 << 10;
/// Longest `state` of an authorisation request, in bytes (ours).
pub const OAUTH_STATE_BYTES_MAX: usize = 4_096;
/// How long a login token is good, in milliseconds (client-server API, "login/get_token": recommended).
pub const LOGIN_TOKEN_MS: u64 = 2 * 60 * 1_000;
/// How long a rendezvous session lasts after it was last written to, in milliseconds (MSC4388: at least 120 seconds).
pub const RENDEZVOUS_IDLE_MS: u64 = 2 * 60 * 1_000;
/// How long a rendezvous session lasts at most, in milliseconds (ours; the user has to sign in meanwhile).
pub const RENDEZVOUS_MS: u64 = 10 * 60 * 1_000;
/// Largest payload of a rendezvous session, in bytes (MSC4108 and MSC4388: at least 4 KiB).
pub const RENDEZVOUS_BYTES_MAX: usize = 4 << 10;
/// Rendezvous sessions that are begun within a minute (ours; with the one above it bounds what strangers fill).
pub const RENDEZVOUS_PER_MINUTE: u32 = 1_000;
/// How long metadata and keys of a provider of identities are believed, in milliseconds (ours).
pub const PROVIDER_KNOWN_MS: u64 = 3_600 * 1_000;
/// How long a provider may take to answer (ours; a user waits).
pub const PROVIDER_SECONDS_MAX: Duration = Duration::from_secs(15);
/// Largest answer of a provider, in bytes (ours; key sets are the largest).
pub const PROVIDER_ANSWER_BYTES_MAX: usize = 256 << 10;
/// How far the clocks of a provider and this server may differ, in milliseconds (ours).
pub const PROVIDER_SKEW_MS: u64 = 60 * 1_000;
/// How long a browser may stay at a provider, in milliseconds (ours).
pub const PROVIDER_AWAY_MS: u64 = 15 * 60 * 1_000;
/// How long somebody may take to choose a user name, in milliseconds (ours).
pub const PROVIDER_NEWCOMER_MS: u64 = 30 * 60 * 1_000;
/// How long a letter is good that proves an address, in milliseconds (ours; mail may be slow).
pub const ADDRESS_PROOF_MS: u64 = 24 * 3_600 * 1_000;
/// Longest mail address, in bytes (RFC 5321, 4.5.3.1.3).
pub const ADDRESS_BYTES_MAX: usize = 254;
/// Proofs that are looked at when another one begins, to remove what is old (ours).
pub const ADDRESS_SWEEP_ROWS: usize = 20;
/// How long a mail server may take (ours; a client waits).
pub const MAIL_SECONDS_MAX: Duration = Duration::from_secs(20);
/// Time between two looks at all guests, whether they have been away for too long, in milliseconds (ours): it takes a
/// look at every account.
pub const GUESTS_LOOKED_AT_EVERY_MS: u64 = 12 * 60 * 60 * 1_000;
/// Characters of the name that a guest is given (ours).
pub const GUEST_NAME_CHARS: usize = 12;
/// How long the maker of a captcha may take to judge a solution (ours; a newcomer waits).
pub const CAPTCHA_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Largest judgement of a captcha, in bytes (ours).
pub const CAPTCHA_ANSWER_BYTES_MAX: usize = 16 << 10;
/// Largest solution of a captcha that is sent on, in bytes (ours; reCAPTCHA's have about 2 KiB).
pub const CAPTCHA_RESPONSE_BYTES_MAX: usize = 8 << 10;
/// How long something may stay unread before a letter is written about it, unless the operator says otherwise (ours; as
/// Synapse has it).
pub const LETTER_DELAY: Duration = Duration::from_secs(10 * 60);
/// The pause between two letters of which the first was not answered by reading, in milliseconds (ours; doubled with each
/// further one).
pub const LETTER_PAUSE_MS: u64 = 3_600 * 1_000;
/// The longest pause between two letters, in milliseconds (ours).
pub const LETTER_PAUSE_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// Notifications that a letter tells of one by one (ours; the rest is counted).
pub const LETTER_LINES_MAX: usize = 30;
/// Characters of what somebody says that go into a letter (ours).
pub const LETTER_TEXT_CHARS_MAX: usize = 200;
