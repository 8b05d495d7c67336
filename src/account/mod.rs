//! Users, passwords, sessions and tokens, user-interactive authentication, profiles, account data,
//! filters, push rules as stored.
//!
//! Owns: the tables `User`, `Token`, `RefreshToken`, `TokenFamily`, `OpenIdToken`, `LoginToken`, `ProviderLink`, `ThirdParty`, `UserThirdParty`, `AddressProof`,
//! `UserLink`, `Device` (its row; its keys belong
//! to `device`), `DeviceSeen`, `Profile`, `ProfileChange`, `UserWord`, `AccountData` and `Filter`. May use: `types`, `limits`,
//! `config`, `store`, `log`. Start reading at [`Accounts`]. Invariants: passwords and tokens are stored only as hashes; a token is
//! looked up in the store at every request, so that one that was removed is out at once; account data
//! and the fact that announces it are one commit.

mod accounts;
mod address;
mod caller;
mod captcha;
mod data;
mod device;
mod error;
mod filter;
mod guest;
mod inheritance;
mod invites;
mod link;
mod list_change;
mod login_token;
mod measure;
mod openid;
mod password;
mod policy;
mod profile;
mod profile_news;
mod push_rules;
mod register;
mod registration_token;
mod session;
mod shared_secret;
mod stage;
mod tag;
mod token;
mod uia;
mod user;
mod verified;
mod words;

pub use accounts::{Accounts, Registration, RegistrationEmail, Settings};
pub use address::{AddressRow, Begun, NewProof, ProofOf, Proved};
pub use caller::{Caller, NO_DEVICE, Standing};
pub use captcha::{Captcha, CaptchaCheck};
pub use data::{DataChange, forget_data};
pub use device::{DEVICES, Device, DeviceClient, Family, Seen};
pub use error::AccountError;
pub use inheritance::Inheritance;
pub use invites::{INVITE_PERMISSION, InvitePermission, Verdict};
pub use link::Identity;
pub use list_change::{DEVICE_CHANGES, ListChange, read_change, tell_people};
pub use profile::{Profile, ProfileField};
pub use profile_news::ProfileNews;
pub use push_rules::check_push_rule;
pub use register::{NewUser, Shown};
pub use registration_token::RegistrationToken;
pub use session::{NewDevice, NewSession, Session};
pub use shared_secret::SharedSecretUser;
pub use stage::{Purpose, Stage, Target};
pub use token::{Ticket, TicketKey, hash as token_hash};
pub use user::{Acceptance, User};
pub use verified::Verified;
pub use words::{Face, USER_WORDS, words_of};

#[cfg(test)]
mod tests;
