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
    limits::{USER_SEARCH_CHUNK, USER_SEARCH_LOOKED_AT_MAX, USER_SEARCH_MAX},
    types::Membership,
};

/// Answers the request. Of the users whom the caller may find, so many are looked at and no more; when there
/// are others, the answer says that it is not all.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let term = request.search_term.to_lowercase();
    let limit = page_limit(Some(request.limit), USER_SEARCH_MAX).min(USER_SEARCH_MAX);
    let (users, all) = known(&app, &caller).await?;
    let mut results = Vec::new();
    for chunk in users.chunks(USER_SEARCH_CHUNK) {
        let local: Vec<OwnedUserId> =
            chunk.iter().filter(|user| app.history.is_local(user)).cloned().collect();
        let mut displays = app.accounts.displays(&local).await?.into_iter();
        for user in chunk {
            let display = match app.history.is_local(user) {
                true => displays.next().unwrap_or_default(),
                false => in_rooms(&app, &caller, user).await?,
            };
            let name = display.0.as_deref().unwrap_or_default().to_lowercase();
            if !name.contains(&term) && !user.as_str().to_lowercase().contains(&term) {
                continue;
            }
            if results.len() >= limit {
                return Ok(Response::new(results, true));
            }
            let (display_name, avatar_url) = display;
            let found = User::new(user.clone());
            results.push(assign!(found, { display_name, avatar_url: avatar_url.map(Into::into) }));
        }
    }
    Ok(Response::new(results, !all))
}

/// Whom the caller may find, at most so many, and whether that is all: first those with whom they share a
/// room, then those in rooms that are listed.
async fn known(app: &App, caller: &Caller) -> Result<(Vec<OwnedUserId>, bool), Failure> {
    let mut rooms = app.history.joined_rooms(&caller.user_id).await?;
    rooms.extend(app.history.published_rooms().await?);
    let mut seen = BTreeSet::from([caller.user_id.clone()]);
    let mut users = vec![caller.user_id.clone()];
    for room in rooms {
        let members = app.history.current_members(&room).await?;
        for user in members.with(Membership::Join) {
            if users.len() >= USER_SEARCH_LOOKED_AT_MAX {
                return Ok((users, false));
            }
            if seen.insert(user.clone()) {
                users.push(user.clone());
            }
        }
    }
    Ok((users, true))
}

/// What a room that they share says of another server's user.
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
