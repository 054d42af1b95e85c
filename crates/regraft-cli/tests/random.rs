//! Random projects are migrated, killed, resumed and validated, and an oracle in plain SQL agrees
//! with what is there in the end.
//!
//! `REGRAFT_TEST_SCHEMAS` is the number of projects (50 if not set); `REGRAFT_TEST_SEED` repeats
//! what a failed test printed, from that project on. A failed project's folder is kept.

#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use regraft_engine::{Method, ValidationOptions};
use regraft_testkit::{Dice, Dump, Legacy, Program, RandomProject, Rehearsal, Servers};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

/// Random projects to be tried.
fn schemas() -> u64 {
    let given = std::env::var("REGRAFT_TEST_SCHEMAS").ok();
    given.map_or(50, |text| {
        text.parse().expect("REGRAFT_TEST_SCHEMAS is a number")
    })
}

/// Projects are given by seeds that follow each other; two at a time.
#[test]
fn random_projects_come_to_what_the_oracle_says() {
    let first = Dice::from_environment().seed();
    eprintln!("REGRAFT_TEST_SEED={first}");
    let next = AtomicU64::new(0);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= schemas() || failed.len() > 3 {
                return failed;
            }
            failed.extend(one(first.wrapping_add(number)));
        }
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut failed = work();
        failed.extend(other.join().expect("it catches panics"));
        failed
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Tries a project; what went wrong, with how to repeat it.
fn one(seed: u64) -> Option<String> {
    let folder = tempfile::Builder::new().prefix("regraft-random-").tempdir();
    let folder = folder.expect("a temporary folder can be made");
    let tried = catch_unwind(AssertUnwindSafe(|| try_project(seed, folder.path())));
    let wrong = match tried {
        Ok(wrong) if wrong.is_empty() => return None,
        Ok(wrong) => wrong.join("\n"),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "a panic".to_owned()),
    };
    let kept = folder.keep();
    Some(format!(
        "REGRAFT_TEST_SEED={seed} REGRAFT_TEST_SCHEMAS=1, project in {}:\n{wrong}",
        kept.display()
    ))
}

fn try_project(seed: u64, folder: &Path) -> Vec<String> {
    let project = RandomProject::new(seed);
    let mut dice = Dice::seeded(seed ^ 0x5eed);
    project.write(folder);
    let legacy = Legacy {
        scale: 1.0,
        seed: 1,
        dirt: 1.0,
    };
    let rehearsal = Rehearsal::once(Servers::shared(), folder, legacy);
    let mode = match dice.below(3) {
        0 if project.allows_bulk() => "bulk",
        1 => "auto",
        _ => "in-place",
    };
    let program = Program::on(REGRAFT, &rehearsal)
        .with("BATCH_SIZE", &(5 + dice.below(120)).to_string())
        .with("REGRAFT_WORKERS", &(1 + dice.below(4)).to_string());
    let planned = (dice.below(5) == 0).then(|| program.json(0, &["plan"]));
    let arguments = ["migrate", "--mode", mode];
    let before = Dump::of_tables(&rehearsal.modern_url());
    if dice.below(4) == 0 {
        for _ in 0..1 + dice.below(3) {
            let moment = dice.moment(std::time::Duration::from_millis(900));
            program.start(&arguments).kill_after(moment);
            // A run that is done is not begun again in a mode for empty tables.
            if is_done(&rehearsal) {
                break;
            }
        }
    }
    if !is_done(&rehearsal) {
        program.expect(0, &arguments);
    }
    let mut wrong = project.judge(&rehearsal);
    wrong.extend(
        planned
            .iter()
            .flat_map(|plan| not_as_planned(plan, &rehearsal)),
    );
    let options = ValidationOptions {
        method: [Method::Stream, Method::Sums][usize::from(dice.below(2) == 0)],
        ..ValidationOptions::default()
    };
    let validation = rehearsal.validate(&[], &options);
    for entity in &validation.entities {
        for check in &entity.checks {
            let findings = check.findings.iter();
            wrong.extend(findings.map(|f| format!("{}, {}: {f:?}", entity.entity, check.name)));
        }
    }
    let after = Dump::of(&rehearsal.modern_url());
    let difference = before.catalog().difference(&after.catalog());
    if !difference.is_empty() {
        wrong.push(format!("the catalog is another: {difference}"));
    }
    program.expect(0, &["migrate"]);
    let again = Dump::of(&rehearsal.modern_url());
    let difference = after.without_runs().difference(&again.without_runs());
    if !difference.is_empty() {
        wrong.push(format!("the second run did something: {difference}"));
    }
    if dice.below(5) == 0 {
        program.expect(0, &["rollback", "all", "--yes"]);
        let difference = before.difference(&Dump::of_tables(&rehearsal.modern_url()));
        if !difference.is_empty() {
            wrong.push(format!("the rollback left something: {difference}"));
        }
    }
    wrong
}

/// Whether the ledger says that the migration is done.
fn is_done(rehearsal: &Rehearsal<'_>) -> bool {
    let installed = "select 1 from pg_class where relname = 'migration_control'";
    let done = "select 1 from regraft.migration_control where entity = '' and batch = 0 and status = 'done'";
    !rehearsal.modern_rows(installed).is_empty() && !rehearsal.modern_rows(done).is_empty()
}

/// Entities of which other numbers of rows were moved than the plan said.
fn not_as_planned(plan: &Value, rehearsal: &Rehearsal<'_>) -> Vec<String> {
    let entities = plan["entities"].as_array().expect("entities").iter();
    entities
        .filter_map(|entity| {
            let name = entity["entity"].as_str().expect("a name");
            let moved = rehearsal.modern_number(&format!(
                "select count(*) from regraft.migration_mappings where entity = '{name}'"
            ));
            let of = |figure: &str| entity[figure].as_i64().expect("a number");
            let planned = of("to_move") + of("merged");
            let reasons = || {
                rehearsal.modern_rows(&format!(
                    "select legacy_id, reasons from regraft.migration_quarantine where entity = '{name}'"
                ))
            };
            (moved != planned).then(|| {
                let foreseen = &entity["predictions"];
                let reasons = reasons();
                format!("{name}: {planned} rows planned, {moved} moved; {foreseen}; {reasons:?}")
            })
        })
        .collect()
}
