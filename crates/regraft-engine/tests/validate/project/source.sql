create type mood as enum ('sad', 'calm', 'happy');

create table shop (
  code text primary key,
  title text,
  owner int,
  hidden boolean not null default false
);

create table person (
  id int primary key,
  joined timestamptz not null,
  short char(6),
  name text,
  email varchar(60),
  note text,
  born date,
  local timestamp,
  clock time,
  span interval,
  level int,
  rank smallint,
  total bigint,
  wage numeric,
  ratio float8,
  small real,
  active boolean,
  token uuid,
  network inet,
  raw bytea,
  bits bit varying,
  tags text[],
  marks numeric[],
  grid int[],
  mood mood,
  moods mood[],
  during daterange,
  extra jsonb,
  prefs text,
  strict_json text,
  boss int,
  shop text
);

create table message (
  id bigint primary key,
  person int,
  about_kind text,
  about int,
  seen_in text,
  reply_to bigint,
  body text
);

insert into shop
select 'S' || n, 'Shop ' || n, n, n = 9 from generate_series(1, 10) n;

insert into person
select n, timestamptz '2020-01-01 10:00:00.123456+00' + n * interval '1 day 00:00:00.000001',
  'c' || n, 'Name ' || n, 'p' || n || '@example.org', case when n % 3 = 0 then '' when n % 3 = 1 then 'note ' || n end,
  date '1970-01-01' + n, timestamp '2001-02-03 04:05:06.000007' + n * interval '1 hour', time '01:02:03.000004' + n * interval '1 minute',
  n * interval '1 month 2 days 00:00:00.5', n % 4, n, n::bigint * 10000000000,
  n * 1.0625, n / 3.0::float8, (n / 3.0)::real, n % 2 = 0,
  ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, ('10.0.' || n || '.0/24')::inet,
  decode(lpad(to_hex(n), 8, '0'), 'hex'), ('1' || repeat('0', n))::varbit, array['a' || n, null, 'b'], array[n + 0.50, n], array[[n, 2], [3, 4]],
  (array['sad', 'calm', 'happy'])[1 + n % 3]::mood, array['sad', 'happy']::mood[],
  daterange(date '2000-01-01', date '2000-01-01' + n), jsonb_build_object('n', n, 'deep', jsonb_build_object('x', n * 1.50)),
  '{"theme": "dark", "size": ' || n || '.0, "size": ' || n || '.10, "o": {"b": 1, "a": [1e2]}}', '[' || n || ', "x"]',
  case when n > 1 then n / 2 end, 'S' || 1 + n % 10
from generate_series(1, 30) n;

-- What is easily mistaken for something else.
update person set wage = 'NaN', ratio = 'NaN', small = 'NaN', born = 'infinity', joined = '-infinity', local = 'infinity' where id = 11;
update person set ratio = '-0', small = '-0', wage = 0.000, total = -9223372036854775808, born = '0044-03-15 BC', span = '24:00:00' where id = 12;
update person set ratio = 'infinity', wage = 12345678901234567890.12345678901234567890, name = E'tab\t quote" back\\slash é 😀', email = 'A@Example.org' where id = 13;
update person set name = 'trailing  ', tags = '[3:4]={x,y}', marks = '{}', grid = null, moods = '{}', raw = '', bits = B'' where id = 14;
update person set prefs = '  ', extra = 'null' where id = 15;
update person set prefs = 'not json "', extra = '{"n": 1.000}' where id = 16;
update person set prefs = null, extra = null, strict_json = null, mood = null, tags = null where id = 17;
update person set prefs = '{"deep": ' || repeat('[', 200) || repeat(']', 200) || '}' where id = 18;
-- Left behind: an unmapped level, JSON that is none, and who hangs on them.
update person set level = 9, boss = null where id = 20;
update person set strict_json = '{"open": ' where id = 21;
update person set boss = 20 where id = 22;
update person set boss = 99 where id = 23;
update person set boss = 1 where id >= 24;

insert into message
select n, 1 + n % 30, case n % 3 when 0 then 'person' when 1 then 'login' else 'other' end, 1 + n % 30,
  'S' || 1 + n % 12, case when n > 10 then n - 10 end, 'Body ' || n
from generate_series(1, 60) n;
update message set person = null, about = null where id = 7;
