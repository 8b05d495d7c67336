//! Who somebody is in which call, and what the SFU knows of that: names that say nothing.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{OwnedRoomId, OwnedUserId};
use sha2::{Digest, Sha256};

use super::RtcError;
use crate::limits::RTC_ID_BYTES_MAX;

/// A member of a session, as an `m.rtc.member` event names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its `member.id`.
    pub id: String,
    /// The device that the client says it is. Clients that name it derive the identity at the SFU from it too, as the
    /// proposal wanted it at first.
    pub device_id: Option<String>,
}

/// A place in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose.
    pub user_id: OwnedUserId,
    /// The Matrix room.
    pub room_id: OwnedRoomId,
    /// The slot in it.
    pub slot_id: String,
    /// The member.
    pub member: Member,
}

impl Seat {
    /// Refuses ids that are empty or too long.
    pub(super) fn check(&self) -> Result<(), RtcError> {
        let member = [&self.slot_id, &self.member.id];
        let ids = member.into_iter().chain(&self.member.device_id);
        match ids.into_iter().all(|id| (1..=RTC_ID_BYTES_MAX).contains(&id.len())) {
            true => Ok(()),
            false => Err(RtcError::Invalid("An id of a slot, member or device has 1 to 255 bytes")),
        }
    }

    /// How the call is named at the SFU.
    pub(super) fn room_name(&self) -> String {
        veiled(&[self.room_id.as_str(), &self.slot_id])
    }

    /// How the member is named at the SFU.
    pub(super) fn identity(&self) -> String {
        match &self.member.device_id {
            Some(device) => veiled(&[self.user_id.as_str(), device, &self.member.id]),
            None => veiled(&[self.user_id.as_str(), &self.member.id]),
        }
    }

    /// How a member is named there whose client knows no other way: by user and device.
    pub(super) fn plain_identity(&self) -> String {
        format!("{}:{}", self.user_id, self.member.id)
    }
}

/// The hash of a list of strings as canonical JSON, which for such a list is what JSON is anyway.
fn veiled(parts: &[&str]) -> String {
    let json = serde_json::to_vec(parts).expect("strings can be written as JSON");
    STANDARD_NO_PAD.encode(Sha256::digest(json))
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id};

    use super::{Member, Seat};
    use crate::limits::RTC_ID_BYTES_MAX;

    fn seat(slot: &str, member: &str, device: Option<&str>) -> Seat {
        Seat {
            user_id: owned_user_id!("@alice:example.com"),
            room_id: owned_room_id!("!roomid:example.com"),
            slot_id: slot.to_owned(),
            member: Member { id: member.to_owned(), device_id: device.map(str::to_owned) },
        }
    }

    /// The vectors of the proposal; the second identity is the one of its first shape.
    #[test]
    fn names_are_those_of_the_proposal() {
        let room = seat("slot1234", "m", None).room_name();
        assert_eq!(room, "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc");
        for (device, expected) in [
            (None, "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs"),
            (Some("DEVICE123"), "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU"),
        ] {
            assert_eq!(seat("s", "memberABC", device).identity(), expected);
        }
        assert_eq!(seat("s", "PHONE", None).plain_identity(), "@alice:example.com:PHONE");
    }

    #[test]
    fn ids_are_neither_empty_nor_long() {
        let long = "x".repeat(RTC_ID_BYTES_MAX + 1);
        for (slot, member, device, fits) in [
            ("s", "m", None, true),
            ("s", &long[1..], Some("d"), true),
            ("", "m", None, false),
            ("s", "", None, false),
            ("s", "m", Some(""), false),
            ("s", &long, None, false),
        ] {
            assert_eq!(seat(slot, member, device).check().is_ok(), fits, "{slot} {member} {device:?}");
        }
    }
}
