-- Version 5 of the control tables: batches that are handed out to workers on other hosts.

create table regraft.migration_offers (
  run_no      integer     not null,
  entity      text        not null,
  epoch       bigint      not null,
  snapshot    text        not null,
  legacy_ids  text[],
  error       jsonb,
  offered_at  timestamptz not null default clock_timestamp(),
  primary key (run_no, entity)
);
comment on table regraft.migration_offers is 'Entities whose batches are being handed out to workers';
comment on column regraft.migration_offers.epoch is 'The epoch of the checkpoint: an offer of an older one has been withdrawn';
comment on column regraft.migration_offers.snapshot is 'The snapshot of the source that the run reads';
comment on column regraft.migration_offers.legacy_ids is 'The rows that the batches are about; NULL for all of their ranges';
comment on column regraft.migration_offers.error is 'What a worker could not get past: the run ends with it';

create table regraft.migration_workers (
  worker_id   uuid        primary key,
  name        text        not null,
  slots       integer     not null check (slots > 0),
  started_at  timestamptz not null default clock_timestamp(),
  seen_at     timestamptz not null default clock_timestamp(),
  run_id      text,
  batches     bigint      not null default 0,
  rows        bigint      not null default 0
);
comment on table regraft.migration_workers is 'Processes that take batches';
comment on column regraft.migration_workers.name is 'Host and process';
comment on column regraft.migration_workers.slots is 'Batches that it takes side by side';
comment on column regraft.migration_workers.seen_at is 'When it was last heard of';
comment on column regraft.migration_workers.run_id is 'The run that its last batch was of';
comment on column regraft.migration_workers.batches is 'Batches that it has moved';
comment on column regraft.migration_workers.rows is 'Source rows of these';

create table regraft.migration_proofs (
  validation_id uuid        not null,
  entity        text        not null,
  answer        jsonb,
  offered_at    timestamptz not null default clock_timestamp(),
  primary key (validation_id, entity)
);
comment on table regraft.migration_proofs is 'Entities that workers examine for a validation at work';
comment on column regraft.migration_proofs.answer is 'What was found; NULL while nobody has said';
