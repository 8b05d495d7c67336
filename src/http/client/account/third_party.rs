//! Third-party identifiers: `/_matrix/client/v3/account/3pid/…` and every `requestToken`.
//!
//! Mail addresses are kept where there is a mail server to prove them by; otherwise, and for telephone numbers, all of
//! these answer the same: no. The capability `m.3pid_changes` says so in advance. Addresses are bound at those identity
//! servers only that the operator names.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information>

use axum::response::IntoResponse;
use http::{Method, StatusCode};
use ruma::api::{
    IncomingRequest,
    client::account::{
        ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid, get_3pids,
        request_3pid_management_token_via_email as manage_email,
        request_3pid_management_token_via_msisdn as manage_msisdn,
        request_password_change_token_via_email as password_email,
        request_password_change_token_via_msisdn as password_msisdn,
        request_registration_token_via_email as register_email,
        request_registration_token_via_msisdn as register_msisdn, unbind_3pid,
    },
    client::uiaa::AuthData,
    error::ErrorKind,
};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedSessionId, UInt,
    thirdparty::{Medium, ThirdPartyIdentifier, ThirdPartyIdentifierInit},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    account::{AccountError, AddressRow, Begun, Caller, NewProof, ProofOf, Target, Verified},
    http::{Access, Anonymous, App, Call, Failure, Routes, identity::removal, prove},
    identity::{Address, Desk, Unbound},
    mail::Letter,
};

/// The paths of the list; a `POST` to them is the older way to add an identifier.
const ALL: [&str; 2] = ["/_matrix/client/r0/account/3pid", "/_matrix/client/v3/account/3pid"];

/// What somebody proves who adds an address, by whichever way.
const ADD: &str = "account/3pid/add";

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(list);
    for path in ALL {
        // ruma has no type for it.
        routes.raw(Method::POST, path, Access::Required, add_old);
    }
    routes.add(add);
    routes.add(bind);
    routes.add(delete);
    routes.add(unbind);
    routes.add(for_account);
    routes.add(refuse_token::<manage_msisdn::v3::Request>);
    routes.add(for_password);
    routes.add(refuse_token::<password_msisdn::v3::Request>);
    routes.add(for_registration);
    routes.add(refuse_token::<register_msisdn::v3::Request>);
}

async fn list(
    app: App,
    caller: Caller,
    _: get_3pids::v3::Request,
) -> Result<get_3pids::v3::Response, Failure> {
    let shown = |(address, row): (String, AddressRow)| {
        let time = |ms: u64| MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap_or(UInt::MAX));
        let (validated_at, added_at) = (time(row.validated_ms), time(row.added_ms));
        ThirdPartyIdentifier::from(ThirdPartyIdentifierInit {
            address,
            medium: Medium::Email,
            validated_at,
            added_at,
        })
    };
    let addresses = app.accounts.addresses(&caller.user_id).await?;
    Ok(get_3pids::v3::Response::new(addresses.into_iter().map(shown).collect()))
}

/// The older way to add an address. The specification asks for no proof here; but whoever has an access token alone
/// would get the account by it, with an address of theirs to which another password is sent.
#[derive(Deserialize)]
struct Added {
    three_pid_creds: Creds,
    auth: Option<AuthData>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Creds {
    sid: String,
    client_secret: String,
}

async fn add_old(app: App, call: Call) -> Result<axum::response::Response, Failure> {
    let Added { three_pid_creds, auth } = call.json::<Added>()?;
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    if app.post.is_none() {
        return Err(unchangeable());
    }
    let auth = (auth.as_ref(), Target::of(&three_pid_creds.sid));
    let verified = prove(&app, (ADD, &caller), auth).await?;
    keep(&app, &verified, (&three_pid_creds.sid, &three_pid_creds.client_secret)).await?;
    Ok(axum::Json(json!({})).into_response())
}

async fn add(
    app: App,
    caller: Caller,
    request: add_3pid::v3::Request,
) -> Result<add_3pid::v3::Response, Failure> {
    let auth = (request.auth.as_ref(), Target::of(&request.sid));
    let verified = prove(&app, (ADD, &caller), auth).await?;
    keep(&app, &verified, (request.sid.as_str(), request.client_secret.as_str())).await?;
    Ok(add_3pid::v3::Response::new())
}

async fn keep(app: &App, verified: &Verified, creds: (&str, &str)) -> Result<(), Failure> {
    if app.post.is_none() {
        return Err(unchangeable());
    }
    let proved = app.accounts.proved(ProofOf::Account, creds).await?;
    let proved = proved.ok_or(AccountError::AddressNotProved)?;
    Ok(app.accounts.add_address_by(verified, &proved).await?)
}

async fn delete(
    app: App,
    caller: Caller,
    request: delete_3pid::v3::Request,
) -> Result<delete_3pid::v3::Response, Failure> {
    if app.post.is_none() || request.medium != Medium::Email {
        return Err(unchangeable());
    }
    // As the capability `m.3pid_changes` says.
    if app.accounts.is_oauth_session(&caller).await? {
        return Err(AccountError::AccountPage.into());
    }
    app.accounts.remove_address(&caller.user_id, &request.address).await?;
    if !app.identity.is_on() {
        // It is bound at no identity server, which the specification calls a success.
        return Ok(delete_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::Success));
    }
    let address = Address::new(request.medium, &request.address)?;
    let unbound = app.identity.unbind(&caller.user_id, &address, request.id_server.as_deref()).await;
    let unbound = unbound.unwrap_or_else(|error| {
        // The address itself is gone from here, whatever is kept elsewhere.
        tracing::info!(user.id = %caller.user_id, %error, "a removed address stays bound");
        Unbound::Unsupported
    });
    Ok(delete_3pid::v3::Response::new(removal(unbound)))
}

async fn bind(
    app: App,
    caller: Caller,
    request: bind_3pid::v3::Request,
) -> Result<bind_3pid::v3::Response, Failure> {
    if !app.identity.is_on() {
        return Err(unchangeable());
    }
    // Once it is bound there, that must be remembered here.
    let binding = app.tasks.spawn({
        let app = app.clone();
        async move {
            let at = &request.identity_server_info;
            let desk = Desk { server: &at.id_server, token: &at.id_access_token };
            let session = (request.sid.as_str(), request.client_secret.as_str());
            app.identity.bind(&caller.user_id, desk, session).await
        }
    });
    binding.await.map_err(Failure::internal)??;
    Ok(bind_3pid::v3::Response::new())
}

async fn unbind(
    app: App,
    caller: Caller,
    request: unbind_3pid::v3::Request,
) -> Result<unbind_3pid::v3::Response, Failure> {
    if !app.identity.is_on() {
        return Err(unchangeable());
    }
    let address = Address::new(request.medium, &request.address)?;
    let unbound = app.identity.unbind(&caller.user_id, &address, request.id_server.as_deref()).await?;
    Ok(unbind_3pid::v3::Response::new(removal(unbound)))
}

async fn for_account(
    app: App,
    request: manage_email::v3::Request,
) -> Result<manage_email::v3::Response, Failure> {
    let (client_secret, attempt) = (request.client_secret.to_string(), request.send_attempt.into());
    let address = request.email;
    let new = NewProof { of: ProofOf::Account, address, client_secret, attempt };
    Ok(manage_email::v3::Response::new(write(&app, new).await?))
}

async fn for_registration(
    app: App,
    request: register_email::v3::Request,
) -> Result<register_email::v3::Response, Failure> {
    if app.post.is_none() {
        return Err(no_mail());
    }
    let denied = |error: AccountError| {
        Failure::new(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, error.to_string())
    };
    app.accounts.check_newcomer_address().map_err(denied)?;
    let (client_secret, attempt) = (request.client_secret.to_string(), request.send_attempt.into());
    let address = request.email;
    let new = NewProof { of: ProofOf::Registration, address, client_secret, attempt };
    Ok(register_email::v3::Response::new(write(&app, new).await?))
}

async fn for_password(
    app: App,
    request: password_email::v3::Request,
) -> Result<password_email::v3::Response, Failure> {
    let (client_secret, attempt) = (request.client_secret.to_string(), request.send_attempt.into());
    let address = request.email;
    let new = NewProof { of: ProofOf::Password, address, client_secret, attempt };
    Ok(password_email::v3::Response::new(write(&app, new).await?))
}

/// Has a letter sent that proves an address; the id of the session.
async fn write(app: &App, new: NewProof) -> Result<OwnedSessionId, Failure> {
    let (Some(post), Some(site)) = (&app.post, app.oauth.site()) else { return Err(no_mail()) };
    let owner = app.accounts.user_of_address(&new.address).await?;
    let what = match (new.of, owner) {
        (ProofOf::Password, None) => return Err(AccountError::AddressUnknown.into()),
        (ProofOf::Password, Some(_)) => "set a new password",
        (ProofOf::Account | ProofOf::Registration, Some(_)) => return Err(AccountError::AddressInUse.into()),
        (ProofOf::Account, None) => "add this address to an account",
        (ProofOf::Registration, None) => "make an account with this address",
    };
    let begun = app.accounts.begin_proof(new).await?;
    let Begun { sid, address, code, .. } = begun.clone();
    if let Some(code) = code {
        if let Err(early) = app.throttle.admit_letter(&address) {
            app.accounts.letter_failed(&begun).await?;
            return Err(early);
        }
        let name = &app.server_name;
        let link = format!("{}?sid={sid}&code={code}", site.url("mail"));
        let text = format!(
            "Somebody, hopefully you, wants to {what} on {name}.\n\nTo confirm it, open this page:\n\n{link}\n\n\
             If it was not you, do nothing: then nothing happens.\n"
        );
        let subject = format!("Confirm your address for {name}");
        let letter = Letter { to: address, subject, text, unsubscribe: None };
        if let Err(error) = post.send(letter).await {
            app.accounts.letter_failed(&begun).await?;
            return Err(Failure::internal(error));
        }
    }
    OwnedSessionId::try_from(sid).map_err(Failure::internal)
}

fn no_mail() -> Failure {
    let message = "This server sends neither mail nor messages";
    Failure::bad_request(ErrorKind::ThreepidMediumNotSupported, message)
}

fn unchangeable() -> Failure {
    Failure::forbidden("Third-party identifiers cannot be changed on this server")
}

async fn refuse_token<R>(_: App, _: R) -> Result<R::OutgoingResponse, Failure>
where
    R: IncomingRequest,
    R::Authentication: Anonymous,
{
    Err(no_mail())
}
