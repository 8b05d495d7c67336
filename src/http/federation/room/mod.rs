//! What servers in a room may read of it.

use ruma::api::federation::{
    authorization::get_event_authorization,
    backfill::get_backfill,
    event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
};

use crate::http::Routes;

mod backfill;
mod event;
mod event_auth;
mod missing_events;
mod state;
mod state_ids;

pub(super) fn routes(routes: &mut Routes) {
    routes.add::<get_event::v1::Request, _>(event::handle);
    routes.add::<get_room_state::v1::Request, _>(state::handle);
    routes.add::<get_room_state_ids::v1::Request, _>(state_ids::handle);
    routes.add::<get_event_authorization::v1::Request, _>(event_auth::handle);
    routes.add::<get_backfill::v1::Request, _>(backfill::handle);
    routes.add::<get_missing_events::v1::Request, _>(missing_events::handle);
}
