-- Version 4 of the control tables: jobs that run by the clock, and what came of their runs.

create table regraft.synchronization_jobs (
  job_id                uuid        primary key default gen_random_uuid(),
  job_name              text        not null unique check (job_name <> '' and length(job_name) <= 100),
  job_type              text        not null default 'scheduled_sync' check (job_type = 'scheduled_sync'),
  schedule              text        not null,
  timezone              text        not null,
  entities_to_sync      jsonb       not null check (jsonb_typeof(entities_to_sync) = 'array' and entities_to_sync <> '[]'),
  conflict_resolution   text        check (conflict_resolution in ('source_wins', 'target_wins', 'newest', 'manual')),
  deletes               text        check (deletes in ('mirror', 'soft', 'ignore')),
  max_records_per_batch integer     not null check (max_records_per_batch between 1000 and 100000),
  time_limit_seconds    bigint      not null check (time_limit_seconds > 0),
  status                text        not null default 'scheduled' check (status in ('scheduled', 'running', 'paused', 'cancelled')),
  status_after_run      text        not null default 'scheduled' check (status_after_run in ('scheduled', 'paused', 'cancelled')),
  next_run_at           timestamptz,
  last_run_at           timestamptz,
  is_retry              boolean     not null default false,
  stop_asked            boolean     not null default false,
  lease_epoch           bigint      not null default 0,
  leased_by             text,
  leased_until          timestamptz,
  created_at            timestamptz not null default clock_timestamp(),
  check ((status = 'scheduled') = (next_run_at is not null) or status = 'running'),
  check ((status = 'running') = (leased_until is not null))
);
comment on table regraft.synchronization_jobs is 'Jobs that carry changes over by the clock';
comment on column regraft.synchronization_jobs.schedule is 'As it was written: a word, an interval, or a cron expression';
comment on column regraft.synchronization_jobs.status is 'running while a process has it under its lease';
comment on column regraft.synchronization_jobs.status_after_run is 'What a running job becomes when its run has ended';
comment on column regraft.synchronization_jobs.next_run_at is 'When it is due; set again as soon as a run begins';
comment on column regraft.synchronization_jobs.is_retry is 'Whether the next run is due because the last one was cut off';
comment on column regraft.synchronization_jobs.stop_asked is 'Whether the run at work is to stop';
comment on column regraft.synchronization_jobs.lease_epoch is 'Rises with each run: who holds an older one must not go on';
comment on column regraft.synchronization_jobs.leased_until is 'After this its process is taken for gone';
create index synchronization_jobs_due on regraft.synchronization_jobs (next_run_at) where status = 'scheduled';

create table regraft.sync_run_history (
  sync_run_id         uuid        primary key default gen_random_uuid(),
  job_id              uuid        not null references regraft.synchronization_jobs on delete cascade,
  run_type            text        not null check (run_type in ('scheduled', 'manual', 'retry')),
  due_at              timestamptz,
  started_at          timestamptz not null,
  completed_at        timestamptz,
  status              text        not null default 'running' check (status in ('running', 'completed', 'failed', 'cancelled')),
  run_id              text,
  records_synced      bigint      not null default 0,
  records_failed      bigint      not null default 0,
  conflicts           bigint      not null default 0,
  error_summary       text,
  entities_processed  jsonb       not null default '[]',
  performance_metrics jsonb       not null default '{}',
  worker              text        not null,
  backend_pid         integer,
  backend_start       timestamptz,
  lease_epoch         bigint      not null,
  check ((status = 'running') = (completed_at is null)),
  check (status <> 'failed' or error_summary is not null)
);
comment on table regraft.sync_run_history is 'The runs of jobs';
comment on column regraft.sync_run_history.due_at is 'The time of the schedule that it is the run of; NULL for one that somebody has started';
comment on column regraft.sync_run_history.run_id is 'Its run in migration_control';
comment on column regraft.sync_run_history.records_synced is 'Rows of the target inserted, updated or deleted';
comment on column regraft.sync_run_history.records_failed is 'Rows that could not be moved';
comment on column regraft.sync_run_history.conflicts is 'Rows that somebody has to decide on';
comment on column regraft.sync_run_history.worker is 'The process that ran it';
comment on column regraft.sync_run_history.backend_pid is 'The server process that holds the lock of its run: ended when the process that ran it is taken for gone';
create unique index sync_run_history_due on regraft.sync_run_history (job_id, due_at) where run_type = 'scheduled';
create unique index sync_run_history_at_work on regraft.sync_run_history (job_id) where status = 'running';
create index sync_run_history_by_job on regraft.sync_run_history (job_id, started_at);
