//! Entities that are examined by workers on other hosts, in the views of the process that hands them
//! out. Each sends back what it found; the verdict is that process's.

use std::time::{Duration, Instant};

use regraft_pg::Session;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::account::History;
use super::course::{Done, Examined, examine};
use super::databases::{Databases, Views};
use super::examination::Examination;
use super::options::ValidationOptions;
use super::subject::{IdSpaces, Subject};
use crate::context::Context;
use crate::drift::Drift;
use crate::error::{Error, Kind, Result};
use crate::work_queue::{Work, WorkKind, WorkQueue};

/// How long to wait before looking again which entities are done.
const AGAIN: Duration = Duration::from_millis(100);

/// An entity to be examined, as it waits in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OfferedEntity {
    /// The validation.
    validation_id: Uuid,
    /// The entity.
    entity: String,
    /// The project that it is held against.
    project_hash: String,
    views: Views,
    options: ValidationOptions,
    far: bool,
    answers_for_table: bool,
    /// The time that was left when it was handed out.
    left: Option<Duration>,
}

/// What a worker sends back.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Examined(Examined),
    /// What it could not get past.
    Error(serde_json::Value),
}

/// Hands entities out and waits until all are examined, or the time is over.
///
/// # Errors
/// What a worker could not get past; the queue or the ledger can't be used.
pub(super) async fn examine_all(
    context: &Context,
    queue: &dyn WorkQueue,
    databases: &Databases<'_>,
    examinations: &[Examination<'_, '_>],
    left: Option<Duration>,
    done: &mut Done,
) -> Result<()> {
    let (validation_id, started) = (Uuid::new_v4(), Instant::now());
    let offers: Vec<Work> = examinations
        .iter()
        .map(|examination| {
            work(&OfferedEntity {
                validation_id,
                entity: examination.subject.name().to_owned(),
                project_hash: context.project.hash().to_owned(),
                views: databases.views(),
                options: examination.options.clone(),
                far: examination.far,
                answers_for_table: examination.answers_for_table,
                left,
            })
        })
        .collect();
    let target = context.connect_target().await?;
    let names: Vec<&str> = examinations.iter().map(|e| e.subject.name()).collect();
    regraft_ledger::offer_proofs(&*target, validation_id, &names).await?;
    queue.put(offers.clone(), false).await?;
    let is_over = || left.is_some_and(|left| started.elapsed() >= left);
    let mut answers = Vec::new();
    while answers.len() < names.len() && !is_over() {
        sleep(AGAIN).await;
        answers = regraft_ledger::answered_proofs(&*target, validation_id).await?;
        let error = answers.iter().find_map(|(_, answer)| answer.get("Error"));
        if let Some(error) = error {
            let error = Error::from_note(error);
            withdraw(queue, &target, validation_id, offers).await;
            return Err(error);
        }
    }
    withdraw(queue, &target, validation_id, offers).await;
    for name in names {
        let answer = answers.iter().position(|(entity, _)| entity == name);
        match answer.map(|at| serde_json::from_value(answers.swap_remove(at).1)) {
            Some(Ok(Answer::Examined(examined))) => done.add(name, examined),
            Some(_) => return Err(unreadable().in_entity(name)),
            None => done.stop(name, "within"),
        }
    }
    Ok(())
}

fn work(offered: &OfferedEntity) -> Work {
    let (id, entity) = (offered.validation_id, &offered.entity);
    Work {
        key: format!("{id}/{entity}"),
        part_of: format!("validation {id}"),
        group: id.to_string(),
        kind: WorkKind::Entity,
        detail: json!(offered),
    }
}

/// Nobody is to begin with what is left, and nobody's answer is waited for.
async fn withdraw(queue: &dyn WorkQueue, target: &Session, validation_id: Uuid, offers: Vec<Work>) {
    // Whoever takes one all the same finds that nobody asks for it.
    let _ = queue.withdraw(offers).await;
    let _ = regraft_ledger::withdraw_proofs(&**target, validation_id).await;
}

fn unreadable() -> Error {
    Error::new(Kind::Internal, "what a worker has found can't be read")
        .hint("let all workers be of the same version of this program")
}

/// Examines an entity for another process, and sends it what was found. The rows of its source; `None`
/// when nobody asks for it any more.
///
/// # Errors
/// A fault that may pass, unless this is the `last` attempt; another project ([`Kind::Usage`]).
pub(crate) async fn examine_offered(
    context: &Context,
    offered: &OfferedEntity,
    last: bool,
) -> Result<Option<u64>> {
    if offered.project_hash != context.project.hash() {
        return Err(Error::new(
            Kind::Usage,
            "a validation is about another project than this worker has",
        )
        .hint("give every worker the same project folder"));
    }
    let target = context.connect_target().await?;
    let (id, entity) = (offered.validation_id, offered.entity.as_str());
    if !regraft_ledger::is_proof_wanted(&*target, id, entity).await? {
        return Ok(None);
    }
    let answer = match examined(context, offered).await {
        Ok(examined) => Answer::Examined(examined),
        Err(error) if !last && is_passing(&error) => return Err(error),
        Err(error) => Answer::Error(error.in_entity(entity).to_note()),
    };
    let rows = match &answer {
        Answer::Examined(Examined::Done { timed, .. }) => timed.validation.rows,
        _ => 0,
    };
    regraft_ledger::answer_proof(&*target, id, entity, &json!(answer)).await?;
    Ok(Some(rows))
}

fn is_passing(error: &Error) -> bool {
    let transient = error
        .database()
        .is_some_and(regraft_pg::Error::is_transient);
    transient || error.kind() == Kind::Unreachable
}

async fn examined(context: &Context, offered: &OfferedEntity) -> Result<Examined> {
    let options = &offered.options;
    let mut databases = Databases::join(context, options.timeout, &offered.views).await?;
    let catalog = databases.catalog.clone();
    let spaces = IdSpaces::read(&context.project, &databases).await?;
    let entity = context.project.entity(&offered.entity);
    let entity = entity.ok_or_else(|| Error::new(Kind::Internal, "there is no such entity"))?;
    let history = History::read(&databases.target, &entity.name).await?;
    let subject = Subject::new(&context.project, entity, &catalog, &spaces)?;
    let drift = Drift::new(context);
    let examination = Examination {
        context,
        options,
        subject: &subject,
        history: &history,
        drift: &drift,
        far: offered.far,
        answers_for_table: offered.answers_for_table,
    };
    examine(&examination, &mut databases, offered.left).await
}
