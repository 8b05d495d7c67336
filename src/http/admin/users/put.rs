//! `PUT /_synapse/admin/v2/users/{userId}`: makes an account, or changes one; 201 when it is new.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{admit, get, user};
use crate::{
    account::NewUser,
    http::{
        App, Call, Failure,
        client::{account::deactivate::deactivate, profile},
    },
};

/// What is to be so; what is not said stays as it is.
#[derive(Default, Deserialize)]
struct Asked {
    password: Option<String>,
    /// Whether another password logs every device out.
    logout_devices: Option<bool>,
    displayname: Option<String>,
    avatar_url: Option<String>,
    admin: Option<bool>,
    locked: Option<bool>,
    suspended: Option<bool>,
    deactivated: Option<bool>,
    #[serde(default)]
    erase: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Asked = call.json()?;
    let user = user(&app, &call)?;
    let is_own = call.caller.as_ref().is_some_and(|caller| caller.user_id == user);
    let takes = asked.admin == Some(false) || asked.locked == Some(true) || asked.suspended == Some(true);
    if is_own && (takes || asked.deactivated == Some(true)) {
        return Err(Failure::invalid_param("Nobody can do this to their own account"));
    }
    let before = app.accounts.user(&user).await?;
    if before.as_ref().is_some_and(|row| row.deactivated) {
        return Err(Failure::invalid_param("The account was deactivated; that is for good"));
    }
    let is_new = before.is_none();
    match is_new {
        true => {
            let username = Some(user.localpart().to_owned());
            let new = NewUser { username, password: asked.password.clone(), admin: false };
            app.accounts.create_user(new).await?;
        }
        false => {
            if let Some(password) = &asked.password {
                app.accounts.set_password(&user, password).await?;
                if asked.logout_devices.unwrap_or(true) {
                    app.devices.remove_all(&user, None).await?;
                }
            }
        }
    }
    change(&app, &user, &asked).await?;
    let told = get::known(&app, &user).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(told)).into_response())
}

async fn change(app: &App, user: &ruma::UserId, asked: &Asked) -> Result<(), Failure> {
    for (name, value) in [("displayname", &asked.displayname), ("avatar_url", &asked.avatar_url)] {
        if let Some(text) = value {
            let value = (!text.is_empty()).then(|| Value::from(text.as_str()));
            profile::change(app, user, name, value).await?;
        }
    }
    let Asked { admin, locked, suspended, .. } = *asked;
    if admin.is_some() || locked.is_some() || suspended.is_some() {
        let change = |row: &mut crate::account::User| {
            row.admin = admin.unwrap_or(row.admin);
            row.locked = locked.unwrap_or(row.locked);
            row.suspended = suspended.unwrap_or(row.suspended);
        };
        app.accounts.change_user(user, change).await?;
    }
    if asked.deactivated == Some(true) {
        deactivate(app, user.to_owned(), asked.erase).await?;
    }
    Ok(())
}
