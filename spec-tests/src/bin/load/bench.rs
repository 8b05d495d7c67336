//! Runs scenes in interleaved rounds and keeps the figures.

use std::time::Duration;

use futures_util::future::join_all;
use spec_tests::{
    Outcome,
    measure::{own_cpu, quantile},
};
use tokio::time::Instant;

use crate::target::Target;

/// What one round did.
#[derive(Default)]
pub(crate) struct Work {
    /// Operations done.
    pub(crate) operations: usize,
    /// How long each of them took, where that can be told.
    pub(crate) latencies: Vec<Duration>,
    /// The time that counts, when it is not the whole round.
    pub(crate) wall: Option<Duration>,
}

/// Something that clients do, again and again.
pub(crate) trait Scene {
    /// What lasts from round to round.
    type State;
    /// The line in the table; "per …" names the operation.
    fn name(&self) -> String;
    /// How often it is played, where that is not left to the command line.
    fn rounds(&self) -> Option<usize> {
        None
    }
    /// Sets the scene; not measured.
    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State>;
    /// Prepares one round; not measured.
    async fn before(&self, _target: &mut Target, _state: &mut Self::State) -> Outcome<()> {
        Ok(())
    }
    /// One round, measured.
    async fn round(&self, target: &Target, state: &mut Self::State) -> Outcome<Work>;
}

/// A figure of one server: a row of the table.
struct Row {
    scene: String,
    server: String,
    operations: usize,
    wall: Option<f64>,
    median: Option<Duration>,
    late: Option<Duration>,
    cpu: Option<f64>,
    /// What this program itself used for each operation.
    own: Option<f64>,
    plain: Option<(f64, &'static str)>,
}

/// All figures of this run.
pub(crate) struct Bench {
    rounds: usize,
    only: Vec<String>,
    rows: Vec<Row>,
}

impl Bench {
    pub(crate) fn new(rounds: usize, only: Vec<String>) -> Self {
        Self { rounds, only, rows: Vec::new() }
    }

    /// Whether the command line asks for this scene.
    pub(crate) fn wants(&self, scene: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| scene.contains(part.as_str()))
    }

    /// Plays a scene on every target, round by round in turn, and prints its rows.
    pub(crate) async fn play<S: Scene>(&mut self, scene: &S, targets: &mut [Target]) -> Outcome<()> {
        let name = scene.name();
        if !self.wants(&name) {
            return Ok(());
        }
        let mut states = Vec::new();
        for target in &mut *targets {
            let state =
                scene.prepare(target).await.map_err(|error| format!("{name}, {}: {error}", target.name))?;
            states.push((state, Total::default()));
        }
        for _ in 0..scene.rounds().unwrap_or(self.rounds) {
            for (target, (state, total)) in targets.iter_mut().zip(&mut states) {
                scene.before(target, state).await?;
                let cpu = target.settled_cpu().await?;
                let (begun, own) = (Instant::now(), own_cpu());
                let work = scene.round(target, state).await.map_err(|error| format!("{name}: {error}"))?;
                total.wall += work.wall.unwrap_or_else(|| begun.elapsed());
                total.own += own_cpu().saturating_sub(own);
                total.operations += work.operations;
                total.latencies.extend(work.latencies);
                if let (Some(before), Some(after)) = (cpu, target.settled_cpu().await?) {
                    total.cpu = Some(total.cpu.unwrap_or_default() + (after - before));
                }
            }
        }
        for (target, (_, total)) in targets.iter().zip(states) {
            self.rows.push(total.into_row(&name, &target.name));
        }
        self.print_since(self.rows.len() - targets.len());
        Ok(())
    }

    /// Keeps a single figure of each target.
    pub(crate) fn figures(&mut self, scene: &str, targets: &[Target], values: &[f64], unit: &'static str) {
        for (target, value) in targets.iter().zip(values) {
            self.rows.push(Row {
                scene: scene.to_owned(),
                server: target.name.clone(),
                operations: 0,
                wall: None,
                median: None,
                late: None,
                cpu: None,
                own: None,
                plain: Some((*value, unit)),
            });
        }
        self.print_since(self.rows.len() - targets.len());
    }

    /// CPU time of an operation of a scene, of each target in turn; nothing where it is not known.
    pub(crate) fn cpu(&self, scene: &str) -> Vec<f64> {
        self.rows.iter().filter(|row| row.scene == scene).filter_map(|row| row.cpu).collect()
    }

    /// How many times the rate of `one` each server reaches in `many`, and what bounds it: CPU time of the server and of
    /// this program for each operation, against the cores that there are.
    pub(crate) fn print_gain(&self, one: &str, many: &str) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for base in self.rows.iter().filter(|row| row.scene == one) {
            let more = self.rows.iter().find(|row| row.scene == many && row.server == base.server);
            let (Some(more), Some(each)) = (more, base.wall) else { continue };
            let (Some(wall), Some(own)) = (more.wall, more.own) else { continue };
            let cpu = more.cpu.unwrap_or_default();
            println!(
                "  {}: {:.1}x the rate of \"{one}\"; {} CPU for each there, {} here; {cores} cores could do {:.1}x",
                base.server,
                each / wall,
                human(cpu),
                human(own),
                each * approximate(cores) / (cpu + own),
            );
        }
    }

    /// Whether half of the sends of a scene stay below what a durable send may take: two syncs of the disk and 1 ms.
    pub(crate) fn print_medians(&self, scene: &str, bound: Duration) {
        for row in self.rows.iter().filter(|row| row.scene == scene) {
            let Some(median) = row.median else { continue };
            let verdict = if median <= bound { "within" } else { "beyond" };
            let (median, bound) = (human(median.as_secs_f64()), human(bound.as_secs_f64()));
            println!("  {}: p50 {median} is {verdict} two of them and 1 ms, {bound}", row.server);
        }
    }

    /// Everything once more, as one table.
    pub(crate) fn print_table(&self) {
        println!();
        self.print_since(0);
    }

    fn print_since(&self, first: usize) {
        if first == 0 {
            println!(
                "{:<44} {:<10} {:>7} {:>11} {:>11} {:>11} {:>11}",
                "scene", "server", "ops", "wall/op", "p50", "p99", "CPU/op"
            );
        }
        let mut previous: Option<&Row> = None;
        for row in &self.rows[first..] {
            println!("{}", row.render());
            match previous {
                Some(base) if base.scene == row.scene => println!("{}", row.ratio_to(base)),
                _ => previous = Some(row),
            }
        }
    }
}

#[derive(Default)]
struct Total {
    operations: usize,
    wall: Duration,
    cpu: Option<Duration>,
    own: Duration,
    latencies: Vec<Duration>,
}

impl Total {
    fn into_row(self, scene: &str, server: &str) -> Row {
        let each = |time: Duration| time.as_secs_f64() / approximate(self.operations.max(1));
        let at = |share| (!self.latencies.is_empty()).then(|| quantile(&self.latencies, share));
        Row {
            scene: scene.to_owned(),
            server: server.to_owned(),
            operations: self.operations,
            wall: Some(each(self.wall)),
            median: at(0.5),
            late: at(0.99),
            cpu: self.cpu.map(each),
            own: Some(each(self.own)),
            plain: None,
        }
    }
}

impl Row {
    fn render(&self) -> String {
        let Self { scene, server, operations, .. } = self;
        if let Some((value, unit)) = self.plain {
            return format!("{scene:<44} {server:<10} {value:>18.1} {unit}");
        }
        let seconds = |time: Option<f64>| time.map_or("-".to_owned(), human);
        let duration = |time: Option<Duration>| seconds(time.map(|time| time.as_secs_f64()));
        format!(
            "{scene:<44} {server:<10} {operations:>7} {:>11} {:>11} {:>11} {:>11}",
            seconds(self.wall),
            duration(self.median),
            duration(self.late),
            seconds(self.cpu)
        )
    }

    /// How many times as much as `base` this row takes.
    fn ratio_to(&self, base: &Self) -> String {
        let of = |mine: Option<f64>, theirs: Option<f64>| match (mine, theirs) {
            (Some(mine), Some(theirs)) if theirs > 0.0 => format!("{:.1}x", mine / theirs),
            _ => "-".to_owned(),
        };
        let secs = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let label = format!("  {} / {}", self.server, base.server);
        if let (Some((mine, _)), Some((theirs, _))) = (self.plain, base.plain) {
            return format!("{label:<55} {:>18}", of(Some(mine), Some(theirs)));
        }
        format!(
            "{label:<63} {:>11} {:>11} {:>11} {:>11}",
            of(self.wall, base.wall),
            of(secs(self.median), secs(base.median)),
            of(secs(self.late), secs(base.late)),
            of(self.cpu, base.cpu)
        )
    }
}

/// Runs all of the futures at once and fails with the first error.
pub(crate) async fn all<T>(
    futures: impl IntoIterator<Item = impl Future<Output = Outcome<T>>>,
) -> Outcome<Vec<T>> {
    join_all(futures).await.into_iter().collect()
}

/// A number of things as a divisor.
pub(crate) fn approximate(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let count = count as f64;
    count
}

fn human(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
