//! `POST /_matrix/oauth2/account/device`: a device gets another name, or goes

use axum::response::Response;
use http::{Method, StatusCode};
use maud::html;
use ruma::OwnedDeviceId;
use serde::Deserialize;

use super::{Owner, overview::home};
use crate::{
    account::{Device, Seen},
    http::{
        App, Call, Failure, Routes,
        oauth::{
            page::{Page, hidden},
            reply::page_form,
        },
    },
};

#[derive(Deserialize)]
struct Form {
    csrf: String,
    device_id: OwnedDeviceId,
    #[serde(default)]
    name: String,
    change: String,
}

/// Adds the page.
pub(super) fn route(routes: &mut Routes) {
    routes.page(Method::POST, "/_matrix/oauth2/account/device", handle);
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Form { csrf, device_id, name, change } = page_form(&call)?;
    let owner = match Owner::of(&app, &call, &csrf).await? {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    match change.as_str() {
        "remove" => app.devices.remove(&owner.user_id, &[device_id]).await?,
        _ => app.devices.rename(&owner.user_id, &device_id, name.trim()).await?,
    }
    owner.back("org.matrix.devices_list")
}

/// Shows all devices.
pub(super) async fn list(app: &App, owner: &Owner) -> Result<Page, Failure> {
    let devices = app.devices.list(&owner.user_id).await?;
    let ids: Vec<_> = devices.iter().map(|(id, _)| id.clone()).collect();
    let seen = app.accounts.last_seen(&owner.user_id, &ids).await?;
    let now_ms = app.ports.clock.now_ms();
    let link = |id: &OwnedDeviceId| {
        let query =
            serde_html_form::to_string([("action", "org.matrix.device_view"), ("device_id", id.as_str())]);
        format!("{}?{}", owner.visitor.site.url("account"), query.unwrap_or_default())
    };
    let body = html! {
        @if devices.is_empty() { p { "No device is signed in." } }
        ul.rows {
            @for ((id, device), seen) in devices.iter().zip(&seen) {
                li {
                    a href=(link(id)) { (name(id, device)) }
                    p.soft { code { (id) } ", last active " (ago(seen.as_ref(), now_ms)) }
                }
            }
        }
        (home(owner))
    };
    Ok(Page::new("Devices", body))
}

/// Shows one device.
pub(super) async fn view(app: &App, owner: &Owner, device_id: &str) -> Result<Page, Failure> {
    let id = OwnedDeviceId::from(device_id);
    let Ok(device) = app.devices.device(&owner.user_id, &id).await else {
        let body = html! { p { "It is signed out already." } (home(owner)) };
        return Ok(Page::new("No such device", body).with_status(StatusCode::NOT_FOUND));
    };
    let seen = app.accounts.last_seen(&owner.user_id, std::slice::from_ref(&id)).await?.pop().flatten();
    let form = owner.visitor.site.url("account/device");
    let body = html! {
        p { "Device id: " code { (id) } }
        p {
            "Last active " (ago(seen.as_ref(), app.ports.clock.now_ms()))
            @if let Some(ip) = seen.and_then(|seen| seen.ip) { " from " (ip) }
        }
        @if let Some(client) = &device.client { p { "Application: " (client.uri) } }
        form method="post" action=(form) {
            (owner.visitor.csrf())
            (hidden("device_id", id.as_str()))
            label for="name" { "Name" }
            input type="text" id="name" name="name" value=(device.display_name.clone().unwrap_or_default());
            button type="submit" name="change" value="rename" { "Save" }
            button.danger type="submit" name="change" value="remove" { "Sign out this device" }
        }
        (home(owner))
    };
    Ok(Page::new(name(&id, &device), body))
}

fn name(id: &OwnedDeviceId, device: &Device) -> String {
    device.display_name.clone().unwrap_or_else(|| id.to_string())
}

/// How long ago, roughly.
fn ago(seen: Option<&Seen>, now_ms: u64) -> String {
    let Some(seen) = seen else { return String::from("long ago") };
    match now_ms.saturating_sub(seen.at_ms) / 60_000 {
        0..=4 => String::from("just now"),
        minutes @ 5..=119 => format!("{minutes} minutes ago"),
        minutes @ 120..=2_879 => format!("{} hours ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1_440),
    }
}
