//! Proofs beside what an expert would write and what users have today, on a migrated table.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use futures_util::{StreamExt, pin_mut};
use regraft_pg::copy::{Reader, Tuple};
use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::Proxy;

use super::Result;
use super::baseline::runtime;
use super::process::{self, Figure, Measured, say, table};
use super::world::World;

/// Rows of each kind of difference.
const DIFFERENT: u64 = 100;

/// Bytes a second of the slow link.
const SLOW: u64 = 10_000_000;

const ROWS: &[&str] = &["--type", "data_integrity,relationship_integrity"];

/// The source's rows as the target should hold them under legacy ids.
pub(super) const SOURCE: &str =
    "select id, customer_id, office_id, status::int4, title, note, detail, created_at from job";

/// The target's rows turned back to legacy ids through the mappings.
const TARGET: &str = "
  select t.legacy_job_id, c.legacy_id::int4, o.legacy_id::int4,
         array_position(enum_range(null::work_status), t.status) - 1, t.title, t.note, t.detail,
         t.created_at
  from jobs t
  join regraft.migration_mappings_customers c on c.new_id = t.customer_id
  join regraft.migration_mappings_offices o on o.new_id = t.office_id";

/// Runs all comparisons on a target that was migrated once.
pub(super) fn compare(world: &World, rounds: usize) -> Result<()> {
    let reladiff = reladiff();
    world.fresh(|target| {
        world.migrate(target, "jobs", &["--mode", "bulk"])?;
        world.target.execute(target, "analyze")?;
        equal(world, target, rounds, reladiff.as_ref())?;
        slow(world, target)?;
        different(world, target, rounds)?;
        Ok(Figure::default())
    })?;
    Ok(())
}

fn validate(world: &World, target: &str, options: &[&str], expected: i32) -> Result<Figure> {
    let mut arguments = vec!["validate", "jobs"];
    arguments.extend(options);
    world.run(&arguments, &world.urls(target), &[expected])
}

fn with_method(method: &str) -> Vec<&str> {
    [ROWS, &["--method", method]].concat()
}

/// No difference: ours beside both baselines, and beside the tool that users have.
fn equal(world: &World, target: &str, rounds: usize, reladiff: Option<&Tool>) -> Result<()> {
    let mut merge = Measured::new("expert: binary COPY of both sides, merged in key order");
    let mut sums = Measured::new("expert: hash sums of 100 ids each, both servers at once");
    let mut rows = Measured::new("regraft, references and columns (chooses by itself)");
    let mut summed = Measured::new("regraft, references and columns, by sums");
    let mut all = Measured::new("regraft, all proofs");
    let mut other = Measured::new("reladiff, on tables of the same shape and keys");
    for round in 0..rounds {
        say(&format!("proofs, round {} of {rounds}", round + 1));
        merge.add(expert_merge(world, target)?);
        sums.add(expert_sums(world, target)?);
        rows.add(validate(world, target, ROWS, 0)?);
        summed.add(validate(world, target, &with_method("sums"), 0)?);
        all.add(validate(world, target, &[], 0)?);
        if let Some(tool) = reladiff {
            other.add(tool.run(world, target)?);
        }
    }
    let title = format!("Proofs over {} rows without a difference", world.rows);
    let goal = "rows no more than 1.5 times the better baseline, all proofs 3 times, under 128 MB";
    let better = if merge.median() <= sums.median() {
        &merge
    } else {
        &sums
    };
    let worse = if merge.median() <= sums.median() {
        &sums
    } else {
        &merge
    };
    table(&title, better, &[worse, &rows, &summed, &all], goal);
    if reladiff.is_some() {
        table(
            "The row-hash tool of today beside it",
            &rows,
            &[&other],
            "regraft at least 5 times faster",
        );
    } else {
        say("reladiff is left out: it can't be installed here");
    }
    Ok(())
}

/// Both servers behind a link of 10 MB/s: sums must win, and be chosen.
fn slow(world: &World, target: &str) -> Result<()> {
    say("proofs over a slow link ...");
    let urls = world.urls(target);
    let ports = [world.source.port(), world.target.port()];
    let proxies = ports.map(Proxy::to);
    for proxy in &proxies {
        proxy.throttle(SLOW);
    }
    let urls = [0, 1].map(|side| proxies[side].url(&urls[side], ports[side]));
    for (title, options) in [
        ("References and columns over a link of 10 MB/s", ROWS),
        ("All proofs over a link of 10 MB/s", &[]),
    ] {
        let mut measured = Vec::new();
        for (name, method) in [
            ("regraft chooses by itself", "auto"),
            ("regraft, by sums", "sums"),
            ("regraft, all rows fetched", "stream"),
        ] {
            let arguments = [&["validate", "jobs", "--method", method], options].concat();
            let mut way = Measured::new(name);
            way.add(world.run(&arguments, &urls, &[0])?);
            measured.push(way);
        }
        if let [auto, sums, stream] = measured.as_slice() {
            table(title, auto, &[sums, stream], "sums win, and are chosen");
        }
    }
    Ok(())
}

/// Rows that differ, are missing and are there too many: what finding them costs.
fn different(world: &World, target: &str, rounds: usize) -> Result<()> {
    let mut clean = Measured::new("regraft, all proofs, no difference");
    for _ in 0..rounds {
        clean.add(validate(world, target, &[], 0)?);
    }
    let step = world.rows / (DIFFERENT + 1);
    world.target.execute(
        target,
        &format!(
            "update jobs set title = title || ' ' where legacy_job_id % {step} = 1 and legacy_job_id <= {step} * {DIFFERENT};
             delete from jobs where legacy_job_id % {step} = 2 and legacy_job_id <= {step} * {DIFFERENT};
             insert into jobs select gen_random_uuid(), customer_id, office_id, status, title, note, detail, created_at, -legacy_job_id
               from jobs where legacy_job_id % {step} = 3 and legacy_job_id <= {step} * {DIFFERENT}"
        ),
    )?;
    let mut found = Measured::new("the same with 100 rows changed, 100 missing and 100 too many");
    for round in 0..rounds {
        say(&format!("differences, round {} of {rounds}", round + 1));
        found.add(validate(world, target, &["--format", "json"], 1)?);
        exactly(&world.printed()?)?;
    }
    table(
        "Differences",
        &clean,
        &[&found],
        "found exactly, no more than twice the cost of none",
    );
    Ok(())
}

/// Whether a validation found the differences, all of them and nothing else.
fn exactly(document: &serde_json::Value) -> Result<()> {
    let mut found = Vec::new();
    for entity in document["entities"].as_array().into_iter().flatten() {
        for check in entity["checks"].as_array().into_iter().flatten() {
            for finding in check["findings"].as_array().into_iter().flatten() {
                found.push((
                    check["name"].as_str().unwrap_or_default(),
                    finding["rows"].as_u64(),
                ));
            }
        }
    }
    let wanted = [
        ("counts", Some(DIFFERENT)),
        ("counts", Some(DIFFERENT)),
        ("columns", Some(DIFFERENT)),
    ];
    if found == wanted {
        Ok(())
    } else {
        Err(format!("the differences were not found exactly: {found:?}").into())
    }
}

async fn sessions(world: &World, target: &str) -> Result<[Session; 2]> {
    let source = world.source.endpoint(Side::Source, "legacy");
    let target = world.target.endpoint(Side::Target, target);
    let options = SessionOptions::reading("bench");
    let sessions = [
        Session::connect(&source, &options).await?,
        Session::connect(&target, &options).await?,
    ];
    for session in &sessions {
        session.batch_execute("set work_mem = '64MB'").await?;
    }
    Ok(sessions)
}

/// Both sides in key order, byte by byte.
fn expert_merge(world: &World, target: &str) -> Result<Figure> {
    runtime()?.block_on(async {
        let started = Instant::now();
        let [source, target] = sessions(world, target).await?;
        let ours = format!("copy ({SOURCE} order by 1) to stdout (format binary)");
        let theirs = format!("copy ({TARGET} order by 1) to stdout (format binary)");
        let (mut a, mut b) = futures_util::future::try_join(
            Stream::open(&source, &ours),
            Stream::open(&target, &theirs),
        )
        .await?;
        let mut rows = 0;
        loop {
            match (a.next().await?, b.next().await?) {
                (None, None) => break,
                (Some(x), Some(y)) if x == y => rows += 1,
                _ => return Err("the baseline found a difference".into()),
            }
        }
        done(rows == world.rows, started)
    })
}

/// Sums of hashes by ranges of 100 ids.
fn expert_sums(world: &World, target: &str) -> Result<Figure> {
    runtime()?.block_on(async {
        let started = Instant::now();
        let [source, target] = sessions(world, target).await?;
        let summed = |query: &str, id: &str| {
            format!(
                "select r.{id} / 100 as range, sum(hash_record_extended(r, 0))::text
                 from ({query}) r group by 1 order by 1"
            )
        };
        let (ours, theirs) = (summed(SOURCE, "id"), summed(TARGET, "legacy_job_id"));
        let (ours, theirs) =
            futures_util::future::try_join(source.query(&ours, &[]), target.query(&theirs, &[]))
                .await?;
        let read = |rows: Vec<tokio_postgres::Row>| -> Vec<(i32, String)> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        done(read(ours) == read(theirs), started)
    })
}

fn done(equal: bool, started: Instant) -> Result<Figure> {
    if !equal {
        return Err("the baseline found a difference".into());
    }
    Ok(Figure {
        seconds: started.elapsed().as_secs_f64(),
        ..Figure::default()
    })
}

/// The rows of a binary COPY, one at a time.
struct Stream {
    stream: std::pin::Pin<Box<tokio_postgres::CopyOutStream>>,
    reader: Reader,
    tuple: Tuple,
    chunk: bytes::Bytes,
    at: usize,
}

impl Stream {
    async fn open(session: &Session, statement: &str) -> Result<Self> {
        Ok(Self {
            stream: Box::pin(session.copy_out(statement).await?),
            reader: Reader::default(),
            tuple: Tuple::default(),
            chunk: bytes::Bytes::new(),
            at: 0,
        })
    }

    async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        loop {
            if self.at < self.chunk.len() {
                if let Some(used) = self.tuple.parse(&self.chunk[self.at..], 8)? {
                    let row = self.chunk.slice(self.at..self.at + used);
                    self.at += used;
                    return Ok(Some(row));
                }
                self.reader.finish();
                self.at = self.chunk.len();
            }
            let stream = &mut self.stream;
            pin_mut!(stream);
            let Some(chunk) = stream.next().await else {
                return Ok(None);
            };
            self.chunk = self.reader.payload(&chunk?)?;
            self.at = 0;
        }
    }
}

/// The peer, installed for this run.
pub(super) struct Tool {
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// Installs reladiff beside nothing else; `None` where that isn't possible.
pub(super) fn reladiff() -> Option<Tool> {
    let folder = tempfile::tempdir().ok()?;
    let silent = |program: &Path, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    say("installing reladiff ...");
    let bin = folder.path().join("python/bin");
    let installed = silent(Path::new("python3"), &["-m", "venv", "python"])
        && silent(
            &bin.join("pip"),
            &["install", "--quiet", "reladiff", "psycopg2-binary"],
        );
    installed.then(|| Tool {
        program: bin.join("reladiff"),
        folder,
    })
}

impl Tool {
    pub(super) fn run(&self, world: &World, target: &str) -> Result<Figure> {
        let [source, target] = world.urls(target);
        let mut arguments = vec![
            source.as_str(),
            "job_rekeyed",
            &target,
            "jobs",
            "-k",
            "legacy_job_id",
            "--threads",
            "2",
        ];
        // Every column, as ours does: whoever looks for any change has to name them all.
        for column in [
            "id",
            "customer_id",
            "office_id",
            "status",
            "title",
            "note",
            "detail",
            "created_at",
        ] {
            arguments.extend(["-c", column]);
        }
        let figure = process::run(&self.program, &arguments, &[], self.folder.path(), &[0])?;
        let printed = std::fs::read_to_string(self.folder.path().join("bench.log"))?;
        if printed.trim().is_empty() {
            Ok(figure)
        } else {
            Err("reladiff found a difference".into())
        }
    }
}
