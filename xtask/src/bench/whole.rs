//! The bundled project as a whole, at its real sizes if asked for: how long migration and
//! validation take, whether entities side by side help, and how far each entity is from raw COPY.

mod bare;

use std::path::{Path, PathBuf};

use regraft_pg::managed::Server;
use regraft_pg::{Session, SessionOptions, Side};
use regraft_project::Project;
use serde_json::Value;

use super::process::{self, Figure, Measured};
use super::{Result, baseline, world};
use crate::workspace;
use bare::OwnRows;

/// What is validated: these servers have autovacuum off, so that statistics would be a finding.
const PROOFS: &str = "completeness_check,relationship_integrity,data_integrity";
/// Entities with fewer rows are told in one line: their time is a few statements' fixed cost.
const WORTH_A_LINE: u64 = 1_000;
/// The best of so many tries counts, on both sides.
const TRIES: usize = 5;
/// Target database with the schema and no rows, which fresh ones are copies of.
const EMPTY: &str = "empty";
/// The same rows in every benchmark.
const SEED: &str = "1";
/// The real rate of dirt.
const DIRT: &str = "1";

/// Measures the bundled project: the whole of it in so many rounds, if any, and each entity alone.
///
/// # Errors
/// A server, the generator or the program fails; what was migrated turns out not to be valid.
pub(super) fn measure(regraft: &Path, scale: f64, rounds: Option<usize>) -> Result<()> {
    let dispatch = Dispatch::start(regraft, scale)?;
    if let Some(rounds) = rounds {
        dispatch.whole(scale, rounds.clamp(1, 3))?;
    }
    dispatch.each_entity()
}

/// The project with a filled legacy database.
struct Dispatch {
    source: Server,
    target: Server,
    project: Project,
    project_folder: PathBuf,
    regraft: PathBuf,
    /// Where the program runs, and leaves what it prints.
    folder: tempfile::TempDir,
}

/// One entity, held against raw COPY.
struct Line {
    entity: String,
    rows: u64,
    ours: f64,
    raw: f64,
    /// Seconds of its run outside its own account: catalogs, the plan of key ranges, the end.
    around: f64,
}

impl Dispatch {
    fn start(regraft: &Path, scale: f64) -> Result<Self> {
        let project_folder = workspace::root().join("projects/dispatch");
        let project = Project::load(&project_folder).map_err(|p| p.render(false, 100))?;
        process::say(&format!("generating the legacy data at scale {scale} ..."));
        let dispatch = Self {
            source: world::start_server("bench-source")?,
            target: world::start_server("bench-target")?,
            project,
            project_folder,
            regraft: regraft.to_owned(),
            folder: tempfile::tempdir()?,
        };
        dispatch.source.create_database("legacy", None)?;
        baseline::runtime()?.block_on(dispatch.generate(scale))?;
        dispatch.source.execute("postgres", "checkpoint")?;
        dispatch.target.create_database(EMPTY, None)?;
        dispatch.regraft(EMPTY, &["schema", "apply"], &[0])?;
        Ok(dispatch)
    }

    async fn generate(&self, scale: f64) -> Result<()> {
        let endpoint = self.source.endpoint(Side::Source, "legacy");
        let session = Session::connect(&endpoint, &SessionOptions::writing("bench")).await?;
        session
            .execute(
                "select set_config('regraft.scale', $1, false), set_config('regraft.seed', $2, false),
                        set_config('regraft.dirt', $3, false), set_config('client_min_messages', 'warning', false),
                        set_config('synchronous_commit', 'off', false)",
                &[&scale.to_string(), &SEED, &DIRT],
            )
            .await?;
        let files = &self.project.manifest().source;
        for file in files.schema.iter().chain(&files.generator) {
            let sql = self
                .project
                .file_text(file)
                .ok_or_else(|| format!("{file} can't be read"))?;
            session
                .batch_execute(sql)
                .await
                .map_err(|e| format!("{file}: {}", session.error(e).message()))?;
        }
        session.close().await;
        Ok(())
    }

    /// Runs the program against one of the target databases.
    fn regraft(&self, target: &str, arguments: &[&str], expected: &[i32]) -> Result<Figure> {
        let environment = [
            (
                "SOURCE_DATABASE_URL",
                self.source.endpoint(Side::Source, "legacy").url(),
            ),
            (
                "TARGET_DATABASE_URL",
                self.target.endpoint(Side::Target, target).url(),
            ),
            (
                "REGRAFT_PROJECT",
                self.project_folder.to_string_lossy().into_owned(),
            ),
            (
                "REGRAFT_KEY_SECRET",
                "the secret of the benchmark".to_owned(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        process::run(
            &self.regraft,
            arguments,
            &environment,
            self.folder.path(),
            expected,
        )
    }

    /// Migrates, and gives the receipt. The dirt, which is there on purpose, may exceed the
    /// project's budget: that is exit code 1.
    fn migrate(&self, target: &str, what: &[&str]) -> Result<(Figure, Value)> {
        let mut arguments = vec!["--format", "json", "migrate"];
        arguments.extend(what);
        let figure = self.regraft(target, &arguments, &[0, 1])?;
        let outcome = process::printed_json(self.folder.path())?;
        let receipt = outcome.get("receipt").cloned();
        Ok((figure, receipt.ok_or("`migrate` printed no receipt")?))
    }

    /// Runs `work` on a fresh target database, which is dropped afterwards.
    fn fresh<T>(&self, work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        const NAME: &str = "modern";
        self.target.create_database(NAME, Some(EMPTY))?;
        self.target.execute("postgres", "checkpoint")?;
        let result = work(NAME);
        self.target.drop_database(NAME)?;
        result
    }

    /// Everything at once, as users do it, and again with one worker.
    fn whole(&self, scale: f64, rounds: usize) -> Result<()> {
        let mut alone = Measured::new("regraft migrate all --workers 1");
        let mut beside = Measured::new("regraft migrate all");
        let mut proof = Measured::new("regraft validate");
        let mut receipt = Value::Null;
        for round in 0..rounds {
            process::say(&format!("dispatch, round {} of {rounds}", round + 1));
            let with_one = || self.fresh(|target| self.migrate(target, &["all", "--workers", "1"]));
            // Whoever comes second finds warmer caches: take turns.
            if round % 2 == 0 {
                alone.add(with_one()?.0);
            }
            self.fresh(|target| {
                let (figure, printed) = self.migrate(target, &["all"])?;
                receipt = printed;
                beside.add(figure);
                proof.add(self.regraft(target, &["validate", "--type", PROOFS], &[0])?);
                Ok(())
            })?;
            if round % 2 == 1 {
                alone.add(with_one()?.0);
            }
        }
        let title = format!("The whole bundled project at scale {scale}");
        let goal = "migration and validation under 180 s at scale 1, under 256 MB";
        process::table(&title, &alone, &[&beside], goal);
        print_whole(&alone, &beside, &proof, &receipt);
        Ok(())
    }

    /// Each entity alone, one after the other, against raw COPY of its own rows.
    fn each_entity(&self) -> Result<()> {
        let mut lines: Vec<Line> = Vec::new();
        let mut runs = f64::INFINITY;
        for number in 0..TRIES {
            process::say(&format!("each entity alone, try {} of {TRIES}", number + 1));
            self.fresh(|target| {
                let (mut found, took) = self.one_by_one(target)?;
                process::say("raw COPY of each entity's rows ...");
                baseline::runtime()?.block_on(self.raw(target, &mut found))?;
                runs = runs.min(took);
                if lines.is_empty() {
                    lines = found;
                } else {
                    for (line, again) in lines.iter_mut().zip(found) {
                        line.ours = line.ours.min(again.ours);
                        line.raw = line.raw.min(again.raw);
                        line.around = line.around.min(again.around);
                    }
                }
                Ok(())
            })?;
        }
        print_runs(&lines, runs);
        print_lines(lines);
        Ok(())
    }

    /// Migrates one entity after the other; those that refer to each other in a circle, which
    /// can't be parted, in one run. What each took by the receipt, and the seconds of all runs.
    fn one_by_one(&self, target: &str) -> Result<(Vec<Line>, f64)> {
        let selection = self.project.select(&["all".to_owned()], false)?;
        let (mut lines, mut runs) = (Vec::new(), 0.0);
        for circle in selection
            .entities()
            .chunk_by(|a, b| a.component == b.component)
        {
            let names: Vec<&str> = circle.iter().map(|step| step.entity.as_str()).collect();
            let (_, receipt) = self.migrate(target, &names)?;
            let run = seconds(&receipt).ok_or("the receipt doesn't tell the run's seconds")?;
            runs += run;
            let found: Result<Vec<Line>> = names.iter().map(|n| line(&receipt, n)).collect();
            let mut found = found?;
            let own: f64 = found.iter().map(|line| line.ours).sum();
            for line in &mut found {
                line.around = run - own;
            }
            lines.extend(found);
        }
        Ok((lines, runs))
    }

    async fn raw(&self, target: &str, lines: &mut [Line]) -> Result<()> {
        let endpoint = self.target.endpoint(Side::Target, target);
        let options = SessionOptions::writing("bench");
        for line in lines {
            let own = self.own_rows(&line.entity)?;
            // Like ours, each has connections of its own, opened beforehand: what a server process
            // has learnt of the catalogs by earlier copies would be a head start.
            let out = Session::connect(&endpoint, &options).await?;
            let into = Session::connect(&endpoint, &options).await?;
            let copied = bare::copy(&out, &into, &own).await?;
            out.close().await;
            into.close().await;
            if copied.rows != line.rows {
                return Err(format!(
                    "{}: {} rows were migrated, but raw COPY found {}",
                    line.entity, line.rows, copied.rows
                )
                .into());
            }
            line.raw = copied.seconds;
        }
        Ok(())
    }

    /// Where an entity's rows are.
    fn own_rows(&self, name: &str) -> Result<OwnRows<'_>> {
        let namespace = &self.project.manifest().target.namespace;
        let entity = self.project.entity(name);
        let entity = entity.ok_or_else(|| format!("no entity {name}"))?;
        let place = entity.target.schema_and_table(namespace);
        let shared =
            self.project.entities().iter().any(|other| {
                other.name != name && other.target.schema_and_table(namespace) == place
            });
        let only = entity.target.legacy.as_ref().map(|l| l.value.as_str());
        if shared && only.is_none() {
            return Err(format!(
                "{name} shares its table and names no `legacy` column: its rows can't be told apart"
            )
            .into());
        }
        Ok(OwnRows {
            schema: place.0,
            table: place.1,
            only: only.filter(|_| shared),
        })
    }
}

/// The time that a run or an entity took, by the receipt.
fn seconds(account: &Value) -> Option<f64> {
    account.get("seconds").and_then(Value::as_f64)
}

/// What a receipt says about one entity.
fn line(receipt: &Value, name: &str) -> Result<Line> {
    let entities = receipt.get("entities").and_then(Value::as_array);
    let found = entities
        .into_iter()
        .flatten()
        .find(|entity| entity.get("entity").and_then(Value::as_str) == Some(name))
        .ok_or_else(|| format!("the receipt doesn't name {name}"))?;
    let rows = found.pointer("/account/inserted").and_then(Value::as_u64);
    let (Some(rows), Some(ours)) = (rows, seconds(found)) else {
        return Err(format!("the receipt doesn't tell rows and seconds of {name}").into());
    };
    Ok(Line {
        entity: name.to_owned(),
        rows,
        ours,
        raw: f64::INFINITY,
        around: 0.0,
    })
}

fn print_whole(alone: &Measured, beside: &Measured, proof: &Measured, receipt: &Value) {
    let number = |path: &str| receipt.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    process::print(&format!(
        "\n{} source rows, {} moved; {} workers unless told otherwise.",
        number("/total/source_rows"),
        number("/total/inserted"),
        number("/workers")
    ));
    process::print(&format!(
        "Validation: {:.2} s, {:.0} MB. Migration and validation: {:.2} s, {:.0} MB at most.",
        proof.median(),
        proof.peak(),
        beside.median() + proof.median(),
        beside.peak().max(proof.peak())
    ));
    let ratio = beside.ratio(alone);
    let verdict = if ratio < 0.97 {
        "helps"
    } else if ratio > 1.03 {
        "costs more than it brings"
    } else {
        "makes no difference"
    };
    process::print(&format!(
        "Side by side {verdict}: {ratio:.2} times what one worker needs."
    ));
}

/// What the entities' own accounts leave out.
fn print_runs(lines: &[Line], runs: f64) {
    let own: f64 = lines.iter().map(|line| line.ours).sum();
    process::print(&format!(
        "\nEntities one after the other: {own:.2} s by their own accounts, {runs:.2} s in all with \
         each run's catalogs, plan of key ranges and end."
    ));
    if let Some(most) = lines.iter().max_by(|a, b| a.around.total_cmp(&b.around)) {
        process::print(&format!(
            "The most outside its own account: {:.2} s ({}).",
            most.around, most.entity
        ));
    }
}

fn print_lines(lines: Vec<Line>) {
    let (mut large, small): (Vec<Line>, Vec<Line>) = lines
        .into_iter()
        .partition(|line| line.rows >= WORTH_A_LINE);
    large.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    process::print(&format!(
        "\n### Each entity alone against raw COPY of its own rows, keys built afterwards (the best \
         of {TRIES} tries each; goal: no more than 2.5 times)\n"
    ));
    process::print(
        "| entity | rows | ours | raw COPY | ratio |\n| --- | ---: | ---: | ---: | ---: |",
    );
    for line in &large {
        line.print();
    }
    let together = Line {
        entity: format!("{} smaller entities together", small.len()),
        rows: small.iter().map(|line| line.rows).sum(),
        ours: small.iter().map(|line| line.ours).sum(),
        raw: small.iter().map(|line| line.raw).sum(),
        around: 0.0,
    };
    if !small.is_empty() {
        together.print();
    }
    match large.first() {
        Some(worst) => process::print(&format!(
            "\nWorst ratio: {:.2} ({}, {} rows); goal 2.5.",
            worst.ratio(),
            worst.entity,
            worst.rows
        )),
        None => process::print(&format!(
            "\nNo entity has {WORTH_A_LINE} rows at this scale."
        )),
    }
}

impl Line {
    fn ratio(&self) -> f64 {
        self.ours / self.raw
    }

    fn print(&self) {
        process::print(&format!(
            "| {} | {} | {:.3} s | {:.3} s | {:.2} |",
            self.entity,
            self.rows,
            self.ours,
            self.raw,
            self.ratio()
        ));
    }
}
