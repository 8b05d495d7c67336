//! The page of a remote server: what its courier delivers next.

use ruma::OwnedServerName;

use super::{
    Audience, Log, Page, PageLimits, Slice,
    lane::{Class, class_range, decode_fact, position_of},
};
use crate::{
    limits::{SCAN_ROWS_MAX, TRANSACTION_EDUS_MAX},
    store::{Scan, StoreError},
    types::{Cursor, Fact, Lane, Position},
};

/// A lane and the interval of it that a page covers.
type Part = (Lane, Position, Position);

/// A fact of a lane, before it is known whether the page has room for it.
struct Candidate {
    lane: Lane,
    at: Position,
    fact: Fact,
}

/// The next page of a server.
///
/// Everything up to the page's end is carried, oldest first. When it is too much, the end is before the head: nothing
/// is left out but what lies behind in a lane with a great backlog ([`PageLimits::backlog`]), which is marked as a gap.
pub(super) async fn of_server(
    log: &Log,
    server: &OwnedServerName,
    from: Cursor,
    limits: &PageLimits,
) -> Result<Page, StoreError> {
    let head = log.head();
    let (queued, queue) = queued(log, server, (from.queue, head), limits.queue).await?;
    let is_edu = |fact: &Fact| matches!(fact, Fact::Edu { .. });
    let edus_queued = queued.iter().filter(|(_, fact)| is_edu(fact)).count();
    let parts = parts(log, server, from.log, head).await?;
    let (mut events, gaps) = events(log, &parts, limits).await?;
    let mut rest = registers(log, &parts, (from.log, head)).await?;
    let pdus = limits.append.saturating_sub(queued.len() - edus_queued).max(1);
    let edus = TRANSACTION_EDUS_MAX.saturating_sub(edus_queued).max(1);
    let to = end(&mut events, pdus).min(end(&mut rest, edus)).min(head);
    let carried = events.into_iter().chain(rest).filter(|candidate| candidate.at <= to);
    let mut slices: Vec<Slice> = Vec::new();
    let plain = |lane: Lane, facts| Slice { lane, facts, gap: false, opened: None, closed: None };
    for Candidate { lane, at, fact } in carried {
        match slices.iter_mut().find(|slice| slice.lane == lane) {
            Some(slice) => slice.facts.push((at, fact)),
            None => slices.push(plain(lane, vec![(at, fact)])),
        }
    }
    for lane in gaps {
        match slices.iter_mut().find(|slice| slice.lane == lane) {
            Some(slice) => slice.gap = true,
            None => slices.push(Slice { gap: true, ..plain(lane, Vec::new()) }),
        }
    }
    slices.iter_mut().for_each(|slice| slice.facts.sort_by_key(|(at, _)| *at));
    if !queued.is_empty() {
        slices.push(plain(Lane::Outbox(server.clone()), queued));
    }
    slices.sort_by(|a, b| a.lane.cmp(&b.lane));
    Ok(Page { from, to: Cursor { log: to, queue }, slices })
}

/// How many facts wait for a server in its outbox and its rooms, counted up to `max`.
pub(super) async fn waiting(log: &Log, server: &OwnedServerName, max: usize) -> Result<usize, StoreError> {
    let (from, head) = (log.cursor_of(server).await?, log.head());
    let mut count = queued(log, server, (from.queue, head), max).await?.0.len();
    for (lane, from, to) in parts(log, server, from.log, head).await? {
        for class in [Class::Append, Class::Register] {
            let (from, to) = class_range(&lane, class, from, to);
            let scan = Scan { from, to, reverse: false, limit: max.saturating_sub(count) };
            if scan.limit == 0 {
                return Ok(max);
            }
            count += log.db().scan_many(&[scan]).await?.iter().map(Vec::len).sum::<usize>();
        }
    }
    Ok(count)
}

/// Sorts, and says up to where the first `limit` reach. Facts of one position go together.
fn end(candidates: &mut [Candidate], limit: usize) -> Position {
    candidates.sort_by(|a, b| (a.at, &a.lane).cmp(&(b.at, &b.lane)));
    let Some(first_too_many) = candidates.get(limit) else { return Position(u64::MAX) };
    let cut = Position(first_too_many.at.0.saturating_sub(1));
    match candidates.first() {
        // More of one position than there is room for: they have to go, or nothing ever would.
        Some(first) if first.at > cut => first.at,
        _ => cut,
    }
}

/// What waits in the outbox, and up to where the page has it.
async fn queued(
    log: &Log,
    server: &OwnedServerName,
    (from, head): (Position, Position),
    limit: usize,
) -> Result<(Vec<(Position, Fact)>, Position), StoreError> {
    let outbox = Lane::Outbox(server.clone());
    if !log.may_have(&outbox, from) {
        return Ok((Vec::new(), head));
    }
    let mut queued = log.queued(&outbox, from, limit + 1).await?;
    let more = queued.len() > limit;
    queued.truncate(limit);
    let to = queued.last().filter(|_| more).map_or(head, |(last, _)| *last);
    Ok((queued, to))
}

/// The intervals of the rooms' lanes that the page covers.
async fn parts(
    log: &Log,
    server: &OwnedServerName,
    from: Position,
    head: Position,
) -> Result<Vec<Part>, StoreError> {
    let subscriptions = log.subscriptions(&Audience::Server(server.clone())).await?;
    let mut parts = Vec::new();
    for lane in log.beyond(from, &subscriptions) {
        for interval in subscriptions.intervals(&lane) {
            let begin = from.max(Position(interval.opened.0.saturating_sub(1)));
            let end = interval.closed.unwrap_or(head).min(head);
            if begin < end {
                parts.push((lane.clone(), begin, end));
            }
        }
    }
    Ok(parts)
}

/// The first events of the lanes, as many as the page may have and one more, and the lanes of which only the newest
/// is given.
async fn events(
    log: &Log,
    parts: &[Part],
    limits: &PageLimits,
) -> Result<(Vec<Candidate>, Vec<Lane>), StoreError> {
    let scan = |(lane, from, to): &Part, reverse, limit| {
        let (from, to) = class_range(lane, Class::Append, *from, *to);
        Scan { from, to, reverse, limit }
    };
    let first: Vec<Scan> = parts.iter().map(|part| scan(part, false, limits.append + 1)).collect();
    let mut found = log.db().scan_many(&first).await?;
    let busy: Vec<usize> = (0..parts.len()).filter(|n| found[*n].len() > limits.append).collect();
    let share = limits.backlog.checked_div(busy.len()).unwrap_or_default().max(limits.append);
    let mut gaps = Vec::new();
    for n in busy {
        let (lane, from, to) = &parts[n];
        // No lane has more facts than there are positions.
        if usize::try_from(to.0 - from.0).is_ok_and(|span| span <= share) || share == usize::MAX {
            continue;
        }
        let counted = log.db().scan_many(&[scan(&parts[n], false, share + 1)]).await?.pop();
        if counted.is_some_and(|rows| rows.len() > share) {
            gaps.push(lane.clone());
            found[n] = log.db().scan_many(&[scan(&parts[n], true, 1)]).await?.pop().unwrap_or_default();
        }
    }
    let mut candidates = Vec::new();
    for ((lane, ..), rows) in parts.iter().zip(found) {
        for (key, value) in rows {
            let (at, fact) = (position_of(&key)?, decode_fact(&value)?);
            candidates.push(Candidate { lane: lane.clone(), at, fact });
        }
    }
    Ok((candidates, gaps))
}

/// What stands in the registers of the lanes and of all people.
async fn registers(
    log: &Log,
    parts: &[Part],
    (from, head): (Position, Position),
) -> Result<Vec<Candidate>, StoreError> {
    let people = log.may_have(&Lane::People, from).then_some((Lane::People, from, head));
    let parts: Vec<_> = parts.iter().cloned().chain(people).collect();
    let scan = |(lane, from, to): &Part| {
        let (from, to) = class_range(lane, Class::Register, *from, *to);
        Scan { from, to, reverse: false, limit: SCAN_ROWS_MAX }
    };
    let scans: Vec<Scan> = parts.iter().map(scan).collect();
    let mut candidates = Vec::new();
    for ((lane, from, to), rows) in parts.into_iter().zip(log.db().scan_many(&scans).await?) {
        for (key, value) in rows {
            let (at, fact) = (position_of(&key)?, decode_fact(&value)?);
            candidates.push(Candidate { lane: lane.clone(), at, fact });
        }
        let volatile = log.volatile(&lane, from, to).into_iter();
        candidates.extend(volatile.map(|(at, fact)| Candidate { lane: lane.clone(), at, fact }));
    }
    Ok(candidates)
}
