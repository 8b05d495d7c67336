//! Keys of a backup as an answer that is never in memory as a whole: a backup may be large.

use std::collections::VecDeque;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use ruma::OwnedRoomId;
use serde_json::value::RawValue;

use crate::{
    device::{BackupRange, DeviceError, Devices},
    http::{App, Failure},
};

/// How the answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Sessions by room.
    Rooms,
    /// The sessions of one room.
    Sessions,
}

/// Writes an answer page by page.
struct Writing {
    devices: Devices,
    keys: BackupRange,
    shape: Shape,
    /// The room whose sessions are being written.
    room: Option<OwnedRoomId>,
    /// Whether there is nothing more to write.
    is_done: bool,
}

/// All keys of a range.
pub(super) async fn answer(app: &App, keys: BackupRange, shape: Shape) -> Result<Response, Failure> {
    let mut writing = Writing { devices: app.devices.clone(), keys, shape, room: None, is_done: false };
    // What cannot be read at all is refused; what fails later breaks the answer off.
    let begin = match shape {
        Shape::Rooms => "{\"rooms\":{",
        Shape::Sessions => "{\"sessions\":{",
    };
    let first = writing.page().await?;
    let ready = VecDeque::from([Bytes::from(begin), first]);
    let body = stream::try_unfold((writing, ready), |(mut writing, mut ready)| async move {
        if let Some(ready_made) = ready.pop_front() {
            return Ok(Some((ready_made, (writing, ready))));
        }
        if writing.is_done {
            return Ok::<_, DeviceError>(None);
        }
        let page = writing.page().await?;
        Ok(Some((page, (writing, ready))))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Writing {
    /// The next keys, or after the last one the end.
    async fn page(&mut self) -> Result<Bytes, DeviceError> {
        let keys = self.devices.next_backup_keys(&mut self.keys).await?;
        let mut text = String::new();
        if keys.is_empty() {
            self.is_done = true;
            text.push_str(match (self.shape, &self.room) {
                (Shape::Rooms, Some(_)) => "}}}}",
                _ => "}}",
            });
        }
        for (room, session, key) in keys {
            self.write(&mut text, room, (&session, &key));
        }
        Ok(Bytes::from(text))
    }

    fn write(&mut self, text: &mut String, room: OwnedRoomId, (session, key): (&str, &RawValue)) {
        let is_same = self.room.as_ref() == Some(&room);
        if is_same {
            text.push(',');
        } else if self.shape == Shape::Rooms {
            text.push_str(if self.room.is_some() { "}}," } else { "" });
            text.push_str(&quoted(room.as_str()));
            text.push_str(":{\"sessions\":{");
        }
        self.room = Some(room);
        text.push_str(&quoted(session));
        text.push(':');
        text.push_str(key.get());
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
