//! Letters that lead to pages of the server.

use crate::{
    account::{Begun, NewProof, ProofOf, token_hash},
    http::{App, Failure},
    mail::Letter,
};

/// One letter to an address in so long, in milliseconds.
const PERIOD_MS: u64 = 60 * 1_000;

/// Sends a letter in which `page` is named with what proves the address, if `address` is known for `of`. It is not told
/// whether it is: everybody can ask.
pub(super) fn send(app: &App, of: ProofOf, address: String, link: (&'static str, String)) {
    let services = app.clone();
    // Not even by how long it takes.
    app.tasks.spawn(async move {
        if let Err(failure) = write(&services, of, address, link).await {
            tracing::warn!("a letter could not be sent: {}", failure.message());
        }
    });
}

async fn write(
    app: &App,
    of: ProofOf,
    address: String,
    (page, next): (&'static str, String),
) -> Result<(), Failure> {
    let (Some(post), Some(site)) = (&app.post, app.oauth.site()) else { return Ok(()) };
    let is_known = app.accounts.user_of_address(&address).await?.is_some();
    let (subject, what) = match of {
        ProofOf::Password => ("Set a new password for", "set a new password"),
        _ => ("Make an account on", "make an account"),
    };
    if is_known != (of == ProofOf::Password) {
        return Ok(());
    }
    // Nobody shows the secret: it is the letter that proves. But nobody is to know it either. With one for each period,
    // no letter makes an earlier one void, which anybody could ask for.
    let period = app.ports.clock.now_ms() / PERIOD_MS;
    let client_secret = token_hash(&format!("pages {period} {}", app.registration_secret));
    let new = NewProof { of, address, client_secret, attempt: 1 };
    let Begun { sid, address, code } = app.accounts.begin_proof(new).await?;
    let Some(code) = code else { return Ok(()) };
    let query = serde_html_form::to_string([("sid", &sid), ("code", &code), ("next", &next)]);
    let link = format!("{}?{}", site.url(page), query.map_err(Failure::internal)?);
    let name = &app.server_name;
    let text = format!(
        "Somebody, hopefully you, wants to {what} on {name}.\n\nTo go on, open this page:\n\n{link}\n\n\
         If it was not you, do nothing: then nothing happens.\n"
    );
    let letter = Letter { to: address, subject: format!("{subject} {name}"), text, unsubscribe: None };
    post.send(letter).await.map_err(Failure::internal)
}
