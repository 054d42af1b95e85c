//! `regraft certify`

use std::fs;
use std::path::Path;

use regraft_engine::{Certification, Result, certify, verify_certificate};
use serde_json::json;

use crate::arguments::CertifyArguments;
use crate::exit::ExitStatus;
use crate::files;
use crate::invocation::{Invocation, Needs};
use crate::views::certificate;

/// Issues a certificate, or checks one.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &CertifyArguments,
) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let printer = &invocation.printer;
    if let Some(path) = &arguments.verify {
        let text = read(path)?;
        let found = verify_certificate(&context, &text).await?;
        printer.report(&found, |width| certificate::verification(&found, width));
        return Ok(match found.passed {
            true => ExitStatus::Done,
            false => ExitStatus::Findings,
        });
    }
    match certify(&context).await? {
        Certification::Refused(reasons) => {
            let document = json!({ "certified": false, "reasons": reasons });
            printer.report(&document, |width| certificate::refusal(&reasons, width));
            printer.next_steps(&certificate::after_refusal());
            Ok(ExitStatus::Findings)
        }
        Certification::Issued(issued) => {
            match &arguments.output {
                Some(path) => {
                    printer.save(path, &issued.text())?;
                    let document = json!({
                        "certified": true,
                        "file": path.display().to_string(),
                        "hash": issued.hash(),
                        "runs": issued.runs(),
                    });
                    printer.report(&document, |width| certificate::issued(&issued, path, width));
                }
                None => printer.data(&issued.text()),
            }
            Ok(ExitStatus::Done)
        }
    }
}

/// The file's text; what is no text is shown to be changed by the marks in its place.
fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| files::failed("reading", path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
