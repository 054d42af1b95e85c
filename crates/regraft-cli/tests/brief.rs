//! The commands of the customer's brief: each is in `docs/reference/commands-of-the-brief.md`, and
//! each command that stands beside one of them works.

mod kept;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kept::Demo;
use regraft_testkit::{Finished, dispatch};
use serde_json::Value;

/// What a row says that has no counterpart.
const MISSING: &str = "not in this version";
/// What a remark says of a command that is expected to find something.
const FINDS: &str = "exits with 1";
/// What a remark says of a command that has nothing to go on with in the test.
const REFUSES: &str = "exits with 2";
/// The only entity whose legacy table is empty.
const EMPTY: &str = "purchases";

/// Every command line of the brief, continued lines joined and comments left out, and the kinds of
/// files that its standard process is made of.
const BRIEF: &str = r#"
npm run build
npm run typecheck
npm run migrate:offices
npm run migrate:profiles
npm run migrate:doctors
npm run migrate:patients
npm run migrate:orders
npm run migrate:products
npm run migrate:jaws
npm run migrate:projects
npm run migrate:treatment-plans
npm run validate:offices
npm run validate:profiles
npm run validate:doctors
npm run validate:patients
npm run validate:orders
npm run validate:products
npm run validate:jaws
npm run validate:projects
npm run validate:treatment-plans
npm run rollback:treatment-plans
npm run rollback:projects
npm run rollback:jaws
npm run rollback:products
npm run rollback:orders
npm run rollback:patients
npm run rollback:doctors
npm run rollback:profiles
npm run rollback:offices
npm run migrate:all
npm run migrate:core
npm run migrate:core-with-patients
npm run validate:all
npm run validate:core
npm run rollback:all
npm run rollback:core
npm run migrate:doctors-with-offices
npm run migrate:patients-with-deps
npm run migrate:orders-with-deps
npm run migrate:products-with-deps
npm run migrate:jaws-with-deps
npx ts-node migrate-offers-and-discounts-fixed.ts
npx ts-node validate-offers-discounts-migration.ts
npm run dev
npm run dev:doctors
npm run dev:profiles
npm run dev:patients
npm run dev:orders
npm run update:patient-mappings
npm run migrate:patients-complete
npm run migrate:patient-events
npm run migrate:missing-doctor-71
npm run migrate:remaining-orders
npm run validate:final
npm run migrate:complete-final
npx ts-node src/differential-migration.ts analyze --entities offices,doctors,patients
npx ts-node src/differential-migration.ts analyze --entities all --output analysis-report.json
npx ts-node src/differential-migration.ts migrate --entities offices,doctors,patients --batch-size 500
npx ts-node src/differential-migration.ts migrate --entities all --dry-run --conflict-resolution source_wins
npx ts-node src/differential-migration.ts resume --entity orders
npx ts-node src/differential-migration.ts resume --operation-id diff_migration_20231201_123456
npx ts-node src/differential-migration.ts status
npx ts-node src/differential-migration.ts status --operation-id diff_migration_20231201_123456
npx ts-node src/sync-scheduler.ts create-job --name "daily-sync" --schedule "daily" --entities "offices,doctors,patients,orders" --conflict-resolution "source_wins" --max-records 50000
npx ts-node src/sync-scheduler.ts list-jobs
npx ts-node src/sync-scheduler.ts list-jobs --status scheduled
npx ts-node src/sync-scheduler.ts job-status --name "daily-sync"
npx ts-node src/sync-scheduler.ts run-job --name "daily-sync" --manual
npx ts-node src/sync-scheduler.ts run-job --job-id job-uuid-123 --force
npx ts-node src/sync-scheduler.ts pause-job --name "daily-sync"
npx ts-node src/sync-scheduler.ts resume-job --name "daily-sync"
npx ts-node src/sync-scheduler.ts delete-job --name "daily-sync" --force
npx ts-node src/data-validator.ts validate --entities "offices,profiles,doctors,patients,orders" --type data_integrity --sampling-rate 1.0
npx ts-node src/data-validator.ts validate --entities doctors --type relationship_integrity
npx ts-node src/data-validator.ts validate --entities orders --type completeness_check
npx ts-node src/data-validator.ts validate --entities all --type performance_check --max-records 100000
npx ts-node src/data-validator.ts report --comprehensive --output validation-report.json
npx ts-node src/data-validator.ts report --entities offices,doctors --format markdown
npx ts-node src/data-validator.ts check-record --entity doctors --legacy-id 12345
npx ts-node src/data-validator.ts check-record --entity patients --uuid-id patient-uuid-123
npx ts-node src/migration-analyzer.ts checkpoint-status --all
npx ts-node src/migration-analyzer.ts checkpoint-status --entity orders
npx ts-node src/migration-analyzer.ts reset-checkpoint --id checkpoint-uuid-123
npx ts-node src/migration-analyzer.ts debug --entity doctors --verbose
npx ts-node src/migration-analyzer.ts analyze-performance --entity orders --last-days 7
npx ts-node src/migration-analyzer.ts system-health --comprehensive
npx ts-node src/sync-scheduler.ts create-job --name "daily-sync" --schedule "daily" --entities "offices,doctors,patients,orders" --conflict-resolution "source_wins"
npx ts-node src/differential-migration.ts analyze --entities doctors --detect-conflicts
npx ts-node src/conflict-resolver.ts report --last-analysis
npx ts-node src/differential-migration.ts migrate --entities doctors --conflict-resolution source_wins
npx ts-node src/data-validator.ts validate --entities doctors --type data_integrity
analyze-[component].ts
create-[component]-schema.ts
migrate-[component].ts
validate-[component]-migration.ts
*_MIGRATION_REPORT.md
"#;

/// A row of a table of the document.
#[derive(Debug)]
struct Row {
    /// Line of the document, from 1.
    line: usize,
    brief: String,
    counterpart: String,
    remark: String,
}

impl Row {
    /// The command lines of regraft in it, in order.
    fn commands(&self) -> Vec<Vec<String>> {
        [&self.counterpart, &self.remark]
            .into_iter()
            .flat_map(|cell| code(cell))
            .filter_map(|span| span.strip_prefix("regraft "))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    }

    fn expected(&self) -> i32 {
        if self.remark.contains(REFUSES) {
            return 2;
        }
        i32::from(self.remark.contains(FINDS))
    }
}

/// What stands between backticks in a text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn document() -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands-of-the-brief.md");
    fs::read_to_string(path).unwrap()
}

/// The rows of all tables whose first column is the brief's.
fn rows() -> Vec<Row> {
    let mut found = Vec::new();
    for (at, line) in document().lines().enumerate() {
        let Some(inner) = line.strip_prefix("| `") else {
            continue;
        };
        let cells: Vec<&str> = inner.trim_end_matches('|').split(" |").collect();
        let [brief, counterpart, remark, ..] = cells[..] else {
            panic!("line {} has not three columns: {line}", at + 1)
        };
        found.push(Row {
            line: at + 1,
            brief: brief.trim_end_matches('`').to_owned(),
            counterpart: counterpart.trim().to_owned(),
            remark: remark.trim().to_owned(),
        });
    }
    found
}

#[test]
fn each_command_of_the_brief_has_its_row_and_no_other_has() {
    let rows = rows();
    let told: Vec<&str> = rows.iter().map(|row| row.brief.as_str()).collect();
    for line in BRIEF.trim().lines() {
        let times = told.iter().filter(|&&brief| brief == line).count();
        assert_eq!(times, 1, "`{line}` has {times} rows");
    }
    assert_eq!(told.len(), BRIEF.trim().lines().count());
}

#[test]
fn each_row_has_a_command_or_says_that_there_is_none() {
    for row in rows() {
        let is_command = |span: &str| span.starts_with("regraft ") || span.starts_with("cargo ");
        let has_command = code(&row.counterpart).any(is_command);
        assert_ne!(has_command, row.counterpart == MISSING, "{row:?}");
    }
}

#[test]
fn each_command_beside_the_briefs_does_what_it_says() {
    let demo = Demo::start("brief", "0.01");
    demo.program.expect(0, &["rollback", "all", "--yes"]);
    let mut count = 0;
    for row in rows() {
        for command in row.commands() {
            let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            let place = format!("line {}: regraft {}", row.line, command.join(" "));
            let finished = demo.program.run(&arguments);
            assert_eq!(finished.code, Some(row.expected()), "{place}\n{finished}");
            effect(&demo, &arguments, &place, &finished);
            count += 1;
        }
    }
    assert!(count > 70, "only {count} commands were found");
}

/// What a migration or a rollback says it did is what the ledger knows.
fn effect(demo: &Demo, arguments: &[&str], place: &str, finished: &Finished) {
    let (moved, names) = match arguments {
        [.., "--dry-run"] => return,
        ["migrate", names @ ..] => (true, names),
        ["rollback", names @ ..] => (false, names),
        _ => return,
    };
    let mut selection = vec!["status"];
    // `--batch-size` is the last option where there is one.
    let options = ["--with-deps", "--with-dependents", "--yes", "--batch-size"];
    selection.extend(
        names.iter().filter(|name| {
            !options.contains(name) && !name.bytes().all(|byte| byte.is_ascii_digit())
        }),
    );
    let status = demo.program.json(0, &selection);
    for entity in status["entities"].as_array().unwrap() {
        // In data as small as this, all rows of an entity may be held back.
        let seen = ["mapped", "quarantined", "blocked"];
        let is_there = seen.iter().any(|rows| entity[rows].as_u64() > Some(0));
        let expected = moved && entity["entity"] != EMPTY;
        assert_eq!(is_there, expected, "{place}\n{entity}\n{finished}");
    }
}

/// The entities that a result is about.
fn entities(document: &Value, list: &str) -> BTreeSet<String> {
    let steps = document.pointer(list).and_then(Value::as_array);
    let steps = steps.unwrap_or_else(|| panic!("no list {list} in {document}"));
    let name = |step: &Value| step["entity"].as_str().unwrap().to_owned();
    steps.iter().map(name).collect()
}

/// The entities of the bundled project: one file each.
fn every_entity() -> BTreeSet<String> {
    let files = fs::read_dir(dispatch().join("entities")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_command_takes_the_same_selections() {
    let demo = Demo::start("selections", "0.01");
    demo.program.expect(0, &["rollback", "--yes"]);
    let of = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let core = of("offices profiles doctors doctor_offices");
    let extended = of("courses products jaws projects treatment_plans patient_events");
    let everything = every_entity();
    assert!(everything.len() > 50, "{everything:?}");
    let forms: [(&[&str], &BTreeSet<String>); 6] = [
        (&["core"], &core),
        (&["--entities", "core"], &core),
        (&["offices", "profiles", "doctors", "doctor_offices"], &core),
        (
            &[
                "--entities",
                "doctor_offices,doctors",
                "--entity",
                "profiles,offices",
            ],
            &core,
        ),
        (&["extended"], &extended),
        (&["all"], &everything),
    ];
    for (form, expected) in forms {
        selects(&demo, form, expected);
    }
    for (command, list) in [("plan", "/entities"), ("migrate", "/receipt/entities")] {
        let document = demo.program.json(0, &[command]);
        assert_eq!(
            entities(&document, list),
            everything,
            "{command} of no name"
        );
    }
}

/// Migrates a selection into an empty target, looks at it in each way, and takes it back.
#[track_caller]
fn selects(demo: &Demo, form: &[&str], expected: &BTreeSet<String>) {
    for (command, list) in [
        ("plan", "/entities"),
        ("migrate", "/receipt/entities"),
        ("status", "/entities"),
        ("validate", "/entities"),
    ] {
        let document = demo.program.json(0, &[&[command], form].concat());
        assert_eq!(&entities(&document, list), expected, "{command} {form:?}");
    }
    let document = demo
        .program
        .json(0, &[&["rollback", "--yes"], form].concat());
    let mut undone = entities(&document, "/preview/steps");
    // There was nothing to write, so there is nothing to undo.
    if expected.contains(EMPTY) {
        undone.insert(EMPTY.to_owned());
    }
    assert_eq!(&undone, expected, "rollback {form:?}");
    let status = demo.program.json(0, &["status"]);
    for entity in status["entities"].as_array().unwrap() {
        assert_eq!(entity["mapped"], 0, "rollback {form:?} left {entity}");
    }
}
