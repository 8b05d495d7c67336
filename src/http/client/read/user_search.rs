//! `POST /_matrix/client/v3/user_directory/search`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch>

use ruma::{
    api::client::user_directory::search_users::v3::{Request, Response, User},
    assign,
};

use super::scene::page_limit;
use crate::{
    account::Caller,
    http::{App, Failure},
    limits::USER_SEARCH_MAX,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let limit = page_limit(Some(request.limit), USER_SEARCH_MAX).min(USER_SEARCH_MAX);
    let (found, limited) = app.people.find(&caller.user_id, &request.search_term, limit).await?;
    let banned = app.rooms.banned().await?;
    let found = found.into_iter().filter(|person| !banned.has_user(&person.user_id));
    let results = found.map(|person| {
        let user = User::new(person.user_id);
        let avatar_url = person.avatar_url.map(Into::into);
        assign!(user, { display_name: person.display_name, avatar_url })
    });
    Ok(Response::new(results.collect(), limited))
}
