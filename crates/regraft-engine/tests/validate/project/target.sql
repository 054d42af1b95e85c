create type temper as enum ('happy', 'calm', 'sad', 'unknown');
create type grade as enum ('none', 'low', 'mid', 'high');
create domain amount as numeric(40, 20);

create table shops (
  id uuid primary key,
  legacy_code text unique,
  title text not null,
  kind text not null
);

create table people (
  id uuid primary key,
  legacy_id integer unique,
  joined timestamptz not null,
  short char(8),
  name text,
  email varchar(60),
  note text,
  born date,
  local timestamp,
  clock time,
  span interval,
  grade grade not null,
  rank integer,
  total bigint,
  wage amount,
  ratio float8,
  small float8,
  active boolean,
  token uuid,
  network inet,
  raw bytea,
  bits bit varying,
  tags text[],
  marks numeric[],
  grid int[],
  temper temper,
  tempers temper[],
  during daterange,
  extra jsonb,
  built jsonb,
  prefs jsonb,
  strict_json json,
  origin text not null,
  score numeric(8, 2) not null,
  boss_id uuid references people (id),
  shop_id uuid references shops (id),
  updated_at timestamptz not null default now(),
  made_at timestamptz
);

create table logins (
  id uuid primary key references people (id),
  email text
);

create table tokens (
  id uuid primary key,
  rank integer not null
);

create table messages (
  id uuid primary key,
  legacy_id bigint,
  person_id uuid references people (id),
  about_id uuid,
  reply_id uuid references messages (id),
  shop_id uuid references shops (id),
  fallback_id uuid,
  body text
);
