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
