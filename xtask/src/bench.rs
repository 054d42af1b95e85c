//! `cargo xtask bench`: regraft beside raw COPY, expert SQL and the old way, alternately, in one
//! run, and the bundled project as a whole. Prints medians and ratios, and the peak memory of
//! regraft's own process.

mod baseline;
mod differential;
mod old_way;
mod process;
mod proofs;
mod whole;
mod workers;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use process::{Figure, Measured};
use world::World;

/// Measure regraft beside raw COPY, expert SQL and the old way.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Rows of the child table.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure this program instead of building one.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Size of the bundled project's legacy data in the parts `dispatch` and `entities`; 1 is the real size.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only these parts.
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,
}

const PARTS: [&str; 10] = [
    "bulk",
    "in-place",
    "dirt",
    "memory",
    "old-way",
    "proofs",
    "differential",
    "workers",
    "dispatch",
    "entities",
];

/// The parts that work on the benchmark's own tables.
const OWN_TABLES: [&str; 7] = [
    "bulk",
    "in-place",
    "dirt",
    "old-way",
    "proofs",
    "differential",
    "workers",
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs the benchmark.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let program = std::iter::once("bench".to_owned());
    let options = match Options::try_parse_from(program.chain(arguments.iter().cloned())) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("the benchmark can't go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let regraft = match &options.program {
        Some(program) => program.canonicalize()?,
        None => process::build_regraft()?,
    };
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|p| p == part);
    if OWN_TABLES.into_iter().any(wanted) {
        beside_others(options, &regraft, wanted)?;
    }
    if wanted("memory") {
        memory(&regraft)?;
    }
    let whole = wanted("dispatch").then_some(options.rounds);
    if whole.is_some() || wanted("entities") {
        whole::measure(&regraft, options.scale, whole)?;
    }
    Ok(())
}

/// Runs the parts that work on the benchmark's own tables.
fn beside_others(options: &Options, regraft: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    process::say("setting up two servers and their data ...");
    let world = World::start(options.rows, regraft)?;
    if wanted("bulk") {
        bulk(&world, options)?;
    }
    if wanted("in-place") {
        in_place(&world, options)?;
    }
    if wanted("dirt") {
        dirt(&world, options)?;
    }
    if wanted("old-way") {
        old_way::compare(&world, options.rounds.min(3))?;
    }
    if wanted("proofs") {
        proofs::compare(&world, options.rounds)?;
    }
    if wanted("differential") {
        differential::compare(&world, options.rounds)?;
    }
    if wanted("workers") {
        workers::measure(&world, options.rounds)?;
    }
    Ok(())
}

fn bulk(world: &World, options: &Options) -> Result<()> {
    let mut raw = Measured::new("raw COPY, then indexes and foreign keys");
    let mut ours = Measured::new("regraft, bulk");
    let mut expert = Measured::new("expert's SQL (stage, join mappings, insert, indexes late)");
    for round in 0..options.rounds {
        process::say(&format!("bulk, round {} of {}", round + 1, options.rounds));
        raw.add(world.fresh(|target| baseline::raw_copy(world, target, baseline::Keys::After, 1))?);
        ours.add(world.fresh(|target| world.migrate(target, "jobs", &["--mode", "bulk"]))?);
        expert.add(world.fresh(|target| baseline::expert(world, target))?);
    }
    process::table(
        &format!("Bulk load of {} rows", options.rows),
        &raw,
        &[&ours, &expert],
        "no more than 1.6 times raw COPY, and faster than the expert's SQL",
    );
    Ok(())
}

fn in_place(world: &World, options: &Options) -> Result<()> {
    for connections in [1, 2] {
        let mut raw = Measured::new("raw COPY, indexes and foreign keys in place");
        let mut ours = Measured::new("regraft, in-place");
        let workers = connections.to_string();
        for round in 0..options.rounds {
            process::say(&format!(
                "in-place over {connections}, round {} of {}",
                round + 1,
                options.rounds
            ));
            raw.add(world.fresh(|target| {
                baseline::raw_copy(world, target, baseline::Keys::InPlace, connections)
            })?);
            ours.add(world.fresh(|target| {
                world.migrate(
                    target,
                    "jobs",
                    &["--mode", "in-place", "--workers", &workers],
                )
            })?);
        }
        process::table(
            &format!(
                "In-place load of {} rows over {connections} connection(s)",
                options.rows
            ),
            &raw,
            &[&ours],
            "no more than 1.25 times raw COPY",
        );
    }
    Ok(())
}

fn dirt(world: &World, options: &Options) -> Result<()> {
    for mode in ["bulk", "in-place"] {
        let mut clean = Measured::new("no bad rows");
        let mut few = Measured::new("1 % bad rows of ten kinds");
        let mut many = Measured::new("30 % bad rows of ten kinds");
        for round in 0..options.rounds {
            process::say(&format!(
                "dirt, {mode}, round {} of {}",
                round + 1,
                options.rounds
            ));
            for (entity, measured) in [
                ("work_clean", &mut clean),
                ("work_few", &mut few),
                ("work_many", &mut many),
            ] {
                measured
                    .add(world.fresh(|target| world.migrate(target, entity, &["--mode", mode]))?);
            }
        }
        process::table(
            &format!("Dirt, {mode} load of {} rows", world.dirty_rows()),
            &clean,
            &[&few, &many],
            "1 %: less than 1.25 times; 30 %: less than 1.40 times",
        );
    }
    Ok(())
}

fn memory(regraft: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for rows in [100_000, 2_000_000] {
        process::say(&format!("memory at {rows} rows ..."));
        let world = World::start(rows, regraft)?;
        for mode in ["bulk", "in-place"] {
            let figure: Figure =
                world.fresh(|target| world.migrate(target, "jobs", &["--mode", mode]))?;
            lines.push(format!(
                "| {rows} rows, {mode} | {:.0} MB |",
                figure.peak_megabytes
            ));
        }
    }
    process::print(
        "\n### Peak memory of regraft's process (goal: under 128 MB, the same at any size)\n",
    );
    process::print("| load | peak |\n| --- | --- |");
    for line in lines {
        process::print(&line);
    }
    Ok(())
}
