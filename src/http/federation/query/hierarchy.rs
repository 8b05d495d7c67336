//! `GET /_matrix/federation/v1/hierarchy/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use ruma::{
    api::federation::space::{
        SpaceHierarchyParentSummary,
        get_hierarchy::v1::{Request, Response},
    },
    assign,
    serde::Raw,
};

use crate::{
    federation::Federation,
    http::{App, Failure, client::read::hierarchy::children, federation::Origin},
    limits::ROOM_LIST_MAX,
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let children = children(&app, &request.room_id, request.suggested_only).await?;
    let rooms = Federation::distinct(children.iter().map(|child| child.room.clone()), ROOM_LIST_MAX);
    let found = app.federation.hierarchy(&origin, &request.room_id, &rooms).await?;
    let stripped = children.iter().map(|child| Raw::new(&child.stripped).map(Raw::cast_unchecked));
    let stripped: Result<Vec<_>, serde_json::Error> = stripped.collect();
    let room = SpaceHierarchyParentSummary::new(found.room, stripped.map_err(Failure::internal)?);
    Ok(assign!(Response::new(room), {
        children: found.children,
        inaccessible_children: found.inaccessible,
    }))
}
