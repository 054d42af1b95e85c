-- Version 1 of the control tables. Applied once, in one transaction with the entry in
-- regraft.ledger_version. Later versions are further files; a published file never changes.

create schema if not exists regraft;
revoke all on schema regraft from public;

comment on schema regraft is 'regraft: the ledger of the migration. Quarantine holds raw row values.';

create table regraft.ledger_version (
  version      integer primary key,
  program      text not null,
  installed_at timestamptz not null default now()
);

-- Runs, their entities and their batches: one row each, told apart by the key.
--   (run, '', 0) the run · (run, entity, 0) an entity of it · (run, entity, n) its batch n
create table regraft.migration_control (
  run_no      integer not null,
  entity      text    not null default '',
  batch       integer not null default 0,
  run_id      text    not null,
  command     text    not null,
  status      text    not null check (status in ('pending', 'running', 'interrupted', 'failed', 'done', 'rolled_back')),
  low_key     text    collate "C",
  high_key    text    collate "C",
  source_rows bigint  not null default 0,
  inserted    bigint  not null default 0,
  updated     bigint  not null default 0,
  unchanged   bigint  not null default 0,
  merged      bigint  not null default 0,
  filtered    bigint  not null default 0,
  quarantined bigint  not null default 0,
  blocked     bigint  not null default 0,
  synthesised bigint  not null default 0,
  detail      jsonb   not null default '{}',
  started_at  timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  primary key (run_no, entity, batch),
  constraint account_balances check (
    status <> 'done' or
    source_rows = inserted + updated + unchanged + merged + filtered + quarantined + blocked),
  constraint counts_not_negative check (
    least(source_rows, inserted, updated, unchanged, merged, filtered, quarantined, blocked, synthesised) >= 0)
);
create unique index migration_control_run_id on regraft.migration_control (run_id) where entity = '' and batch = 0;
comment on table regraft.migration_control is 'Runs (entity empty), entities of a run (batch 0) and batches, each with its account';

-- Where each entity of a run stands. The epoch fences: a batch commits only while it holds.
create table regraft.migration_checkpoints (
  id           uuid    not null default gen_random_uuid() primary key,
  run_no       integer not null,
  entity       text    not null,
  epoch        bigint  not null,
  mode         text    not null check (mode in ('bulk', 'in-place')),
  phase        text    not null check (phase in ('loading', 'settling', 'merging', 'linking', 'done')),
  batches_done integer not null default 0,
  rows_done    bigint  not null default 0,
  rows_total   bigint  not null default 0,
  last_key     text,
  dropped      jsonb   not null default '[]',
  updated_at   timestamptz not null default clock_timestamp(),
  unique (run_no, entity)
);
comment on column regraft.migration_checkpoints.dropped is 'Indexes and constraints taken off for a bulk load, with the statements that bring them back';

-- Legacy id -> UUID. One partition per entity, each with a unique index on the legacy id
-- (as a number where the ids are numbers), which is what makes every load idempotent.
create table regraft.migration_mappings (
  entity              text    not null,
  legacy_id           text    collate "C" not null,
  new_id              uuid    not null,
  source_fingerprint  uuid    not null,
  column_fingerprints bytea   not null,
  run_no              integer not null,
  batch               integer not null,
  merged_into         text    collate "C",
  agreed_run          integer
) partition by list (entity);
comment on column regraft.migration_mappings.agreed_run is 'The run that noted the fingerprints, where that is not the run that wrote the row; its record holds the columns they are of';
comment on column regraft.migration_mappings.merged_into is 'The legacy id of the row that this one was merged into by a rule of the project; NULL for a row of its own';
comment on column regraft.migration_mappings.source_fingerprint is 'XXH3-128 of the source row as last agreed on';
comment on column regraft.migration_mappings.column_fingerprints is '32 bits of XXH3 per mapped column of the target row as last agreed on, in the order of the entity''s columns';

create table regraft.migration_quarantine (
  id            bigint generated always as identity primary key,
  entity        text    not null,
  legacy_id     text    collate "C" not null,
  bucket        text    not null check (bucket in ('quarantined', 'blocked')),
  reasons       jsonb   not null,
  source_row    jsonb,
  state         text    not null default 'open' check (state in ('open', 'resolved', 'dropped')),
  run_no        integer not null,
  batch         integer not null,
  tries         integer not null default 1,
  first_seen_at timestamptz not null default now(),
  last_tried_at timestamptz not null default now(),
  unique (entity, legacy_id)
);
comment on column regraft.migration_quarantine.reasons is 'Every fault of the row: code, column, constraint, SQLSTATE, parent entity and parent legacy id';

-- What was there before a run changed it.
create table regraft.migration_changes (
  run_no              integer not null,
  batch               integer not null,
  entity              text    not null,
  legacy_id           text    collate "C" not null,
  new_id              uuid    not null,
  operation           text    not null check (operation in ('update', 'delete')),
  columns             text[]  not null,
  before              jsonb   not null,
  after               jsonb,
  source_fingerprint  uuid    not null,
  column_fingerprints bytea   not null,
  agreed_run          integer,
  primary key (run_no, entity, legacy_id)
);
comment on table regraft.migration_changes is 'Rows that a run overwrote or deleted: their values before and after, and what the ledger had agreed on. Holds raw row values';

create table regraft.migration_validation_reports (
  id                  uuid primary key default gen_random_uuid(),
  validation_id       uuid not null,
  validation_type     text not null,
  entity              text not null,
  records_validated   bigint not null,
  validation_passed   boolean not null,
  discrepancies_found bigint not null,
  discrepancy_details jsonb not null default '[]',
  execution_time_ms   bigint not null,
  context             jsonb not null default '{}',
  generated_at        timestamptz not null default now(),
  constraint passed_means_no_discrepancy check (validation_passed = (discrepancies_found = 0))
);
comment on table regraft.migration_validation_reports is 'What validations found: a row per entity and type of proof, and one of type summary for each validation as a whole. They expire by the project''s setting';
comment on column regraft.migration_validation_reports.context is 'Of a summary: the project and the program, what was asked for, and the whole result with what was not checked';
