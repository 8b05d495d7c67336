//! The page of what a user's pushers tell of: the rooms of the user and their account, oldest first.

use ruma::OwnedUserId;

use super::{Audience, Direction, Log, Page, PageLimits, Slice};
use crate::{
    limits::SCAN_ROWS_MAX,
    store::StoreError,
    types::{Cursor, Fact, Lane, Position},
};

/// The next page for the pushers of a user: facts of `Append` retention of the rooms that the user is in,
/// at most `limits.append` of each room, and the registers of the account. No gaps: when there is more,
/// the page ends before the head.
pub(super) async fn of_user(
    log: &Log,
    user: &OwnedUserId,
    from: Position,
    limits: &PageLimits,
) -> Result<Page, StoreError> {
    let head = log.head();
    let subscriptions = log.subscriptions(&Audience::Account(user.clone())).await?;
    let mut wanted = Vec::new();
    for lane in log.beyond(from, &subscriptions) {
        let Lane::Room(room) = &lane else { continue };
        for interval in subscriptions.intervals(&lane) {
            let begin = from.max(Position(interval.opened.0.saturating_sub(1)));
            let end = interval.closed.unwrap_or(head).min(head);
            if begin < end {
                wanted.push((room.clone(), begin, end));
            }
        }
    }
    let found = log.timelines(&wanted, Direction::Forward, limits.append + 1).await?;
    let account = Lane::Account(user.clone());
    let own = match log.may_have(&account, from) {
        true => log.registers(&account, from, head).await?,
        false => Vec::new(),
    };
    let mut to = end(head, &own, SCAN_ROWS_MAX - 1);
    for facts in &found {
        to = to.min(end(head, facts, limits.append));
    }
    let mut slices = Vec::new();
    let lanes = wanted.into_iter().map(|(room, ..)| Lane::Room(room)).zip(found);
    for (lane, mut facts) in lanes.chain([(account, own)]) {
        facts.retain(|(at, _)| *at <= to);
        if !facts.is_empty() {
            slices.push(Slice { lane, facts, gap: false, opened: None, closed: None });
        }
    }
    Ok(Page { from: Cursor::at(from), to: Cursor::at(to), slices })
}

/// Up to where the first `limit` facts reach.
fn end(head: Position, facts: &[(Position, Fact)], limit: usize) -> Position {
    match facts.get(limit) {
        Some((first_too_many, _)) => Position(first_too_many.0.saturating_sub(1)),
        None => head,
    }
}
