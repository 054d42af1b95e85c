//! `differential` beside what an expert would write and what users have today, on a table that was
//! migrated once and changes afterwards.

use std::time::Instant;

use regraft_pg::{Session, SessionOptions, Side};

use super::Result;
use super::baseline::runtime;
use super::process::{Figure, Measured, say, table};
use super::proofs::{SOURCE, reladiff};
use super::world::World;

/// The source that changes: a copy of the others' source.
const CHANGING: &str = "changing";

/// Rows that both sides change.
const CONFLICTS: u64 = 1000;

/// Changed rows of the large change, of a million.
const MANY: u64 = 50_000;

/// Runs all comparisons.
pub(super) fn compare(world: &World, rounds: usize) -> Result<()> {
    world.source.create_database(CHANGING, Some("legacy"))?;
    world.source.execute(CHANGING, "vacuum analyze job")?;
    let result = world.fresh(|target| {
        world.migrate(target, "jobs", &["--mode", "bulk"])?;
        world.target.execute(target, "vacuum analyze")?;
        first_look(world, target)?;
        unchanged(world, target, rounds)?;
        changed(world, target, rounds)?;
        conflicts(world, target, rounds)?;
        Ok(Figure::default())
    });
    world.source.drop_database(CHANGING)?;
    result.map(drop)
}

fn regraft(world: &World, target: &str, arguments: &[&str], expected: &[i32]) -> Result<Figure> {
    let mut urls = world.urls(target);
    urls[0] = world.source.endpoint(Side::Source, CHANGING).url();
    world.run(arguments, &urls, expected)
}

fn migrate(world: &World, target: &str) -> Result<Figure> {
    let arguments = [
        "differential",
        "migrate",
        "--entities",
        "jobs",
        "--format",
        "json",
    ];
    regraft(world, target, &arguments, &[0])
}

/// Fails unless the differential migration that ran last wrote so many rows.
fn wrote(world: &World, rows: u64) -> Result<()> {
    let document = world.printed()?;
    let entity = &document["receipt"]["entities"][0]["account"];
    let updated = entity["updated"].as_u64();
    if updated == Some(rows) {
        Ok(())
    } else {
        Err(format!("{rows} rows were to be written, and {updated:?} were").into())
    }
}

/// The first look after a load, which has no sums to go by, and is done once.
fn first_look(world: &World, target: &str) -> Result<()> {
    let mut expert = Measured::new("expert: hash sums of 100 ids each, over the source");
    let mut ours = Measured::new("regraft, the first look after a load (every row is read once)");
    expert.add(expert_sums(world)?);
    ours.add(migrate(world, target)?);
    wrote(world, 0)?;
    table(
        "Differential, first look",
        &expert,
        &[&ours],
        "none: it is done once",
    );
    Ok(())
}

/// Nothing has changed: beside the expert's sums, and beside the tool that users have.
fn unchanged(world: &World, target: &str, rounds: usize) -> Result<()> {
    let reladiff = reladiff();
    let mut expert = Measured::new("expert: hash sums of 100 ids each, over the source");
    let mut ours = Measured::new("regraft differential migrate");
    let mut analysis = Measured::new("regraft differential analyze");
    let mut other = Measured::new("reladiff, on tables of the same shape and keys");
    for round in 0..rounds {
        say(&format!("nothing changed, round {} of {rounds}", round + 1));
        expert.add(expert_sums(world)?);
        ours.add(migrate(world, target)?);
        wrote(world, 0)?;
        let analyze = ["differential", "analyze", "--entities", "jobs"];
        analysis.add(regraft(world, target, &analyze, &[0])?);
        if let Some(tool) = &reladiff {
            other.add(tool.run(world, target)?);
        }
    }
    let title = format!("Differential, nothing changed in {} rows", world.rows);
    let goal = "no more than 1.25 times, under 128 MB";
    table(&title, &expert, &[&ours, &analysis], goal);
    if reladiff.is_some() {
        let goal = "regraft at least 8 times faster";
        table(
            "The row-hash tool of today beside it",
            &ours,
            &[&other],
            goal,
        );
    } else {
        say("reladiff is left out: it can't be installed here");
    }
    Ok(())
}

/// A thousandth and a twentieth of the rows have changed.
fn changed(world: &World, target: &str, rounds: usize) -> Result<()> {
    let few = world.rows / 1000;
    let many = (world.rows * MANY / 1_000_000).max(1);
    let mut expert = Measured::new("expert: hash sums of 100 ids each, over the source");
    let mut some = Measured::new("regraft, 0.1 % changed");
    let mut much = Measured::new(&format!("regraft, {many} rows changed"));
    for round in 0..rounds {
        say(&format!("changes, round {} of {rounds}", round + 1));
        expert.add(expert_sums(world)?);
        change(world, few, round)?;
        some.add(migrate(world, target)?);
        wrote(world, few)?;
        change(world, many, round)?;
        much.add(migrate(world, target)?);
        wrote(world, many)?;
        world.source.execute(CHANGING, "vacuum job")?;
        world.target.execute(target, "vacuum")?;
    }
    let title = format!("Differential, changes among {} rows", world.rows);
    let goal = "0.1 %: 2 times; 50,000 of a million: 15 seconds; 128 MB";
    table(&title, &expert, &[&some, &much], goal);
    Ok(())
}

/// Changes so many rows of the source, spread evenly over the table.
fn change(world: &World, rows: u64, round: usize) -> Result<()> {
    let step = world.rows / rows;
    world.source.execute(
        CHANGING,
        &format!(
            "update job set title = 'changed in round {round} with {rows} others, number ' || id
             where id % {step} = {} and id <= {}",
            round as u64 % step,
            rows * step
        ),
    )?;
    Ok(())
}

/// Rows that both sides have changed: found, and then decided.
fn conflicts(world: &World, target: &str, rounds: usize) -> Result<()> {
    let rows = CONFLICTS.min(world.rows / 10);
    let step = world.rows / rows;
    let mut found = Measured::new("regraft differential migrate, which finds them");
    let mut all =
        Measured::new("regraft differential analyze --detect-conflicts, all of the target too");
    let mut decided = Measured::new("regraft conflicts resolve --all --take source");
    let mut expert = Measured::new("expert: hash sums of 100 ids each, over the source");
    for round in 0..rounds {
        say(&format!("conflicts, round {} of {rounds}", round + 1));
        change(world, rows, round + 100)?;
        let place = (round as u64 + 100) % step;
        world.target.execute(
            target,
            &format!(
                "update jobs set title = 'changed here, in round {round}'
                 where legacy_job_id % {step} = {place} and legacy_job_id <= {}",
                rows * step
            ),
        )?;
        expert.add(expert_sums(world)?);
        let analyze = [
            "differential",
            "analyze",
            "--entities",
            "jobs",
            "--detect-conflicts",
        ];
        all.add(regraft(world, target, &analyze, &[0, 1])?);
        let migrate = [
            "differential",
            "migrate",
            "--entities",
            "jobs",
            "--format",
            "json",
        ];
        found.add(regraft(world, target, &migrate, &[0, 1])?);
        let open = world.printed()?["open"].as_u64();
        if open != Some(rows) {
            return Err(format!("{rows} conflicts were planted, and {open:?} found").into());
        }
        let resolve = ["conflicts", "resolve", "--all", "--take", "source"];
        decided.add(regraft(world, target, &resolve, &[0])?);
        world.target.execute(target, "vacuum")?;
    }
    table(
        &format!("{rows} conflicts among {} rows", world.rows),
        &expert,
        &[&all, &found, &decided],
        "found and decided in less than 5 seconds",
    );
    Ok(())
}

/// Sums of hashes by ranges of 100 ids of the source, which an expert would keep and compare.
fn expert_sums(world: &World) -> Result<Figure> {
    runtime()?.block_on(async {
        let started = Instant::now();
        let source = world.source.endpoint(Side::Source, CHANGING);
        let source = Session::connect(&source, &SessionOptions::reading("bench")).await?;
        source.batch_execute("set work_mem = '64MB'").await?;
        let rows = source
            .query(
                &format!(
                    "select r.id / 100 as range, sum(hash_record_extended(r, 0))::text
                     from ({SOURCE}) r group by 1 order by 1"
                ),
                &[],
            )
            .await?;
        if rows.is_empty() {
            return Err("the baseline found nothing".into());
        }
        Ok(Figure {
            seconds: started.elapsed().as_secs_f64(),
            ..Figure::default()
        })
    })
}
