//! The built-in OAuth 2.0 API: clients, authorisation and device codes, tokens for them, and browsers that are
//! signed in to the server's pages, and where two devices meet of which one signs the other in.
//!
//! Owns: the tables `OauthClient`, `OauthCode`, `OauthDeviceCode`, `OauthUserCode`, `BrowserSession`,
//! `Rendezvous`, `ProviderAway` and `ProviderNewcomer`. May use: `types`, `limits`, `store`, `log`, `peer` (for
//! providers of identities), `account`, `device`. Start reading at [`Oauth`]. Invariants: codes, cookies and
//! tokens are stored only as hashes, with the moment at which they end; a code is good for one client, one redirect
//! URI, one user, one device and whoever knows the verifier, and for nobody else; a code and the session that it
//! becomes are one commit; whoever may sign in is decided by `account`.

mod authorize;
mod browser;
mod client;
mod code;
mod device_code;
mod error;
mod provider;
mod redirect;
mod rendezvous;
mod scope;
mod service;
mod site;
mod token;

pub use authorize::{Authorization, AuthorizationParams, Misled, Prompt};
pub use browser::Browser;
pub use client::{Client, ClientMetadata};
pub use device_code::{DeviceAuthorization, DeviceCode};
pub use error::{Code, OauthError};
pub use provider::{Newcomer, ProviderError, ProviderSettings, Returned};
pub use rendezvous::{Rendezvous, Unwritten};
pub use scope::Scope;
pub use service::{Foundation, Oauth};
pub use site::{PAGES, Site};
pub use token::{Granted, TokenParams};

#[cfg(test)]
mod tests;
