//! Room versions: which ones this server knows, and their rules as data.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The version of new rooms when nobody asks for another.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// Every version whose rooms this server can create, join and resolve.
pub const SUPPORTED: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

static RULES: [RoomVersionRules; 12] = [
    RoomVersionRules::V1,
    RoomVersionRules::V2,
    RoomVersionRules::V3,
    RoomVersionRules::V4,
    RoomVersionRules::V5,
    RoomVersionRules::V6,
    RoomVersionRules::V7,
    RoomVersionRules::V8,
    RoomVersionRules::V9,
    RoomVersionRules::V10,
    RoomVersionRules::V11,
    RoomVersionRules::V12,
];

/// The rules of `version`, if this server knows it.
#[must_use]
pub fn rules(version: &RoomVersionId) -> Option<&'static RoomVersionRules> {
    let index = SUPPORTED.iter().position(|known| known == version)?;
    RULES.get(index)
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, events::StateEventType, events::TimelineEventType};

    use super::{DEFAULT, SUPPORTED, rules};

    #[test]
    fn every_supported_version_has_its_own_rules() {
        for (index, version) in SUPPORTED.iter().enumerate() {
            assert_eq!(version.as_str(), (index + 1).to_string());
            let (ours, ruma) = (rules(version).unwrap(), version.rules().unwrap());
            assert_eq!(format!("{ours:?}"), format!("{ruma:?}"));
        }
        assert!(rules(&DEFAULT).is_some());
        assert!(rules(&RoomVersionId::try_from("13").unwrap()).is_none());
    }

    /// Some unstable features of ruma give one event type two spellings. Were one switched on, two
    /// different state keys would fall together and our state would differ from everyone else's.
    #[test]
    fn event_types_keep_their_spelling() {
        for name in [
            "m.beacon_info",
            "m.call.member",
            "m.member_hints",
            "m.room.language",
            "m.room.presence_sharing",
            "m.room.retention",
            "m.beacon",
            "m.call.notify",
            "m.rtc.notification",
            "m.room.encrypted",
        ] {
            assert_eq!(StateEventType::from(name).to_string(), name);
            assert_eq!(TimelineEventType::from(name).to_string(), name);
        }
    }
}
