//! Letters that lead to pages of the server.

use ruma::UserId;

use crate::{
    account::{Begun, NewProof, ProofOf, token_hash},
    http::{App, Failure},
    mail::{Letter, MailError},
};

/// The action of the account page to which the letters of its users lead.
pub(super) const CONFIRM_ADDRESS: &str = "confirm_address";
/// Addresses of a user to which news of their account go.
const LETTERS_OF_NEWS_MAX: usize = 5;
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
    let begun = app.accounts.begin_proof(new).await?;
    let Begun { sid, address, code: Some(code), .. } = begun.clone() else { return Ok(()) };
    if app.throttle.admit_letter(&address).is_err() {
        tracing::info!("too many letters to one address are asked for");
        return Ok(app.accounts.letter_failed(&begun).await?);
    }
    let query = serde_html_form::to_string([("sid", &sid), ("code", &code), ("next", &next)]);
    let link = format!("{}?{}", site.url(page), query.map_err(Failure::internal)?);
    let sent = post.send(letter(app, address, (subject, what), &link)).await;
    settle(app, sent, &begun).await
}

/// What was not sent is sent when it is asked for again.
async fn settle(app: &App, sent: Result<(), MailError>, begun: &Begun) -> Result<(), Failure> {
    match sent {
        Ok(()) => Ok(()),
        Err(error) => {
            app.accounts.letter_failed(begun).await?;
            Err(Failure::internal(error))
        }
    }
}

fn letter(app: &App, to: String, (subject, what): (&str, &str), link: &str) -> Letter {
    let name = &app.server_name;
    let text = format!(
        "Somebody, hopefully you, wants to {what} on {name}.\n\nTo go on, open this page:\n\n{link}\n\n\
         If it was not you, do nothing: then nothing happens.\n"
    );
    Letter { to, subject: format!("{subject} {name}"), text, unsubscribe: None }
}

/// Sends a letter by which `user`, who has asked for it on the account page, adds `address` to their account, if it is
/// nobody's yet: which of the two is not told, not even by how long it takes.
pub(super) fn send_to_owner(app: &App, user: &UserId, address: String) {
    let (services, user) = (app.clone(), user.to_owned());
    app.tasks.spawn(async move {
        if let Err(failure) = write_to_owner(&services, &user, address).await {
            tracing::warn!("a letter could not be sent: {}", failure.message());
        }
    });
}

/// What stands for the secret of a client in what `user` proves on the account page. Nobody else's letter has it: whoever
/// is led to the page by a letter that somebody else has asked for adds nothing.
pub(super) fn secret_of(app: &App, user: &UserId) -> String {
    token_hash(&format!("address of {user} {}", app.registration_secret))
}

/// Tells `user` by letters that somebody who is known at a provider called `provider` signs in to their account from now on.
pub(super) fn tell_linked(app: &App, user: &UserId, provider: String) {
    let (services, user) = (app.clone(), user.to_owned());
    app.tasks.spawn(async move {
        if let Err(failure) = write_linked(&services, &user, &provider).await {
            tracing::warn!("a letter could not be sent: {}", failure.message());
        }
    });
}

async fn write_linked(app: &App, user: &UserId, provider: &str) -> Result<(), Failure> {
    let (Some(post), Some(site)) = (&app.post, app.oauth.site()) else { return Ok(()) };
    let name = &app.server_name;
    let text = format!(
        "Somebody, hopefully you, has connected the account {user} with one at {provider}, and can sign in by it.\n\n\
         If it was not you, set a new password, and disconnect it here:\n\n{}?action=identities\n",
        site.url("account")
    );
    for (to, _) in app.accounts.addresses(user).await?.into_iter().take(LETTERS_OF_NEWS_MAX) {
        let subject = format!("Another way to sign in to {name}");
        let letter = Letter { to, subject, text: text.clone(), unsubscribe: None };
        post.send(letter).await.map_err(Failure::internal)?;
    }
    Ok(())
}

async fn write_to_owner(app: &App, user: &UserId, address: String) -> Result<(), Failure> {
    let (Some(post), Some(site)) = (&app.post, app.oauth.site()) else { return Ok(()) };
    if app.accounts.user_of_address(&address).await?.is_some() {
        return Ok(());
    }
    // A later letter makes an earlier one void, which nobody but the user can have sent.
    let attempt = app.ports.clock.now_ms() / PERIOD_MS;
    let new = NewProof { of: ProofOf::Account, address, client_secret: secret_of(app, user), attempt };
    let begun = app.accounts.begin_proof(new).await?;
    let Begun { sid, address, code: Some(code), .. } = begun.clone() else { return Ok(()) };
    if app.throttle.admit_letter(&address).is_err() {
        tracing::info!("too many letters to one address are asked for");
        return Ok(app.accounts.letter_failed(&begun).await?);
    }
    let query = [("action", CONFIRM_ADDRESS), ("sid", &*sid), ("code", &*code)];
    let query = serde_html_form::to_string(query).map_err(Failure::internal)?;
    let link = format!("{}?{query}", site.url("account"));
    let what = ("Confirm your address for", "add this address to an account");
    let sent = post.send(letter(app, address, what, &link)).await;
    settle(app, sent, &begun).await
}
