//! A page becomes what is put into transactions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::{Value, json, value::RawValue};

use super::{DeliveryError, courier::Courier, lists::Met, parcel::Parcel};
use crate::{
    device::TOLD,
    limits::PRESENCE_EDU_USERS_MAX,
    log::{Page, Slice},
    store::StoreError,
    types::{Fact, Lane, Position, ReceiptKind},
};

impl Courier<'_> {
    /// What `page` owes to the server. To-device messages come first: others wait for the keys in them. What is
    /// damaged here is left out, and said in the log: it would hold up everything else for good.
    pub(super) async fn parcel(&self, page: Page) -> Result<Parcel, DeliveryError> {
        let mut parcel = Parcel::default();
        let since = page.from.log;
        let mut events: Vec<(Position, OwnedEventId)> = Vec::new();
        let (mut rest, mut outbox) = (Vec::new(), Vec::new());
        for slice in page.slices {
            match slice.lane {
                Lane::Outbox(_) => outbox = slice.facts,
                _ => rest.push(slice),
            }
        }
        for (at, fact) in outbox {
            match fact {
                Fact::Edu { edu_type, content } => match RawValue::from_string(content) {
                    Ok(content) => parcel.edu(&edu_type, content)?,
                    Err(error) => self.say_damaged(&edu_type, &error),
                },
                Fact::Directed { event_id } => events.push((at, event_id)),
                _ => {}
            }
        }
        for slice in &rest {
            let of_slice = slice.facts.iter().filter_map(|(at, fact)| match fact {
                Fact::Event { event_id } => Some((*at, event_id.clone())),
                _ => None,
            });
            events.extend(of_slice);
        }
        self.add_events(&mut parcel, events).await?;
        let (span, met) = ((since, page.to.log), self.met(&rest).await?);
        self.add_missed(&mut parcel, &met, span).await?;
        let strangers = self.add_met(&mut parcel, met, span).await?;
        for slice in rest {
            match slice.lane.clone() {
                Lane::Egress(room) => self.add_room(&mut parcel, &room, slice)?,
                Lane::People => self.add_people(&mut parcel, slice, (since, &strangers)).await?,
                _ => {}
            }
        }
        self.introduce(&mut parcel, strangers, span).await?;
        Ok(parcel)
    }

    async fn add_events(
        &self,
        parcel: &mut Parcel,
        mut events: Vec<(Position, OwnedEventId)>,
    ) -> Result<(), StoreError> {
        events.sort();
        let ids: Vec<OwnedEventId> = events.into_iter().map(|(_, id)| id).collect();
        let history = &self.couriers.0.history;
        let mut found = Vec::with_capacity(ids.len());
        match history.events(&ids).await {
            Ok(events) => found.extend(events.into_iter().flatten()),
            // It is not all of them that are damaged.
            Err(StoreError::Corrupt(_)) => {
                for id in &ids {
                    match history.event(id).await {
                        Ok(event) => found.extend(event),
                        Err(error @ StoreError::Corrupt(_)) => self.say_damaged(id, &error),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        parcel.pdus.extend(found.into_iter().map(|event| event.pdu.json().to_owned()));
        Ok(())
    }

    pub(super) fn say_damaged(&self, what: impl Display, error: &dyn Display) {
        tracing::error!(%error, "{what} is damaged, and is not delivered to {}", self.server);
    }

    fn add_room(&self, parcel: &mut Parcel, room: &OwnedRoomId, slice: Slice) -> Result<(), StoreError> {
        // A user has one receipt in an EDU; those of further threads go into further ones.
        let mut receipts: Vec<BTreeMap<OwnedUserId, Value>> = Vec::new();
        for (_, fact) in slice.facts {
            match fact {
                Fact::Receipt { kind: ReceiptKind::Read, user_id, thread_id, event_id, ts, .. } => {
                    let mut data = json!({ "ts": ts });
                    if let Some(thread_id) = thread_id {
                        data["thread_id"] = thread_id.into();
                    }
                    let receipt = json!({ "event_ids": [event_id], "data": data });
                    match receipts.iter_mut().find(|users| !users.contains_key(&user_id)) {
                        Some(users) => drop(users.insert(user_id, receipt)),
                        None => receipts.push(BTreeMap::from([(user_id, receipt)])),
                    }
                }
                Fact::Typing { user_ids } => self.add_typing(parcel, room, user_ids)?,
                _ => {}
            }
        }
        // <https://spec.matrix.org/v1.19/server-server-api/#receipts>
        receipts
            .into_iter()
            .try_for_each(|users| parcel.edu("m.receipt", json!({ room.as_str(): { "m.read": users } })))
    }

    /// Who has begun to type since the server was last told, who has ended, and who has been typing for long.
    fn add_typing(
        &self,
        parcel: &mut Parcel,
        room: &OwnedRoomId,
        user_ids: Vec<OwnedUserId>,
    ) -> Result<(), StoreError> {
        let history = &self.couriers.0.history;
        let now: BTreeSet<OwnedUserId> = user_ids.into_iter().filter(|user| history.is_local(user)).collect();
        let news = self.couriers.0.typing.news(self.server, (room, &now), self.couriers.now_ms());
        for (user, typing) in &news {
            parcel.edu("m.typing", json!({ "room_id": room, "user_id": user, "typing": typing }))?;
        }
        let begun = news.into_iter().filter(|(_, typing)| *typing).map(|(user, _)| user).collect();
        parcel.typing.push((room.clone(), now, begun));
        Ok(())
    }

    async fn add_people(
        &self,
        parcel: &mut Parcel,
        slice: Slice,
        (since, strangers): (Position, &Met),
    ) -> Result<(), DeliveryError> {
        let mut presence = Vec::new();
        for (at, fact) in slice.facts {
            match fact {
                Fact::Devices { user_id }
                    if strangers.contains_key(&user_id)
                        || parcel.told.iter().any(|(told, _)| *told == user_id) => {}
                Fact::Devices { user_id } if self.concerns(&user_id).await? => {
                    // What happened while they shared no room was not told.
                    let key = (self.server.clone(), user_id.clone());
                    let told = self.couriers.log().db().row(&TOLD, &key).await?;
                    let from = told.map_or(since, |told| Position(told).min(since));
                    let updates = self.list_updates(&user_id, (from, at)).await?;
                    self.add_updates(parcel, user_id, updates).await?;
                }
                Fact::Presence { user_id, content } if self.concerns(&user_id).await? => {
                    let mut content: Value = match serde_json::from_str(&content) {
                        Ok(content @ Value::Object(_)) => content,
                        _ => continue,
                    };
                    content["user_id"] = user_id.as_str().into();
                    // The field is not optional between servers.
                    if content.get("last_active_ago").is_none() {
                        content["last_active_ago"] = 0.into();
                    }
                    presence.push(content);
                }
                _ => {}
            }
        }
        for some in presence.chunks(PRESENCE_EDU_USERS_MAX) {
            parcel.edu("m.presence", json!({ "push": some }))?;
        }
        Ok(())
    }
}
