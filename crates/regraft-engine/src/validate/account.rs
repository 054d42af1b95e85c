//! The account: the ledger's figures among themselves, and against both databases as they are.

use std::collections::BTreeMap;

use regraft_pg::Session;
use serde_json::Value;

use super::census::Census;
use super::report::{Check, Finding, Tally};
use super::subject::Subject;
use crate::error::Result;

/// The buckets of an account, as the ledger names them.
const BUCKETS: [&str; 7] = [
    "inserted",
    "updated",
    "unchanged",
    "merged",
    "filtered",
    "quarantined",
    "blocked",
];

/// An entity of a run, or one of its batches.
struct Entry {
    batch: i32,
    status: String,
    source_rows: i64,
    buckets: [i64; 7],
    filters: BTreeMap<String, i64>,
    /// Rows that it wrote and that were deleted since, where no before-image tells of it any more.
    deleted: u64,
}

impl Entry {
    fn bucket(&self, name: &str) -> i64 {
        BUCKETS
            .iter()
            .zip(self.buckets)
            .find(|(bucket, _)| **bucket == name)
            .map_or(0, |(_, rows)| rows)
    }
}

/// A run as far as it is about the entity, its account first.
struct RunEntries {
    run_no: i32,
    run_id: String,
    /// Whether it was about some rows of the quarantine alone.
    is_retry: bool,
    account: Option<Entry>,
    batches: Vec<Entry>,
    /// Batches and source rows that its checkpoint says are done.
    checkpoint: Option<(i64, i64)>,
}

impl RunEntries {
    fn is_done(&self) -> bool {
        self.account
            .as_ref()
            .is_some_and(|entry| entry.status == "done")
    }
}

/// The runs that are about an entity and weren't undone, latest first.
pub(super) struct History {
    runs: Vec<RunEntries>,
    /// The runs that rebuilt its mappings.
    rebuilt: Vec<i32>,
    /// Rows that were deleted since because the source has them no more, by the run and the batch
    /// that had written them.
    deleted: BTreeMap<(i32, i32), u64>,
}

impl History {
    /// Reads the ledger.
    pub(super) async fn read(target: &Session, entity: &str) -> Result<Self> {
        let rows = target
            .query(
                &format!(
                    "select run_no, run_id, batch, status, source_rows, detail, {}, command from regraft.migration_control
                     where entity = $1 and command in ('migrate', 'retry', 'differential') and status <> 'rolled_back'
                     order by run_no desc, batch",
                    BUCKETS.join(", ")
                ),
                &[&entity],
            )
            .await?;
        let mut runs: Vec<RunEntries> = Vec::new();
        for row in &rows {
            let run_no: i32 = row.get(0);
            if runs.last().is_none_or(|run| run.run_no != run_no) {
                runs.push(RunEntries {
                    run_no,
                    run_id: row.get(1),
                    is_retry: row.get::<_, String>(6 + BUCKETS.len()) == "retry",
                    account: None,
                    batches: Vec::new(),
                    checkpoint: None,
                });
            }
            let detail: Value = row.get(5);
            let entry = Entry {
                batch: row.get(2),
                status: row.get(3),
                source_rows: row.get(4),
                buckets: std::array::from_fn(|i| row.get(6 + i)),
                filters: filters(&detail),
                deleted: detail
                    .get(regraft_ledger::DELETED_SINCE)
                    .and_then(Value::as_u64)
                    .unwrap_or(0),
            };
            if let Some(run) = runs.last_mut() {
                match entry.batch {
                    0 => run.account = Some(entry),
                    _ => run.batches.push(entry),
                }
            }
        }
        for checkpoint in regraft_ledger::checkpoints_of(&**target, entity).await? {
            let figures = (checkpoint.batches_done.into(), checkpoint.rows_done);
            if let Some(run) = runs.iter_mut().find(|run| run.run_no == checkpoint.run_no) {
                run.checkpoint = Some(figures);
            }
        }
        let rebuilt = regraft_ledger::rebuilding_runs(&**target, entity).await?;
        let deleted = target
            .query(
                "select written_run, written_batch, count(*) from regraft.migration_changes
                 where entity = $1 and operation = 'delete' and written_run is not null
                 group by 1, 2",
                &[&entity],
            )
            .await?
            .iter()
            .map(|row| {
                (
                    (row.get(0), row.get(1)),
                    row.get::<_, i64>(2).unsigned_abs(),
                )
            })
            .collect();
        Ok(Self {
            runs,
            rebuilt,
            deleted,
        })
    }

    /// Whether no run is about the entity.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The run whose account must fit the databases as they are: the latest, if it is done.
    fn current(&self) -> Option<&RunEntries> {
        self.runs.first().filter(|run| run.is_done())?;
        self.runs.iter().find(|run| !run.is_retry && run.is_done())
    }

    /// Accounts of the retries since the run whose account must fit.
    fn retries(&self) -> impl Iterator<Item = &Entry> {
        self.runs
            .iter()
            .take_while(|run| run.is_retry)
            .filter_map(|run| run.account.as_ref())
    }

    /// What can't be said of the account because a run is unfinished.
    pub(super) fn not_checked(&self, entity: &str) -> Option<String> {
        let unfinished = self.runs.first().filter(|run| !run.is_done())?;
        let done = self.runs.iter().find(|run| run.is_done())?;
        Some(format!(
            "{entity}: whether the account of {} fits the databases, because {} has begun and not finished",
            done.run_id, unfinished.run_id
        ))
    }
}

fn filters(detail: &Value) -> BTreeMap<String, i64> {
    let Some(filters) = detail.get("filters").and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    filters
        .iter()
        .filter_map(|(name, rows)| Some((name.clone(), rows.as_i64()?)))
        .collect()
}

/// The check: the census, then the ledger's figures.
pub(super) async fn check(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    history: &History,
) -> Result<Check> {
    let mut findings = census.findings(subject);
    if !history.runs.iter().any(RunEntries::is_done) {
        let what = match history.runs.first() {
            Some(run) => format!("no run has finished this entity; {} has begun", run.run_id),
            None => {
                "the ledger has mappings or quarantine of this entity, and no run that made them"
                    .to_owned()
            }
        };
        findings.extend(Tally::of(census.kept.max(1), Vec::new()).finding(what));
    }
    for run in &history.runs {
        findings.extend(sums(run));
    }
    findings.extend(written(census, history));
    if let Some(run) = history.current() {
        findings.extend(against_now(target, subject, census, run, history).await?);
    }
    Ok(Check::new("account", census.source_rows, findings))
}

/// A run's figures among themselves: every account balances, and the batches add up.
fn sums(run: &RunEntries) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in run.account.iter().chain(&run.batches) {
        let place = match entry.batch {
            0 => run.run_id.clone(),
            batch => format!("batch {batch} of {}", run.run_id),
        };
        let accounted: i64 = entry.buckets.iter().sum();
        if entry.status == "done" && entry.source_rows != accounted {
            let what = format!(
                "{place}: {} source rows, and {accounted} in the buckets",
                entry.source_rows
            );
            findings.extend(difference(entry.source_rows, accounted, what));
        }
    }
    if let Some(account) = run.account.as_ref().filter(|_| run.is_done()) {
        findings.extend(batches_against_account(run, account));
        findings.extend(batches_against_checkpoint(run));
    }
    findings
}

/// One finding for a run whose finished batches say something else than its account. A batch that
/// was planned and is not done counts for nothing: its rows may have left the source since.
fn batches_against_account(run: &RunEntries, account: &Entry) -> Option<Finding> {
    let done: Vec<&Entry> = run
        .batches
        .iter()
        .filter(|batch| batch.status == "done")
        .collect();
    let sum = |of: &dyn Fn(&Entry) -> i64| done.iter().map(|batch| of(batch)).sum::<i64>();
    let mut figures = vec![(
        "source_rows".to_owned(),
        sum(&|b| b.source_rows),
        account.source_rows,
    )];
    for (i, bucket) in BUCKETS.iter().enumerate() {
        figures.push((
            (*bucket).to_owned(),
            sum(&|b| b.buckets[i]),
            account.buckets[i],
        ));
    }
    let names: std::collections::BTreeSet<&String> = run
        .batches
        .iter()
        .chain([account])
        .flat_map(|entry| entry.filters.keys())
        .collect();
    for name in names {
        let of = |entry: &Entry| entry.filters.get(name).copied().unwrap_or(0);
        figures.push((format!("filter {name}"), sum(&of), of(account)));
    }
    figures.retain(|(_, batches, account)| batches != account);
    let most = figures
        .iter()
        .map(|(_, batches, account)| batches.abs_diff(*account))
        .max()?;
    let list: Vec<String> = figures
        .iter()
        .map(|(name, batches, account)| format!("{name} {batches} against {account}"))
        .collect();
    let what = format!(
        "{}: the batches and the account disagree: {}",
        run.run_id,
        list.join(", ")
    );
    Tally::of(most, Vec::new()).finding(what)
}

/// A finding for a run whose checkpoint counts other batches or rows than its finished batches do:
/// each batch moves the checkpoint in its own transaction.
fn batches_against_checkpoint(run: &RunEntries) -> Option<Finding> {
    let (batches, rows) = run.checkpoint?;
    let done = run.batches.iter().filter(|batch| batch.status == "done");
    let (is_batches, is_rows) = done.fold((0, 0), |(batches, rows), batch| {
        (batches + 1, rows + batch.source_rows)
    });
    if (batches, rows) == (is_batches, is_rows) {
        return None;
    }
    let what = format!(
        "{}: the checkpoint counts {rows} rows in {batches} batches, the batches {is_rows} in {is_batches}",
        run.run_id
    );
    Tally::of(rows.abs_diff(is_rows).max(1), Vec::new()).finding(what)
}

/// Rows that batches say they wrote, against the mappings that name those batches. What the census
/// has named row by row is not told again.
fn written(census: &Census, history: &History) -> Option<Finding> {
    let mut found = census.written.clone();
    let (mut less, mut more, mut places) = (0, 0, Vec::new());
    let mut compare = |place: String, said: u64, is: u64| {
        if said != is {
            less += said.saturating_sub(is);
            more += is.saturating_sub(said);
            places.push(format!("{place} says {said}, {is} mappings name it"));
        }
    };
    let latest_rebuilt = history.rebuilt.iter().max();
    for run in &history.runs {
        for batch in &run.batches {
            let is = found.remove(&(run.run_no, batch.batch)).unwrap_or(0);
            let mut said = (batch.bucket("inserted") + batch.bucket("merged")).unsigned_abs();
            let deleted = history.deleted.get(&(run.run_no, batch.batch));
            said = said.saturating_sub(deleted.copied().unwrap_or(0) + batch.deleted);
            // A rebuilt mapping names its batch only where there was no doubt which one it was.
            if latest_rebuilt.is_some_and(|rebuilt| *rebuilt > run.run_no) {
                said = said.min(is);
            }
            compare(format!("batch {} of {}", batch.batch, run.run_id), said, is);
        }
    }
    found.retain(|(run_no, _), _| !history.rebuilt.contains(run_no));
    for ((run_no, batch), is) in found {
        compare(
            format!("batch {batch} of a run {run_no} that is not there"),
            0,
            is,
        );
    }
    if less <= census.missing() && more <= census.surplus() {
        return None;
    }
    places.truncate(3);
    let what = format!(
        "rows inserted, as the batches have it and as the mappings do: {}",
        places.join("; ")
    );
    Tally::of(less + more, Vec::new()).finding(what)
}

/// The account of the latest run against what is counted now.
async fn against_now(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    run: &RunEntries,
    history: &History,
) -> Result<Vec<Finding>> {
    let Some(account) = &run.account else {
        return Ok(Vec::new());
    };
    // A retry takes rows out of the quarantine: what it says of them replaces what was said.
    let moved = |buckets: &[&str]| -> i64 {
        let of = |entry: &Entry| buckets.iter().map(|b| entry.bucket(b)).sum::<i64>();
        history.retries().map(of).sum()
    };
    let retried: i64 = history.retries().map(|entry| entry.source_rows).sum();
    let filtered_since = moved(&["filtered"]);
    let (missing, surplus) = (signed(census.missing()), signed(census.surplus()));
    let mut findings = Vec::new();
    // `fewer` and `more` bound what the census has named row by row.
    let mut compare = |what: &str, said: i64, is: i64, fewer: i64, more: i64| {
        if !(-fewer..=more).contains(&(is - said)) {
            let what = format!("{what}: {said} by the account of {}, {is} now", run.run_id);
            findings.extend(difference(said, is, what));
        }
    };
    let kept = account.source_rows - account.bucket("filtered") - filtered_since;
    compare(
        "rows the filters keep",
        kept,
        signed(census.kept),
        surplus,
        signed(census.appeared()),
    );
    for (filter, now) in subject.entity.source.filters.iter().zip(&census.filtered) {
        let of = |entry: &Entry| entry.filters.get(&filter.name).copied().unwrap_or(0);
        let said = of(account) + history.retries().map(of).sum::<i64>();
        compare(
            &format!("rows filter `{}` drops", filter.name),
            said,
            signed(*now),
            missing,
            surplus,
        );
    }
    let rows = target
        .query(
            "select bucket, count(*) from regraft.migration_quarantine
             where entity = $1 and state <> 'resolved' group by 1",
            &[&subject.name()],
        )
        .await?;
    let open: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    if retried == 0 {
        for bucket in ["quarantined", "blocked"] {
            let is = open.get(bucket).copied().unwrap_or(0);
            compare(
                &format!("rows {bucket}"),
                account.bucket(bucket),
                is,
                missing,
                surplus,
            );
        }
    }
    let stopped = ["quarantined", "blocked"];
    compare(
        "rows quarantined or blocked",
        account.bucket(stopped[0]) + account.bucket(stopped[1]) - retried + moved(&stopped),
        open.values().sum(),
        missing,
        surplus,
    );
    let in_place: i64 = ["inserted", "updated", "unchanged", "merged"]
        .iter()
        .map(|name| account.bucket(name))
        .sum::<i64>()
        + moved(&["inserted", "updated", "merged"]);
    compare(
        "rows in place",
        in_place,
        signed(census.mapped),
        missing,
        surplus,
    );
    Ok(findings)
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn difference(a: i64, b: i64, what: String) -> Option<Finding> {
    Tally::of(a.abs_diff(b), Vec::new()).finding(what)
}
