//! Invariants of a project, reports of validations and certificates, as users meet them.

mod village;

use std::fs;
use std::path::PathBuf;

use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, dispatch};
use serde_json::Value;
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

const INVARIANTS: &str = r#"
[pets-by-kind]
description = "What the pets weigh"
entity = "pets"
by = "kind"
measure = ["count(*)", "sum(weight)"]

[people-per-house]
entity = "people"
by = "house_id"
measure = "count(*)"
"#;

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "50")
}

fn village_with_invariants() -> ProjectFolder {
    let folder = village();
    folder.write("invariants/village.toml", INVARIANTS);
    folder
}

/// The village, migrated.
fn migrated(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal
}

/// A path in a project's folder, as an argument.
fn file(folder: &ProjectFolder, name: &str) -> (PathBuf, String) {
    let path = folder.path().join(name);
    let text = path.display().to_string();
    (path, text)
}

/// The findings of the check `invariants`.
fn broken(validation: &Value) -> Vec<String> {
    let checks = validation["migration"].as_array().expect("checks");
    let mut checks = checks.iter();
    let check = checks.find(|check| check["name"] == "invariants");
    let findings = check.expect("invariants were checked")["findings"].as_array();
    let findings = findings.expect("findings").iter();
    findings
        .map(|finding| finding["what"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn the_invariants_of_dispatch_hold_and_a_cent_is_found() {
    let legacy = Legacy {
        scale: 0.02,
        ..LEGACY
    };
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
    let finished = program(&rehearsal).run(&["migrate"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let valid = program(&rehearsal).json(0, &["validate", "--type", "data_integrity"]);
    let names: Vec<(&str, bool)> = valid["invariants"]
        .as_array()
        .expect("invariants")
        .iter()
        .map(|found| {
            assert!(found["groups"].as_u64() > Some(0), "{found}");
            (
                found["name"].as_str().expect("a name"),
                found["passed"] == true,
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("payments-by-status", true),
            ("discounts-per-offer", true),
            ("users-per-type", true),
            ("orders-per-office", true),
            ("tasks-per-state", true),
            ("orders-per-status", true),
        ]
    );
    rehearsal.modern(
        "update payments set paid_amount = paid_amount + 0.01
         where id = (select id from payments where status = 'completed' order by id limit 1);
         update orders set office_id = (select id from offices order by id limit 1)
         where id = (select id from orders where office_id is not null
                       and office_id <> (select id from offices order by id limit 1) order by id limit 1)",
    );
    let found = program(&rehearsal).json(1, &["validate", "payments", "orders"]);
    let found = broken(&found);
    let payments: Vec<&String> = found
        .iter()
        .filter(|what| what.starts_with("payments"))
        .collect();
    assert_eq!(payments.len(), 1, "{found:#?}");
    assert!(
        payments[0].starts_with("payments-by-status: status completed: sum(paid_amount) is "),
        "{found:#?}"
    );
    let orders = found
        .iter()
        .filter(|what| what.starts_with("orders-per-office: office_id "));
    assert_eq!(orders.count(), 2, "{found:#?}");
}

#[test]
fn the_report_says_what_was_checked_how_and_what_was_not() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    let none = program(&rehearsal).expect(2, &["report"]);
    assert!(
        none.says("no validation is stored") && none.says("regraft validate"),
        "{none}"
    );
    program(&rehearsal).expect(0, &["validate"]);
    program(&rehearsal).expect(0, &["report"]);
    rehearsal.modern("update pets set weight = weight + 1 where legacy_id = 8");
    program(&rehearsal).expect(1, &["validate"]);
    let human = program(&rehearsal).expect(1, &["report"]);
    for text in [
        "NOT VALID",
        "`weight` is not what the source gives",
        "pets-by-kind",
    ] {
        assert!(human.says(text), "{text}: {human}");
    }
    let short = program(&rehearsal).json(1, &["report"]);
    assert!(
        short.get("history").is_none() && short.get("runs").is_none(),
        "{short}"
    );
    let (path, argument) = file(&folder, "report.json");
    program(&rehearsal).expect(1, &["report", "--comprehensive", "--output", &argument]);
    let report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let validation = &report["validation"];
    assert_eq!(validation["passed"], false);
    assert_eq!(validation["entities"].as_array().unwrap().len(), 3);
    assert_eq!(validation["invariants"].as_array().unwrap().len(), 2);
    assert!(!validation["not_checked"].as_array().unwrap().is_empty());
    assert_eq!(validation["asked"]["project"], "village");
    assert_eq!(report["project_unchanged"], true);
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
    let history = report["history"].as_array().unwrap();
    let passed: Vec<&Value> = history.iter().map(|entry| &entry["passed"]).collect();
    assert_eq!(passed, [false, true]);
    let (path, argument) = file(&folder, "report.html");
    program(&rehearsal).expect(1, &["report", "--comprehensive", "--output", &argument]);
    let page = fs::read_to_string(path).unwrap();
    let markdown =
        program(&rehearsal).expect(1, &["report", "--comprehensive", "--format", "markdown"]);
    for part in [
        "Entity by entity",
        "The migration as a whole",
        "Invariants",
        "Differences",
        "What the target lacks to serve",
        "What was not checked",
        "How it was checked",
        "The account of the latest runs",
        "Validations so far",
    ] {
        assert!(page.contains(&format!("<h2>{part}</h2>")), "{part}");
        assert!(markdown.says(&format!("## {part}")), "{part}: {markdown}");
    }
    assert!(
        !page.contains("<script") && !page.contains("http"),
        "nothing is loaded"
    );
    assert!(
        !page.contains("PET 8") && !page.contains("Pet 8"),
        "no value is shown"
    );
}

#[test]
fn a_target_that_is_not_ready_to_serve_is_told_apart_from_one_that_is_wrong() {
    let folder = village_with_invariants();
    folder.write(
        "queries/pages.toml",
        "[front-page]\nlimit = \"5 ms\"\nsql = \"select name from pets, pg_sleep(0.02) limit 1\"\n",
    );
    let rehearsal = migrated(&folder);
    let verdict = "the rows are valid, but the target is NOT READY TO SERVE";
    let found = program(&rehearsal).expect(1, &["validate"]);
    assert!(found.says(verdict) && found.says("front-page"), "{found}");
    for format in ["human", "markdown", "html"] {
        let report = program(&rehearsal).expect(1, &["report", "--format", format]);
        assert!(
            report.says(verdict) && report.says("front-page") && report.says("its limit is 5 ms"),
            "{report}"
        );
    }
    let report = program(&rehearsal).json(1, &["report"]);
    let checks = report["validation"]["migration"]
        .as_array()
        .expect("checks");
    let queries = checks.iter().find(|check| check["name"] == "queries");
    assert_eq!(queries.expect("queries")["passed"], false, "{report:#}");
    let alone = program(&rehearsal).expect(1, &["validate", "--type", "performance_check"]);
    assert!(alone.says("the target is NOT READY TO SERVE"), "{alone}");
    assert!(!alone.says("rows are valid"), "{alone}");
    folder.write("queries/pages.toml", "");
    let alone = program(&rehearsal).expect(0, &["validate", "--type", "performance_check"]);
    assert!(alone.says("ready to serve"), "{alone}");
    let asked = program(&rehearsal).json(0, &["report"]);
    let asked = &asked["validation"]["asked"];
    assert_eq!(
        (&asked["types"][0], &asked["method"]),
        (&Value::from("performance_check"), &Value::from("auto"))
    );
}

#[test]
fn a_report_of_some_entities_is_about_these_alone() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    rehearsal.modern("update pets set weight = weight + 1 where legacy_id = 8");
    program(&rehearsal).expect(1, &["validate"]);
    let people = program(&rehearsal).json(0, &["report", "--entities", "people,houses"]);
    assert_eq!(people["validation"]["passed"], true);
    assert_eq!(
        people["validation"]["entities"].as_array().unwrap().len(),
        2
    );
    let pets = program(&rehearsal).json(1, &["report", "pets"]);
    assert_eq!(pets["validation"]["entities"][0]["entity"], "pets");
    // The latest that is about it: not the one of another entity.
    program(&rehearsal).expect(0, &["validate", "people"]);
    program(&rehearsal).expect(1, &["report", "pets"]);
    program(&rehearsal).expect(0, &["report"]);
    program(&rehearsal).expect(2, &["report", "nobody"]);
}

#[test]
fn results_expire_when_a_new_one_is_stored() {
    let folder = village();
    let manifest = fs::read_to_string(folder.path().join("regraft.toml")).unwrap();
    folder.write(
        "regraft.toml",
        &format!("{manifest}\n[validation]\nkeep = \"3 days\"\n"),
    );
    let rehearsal = migrated(&folder);
    let number = |rows: &str| {
        rehearsal.modern_number(&format!(
            "select count(distinct validation_id) from regraft.migration_validation_reports where {rows}"
        ))
    };
    program(&rehearsal).expect(0, &["validate"]);
    rehearsal.modern(
        "update regraft.migration_validation_reports set generated_at = now() - interval '73 hours'",
    );
    program(&rehearsal).expect(0, &["validate"]);
    assert_eq!(
        (
            number("true"),
            number("generated_at < now() - interval '1 hour'")
        ),
        (1, 0)
    );
    rehearsal.modern(
        "update regraft.migration_validation_reports set generated_at = now() - interval '71 hours'",
    );
    program(&rehearsal).expect(0, &["validate"]);
    assert_eq!(number("true"), 2);
}

/// A certificate of the village, and where it is.
fn certified(folder: &ProjectFolder, rehearsal: &Rehearsal<'_>) -> (PathBuf, String) {
    program(rehearsal).expect(0, &["validate", "--final"]);
    let (path, argument) = file(folder, "certificate.json");
    program(rehearsal).expect(0, &["certify", "--output", &argument]);
    program(rehearsal).expect(0, &["certify", "--verify", &argument]);
    (path, argument)
}

/// What checking a certificate names.
#[track_caller]
fn differences(rehearsal: &Rehearsal<'_>, certificate: &str) -> Vec<String> {
    let found = program(rehearsal).json(1, &["certify", "--verify", certificate]);
    assert_eq!(found["passed"], false);
    let differences = found["differences"].as_array().expect("differences").iter();
    differences
        .map(|text| text.as_str().expect("text").to_owned())
        .collect()
}

#[track_caller]
fn assert_named(found: &[String], parts: &[&str]) {
    for part in parts {
        assert!(
            found.iter().any(|text| text.contains(part)),
            "{part}: {found:#?}"
        );
    }
}

#[track_caller]
fn refused(rehearsal: &Rehearsal<'_>, because: &str) {
    let refusal = program(rehearsal).json(1, &["certify"]);
    assert_eq!(refusal["certified"], false);
    assert!(
        refusal["reasons"].to_string().contains(because),
        "{refusal}"
    );
}

#[test]
fn a_certificate_is_refused_unless_all_was_validated_and_nothing_ran_since() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    refused(&rehearsal, "no validation of all entities");
    program(&rehearsal).expect(0, &["validate", "people", "houses"]);
    program(&rehearsal).expect(0, &["validate", "--type", "completeness_check"]);
    program(&rehearsal).expect(0, &["validate", "--sampling-rate", "0.5"]);
    refused(&rehearsal, "no validation of all entities");
    rehearsal.modern("update pets set weight = weight + 1 where legacy_id = 8");
    program(&rehearsal).expect(1, &["validate"]);
    refused(&rehearsal, "failed: 2 of its checks");
    rehearsal.modern("update pets set weight = weight - 1 where legacy_id = 8");
    program(&rehearsal).expect(0, &["validate"]);
    program(&rehearsal).expect(0, &["certify"]);
    // A later look at a part that finds something.
    rehearsal.modern("update pets set weight = weight + 1 where legacy_id = 8");
    program(&rehearsal).expect(1, &["validate", "pets"]);
    refused(&rehearsal, "of a part, failed");
    rehearsal.modern("update pets set weight = weight - 1 where legacy_id = 8");
    program(&rehearsal).expect(0, &["validate"]);
    program(&rehearsal).expect(0, &["migrate"]);
    refused(&rehearsal, "was not finished when validation");
    program(&rehearsal).expect(0, &["validate"]);
    folder.write(
        "invariants/village.toml",
        &INVARIANTS.replace("What the", "What all"),
    );
    refused(&rehearsal, "another state of the project");
}

#[test]
fn every_changed_byte_of_a_certificate_is_found() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    let (path, argument) = certified(&folder, &rehearsal);
    let text = fs::read_to_string(&path).unwrap();
    let certificate: Value = serde_json::from_str(&text).unwrap();
    let run = certificate["runs"][0]["receipt"]["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        differences(&rehearsal, &argument)
    };
    let found = edited("\"inserted\": ", "\"inserted\": 1");
    assert_named(
        &found,
        &[
            "hash: the file says",
            &format!("run {run}: its hash"),
            ".inserted: ",
        ],
    );
    // Blanks, the order of names, a number written in another way, an end that is cut off.
    assert_named(
        &edited("\n  \"format\": 1", "\n   \"format\": 1"),
        &["file: its bytes"],
    );
    assert_named(
        &edited("\"format\": 1", "\"format\": 1.0"),
        &["file: this is no certificate"],
    );
    assert_named(
        &edited("\"issued_at\": \"2", "\"issued_at\": \"3"),
        &["hash: the file says"],
    );
    assert_named(&edited("{", ""), &["file: this is no certificate"]);
    fs::write(&path, text.trim_end()).unwrap();
    assert_named(&differences(&rehearsal, &argument), &["file: its bytes"]);
    fs::write(&path, [text.as_bytes(), b"\xff"].concat()).unwrap();
    assert_named(
        &differences(&rehearsal, &argument),
        &["file: this is no certificate"],
    );
    fs::write(&path, &text).unwrap();
    program(&rehearsal).expect(0, &["certify", "--verify", &argument]);
    fs::remove_file(&path).unwrap();
    program(&rehearsal).expect(2, &["certify", "--verify", &argument]);
}

#[test]
fn a_ledger_that_was_changed_since_is_found() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    let (_, certificate) = certified(&folder, &rehearsal);
    rehearsal.modern(
        "update regraft.migration_control set source_rows = source_rows + 1, inserted = inserted + 1
         where entity = 'houses' and batch = 0",
    );
    assert_named(
        &differences(&rehearsal, &certificate),
        &[
            "entities houses.account.inserted: ",
            "entities houses.account.source_rows: ",
        ],
    );
    rehearsal.modern(
        "update regraft.migration_control set source_rows = source_rows - 1, inserted = inserted - 1
         where entity = 'houses' and batch = 0",
    );
    program(&rehearsal).expect(0, &["certify", "--verify", &certificate]);
    rehearsal
        .modern("delete from regraft.migration_mappings where entity = 'pets' and legacy_id = '8'");
    assert_named(
        &differences(&rehearsal, &certificate),
        &["standing pets.mapped: "],
    );
    rehearsal.modern("create index extra on pets (kind)");
    assert_named(
        &differences(&rehearsal, &certificate),
        &["catalogs.target: "],
    );
    rehearsal.modern(
        "update regraft.migration_validation_reports set context = jsonb_set(context, '{validation,not_checked}', '[]')
         where validation_type = 'summary'",
    );
    assert_named(
        &differences(&rehearsal, &certificate),
        &["validation.not_checked"],
    );
    folder.write(
        "invariants/village.toml",
        &INVARIANTS.replace("What the", "What all"),
    );
    assert_named(&differences(&rehearsal, &certificate), &["project.hash: "]);
}

#[test]
fn runs_since_the_certificate_and_runs_that_are_gone_are_named() {
    let folder = village_with_invariants();
    let rehearsal = migrated(&folder);
    program(&rehearsal).expect(0, &["migrate"]);
    let (_, certificate) = certified(&folder, &rehearsal);
    let ids = "select run_id from regraft.migration_control where entity = '' and batch = 0 order by run_no";
    let first = rehearsal.modern_rows(ids).remove(0).remove(0);
    program(&rehearsal).expect(0, &["migrate"]);
    let last = rehearsal.modern_rows(ids).pop().unwrap().remove(0);
    assert_named(
        &differences(&rehearsal, &certificate),
        &[&format!("run {last}: made after the certificate")],
    );
    rehearsal.modern(&format!(
        "delete from regraft.migration_control where run_id = '{first}'"
    ));
    assert_named(
        &differences(&rehearsal, &certificate),
        &[&format!("run {first}: no longer in the ledger")],
    );
}
