//! Has somebody who is logged in prove that it is them, before what cannot be undone.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use ruma::api::client::uiaa::AuthData;

use super::{App, Failure, Peer, throttle::Class};
use crate::account::{Caller, Target, Verified};

/// Passes when `auth` completes what `operation` asks of its caller. `target` is what else the request says: what has
/// been proved for one request is not proved for another. What comes of it is what the caller has shown; whatever would
/// undo another password that the user gets at this moment names it.
///
/// # Errors
/// 401 with what is missing; 429 after too many passwords; 403 for what sessions of the OAuth 2.0 API leave to the
/// account page.
pub(super) async fn prove(
    app: &App,
    (operation, caller): (&'static str, &Caller),
    (auth, target): (Option<&AuthData>, Target),
) -> Result<Verified, Failure> {
    if let Some(AuthData::Password(_)) = auth {
        // Guesses are not cheaper here than at the login.
        app.throttle.admit(Class::Login, Some(caller), &Peer::default())?;
    }
    let page = app.oauth.site().map(|site| site.url("account"));
    Ok(app.accounts.authorize_caller((operation, target), caller, auth, page.as_deref()).await?)
}
