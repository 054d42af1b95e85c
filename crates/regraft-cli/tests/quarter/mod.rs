//! A project of nine entities that jobs carry over side by side: areas, shops 1 to 7 in them, and shop
//! 8, which needs a row of shop 1. Every shop may name a second area, and needn't.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 0.0,
};

/// How many entities refer to others.
pub(crate) const SHOPS: usize = 8;

/// Waits for each row that is written, as long as `pace` says for its table.
const SLOW: &str = "
create table pace (relation text primary key, seconds float8 not null);
create function slow() returns trigger language plpgsql as
  $$ begin perform pg_sleep(seconds) from public.pace where relation = tg_table_name; return new; end $$;
";

/// The project, with so many rows of each shop.
pub(crate) fn quarter(rows: usize) -> ProjectFolder {
    let mut source = "create table area (id integer primary key, name text);\n".to_owned();
    let mut target = format!(
        "{SLOW}create table areas (id uuid primary key, name text not null, legacy_id integer unique);
         create trigger slow before insert or update on areas for each row execute function slow();\n"
    );
    let mut data =
        "insert into area select i, 'Area ' || i from generate_series(1, 40) i;\n".to_owned();
    let mut files = vec![
        ("regraft.toml".to_owned(), manifest("quarter", "100%")),
        (
            "entities/areas.toml".to_owned(),
            entity("area", "areas", "name = \"t.name\"\n"),
        ),
    ];
    for shop in 1..=SHOPS {
        let (parent, parents) = match shop {
            8 => ("shop1".to_owned(), "shops1".to_owned()),
            _ => ("area".to_owned(), "areas".to_owned()),
        };
        source.push_str(&format!(
            "create table shop{shop} (id integer primary key, {parent} integer, second integer, sales numeric);\n"
        ));
        target.push_str(&format!(
            "create table shops{shop} (id uuid primary key, parent_id uuid not null references {parents},
               second_id uuid references areas, sales numeric(10, 2), legacy_id integer unique);
             create index on shops{shop} (parent_id);
             create index on shops{shop} (second_id);
             create trigger slow before insert or update on shops{shop} for each row execute function slow();\n"
        ));
        data.push_str(&format!(
            "insert into shop{shop} select i, 1 + i % 40, case when i % 3 = 0 then 1 + i % 7 end, i
             from generate_series(1, {rows}) i;\n"
        ));
        let columns = format!(
            "parent_id = {{ ref = \"{parents}\", from = \"t.{parent}\" }}
second_id = {{ ref = \"areas\", from = \"t.second\", missing = \"null\" }}
sales = \"t.sales\"\n"
        );
        let text = entity(&format!("shop{shop}"), &format!("shops{shop}"), &columns);
        files.push((format!("entities/shops{shop}.toml"), text));
    }
    files.extend([
        ("source/schema.sql".to_owned(), source),
        ("source/data.sql".to_owned(), data),
        ("target/schema.sql".to_owned(), target),
    ]);
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    ProjectFolder::new(&files)
}

fn entity(table: &str, name: &str, columns: &str) -> String {
    format!(
        "[source]\nfrom = \"{table} t\"\nkey = \"t.id\"\n[target]\ntable = \"{name}\"
key = {{ column = \"id\", strategy = \"uuid_v5\" }}\nlegacy = \"legacy_id\"\n[columns]\n{columns}"
    )
}

/// The program on it.
pub(crate) fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal)
}

/// Migrated and compared once, with a job for each entity, named like it.
pub(crate) fn with_jobs(folder: &ProjectFolder) -> Rehearsal<'static> {
    with_jobs_on(Servers::shared(), folder)
}

/// The databases on servers of the caller's own, with nothing migrated yet.
pub(crate) fn empty_on<'s>(servers: &'s Servers, folder: &ProjectFolder) -> Rehearsal<'s> {
    Rehearsal::once(servers, folder.path(), LEGACY)
}

/// The same on servers of the caller's own.
pub(crate) fn with_jobs_on<'s>(servers: &'s Servers, folder: &ProjectFolder) -> Rehearsal<'s> {
    let rehearsal = empty_on(servers, folder);
    let program = program(&rehearsal);
    program.expect(0, &["migrate"]);
    program.expect(0, &["differential", "migrate", "--entities", "all"]);
    create_jobs(&rehearsal);
    rehearsal
}

/// A job for each entity, named like it.
pub(crate) fn create_jobs(rehearsal: &Rehearsal<'_>) {
    let program = program(rehearsal);
    for name in names() {
        let job = ["sync", "create-job", "--name", &name, "--entities", &name];
        let how = ["--schedule", "1d", "--conflict-resolution", "source_wins"];
        program.expect(0, &[&job[..], &how].concat());
    }
}

/// The entities, and the jobs of the same names.
pub(crate) fn names() -> Vec<String> {
    let shops = (1..=SHOPS).map(|shop| format!("shops{shop}"));
    std::iter::once("areas".to_owned()).chain(shops).collect()
}

/// Makes every row of a table take its time.
pub(crate) fn slow(rehearsal: &Rehearsal<'_>, table: &str, seconds: f64) {
    rehearsal.modern(&format!(
        "insert into pace values ('{table}', {seconds})
         on conflict (relation) do update set seconds = excluded.seconds"
    ));
}

/// Nothing takes its time any more.
pub(crate) fn fast(rehearsal: &Rehearsal<'_>) {
    rehearsal.modern("delete from pace");
}

/// All jobs are due, or the one that is named.
pub(crate) fn due_now(rehearsal: &Rehearsal<'_>, job: Option<&str>) {
    let which = job.map_or(String::new(), |job| format!("and job_name = '{job}'"));
    rehearsal.modern(&format!(
        "update regraft.synchronization_jobs set next_run_at = clock_timestamp()
         where status = 'scheduled' {which}"
    ));
}
