//! Looking into rooms: history, single events, members, relations, directories.

mod context;
mod event;
pub(in crate::http) mod hierarchy;
mod joined_members;
mod members;
mod messages;
mod mutual_rooms;
mod old;
pub(in crate::http) mod public_rooms;
mod public_rooms_filtered;
mod relations;
mod relations_of_kind;
mod relations_of_type;
mod retention;
pub(in crate::http) mod scene;
mod search;
mod search_context;
mod stroll;
mod summary;
mod threads;
mod timestamp;
mod user_search;

use http::Method;
use ruma::api::{
    Metadata,
    client::{
        context as contexts, directory, membership, message, relations as relating, room,
        search as searching, space, threads as threading, user_directory,
    },
    path_builder::PathBuilder,
};

use crate::http::{Access, Routes};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    old::routes(routes);
    routes.feature("org.matrix.msc3874");
    for path in message::get_message_events::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, messages::handle);
    }
    for path in contexts::get_context::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, context::handle);
    }
    routes.add::<room::get_room_event::v3::Request, _>(event::handle);
    routes.add::<membership::get_member_events::v3::Request, _>(members::handle);
    for path in membership::joined_members::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, joined_members::handle);
    }
    routes.add::<membership::get_mutual_rooms::v1::Request, _>(mutual_rooms::handle);
    let path = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms";
    routes.add_at::<membership::get_mutual_rooms::v1::Request, _>(&[path], mutual_rooms::handle);
    routes.feature("uk.half-shot.msc2666.query_mutual_rooms");
    routes.feature("uk.half-shot.msc2666.query_mutual_rooms.stable");
    routes.add::<relating::get_relating_events::v1::Request, _>(relations::handle);
    routes.add::<relating::get_relating_events_with_rel_type::v1::Request, _>(relations_of_kind::handle);
    routes.add::<relating::get_relating_events_with_rel_type_and_event_type::v1::Request, _>(
        relations_of_type::handle,
    );
    routes.add::<threading::get_threads::v1::Request, _>(threads::handle);
    for path in directory::get_public_rooms::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Open, public_rooms::handle);
        routes.raw(Method::POST, path, Access::Required, public_rooms_filtered::handle);
    }
    routes.add::<space::get_hierarchy::v1::Request, _>(hierarchy::handle);
    routes.add::<room::get_summary::v1::Request, _>(summary::handle);
    // Which came before the one that ruma knows; clients ask for it still.
    let path = "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}";
    routes.add_at::<room::get_summary::v1::Request, _>(&[path], summary::handle);
    routes.add::<room::get_event_by_timestamp::v1::Request, _>(timestamp::handle);
    let path = "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration";
    routes.raw(Method::GET, path, Access::Required, retention::handle);
    routes.feature("org.matrix.msc1763");
    routes.add::<user_directory::search_users::v3::Request, _>(user_search::handle);
    for path in searching::search_events::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::POST, path, Access::Required, search::handle);
    }
}

#[cfg(test)]
mod bundle_tests;
#[cfg(test)]
mod canary_tests;
#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod hurt_tests;
#[cfg(test)]
mod related_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads_tests;
