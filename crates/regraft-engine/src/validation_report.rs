//! What validations found, read from the ledger and from nowhere else.

use regraft_ledger::{Account, StoredValidation};
use regraft_project::{Project, Selection};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::receipt::require_ledger;
use crate::validate::{InvariantOutcome, ValidationType};

/// Runs and validations that a comprehensive report lists at most.
const LISTED: usize = 20;

/// A report of the latest validation.
#[derive(Debug, Clone, Serialize)]
pub struct ValidationReport {
    /// The validation it is about.
    pub validation: ReportedValidation,
    /// Whether the project is the one that was validated.
    pub project_unchanged: bool,
    /// The runs since which the validation was not repeated; what it says is about the time before
    /// them.
    pub runs_since: Vec<String>,
    /// The accounts of the latest runs, latest first; of a comprehensive report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunAccount>>,
    /// The validations that are stored, latest first; of a comprehensive report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<HistoryEntry>>,
}

/// A validation as the ledger has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportedValidation {
    /// Its id.
    pub validation_id: String,
    /// When it was stored; RFC 3339, UTC.
    #[serde(default)]
    pub generated_at: String,
    /// What it was asked to do.
    #[serde(default)]
    pub asked: Asked,
    /// The entities it is about, parents first.
    pub entities: Vec<ReportedEntity>,
    /// The checks of the migration as a whole.
    #[serde(default)]
    pub migration: Vec<ReportedCheck>,
    /// The invariants that were checked.
    #[serde(default)]
    pub invariants: Vec<InvariantOutcome>,
    /// What nobody looked at, by name and with the reason.
    pub not_checked: Vec<String>,
    /// What is no fault, but good to know before users come.
    #[serde(default)]
    pub advice: Vec<String>,
    /// Whether it came to its end.
    pub complete: bool,
    /// Whether it is complete and every check passed.
    pub passed: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// What a validation was: the project, the program, and what was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Asked {
    /// The project's name.
    pub project: String,
    /// SHA-256 of the project as it was.
    pub project_hash: String,
    /// The program that did it.
    pub program_version: String,
    /// Whether the migration as a whole was validated (`validate --final`).
    #[serde(rename = "final")]
    pub whole: bool,
    /// The kinds of proof; empty for all.
    pub types: Vec<String>,
    /// The part of the rows whose references and columns were looked at.
    pub sampling_rate: f64,
    /// About how many rows of an entity were looked at at most.
    pub max_records: Option<u64>,
    /// The time it was given.
    pub timeout_seconds: Option<f64>,
    /// How rows were to be compared: `auto`, `stream` or `sums`.
    #[serde(default)]
    pub method: Option<String>,
}

impl Asked {
    /// Whether all proofs were asked for, over all rows.
    pub fn everything(&self) -> bool {
        let all = ValidationType::ALL.map(ValidationType::as_str);
        let every_type =
            self.types.is_empty() || all.iter().all(|of| self.types.iter().any(|t| t == of));
        every_type && self.sampling_rate >= 1.0 && self.max_records.is_none()
    }
}

/// What was found of an entity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportedEntity {
    /// The entity.
    pub entity: String,
    /// Rows of its source query, before filters.
    pub rows: u64,
    /// Its checks.
    pub checks: Vec<ReportedCheck>,
    /// How its rows were compared: `stream` or `sums`; `None` where they were not.
    #[serde(default)]
    pub method: Option<String>,
    /// Columns that were fetched row by row though the others were compared by sums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetched_columns: Vec<String>,
    /// Differences that were gone at a second look.
    #[serde(default)]
    pub transient: u64,
    /// Seconds its checks took.
    pub seconds: f64,
}

/// What came of a check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportedCheck {
    /// Its name.
    pub name: String,
    /// Whether nothing was found.
    pub passed: bool,
    /// What was looked at.
    pub looked_at: u64,
    /// What was found.
    pub findings: Vec<ReportedFinding>,
}

/// One kind of difference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportedFinding {
    /// What is wrong.
    pub what: String,
    /// How many rows.
    pub rows: u64,
    /// Some of their legacy ids.
    pub examples: Vec<String>,
}

/// The account of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunAccount {
    /// Its id.
    pub run_id: String,
    /// Its command.
    pub command: String,
    /// How it stands.
    pub status: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// The sum of its entities' accounts.
    pub account: Account,
}

/// A validation in a list.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryEntry {
    /// Its id.
    pub validation_id: String,
    /// When it was stored; RFC 3339, UTC.
    pub generated_at: String,
    /// Entities it is about.
    pub entities: u64,
    /// Whether it was about the migration as a whole.
    #[serde(rename = "final")]
    pub whole: bool,
    /// The kinds of proof it was asked for; empty for all.
    pub types: Vec<String>,
    /// Whether it came to its end.
    pub complete: bool,
    /// Whether it is complete and passed.
    pub passed: bool,
    /// Differences found.
    pub discrepancies: i64,
    /// Seconds it took.
    pub seconds: f64,
}

impl ReportedValidation {
    /// The validation of a record.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a record of another version of this program.
    pub(crate) fn of(stored: &StoredValidation) -> Result<Self> {
        let read = || -> serde_json::Result<Self> {
            let mut validation = Self::deserialize(&stored.context["validation"])?;
            validation.asked = Asked::deserialize(&stored.context)?;
            Ok(validation)
        };
        let mut validation = read().map_err(|error| {
            let id = stored.validation_id;
            Error::new(
                Kind::Internal,
                format!("validation {id} can't be read from the ledger: {error}"),
            )
            .hint("validate again with this version: `regraft validate`")
        })?;
        validation.generated_at.clone_from(&stored.generated_at);
        validation.passed &= stored.passed;
        Ok(validation)
    }

    /// Every check with the entity it is about; none for those of the migration as a whole.
    pub fn checks(&self) -> impl Iterator<Item = (&str, &ReportedCheck)> {
        let of_entities = self.entities.iter().flat_map(|entity| {
            let checks = entity.checks.iter();
            checks.map(move |check| (entity.entity.as_str(), check))
        });
        of_entities.chain(self.migration.iter().map(|check| ("", check)))
    }

    /// Whether it is about an entity.
    pub(crate) fn is_about(&self, entity: &str) -> bool {
        self.entities.iter().any(|e| e.entity == entity)
    }

    /// Only what is about these entities. What is about the migration as a whole is not. When the
    /// validation did not come to its end, all that says why stays.
    fn only(mut self, entities: &[&str]) -> Self {
        let about = |name: &str| entities.contains(&name);
        self.entities.retain(|entity| about(&entity.entity));
        self.migration.clear();
        self.invariants.retain(|invariant| {
            let mut names = invariant.entities.iter();
            !invariant.entities.is_empty() && names.all(|name| about(name))
        });
        let of_these = |remark: &String| remark.split([':', '.']).next().is_some_and(about);
        let complete = self.complete;
        self.not_checked
            .retain(|remark| !complete || of_these(remark));
        self.advice.retain(of_these);
        let mut checks = self.entities.iter().flat_map(|entity| &entity.checks);
        self.passed = complete
            && checks.all(|check| check.passed)
            && self.invariants.iter().all(|found| found.passed);
        self
    }
}

/// The report of the latest validation that is about all of the selected entities; of these alone
/// when some of the project's are not selected.
///
/// # Errors
/// [`Kind::Usage`] when there is none yet.
pub async fn report_validation(
    context: &Context,
    selection: &Selection,
    comprehensive: bool,
) -> Result<ValidationReport> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let stored = regraft_ledger::stored_validations(&*target).await?;
    let project = &context.project;
    let named = named(project, selection);
    let Some((record, validation)) = latest(&stored, &named)? else {
        return Err(no_validation(&named, stored.is_empty()));
    };
    let runs = match comprehensive {
        true => Some(regraft_ledger::list_runs(&*target, LISTED as i64).await?),
        false => None,
    };
    Ok(ValidationReport {
        project_unchanged: validation.asked.project_hash == project.hash(),
        runs_since: regraft_ledger::runs_since_validation(&*target, record.validation_id).await?,
        validation: match named.is_empty() {
            true => validation,
            false => validation.only(&named),
        },
        runs: runs.map(|runs| runs.into_iter().map(account).collect()),
        history: comprehensive.then(|| stored.iter().take(LISTED).map(entry).collect()),
    })
}

/// The selected entities, unless they are all.
fn named<'a>(project: &Project, selection: &'a Selection) -> Vec<&'a str> {
    let selected = selection.entities();
    match selected.len() == project.entities().len() {
        true => Vec::new(),
        false => selected.iter().map(|step| step.entity.as_str()).collect(),
    }
}

/// The latest validation that is about all of these entities.
fn latest<'a>(
    stored: &'a [StoredValidation],
    named: &[&str],
) -> Result<Option<(&'a StoredValidation, ReportedValidation)>> {
    for record in stored {
        let validation = ReportedValidation::of(record)?;
        if named.iter().all(|entity| validation.is_about(entity)) {
            return Ok(Some((record, validation)));
        }
    }
    Ok(None)
}

fn no_validation(named: &[&str], none_at_all: bool) -> Error {
    let (message, command) = match (none_at_all, named) {
        (false, names) if !names.is_empty() => (
            format!(
                "no validation that is stored is about {} together",
                names.join(", ")
            ),
            format!("regraft validate {}", names.join(",")),
        ),
        (_, names) => (
            "no validation is stored in this target".to_owned(),
            format!("regraft validate {}", names.join(",")),
        ),
    };
    Error::new(Kind::Usage, message).hint(format!(
        "validate first: `{}`; results expire by the project's setting [validation] keep",
        command.trim_end()
    ))
}

fn account(run: regraft_ledger::Run) -> RunAccount {
    RunAccount {
        run_id: run.run_id,
        command: run.command,
        status: run.status.as_str().to_owned(),
        started_at: run.started_at,
        account: run.account,
    }
}

fn entry(stored: &StoredValidation) -> HistoryEntry {
    let validation = &stored.context["validation"];
    let entities = validation["entities"].as_array();
    HistoryEntry {
        validation_id: stored.validation_id.to_string(),
        generated_at: stored.generated_at.clone(),
        entities: entities.map_or(0, |entities| entities.len() as u64),
        whole: stored.context["final"] == true,
        types: Vec::deserialize(&stored.context["types"]).unwrap_or_default(),
        complete: validation["complete"] != false,
        passed: stored.passed,
        discrepancies: stored.discrepancies,
        seconds: validation["seconds"].as_f64().unwrap_or_default(),
    }
}
