//! Random rooms, servers and couriers: what each server gets against what it is owed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng as _, SeedableRng, rngs::StdRng};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use tokio_util::task::TaskTracker;

use super::{Audience, Commit, Log, PageLimits};
use crate::{
    limits::{COURIER_BACKLOG_MAX, TRANSACTION_PDUS_MAX},
    store::{Db, memory::Memory},
    types::{Cursor, Fact, Lane, Position, Reader},
};

const LIMITS: PageLimits = PageLimits { append: 4, queue: 3, before_opening: false, backlog: usize::MAX };
const SERVERS: usize = 3;
const ROOMS: usize = 4;

fn server(n: usize) -> OwnedServerName {
    OwnedServerName::try_from(format!("s{n}")).unwrap()
}

fn user(n: usize) -> OwnedUserId {
    OwnedUserId::try_from(format!("@u{n}:here")).unwrap()
}

fn egress(n: usize) -> Lane {
    Lane::Egress(OwnedRoomId::try_from(format!("!r{n}:here")).unwrap())
}

fn event(n: u64) -> Fact {
    Fact::Event { event_id: OwnedEventId::try_from(format!("$e{n}:here")).unwrap() }
}

fn number(fact: &Fact) -> u64 {
    match fact {
        Fact::Event { event_id } => event_id.as_str()[2..].split(':').next().unwrap().parse().unwrap(),
        Fact::Edu { content, .. } => content.parse().unwrap(),
        other => panic!("{other:?} has no number"),
    }
}

async fn open() -> Log {
    Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap()
}

#[derive(Default)]
struct Owed {
    reads: BTreeSet<usize>,
    events: Vec<u64>,
    edus: Vec<u64>,
    people: BTreeMap<OwnedUserId, Position>,
}

struct World {
    log: Log,
    rng: StdRng,
    owed: Vec<Owed>,
    count: u64,
}

impl World {
    async fn step(&mut self) {
        self.count += 1;
        let n = self.count;
        let room = self.rng.random_range(0..ROOMS);
        let who = self.rng.random_range(0..SERVERS);
        let mut commit = Commit::new();
        match self.rng.random_range(0..10) {
            0 => {
                // The event with which a server's first user enters, or its last one leaves, reaches it.
                commit.fact(egress(room), event(n));
                let audience = Audience::Server(server(who));
                if self.owed[who].reads.contains(&room) {
                    self.owe_event(room, n);
                    self.owed[who].reads.remove(&room);
                    commit.close(audience, egress(room));
                } else {
                    self.owed[who].reads.insert(room);
                    self.owe_event(room, n);
                    commit.open(audience, egress(room));
                }
                self.log.commit(commit).await.unwrap();
            }
            1..=5 => {
                commit.fact(egress(room), event(n));
                self.owe_event(room, n);
                self.log.commit(commit).await.unwrap();
            }
            6 | 7 => {
                commit.fact(
                    Lane::Outbox(server(who)),
                    Fact::Edu { edu_type: "m.test".into(), content: n.to_string() },
                );
                self.owed[who].edus.push(n);
                self.log.commit(commit).await.unwrap();
            }
            _ => {
                let user_id = user(self.rng.random_range(0..3));
                commit.fact(Lane::People, Fact::Devices { user_id: user_id.clone() });
                let at = self.log.commit(commit).await.unwrap();
                for owed in &mut self.owed {
                    owed.people.insert(user_id.clone(), at);
                }
            }
        }
    }

    fn owe_event(&mut self, room: usize, n: u64) {
        let readers = self.owed.iter_mut().filter(|owed| owed.reads.contains(&room));
        readers.for_each(|owed| owed.events.push(n));
    }
}

/// What a server has got, page by page.
#[derive(Default)]
struct Got {
    events: Vec<u64>,
    edus: Vec<u64>,
    people: BTreeMap<OwnedUserId, Position>,
}

async fn deliver(log: &Log, server: &OwnedServerName, from: Cursor, got: &mut Got) -> Cursor {
    let reader = Reader::Server(server.clone());
    let page = log.page(&reader, from, &LIMITS).await.unwrap();
    let mut events = Vec::new();
    for slice in page.slices {
        assert!(!slice.gap, "a gap without a backlog");
        for (at, fact) in slice.facts {
            match fact {
                Fact::Event { .. } => events.push((at, number(&fact))),
                Fact::Edu { .. } => got.edus.push(number(&fact)),
                Fact::Devices { user_id } => {
                    got.people.insert(user_id, at);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(events.len() <= LIMITS.append, "a page of {} events", events.len());
    events.sort_unstable();
    got.events.extend(events.into_iter().map(|(_, n)| n));
    assert!(page.to.log >= from.log && page.to.queue >= from.queue, "the cursor went back");
    page.to
}

/// Everyone gets everything that they are owed, once and in order, whatever the sizes of the pages.
#[tokio::test]
async fn every_server_gets_what_it_is_owed() {
    for seed in 0..40 {
        println!("seed {seed}");
        let log = open().await;
        log.load_servers().await.unwrap();
        let owed = (0..SERVERS).map(|_| Owed::default()).collect();
        let mut world = World { log: log.clone(), rng: StdRng::seed_from_u64(seed), owed, count: 0 };
        let mut got: Vec<Got> = (0..SERVERS).map(|_| Got::default()).collect();
        let mut cursors = [Cursor::default(); SERVERS];
        for _ in 0..150 {
            world.step().await;
            if world.rng.random_bool(0.3) {
                let who = world.rng.random_range(0..SERVERS);
                // An answer that is lost: the same page again is the same, or has more.
                let mut lost = Got::default();
                deliver(&log, &server(who), cursors[who], &mut lost).await;
                let before = got[who].events.len();
                cursors[who] = deliver(&log, &server(who), cursors[who], &mut got[who]).await;
                assert!(got[who].events[before..].starts_with(&lost.events));
                log.ack(&Reader::Server(server(who)), cursors[who]).await.unwrap();
                assert_eq!(log.cursor_of(&server(who)).await.unwrap(), cursors[who]);
            }
        }
        for who in 0..SERVERS {
            for _ in 0..200 {
                cursors[who] = deliver(&log, &server(who), cursors[who], &mut got[who]).await;
            }
            assert_eq!(got[who].events, world.owed[who].events, "events of server {who}, seed {seed}");
            assert_eq!(got[who].edus, world.owed[who].edus, "outbox of server {who}, seed {seed}");
            assert_eq!(got[who].people, world.owed[who].people, "people for server {who}, seed {seed}");
        }
        log.close();
    }
}

/// News names exactly those for whom something was written, also those from before the start.
#[tokio::test]
async fn news_names_whom_it_concerns() {
    let log = open().await;
    let mut commit = Commit::new();
    commit.fact(egress(1), event(1));
    commit.open(Audience::Server(server(1)), egress(1));
    commit.fact(Lane::Outbox(server(2)), Fact::Edu { edu_type: "m.test".into(), content: "1".into() });
    log.commit(commit).await.unwrap();
    let known = log.load_servers().await.unwrap();
    assert_eq!(known.all, BTreeSet::from([server(1), server(2)]));
    assert_eq!(known.sharing, BTreeSet::from([server(1)]));
    assert_eq!(log.servers_of(ruma::room_id!("!r1:here")), BTreeSet::from([server(1)]));

    let mut commit = Commit::new();
    commit.fact(egress(1), event(2));
    commit.fact(egress(2), event(3));
    commit.fact(Lane::People, Fact::Devices { user_id: user(1) });
    log.commit(commit).await.unwrap();
    let news = log.news().await;
    assert_eq!(news.servers, BTreeSet::from([server(1)]));
    assert_eq!(news.people, BTreeSet::from([user(1)]));

    // Who leaves is still told of it, and then of nothing more.
    let mut commit = Commit::new();
    commit.fact(egress(1), event(4));
    commit.close(Audience::Server(server(1)), egress(1));
    log.commit(commit).await.unwrap();
    assert_eq!(log.news().await.servers, BTreeSet::from([server(1)]));
    let mut commit = Commit::new();
    commit.fact(egress(1), event(5));
    commit.fact(Lane::Outbox(server(3)), Fact::Edu { edu_type: "m.test".into(), content: "1".into() });
    log.commit(commit).await.unwrap();
    assert_eq!(log.news().await.servers, BTreeSet::from([server(3)]));
    log.close();
    assert!(log.news().await.is_empty());
}

/// What couriers ask for.
const COURIER: PageLimits = PageLimits {
    append: TRANSACTION_PDUS_MAX,
    queue: 40,
    before_opening: false,
    backlog: COURIER_BACKLOG_MAX,
};

/// `counts[n]` events wait for server 1 in room `n`, written in turns; the cursor before them.
async fn with_backlog(counts: &[usize]) -> (Log, Cursor) {
    let log = open().await;
    for room in 0..counts.len() {
        let mut commit = Commit::new();
        commit.fact(egress(room), event(0));
        commit.open(Audience::Server(server(1)), egress(room));
        log.commit(commit).await.unwrap();
    }
    let from = Cursor::at(log.head());
    for n in 0..counts.iter().copied().max().unwrap_or_default() {
        for room in (0..counts.len()).filter(|room| n < counts[*room]) {
            let mut commit = Commit::new();
            commit.fact(egress(room), event((room * 100_000 + n) as u64));
            log.commit_later(commit);
        }
        if n % 100 == 0 {
            log.commit(Commit::new()).await.unwrap();
        }
    }
    log.commit(Commit::new()).await.unwrap();
    (log, from)
}

/// What server 1 gets, transaction by transaction, and the rooms of which it got only the newest.
async fn transactions(log: &Log, mut from: Cursor) -> (Vec<Vec<u64>>, BTreeSet<Lane>) {
    let (mut transactions, mut gaps) = (Vec::new(), BTreeSet::new());
    while from != Cursor::at(log.head()) {
        let page = log.page(&Reader::Server(server(1)), from, &COURIER).await.unwrap();
        gaps.extend(page.slices.iter().filter(|slice| slice.gap).map(|slice| slice.lane.clone()));
        let mut facts: Vec<_> = page.slices.iter().flat_map(|slice| &slice.facts).collect();
        facts.sort_by_key(|(at, _)| *at);
        transactions.push(facts.into_iter().map(|(_, fact)| number(fact)).collect());
        from = page.to;
    }
    (transactions, gaps)
}

/// A server that was away gets all that was said, oldest first.
#[tokio::test]
async fn a_backlog_comes_whole_and_in_order() {
    let (log, from) = with_backlog(&[COURIER_BACKLOG_MAX]).await;
    let (transactions, gaps) = transactions(&log, from).await;
    assert!(gaps.is_empty());
    assert_eq!(transactions.len(), COURIER_BACKLOG_MAX / TRANSACTION_PDUS_MAX);
    assert!(transactions.concat().into_iter().eq(0..COURIER_BACKLOG_MAX as u64));
    log.close();
}

/// A server that was away for long gets the newest event of a busy room, marked as a gap.
#[tokio::test]
async fn a_great_backlog_is_cut_to_the_newest() {
    let (log, from) = with_backlog(&[COURIER_BACKLOG_MAX + 1, 1]).await;
    let (transactions, gaps) = transactions(&log, from).await;
    assert_eq!(gaps, BTreeSet::from([egress(0)]));
    assert_eq!(transactions, [[100_000, COURIER_BACKLOG_MAX as u64]]);
    log.close();
}

/// The order is that of the log, so that a message waits for what was said before it in other rooms. Busy rooms
/// share what may wait, so that this is 100 transactions, however many rooms there are.
#[tokio::test]
async fn a_message_in_another_room_waits_for_so_many_transactions_at_most() {
    for (busy, each, is_cut) in [(1, 5_000, false), (10, 500, false), (10, 501, true), (40, 1_000, true)] {
        let (log, from) = with_backlog(&vec![each; busy]).await;
        let mut commit = Commit::new();
        commit.fact(egress(busy), event(1));
        commit.fact(egress(busy), event(9_999_999));
        commit.open(Audience::Server(server(1)), egress(busy));
        log.commit(commit).await.unwrap();
        let (transactions, gaps) = transactions(&log, from).await;
        let waits = transactions.iter().position(|events| events.contains(&9_999_999)).unwrap();
        println!("{busy} rooms of {each}: {waits} transactions before the message");
        assert!(waits <= COURIER_BACKLOG_MAX / TRANSACTION_PDUS_MAX, "it waits for {waits}");
        assert_eq!(gaps.len(), if is_cut { busy } else { 0 });
        log.close();
    }
}

/// Events that come together may take the last user of a server out of a room and another one in. Neither the
/// server nor a user who waits may be forgotten by that.
#[tokio::test]
async fn a_lane_that_one_commit_closes_and_opens_again_is_read() {
    let log = open().await;
    let (egress, room) = (egress(1), Lane::Room(OwnedRoomId::try_from("!r1:here").unwrap()));
    let readers = [(Audience::Server(server(1)), egress.clone()), (Audience::Account(user(1)), room.clone())];
    let mut commit = Commit::new();
    commit.fact(egress.clone(), event(1));
    readers.iter().for_each(|(audience, lane)| commit.open(audience.clone(), lane.clone()));
    log.commit(commit).await.unwrap();
    log.load_servers().await.unwrap();

    let (reader, start) = (Reader::Device(user(1), "DEVICE".into()), Cursor::at(log.head()));
    let mut waiting = std::pin::pin!(log.wait(&reader, start));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let mut commit = Commit::new();
    commit.fact(egress.clone(), event(2));
    readers.iter().for_each(|(audience, lane)| commit.close(audience.clone(), lane.clone()));
    commit.fact(egress.clone(), event(3));
    readers.iter().for_each(|(audience, lane)| commit.open(audience.clone(), lane.clone()));
    log.commit(commit).await.unwrap();
    assert_eq!(log.news().await.servers, BTreeSet::from([server(1)]));

    let from = Cursor::at(log.head());
    let mut waiting = std::pin::pin!(log.wait(&reader, from));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let mut commit = Commit::new();
    commit.fact(egress.clone(), event(4));
    commit.fact(room, event(4));
    log.commit(commit).await.unwrap();
    assert!(futures_util::poll!(&mut waiting).is_ready(), "a user who waits is woken");
    assert!(log.servers_of(&OwnedRoomId::try_from("!r1:here").unwrap()).contains(&server(1)));
    let mut got = Vec::new();
    for slice in log.page(&Reader::Server(server(1)), start, &LIMITS).await.unwrap().slices {
        got.extend(slice.facts.iter().map(|(_, fact)| number(fact)));
    }
    assert_eq!(got, [2, 3, 4]);
    log.close();
}
