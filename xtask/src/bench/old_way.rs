//! The old way, reimplemented fairly: Node and `pg`, batches of 500, the mappings in memory; row by
//! row, and as multi-row inserts.

use std::path::Path;
use std::process::{Command, Stdio};

use regraft_pg::Side;

use super::Result;
use super::process::{self, Measured};
use super::world::World;

/// Rows the old way moves: enough to measure, few enough to wait for.
const ROWS: u64 = 50_000;

/// Runs the old way beside ours, both on the first rows, and prints how many times faster we are.
pub(super) fn compare(world: &World, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    if !install(folder.path()) {
        process::say("the old way is left out: Node with the package pg is not to be had here");
        return Ok(());
    }
    let small = World::start(ROWS.min(world.rows), regraft_of(world))?;
    let mut ours = Measured::new("regraft, auto");
    let mut multi = Measured::new("Node, multi-row inserts of 500");
    let mut single = Measured::new("Node, row by row");
    for round in 0..rounds {
        process::say(&format!("old way, round {} of {rounds}", round + 1));
        ours.add(small.fresh(|target| small.migrate(target, "jobs", &[]))?);
        multi.add(small.fresh(|target| node(&small, folder.path(), target, "multi"))?);
        single.add(small.fresh(|target| node(&small, folder.path(), target, "single"))?);
    }
    process::table(
        &format!(
            "The old way, {} rows, indexes and foreign keys in place",
            small.rows
        ),
        &ours,
        &[&multi, &single],
        "say how many times faster regraft is",
    );
    Ok(())
}

fn regraft_of(world: &World) -> &Path {
    world.program()
}

fn install(folder: &Path) -> bool {
    let done = std::fs::write(folder.join("package.json"), "{\"private\": true}").is_ok()
        && std::fs::write(folder.join("old-way.js"), include_str!("old-way.js")).is_ok();
    done && Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "pg@8"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn node(world: &World, folder: &Path, target: &str, way: &str) -> Result<process::Figure> {
    let environment = [
        (
            "SOURCE_URL".to_owned(),
            world.source.endpoint(Side::Source, "legacy").url(),
        ),
        (
            "TARGET_URL".to_owned(),
            world.target.endpoint(Side::Target, target).url(),
        ),
        ("WAY".to_owned(), way.to_owned()),
    ];
    process::run(
        Path::new("node"),
        &["old-way.js"],
        &environment,
        folder,
        &[0],
    )
}
