//! Pages: what a reader gets, `(from, to]` of the log, cut into lanes.

use ruma::{OwnedDeviceId, OwnedUserId};

use super::{
    Audience, Log,
    lane::{Class, class_range, decode_fact, position_of},
};
use crate::{
    limits::SCAN_ROWS_MAX,
    store::{Scan, StoreError},
    types::{Cursor, Fact, Lane, Position},
};

/// How much of each kind a page may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Facts of `Append` retention. For a device, of each lane: the newest are kept and `gap` says that
    /// there are more. For a server, in all: the oldest come first and the rest waits.
    pub append: usize,
    /// Facts of `Queue` retention; the oldest come first and the rest waits.
    pub queue: usize,
    /// Whether a lane that was opened within the page is given from its very beginning, so that the
    /// reader learns what its registers hold; what of the rest it may see is then for the caller to say.
    pub before_opening: bool,
    /// For a server: facts of `Append` retention that may wait in all lanes of which more wait than a page
    /// carries. A lane with more than its share of this is cut to its newest fact, with a `gap`.
    pub backlog: usize,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the page begins (exclusive).
    pub from: Cursor,
    /// Where it ends (inclusive); the reader's next cursor.
    pub to: Cursor,
    /// The lanes that have something, or that were opened or closed, in lane order.
    pub slices: Vec<Slice>,
}

/// One lane's share of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The lane.
    pub lane: Lane,
    /// The facts, oldest first.
    pub facts: Vec<(Position, Fact)>,
    /// There are older facts of `Append` retention in the page's interval that it does not carry.
    pub gap: bool,
    /// Set when the lane was opened within the page.
    pub opened: Option<Position>,
    /// Set when the lane was closed within the page.
    pub closed: Option<Position>,
}

struct Part {
    lane: Lane,
    from: Position,
    to: Position,
    opened: Option<Position>,
    closed: Option<Position>,
    gap: bool,
}

/// The next page of a device.
pub(super) async fn of_device(
    log: &Log,
    (user, device): (&OwnedUserId, &OwnedDeviceId),
    from: Cursor,
    limits: &PageLimits,
) -> Result<Page, StoreError> {
    let to = log.head();
    let parts = parts(log, user, (from.log, to), limits.before_opening).await?;
    let inbox = Lane::Inbox(user.clone(), device.clone());
    let mut scans = Vec::with_capacity(parts.len() * 2 + 2);
    for part in &parts {
        scans.push(scan(&part.lane, Class::Append, (part.from, part.to), (true, limits.append + 1)));
        scans.push(scan(&part.lane, Class::Register, (part.from, part.to), (false, SCAN_ROWS_MAX)));
    }
    scans.push(scan(&inbox, Class::Register, (from.log, to), (false, SCAN_ROWS_MAX)));
    scans.push(scan(&inbox, Class::Queue, (from.queue, to), (false, limits.queue + 1)));
    let found = log.db().scan_many(&scans).await?;
    let mut found = found.into_iter().map(|rows| {
        rows.into_iter()
            .map(|(key, value)| Ok((position_of(&key)?, decode_fact(&value)?)))
            .collect::<Result<Vec<(Position, Fact)>, StoreError>>()
    });
    let mut slices = Vec::new();
    for part in parts {
        let mut facts = found.next().transpose()?.unwrap_or_default();
        let gap = part.gap || facts.len() > limits.append;
        facts.truncate(limits.append);
        let mut registers = found.next().transpose()?.unwrap_or_default();
        log.complete_registers(&part.lane, part.to, &mut registers).await?;
        facts.extend(registers);
        facts.extend(log.volatile(&part.lane, part.from, part.to));
        facts.sort_by_key(|(position, _)| *position);
        if !facts.is_empty() || gap || part.opened.is_some() || part.closed.is_some() {
            slices.push(Slice { lane: part.lane, facts, gap, opened: part.opened, closed: part.closed });
        }
    }
    let mut facts = found.next().transpose()?.unwrap_or_default();
    let mut queued = found.next().transpose()?.unwrap_or_default();
    let more = queued.len() > limits.queue;
    queued.truncate(limits.queue);
    let queue = match queued.last() {
        Some((last, _)) if more => *last,
        _ => to,
    };
    facts.extend(queued);
    if !facts.is_empty() {
        slices.push(Slice { lane: inbox, facts, gap: false, opened: None, closed: None });
    }
    Ok(Page { from, to: Cursor { log: to, queue }, slices })
}

/// The lanes that a device reads besides its inbox, each with the interval that the page covers.
async fn parts(
    log: &Log,
    user: &OwnedUserId,
    (from, to): (Position, Position),
    before_opening: bool,
) -> Result<Vec<Part>, StoreError> {
    let subscriptions = log.subscriptions(&Audience::Account(user.clone())).await?;
    let plain = |lane: Lane| Part { lane, from, to, opened: None, closed: None, gap: false };
    // What changed of profiles is looked up beside the page, by those who ask for it.
    let mut parts: Vec<Part> = [Lane::Account(user.clone()), Lane::People]
        .into_iter()
        .filter(|lane| log.may_have(lane, from))
        // Who has nothing yet has no use for what changed of whom.
        .filter(|lane| !before_opening || from > Position::ZERO || *lane != Lane::People)
        .map(plain)
        .collect();
    for lane in log.beyond(from, &subscriptions) {
        let intervals = subscriptions.intervals(&lane);
        let Some(latest) = intervals.last() else { continue };
        let closed = latest.closed.filter(|closed| *closed <= to);
        if latest.opened > to || closed.is_some_and(|closed| closed <= from) {
            continue;
        }
        let opened = Some(latest.opened).filter(|opened| *opened > from);
        let begin = match opened {
            Some(_) if before_opening => Position::ZERO,
            Some(opened) => Position(opened.0 - 1),
            None => from,
        };
        // An earlier interval that reaches into the page is not carried: the room counts as new.
        let earlier = intervals[..intervals.len() - 1].last().and_then(|interval| interval.closed);
        let gap = opened.is_some() && earlier.is_some_and(|earlier| earlier > from);
        parts.push(Part { lane, from: begin, to: closed.unwrap_or(to), opened, closed, gap });
    }
    parts.sort_by(|a, b| a.lane.cmp(&b.lane));
    Ok(parts)
}

fn scan(
    lane: &Lane,
    class: Class,
    (from, to): (Position, Position),
    (reverse, limit): (bool, usize),
) -> Scan {
    let (from, to) = class_range(lane, class, from, to);
    Scan { from, to, reverse, limit }
}
