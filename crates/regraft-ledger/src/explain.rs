//! The statements behind the figures of a receipt, whole, to be pasted into psql.
//!
//! They are printed and not run by this program, except [`REASONS`], which both is printed and
//! read by [`crate::reasons_of_run`]. A test runs every one of them and holds what it gives
//! against the figures of the receipt.

use regraft_pg::quote::literal;

/// A statement that gives figures of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    /// What the run was: one row.
    Run,
    /// The account of each entity: a row for each.
    Account,
    /// The sum of the accounts: one row.
    Total,
    /// Shares of the rows, each with its denominator.
    Rates,
    /// How long each entity took: a row for each.
    Speed,
    /// What each filter dropped.
    Filters,
    /// What each rule merged into other rows.
    Merges,
    /// Why rows stayed behind.
    Reasons,
    /// What a rollback took away.
    Undone,
    /// The sum of that: one row.
    UndoneTotal,
}

impl Figures {
    /// A word for it, the same in every receipt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Account => "account",
            Self::Total => "total",
            Self::Rates => "rates",
            Self::Speed => "speed",
            Self::Filters => "filters",
            Self::Merges => "merges",
            Self::Reasons => "reasons",
            Self::Undone => "undone",
            Self::UndoneTotal => "undone_total",
        }
    }

    /// What it tells, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "the run, its times and hashes",
            Self::Account => "the account of each entity",
            Self::Total => "the sum of the accounts",
            Self::Rates => "rates, each with its denominator",
            Self::Speed => "time and rows per second of each entity",
            Self::Filters => "rows that a filter of the project dropped, by its name",
            Self::Merges => "rows that a rule of the project merged into others, by its name",
            Self::Reasons => "rows left behind, by reason",
            Self::Undone => "what was undone, in this order",
            Self::UndoneTotal => "the sum of what was undone",
        }
    }

    /// The statement, for one run.
    pub fn statement(self, run_id: &str) -> String {
        let text = match self {
            Self::Run => RUN,
            Self::Account => ACCOUNT,
            Self::Total => TOTAL,
            Self::Rates => RATES,
            Self::Speed => SPEED,
            Self::Filters => FILTERS,
            Self::Merges => MERGES,
            Self::Reasons => REASONS,
            Self::Undone => UNDONE,
            Self::UndoneTotal => UNDONE_TOTAL,
        };
        format!("{};", text.replace("$1", literal(run_id).trim_start()))
    }
}

const RUN: &str = "\
select run_id, command, status,
       to_char(started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as started_at,
       to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as finished_at,
       extract(epoch from finished_at - started_at)::float8 as seconds,
       detail ->> 'project' as project,
       detail ->> 'project_hash' as project_hash,
       detail ->> 'source_catalog' as source_catalog,
       detail ->> 'target_catalog' as target_catalog,
       detail ->> 'plan_hash' as plan_hash,
       detail ->> 'program_version' as program_version,
       detail ->> 'mode' as mode,
       detail ->> 'batch_size' as batch_size,
       detail ->> 'workers' as workers,
       detail ->> 'snapshot' as snapshot
from regraft.migration_control
where run_id = $1 and entity = '' and batch = 0";

const ACCOUNT: &str = "\
select entity, status, source_rows, inserted, updated, unchanged, merged, filtered,
       quarantined, blocked, quarantined + blocked as left_behind, synthesised,
       coalesce((detail ->> 'changed_in_source')::bigint, 0) as changed_in_source
from regraft.migration_control
where run_id = $1 and entity <> '' and batch = 0
order by started_at, entity";

const TOTAL: &str = "\
select count(*) as entities,
       coalesce(sum(source_rows), 0) as source_rows,
       coalesce(sum(inserted), 0) as inserted,
       coalesce(sum(updated), 0) as updated,
       coalesce(sum(unchanged), 0) as unchanged,
       coalesce(sum(merged), 0) as merged,
       coalesce(sum(filtered), 0) as filtered,
       coalesce(sum(quarantined), 0) as quarantined,
       coalesce(sum(blocked), 0) as blocked,
       coalesce(sum(quarantined + blocked), 0) as left_behind,
       coalesce(sum(inserted + updated + unchanged + merged + filtered + quarantined + blocked), 0)
         as accounted,
       coalesce(sum(synthesised), 0) as synthesised,
       coalesce(sum((detail ->> 'changed_in_source')::bigint), 0) as changed_in_source,
       coalesce(sum(source_rows), 0)::float8 / nullif((
         select extract(epoch from finished_at - started_at)::float8
         from regraft.migration_control
         where run_id = $1 and entity = '' and batch = 0), 0) as rows_per_second
from regraft.migration_control
where run_id = $1 and entity <> '' and batch = 0";

const RATES: &str = "\
select r.rate, r.rows, r.denominator, r.denominator_rows,
       100 * r.rows::float8 / nullif(r.denominator_rows, 0)::float8 as percent
from (select coalesce(sum(source_rows), 0) as source_rows,
             coalesce(sum(inserted + updated + unchanged + merged), 0) as in_place,
             coalesce(sum(filtered), 0) as filtered,
             coalesce(sum(quarantined + blocked), 0) as left_behind
      from regraft.migration_control
      where run_id = $1 and entity <> '' and batch = 0) t,
     lateral (values
       (1, 'in place', in_place, 'rows to move', source_rows - filtered),
       (2, 'left behind', left_behind, 'rows to move', source_rows - filtered),
       (3, 'filtered', filtered, 'source rows', source_rows)
     ) r (place, rate, rows, denominator, denominator_rows)
order by r.place";

const SPEED: &str = "\
select e.entity, coalesce(c.mode, '') as mode, coalesce(c.batches_done, 0) as batches,
       extract(epoch from e.finished_at - e.started_at)::float8 as seconds,
       e.source_rows::float8
         / nullif(extract(epoch from e.finished_at - e.started_at)::float8, 0) as rows_per_second
from regraft.migration_control e
left join regraft.migration_checkpoints c using (run_no, entity)
where e.run_id = $1 and e.entity <> '' and e.batch = 0
order by e.started_at, e.entity";

const FILTERS: &str = "\
select c.entity, f.key as filter, f.value::bigint as rows
from regraft.migration_control c, jsonb_each_text(c.detail -> 'filters') f
where c.run_id = $1 and c.entity <> '' and c.batch = 0
order by c.started_at, c.entity, f.key collate \"C\"";

const MERGES: &str = "\
select c.entity, m.key as rule, m.value::bigint as rows
from regraft.migration_control c, jsonb_each_text(c.detail -> 'merged') m
where c.run_id = $1 and c.entity <> '' and c.batch = 0
order by c.started_at, c.entity, m.key collate \"C\"";

/// Why rows of a run (`$1`, its id) stayed behind: counted by the run itself, with what is open of
/// it now. A row with several reasons counts under each.
pub(crate) const REASONS: &str = "\
with noted as (
  select c.started_at, c.entity, r.key as reason, r.value::bigint as rows
  from regraft.migration_control c, jsonb_each_text(c.detail -> 'reasons') r
  where c.run_id = $1 and c.entity <> '' and c.batch = 0),
faults as (
  select q.entity, q.id, q.legacy_id,
         coalesce(r ->> 'code', 'unknown')
           || coalesce(':' || coalesce(r ->> 'constraint', r ->> 'column'), '') as reason,
         min(r ->> 'parent') as parent
  from regraft.migration_quarantine q, jsonb_array_elements(q.reasons) r
  where q.state = 'open' and q.entity in (select entity from noted)
  group by 1, 2, 3, 4),
open as (
  select entity, reason, count(*) as rows,
         string_agg(distinct parent, ' or ') as parent,
         to_json((array_agg(legacy_id order by id))[1:5]) as examples
  from faults group by 1, 2)
select n.entity, n.reason, o.parent, n.rows, coalesce(o.rows, 0) as open_now,
       coalesce(o.examples, '[]') as examples
from noted n left join open o using (entity, reason)
order by n.started_at, n.entity, n.rows desc, n.reason collate \"C\"";

const UNDONE: &str = "\
select u.entity, u.target_table, u.rows, coalesce(u.put_back, 0) as put_back,
       coalesce(u.brought_back, 0) as brought_back, coalesce(u.left, 0) as \"left\", u.quarantine, u.runs
from regraft.migration_control c,
     rows from (jsonb_to_recordset(c.detail -> 'undone')
       as (entity text, target_table text, rows bigint, put_back bigint, brought_back bigint,
           \"left\" bigint, quarantine bigint, runs jsonb))
       with ordinality u (entity, target_table, rows, put_back, brought_back, \"left\", quarantine, runs, place)
where c.run_id = $1 and c.entity = '' and c.batch = 0
order by u.place";

const UNDONE_TOTAL: &str = "\
select count(*) as entities, coalesce(sum(u.rows), 0) as rows,
       coalesce(sum(u.put_back), 0) as put_back,
       coalesce(sum(u.brought_back), 0) as brought_back,
       coalesce(sum(u.left), 0) as \"left\",
       coalesce(sum(u.quarantine), 0) as quarantine
from regraft.migration_control c,
     jsonb_to_recordset(c.detail -> 'undone')
       as u (rows bigint, put_back bigint, brought_back bigint, \"left\" bigint, quarantine bigint)
where c.run_id = $1 and c.entity = '' and c.batch = 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_stands_alone_and_its_run_is_a_literal() {
        let sql = Figures::Total.statement("it's_1");
        assert_eq!(sql.matches("run_id = 'it''s_1'").count(), 2);
        assert!(!sql.contains('$'), "{sql}");
        assert!(sql.ends_with(';'), "{sql}");
    }
}
