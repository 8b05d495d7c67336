//! `POST /_matrix/client/v3/register`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use ruma::api::{
    client::account::register::{
        RegistrationKind,
        v3::{Request, Response},
    },
    error::ErrorKind,
};

use crate::{
    account::{NewDevice, NewUser, Purpose},
    http::{App, Failure},
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    match request.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            let message = "Guests are not let in";
            return Err(Failure::new(http::StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message));
        }
        _ => return Err(Failure::invalid_param("`kind` is `user` or `guest`")),
    }
    if request.login_type.is_some() {
        return Err(Failure::bad_request(ErrorKind::Unknown, "This login type is not supported"));
    }
    app.accounts.check_registration()?;
    if let Some(username) = &request.username {
        app.accounts.available(username).await?;
    }
    app.accounts.authorize(&Purpose::Register, request.auth.as_ref()).await?;
    let new = NewUser { username: request.username, password: request.password, admin: false };
    if request.inhibit_login {
        return Ok(Response::new(app.accounts.create_user(new).await?));
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshes: request.refresh_token,
    };
    let session = app.accounts.register(new, device).await?;
    let mut response = Response::new(session.user_id);
    response.device_id = Some(session.device_id);
    response.access_token = Some(session.access_token);
    response.refresh_token = session.refresh_token;
    response.expires_in = session.expires_in;
    Ok(response)
}
