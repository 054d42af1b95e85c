create type work_status as enum ('pending', 'in_progress', 'completed', 'cancelled');
create table customers (id uuid primary key, name text not null);
create table offices (id uuid primary key, name text not null);
create table jobs (
  id uuid primary key,
  customer_id uuid not null references customers (id),
  office_id uuid not null references offices (id),
  status work_status not null,
  title text not null,
  note text,
  detail jsonb not null,
  created_at timestamptz not null,
  legacy_job_id integer not null unique);
create index jobs_customer_id on jobs (customer_id);
create index jobs_office_id on jobs (office_id);

create table work_clean (
  id uuid primary key,
  customer_id uuid not null references customers (id),
  office_id uuid not null references offices (id),
  status work_status not null,
  title varchar(60) not null,
  code text not null,
  amount numeric(10,2) not null check (amount >= 0),
  quantity integer not null,
  detail jsonb,
  created_at timestamptz not null,
  legacy_work_id integer not null,
  unique (code));
create index on work_clean (customer_id);
create index on work_clean (office_id);
create table work_few (like work_clean including all);
alter table work_few add foreign key (customer_id) references customers (id), add foreign key (office_id) references offices (id);
create table work_many (like work_clean including all);
alter table work_many add foreign key (customer_id) references customers (id), add foreign key (office_id) references offices (id);
