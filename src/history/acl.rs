//! Which servers a room lets take part.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>

use ruma::{
    RoomId, ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::Value;

use super::History;
use crate::store::StoreError;

impl History {
    /// Whether the current state of `room` lets `server` take part. A room without a list lets everyone,
    /// and so does a room that is not known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn allows_server(&self, room: &RoomId, server: &ServerName) -> Result<bool, StoreError> {
        let Some(state) = self.current_state(room).await? else { return Ok(true) };
        let list = self.state_event(state, StateEventType::RoomServerAcl, "").await?;
        Ok(list.is_none_or(|list| acl(list.pdu.content().get()).is_allowed(server)))
    }
}

/// Reads a list as the specification says it is read: what is missing or of the wrong type has its default.
fn acl(content: &str) -> RoomServerAclEventContent {
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let names = |field: &str| {
        let names = content.get(field).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    };
    let allow_ip_literals = content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true);
    RoomServerAclEventContent::new(allow_ip_literals, names("allow"), names("deny"))
}

#[cfg(test)]
mod tests {
    use super::acl;

    #[test]
    fn lists_are_read_as_specified() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (r#"{"allow":["*"]}"#, &["a.org", "1.2.3.4", "[::1]:80"], &[]),
            (r#"{"allow":["*"],"allow_ip_literals":false}"#, &["a.org"], &["1.2.3.4", "1.2.3.4:80", "[::1]"]),
            (
                r#"{"allow":["*"],"deny":["evil.org","*.evil.org"]}"#,
                &["a.org"],
                &["evil.org", "x.evil.org:1", "EVIL.org"],
            ),
            (r#"{"allow":["?.org"]}"#, &["a.org"], &["ab.org", "a.com"]),
            ("{}", &[], &["a.org"]),
            (r#"{"allow":"*"}"#, &[], &["a.org"]),
            (r#"{"allow":["*"],"deny":"a.org","allow_ip_literals":"no"}"#, &["a.org", "1.2.3.4"], &[]),
            ("[]", &[], &["a.org"]),
        ];
        for (content, allowed, denied) in cases {
            for (servers, expected) in [(allowed, true), (denied, false)] {
                for server in *servers {
                    let server = ruma::OwnedServerName::try_from(*server).unwrap();
                    assert_eq!(acl(content).is_allowed(&server), expected, "{server} by {content}");
                }
            }
        }
    }
}
