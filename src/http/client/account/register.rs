//! `POST /_matrix/client/v3/register`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use ruma::api::{
    client::account::register::{
        LoginType, RegistrationKind,
        v3::{Request, Response},
    },
    error::ErrorKind,
};

use crate::{
    account::{NewDevice, NewUser},
    appservice::Appservice,
    http::{App, Failure, Peer},
};

pub(super) async fn handle(app: App, peer: Peer, request: Request) -> Result<Response, Failure> {
    match request.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            let message = "Guests are not let in";
            return Err(Failure::new(http::StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message));
        }
        _ => return Err(Failure::invalid_param("`kind` is `user` or `guest`")),
    }
    let token = match &request.login_type {
        None => {
            app.accounts.check_registration()?;
            if let Some(username) = &request.username {
                let user = app.accounts.available(username).await?;
                if app.appservices.keeps_user(&user, None) {
                    return Err(Failure::exclusive());
                }
            }
            app.accounts.authorize_newcomer(request.auth.as_ref()).await?
        }
        Some(LoginType::ApplicationService) => {
            let appservice = peer.appservice.as_deref().ok_or_else(Failure::missing_token)?;
            check_own(&app, appservice, &request).await?;
            None
        }
        Some(_) => {
            return Err(Failure::bad_request(ErrorKind::Unknown, "This login type is not supported"));
        }
    };
    make(&app, request, token.as_deref()).await
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

async fn make(app: &App, request: Request, token: Option<&str>) -> Result<Response, Failure> {
    let new = NewUser { username: request.username, password: request.password, admin: false };
    if request.inhibit_login {
        return Ok(Response::new(app.accounts.create_invited(new, token).await?));
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshes: request.refresh_token,
    };
    let session = app.accounts.register_invited((new, token), device).await?;
    let mut response = Response::new(session.user_id);
    response.device_id = Some(session.device_id);
    response.access_token = Some(session.access_token);
    response.refresh_token = session.refresh_token;
    response.expires_in = session.expires_in;
    Ok(response)
}
