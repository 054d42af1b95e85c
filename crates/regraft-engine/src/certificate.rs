//! The certificate: what was migrated and proven, in one file that can be checked against the
//! ledger at any later time.
//!
//! Its receipts are chained: the hash of each run's covers the one before it, so that no run can be
//! changed, left out or put in between without all later hashes changing. The file itself is
//! written in one form only; every byte of it counts.

mod content;
mod difference;

use std::collections::BTreeMap;

use regraft_project::Project;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::receipt::require_ledger;
use crate::validation_report::ReportedValidation;

/// The version of the form of certificates.
const FORMAT: u64 = 1;
/// What the file says it is.
const TITLE: &str = "certificate of a migration, by regraft";

/// A certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    value: Value,
}

/// What came of the wish for a certificate.
#[derive(Debug, Clone)]
pub enum Certification {
    /// It was issued.
    Issued(Certificate),
    /// It was refused, for these reasons.
    Refused(Vec<String>),
}

/// What came of holding a certificate against the ledger.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verification {
    /// Whether nothing differs.
    pub passed: bool,
    /// Everything that differs, each with its place and both values.
    pub differences: Vec<String>,
    /// What could not be compared, and why.
    pub remarks: Vec<String>,
    /// Runs whose receipts were compared.
    pub runs: usize,
}

impl Certificate {
    /// The file's text: names in order, indented.
    pub fn text(&self) -> String {
        format!("{:#}\n", ordered(&self.value))
    }

    /// The certificate as JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The SHA-256 of all of it.
    pub fn hash(&self) -> &str {
        self.value["hash"].as_str().unwrap_or_default()
    }

    /// Runs that it certifies.
    pub fn runs(&self) -> usize {
        self.value["runs"].as_array().map_or(0, Vec::len)
    }
}

/// The same value with the names of every object in order.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, Value> = fields
                .iter()
                .map(|(name, field)| (name, ordered(field)))
                .collect();
            let fields = sorted
                .into_iter()
                .map(|(name, field)| (name.clone(), field));
            Value::Object(fields.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

/// The SHA-256 of a value in its canonical form: names in order, nothing between the parts.
fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(ordered(value).to_string().as_bytes()))
}

/// The hash of a receipt, which covers the hash before it.
fn chained(before: &str, receipt: &Value) -> String {
    hash(&json!({ "before": before, "receipt": receipt }))
}

/// The hash of a certificate: of all that it holds, but the hash.
fn hash_of(certificate: &Value) -> String {
    let mut content = certificate.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("hash");
    }
    hash(&content)
}

/// Certifies the migration, if it was validated as a whole and nothing has run since.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn certify(context: &Context) -> Result<Certification> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let stored = regraft_ledger::stored_validations(&*target).await?;
    let mut whole = None;
    let mut reasons = Vec::new();
    for record in &stored {
        let validation = ReportedValidation::of(record)?;
        if is_about_all(&context.project, &validation) && validation.asked.everything() {
            whole = Some((record.validation_id, validation));
            break;
        }
        if !validation.passed {
            let (id, at) = (&validation.validation_id, &validation.generated_at);
            let what = match validation.complete {
                true => "failed",
                false => "did not come to its end",
            };
            reasons.push(format!("validation {id} of {at}, of a part, {what}"));
        }
    }
    let Some((id, validation)) = whole else {
        return Ok(Certification::Refused(vec![
            "no validation of all entities, with all proofs over all rows, is stored".to_owned(),
        ]));
    };
    reasons.extend(against(&context.project, &validation));
    for run in regraft_ledger::runs_since_validation(&*target, id).await? {
        reasons.push(format!(
            "{run} was not finished when validation {id} began: nothing proves what it did"
        ));
    }
    if !reasons.is_empty() {
        return Ok(Certification::Refused(reasons));
    }
    let mut value = content::of(&target, &context.project).await?;
    value["certificate"] = json!(TITLE);
    value["format"] = json!(FORMAT);
    value["program_version"] = json!(env!("CARGO_PKG_VERSION"));
    value["issued_at"] = json!(regraft_ledger::now(&*target).await?);
    value["validation"] = content::validation(&validation);
    value["hash"] = json!(hash_of(&value));
    Ok(Certification::Issued(Certificate { value }))
}

fn is_about_all(project: &Project, validation: &ReportedValidation) -> bool {
    let mut entities = project.entities().iter();
    entities.all(|entity| validation.is_about(&entity.name))
}

/// What a validation says against certifying the project.
fn against(project: &Project, validation: &ReportedValidation) -> Vec<String> {
    let (id, at) = (&validation.validation_id, &validation.generated_at);
    let mut reasons = Vec::new();
    if !validation.complete {
        reasons.push(format!("validation {id} of {at} did not come to its end"));
    } else if !validation.passed {
        let failed = validation.checks().filter(|(_, check)| !check.passed);
        reasons.push(format!(
            "validation {id} of {at} failed: {} of its checks found something",
            failed.count()
        ));
    }
    if validation.asked.project_hash != project.hash() {
        reasons.push(format!(
            "validation {id} of {at} was of another state of the project"
        ));
    }
    reasons
}

/// Reads a certificate's text.
///
/// # Errors
/// [`Kind::Usage`] for what is no certificate of this form.
pub fn read_certificate(text: &str) -> Result<Certificate> {
    let refuse = |why: String| {
        Error::new(Kind::Usage, format!("this is no certificate: {why}"))
            .hint("certificates are written by `regraft certify --output FILE`")
    };
    let value: Value =
        serde_json::from_str(text).map_err(|error| refuse(format!("it is not JSON ({error})")))?;
    if !value["runs"].is_array() || !value["hash"].is_string() {
        return Err(refuse("it has no runs, or no hash".to_owned()));
    }
    match value["format"].as_u64() {
        Some(FORMAT) => Ok(Certificate { value }),
        Some(other) => Err(refuse(format!(
            "its form has version {other}, this program knows version {FORMAT}"
        ))),
        None => Err(refuse("it does not say of which version it is".to_owned())),
    }
}

/// Holds a certificate against itself and against the ledger as it is now. `text` is the file's.
///
/// # Errors
/// A target that can't be reached, or without a ledger. A text that is no certificate is not
/// confirmed.
pub async fn verify_certificate(context: &Context, text: &str) -> Result<Verification> {
    let certificate = match read_certificate(text) {
        Ok(certificate) => certificate,
        Err(error) => {
            return Ok(Verification {
                passed: false,
                differences: vec![format!("file: {}", error.message())],
                remarks: Vec::new(),
                runs: 0,
            });
        }
    };
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let mut differences = against_itself(&certificate, text);
    let now = content::of(&target, &context.project).await?;
    for part in ["project", "catalogs", "standing"] {
        let (then, now) = (&certificate.value[part], &now[part]);
        difference::between(part, then, now, &mut differences);
    }
    difference::of_runs(&certificate.value["runs"], &now["runs"], &mut differences);
    let mut remarks = Vec::new();
    let stored = regraft_ledger::stored_validations(&*target).await?;
    let id = certificate.value["validation"]["validation_id"].as_str();
    match stored
        .iter()
        .find(|record| Some(record.validation_id.to_string().as_str()) == id)
    {
        Some(record) => {
            let now = content::validation(&ReportedValidation::of(record)?);
            let then = &certificate.value["validation"];
            difference::between("validation", then, &now, &mut differences);
        }
        None => remarks.push(format!(
            "validation {} is no longer stored: results are kept for {} days",
            id.unwrap_or("without an id"),
            context.project.manifest().validation.keep_days
        )),
    }
    Ok(Verification {
        passed: differences.is_empty(),
        differences,
        remarks,
        runs: certificate.runs(),
    })
}

/// Whether the file is what was written: its form, its hash, and the chain of its receipts.
fn against_itself(certificate: &Certificate, text: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let value = &certificate.value;
    if certificate.text() != text {
        differences.push(
            "file: its bytes are not those of a certificate that says this: it was edited"
                .to_owned(),
        );
    }
    let found = hash_of(value);
    if found != certificate.hash() {
        differences.push(format!(
            "hash: the file says {}, what it holds gives {found}",
            certificate.hash()
        ));
    }
    let mut before = String::new();
    for run in value["runs"].as_array().into_iter().flatten() {
        let said = run["hash"].as_str().unwrap_or_default();
        let found = chained(&before, &run["receipt"]);
        if found != said {
            let id = run["receipt"]["run_id"].as_str().unwrap_or("without an id");
            differences.push(format!(
                "run {id}: its hash in the file is {said}, its receipt after the one before it gives {found}"
            ));
        }
        before = said.to_owned();
    }
    differences
}
