//! Receipts: in every form, and with a statement for every figure.

mod village;

use std::collections::BTreeSet;

use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers};
use serde_json::Value;
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const DIRTY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

/// One worker: the order in which rows go to quarantine is that of their ids.
fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal)
        .with("BATCH_SIZE", "50")
        .with("REGRAFT_WORKERS", "1")
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>) {
    let finished = program(rehearsal).run(&["migrate"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

/// The village after two migrations, the second of which found mended, changed and new rows, and a
/// rollback of that one.
fn village_with_a_past(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), DIRTY);
    migrate(&rehearsal);
    rehearsal.legacy(
        "update person set boss = 2 where id = 17;
         update pet set name = 'Renamed' where id = 3;
         insert into pet values (1000, 5, 'Late', 'dog', 1, 'T1000')",
    );
    migrate(&rehearsal);
    let second = run_ids(&rehearsal).remove(1);
    program(&rehearsal).expect(0, &["rollback", "--run", &second, "--yes"]);
    rehearsal
}

fn run_ids(rehearsal: &Rehearsal<'_>) -> Vec<String> {
    let query = "select run_id from regraft.migration_control
                 where entity = '' and batch = 0 order by run_no";
    let rows = rehearsal.modern_rows(query);
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

/// A project in which a column's values are made up.
fn village_with_synthesised_values() -> ProjectFolder {
    let folder = village();
    let path = folder.path().join("entities/houses.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let street = "street = { sql = \"'Lane ' || h.id\", provenance = \"synthesised\" }";
    let changed = text.replace("street = \"h.street\"", street);
    assert_ne!(text, changed);
    folder.write("entities/houses.toml", &changed);
    folder
}

/// The rows that a statement gives, as objects; the statement must run as it stands, too.
#[track_caller]
fn rows_of(rehearsal: &Rehearsal<'_>, sql: &str) -> Vec<Value> {
    let bare = sql.strip_suffix(';').expect("a statement ends as one");
    let objects = rehearsal.modern_rows(&format!("select row_to_json(s) from ({bare}) s"));
    assert_eq!(rehearsal.modern_rows(sql).len(), objects.len(), "{sql}");
    objects
        .iter()
        .map(|row| serde_json::from_str(&row[0]).unwrap())
        .collect()
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() <= 1e-9 * left.abs().max(1.0),
        // What the ledger notes as a number inside of a document comes as text.
        (Some(_), None) => right.as_str() == Some(&left.to_string()),
        _ => left == right,
    }
}

/// Holds every figure of a receipt against what its statement gives. How many there were.
#[track_caller]
fn hold_against_the_ledger(rehearsal: &Rehearsal<'_>, receipt: &Value) -> usize {
    let mut held = 0;
    for explanation in receipt["explanations"].as_array().unwrap() {
        let sql = explanation["sql"].as_str().unwrap();
        let rows = rows_of(rehearsal, sql);
        for figure in explanation["figures"].as_array().unwrap() {
            let key = figure["row"].as_object().unwrap();
            let found: Vec<&Value> = rows
                .iter()
                .filter(|row| key.iter().all(|(column, value)| &row[column] == value))
                .collect();
            assert_eq!(found.len(), 1, "{figure} in {rows:?} of\n{sql}");
            let column = figure["column"].as_str().unwrap();
            let given = &found[0][column];
            assert!(same(&figure["value"], given), "{figure}: {given} by\n{sql}");
            held += 1;
        }
    }
    held
}

/// Every number in a document, with where it stands.
fn numbers(document: &Value, place: &str, found: &mut Vec<(String, Value)>) {
    match document {
        Value::Number(_) => found.push((place.to_owned(), document.clone())),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                numbers(item, &format!("{place}[{at}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "explanations") {
                numbers(value, &format!("{place}.{name}"), found);
            }
        }
        _ => {}
    }
}

fn explained(rehearsal: &Rehearsal<'_>, run: &str) -> Value {
    program(rehearsal).json(0, &["receipt", run, "--explain"])
}

#[test]
fn every_figure_is_what_its_statement_gives() {
    let folder = village_with_synthesised_values();
    let rehearsal = village_with_a_past(&folder);
    let runs = run_ids(&rehearsal);
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in &runs {
        let receipt = explained(&rehearsal, run);
        let held = hold_against_the_ledger(&rehearsal, &receipt);
        assert!(held > 10, "{run}: only {held} figures");
        let figures: Vec<&Value> = receipt["explanations"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|explanation| explanation["figures"].as_array().unwrap())
            .map(|figure| &figure["value"])
            .collect();
        let mut all = Vec::new();
        numbers(&receipt, run, &mut all);
        assert!(all.len() > 3, "{receipt}");
        for (place, number) in all
            .iter()
            .filter(|(_, number)| number.as_f64() != Some(0.0))
        {
            let known = figures.iter().any(|figure| same(figure, number));
            assert!(known, "{place}: {number} has no statement");
        }
    }
    let [first, second, undo] = [0, 1, 2].map(|at| explained(&rehearsal, &runs[at]));
    // Also after the cycle of people and houses took some of the houses out again.
    let houses = first["entities"].as_array().unwrap().iter();
    let houses = houses
        .clone()
        .find(|entity| entity["entity"] == "houses")
        .unwrap();
    assert_eq!(houses["account"]["inserted"], 92);
    assert_eq!(first["total"]["synthesised"], 92);
    assert_eq!(second["status"], "rolled_back");
    assert_eq!(second["total"]["detail"]["changed_in_source"], 1);
    let deleted: i64 = undo["undone"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["rows"].as_i64().unwrap())
        .sum();
    assert_eq!(second["total"]["inserted"].as_i64(), Some(deleted));
    assert!(deleted > 1, "{undo}");
}

/// What a receipt says would not be believed if the ledger said something else.
#[test]
fn a_figure_that_the_ledger_does_not_hold_is_noticed() {
    let folder = village();
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), DIRTY);
    migrate(&rehearsal);
    let receipt = explained(&rehearsal, "last");
    hold_against_the_ledger(&rehearsal, &receipt);
    rehearsal.modern(
        "update regraft.migration_control set inserted = inserted - 1, unchanged = unchanged + 1
         where entity = 'pets' and batch = 0",
    );
    let noticed = std::panic::catch_unwind(|| hold_against_the_ledger(&rehearsal, &receipt));
    assert!(noticed.is_err());
}

/// The whole numbers in the cells of Markdown's tables.
fn cells(markdown: &str) -> BTreeSet<i64> {
    markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|'))
        .filter_map(|cell| cell.trim().trim_matches('*').split(' ').next())
        .filter_map(|word| word.replace(',', "").parse().ok())
        .collect()
}

#[test]
fn markdown_holds_the_figures_of_the_statements() {
    let folder = village_with_synthesised_values();
    let rehearsal = village_with_a_past(&folder);
    let runs = run_ids(&rehearsal);
    for (run, name) in runs.iter().zip(["first", "rolled_back", "rollback"]) {
        let arguments = ["receipt", run, "--format", "markdown", "--explain"];
        let text = program(&rehearsal).expect(0, &arguments).stdout;
        let mut known = BTreeSet::new();
        let document = explained(&rehearsal, run);
        for explanation in document["explanations"].as_array().unwrap() {
            let mut given = Vec::new();
            let rows = rows_of(&rehearsal, explanation["sql"].as_str().unwrap());
            numbers(&Value::Array(rows), "", &mut given);
            known.extend(
                given
                    .iter()
                    .filter_map(|(_, number)| number.as_f64())
                    .map(whole),
            );
            for figure in explanation["figures"].as_array().unwrap() {
                known.extend(figure["value"].as_f64().map(whole));
            }
        }
        // Rates and times are rounded for reading.
        let tables = text.split("## Time").next().unwrap();
        for number in cells(tables.split("| took").last().unwrap()) {
            assert!(
                known.contains(&number),
                "{number} has no statement:\n{text}"
            );
        }
        insta::with_settings!({ filters => volatile(), omit_expression => true }, {
            insta::assert_snapshot!(format!("markdown_{name}"), text);
        });
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "figures of a small project"
)]
fn whole(number: f64) -> i64 {
    number.trunc() as i64
}

/// What differs from run to run.
fn volatile() -> Vec<(&'static str, &'static str)> {
    vec![
        (r"(migrate|rollback)_\d{8}_\d{6}_[0-9a-f]{4}", "${1}_[RUN]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[TIME]"),
        (r"\b[0-9a-f]{64}\b", "[HASH]"),
        (r"plan hash \| `[0-9a-f]{16}`", "plan hash | `[HASH]`"),
        (r"snapshot \| `[^`]*`", "snapshot | `[SNAPSHOT]`"),
        (r"version \| `[^`]*`", "version | `[VERSION]`"),
        (
            r"\| \*\*[\d.]+ (ms|s)\*\* \| \*\*[\d,]+\*\* \|",
            "| **[SPAN]** | **[RATE]** |",
        ),
        (r"\| [\d.]+ (ms|s) \| [\d,]+ \|", "| [SPAN] | [RATE] |"),
        (r"\| took \| [\d.]+ (ms|s) \|", "| took | [SPAN] |"),
    ]
}

/// A page of which every element is closed, nothing runs and nothing is loaded.
#[track_caller]
fn assert_sound(page: &str) {
    for bad in [
        "<script",
        "http:",
        "https:",
        "javascript:",
        "@import",
        "<iframe",
        "<link",
    ] {
        assert!(!page.to_lowercase().contains(bad), "{bad} in\n{page}");
    }
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let mut open: Vec<&str> = Vec::new();
    while let Some(start) = rest.find('<') {
        assert_escaped(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<'), "<{tag}>");
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next();
        let name = name.expect("a tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "<{tag}> closes another element");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        if tag == "style" {
            rest = &rest[rest.find("</style>").expect("the style ends")..];
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    let targets: Vec<&str> = page.split("href=\"#").skip(1).collect();
    for target in targets {
        let id = target.split('"').next().unwrap();
        assert!(
            page.contains(&format!("id=\"{id}\"")),
            "no such place: {id}"
        );
    }
}

/// Every ampersand begins an entity.
#[track_caller]
fn assert_escaped(text: &str) {
    for after in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(
            known.iter().any(|entity| after.starts_with(entity)),
            "&{after}"
        );
    }
}

#[test]
fn html_is_sound_and_stands_alone() {
    let folder = village();
    let rehearsal = village_with_a_past(&folder);
    let place = folder.path().join("receipt.html").display().to_string();
    for run in run_ids(&rehearsal) {
        for explain in [&["--explain"][..], &[]] {
            let form = ["receipt", &run, "--format", "html", "--output", &place];
            let finished = program(&rehearsal).expect(0, &[&form, explain].concat());
            assert_eq!(finished.stdout, "", "it goes to the file");
            let page = std::fs::read_to_string(&place).unwrap();
            assert_sound(&page);
            assert!(page.contains(&run));
            assert_eq!(
                page.contains("from regraft.migration_control"),
                !explain.is_empty()
            );
        }
    }
    let first = &run_ids(&rehearsal)[0];
    let page = program(&rehearsal)
        .expect(0, &["receipt", first, "--format", "html"])
        .stdout;
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 3, "{page}");
}

const MANIFEST: &str = "version = 1\nname = \"odd\"\n\
    [source]\nschema = [\"source.sql\"]\ngenerator = [\"data.sql\"]\n\
    [target]\nschema = [\"target.sql\"]\n[limits]\nquarantine = \"100%\"\n";
const THINGS: &str = "[source]\nfrom = \"thing t\"\nkey = \"t.code\"\n\
    [target]\ntable = \"things\"\nkey = { column = \"id\", strategy = \"uuid_v5\" }\nlegacy = \"legacy_id\"\n\
    [columns]\nlabel = \"t.label\"\n";

/// Legacy ids may be any text; a receipt shows some of them.
#[test]
fn nothing_in_a_legacy_id_is_markup() {
    let folder = ProjectFolder::new(&[
        ("regraft.toml", MANIFEST),
        (
            "source.sql",
            "create table thing (code text primary key, label text);",
        ),
        (
            "data.sql",
            "insert into thing values ('<script>alert(1)</script>', null), ('a|b`c', null),
             ('\"&amp;<b>', null), (E'one\\ntwo\\x1b[31m', null), ('good', 'x');",
        ),
        (
            "target.sql",
            "create table things (id uuid primary key, label text not null, legacy_id text unique);",
        ),
        ("entities/things.toml", THINGS),
    ]);
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), DIRTY);
    migrate(&rehearsal);
    hold_against_the_ledger(&rehearsal, &explained(&rehearsal, "last"));
    let page = program(&rehearsal).expect(0, &["receipt", "--format", "html", "--explain"]);
    assert_sound(&page.stdout);
    assert!(
        page.stdout
            .contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{page}"
    );
    let text = program(&rehearsal).expect(0, &["receipt", "--format", "markdown"]);
    assert!(text.stdout.contains("``a\\|b`c``"), "{text}");
    assert!(
        text.stdout.contains("`one\u{fffd}two\u{fffd}[31m`"),
        "{text}"
    );
    let row = text.stdout.lines().find(|line| line.contains("script"));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    assert!(
        row.contains("`<script>alert(1)</script>`"),
        "inside of code: {row}"
    );
}

/// The forms of a receipt are its own: other commands refuse them, and say which ones they have.
#[test]
fn other_commands_have_no_such_form() {
    let folder = village();
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), DIRTY);
    let refused = program(&rehearsal).expect(2, &["status", "--format", "html"]);
    assert!(refused.says("[possible values: human, json]"), "{refused}");
    migrate(&rehearsal);
    let nowhere = [
        "receipt",
        "--format",
        "html",
        "--output",
        "/nonexistent/r.html",
    ];
    let refused = program(&rehearsal).run(&nowhere);
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.says("/nonexistent/r.html"), "{refused}");
}
