//! `regraft validate`

use regraft_engine::{
    Context, Method, Result, ValidationOptions, ValidationType, validate, validate_final,
};

use super::worker::handing_out;
use crate::arguments::{CompareMethod, ProofType, ValidateArguments};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select};
use crate::progress::Step;
use crate::views::validation;

/// Proves from both databases that what was migrated is complete and right.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &ValidateArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    let step = Step::begin(&invocation.printer, "comparing both databases");
    context.events = step.events();
    let options = options(arguments);
    let work = async |context: &Context| match arguments.whole {
        true => validate_final(context, &options).await,
        false => validate(context, &selection, &options).await,
    };
    let found = match arguments.distribute {
        true => handing_out(&mut context, work).await?,
        false => work(&context).await?,
    };
    drop(step);
    let output = arguments.output.as_deref();
    invocation
        .printer
        .deliver(output, &found, |width| validation::render(&found, width))?;
    Ok(if found.passed {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

fn options(arguments: &ValidateArguments) -> ValidationOptions {
    let proof = |of: &ProofType| match of {
        ProofType::CompletenessCheck => ValidationType::CompletenessCheck,
        ProofType::RelationshipIntegrity => ValidationType::RelationshipIntegrity,
        ProofType::DataIntegrity => ValidationType::DataIntegrity,
        ProofType::PerformanceCheck => ValidationType::PerformanceCheck,
    };
    ValidationOptions {
        types: arguments.types.iter().map(proof).collect(),
        sampling_rate: arguments.sampling_rate,
        max_records: arguments.max_records,
        timeout: arguments.timeout,
        method: match arguments.method {
            CompareMethod::Auto => Method::Auto,
            CompareMethod::Stream => Method::Stream,
            CompareMethod::Sums => Method::Sums,
        },
        examples: usize::try_from(arguments.examples).unwrap_or(usize::MAX),
    }
}
