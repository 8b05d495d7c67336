//! Rooms: creation, membership, events, state, directory, relations.

mod ban;
mod create;
mod delete_alias;
mod forget;
mod get_alias;
mod get_visibility;
mod invite;
mod join;
mod join_by_alias;
mod joined_rooms;
mod kick;
mod knock;
mod leave;
mod list_aliases;
mod put_alias;
mod put_visibility;
mod redact;
mod send;
mod set_state;
mod state;
mod state_event;
mod unban;
mod upgrade;

pub(super) use set_state::admit_member;

use axum::response::Response;
use http::Method;
use ruma::{
    OwnedUserId, RoomId, UserId,
    api::{
        IncomingRequest,
        client::{
            alias, directory, knock as knocking, membership, message, redact as redaction, room,
            state as states,
        },
        path_builder::PathBuilder,
    },
};
use serde_json::{Map, Value};

use crate::{
    account::Caller,
    federation::Exchange,
    http::{Access, App, Body, Call, Failure, Routes},
    types::Membership,
};

/// What clients are told where kicks and bans may take back what their user has said.
pub(in crate::http) const SWEEPS: &str = "org.matrix.msc4293";

/// The paths under which the empty state key may be left out.
const STATE: [&str; 4] = [
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
];

/// What the body of a join says beyond the specification's fields: it goes into the member event.
fn said(body: &Body) -> Result<Map<String, Value>, Failure> {
    let mut fields: Map<String, Value> = body.json()?;
    for taken in ["membership", "reason", "third_party_invite", "third_party_signed"] {
        fields.remove(taken);
    }
    Ok(fields)
}

/// Has a user invited who brings the word of an identity server that an address which is invited is theirs.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin>
async fn redeem(app: &App, user: &UserId, (room, body): (&RoomId, &Body)) -> Result<(), Failure> {
    let fields: Map<String, Value> = body.json()?;
    let Some(signed) = fields.get("third_party_signed").filter(|signed| !signed.is_null()) else {
        return Ok(());
    };
    if app.history.membership(room, user).await? == Some(Membership::Join) {
        return Ok(());
    }
    let sender = signed.get("sender").and_then(Value::as_str).and_then(|id| OwnedUserId::try_from(id).ok());
    let sender = sender.ok_or_else(|| Failure::bad_json("third_party_signed names no sender"))?;
    let exchange = Exchange { sender, user: user.to_owned(), signed: signed.clone() };
    Ok(app.federation.redeem(room, exchange).await?)
}

/// Kicks or bans a user, and takes back what they have said if that is wanted, and heeded.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4293>
async fn put_out(
    app: &App,
    (caller, body): (&Caller, &Body),
    ((room, user), to): ((&RoomId, &UserId), Membership),
    reason: Option<&str>,
) -> Result<(), Failure> {
    let (fields, sender): (Map<String, Value>, _) = (body.json()?, &caller.user_id);
    let sweeps = fields.get("org.matrix.msc4293.redact_events") == Some(&Value::Bool(true));
    match to {
        to if sweeps && app.config.redact_on_ban => {
            app.rooms.sweep(sender, room, (user, to), reason).await?;
        }
        Membership::Ban => app.rooms.ban(sender, room, user, reason).await?,
        _ => app.rooms.kick(sender, room, user, reason).await?,
    }
    app.ephemeral.note_removal(room, user).await;
    Ok(())
}

/// Binds `handler` to every path of `R`.
fn by_hand<R: IncomingRequest, Answer>(routes: &mut Routes, handler: fn(App, Call) -> Answer)
where
    Answer: Future<Output = Result<Response, Failure>> + Send + 'static,
{
    for path in R::PATH_BUILDER.all_paths() {
        routes.raw(R::METHOD, path, Access::Required, handler);
    }
}

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<membership::ban_user::v3::Request, _>(ban::handle);
    routes.add::<room::create_room::v3::Request, _>(create::handle);
    routes.add::<alias::delete_alias::v3::Request, _>(delete_alias::handle);
    routes.add::<membership::forget_room::v3::Request, _>(forget::handle);
    routes.add::<alias::get_alias::v3::Request, _>(get_alias::handle);
    routes.add::<directory::get_room_visibility::v3::Request, _>(get_visibility::handle);
    routes.add::<membership::invite_user::v3::Request, _>(invite::handle);
    routes.add::<membership::join_room_by_id::v3::Request, _>(join::handle);
    routes.add::<membership::join_room_by_id_or_alias::v3::Request, _>(join_by_alias::handle);
    routes.add::<membership::joined_rooms::v3::Request, _>(joined_rooms::handle);
    routes.add::<membership::kick_user::v3::Request, _>(kick::handle);
    routes.add::<knocking::knock_room::v3::Request, _>(knock::handle);
    routes.add::<membership::leave_room::v3::Request, _>(leave::handle);
    routes.add::<room::aliases::v3::Request, _>(list_aliases::handle);
    routes.add::<alias::create_alias::v3::Request, _>(put_alias::handle);
    routes.add::<directory::set_room_visibility::v3::Request, _>(put_visibility::handle);
    routes.add::<redaction::redact_event::v3::Request, _>(redact::handle);
    routes.feature("org.matrix.msc3912");
    routes.feature(SWEEPS);
    by_hand::<message::send_message_event::v3::Request, _>(routes, send::handle);
    by_hand::<states::send_state_event::v3::Request, _>(routes, set_state::handle);
    routes.add::<states::get_state_events::v3::Request, _>(state::handle);
    routes.add::<states::get_state_event_for_key::v3::Request, _>(state_event::handle);
    routes.add::<membership::unban_user::v3::Request, _>(unban::handle);
    routes.add::<room::upgrade_room::v3::Request, _>(upgrade::handle);
    for path in STATE {
        routes.raw(Method::PUT, path, Access::Required, set_state::handle);
    }
    routes.add_at::<states::get_state_event_for_key::v3::Request, _>(&STATE, state_event::handle);
}

#[cfg(test)]
mod address_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod redact_tests;
#[cfg(test)]
mod tests;
