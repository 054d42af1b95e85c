//! What has to hold before the first write.

use std::collections::BTreeMap;

use regraft_ledger::{MappingIndex, NewRun, OpenRun, Run, RunStatus};
use regraft_pg::Session;
use regraft_project::{Project, Selection};
use serde_json::{Value, json};

use super::{Claim, MigrateOptions, Task, choose_mode, is_empty, run_detail};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::keys::Deriver;
use crate::model::{EntityModel, KeyRule, Model, resolve};
use crate::transaction;
use crate::unfinished;

/// The project resolved against both catalogs.
///
/// # Errors
/// Every problem at once.
pub(crate) async fn resolved(
    context: &Context,
    source: &Session,
    target: &Session,
) -> Result<Model> {
    let resolution = resolve(&context.project, source, target).await?;
    if resolution.problems.has_errors() {
        return Err(Error::problems(resolution.problems));
    }
    Ok(resolution.model)
}

/// Refuses to derive keys without a secret.
pub(crate) fn check_secret(context: &Context, model: &Model, selection: &Selection) -> Result<()> {
    let derived = selection.entities().iter().find(|step| {
        model
            .entities
            .get(&step.entity)
            .is_some_and(|m| matches!(m.key_rule, KeyRule::V5 | KeyRule::V7 { .. }))
    });
    match derived {
        Some(step) if context.settings.secret.is_none() => Err(Error::new(
            Kind::Usage,
            format!("the keys of `{}` are derived, and there is no secret to derive them with", step.entity),
        )
        .hint("set REGRAFT_KEY_SECRET in the environment or in .env to a long random text (`openssl rand -hex 32`) and keep it")),
        _ => Ok(()),
    }
}

/// Refuses a plan that isn't the one that was reviewed.
pub(crate) fn check_plan_hash(
    context: &Context,
    selection: &Selection,
    options: &MigrateOptions,
    model: &Model,
) -> Result<()> {
    let Some(wanted) = &options.plan_hash else {
        return Ok(());
    };
    let hash = crate::plan::hash(&context.project, selection, model);
    if wanted.len() >= 8 && hash.starts_with(wanted.as_str()) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("the plan has the hash {hash}, not {wanted}: the project, a catalog or the selection has changed since"),
    )
    .hint("look at the plan again with `regraft plan`, then migrate with its hash"))
}

/// Creates or upgrades the control tables.
pub(crate) async fn install_ledger(target: &Session, nested: bool) -> Result<()> {
    transaction::run(target, nested, async || {
        Ok(regraft_ledger::install(&**target).await?)
    })
    .await
}

/// Becomes the one process that writes to this target. A process that has just died leaves its
/// connection for a moment, so this waits a little before it gives up.
pub(crate) async fn lock(context: &Context, target: &Session) -> Result<()> {
    Claim::Whole.take(context, target).await
}

/// Refuses another secret than the one that earlier keys were derived with: the same row would get
/// another key.
pub(crate) async fn check_same_secret(context: &Context, target: &Session) -> Result<()> {
    let Some(secret) = &context.settings.secret else {
        return Ok(());
    };
    let check = Deriver::secret_check(secret);
    let before = regraft_ledger::last_secret_check(&**target).await?;
    match before {
        Some(before) if before != check => Err(Error::new(
            Kind::Usage,
            "REGRAFT_KEY_SECRET is not the secret that the keys in this target were derived with",
        )
        .hint("set it to the one that earlier runs had, or roll those back first")),
        _ => Ok(()),
    }
}

/// Takes up the run that was left unfinished, or begins one. Also gives what it is about: the
/// entities asked for, and those the unfinished run had besides.
pub(crate) async fn open_run(
    context: &Context,
    target: &Session,
    selection: &Selection,
    model: &Model,
    (options, task, claim): (&MigrateOptions, &Task, &Claim),
    position: &str,
) -> Result<(Run, Selection, bool)> {
    let mut detail = run_detail(context, selection, model, options, position);
    if let Some(secret) = &context.settings.secret {
        detail["secret_check"] = json!(Deriver::secret_check(secret));
    }
    if let Task::Retry(rows) = task {
        detail["rows"] = json!(rows);
    }
    if let Some((field, way)) = task.way() {
        detail[field] = way.clone();
    }
    let unfinished = to_go_on_with(context, target, task, claim).await?;
    let found = unfinished.as_ref().map(|run| run.run_id.as_str());
    if options.only_resume.is_some() && options.only_resume.as_deref() != found {
        return Err(Error::new(
            Kind::Usage,
            "the run to resume has been finished meanwhile",
        ));
    }
    let Some(run) = unfinished else {
        let run = transaction::run(target, options.dry_run, async || {
            Ok(regraft_ledger::begin_run(
                &**target,
                &NewRun {
                    command: task.command(),
                    detail: &detail,
                },
            )
            .await?)
        })
        .await?;
        return Ok((run, selection.clone(), false));
    };
    if options.dry_run {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "run {} is unfinished: a dry run would begin in the middle of it",
                run.run_id
            ),
        )
        .hint(format!(
            "finish it with `{}`, or undo it with `regraft rollback --run {}`",
            finishing_command(context, &run),
            run.run_id
        )));
    }
    refuse_changes(context, &run, model)?;
    refuse_another_way(context, &run, task)?;
    let mut names: Vec<String> = unfinished::entities(&run).map(str::to_owned).collect();
    names.extend(selection.entities().iter().map(|s| s.entity.clone()));
    let all = context
        .project
        .select(&names, false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    let entities: Vec<&str> = all.entities().iter().map(|s| s.entity.as_str()).collect();
    transaction::run(target, false, async || {
        regraft_ledger::hold_run(&**target, run.run_no).await?;
        regraft_ledger::take_over(&**target, run.run_no).await?;
        regraft_ledger::withdraw_offers(&**target, run.run_no).await?;
        regraft_ledger::set_run_detail(&**target, run.run_no, "entities", &json!(entities)).await?;
        Ok(regraft_ledger::finish_run(&**target, run.run_no, RunStatus::Running).await?)
    })
    .await?;
    Ok((run, all, true))
}

/// The unfinished run of this command that is to be gone on with, if there is one. There may be several
/// of runs that went side by side: they are gone on with one by one.
async fn to_go_on_with(
    context: &Context,
    target: &Session,
    task: &Task,
    claim: &Claim,
) -> Result<Option<Run>> {
    let open = unfinished::in_the_way(target, &context.project, claim).await?;
    let own = |open: &&OpenRun| open.run.command == task.command();
    if let Some(other) = open.iter().find(|open| !own(open)) {
        return Err(unfinished::refused(&context.project, other));
    }
    match open.as_slice() {
        [first, _, ..] if matches!(task, Task::Differential(_)) => {
            Err(unfinished::refused(&context.project, first))
        }
        open => Ok(open.last().map(|open| open.run.clone())),
    }
}

fn finishing_command(context: &Context, run: &Run) -> String {
    let open = OpenRun {
        run: run.clone(),
        left: Vec::new(),
        server_process: None,
    };
    unfinished::finishing_command(&context.project, &open)
}

/// An unfinished run is only taken up in the way that it was begun.
fn refuse_another_way(context: &Context, run: &Run, task: &Task) -> Result<()> {
    let Some((field, way)) = task.way() else {
        return Ok(());
    };
    match run.detail.get(field) {
        Some(begun) if way != begun => Err(Error::new(
            Kind::Usage,
            format!(
                "run {} was left unfinished, and it was begun with {begun}, not with {way}",
                run.run_id
            ),
        )
        .hint(format!(
            "finish it with `{}`",
            finishing_command(context, run)
        ))),
        _ => Ok(()),
    }
}

/// An unfinished run is only taken up under the project, schemas and program that began it. A bulk
/// load has changed the target's schema itself, and brings it back.
fn refuse_changes(context: &Context, run: &Run, model: &Model) -> Result<()> {
    let changed = changed_since(context, run, model, run.command == "differential");
    if changed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("run {} was left unfinished, and {} changed since", run.run_id, changed.join(" and ")),
    )
    .hint(format!(
        "undo it with `regraft rollback --run {}` and begin again, or bring back what it was begun with",
        run.run_id
    )))
}

/// What is other than it was when a run was begun, each with the names of its parts: the project, the
/// source's schema, the target's where `of_target` says so, and this program. The run has to be one
/// that notes them in its detail.
pub(crate) fn changed_since(
    context: &Context,
    run: &Run,
    model: &Model,
    of_target: bool,
) -> Vec<String> {
    let was = |field: &str| run.detail.get(field).and_then(|v| v.as_str());
    let differs = |field: &str, now: &str| was(field).unwrap_or_default() != now;
    let mut changed = Vec::new();
    if differs("project_hash", context.project.hash()) {
        let now = context.project.file_hashes();
        changed.push(with_names("the project", &run.detail["project_files"], now));
    }
    if differs("source_catalog", &model.source_catalog_hash) {
        let now = &model.source_tables;
        changed.push(with_names(
            "the source's schema",
            &run.detail["source_tables"],
            now,
        ));
    }
    if of_target && differs("target_catalog", &model.target_catalog.hash()) {
        let now = model.target_catalog.table_hashes();
        changed.push(with_names(
            "the target's schema",
            &run.detail["target_tables"],
            &now,
        ));
    }
    if differs("program_version", env!("CARGO_PKG_VERSION")) {
        let before = was("program_version").unwrap_or("unknown");
        changed.push(format!("this program (it was version {before})"));
    }
    changed
}

/// What has changed, with the names of those parts that are new, gone or other than they were.
fn with_names(what: &str, before: &Value, now: &BTreeMap<String, String>) -> String {
    let before: BTreeMap<String, String> =
        serde_json::from_value(before.clone()).unwrap_or_default();
    let mut names: Vec<&str> = now
        .iter()
        .filter(|(name, hash)| before.get(*name) != Some(hash))
        .map(|(name, _)| name.as_str())
        .collect();
    names.extend(
        before
            .keys()
            .filter(|name| !now.contains_key(*name))
            .map(String::as_str),
    );
    names.sort_unstable();
    match names.as_slice() {
        [] => what.to_owned(),
        // Nothing was noted by part.
        _ if before.is_empty() => what.to_owned(),
        [first @ .., last] if first.len() < 8 => {
            let list = [first, &[*last]].concat().join(", ");
            format!("{what} ({list})")
        }
        more => format!(
            "{what} ({} and {} more)",
            more[..7].join(", "),
            more.len() - 7
        ),
    }
}

/// Refuses before anything is written what would stop the run in the middle: rows that can't be
/// read or written for want of a privilege, a table that holds rows of others, a mode that can't
/// be had, mappings without the index that makes loading idempotent.
pub(crate) async fn check_ready(
    source: &Session,
    target: &Session,
    model: &Model,
    selection: &Selection,
    (options, task): (&MigrateOptions, &Task),
    project: &Project,
) -> Result<()> {
    let ledger = regraft_ledger::installed_version(&**target)
        .await?
        .is_some();
    let steps = selection.entities().iter();
    let names: Vec<String> = steps.map(|step| step.entity.clone()).collect();
    let claim = Claim::of(project, model, &names, task, options.dry_run);
    if ledger
        && !unfinished::in_the_way(target, project, &claim)
            .await?
            .is_empty()
    {
        // The entities of an unfinished run were ready when it began, and are in the middle of it
        // now. Whether it can be taken up is seen when nobody else can write any more.
        return Ok(());
    }
    for step in selection.entities() {
        let Some(entity) = model.entities.get(&step.entity) else {
            continue;
        };
        let ready = async {
            check_privileges(source, target, entity).await?;
            let index = if ledger {
                regraft_ledger::mapping_index(&**target, &entity.name).await?
            } else {
                MappingIndex::Empty
            };
            refuse_without_index(entity, index)?;
            let has_existing =
                index == MappingIndex::Present && has_mappings(target, entity).await?;
            let table = (is_empty(target, entity).await?, has_existing);
            choose_mode(model, entity, options.mode, options.dry_run, table, 0)
        };
        ready.await.map_err(|error| error.in_entity(&step.entity))?;
    }
    Ok(())
}

/// Reads nothing, and asks whether rows could be inserted: the servers check privileges all the
/// same.
async fn check_privileges(source: &Session, target: &Session, entity: &EntityModel) -> Result<()> {
    let mut list = entity.key_value();
    for field in &entity.fields {
        list.push_str(", ");
        list.push_str(&field.sql);
    }
    let nothing = format!("select {list} from {}\nwhere false", entity.from);
    source
        .query(&nothing, &[])
        .await
        .map_err(|e| Error::from(source.error(e)))?;
    let table = entity.table.sql_name();
    let may: bool = target
        .query_one(
            "select has_table_privilege($1::text::regclass, 'insert')",
            &[&table],
        )
        .await?
        .get(0);
    if may {
        return Ok(());
    }
    Err(Error::new(
        Kind::Permission,
        format!("the target's user may not insert into {table}"),
    )
    .hint("connect as the owner of the target's tables, or grant it the right"))
}

async fn has_mappings(target: &Session, entity: &EntityModel) -> Result<bool> {
    let row = target
        .query_one(
            "select exists (select 1 from regraft.migration_mappings where entity = $1)",
            &[&entity.name],
        )
        .await?;
    Ok(row.get(0))
}

/// Refuses mappings without the unique index that makes loading idempotent.
pub(crate) fn refuse_without_index(entity: &EntityModel, index: MappingIndex) -> Result<()> {
    if index != MappingIndex::Missing {
        return Ok(());
    }
    Err(Error::new(
        Kind::Data,
        "the unique index of its mappings is missing: without it a row could be moved twice",
    )
    .hint(format!(
        "bring it back: {}",
        regraft_ledger::key_index_statement(&entity.name, entity.numeric)
    )))
}
