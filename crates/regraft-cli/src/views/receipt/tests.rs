//! The receipt as it is printed.

use std::collections::BTreeMap;

use regraft_engine::{EntityReceipt, Outcome, Receipt};
use regraft_ledger::{Account, Detail, RunReason};
use regraft_project::{Budget, Limits};

fn entity(name: &str, account: Account, seconds: f64) -> EntityReceipt {
    EntityReceipt {
        entity: name.to_owned(),
        target_table: format!("public.{name}"),
        status: "done".to_owned(),
        mode: "bulk".to_owned(),
        batches: 3,
        rows_per_second: Some(account.source_rows as f64 / seconds),
        account,
        seconds: Some(seconds),
    }
}

fn account(inserted: i64, filtered: i64, quarantined: i64, blocked: i64) -> Account {
    Account {
        source_rows: inserted + filtered + quarantined + blocked,
        inserted,
        filtered,
        quarantined,
        blocked,
        ..Account::default()
    }
}

fn reason(entity: &str, reason: &str, rows: i64, examples: &[&str]) -> RunReason {
    RunReason {
        entity: entity.to_owned(),
        reason: reason.to_owned(),
        parent: reason.contains("parent").then(|| "doctors".to_owned()),
        rows,
        open_now: rows,
        examples: examples.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn receipt() -> Receipt {
    let mut orders = account(1_180_210, 31_877, 1_204, 288);
    orders.detail = Detail {
        filters: BTreeMap::from([("soft-deleted".to_owned(), 31_877)]),
        ..Detail::default()
    };
    let entities = vec![
        entity("doctor_offices", account(2_311, 0, 0, 0), 0.11),
        entity("offices", account(1_203, 0, 0, 0), 0.09),
        entity("orders", orders, 9.2),
        entity("patients", account(248_702, 0, 512, 17), 2.4),
    ];
    let mut total = Account::default();
    for entity in &entities {
        total.add(&entity.account);
    }
    Receipt {
        run_id: "migrate_20261122_021500_3f2a".to_owned(),
        command: "migrate".to_owned(),
        status: "done".to_owned(),
        project: "dispatch".to_owned(),
        project_hash: "0".repeat(64),
        plan_hash: Some("1f3a52b04c6d7e88".to_owned()),
        program_version: "0.1.0".to_owned(),
        started_at: "2026-11-22T02:15:00Z".to_owned(),
        finished_at: Some("2026-11-22T02:15:12Z".to_owned()),
        seconds: Some(11.8),
        entities,
        total,
        reasons: vec![
            reason(
                "orders",
                "unmapped_value:status",
                1_204,
                &["17", "405", "1877", "9"],
            ),
            reason(
                "patients",
                "missing_parent:doctor_id",
                512,
                &["301", "302", "377"],
            ),
            reason("patients", "blocked_parent:doctor_id", 17, &["12"]),
        ],
        ..Receipt::default()
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn it_fits_a_terminal_of_100_and_of_80_columns() {
    for width in [100, 80] {
        let text = plain(&super::render(&receipt(), width));
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(width), "{widest:?}\n{text}");
        insta::assert_snapshot!(format!("receipt_{width}"), text);
    }
}

#[test]
fn an_account_that_does_not_balance_is_shouted() {
    let mut receipt = receipt();
    receipt.total.inserted += 3;
    let text = plain(&super::render(&receipt, 100));
    assert!(
        text.contains("THE ACCOUNT DOES NOT BALANCE, 3 off"),
        "{text}"
    );
    assert!(!text.contains("accounted for"), "{text}");
}

#[test]
fn a_dry_run_says_so_first_and_last() {
    let mut receipt = receipt();
    receipt.dry_run = true;
    let outcome = Outcome {
        receipt,
        nothing_to_do: false,
        within_budget: false,
        over_budget: vec!["patients".to_owned()],
    };
    let limits = Limits {
        quarantine: Budget::Fraction(0.001),
    };
    let text = plain(&super::outcome(&outcome, &limits, 100));
    let budget = "budget of 0.1% of the source rows of an entity allows: patients 529 of 249,231";
    assert!(text.replace("\n  ", " ").contains(budget), "{text}");
    assert!(text.starts_with("DRY RUN"), "{text}");
    assert!(
        text.trim_end().ends_with("DRY RUN: No changes were made"),
        "{text}"
    );
}
