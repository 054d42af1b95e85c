//! How far more workers help: what a batch costs the source, the target, the worker and the ledger is
//! measured, and from that it is worked out what 1 to 100 workers come to on larger servers.
//!
//! The model is a closed network of queues: each worker has one batch under way at a time; the source
//! and the target are stations with as many servers as they have cores, the ledger's checkpoint row is
//! one with a single server, and the worker's own work is a delay. Solved by mean value analysis
//! (Reiser and Lavenberg, 1980), stations of several servers by Seidmann's approximation (1987).

use std::fs;
use std::time::Instant;

use regraft_pg::managed::Server;
use regraft_pg::{Session, SessionOptions, Side};

use super::Result;
use super::baseline::runtime;
use super::process::{Measured, print, say, table};
use super::world::World;

/// Rows of a batch, as by default.
const BATCH: f64 = 20_000.0;

/// How often the ledger's part is timed.
const COMMITS: u32 = 500;

const WORKERS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 100];

/// Cores of each server.
const CORES: [u32; 3] = [4, 16, 64];

/// Seconds that a batch takes of each.
struct Costs {
    source: f64,
    target: f64,
    worker: f64,
    /// While it holds the row that all batches of an entity write.
    ledger: f64,
}

/// Measures, and prints what it comes to.
pub(super) fn measure(world: &World, rounds: usize) -> Result<()> {
    let mut alone = Measured::new("regraft, in place");
    let mut handed_out = Measured::new("the same, handed out, and no worker but itself");
    let mut costs = Vec::new();
    for round in 0..rounds {
        say(&format!("workers, round {} of {rounds}", round + 1));
        alone.add(world.fresh(|target| world.migrate(target, "jobs", &["--mode", "in-place"]))?);
        handed_out.add(world.fresh(|target| {
            let before = [busy(&world.source)?, busy(&world.target)?];
            let figure = world.migrate(target, "jobs", &["--mode", "in-place", "--distribute"])?;
            let after = [busy(&world.source)?, busy(&world.target)?];
            let batches = world.rows as f64 / BATCH;
            costs.push(Costs {
                source: (after[0] - before[0]) / batches,
                target: (after[1] - before[1]) / batches,
                worker: figure.cpu_seconds / batches,
                ledger: ledger(world, target)?,
            });
            Ok(figure)
        })?);
    }
    let title = format!("Handing out {} rows on one machine", world.rows);
    table(&title, &alone, &[&handed_out], "no more than 1.25 times");
    let median = |of: fn(&Costs) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    worked_out(&Costs {
        source: median(|c| c.source),
        target: median(|c| c.target),
        worker: median(|c| c.worker),
        ledger: median(|c| c.ledger),
    });
    Ok(())
}

fn worked_out(costs: &Costs) {
    print("\n### What more workers come to (worked out from what was measured)\n");
    print(&format!(
        "A batch of {BATCH} rows takes {:.0} ms of the source's processors, {:.0} ms of the target's, \
         {:.0} ms of the worker's, and {:.2} ms of the ledger's row.\n",
        costs.source * 1e3,
        costs.target * 1e3,
        costs.worker * 1e3,
        costs.ledger * 1e3
    ));
    let heads: Vec<String> = CORES
        .iter()
        .map(|cores| format!("servers of {cores} cores: rows a second"))
        .collect();
    print(&format!("| workers | {} |", heads.join(" | ")));
    print(&format!("| ---: |{}", " --- |".repeat(CORES.len())));
    for workers in WORKERS {
        let cells: Vec<String> = CORES
            .iter()
            .map(|cores| {
                let (batches, busiest) = throughput(costs, workers, *cores);
                format!("{:.0} ({busiest})", batches * BATCH)
            })
            .collect();
        print(&format!("| {workers} | {} |", cells.join(" | ")));
    }
}

/// Batches a second of so many workers, and what is in the way of more of them.
fn throughput(costs: &Costs, workers: u32, cores: u32) -> (f64, String) {
    let stations = [
        ("source", costs.source, cores),
        ("target", costs.target, cores),
        ("ledger", costs.ledger, 1),
    ];
    // A station of m servers is one that is m times as fast, and a delay for the rest of the time.
    let demands = stations.map(|(_, demand, servers)| demand / f64::from(servers));
    let delays: f64 = stations
        .iter()
        .zip(&demands)
        .map(|((_, demand, _), fast)| demand - fast)
        .sum();
    let mut waiting = [0.0; 3];
    let mut rate = 0.0;
    for n in 1..=workers {
        let times: Vec<f64> = demands
            .iter()
            .zip(&waiting)
            .map(|(demand, waiting)| demand * (1.0 + waiting))
            .collect();
        rate = f64::from(n) / (costs.worker + delays + times.iter().sum::<f64>());
        for (waiting, time) in waiting.iter_mut().zip(&times) {
            *waiting = rate * time;
        }
    }
    let busiest = (0..3)
        .max_by(|a, b| demands[*a].total_cmp(&demands[*b]))
        .unwrap_or(0);
    let busy = rate * demands[busiest];
    (
        rate,
        format!("{} {:.0} % busy", stations[busiest].0, busy * 100.0),
    )
}

/// Seconds between taking the row that all batches of an entity write and letting it go.
fn ledger(world: &World, target: &str) -> Result<f64> {
    runtime()?.block_on(async {
        let endpoint = world.target.endpoint(Side::Target, target);
        let session = Session::connect(&endpoint, &SessionOptions::writing("bench")).await?;
        session
            .batch_execute("set synchronous_commit = off")
            .await?;
        let advance = session
            .prepare(
                "update regraft.migration_checkpoints set rows_done = rows_done, last_key = last_key
                 where entity = 'jobs'",
            )
            .await?;
        let mut held = 0.0;
        for _ in 0..COMMITS {
            session.batch_execute("begin").await?;
            let began = Instant::now();
            session.execute(&advance, &[]).await?;
            session.batch_execute("commit").await?;
            held += began.elapsed().as_secs_f64();
        }
        Ok(held / f64::from(COMMITS))
    })
}

/// Processor seconds that a server has used so far: its processes that are there, and those that have
/// ended.
fn busy(server: &Server) -> Result<f64> {
    let folder = runtime()?.block_on(async {
        let endpoint = server.endpoint(Side::Target, "postgres");
        let session = Session::connect(&endpoint, &SessionOptions::reading("bench")).await?;
        let row = session
            .query_one(
                "select setting from pg_settings where name = 'data_directory'",
                &[],
            )
            .await?;
        let folder: String = row.get(0);
        session.close().await;
        Ok::<_, regraft_pg::Error>(folder)
    })?;
    let file = fs::read_to_string(format!("{folder}/postmaster.pid"))?;
    let postmaster: u32 = file.lines().next().unwrap_or_default().trim().parse()?;
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(used) = used(pid) else { continue };
        if pid == postmaster {
            ticks += used.own + used.of_ended_children;
        } else if used.parent == postmaster {
            ticks += used.own;
        }
    }
    // SAFETY: sysconf(3) takes a number and touches no memory of ours.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / ticks_per_second as f64)
}

/// Clock ticks of a process (proc(5), `/proc/pid/stat`).
struct Used {
    parent: u32,
    own: u64,
    of_ended_children: u64,
}

fn used(pid: u32) -> Option<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and parentheses; what follows the last one is numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Used {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        of_ended_children: ticks(13)? + ticks(14)?,
    })
}
