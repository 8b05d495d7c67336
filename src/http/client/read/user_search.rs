//! `POST /_matrix/client/v3/user_directory/search`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch>

use std::collections::BTreeSet;

use ruma::{
    OwnedUserId,
    api::client::user_directory::search_users::v3::{Request, Response, User},
    assign,
};
use serde_json::{Map, Value};

use super::scene::page_limit;
use crate::{
    account::Caller,
    http::{App, Failure},
    limits::USER_SEARCH_MAX,
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let term = request.search_term.to_lowercase();
    let limit = page_limit(Some(request.limit), USER_SEARCH_MAX).min(USER_SEARCH_MAX);
    let mut results = Vec::new();
    for user in known(&app, &caller).await? {
        let found = describe(&app, &caller, user).await?;
        let name = found.display_name.as_deref().unwrap_or_default().to_lowercase();
        if !name.contains(&term) && !found.user_id.as_str().to_lowercase().contains(&term) {
            continue;
        }
        if results.len() >= limit {
            return Ok(Response::new(results, true));
        }
        results.push(found);
    }
    Ok(Response::new(results, false))
}

/// Whom the caller may find: those with whom they share a room, and those in rooms that are listed.
async fn known(app: &App, caller: &Caller) -> Result<BTreeSet<OwnedUserId>, Failure> {
    let mut users = app.history.companions(&caller.user_id).await?;
    for room in app.history.published_rooms().await? {
        let members = app.history.current_members(&room).await?;
        users.extend(members.with(Membership::Join).cloned());
    }
    Ok(users)
}

/// A local user by their profile, another by what a shared room says of them.
async fn describe(app: &App, caller: &Caller, user: OwnedUserId) -> Result<User, Failure> {
    let (display_name, avatar_url) = match app.history.is_local(&user) {
        true => app.accounts.display(&user).await?,
        false => in_rooms(app, caller, &user).await?,
    };
    Ok(assign!(User::new(user), { display_name, avatar_url: avatar_url.map(Into::into) }))
}

async fn in_rooms(
    app: &App,
    caller: &Caller,
    user: &OwnedUserId,
) -> Result<(Option<String>, Option<String>), Failure> {
    for room in app.history.joined_rooms(&caller.user_id).await? {
        let members = app.history.current_members(&room).await?;
        let Some(member) = members.get(user) else { continue };
        let Some(event) = app.history.event(&member.event_id).await? else { continue };
        let content: Map<String, Value> = event.pdu.content_as().unwrap_or_default();
        let text = |name| content.get(name).and_then(Value::as_str).map(String::from);
        return Ok((text("displayname"), text("avatar_url")));
    }
    Ok((None, None))
}
