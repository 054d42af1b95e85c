//! Rows that are marked as deleted while the source has them not, and are unmarked when it has them
//! again.

mod town;

use regraft_testkit::{Dump, Legacy, Program, Rehearsal, Servers};
use serde_json::Value;
use town::town;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "97")
}

fn carry_over(rehearsal: &Rehearsal<'_>, more: &[&str]) -> Value {
    let arguments = ["differential", "migrate", "--entities", "all"];
    program(rehearsal).json(0, &[&arguments[..], more].concat())
}

fn marked(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    let houses = "select legacy_id from houses where gone is not null order by 1";
    rehearsal.modern_rows(houses)
}

const SOFT: [&str; 2] = ["--deletes", "soft"];

#[test]
fn a_marked_row_that_is_back_is_unmarked() {
    let town = town(town::DATA, &[], None);
    for back_in in ["soft", "mirror"] {
        let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
        program(&rehearsal).expect(0, &["migrate"]);
        carry_over(&rehearsal, &[]);
        let before = Dump::of_tables(&rehearsal.modern_url());
        // 31 is hidden only; nobody lives in 10 to 12; 40 was marked by somebody else before.
        rehearsal.modern("update houses set gone = '2001-01-01' where legacy_id in (12, 40)");
        rehearsal.legacy(
            "create table kept as select * from house where id between 10 and 12;
             delete from house where id between 10 and 12;
             update house set hidden = true where id in (31, 40)",
        );
        carry_over(&rehearsal, &SOFT);
        assert_eq!(marked(&rehearsal), [["10"], ["11"], ["12"], ["31"], ["40"]]);
        let again = carry_over(&rehearsal, &SOFT);
        assert_eq!(again["nothing_to_do"], true, "{again}");
        // 10 is back as it was, 11 with another rent; somebody has taken the mark off 31 and set it anew.
        rehearsal.modern("update houses set gone = '2002-02-02' where legacy_id = 31");
        rehearsal.legacy(
            "update kept set rent = 7 where id = 11;
             insert into house select * from kept;
             update house set hidden = false where id in (31, 40)",
        );
        let analysis =
            program(&rehearsal).json(0, &["differential", "analyze", "--entities", "all"]);
        assert_eq!(analysis["entities"][1]["returned"]["rows"], 2, "{analysis}");
        let done = carry_over(&rehearsal, &["--deletes", back_in]);
        let houses = &done["entities"][1];
        assert_eq!(
            houses["returned"]["examples"],
            serde_json::json!(["10", "11"])
        );
        assert_eq!(done["receipt"]["total"]["updated"], 2, "{done}");
        assert_eq!(marked(&rehearsal), [["12"], ["31"], ["40"]], "{back_in}");
        let again = carry_over(&rehearsal, &[]);
        assert_eq!(again["nothing_to_do"], true, "{again}");
        // Undone, the marks are there again.
        let run = done["receipt"]["run_id"].as_str().expect("a run");
        program(&rehearsal).expect(0, &["rollback", "--run", run, "--yes"]);
        assert_eq!(marked(&rehearsal), [["10"], ["11"], ["12"], ["31"], ["40"]]);
        carry_over(&rehearsal, &["--deletes", back_in]);
        rehearsal.legacy("update house set rent = 16.5 where id = 11; drop table kept");
        carry_over(&rehearsal, &[]);
        rehearsal.modern("update houses set gone = null where legacy_id in (12, 31, 40)");
        Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, back_in);
    }
}
