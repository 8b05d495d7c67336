//! `GET /_synapse/admin/v2/users` and `v3`: the accounts of this server, in the order of their ids.

use axum::{extract::Query, response::Response};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{admit, answer};
use crate::{
    account::User,
    http::{App, Call, Failure},
    limits::SCAN_ROWS_MAX,
};

/// Which accounts are asked for.
#[derive(Deserialize)]
struct Asked {
    /// How many to leave out.
    from: Option<usize>,
    limit: Option<usize>,
    /// A part of the id.
    user_id: Option<String>,
    /// A part of the id or of the display name.
    name: Option<String>,
    guests: Option<bool>,
    admins: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
}

/// Accounts in one answer when nothing is said, and at most.
const USUAL: usize = 100;

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked = Query::<Asked>::try_from_uri(&call.parts.uri);
    let Query(asked) = asked.map_err(|error| Failure::invalid_param(error.body_text()))?;
    let (from, limit) =
        (asked.from.unwrap_or_default(), asked.limit.unwrap_or(USUAL).clamp(1, SCAN_ROWS_MAX));
    let (mut after, mut total, mut page) = (None::<OwnedUserId>, 0, Vec::new());
    loop {
        let users = app.accounts.users(after.as_deref(), SCAN_ROWS_MAX).await?;
        let Some((last, _)) = users.last() else { break };
        after = Some(last.clone());
        let ids: Vec<_> = users.iter().map(|(user, _)| user.clone()).collect();
        let names = app.accounts.displays(&ids).await?;
        for ((user, row), (name, avatar)) in users.into_iter().zip(names) {
            if !is_wanted(&asked, (&user, &row), name.as_deref()) {
                continue;
            }
            if total >= from && page.len() < limit {
                page.push(shown((&user, &row), name.as_deref(), avatar.as_deref()));
            }
            total += 1;
        }
    }
    let mut told = json!({ "users": page, "total": total });
    if from + limit < total {
        told["next_token"] = (from + limit).to_string().into();
    }
    Ok(answer(told))
}

fn is_wanted(asked: &Asked, (user, row): (&OwnedUserId, &User), name: Option<&str>) -> bool {
    let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    asked.user_id.as_deref().is_none_or(|part| has(user.as_str(), part))
        && asked
            .name
            .as_deref()
            .is_none_or(|part| has(user.localpart(), part) || name.is_some_and(|name| has(name, part)))
        && (asked.guests.unwrap_or(true) || !row.guest)
        && asked.admins.is_none_or(|admins| admins == row.admin)
        // Synapse leaves these out unless they are asked for.
        && (asked.deactivated.unwrap_or(false) || !row.deactivated)
        && (asked.locked.unwrap_or(false) || !row.locked)
}

fn shown((user, row): (&OwnedUserId, &User), name: Option<&str>, avatar: Option<&str>) -> Value {
    json!({
        "name": user,
        "displayname": name.unwrap_or(user.localpart()),
        "avatar_url": avatar,
        "is_guest": row.guest,
        "admin": row.admin,
        "user_type": null,
        "deactivated": row.deactivated,
        "erased": row.erased,
        "locked": row.locked,
        "suspended": row.suspended,
        "shadow_banned": false,
        "approved": true,
        "creation_ts": row.created_ms,
    })
}
