//! Commits numbered batches to an embedded store and says so, until it is killed: for the fault tests.
//!
//! `store_writer FOLDER`

use std::io::Write;

use lockstep::store::{Store, embedded::Embedded};
use spec_tests::{Outcome, store_faults};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let store = Embedded::open(store_faults::settings(folder.as_ref()))?;
    let mut number = store_faults::last(&store).await?;
    let mut out = std::io::stdout();
    loop {
        // Groups of one to four, so that groups are seen to be whole too.
        let group = (1..=1 + number % 4).map(|more| store_faults::batch(number + more)).collect();
        number += 1 + number % 4;
        store.commit(group).await?;
        // Whoever reads this may hold us to it.
        writeln!(out, "{number}")?;
        out.flush()?;
    }
}
