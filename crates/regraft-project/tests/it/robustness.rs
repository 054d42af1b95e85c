//! Whatever is in the files: problems, never a panic, and they can always be shown.

use proptest::prelude::*;
use regraft_project::Project;

use crate::fixture::{MANIFEST, OFFICES, PATIENTS, file, files};

const RICH: &str = r#"description = "all forms"
[source]
from = "instruction i join patient p on p.id = i.patient_id"
key = "i.id"
[[source.filter]]
name = "soft-deleted"
keep = "not i.deleted"
[target]
table = "public.orders"
key = { column = "id", strategy = "uuid_v7", time = "i.submitted_at" }
legacy = "legacy_id"
[columns]
a = "i.price"
b = { sql = "coalesce(x, now())", provenance = "synthesised" }
c = { value = "orthodontics" }
d = { from = "i.status", map = { 0 = "none", 1 = "some" }, null = "draft", otherwise = "other" }
e = { json = { scanner = "i.scanner", inner = { x = "i.x" } } }
f = { parse = "i.exports", bad = { keep_as = "raw" }, empty = "{}" }
g = { ref = "patients", from = "i.patient_id", missing = { default = "x" } }
h = { ref_by = "i.t", cases = { 11 = "patients", 58 = "offices" }, from = "i.y", missing = "null" }
i = '''
  case when i.a then 'ä'
  else $q$ ; $q$ end'''
"#;

/// Checks the files and shows everything there is to say.
fn try_out(files: Vec<(String, String)>) {
    let problems = match Project::from_files("x", files) {
        Ok(project) => {
            let _ = project.select(&[], true).expect("all entities");
            project.warnings().clone()
        }
        Err(problems) => {
            assert!(problems.has_errors());
            problems
        }
    };
    let shown = problems.render(false, 100);
    for problem in problems.iter() {
        assert!(
            shown.contains(problem.code),
            "{} is not shown: {shown}",
            problem.code
        );
    }
    serde_json::to_string(&problems).expect("JSON");
}

fn replace(path: &str, text: String) -> Vec<(String, String)> {
    let mut files = files();
    files.push(file("entities/orders.toml", RICH));
    files.retain(|(other, _)| other != path);
    files.push((path.to_owned(), text));
    files
}

/// Cuts, doubles or replaces a piece of a text.
fn mutate(text: &str, edits: &[(prop::sample::Index, prop::sample::Index, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, len, with) in edits {
        if chars.is_empty() {
            break;
        }
        let start = at.index(chars.len());
        let end = (start + len.index(12)).min(chars.len());
        chars.splice(start..end, with.chars());
    }
    chars.into_iter().collect()
}

/// Short texts that mean something to a parser of TOML or SQL.
fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "\"",
            "'",
            "'''",
            "\"\"\"",
            "[",
            "]",
            "[[",
            "{",
            "}",
            "=",
            ".",
            ",",
            "\n",
            "\r\n",
            "#",
            "\\",
            "\\u0000",
            "(",
            ")",
            ";",
            "--",
            "/*",
            "$$",
            "ä",
            "\u{feff}",
            "\0",
            "1",
            "true",
            "nan",
            "2024-01-01",
            "select",
            "from",
            "[source]",
            "[a.b]\n",
            "x = 1\n",
            "\t",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ]
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, String)>> {
    prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            snippet(),
        ),
        1..6,
    )
}

#[test]
fn the_rich_entity_is_sound() {
    let files = replace("notes.txt", String::new());
    let project = Project::from_files("x", files).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(project.warnings().is_empty(), "{}", project.warnings());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mutated_entities(edits in edits()) {
        try_out(replace("entities/orders.toml", mutate(RICH, &edits)));
    }

    #[test]
    fn mutated_small_files(edits in edits()) {
        try_out(replace("regraft.toml", mutate(MANIFEST, &edits)));
        try_out(replace("entities/offices.toml", mutate(OFFICES, &edits)));
        try_out(replace("entities/patients.toml", mutate(PATIENTS, &edits)));
    }

    #[test]
    fn arbitrary_texts(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_out(replace("regraft.toml", text.clone()));
        try_out(replace("entities/orders.toml", text.clone()));
        try_out(replace("entities/orders.toml", String::from_utf8_lossy(&bytes).into_owned()));
        try_out(vec![(text.clone(), text)]);
    }

    #[test]
    fn arbitrary_sql(pieces in prop::collection::vec(snippet(), 0..12)) {
        let sql = pieces.concat().replace('\'', "\"");
        try_out(replace("entities/orders.toml", RICH.replace("\"i.price\"", &format!("'''{sql}'''"))));
        try_out(replace(
            "entities/orders.toml",
            RICH.replace("patient p on", &format!("patient {} on", sql.replace('"', "'"))),
        ));
    }
}
