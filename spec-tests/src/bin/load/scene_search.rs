//! Searches for words in the messages of somebody's rooms.

use std::cell::RefCell;

use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{Outcome, matrix::Client};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work, all},
    options::Sizes,
    target::Target,
};

const PATH: &str = "/_matrix/client/v3/search";
/// Who writes, each as many messages in each of the rooms.
const WRITERS: usize = 4;
const ROOMS: usize = 10;
/// Words of a message, and of the language.
const WORDS_EACH: usize = 10;
const WORDS: usize = 5_000;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let corpora = RefCell::default();
    let count = (sizes.sends / sizes.rounds / 10).max(2);
    for is_rare in [false, true] {
        bench.play(&Find { messages: sizes.messages, is_rare, count, corpora: &corpora }, targets).await?;
    }
    Ok(())
}

struct Find<'a> {
    messages: usize,
    /// A word of a few messages in 100,000, or of one in twenty.
    is_rare: bool,
    count: usize,
    /// Who may search in each target, by its name.
    corpora: &'a RefCell<Vec<(String, Client)>>,
}

impl Scene for Find<'_> {
    /// Who searches, and how often already.
    type State = (Client, usize);

    fn name(&self) -> String {
        let word = if self.is_rare { "a rare word" } else { "a common word" };
        format!("search {} messages, {word}", self.messages)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let known = self.corpora.borrow().iter().find(|(name, _)| *name == target.name).cloned();
        if let Some((_, user)) = known {
            return Ok((user, 0));
        }
        let users = target.users(WRITERS).await?;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(target.room(&users).await?);
        }
        let each = self.messages / WRITERS;
        let rooms = &rooms;
        all(users.iter().enumerate().map(|(at, user)| async move {
            let mut chance = Chance::new(at);
            for room in rooms.iter().cycle().take(each) {
                user.say(room, &chance.sentence()).await?;
            }
            Outcome::Ok(())
        }))
        .await?;
        self.corpora.borrow_mut().push((target.name.clone(), users[0].clone()));
        // The first one waits for what is not indexed yet.
        find(&users[0], &word(0)).await?;
        target.calm().await?;
        Ok((users[0].clone(), 0))
    }

    async fn round(&self, _target: &Target, (user, searches): &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        for _ in 0..self.count {
            // Another word each time, since a server may remember its answer.
            let rank = match self.is_rare {
                false => 10 + *searches % 50,
                true => WORDS / 2 + *searches % (WORDS / 2),
            };
            *searches += 1;
            let begun = Instant::now();
            let (count, results) = find(user, &word(rank)).await?;
            work.latencies.push(begun.elapsed());
            if !self.is_rare && (count < 50 || results != 10) {
                return Err(format!("{count} messages found, {results} told").into());
            }
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}

/// How many messages with a word there are said to be, and how many of them come.
async fn find(user: &Client, word: &str) -> Outcome<(u64, usize)> {
    let request = json!({"search_categories": {"room_events": {
        "search_term": word, "order_by": "recent", "keys": ["content.body"],
        "event_context": {"before_limit": 1, "after_limit": 1, "include_profile": true},
    }}});
    let found: Value = serde_json::from_slice(&user.bytes(Method::POST, PATH, Some(&request)).await?)?;
    let found = &found["search_categories"]["room_events"];
    Ok((found["count"].as_u64().unwrap_or(0), found["results"].as_array().map_or(0, Vec::len)))
}

/// The word of this rank in an invented language.
fn word(rank: usize) -> String {
    let mut rest = rank * 7 + 1_000;
    let mut word = String::new();
    while rest > 0 {
        word.push(char::from(b"bdfgklmnprtvz"[rest % 13]));
        rest /= 13;
        word.push(char::from(b"aiou"[rest % 4]));
        rest /= 4;
    }
    word
}

/// What people write, the same in each run.
struct Chance(u64);

impl Chance {
    fn new(seed: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (u64::try_from(seed).unwrap_or(0) + 1) << 32)
    }

    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 40).unwrap_or(0)
    }

    /// Ten words, each the rarer the higher its rank, as in any language.
    fn sentence(&mut self) -> String {
        let mut words = Vec::with_capacity(WORDS_EACH);
        while words.len() < WORDS_EACH {
            // Ranks between two powers are as likely as those between the next two: Zipf's law.
            let octave = self.next() % 13;
            let rank = (1 << octave) + self.next() % (1 << octave) - 1;
            if rank < WORDS {
                words.push(word(rank));
            }
        }
        words.join(" ")
    }
}
