//! `POST /_matrix/client/v3/login`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login>

use axum::body::Body;
use bytes::BytesMut;
use http::Method;
use ruma::{
    OwnedUserId, UserId,
    api::{
        OutgoingResponseExt,
        client::{
            session::login::v3::{LoginInfo, Request, Response},
            uiaa::UserIdentifier,
        },
        error::ErrorKind,
    },
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    account::{AccountError, NewDevice, NewSession, Session},
    appservice::Appservice,
    http::{Access, App, Call, Failure, Peer, Routes},
};

/// What every login has; ruma's type takes for granted that it is there.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    _login_type: IgnoredAny,
}

/// Adds the endpoint.
pub(super) fn route(routes: &mut Routes) {
    for path in ["/_matrix/client/r0/login", "/_matrix/client/v3/login"] {
        routes.raw(Method::POST, path, Access::Open, answer);
    }
}

async fn answer(app: App, call: Call) -> Result<axum::response::Response, Failure> {
    call.json::<Typed>()?;
    let given = call.decode::<Request>()?;
    let response = handle(app, given.peer, given.request).await?;
    let response = response.try_into_http_response::<BytesMut>().map_err(Failure::internal)?;
    Ok(response.map(|body| Body::from(body.freeze())))
}

async fn handle(app: App, peer: Peer, request: Request) -> Result<Response, Failure> {
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshes: request.refresh_token,
    };
    #[expect(deprecated, reason = "old clients name the user like this")]
    let user_id = match request.login_info {
        LoginInfo::Password(given) => {
            let named = match given.identifier {
                Some(UserIdentifier::Email(email)) => {
                    by_address(&app, &email.address, &given.password).await?.to_string()
                }
                identifier => named(identifier, given.user)?,
            };
            let user_id = user_id(&app, &named)?;
            let verified = app.accounts.check_password(&user_id, &given.password).await?;
            let session = app.accounts.start_session_by(&verified, device).await?;
            return Ok(respond(&app, &peer, session));
        }
        LoginInfo::ApplicationService(given) => {
            let appservice = peer.appservice.as_deref().ok_or_else(Failure::missing_token)?;
            let user_id = user_id(&app, &named(given.identifier, given.user)?)?;
            check_own(&app, appservice, &user_id).await?;
            user_id
        }
        LoginInfo::Token(given) => {
            let session = app.accounts.start_session_by_token(&given.token, device).await?;
            return Ok(respond(&app, &peer, session));
        }
        _ => return Err(Failure::bad_request(ErrorKind::Unknown, "This login type is not supported")),
    };
    let NewDevice { device_id, display_name, refreshes } = device;
    let new = NewSession { user_id, device_id, display_name, refreshes, client: None };
    let session = app.accounts.start_session(new).await?;
    Ok(respond(&app, &peer, session))
}

fn respond(app: &App, peer: &Peer, session: Session) -> Response {
    app.accounts.note_seen(&session.user_id, &session.device_id, peer.ip.map(|ip| ip.to_string()));
    let Session { user_id, device_id, access_token, refresh_token, expires_in } = session;
    let mut response = Response::new(user_id, access_token, device_id);
    response.refresh_token = refresh_token;
    response.expires_in = expires_in;
    response
}

/// The user whose address a login names. For nobody's the answer takes as long as for one whose password is wrong: who
/// has an account here is not to be told.
async fn by_address(app: &App, address: &str, password: &str) -> Result<OwnedUserId, Failure> {
    if let Some(user) = app.accounts.user_of_address(address).await? {
        return Ok(user);
    }
    drop(app.accounts.check_password(&user_id(app, "nobody")?, password).await);
    Err(AccountError::WrongPassword.into())
}

fn named(identifier: Option<UserIdentifier>, user: Option<String>) -> Result<String, Failure> {
    match (identifier, user) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Ok(identifier.user),
        (Some(_), _) => {
            Err(Failure::bad_request(ErrorKind::Unknown, "This kind of identifier is not supported"))
        }
        (None, Some(user)) => Ok(user),
        (None, None) => Err(Failure::missing_param("The user is missing")),
    }
}

/// Whether an application service may log in as this user.
///
/// <https://spec.matrix.org/v1.19/application-service-api/#server-admin-style-permissions>
async fn check_own(app: &App, appservice: &Appservice, user_id: &UserId) -> Result<(), Failure> {
    if appservice.registration.makes_devices() {
        let message = "The application service makes devices by itself";
        return Err(Failure::custom(
            http::StatusCode::BAD_REQUEST,
            "M_APPSERVICE_LOGIN_UNSUPPORTED",
            message,
        ));
    }
    if !app.appservices.may_act_as(appservice, user_id) {
        return Err(Failure::exclusive());
    }
    match app.accounts.user(user_id).await? {
        // Its token would be that of an administrator, which no application service is.
        Some(user) if user.admin => {
            Err(Failure::forbidden("An application service may not log an administrator in"))
        }
        Some(_) => Ok(()),
        None => Err(Failure::forbidden("The application service has not registered this user")),
    }
}

/// A user of this server by id or by the local part of one.
pub(in crate::http) fn user_id(app: &App, named: &str) -> Result<OwnedUserId, Failure> {
    let unknown = || Failure::forbidden("Invalid user name or password");
    let user_id =
        UserId::parse_with_server_name(named.to_lowercase(), &app.server_name).map_err(|_| unknown())?;
    match user_id.server_name() == app.server_name {
        true => Ok(user_id),
        false => Err(unknown()),
    }
}
