//! What the new database needs to serve: indexes on references, statistics, tables without too many
//! dead rows, and the project's own queries within their limits.

use std::time::Duration;

use regraft_pg::catalog::{Index, Table};
use regraft_pg::{Session, quote};
use regraft_project::{NamedQuery, Problem, Project};
use serde_json::Value;

use super::databases::Databases;
use super::edge::references;
use super::invariants::describe;
use super::report::{Advice, Check, Finding};
use super::subject::Subject;
use crate::error::Result;

/// Tables with fewer rows are read as a whole sooner than an index of theirs.
const LARGE: i64 = 1_000;

/// Whether a table with so many rows, by the server's own estimate, needs an index to find some.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
pub(crate) fn is_large(rows: f64) -> bool {
    rows >= LARGE as f64
}

/// Dead rows that are worth a word, and what part of all they then are.
pub(crate) const DEAD: (i64, f64) = (10_000, 0.2);

/// Changed rows since statistics were taken that are worth a word: a part of all.
const CHANGED: f64 = 0.2;

/// How many times its limit a query may take before it is given up.
const PATIENCE: u32 = 20;

/// What was found, and what is no fault but good to know.
pub(super) struct Performance {
    pub(super) check: Check,
    pub(super) advice: Advice,
}

/// Looks at the table of an entity.
pub(super) async fn of_table(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<Performance> {
    let Some(table) = subject.table else {
        return Ok(Performance {
            check: Check::new("performance", 0, Vec::new()),
            advice: Advice::default(),
        });
    };
    let state = State::read(&databases.target, subject).await?;
    let referring = referring_columns(subject, table);
    let mut findings = Vec::new();
    for column in &referring {
        if state.rows >= LARGE && !table.indexes.iter().any(|index| finds(index, column)) {
            findings.push(finding(
                format!("`{column}` refers to other rows, and no index begins with it: whoever deletes or looks up by it reads the whole table"),
                state.rows,
            ));
        }
    }
    for index in table.indexes.iter().filter(|index| !index.valid) {
        let name = quote::ident(&index.name);
        findings.push(finding(
            format!(
                "index {name} is invalid: it is kept up and never used; `reindex index {name}`"
            ),
            0,
        ));
    }
    findings.extend(state.findings(subject));
    // What autovacuum will see to by itself is no fault.
    let soon = |needed: bool| (needed && state.autovacuum).then(|| table.name.clone());
    let advice = Advice {
        stale: soon(state.is_stale()).into_iter().collect(),
        bloated: soon(state.is_bloated()).into_iter().collect(),
        unused: unused(&databases.target, subject, state.rows).await?,
        changed: Vec::new(),
    };
    let looked_at = (referring.len() + table.indexes.len()) as u64;
    Ok(Performance {
        check: Check::new("performance", looked_at, findings),
        advice,
    })
}

fn finding(what: String, rows: i64) -> Finding {
    Finding {
        what,
        // A finding about something that has no rows counts as itself.
        rows: rows.unsigned_abs().max(1),
        examples: Vec::new(),
    }
}

/// The columns that hold keys of other rows, by the project or by the target's own word.
fn referring_columns(subject: &Subject<'_>, table: &Table) -> Vec<String> {
    let of_project = references(subject)
        .into_iter()
        .flatten()
        .map(|reference| reference.column.to_owned());
    let of_target = table
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == "f")
        .filter_map(|constraint| constraint.columns.first().cloned());
    let mut columns: Vec<String> = of_project
        .chain(of_target)
        .filter(|column| table.column(column).is_some())
        .collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Whether an index leads to the rows with some value of a column.
pub(crate) fn finds(index: &Index, column: &str) -> bool {
    // The catalog quotes a name only where it must.
    let not_null = format!("({column} IS NOT NULL)");
    let predicate = index.predicate.as_ref().map(|p| p.replace('"', ""));
    let all = predicate.is_none_or(|predicate| predicate == not_null);
    index.valid && all && index.plain_columns.first() == Some(&Some(column.to_owned()))
}

/// What the server knows of a table.
struct State {
    rows: i64,
    dead: i64,
    changed: i64,
    /// Whether statistics were ever taken.
    analyzed: bool,
    /// Whether the server sees to vacuum and statistics by itself.
    autovacuum: bool,
}

impl State {
    async fn read(target: &Session, subject: &Subject<'_>) -> Result<Self> {
        let count = format!("select count(*) from {}", subject.table_name);
        let rows = target.query_one(&count, &[]).await?.get(0);
        let row = target
            .query_one(
                "select coalesce(sum(s.n_dead_tup), 0)::int8, coalesce(sum(s.n_mod_since_analyze), 0)::int8,
                        coalesce(bool_and(coalesce(s.last_analyze, s.last_autoanalyze) is not null), false),
                        current_setting('autovacuum')::bool
                          and coalesce((select option_value::bool from pg_options_to_table(c.reloptions)
                                        where option_name = 'autovacuum_enabled'), true)
                 from pg_class c
                 left join pg_partition_tree(c.oid) p on p.isleaf
                 left join pg_stat_all_tables s on s.relid = coalesce(p.relid, c.oid)
                 where c.oid = $1::text::regclass group by c.reloptions",
                &[&subject.table_name],
            )
            .await?;
        Ok(Self {
            rows,
            dead: row.get(0),
            changed: row.get(1),
            analyzed: row.get(2),
            autovacuum: row.get(3),
        })
    }

    /// What autovacuum will not see to.
    fn findings(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let table = &subject.table_name;
        let mut findings = Vec::new();
        if self.is_bloated() && !self.autovacuum {
            findings.push(finding(
                format!("dead rows that nothing cleans away, autovacuum is off: `vacuum {table}`"),
                self.dead,
            ));
        }
        if self.is_stale() && !self.autovacuum {
            findings.push(finding(
                format!("statistics are missing or old, and autovacuum is off: `analyze {table}`"),
                self.changed,
            ));
        }
        findings
    }

    #[expect(clippy::cast_precision_loss, reason = "parts of counts of rows")]
    fn is_bloated(&self) -> bool {
        let part = self.dead as f64 / (self.rows + self.dead).max(1) as f64;
        self.dead >= DEAD.0 && part >= DEAD.1
    }

    /// Whether statistics are missing or old.
    #[expect(clippy::cast_precision_loss, reason = "parts of counts of rows")]
    fn is_stale(&self) -> bool {
        self.rows >= LARGE && (!self.analyzed || self.changed as f64 >= self.rows as f64 * CHANGED)
    }
}

/// Indexes that nobody has used for a week or more.
async fn unused(target: &Session, subject: &Subject<'_>, rows: i64) -> Result<Vec<String>> {
    if rows < LARGE {
        return Ok(Vec::new());
    }
    let rows = target
        .query(
            "select s.indexrelname::text from pg_stat_all_indexes s
             join pg_index i on i.indexrelid = s.indexrelid
             where s.relid = $1::text::regclass and s.idx_scan = 0 and not i.indisunique
               and (select coalesce(d.stats_reset, pg_postmaster_start_time()) < now() - interval '7 days'
                    from pg_stat_database d where d.datname = current_database())
             order by 1",
            &[&subject.table_name],
        )
        .await?;
    let advice = rows.iter().map(|row| {
        let index: String = row.get(0);
        format!(
            "{}: index {} was not used for a week or more",
            subject.name(),
            quote::ident(&index)
        )
    });
    Ok(advice.collect())
}

/// What the target says of the project's queries. A query that it refuses keeps nothing from being
/// moved: it is a warning.
///
/// # Errors
/// A connection that fails.
pub(crate) async fn problems(project: &Project, target: &Session) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for query in project.queries() {
        let Err(refusal) = describe(target, &query.sql.text).await? else {
            continue;
        };
        let span = refusal
            .position
            .map_or(query.sql.span, |at| query.sql.span_at(at, 1));
        let what = format!(
            "the target refuses query `{}`: {}",
            query.name.value, refusal.message
        );
        problems.push(
            Problem::warning("query::refused", what)
                .at(span)
                .hint("mend it, or apply the target's schema first (`regraft schema apply`)"),
        );
    }
    Ok(problems)
}

/// Measures the project's own queries against their limits.
pub(super) async fn of_queries(
    databases: &Databases<'_>,
    queries: &[NamedQuery],
) -> Result<Option<Check>> {
    let mut findings = Vec::new();
    for query in queries {
        findings.extend(measure(&databases.target, query).await?);
    }
    Ok((!queries.is_empty()).then(|| Check::new("queries", queries.len() as u64, findings)))
}

async fn measure(target: &Session, query: &NamedQuery) -> Result<Option<Finding>> {
    let (name, limit) = (&query.name.value, query.limit);
    let patience = (limit * PATIENCE).max(Duration::from_secs(5));
    target
        .batch_execute(&format!(
            "savepoint regraft_query; set local statement_timeout = {}",
            patience.as_millis()
        ))
        .await?;
    let explain = format!(
        "explain (analyze, timing off, format json) {}",
        query.sql.text
    );
    // The first time the pages are read, the second time is what users see.
    let mut plan = Ok(Value::Null);
    for _ in 0..2 {
        plan = target.query_one(&explain, &[]).await.map(|row| row.get(0));
    }
    target
        .batch_execute("rollback to savepoint regraft_query")
        .await?;
    let plan: Value = match plan.map_err(|error| target.error(error)) {
        Ok(plan) => plan,
        Err(error) if error.sqlstate() == Some("57014") => {
            let what = format!(
                "{name}: it was given up after {} ms; its limit is {} ms",
                patience.as_millis(),
                limit.as_millis()
            );
            return Ok(Some(finding(what, 0)));
        }
        Err(error) if error.sqlstate().is_some() => {
            let what = format!("{name}: the target refuses it: {}", error.message());
            return Ok(Some(finding(what, 0)));
        }
        Err(error) => return Err(error.into()),
    };
    let took = plan[0]["Execution Time"].as_f64().unwrap_or(0.0);
    if took <= limit.as_secs_f64() * 1000.0 {
        return Ok(None);
    }
    let mut scans = Vec::new();
    whole_tables(&plan[0]["Plan"], &mut scans);
    let scans = match scans.as_slice() {
        [] => String::new(),
        scans => format!("; it reads all of {}", scans.join(", ")),
    };
    let what = format!(
        "{name}: it took {took:.0} ms, its limit is {} ms{scans}",
        limit.as_millis()
    );
    Ok(Some(finding(what, 0)))
}

/// The tables that a plan reads as a whole although they are large.
fn whole_tables(node: &Value, found: &mut Vec<String>) {
    let is_scan = node["Node Type"].as_str() == Some("Seq Scan");
    let removed = node["Rows Removed by Filter"].as_i64().unwrap_or(0);
    let read = node["Actual Rows"].as_f64().unwrap_or(0.0);
    if let (true, Some(table)) = (is_scan, node["Relation Name"].as_str()) {
        let table = quote::ident(table);
        if (removed >= LARGE || read >= LARGE as f64) && !found.contains(&table) {
            found.push(table);
        }
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        whole_tables(child, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_tables_that_are_read_as_a_whole_are_told_once() {
        let scan = |table: &str, removed: i64| {
            json!({ "Node Type": "Seq Scan", "Relation Name": table, "Actual Rows": 1,
                    "Rows Removed by Filter": removed })
        };
        let plan = json!({ "Node Type": "Hash Join", "Plans": [
            scan("orders", 90_000), scan("offices", 10),
            { "Node Type": "Hash", "Plans": [scan("orders", 90_000)] },
            { "Node Type": "Index Scan", "Relation Name": "patients", "Actual Rows": 50_000 },
        ] });
        let mut found = Vec::new();
        whole_tables(&plan, &mut found);
        assert_eq!(
            found,
            ["\"orders\""].map(|name| quote::ident(name.trim_matches('"')))
        );
    }
}
