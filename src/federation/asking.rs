//! What users of this server want to know of other servers: profiles, directories, rooms in a few words.

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, ServerName, UInt, UserId,
    api::{
        Direction as Way, OutgoingRequest,
        federation::{
            directory::get_public_rooms_filtered, event::get_event_by_timestamp,
            query::get_profile_information, space::get_hierarchy,
        },
        path_builder::SinglePath,
    },
    directory::Filter,
};
use serde_json::Value;

use super::{Federation, FederationError};
use crate::{
    limits::{LOOK_UP_BYTES_MAX, LOOK_UP_MAX, LOOK_UP_SERVERS_MAX, PROFILE_BYTES_MAX},
    log::Direction,
    peer::{Bounds, Hedge, PeerError, Proof},
};

impl From<PeerError> for FederationError {
    fn from(error: PeerError) -> Self {
        Self::Room(error.into())
    }
}

const BOUNDS: Bounds = Bounds::new(LOOK_UP_MAX, LOOK_UP_BYTES_MAX);

impl Federation {
    /// The profile of any user, or one field of it.
    ///
    /// # Errors
    /// When there is no such user, or their server cannot be asked.
    pub async fn profile_of(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> Result<BTreeMap<String, Value>, FederationError> {
        if self.history.is_local(user) {
            return self.profile(user, field).await;
        }
        let mut request = get_profile_information::v1::Request::new(user.to_owned());
        request.field = field.map(Into::into);
        let bounds = Bounds { bytes_max: PROFILE_BYTES_MAX, ..BOUNDS };
        let answer = self.peers.call(user.server_name(), request, bounds).await?;
        Ok(answer.into_iter().filter(|(name, _)| field.is_none_or(|field| field == name)).collect())
    }

    /// One page of the directory of another server.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn directory_of(
        &self,
        server: &ServerName,
        (limit, since): (Option<UInt>, Option<String>),
        filter: Filter,
    ) -> Result<get_public_rooms_filtered::v1::Response, FederationError> {
        let mut request = get_public_rooms_filtered::v1::Request::new();
        (request.limit, request.since, request.filter) = (limit, since, filter);
        Ok(self.peers.call(server, request, BOUNDS).await?)
    }

    /// A room that this server is not in, with the rooms below it, as the first of the servers `via` tells
    /// that can; nothing if none can, or has within `LOOK_UP_MAX`.
    pub async fn hierarchy_of(
        &self,
        room: &RoomId,
        via: &[OwnedServerName],
        suggested_only: bool,
    ) -> Option<get_hierarchy::v1::Response> {
        let mut request = get_hierarchy::v1::Request::new(room.to_owned());
        request.suggested_only = suggested_only;
        let is_of_room = |answer: &get_hierarchy::v1::Response| answer.room.summary.room_id == room;
        let mut answer = self.first_of(self.whom_to_ask(room, via), (room, &request), is_of_room).await?;
        let children = answer.children.iter_mut().chain([&mut answer.room.summary]);
        children.for_each(|summary| {
            summary.join_rule = crate::history::tellable(summary.join_rule.clone());
        });
        Some(answer)
    }

    /// The event of a room closest to a moment, as another server of the room tells within `LOOK_UP_MAX`.
    pub async fn event_near_elsewhere(
        &self,
        room: &RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)> {
        let servers = self.history.servers_by_members(room).await.ok()?;
        let way = match direction {
            Direction::Forward => Way::Forward,
            Direction::Backward => Way::Backward,
        };
        let request = get_event_by_timestamp::v1::Request::new(room.to_owned(), ts, way);
        let answer = self.first_of(self.whom_to_ask(room, &servers), (room, &request), |_| true).await?;
        Some((answer.event_id, answer.origin_server_ts))
    }

    /// The first answer of `servers` that is any good.
    async fn first_of<R>(
        &self,
        servers: Vec<OwnedServerName>,
        (room, request): (&RoomId, &R),
        is_good: impl Fn(&R::IncomingResponse) -> bool,
    ) -> Option<R::IncomingResponse>
    where
        R: OutgoingRequest<Authentication: Proof, PathBuilder = SinglePath> + Clone + Send + 'static,
    {
        let mut hedge = Hedge::new(&self.peers, servers);
        let looking = async {
            while let Some((server, answer)) = hedge.call(request, BOUNDS).await {
                match answer {
                    Ok(answer) if is_good(&answer) => return Some(answer),
                    Ok(_) => {}
                    Err(error) => tracing::debug!(room.id = %room, %error, "{server} did not tell of {room}"),
                }
            }
            None
        };
        tokio::time::timeout(LOOK_UP_MAX, looking).await.unwrap_or_default()
    }

    /// The first few servers of `via`, or that of the room's id, which may answer.
    fn whom_to_ask(&self, room: &RoomId, via: &[OwnedServerName]) -> Vec<OwnedServerName> {
        let all = via.iter().map(|server| &**server).chain(room.server_name());
        let mut servers: Vec<&ServerName> = Vec::new();
        for server in all.filter(|server| *server != self.peers.server_name()) {
            if !servers.contains(&server) && !self.peers.is_down(server) {
                servers.push(server);
            }
        }
        servers.into_iter().take(LOOK_UP_SERVERS_MAX).map(ToOwned::to_owned).collect()
    }
}
