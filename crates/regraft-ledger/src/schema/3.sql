-- Version 3 of the control tables: what later changes are found by.

-- Ranges are of 64 legacy ids now, not of 128: all rows are looked at once more.
delete from regraft.migration_agreed_ranges;

-- Ranges that were looked at and are not agreed on have no sum: all ranges with rows are known
-- without going through the mappings.
alter table regraft.migration_agreed_ranges alter column source_sum drop not null;
comment on table regraft.migration_agreed_ranges is 'Key ranges of an entity that were looked at';
comment on column regraft.migration_agreed_ranges.source_sum is 'The sum of the source''s rows when both sides agreed on all of them; NULL where they did not';

-- How far the cursors of entities have been read.
create table regraft.migration_cursors (
  entity    text        not null,
  run_no    integer     not null,
  layout    text        not null,
  mark      text,
  open      text[],
  snapshot  text        not null,
  complete  boolean     not null,
  looked_at timestamptz not null default clock_timestamp(),
  primary key (entity, run_no)
);
comment on table regraft.migration_cursors is 'How far the cursor of an entity had been read by which run';
comment on column regraft.migration_cursors.layout is 'The expression of the cursor';
comment on column regraft.migration_cursors.mark is 'Its highest value in the snapshot of the run';
comment on column regraft.migration_cursors.open is 'Transactions that were open in the source just before the snapshot; NULL where that cannot be known';
comment on column regraft.migration_cursors.snapshot is 'The snapshot of the source, as pg_current_snapshot() prints it';
comment on column regraft.migration_cursors.complete is 'Whether all rows were looked at, and not only those that the cursor points out';

-- Runs, and the entities of runs, without going through their batches.
create index migration_control_entities on regraft.migration_control (entity, run_no) where batch = 0;

-- Rows that the source's merge rule makes one with another, and that have a row of their own.
alter table regraft.data_differentials
  drop constraint data_differentials_comparison_type_check,
  add constraint data_differentials_comparison_type_check check (comparison_type in
    ('summary', 'conflict', 'changed_in_target', 'deleted_in_source', 'deleted_in_target', 'merged_in_source', 'refused'));
