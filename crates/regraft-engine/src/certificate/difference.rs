//! Where a certificate and the ledger differ.

use std::collections::BTreeSet;

use serde_json::Value;

/// Differences that are named of one run; the rest of them are counted.
const NAMED: usize = 20;

/// Adds every difference between two values, each under its place.
pub(super) fn between(place: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let place = format!("{place}.{name}");
                between(&place, &then[name], &now[name], found);
            }
        }
        (Value::Array(before), Value::Array(after)) => lists(place, before, after, found),
        _ if then != now => found.push(format!(
            "{place}: {} in the certificate, {} now",
            shown(then),
            shown(now)
        )),
        _ => {}
    }
}

/// Items that bear a name are compared under it, others under their number.
fn lists(place: &str, then: &[Value], now: &[Value], found: &mut Vec<String>) {
    let named = then.iter().chain(now).all(|item| name(item).is_some());
    if !named {
        for at in 0..then.len().max(now.len()) {
            let item = |list: &[Value]| list.get(at).cloned().unwrap_or_default();
            between(&format!("{place}[{at}]"), &item(then), &item(now), found);
        }
        return;
    }
    let names: BTreeSet<&str> = then.iter().chain(now).filter_map(name).collect();
    for wanted in names {
        let item = |list: &[Value]| {
            let mut items = list.iter();
            items.find(|item| name(item) == Some(wanted)).cloned()
        };
        match (item(then), item(now)) {
            (Some(then), Some(now)) => between(&format!("{place} {wanted}"), &then, &now, found),
            (Some(_), None) => found.push(format!("{place} {wanted}: no longer there")),
            (None, _) => found.push(format!("{place} {wanted}: not in the certificate")),
        }
    }
}

/// The name of an item, if it bears one.
fn name(item: &Value) -> Option<&str> {
    let mut keys = ["entity", "name"].iter();
    keys.find_map(|key| item.get(key)?.as_str())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Compares the receipts of all runs, under the runs' ids.
pub(super) fn of_runs(then: &Value, now: &Value, found: &mut Vec<String>) {
    let list = |runs: &Value| runs.as_array().cloned().unwrap_or_default();
    let (then, now) = (list(then), list(now));
    let id = |run: &Value| {
        run["receipt"]["run_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for before in &then {
        let place = format!("run {}", id(before));
        let Some(after) = now.iter().find(|run| id(run) == id(before)) else {
            found.push(format!("{place}: no longer in the ledger"));
            continue;
        };
        let mut differing = Vec::new();
        between(
            &place,
            &before["receipt"],
            &after["receipt"],
            &mut differing,
        );
        let more = differing.len().saturating_sub(NAMED);
        differing.truncate(NAMED);
        found.extend(differing);
        if more > 0 {
            found.push(format!("{place}: {more} more differences"));
        }
    }
    for after in &now {
        if !then.iter().any(|run| id(run) == id(after)) {
            found.push(format!("run {}: made after the certificate", id(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(then: &Value, now: &Value) -> Vec<String> {
        let mut found = Vec::new();
        between("x", then, now, &mut found);
        found
    }

    #[test]
    fn differences_are_named_by_place() {
        let then = json!({ "a": 1, "list": [{ "entity": "o", "n": 1 }, { "entity": "p", "n": 2 }], "t": ["u", "v"] });
        let now = json!({ "a": 1, "list": [{ "entity": "o", "n": 3 }, { "entity": "q", "n": 2 }], "t": ["u"] });
        assert_eq!(
            differences(&then, &now),
            [
                "x.list o.n: 1 in the certificate, 3 now",
                "x.list p: no longer there",
                "x.list q: not in the certificate",
                "x.t[1]: v in the certificate, nothing now",
            ]
        );
        assert!(differences(&then, &then).is_empty());
    }
}
