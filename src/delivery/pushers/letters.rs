//! Pushers that write letters: what has not been read for a while, in one letter.
//!
//! The first notification that is not read makes a letter due, some time later; that moment is written down. Until then
//! the pusher stays where it is in the log, so that a restart loses nothing. When the time has come, whatever is still
//! unread goes into the letter, and only then does the pusher get on. The more letters are not answered by reading, the
//! rarer they get.

use std::collections::VecDeque;

use ruma::{
    OwnedRoomId, OwnedUserId,
    events::{
        StateEventType, TimelineEventType,
        room::{
            canonical_alias::RoomCanonicalAliasEventContent, member::RoomMemberEventContent,
            name::RoomNameEventContent,
        },
    },
};
use serde::Deserialize;

use super::{
    TransportError,
    courier::{Courier, LIMITS, PusherError, Step},
    render::{content, invites, is_from_stranger},
};
use crate::{
    dag::{Pdu, StateId},
    limits::{
        LETTER_LINES_MAX, LETTER_PAUSE_MAX_MS, LETTER_PAUSE_MS, LETTER_TEXT_CHARS_MAX, PUSH_AGE_MAX_MS,
        PUSH_UNWRITTEN_MAX,
    },
    push::{Notice, PusherRow, Writing},
    store::{BoxFuture, StoreError},
    types::{Cursor, Position, Reader},
};

/// What a user has not read, for a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Who has not.
    pub user: OwnedUserId,
    /// Where the letter goes.
    pub address: String,
    /// The newest of it, in order.
    pub lines: Vec<DigestLine>,
    /// How much more there is.
    pub more: usize,
}

/// One notification in a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestLine {
    /// In which room.
    pub room: OwnedRoomId,
    /// How the room is called.
    pub room_name: Option<String>,
    /// How the sender is called.
    pub sender: String,
    /// What they say, if the server can read it; shortened.
    pub text: Option<String>,
    /// Whether it is an invite.
    pub is_invite: bool,
}

/// Takes letters about what was not read to where they go.
pub trait Letters: Send + Sync + 'static {
    /// Resolves when a mail server has taken it.
    fn send<'a>(&'a self, digest: Digest) -> BoxFuture<'a, Result<(), TransportError>>;
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    newest: VecDeque<Notice>,
    total: usize,
}

impl Courier<'_> {
    /// Writes a letter, if it is due.
    pub(super) async fn write_letter(&mut self, row: PusherRow) -> Result<Step, PusherError> {
        let push = &self.pushers.0.push;
        let Some(letters) = &self.pushers.0.letters else { return Ok(Step::Done) };
        if !push.is_address_of(&self.id.user_id, &self.id.pushkey).await? {
            tracing::info!("{} gets no letters any more: the address is gone", self.id.user_id);
            push.remove_pusher(self.id).await?;
            return Ok(Step::Gone);
        }
        if self.is_hopeless(&row) {
            tracing::warn!("{} gets no letter: none could be sent for too long", self.id.user_id);
            return self.move_to(&row, self.pushers.log().head()).await;
        }
        let from = self.cursor.max(row.cursor);
        let (found, to) = self.find(from).await?;
        if found.total == 0 {
            return self.pass_over(&row, to).await;
        }
        let now_ms = self.pushers.now_ms();
        let unread = push.badge(&self.id.user_id, to).await?;
        let is_all_new = usize::try_from(unread).is_ok_and(|unread| unread <= found.total);
        let unanswered = if is_all_new { 0 } else { row.writing.unanswered };
        let due_ms = match row.writing.due_ms {
            Some(due_ms) => due_ms,
            None => {
                let due_ms = self.due_ms(&row, unanswered);
                let after =
                    PusherRow { writing: Writing { due_ms: Some(due_ms), unanswered }, ..row.clone() };
                let Some(_) = self.write(&row, after).await? else { return Ok(Step::Gone) };
                due_ms
            }
        };
        if now_ms < due_ms {
            return Ok(Step::Waits(due_ms));
        }
        let digest = self.digest(found).await?;
        let asked = self.pushers.0.ports.clock.monotonic();
        letters.send(digest).await?;
        self.note_pace(asked);
        let writing = Writing { due_ms: None, unanswered: unanswered.saturating_add(1) };
        let after = PusherRow { cursor: to, told_ms: Some(now_ms), trouble: None, writing, ..row.clone() };
        let Some(_) = self.write(&row, after).await? else { return Ok(Step::Gone) };
        self.cursor = to;
        // Whoever has said something meanwhile has left a note at the desk.
        Ok(Step::Done)
    }

    /// There is nothing to tell up to `to`.
    async fn pass_over(&mut self, row: &PusherRow, to: Position) -> Result<Step, PusherError> {
        self.cursor = to;
        let is_far = to.0.saturating_sub(row.cursor.0) > PUSH_UNWRITTEN_MAX;
        if !is_far && row.writing.due_ms.is_none() {
            return Ok(Step::Done);
        }
        self.move_to(row, to).await
    }

    /// Whether no letter could be sent for so long that what it is about is old, and too much to look at each time.
    fn is_hopeless(&self, row: &PusherRow) -> bool {
        let since_ms = row.trouble.as_ref().map(|trouble| trouble.failing_since_ms);
        since_ms.is_some_and(|since_ms| since_ms + PUSH_AGE_MAX_MS < self.pushers.now_ms())
    }

    /// Writes down that all is told up to `to`.
    async fn move_to(&mut self, row: &PusherRow, to: Position) -> Result<Step, PusherError> {
        self.cursor = to;
        let writing = Writing { due_ms: None, ..row.writing };
        let after = PusherRow { cursor: to, trouble: None, writing, ..row.clone() };
        match self.write(row, after).await? {
            Some(_) => Ok(Step::Done),
            None => Ok(Step::Gone),
        }
    }

    /// When a letter is due about something that has just come up.
    fn due_ms(&self, row: &PusherRow, unanswered: u32) -> u64 {
        let delay_ms = u64::try_from(self.pushers.0.letter_delay.as_millis()).unwrap_or(u64::MAX);
        let after_delay = self.pushers.now_ms().saturating_add(delay_ms);
        let pause_ms = LETTER_PAUSE_MS
            .saturating_mul(1 << unanswered.saturating_sub(1).min(20))
            .min(LETTER_PAUSE_MAX_MS);
        match row.told_ms {
            Some(told_ms) if unanswered > 0 => after_delay.max(told_ms.saturating_add(pause_ms)),
            _ => after_delay,
        }
    }

    /// What is not read from `from` on, and up to where that is known.
    async fn find(&self, from: Position) -> Result<(Found, Position), PusherError> {
        let (push, log) = (&self.pushers.0.push, self.pushers.log());
        let reader = Reader::Pusher(self.id.user_id.clone());
        let (mut found, mut at) = (Found::default(), from);
        loop {
            let page = log.page(&reader, Cursor::at(at), &LIMITS).await?;
            for notice in push.notices(&self.id.user_id, &page).await? {
                found.total += 1;
                if found.newest.len() >= LETTER_LINES_MAX {
                    found.newest.pop_front();
                }
                found.newest.push_back(notice);
            }
            let is_last = page.to.log >= log.head() || page.to.log == at;
            at = page.to.log;
            if is_last {
                return Ok((found, at));
            }
        }
    }

    async fn digest(&self, found: Found) -> Result<Digest, StoreError> {
        let more = found.total - found.newest.len();
        let mut lines = Vec::with_capacity(found.newest.len());
        for notice in &found.newest {
            lines.push(self.line(notice).await?);
        }
        Ok(Digest { user: self.id.user_id.clone(), address: self.id.pushkey.clone(), lines, more })
    }

    async fn line(&self, notice: &Notice) -> Result<DigestLine, StoreError> {
        let (history, event) = (&self.pushers.0.history, &notice.event);
        let pdu = &event.pdu;
        let is_invite = invites(pdu, &self.id.user_id);
        if is_from_stranger(history, &self.id.user_id, pdu).await? {
            let (room, sender) = (pdu.room_id().to_owned(), pdu.sender().to_string());
            return Ok(DigestLine { room, room_name: None, sender, text: None, is_invite });
        }
        let state = event.states.map_or(StateId::EMPTY, |states| states.before);
        let sender = (StateEventType::RoomMember, pdu.sender().as_str());
        let member: Option<RoomMemberEventContent> = content(history, state, sender).await?;
        let name: Option<RoomNameEventContent> =
            content(history, state, (StateEventType::RoomName, "")).await?;
        let alias: Option<RoomCanonicalAliasEventContent> =
            content(history, state, (StateEventType::RoomCanonicalAlias, "")).await?;
        let alias = alias.and_then(|content| content.alias).map(|alias| alias.to_string());
        let shown = member.and_then(|member| member.displayname).filter(|name| !name.is_empty());
        Ok(DigestLine {
            room: pdu.room_id().to_owned(),
            room_name: name
                .map(|name| name.name)
                .filter(|name| !name.is_empty())
                .or(alias)
                .map(|it| short(&it)),
            sender: short(&shown.unwrap_or_else(|| pdu.sender().to_string())),
            text: text_of(pdu),
            is_invite,
        })
    }
}

/// What a message says.
fn text_of(pdu: &Pdu) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        body: String,
    }
    let is_message = *pdu.event_type() == TimelineEventType::RoomMessage;
    let message = pdu.content_as::<Message>().ok().filter(|_| is_message)?;
    Some(short(&message.body))
}

/// A character as it may stand in a line of which others write the rest: it neither ends it nor turns it around.
fn on_one_line(c: char) -> Option<char> {
    match c {
        '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => None,
        c if c.is_control() => Some(' '),
        c => Some(c),
    }
}

/// One line that is not too long.
fn short(text: &str) -> String {
    let mut line: String = text.chars().filter_map(on_one_line).collect();
    if let Some((end, _)) = line.char_indices().nth(LETTER_TEXT_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}
