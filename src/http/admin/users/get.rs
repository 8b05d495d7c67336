//! `GET /_synapse/admin/v2/users/{userId}`: what is known of an account, the policies among it that its user has
//! accepted.

use axum::response::Response;
use ruma::UserId;
use serde_json::{Value, json};

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = user(&app, &call)?;
    Ok(answer(known(&app, &user).await?))
}

/// What is known of an account.
pub(super) async fn known(app: &App, user: &UserId) -> Result<Value, Failure> {
    let row = app.accounts.user(user).await?.ok_or_else(|| Failure::not_found("There is no such user"))?;
    let (name, avatar) = app.accounts.display(user).await?;
    let addresses = app.accounts.addresses(user).await?.into_iter().map(|(address, of)| {
        let (validated, added) = (of.validated_ms, of.added_ms);
        json!({ "medium": "email", "address": address, "validated_at": validated, "added_at": added })
    });
    let identities = app.accounts.identities(user).await?.into_iter();
    let identities =
        identities.map(|known| json!({ "auth_provider": known.provider, "external_id": known.subject }));
    let devices: Vec<_> = app.devices.list(user).await?.into_iter().map(|(id, _)| id).collect();
    let seen = app.accounts.last_seen(user, &devices).await?.into_iter().flatten();
    let newest = row.accepted.values().max_by_key(|acceptance| acceptance.at_ms);
    Ok(json!({
        "name": user,
        "displayname": name,
        "avatar_url": avatar,
        "threepids": addresses.collect::<Vec<Value>>(),
        "external_ids": identities.collect::<Vec<Value>>(),
        "admin": row.admin,
        "is_guest": row.guest,
        "deactivated": row.deactivated,
        "erased": row.erased,
        "locked": row.locked,
        "suspended": row.suspended,
        "shadow_banned": false,
        "user_type": null,
        "creation_ts": row.created_ms,
        "last_seen_ts": seen.map(|seen| seen.at_ms).max(),
        "consent_version": newest.map(|acceptance| &acceptance.version),
        "consent_ts": newest.map(|acceptance| acceptance.at_ms),
        "accepted_policies": row.accepted,
    }))
}
