//! `GET /_matrix/federation/v1/hierarchy/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use std::collections::BTreeSet;

use ruma::{
    OwnedRoomId,
    api::federation::space::{
        SpaceHierarchyParentSummary,
        get_hierarchy::v1::{Request, Response},
    },
    assign,
    serde::Raw,
};

use crate::{
    http::{
        App, Failure,
        client::read::hierarchy::{children, is_space},
        federation::Origin,
    },
    limits::ROOM_LIST_MAX,
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let children = children(&app, &request.room_id, request.suggested_only).await?;
    let mut met = BTreeSet::new();
    let distinct = children.iter().map(|child| child.room.clone()).filter(|room| met.insert(room.clone()));
    let rooms: Vec<OwnedRoomId> = distinct.take(ROOM_LIST_MAX).collect();
    let found = app.federation.hierarchy(&origin, &request.room_id, &rooms).await?;
    if !is_space(&found.room) {
        return Ok(Response::new(SpaceHierarchyParentSummary::new(found.room, Vec::new())));
    }
    let stripped = children.iter().map(|child| Raw::new(&child.stripped).map(Raw::cast_unchecked));
    let stripped: Result<Vec<_>, serde_json::Error> = stripped.collect();
    let room = SpaceHierarchyParentSummary::new(found.room, stripped.map_err(Failure::internal)?);
    Ok(assign!(Response::new(room), {
        children: found.children,
        inaccessible_children: found.inaccessible,
    }))
}
