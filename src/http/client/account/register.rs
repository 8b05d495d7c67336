//! `POST /_matrix/client/v3/register`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use ruma::{
    OwnedUserId,
    api::{
        client::account::register::{
            LoginType, RegistrationKind,
            v3::{Request, Response},
        },
        error::ErrorKind,
    },
};

use crate::{
    account::{NewDevice, NewSession, NewUser, Session, Shown},
    appservice::Appservice,
    http::{App, Failure, Peer, throttle::network},
};

pub(super) async fn handle(app: App, peer: Peer, request: Request) -> Result<Response, Failure> {
    match request.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            // The specification has everything else ignored.
            let session = app.accounts.register_guest(request.initial_device_display_name).await?;
            return Ok(answer(session));
        }
        _ => return Err(Failure::invalid_param("`kind` is `user` or `guest`")),
    }
    match &request.login_type {
        None => {
            let guest = check_newcomer(&app, &request).await?;
            let from = peer.ip.map(network);
            let shown = app.accounts.authorize_newcomer(request.auth.as_ref(), from).await?;
            match guest {
                Some(guest) => upgrade(&app, &guest, (request, &shown)).await,
                None => make(&app, request, &shown).await,
            }
        }
        Some(LoginType::ApplicationService) => {
            let appservice = peer.appservice.as_deref().ok_or_else(Failure::missing_token)?;
            check_own(&app, appservice, &request).await?;
            make(&app, request, &Shown::default()).await
        }
        Some(_) => Err(Failure::bad_request(ErrorKind::Unknown, "This login type is not supported")),
    }
}

/// Whether the account can be made, as far as that is known in advance; the guest whose account it is now.
async fn check_newcomer(app: &App, request: &Request) -> Result<Option<OwnedUserId>, Failure> {
    app.accounts.check_registration()?;
    if let Some(token) = &request.guest_access_token {
        let username =
            request.username.as_deref().ok_or_else(|| Failure::missing_param("`username` is missing"))?;
        return Ok(Some(app.accounts.guest_of(token, username).await?));
    }
    if let Some(username) = &request.username {
        let user = app.accounts.available(username).await?;
        if app.appservices.keeps_user(&user, None) {
            return Err(Failure::exclusive());
        }
    }
    Ok(None)
}

/// Makes an ordinary account of a guest's, whose sessions end with it.
async fn upgrade(
    app: &App,
    guest: &OwnedUserId,
    (request, shown): (Request, &Shown),
) -> Result<Response, Failure> {
    let password = request.password.as_deref();
    if request.inhibit_login {
        app.accounts.upgrade_guest(guest, password, shown).await?;
        app.devices.remove_all(guest, None).await?;
        return Ok(Response::new(guest.clone()));
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshes: request.refresh_token,
    };
    // There is no way back to the guest.
    let NewDevice { device_id, display_name, refreshes } = app.accounts.check_device(device)?;
    app.accounts.upgrade_guest(guest, password, shown).await?;
    let new = NewSession { user_id: guest.clone(), device_id, display_name, refreshes, client: None };
    let session = app.accounts.start_session(new).await?;
    app.devices.remove_all(guest, Some(&session.device_id)).await?;
    Ok(answer(session))
}

/// Whether an application service may make this account.
///
/// <https://spec.matrix.org/v1.19/application-service-api/#server-admin-style-permissions>
async fn check_own(app: &App, appservice: &Appservice, request: &Request) -> Result<(), Failure> {
    let username =
        request.username.as_deref().ok_or_else(|| Failure::missing_param("`username` is missing"))?;
    let user = app.accounts.available(username).await?;
    if !appservice.owns(&user) || app.appservices.keeps_user(&user, Some(appservice)) {
        return Err(Failure::exclusive());
    }
    match appservice.registration.makes_devices() && !request.inhibit_login {
        true => Err(Failure::custom(
            http::StatusCode::BAD_REQUEST,
            "M_APPSERVICE_LOGIN_UNSUPPORTED",
            "The application service makes devices by itself: `inhibit_login` must be true",
        )),
        false => Ok(()),
    }
}

async fn make(app: &App, request: Request, shown: &Shown) -> Result<Response, Failure> {
    let new = NewUser { username: request.username, password: request.password, admin: false };
    if request.inhibit_login {
        return Ok(Response::new(app.accounts.create_invited(new, shown).await?));
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshes: request.refresh_token,
    };
    let session = app.accounts.register_invited((new, shown), device).await?;
    Ok(answer(session))
}

fn answer(session: Session) -> Response {
    let mut response = Response::new(session.user_id);
    response.device_id = Some(session.device_id);
    response.access_token = Some(session.access_token);
    response.refresh_token = session.refresh_token;
    response.expires_in = session.expires_in;
    response
}
