//! Reports of validations that are hard to come by.

use regraft_engine::{HistoryEntry, ReportedValidation, ValidationReport};
use serde_json::json;

use super::{html, human, markdown, next};

/// A validation in which somebody wrote meanwhile, and which the time limit ended.
fn report(complete: bool) -> ValidationReport {
    let check = |name: &str, passed: bool, what: &str| {
        let findings = match passed {
            true => json!([]),
            false => json!([{ "what": what, "rows": 1, "examples": [] }]),
        };
        json!({ "name": name, "passed": passed, "looked_at": 2_000, "findings": findings })
    };
    let late: Vec<String> = ["a", "b", "c", "d"]
        .map(|entity| format!("{entity}: the time limit was reached before it"))
        .to_vec();
    let validation: ReportedValidation = serde_json::from_value(json!({
        "validation_id": "74bb34b9-dfce-42c0-ae09-10fad79c17a9",
        "asked": { "project": "village", "project_hash": "00", "program_version": "0", "final": false,
                   "types": [], "sampling_rate": 1.0, "max_records": null, "timeout_seconds": 1.0,
                   "method": "sums" },
        "entities": [{
            "entity": "orders", "rows": 2_000, "method": "sums", "transient": 3, "seconds": 0.5,
            "checks": [check("columns", true, ""),
                       check("performance", false, "`pet_id` refers to other rows, and no index begins with it")],
        }],
        "migration": [check("queries", false, "front-page: it took 80 ms, its limit is 5 ms")],
        "not_checked": if complete { Vec::new() } else { late },
        "advice": ["statistics: missing or old on orders"],
        "complete": complete, "passed": false, "seconds": 0.5,
    }))
    .expect("a validation");
    ValidationReport {
        project_unchanged: true,
        runs_since: Vec::new(),
        runs: Some(Vec::new()),
        history: Some(vec![HistoryEntry {
            validation_id: validation.validation_id.clone(),
            generated_at: "2026-11-22T10:15:00Z".to_owned(),
            entities: 1,
            whole: false,
            types: vec!["data_integrity".to_owned()],
            complete,
            passed: false,
            discrepancies: 2,
            seconds: 0.5,
        }]),
        validation,
    }
}

/// The report in each form.
fn forms(report: &ValidationReport) -> [String; 3] {
    // Markdown escapes what would be markup.
    let marked = markdown(report).replace('\\', "");
    [human(report, 200), marked, html(report)]
}

#[test]
fn every_form_tells_what_the_target_lacks_to_serve() {
    for text in forms(&report(true)) {
        for part in [
            "the rows are valid, but the target is NOT READY TO SERVE",
            "refers to other rows, and no index begins with it",
            "front-page",
            "it took 80 ms, its limit is 5 ms",
            "missing or old on orders",
            "3 differences gone at a second look (orders 3)",
            "compared by sums",
            "two hashes of 64 bits of each row",
            "the target answers the project",
            "data_integrity",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("NOT FINISHED"), "{text}");
    }
}

#[test]
fn what_was_not_reached_is_told_in_the_short_report_too() {
    let mut short = report(false);
    (short.runs, short.history) = (None, None);
    for text in forms(&short) {
        assert!(text.contains("NOT FINISHED"), "{text}");
        assert!(
            text.contains("the time limit was reached before it: a, b, c, d"),
            "{text}"
        );
    }
    let steps = next(&short);
    assert_eq!(steps[0].0, "regraft validate");
}
