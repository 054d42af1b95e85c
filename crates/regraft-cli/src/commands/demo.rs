//! `regraft demo`: everything once, on two servers of its own.

mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regraft_engine::{
    Context, Error, GenerateOptions, Kind, MigrateOptions, ModeChoice, Outcome, Pace, Result,
    Settings, Validation, ValidationOptions, apply_schema, check, generate_source, migrate, plan,
    validate,
};
use regraft_pg::catalog::Catalog;
use regraft_pg::managed::Installation;
use regraft_pg::{Endpoint, Environment, Session, SessionOptions};
use regraft_project::{Limits, Project, Selection};
use serde::Serialize;

use crate::arguments::DemoArguments;
use crate::diagnostics::problem_count;
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::Invocation;
use crate::progress::{Doing, Step};
use crate::style::{self, paint};
use crate::views;

use stage::Stage;

/// The JSON document of a demo.
#[derive(Serialize)]
struct Document<'a> {
    migration: &'a Outcome,
    validation: &'a Validation,
    kept: Option<&'a Kept>,
}

/// Where a kept demo is. Its servers are throw-away ones on this machine alone, so their
/// passwords may be seen.
#[derive(Serialize)]
struct Kept {
    folder: PathBuf,
    project: PathBuf,
    env: PathBuf,
    source_url: String,
    target_url: String,
}

/// Runs the demo, or ends a kept one.
pub(super) async fn run(invocation: &Invocation, arguments: &DemoArguments) -> Result<ExitStatus> {
    if arguments.stop {
        return stop(invocation, arguments.dir.as_deref());
    }
    if arguments.keep
        && arguments.dir.is_none()
        && let Some(folder) = stage::kept_here()
    {
        let message = format!("a demo is kept already, in {}", folder.display());
        return Err(Error::new(Kind::Usage, message).hint(
            "end it with `regraft demo --stop`, or put the second one elsewhere with --dir",
        ));
    }
    let result = perform(invocation, arguments).await;
    result.map_err(|error| match error.kind() {
        Kind::Interrupted if !arguments.keep => Error::new(
            Kind::Interrupted,
            "the demo was interrupted; its servers are stopped and its data is removed",
        ),
        _ => error,
    })
}

async fn perform(invocation: &Invocation, arguments: &DemoArguments) -> Result<ExitStatus> {
    let mut stage = start(invocation, arguments).await?;
    let secret = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    let context = context(invocation, &stage, &secret)?;
    generate(invocation, &context, arguments).await?;
    let step = Step::begin(&invocation.printer, "creating the target schema");
    let applied = apply_schema(&context).await?;
    step.done(&format!(
        "target schema: {}",
        figures::counted(applied.tables.len() as u64, "table")
    ));
    if !arguments.keep {
        return show(invocation, &context, None).await;
    }
    // From here on there is something worth keeping, whatever happens.
    let kept = keep(&mut stage, arguments.dir.as_deref(), &secret)?;
    let result = show(invocation, &context, Some(&kept)).await;
    if result.is_err() && !invocation.printer.is_json() {
        invocation.printer.note(kept_text(&kept));
        invocation
            .printer
            .next_steps(&next_steps(Some(&kept), false));
    }
    result
}

/// The migration itself, from the check to the receipt.
async fn show(
    invocation: &Invocation,
    context: &Context,
    kept: Option<&Kept>,
) -> Result<ExitStatus> {
    let printer = &invocation.printer;
    let selection = whole_project(&context.project)?;
    check_and_plan(invocation, context, &selection).await?;
    let outcome = migrate(context, &selection, &MigrateOptions::default()).await?;
    let step = Step::begin(printer, "comparing both databases");
    let watched = Context {
        events: step.events(),
        ..context.clone()
    };
    let validation = validate(&watched, &selection, &ValidationOptions::default()).await?;
    drop(step);
    printer.note("");
    let document = Document {
        migration: &outcome,
        validation: &validation,
        kept,
    };
    let limits = &context.project.manifest().limits;
    printer.report(&document, |width| human(&document, limits, width));
    printer.next_steps(&next_steps(kept, outcome.receipt.total.quarantined > 0));
    // The dirt that stayed behind was put there on purpose: it is no finding.
    Ok(if validation.passed {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

/// The folder with both servers running.
async fn start(invocation: &Invocation, arguments: &DemoArguments) -> Result<Stage> {
    let step = Step::begin(&invocation.printer, "starting two PostgreSQL servers");
    let (dir, bin, keep) = (
        arguments.dir.clone(),
        arguments.pg_bin.clone(),
        arguments.keep,
    );
    let work = move || -> Result<(Stage, Installation)> {
        let installation = Installation::find(bin.as_deref(), &Environment::load(Path::new("."))?)?;
        let mut stage = Stage::make(dir.as_deref())?;
        stage.start_servers(&installation, keep)?;
        Ok((stage, installation))
    };
    let (stage, installation) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(
            Kind::Internal,
            format!("the servers could not be started: {error}"),
        )
    })??;
    invocation
        .printer
        .detail(format!("programs: {}", installation.bin_dir.display()));
    step.done(&format!("two PostgreSQL {} servers", installation.version));
    Ok(stage)
}

/// What the engine works with. Nothing of the user's own environment counts here.
fn context(invocation: &Invocation, stage: &Stage, secret: &str) -> Result<Context> {
    let project = Project::load(&stage.project()).map_err(Error::problems)?;
    let environment = Environment::from_pairs([("REGRAFT_KEY_SECRET", secret)]);
    Ok(Context {
        settings: Settings::from_environment(&project, &environment)?,
        project: Arc::new(project),
        source: stage.source()?,
        target: stage.target()?,
        cancel: invocation.cancel.clone(),
        events: invocation.events(Doing::Moving),
        pace: Pace::default(),
    })
}

async fn generate(
    invocation: &Invocation,
    context: &Context,
    arguments: &DemoArguments,
) -> Result<()> {
    let step = Step::begin(&invocation.printer, "generating the legacy data");
    let options = GenerateOptions {
        scale: arguments.scale,
        seed: arguments.seed,
        dirt: arguments.dirt,
    };
    generate_source(context, &options).await?;
    step.done(&format!(
        "legacy database: {}",
        size(&context.source).await?
    ));
    Ok(())
}

/// How large a database that was just analysed is, in words.
async fn size(endpoint: &Endpoint) -> Result<String> {
    let session = Session::connect(endpoint, &SessionOptions::reading("regraft demo")).await?;
    let catalog = Catalog::read(&*session, &[]).await?;
    session.close().await;
    let tables = figures::counted(catalog.tables.len() as u64, "table");
    #[expect(clippy::cast_possible_truncation, reason = "an estimate for people")]
    let rows = catalog
        .tables
        .iter()
        .map(|table| table.rows.max(0.0))
        .sum::<f64>() as i64;
    Ok(match rows {
        0 => tables,
        rows => format!("{tables}, about {}", figures::counted(rows, "row")),
    })
}

fn keep(stage: &mut Stage, dir: Option<&Path>, secret: &str) -> Result<Kept> {
    Ok(Kept {
        env: stage.keep(dir, secret)?,
        folder: stage.folder().to_owned(),
        project: stage.project(),
        source_url: stage.source()?.url(),
        target_url: stage.target()?.url(),
    })
}

fn whole_project(project: &Project) -> Result<Selection> {
    project
        .select(&["all".to_owned()], false)
        .map_err(|error| crate::diagnostics::unknown_name(&error))
}

async fn check_and_plan(
    invocation: &Invocation,
    context: &Context,
    selection: &Selection,
) -> Result<()> {
    let step = Step::begin(
        &invocation.printer,
        "checking the project against both databases",
    );
    let outcome = check(Some(context), &context.project).await?;
    if outcome.problems.has_errors() {
        return Err(Error::problems(outcome.problems));
    }
    step.done(&format!(
        "project {}: {}, {}, {}",
        context.project.manifest().name,
        figures::counted(outcome.entities as u64, "entity"),
        figures::counted(outcome.columns as u64, "column"),
        problem_count(&outcome.problems),
    ));
    let step = Step::begin(&invocation.printer, "planning");
    let plan = plan(context, selection, ModeChoice::Auto).await?;
    let rows: u64 = plan.entities.iter().map(|entity| entity.to_move).sum();
    step.done(&format!(
        "plan {}: {} to move",
        plan.hash,
        figures::counted(rows, "row")
    ));
    Ok(())
}

fn human(document: &Document<'_>, limits: &Limits, width: usize) -> String {
    let mut text = views::receipt::render(&document.migration.receipt, width);
    if !document.migration.within_budget {
        let line = views::receipt::over_budget(document.migration, limits);
        let line =
            format!("{line}; the dirt was put in on purpose, but `migrate` would exit with 1");
        text.push_str(&format!(
            "\n{} {}\n",
            paint(style::CAUTION, "!"),
            figures::wrap(&line, width.saturating_sub(2), 2)
        ));
    }
    text.push('\n');
    text.push_str(&views::validation::summary(document.validation, width));
    if let Some(kept) = document.kept {
        text.push_str(&kept_text(kept));
    }
    text
}

fn kept_text(kept: &Kept) -> String {
    format!(
        "\n{}\n  legacy   {}\n  modern   {}\n  project  {}\n  .env     {}\n",
        paint(style::HEADING, "kept"),
        kept.source_url,
        kept.target_url,
        kept.project.display(),
        kept.env.display(),
    )
}

fn next_steps(kept: Option<&Kept>, quarantined: bool) -> Vec<(String, &'static str)> {
    let Some(kept) = kept else {
        return vec![
            (
                "regraft demo --keep".to_owned(),
                "the same, and the servers stay for a look around",
            ),
            (
                "regraft demo --scale 1".to_owned(),
                "the same, in real size",
            ),
        ];
    };
    let mut steps = Vec::new();
    let here = std::env::current_dir().ok();
    let beside = kept.env.parent();
    if let Some(folder) = beside.filter(|folder| here.as_deref() != Some(folder)) {
        steps.push((format!("cd {}", folder.display()), "where its .env is"));
    }
    steps.push(("regraft status".to_owned(), "how far each entity is"));
    if quarantined {
        steps.push((
            "regraft quarantine list".to_owned(),
            "the rows that stayed behind, and why",
        ));
    }
    steps.push((
        "regraft migrate".to_owned(),
        "again: nothing that is done is done twice",
    ));
    steps.push(("regraft rollback".to_owned(), "undo it"));
    steps.push((
        "regraft demo --stop".to_owned(),
        "stop the servers and remove it all",
    ));
    steps
}

fn stop(invocation: &Invocation, dir: Option<&Path>) -> Result<ExitStatus> {
    let step = Step::begin(&invocation.printer, "stopping the demo's servers");
    let stopped = stage::stop(dir)?;
    step.done(&format!(
        "the demo in {} is stopped and removed",
        stopped.folder.display()
    ));
    for path in stopped.left {
        invocation
            .printer
            .warning(format!("{} was changed since, and is left", path.display()));
    }
    Ok(ExitStatus::Done)
}
