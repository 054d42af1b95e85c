-- The benchmark's legacy tables; :rows and :dirty are replaced by numbers.
create table customer (id integer primary key, name text not null, created_at timestamptz not null);
insert into customer
select n, 'customer ' || n, timestamptz '2019-01-01 00:00+00' + n * interval '61 seconds'
from generate_series(1, greatest(:rows / 10, 1000)) n;

create table office (id integer primary key, name text not null);
insert into office select n, 'office ' || n from generate_series(1, 1000) n;

create table job (
  id integer primary key, customer_id integer not null, office_id integer not null,
  status smallint not null, title text not null, note text, detail jsonb not null,
  created_at timestamptz not null);
insert into job
select n, 1 + (hashint8(n) & 2147483647) % greatest(:rows / 10, 1000), 1 + (hashint8(n + 7) & 2147483647) % 1000,
       (hashint8(n + 13) & 2147483647) % 4, 'job number ' || n || ' of the day',
       case when n % 3 = 0 then null else 'note for the laboratory about piece ' || n end,
       jsonb_build_object('step', n % 9, 'checked', n % 2 = 0, 'by', 'user' || n % 300),
       timestamptz '2020-01-01 00:00+00' + n * interval '37 seconds'
from generate_series(1, :rows) n;

-- The same rows with dirt: every bad row has one of ten faults.
create table work_clean (
  id integer primary key, customer_id integer, office_id integer, status smallint, title text,
  code text, amount numeric, quantity bigint, detail text, created_at timestamptz);
create table work_few (like work_clean including all);
create table work_many (like work_clean including all);

create function fill_work(into_table text, bad_of_100 integer) returns void language plpgsql as $$
begin
  execute format($f$
    insert into %I
    select n,
      case when bad and kind = 0 then -n else 1 + (hashint8(n) & 2147483647) %% greatest(:rows / 10, 1000) end,
      case when bad and kind = 1 then 5000 + n else 1 + (hashint8(n + 7) & 2147483647) %% 1000 end,
      case when bad and kind = 2 then 9 else (hashint8(n + 13) & 2147483647) %% 4 end,
      case when bad and kind = 3 then null when bad and kind = 4 then repeat('long ', 20) else 'work ' || n end,
      case when bad and kind = 5 then 'C' || n - 1 else 'C' || n end,
      case when bad and kind = 6 then 123456789012.5 when bad and kind = 7 then -1 else (n %% 5000) + 0.25 end,
      case when bad and kind = 8 then 3000000000 else n %% 40 end,
      case when bad and kind = 9 then '{"broken": ' else '{"step": ' || n %% 9 || ', "checked": true}' end,
      timestamptz '2020-01-01 00:00+00' + n * interval '37 seconds'
    from (select n, (hashint8(n + 99) & 2147483647) %% 100 < %s as bad, n %% 10 as kind
          from generate_series(1, :dirty) n) g
  $f$, into_table, bad_of_100);
end $$;
select fill_work('work_clean', 0);
select fill_work('work_few', 1);
select fill_work('work_many', 30);
analyze;
