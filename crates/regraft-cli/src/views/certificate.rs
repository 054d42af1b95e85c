//! Certificates, and what came of checking one.

use std::path::Path;

use regraft_engine::{Certificate, Verification};

use crate::figures;
use crate::style::{self, paint};

/// A certificate that was written to a file.
pub(crate) fn issued(certificate: &Certificate, path: &Path, width: usize) -> String {
    let text = format!(
        "certified: {} and one validation of all entities, in {}",
        figures::counted(certificate.runs() as u64, "run"),
        path.display()
    );
    format!(
        "{} {}\n  SHA-256 {}\n",
        paint(style::GOOD, "✓"),
        figures::wrap(&text, width, 2),
        certificate.hash()
    )
}

/// Why there is no certificate.
pub(crate) fn refusal(reasons: &[String], width: usize) -> String {
    let mut out = format!("{} no certificate:\n", paint(style::BAD, "✗"));
    out.push_str(&list(reasons, width));
    out
}

/// What to type after a refusal, and why.
pub(crate) fn after_refusal() -> Vec<(String, &'static str)> {
    vec![
        (
            "regraft validate --final".to_owned(),
            "prove all of it, then certify again",
        ),
        (
            "regraft report".to_owned(),
            "what the latest validation found",
        ),
    ]
}

/// What came of checking a certificate.
pub(crate) fn verification(found: &Verification, width: usize) -> String {
    let mut out = match found.passed {
        true => format!(
            "{} genuine: the file is what was written, and the ledger says the same ({})\n",
            paint(style::GOOD, "✓"),
            figures::counted(found.runs as u64, "run")
        ),
        false => format!(
            "{} NOT CONFIRMED: {}\n",
            paint(style::BAD, "✗"),
            figures::counted(found.differences.len() as u64, "difference")
        ),
    };
    out.push_str(&list(&found.differences, width));
    out.push_str(&list(&found.remarks, width));
    out
}

fn list(lines: &[String], width: usize) -> String {
    lines
        .iter()
        .map(|line| format!("  - {}\n", figures::wrap(line, width.saturating_sub(4), 4)))
        .collect()
}
