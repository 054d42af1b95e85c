//! The commands on a small project, from the plan to the rollback.

mod harness;

use harness::Shop;
use serde_json::Value;

fn json(shop: &Shop, line: &str, code: i32) -> Value {
    let output = shop
        .command(&format!("{line} --format json"))
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(code), "{line}\n{out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"))
}

#[test]
fn a_project_goes_from_plan_to_rollback() {
    let shop = Shop::new();
    let plan = json(&shop, "plan", 0);
    let hash = plan["hash"].as_str().unwrap().to_owned();
    assert_eq!(plan["entities"].as_array().unwrap().len(), 2);

    let dry = shop.run("migrate --dry-run");
    assert!(dry.contains("DRY RUN"), "{dry}");
    assert!(dry.contains("No changes were made"), "{dry}");
    assert_eq!(json(&shop, "status", 0)["ledger_installed"], false);

    let outcome = json(&shop, &format!("migrate --plan {hash}"), 0);
    let total = &outcome["receipt"]["total"];
    assert_eq!(total["source_rows"], 255);
    assert_eq!(total["inserted"], 50 + 180);
    assert_eq!(total["filtered"], 20);
    assert_eq!(total["quarantined"], 4, "{total}");
    assert_eq!(total["blocked"], 1);

    let again = shop.run("migrate");
    assert!(
        again.starts_with("$ regraft migrate\nexit code: 0\n"),
        "{again}"
    );
    assert!(again.contains("Nothing to do"), "{again}");
    let unwrapped = again.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains("every row is accounted for"), "{again}");

    let validation = json(&shop, "validate", 0);
    assert_eq!(validation["passed"], true);
    shop.in_target("update purchases set price = price + 1 where legacy_id = 7");
    let text = shop.run("validate");
    assert!(text.contains("exit code: 1"), "{text}");
    assert!(text.contains("NOT VALID"), "{text}");
    shop.in_target("update purchases set price = price - 1 where legacy_id = 7");

    let listed = json(&shop, "quarantine list", 0);
    assert_eq!(listed["rows"].as_array().unwrap().len(), 5);
    let shown = json(&shop, "quarantine show purchases 301", 0);
    assert_eq!(shown["reasons"][0]["code"], "missing_parent");
    assert!(
        shown["source_row"].is_null(),
        "values are shown only when asked for"
    );
    let shown = json(&shop, "quarantine show purchases 301 --values", 0);
    assert!(shown["source_row"].is_object());

    let run = json(&shop, "runs", 0)[1]["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        json(&shop, &format!("receipt {run}"), 0)["run_id"],
        run.as_str()
    );

    let refused = shop.run("rollback");
    assert!(refused.contains("exit code: 2"), "{refused}");
    assert!(
        refused.contains("230"),
        "the preview shows the counts: {refused}"
    );
    assert_eq!(json(&shop, "status", 0)["entities"][0]["mapped"], 50);
    json(&shop, "rollback --yes", 0);
    assert_eq!(json(&shop, "status", 0)["entities"][0]["mapped"], 0);
}

#[test]
fn too_many_rows_left_behind_are_a_finding() {
    let shop = Shop::new();
    let manifest = std::fs::read_to_string(shop.dir().join("regraft.toml")).unwrap();
    shop.file(
        "regraft.toml",
        &manifest.replace("quarantine = 5", "quarantine = 1"),
    );
    let text = shop.run("migrate");
    assert!(text.contains("exit code: 1"), "{text}");
    assert!(text.contains("budget of 1 row of an entity"), "{text}");
}

#[test]
fn settings_come_from_both_folders_and_the_process_wins() {
    let shop = Shop::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let (source, target) = (
        harness::SERVER.url("shop_source"),
        harness::SERVER.url("shop_target"),
    );
    shop.file(
        ".env",
        &format!("SOURCE_DATABASE_URL={source}\nTARGET_DATABASE_URL=nonsense\n"),
    );
    std::fs::write(
        elsewhere.path().join(".env"),
        format!("TARGET_DATABASE_URL={target}\n"),
    )
    .unwrap();
    let project = shop.dir().display();
    let line = format!("status --project {project}");
    let output = harness::regraft(elsewhere.path(), &line).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = harness::regraft(elsewhere.path(), &line)
        .env("TARGET_DATABASE_URL", "nonsense")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    // The project can be named by the environment too.
    let output = harness::regraft(elsewhere.path(), "status")
        .env("REGRAFT_PROJECT", shop.dir())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let shop = Shop::offline();
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "'{}' __reference | head -1",
            env!("CARGO_BIN_EXE_regraft")
        ))
        .current_dir(shop.dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "# Commands\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn colours_come_only_when_asked_for() {
    let shop = Shop::offline();
    let escape = |line: &str| {
        let output = shop.command(line).output().unwrap();
        [output.stdout, output.stderr].concat().contains(&0x1b)
    };
    assert!(!escape("migrate nonsense"));
    assert!(escape("migrate nonsense --color always"));
    assert!(escape("--color always --help"));
    assert!(!escape("--help"));
}
