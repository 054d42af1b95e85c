//! Wrong usage: what each mistake is answered with, and its exit code.

mod harness;

use std::time::{Duration, Instant};

use harness::{SERVER, Shop, regraft, transcript};

#[test]
fn the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, line) in [
        ("nothing", ""),
        ("unknown_command", "migrat"),
        ("unknown_option", "migrate --with-dependencies"),
        ("bad_mode", "migrate --mode fast"),
        ("bad_batch_size", "migrate --batch-size 0"),
        ("bad_workers", "migrate --workers many"),
        ("bad_scale", "demo --scale 0"),
        ("rollback_of_both", "rollback orders --run x"),
        ("quarantine_alone", "quarantine"),
        ("final_of_some", "validate orders --final"),
        ("no_project", "status"),
        ("no_such_project", "status --project nowhere"),
        ("unknown_option_json", "migrate --format json --frobnicate"),
        ("no_project_json", "status --format json"),
        ("stop_without_a_demo", "demo --stop"),
        ("explain", "explain missing_parent"),
        ("explain_nothing", "explain nonsense"),
    ] {
        snapshot!(
            format!("line_{name}"),
            transcript(&mut regraft(folder.path(), line), line, folder.path())
        );
    }
}

#[test]
fn help_and_version_are_results() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "--help",
        "-h",
        "migrate --help",
        "quarantine list -h",
        "--version",
    ] {
        let output = regraft(folder.path(), line).output().unwrap();
        assert!(output.status.success(), "{line}");
        assert!(output.stderr.is_empty(), "{line}");
        assert!(!output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn the_help_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "",
        "demo",
        "check",
        "schema",
        "schema apply",
        "schema diff",
        "plan",
        "migrate",
        "validate",
        "check-record",
        "rollback",
        "status",
        "runs",
        "receipt",
        "quarantine",
        "quarantine list",
        "quarantine show",
        "quarantine retry",
        "quarantine export",
        "quarantine drop",
        "mappings",
        "mappings rebuild",
        "analyzer",
        "analyzer checkpoint-status",
        "analyzer reset-checkpoint",
        "analyzer debug",
        "analyzer analyze-performance",
        "analyzer system-health",
        "sync",
        "sync create-job",
        "sync list-jobs",
        "sync job-status",
        "sync run-job",
        "sync pause-job",
        "sync resume-job",
        "sync cancel-job",
        "sync delete-job",
        "sync runs",
        "service",
        "service start",
        "worker",
        "ledger",
        "ledger prune",
        "explain",
    ] {
        let line = format!("{command} --help");
        let output = regraft(folder.path(), &line).output().unwrap();
        let name = format!("help {command}").trim().replace(' ', "_");
        snapshot!(name, String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn names_that_are_no_entities() {
    let shop = Shop::offline();
    for (name, line) in [
        ("suggestion", "migrate clents"),
        ("several", "plan purchase peeple"),
        ("no_idea", "validate xyz"),
        ("json", "rollback --entities clients,xyz --format json"),
        ("quarantine", "quarantine list purchase"),
        ("quarantine_of_a_group", "quarantine show people 1"),
    ] {
        snapshot!(format!("name_{name}"), shop.run(line));
    }
}

#[test]
fn settings_that_are_missing_or_wrong() {
    let shop = Shop::offline();
    snapshot!("settings_none", shop.run("migrate"));
    snapshot!("settings_none_target", shop.run("status"));
    snapshot!("settings_none_check", shop.run("check"));
    shop.file(".env", "SOURCE_DB_HOST=localhost\nhunter2\n");
    snapshot!("settings_bad_line", shop.run("migrate"));
    shop.file(
        ".env",
        "SOURCE_DB_HOST=localhost\nTARGET_DATABASE_URL=mysql://root:hunter2@x/y\n",
    );
    snapshot!("settings_bad_url", shop.run("status"));
    let shop = Shop::new().with("BATCH_SIZE", "many");
    snapshot!("settings_bad_number", shop.run("migrate"));
    let shop = Shop::new().with("REGRAFT_KEY_SECRET", "short");
    snapshot!("settings_short_secret", shop.run("migrate"));
    let shop = Shop::new().with("REGRAFT_KEY_SECRET", "");
    snapshot!("settings_no_secret", shop.run("migrate"));
}

#[test]
fn a_project_with_problems() {
    let shop = Shop::new();
    shop.file(
        "entities/purchases.toml",
        "[source]\nfrom = \"purchase p\"\nkey = \"p.id\"\nfilter = \"not p.deleted\"\n\n[target]\n\
         table = \"purchases\"\nkey = { column = \"id\", strategy = \"uuid_v9\" }\n\n[columns]\n\
         client_id = { ref = \"client\", from = \"p.client_id\" }\nprice = \"p.price +\"\n",
    );
    snapshot!("project_files", shop.run("migrate"));
    snapshot!("project_files_check", shop.run("check"));
    snapshot!("project_files_json", shop.run("check --format json"));

    let shop = Shop::new();
    shop.file(
        "entities/purchases.toml",
        "[source]\nfrom = \"purchase p\"\nkey = \"p.id\"\n\n[target]\ntable = \"purchases\"\n\
         key = { column = \"id\", strategy = \"uuid_v5\" }\n\n[columns]\n\
         price = \"p.prize\"\ncolour = \"'red'\"\n",
    );
    snapshot!("project_catalogs", shop.run("migrate"));
    snapshot!("project_catalogs_check", shop.run("check"));
}

#[test]
fn servers_that_do_not_answer_or_refuse() {
    let nobody = "postgresql://u:hunter2@127.0.0.1:1/x";
    for (name, shop) in [
        ("source", Shop::new().with("SOURCE_DATABASE_URL", nobody)),
        ("target", Shop::new().with("TARGET_DATABASE_URL", nobody)),
    ] {
        let begun = Instant::now();
        snapshot!(format!("unreachable_{name}"), shop.run("migrate"));
        snapshot!(format!("unreachable_{name}_check"), shop.run("check"));
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it takes seconds to say so"
        );
    }
    snapshot!(
        "wrong_password",
        Shop::new()
            .with_target_user("postgres", "hunter2")
            .run("status")
    );
    let missing = SERVER.url("no_such_database");
    snapshot!(
        "no_database",
        Shop::new()
            .with("SOURCE_DATABASE_URL", &missing)
            .run("migrate")
    );
}

#[test]
fn privileges_that_are_missing() {
    SERVER
        .execute(
            "postgres",
            "create role reader login password 'reader'; create role writer login password 'writer'",
        )
        .unwrap();
    let shop = Shop::new();
    let source = SERVER.endpoint(regraft_pg::Side::Source, "shop_source");
    let source = source.with_user("reader", Some("reader".to_owned())).url();
    snapshot!(
        "privilege_source",
        shop.with("SOURCE_DATABASE_URL", &source).run("migrate")
    );
    let shop = Shop::new().with_target_user("writer", "writer");
    snapshot!("privilege_target", shop.run("migrate"));
    snapshot!("privilege_schema", shop.run("schema apply"));
}

#[test]
fn targets_that_are_not_what_they_should_be() {
    let shop = Shop::new();
    shop.in_target("insert into clients values (gen_random_uuid(), 1, 'A stranger', 'new', now())");
    snapshot!("target_not_ours", shop.run("migrate"));

    let shop = Shop::new();
    shop.in_target("alter table purchases drop column price");
    snapshot!("schema_differs", shop.run("schema diff"));
    snapshot!("schema_apply_onto_another", shop.run("schema apply"));

    let shop = Shop::new();
    for line in ["runs", "receipt", "quarantine list", "rollback --yes"] {
        snapshot!(
            format!("no_ledger_{}", line.split(' ').next().unwrap()),
            shop.run(line)
        );
    }
    snapshot!("no_ledger_status", shop.run("status"));
    snapshot!("plan_changed", shop.run("migrate --plan 0123456789abcdef"));
}

#[test]
fn a_demo_in_the_wrong_place() {
    let shop = Shop::offline();
    snapshot!("demo_not_empty", shop.run("demo --dir ."));
    snapshot!("demo_no_programs", shop.run("demo --pg-bin target"));
    snapshot!("demo_stop_elsewhere", shop.run("demo --stop --dir target"));
}
