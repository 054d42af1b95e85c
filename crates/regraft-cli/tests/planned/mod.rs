//! Reading what a plan says.

#![allow(dead_code, reason = "each test binary uses its part")]

use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

/// The data of projects that bring their own.
pub(crate) const AS_IS: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

pub(crate) fn program(rehearsal: &Rehearsal<'_>) -> Program {
    // Several batches, so that what is counted has to be put together.
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "7")
}

pub(crate) fn rehearse(project: &ProjectFolder) -> Rehearsal<'static> {
    Rehearsal::new(Servers::shared(), project.path(), AS_IS)
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let found = value[name].as_array();
    found.unwrap_or_else(|| panic!("no list {name}: {value}"))
}

pub(crate) fn number(value: &Value, name: &str) -> i64 {
    let found = value[name].as_i64();
    found.unwrap_or_else(|| panic!("no number {name}: {value}"))
}

/// The element of a list with this name.
#[track_caller]
pub(crate) fn named<'a>(value: &'a Value, all: &str, key: &str, name: &str) -> &'a Value {
    let found = list(value, all).iter().find(|one| one[key] == name);
    found.unwrap_or_else(|| panic!("{all} have no {name}: {value}"))
}

/// A funnel as lines: `hop rows`, then `- rows reason parent filter because: ids` for each loss.
pub(crate) fn lines(plan: &Value, entity: &str, column: &str) -> Vec<String> {
    let entity = named(plan, "entities", "entity", entity);
    let funnel = named(entity, "funnels", "column", column);
    let mut lines = Vec::new();
    for hop in list(funnel, "hops") {
        lines.push(format!("{} {}", hop["hop"].as_str().unwrap(), hop["rows"]));
        for loss in list(hop, "losses") {
            let words: Vec<&str> = ["reason", "parent", "filter", "because"]
                .iter()
                .filter_map(|name| loss[*name].as_str())
                .collect();
            let ids: Vec<&str> = list(loss, "examples")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            lines.push(format!(
                "- {} {}: {}",
                loss["rows"],
                words.join(" "),
                ids.join(" ")
            ));
        }
    }
    lines
}

/// Every funnel adds up, from hop to hop, and agrees with what is predicted of its column.
#[track_caller]
pub(crate) fn assert_consistent(plan: &Value) {
    for entity in list(plan, "entities") {
        let name = entity["entity"].as_str().unwrap();
        let filters = list(entity, "filters").iter();
        let dropped: i64 = filters.map(|filter| number(filter, "rows")).sum();
        // The rules of these tests' projects merge no row that has references or codes.
        assert!(number(entity, "merged") == 0 || list(entity, "funnels").is_empty());
        let kept = number(entity, "source_rows") - dropped;
        for funnel in list(entity, "funnels") {
            let place = format!("{name}.{}", funnel["column"]);
            let hops = list(funnel, "hops");
            assert_eq!(number(&hops[1], "rows"), kept, "{place}");
            for pair in hops.windows(2) {
                let losses = list(&pair[1], "losses").iter();
                let lost: i64 = losses.map(|loss| number(loss, "rows")).sum();
                assert_eq!(number(&pair[1], "lost"), lost, "{place}: {funnel:#}");
                let sum = number(&pair[1], "rows") + lost;
                assert_eq!(sum, number(&pair[0], "rows"), "{place}: {funnel:#}");
            }
            assert_eq!(
                lost_parents(funnel),
                predicted_parents(entity, funnel),
                "{place}: {funnel:#}"
            );
        }
        for column in list(entity, "codes") {
            let values = list(column, "values").iter();
            let rows: i64 = values.map(|value| number(value, "rows")).sum();
            let counted = rows + number(column, "more_rows");
            assert_eq!(
                counted,
                coded(entity, column, kept),
                "{name}.{}",
                column["column"]
            );
        }
    }
}

/// The rows among which the values of a coded column are counted.
fn coded(entity: &Value, column: &Value, kept: i64) -> i64 {
    let funnels = list(entity, "funnels").iter();
    let chosen = funnels.filter(|funnel| funnel["column"] == column["column"]);
    let set = chosen.flat_map(|funnel| list(funnel, "hops"));
    match set.into_iter().find(|hop| hop["hop"] == "set") {
        Some(hop) => number(hop, "rows"),
        None => kept - reasons(entity, |p| p["code"] == "source_error"),
    }
}

/// Rows whose parent a funnel loses, where that keeps them out of the target.
fn lost_parents(funnel: &Value) -> i64 {
    if funnel["missing"] != "quarantine" {
        return 0;
    }
    let hops = list(funnel, "hops").iter();
    hops.filter(|hop| hop["hop"].as_str().unwrap().starts_with("parent_"))
        .map(|hop| number(hop, "lost"))
        .sum()
}

fn reasons(entity: &Value, wanted: impl Fn(&Value) -> bool) -> i64 {
    let predictions = list(entity, "predictions").iter();
    predictions
        .filter(|prediction| wanted(prediction))
        .map(|prediction| number(prediction, "rows"))
        .sum()
}

/// The rows that are predicted to stay behind for want of the funnel's parent.
fn predicted_parents(entity: &Value, funnel: &Value) -> i64 {
    let chosen = list(funnel, "hops")
        .iter()
        .any(|hop| hop["hop"] == "parent_named");
    reasons(entity, |prediction| {
        let code = prediction["code"].as_str().unwrap();
        let about = code == "missing_parent"
            || code == "blocked_parent"
            || chosen && code == "unmapped_value";
        about && prediction["place"] == funnel["column"]
    })
}
