//! What must hold of any bytes: nothing panics, and what is accepted stays what it is when it is written
//! and read again.

use lockstep::{
    dag::{
        Pdu, auth,
        graph::{Mark, Vertex, dot, svg},
        judge, redact, tree,
        versions::{self, SUPPORTED},
    },
    keys::{self, PublicKeyMap},
    store::{Key, KeyFields, KeyReader, table::TableId},
    sync,
    types::Cursor,
};
use ruma::{
    DeviceId, EventId, MxcUri, OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedUserId, RoomAliasId, RoomId, RoomOrAliasId, ServerName, ServerSigningKeyId, UserId,
    api::client::filter::FilterDefinition, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;

/// An event from another server. The first byte chooses the room version, the rest is the text.
pub(crate) fn pdu(data: &[u8]) {
    let Some((number, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let version = &SUPPORTED[usize::from(*number) % SUPPORTED.len()];
    let rules = versions::rules(version).expect("the version is supported");
    if let Ok(object) = keys::parse_object(text) {
        let canonical = keys::canonical_text(&object);
        let again = keys::parse_object(&canonical).expect("canonical JSON is JSON");
        assert_eq!(keys::canonical_text(&again), canonical, "canonical JSON is canonical");
    }
    let Ok(pdu) = Pdu::parse(text, rules) else { return };
    let again = Pdu::parse(pdu.text(), rules).expect("an event that was accepted is accepted again");
    assert_eq!(again, pdu, "an event stays the same");
    let loaded = Pdu::load(String::from(pdu.text()), pdu.event_id().to_owned(), rules);
    assert_eq!(loaded.expect("what was accepted can be stored"), pdu, "an event is read as it was written");
    // The server of a third-party invite need not sign it: the rules look at another signature in it.
    let signs_itself = pdu.text().contains("\"third_party_invite\"");
    let received = judge::receive(text, &PublicKeyMap::new(), rules);
    assert!(signs_itself || received.is_err(), "nobody has signed it");
    redacted(&pdu, rules);
    judged(&pdu, rules);
    let vertex = [Vertex::of(&pdu, Mark::Accepted, true)];
    let _ = (dot(&vertex), svg(&vertex));
}

fn redacted(pdu: &Pdu, rules: &RoomVersionRules) {
    let pruned = redact::prune(pdu, rules).expect("an event that was accepted can be redacted");
    assert_eq!(pruned.event_id(), pdu.event_id(), "a redacted event keeps its id");
    assert_eq!(pruned.state_key(), pdu.state_key(), "a redacted event keeps its place");
    assert_eq!(pruned.auth_events(), pdu.auth_events(), "a redacted event keeps its auth events");
    let parsed = Pdu::parse(pruned.text(), rules).expect("what remains of an event is an event");
    assert_eq!(parsed.event_id(), pdu.event_id(), "the id does not depend on what redaction takes");
    assert_eq!(redact::prune(&pruned, rules).expect("it can be redacted again"), pruned, "twice is once");
}

fn judged(pdu: &Pdu, rules: &RoomVersionRules) {
    let rules = &rules.authorization;
    let _ = (pdu.redacts(), pdu.membership(), tree::entry_of(pdu), auth::state_keys(pdu, rules));
    let _ = auth::check_selection(pdu, rules, |_| None);
    let _ = auth::check_against(pdu, rules, |_, _| None);
    // As if it were all that there is of the room.
    let at = |kind: &_, key: &str| pdu.is_state(kind, key).then(|| pdu.clone());
    let _ = auth::check_against(pdu, rules, at);
    let _ = lockstep::dag::power::Power::of(at, rules).may_redact_others(pdu.sender());
}

/// A sync token and a filter, parted by the first line break.
pub(crate) fn sync(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (token, filter) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(cursor) = token.parse::<Cursor>() {
        assert!(cursor.queue <= cursor.log, "a queue is never ahead");
        assert_eq!(cursor.to_string().parse(), Ok(cursor), "a token stays the same");
    }
    let Ok(filter) = serde_json::from_str::<FilterDefinition>(filter) else { return };
    let written = serde_json::to_string(&filter).expect("a filter that was read can be written");
    let again: FilterDefinition = serde_json::from_str(&written).expect("and read again");
    assert_eq!(serde_json::to_string(&again).ok(), Some(written), "a filter stays the same");
    let content = RawValue::from_string(String::from(r#"{"url":"mxc://a/b"}"#)).expect("this is JSON");
    let sender = <&UserId>::try_from("@a:b").expect("this is a user");
    for part in [&filter.room.timeline, &filter.room.state, &filter.room.ephemeral, &filter.room.account_data]
    {
        for kind in ["", "m.room.message", "a*a"] {
            let _ = sync::passes(part, (kind, sender, &content));
        }
    }
}

/// Identifiers.
pub(crate) fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = <&UserId>::try_from(text) {
        assert_eq!(id.as_str(), text);
        let whole = format!("@{}:{}", id.localpart(), id.server_name());
        assert_eq!(whole, text, "a user is a name and a server");
        let _ = (id.validate_strict(), id.validate_historical());
        kept::<OwnedUserId>(id.to_owned());
    }
    if let Ok(id) = <&RoomId>::try_from(text) {
        let _ = (id.server_name(), lockstep::dag::pdu::create_of_room(id));
        kept::<OwnedRoomId>(id.to_owned());
    }
    if let Ok(id) = <&RoomAliasId>::try_from(text) {
        assert_eq!(format!("#{}:{}", id.alias(), id.server_name()), text, "an alias is a name and a server");
        kept::<OwnedRoomAliasId>(id.to_owned());
    }
    if let Ok(id) = <&EventId>::try_from(text) {
        let _ = (id.localpart(), id.server_name());
        if let Ok(room) = lockstep::dag::pdu::room_of_create(id) {
            let _ = lockstep::dag::pdu::create_of_room(&room);
        }
        kept::<OwnedEventId>(id.to_owned());
    }
    if let Ok(id) = <&ServerName>::try_from(text) {
        let _ = (id.host(), id.port(), id.is_ip_literal());
        kept::<OwnedServerName>(id.to_owned());
    }
    if let Ok(id) = <&RoomOrAliasId>::try_from(text) {
        let _ = (id.server_name(), id.is_room_id());
    }
    if let Ok(id) = <&ServerSigningKeyId>::try_from(text) {
        let _ = (id.algorithm(), id.key_name().as_str().len());
    }
    let uri = <&MxcUri>::from(text);
    let _ = (uri.parts().map(|(server, media)| (server.as_str().len(), media.len())), uri.validate());
    kept::<OwnedDeviceId>(<&DeviceId>::from(text).to_owned());
}

/// A key of the store gives back what it was made of, whatever stands behind it.
fn kept<T>(id: T)
where
    T: Clone + PartialEq + std::fmt::Debug,
    (T, u64): KeyFields,
{
    let key = Key::new(TableId::Meta, &(id.clone(), 7_u64));
    assert_eq!(<(T, u64)>::read(&mut KeyReader::new(&key)), Some((id, 7)), "a key is read as it was written");
}
