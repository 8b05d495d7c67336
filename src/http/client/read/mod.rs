//! Looking into rooms: history, single events, members, relations, directories.

mod context;
mod event;
mod joined_members;
mod members;
mod messages;
mod relations;
mod relations_of_kind;
mod relations_of_type;
mod scene;
mod threads;

use ruma::api::client::{
    context as contexts, membership, message, relations as relating, room, threads as threading,
};

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<message::get_message_events::v3::Request, _>(messages::handle);
    routes.add::<contexts::get_context::v3::Request, _>(context::handle);
    routes.add::<room::get_room_event::v3::Request, _>(event::handle);
    routes.add::<membership::get_member_events::v3::Request, _>(members::handle);
    routes.add::<membership::joined_members::v3::Request, _>(joined_members::handle);
    routes.add::<relating::get_relating_events::v1::Request, _>(relations::handle);
    routes.add::<relating::get_relating_events_with_rel_type::v1::Request, _>(relations_of_kind::handle);
    routes.add::<relating::get_relating_events_with_rel_type_and_event_type::v1::Request, _>(
        relations_of_type::handle,
    );
    routes.add::<threading::get_threads::v1::Request, _>(threads::handle);
}
