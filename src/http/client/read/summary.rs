//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use ruma::api::client::room::get_summary::v1::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Option<Caller>, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    let unknown = || Failure::not_found("There is no such room, or you may not know of it");
    let user = caller.as_ref().map(|caller| &*caller.user_id);
    let (room, via) = app.rooms.find(&request.room_id_or_alias, &request.via).await?;
    let summary = match app.rooms.is_here(&room).await? {
        true => history.summary(&room).await?,
        false => {
            let mut via = via;
            if let Some(user) = user {
                via.extend(history.stripped_via(user, &room).await?);
            }
            app.federation.hierarchy_of(&room, &via, false).await.map(|answer| answer.room.summary)
        }
    };
    let summary = summary.ok_or_else(unknown)?;
    if !history.may_preview(user, &summary).await? {
        return Err(unknown());
    }
    let mut response = Response::new(summary);
    if let Some(user) = user {
        let standing = history.standing(user, &room).await?;
        let membership = standing.map_or(Membership::Leave, |standing| standing.membership);
        response.membership = Some(membership.as_str().into());
    }
    Ok(response)
}
