//! Batches like those of a room's life, for benchmarks and fault tests of the store.

use lockstep::{
    store::{Batch, Key, Stamped, Write, table::TableId},
    types::{SeededRng, random_string},
};

/// Makes batches; the same seed gives the same ones.
#[derive(Debug)]
pub struct Load {
    rng: SeededRng,
    rooms: Vec<String>,
    made: u64,
}

impl Load {
    /// Batches for so many rooms.
    #[must_use]
    pub fn new(seed: u64, rooms: usize) -> Self {
        let rng = SeededRng::new(seed);
        let rooms = (0..rooms).map(|_| format!("!{}:example.org", random_string(&rng, 18))).collect();
        Self { rng, rooms, made: 0 }
    }

    fn random(&self, length: usize) -> String {
        random_string(&self.rng, length)
    }

    /// What one message writes: the event of about 700 bytes, a row of about 100 bytes for readers here and
    /// one for other servers, and two rows that are written over each time: the room's heads and a receipt.
    #[must_use]
    pub fn event(&mut self) -> Batch {
        self.made += 1;
        let room = self.rooms[(self.made % self.rooms.len() as u64) as usize].clone();
        let id = format!("${}", self.random(43));
        let sender = format!("@user{}:example.org", self.made % 50);
        let pdu = format!(
            r#"{{"auth_events":["${}","${}","${}"],"content":{{"body":"{}","msgtype":"m.text"}},"depth":{},"hashes":{{"sha256":"{}"}},"origin_server_ts":{},"prev_events":["${}"],"room_id":"{room}","sender":"{sender}","signatures":{{"example.org":{{"ed25519:1":"{}"}}}},"type":"m.room.message"}}"#,
            self.random(43),
            self.random(43),
            self.random(43),
            self.text(70),
            self.made,
            self.random(43),
            1_700_000_000_000 + self.made * 977,
            self.random(43),
            self.random(86),
        );
        let fact = format!(r#"{{"kind":"event","event_id":"{id}","sender":"{sender}"}}"#);
        let relay = format!(r#"{{"kind":"relay","event_id":"{id}","to":"all"}}"#);
        let heads = format!(r#"{{"heads":["{id}"],"version":"11","state":{},"position":0}}"#, self.made / 7);
        let receipt = format!(r#"{{"event_id":"{id}","ts":{}}}"#, 1_700_000_000_000 + self.made);
        let lane = |kind: &str| Key::new(TableId::LaneRow, &(kind.to_owned(), room.clone())).0;
        let plain = |table, name: &str, value: String| {
            let key = Key::new(table, &(name.to_owned(),));
            Write::Put(Stamped::plain(key.0), Stamped::plain(value.into_bytes()))
        };
        let fact_row = |kind: &str, value: String| {
            Write::Put(Stamped::around(lane(kind), 0, b""), Stamped::plain(value.into_bytes()))
        };
        Batch {
            expects: Vec::new(),
            writes: vec![
                plain(TableId::Event, &id, pdu),
                fact_row("room", fact),
                fact_row("egress", relay),
                plain(TableId::Room, &room, heads),
                Write::Register {
                    index: Key::new(TableId::Register, &(room.clone(), sender)),
                    lane: lane("receipts"),
                    value: receipt.into_bytes(),
                    slot: 1,
                },
            ],
            slots: 2,
        }
    }

    /// Words, which compress as words do.
    fn text(&self, length: usize) -> String {
        const WORDS: [&str; 16] = [
            "the", "meeting", "is", "at", "noon", "and", "somebody", "should", "bring", "coffee", "for",
            "all", "of", "us", "please", "tomorrow",
        ];
        let mut text = String::new();
        for byte in self.random(40).bytes() {
            text.push_str(WORDS[usize::from(byte % 16)]);
            text.push(' ');
            if text.len() >= length {
                break;
            }
        }
        text
    }
}
