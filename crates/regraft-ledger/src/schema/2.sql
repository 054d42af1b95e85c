-- Version 2 of the control tables: what undoing a change needs.

alter table regraft.migration_changes
  add column written_run   integer,
  add column written_batch integer,
  add column merged_into   text collate "C",
  add column form          text not null default 'json' check (form in ('json', 'text'));
alter table regraft.migration_changes alter column form set default 'text';
comment on column regraft.migration_changes.written_run is 'Of a deleted row: the run that had written it';
comment on column regraft.migration_changes.written_batch is 'Of a deleted row: the batch that had written it';
comment on column regraft.migration_changes.merged_into is 'Of a deleted mapping: the legacy id of the row that it was merged into';
comment on column regraft.migration_changes.form is 'How the values are kept: each in the text form of its type (text), which gives it back exactly, or as version 1 of the control tables did (json)';

-- Rows of the quarantine that are not open any more.
alter table regraft.migration_quarantine
  add column closed_at timestamptz,
  add column note      text;
comment on column regraft.migration_quarantine.state is 'open; resolved: it was moved, or is not to be moved any more; dropped: somebody decided that it is not moved, and it still counts under its bucket';
comment on column regraft.migration_quarantine.closed_at is 'When it was resolved or dropped';
comment on column regraft.migration_quarantine.note is 'Why it was dropped, or resolved without being moved';

-- Key ranges of an entity in which both sides held the same when they were last looked at.
create table regraft.migration_agreed_ranges (
  entity      text    not null,
  range       bigint  not null,
  source_rows bigint  not null,
  kept_rows   bigint  not null,
  source_sum  numeric not null,
  run_no      integer not null,
  layout      text    not null,
  primary key (entity, range)
);

-- What comparisons found: a summary for each entity, and every row that somebody has to decide on.
create table regraft.data_differentials (
  id                  uuid primary key default gen_random_uuid(),
  operation_id        text not null,
  entity              text not null,
  comparison_type     text not null check (comparison_type in
                        ('summary', 'conflict', 'changed_in_target', 'deleted_in_source', 'deleted_in_target', 'refused')),
  legacy_id           text collate "C",
  new_id              uuid,
  columns             text[] not null default '{}',
  record_count        bigint not null default 1 check (record_count >= 0),
  detail              jsonb not null default '{}',
  resolution_strategy text check (resolution_strategy in ('source_wins', 'target_wins', 'newest', 'manual', 'merge', 'value', 'gone')),
  resolved            boolean not null default false,
  resolved_at         timestamptz,
  created_at          timestamptz not null default clock_timestamp(),
  constraint resolved_has_a_time check (resolved = (resolved_at is not null))
);
create unique index data_differentials_open on regraft.data_differentials (entity, legacy_id)
  where legacy_id is not null and not resolved;
create index data_differentials_operation on regraft.data_differentials (operation_id);
comment on table regraft.data_differentials is 'What comparisons of both sides found. Conflicts hold raw row values until they are resolved';
comment on column regraft.data_differentials.detail is 'Of a summary: the counts. Of a row: by column what the source and the target say, and the fingerprint of what both last agreed on';
