-- The generator, part 1: parameters, and the functions that turn them into rows.
--
-- Parameters are custom settings of the session (see README.md):
--   regraft.scale  1 is the size of the real system         (default 1)
--   regraft.seed   another seed gives other rows            (default 1)
--   regraft.dirt   multiplies the rates of faults, 0 = none (default 1)
--
-- Nothing here is random: every value is a hash of a row's number, of a salt that is its
-- column's own, and of the seed. The same parameters give the same rows, bit for bit.

-- It takes constraints off and fills tables: that is for an empty schema only.
do $$
begin
    if exists (select from auth_user) or exists (select from dispatch_office) or exists (select from dispatch_instruction) then
        raise exception 'the generator needs an empty legacy schema, and this one has rows'
            using hint = 'load source/schema.sql and source/constraints.sql into a new database first';
    end if;
end
$$;

create schema regraft_generator;
set search_path = regraft_generator, public;

-- What was injected where, and what a migration must do about it.
create table regraft_dirt (
    kind        text not null,
    entity      text,            -- NULL: no entity reads this table yet
    table_name  text not null,
    legacy_id   bigint not null, -- the entity's legacy id, in the end a text; the table's id where entity is NULL
    column_name text,
    detail      text not null,
    expect      text not null check (expect ~ '^(kept|undecided|filtered:.+|blocked:.+|quarantined:[a-z_]+:.+)$')
);

create index on regraft_dirt (legacy_id);

comment on table regraft_dirt is
    'Every fault the generator injected. expect: quarantined:<reason>:<column or constraint>, '
    'blocked:<parent entity>, filtered:<filter>, kept, or undecided where no entity reads the table yet.';

-- The same for the entities whose keys are texts; part 12 brings both together.
create table dirt_of_text_keys (like regraft_dirt including constraints);
alter table dirt_of_text_keys alter column legacy_id type text;

-- The parameters become constants of the functions, so that they cost nothing per row.
do $$
declare
    scale float8 := coalesce(nullif(current_setting('regraft.scale', true), ''), '1')::float8;
    seed bigint := coalesce(nullif(current_setting('regraft.seed', true), ''), '1')::bigint;
    dirt float8 := coalesce(nullif(current_setting('regraft.dirt', true), ''), '1')::float8;
    -- A quarter of the range leaves room for the salt.
    base bigint := hashint8extended(seed, 0) / 4;
begin
    if scale <= 0 or scale > 100 or scale = 'NaN' then
        raise exception 'regraft.scale must be above 0 and at most 100';
    end if;
    if dirt < 0 or dirt > 10 or dirt = 'NaN' then
        raise exception 'regraft.dirt must be between 0 and 10';
    end if;
    execute format($f$
        -- 53 bits of the hash of a number, as a fraction from 0 up to 1.
        create function roll(n bigint, salt integer) returns float8
            language sql immutable parallel safe
            return ((hashint8extended(n, %1$s + salt) >> 11) & 9007199254740991)::float8
                / 9007199254740992;

        -- The hash itself, for tables so large that one hash must do for several columns.
        create function bits(n bigint, salt integer) returns bigint
            language sql immutable parallel safe
            return hashint8extended(n, %1$s + salt) & 9223372036854775807;

        -- A number from 0 up to options - 1.
        create function pick(n bigint, salt integer, options integer) returns integer
            language sql immutable parallel safe
            return ((hashint8extended(n, %1$s + salt) & 2147483647) %% options)::integer;

        -- A number of rows at this scale; at least one.
        create function many(real_size bigint) returns bigint
            language sql immutable parallel safe
            return greatest(1, round(real_size * %2$s::float8))::bigint;

        -- How many of `size` rows a fault hits that has the given rate.
        create function faults(rate float8, size bigint, fewest bigint default 2) returns bigint
            language sql immutable parallel safe
            return case when %3$s::float8 = 0 then 0
                else greatest(fewest, round(rate * size * %3$s::float8)) end::bigint;
    $f$, base, scale, dirt);
end
$$;

-- `size` ids in ascending order, of which a share of `kept` is in use and the rest are gaps.
create function sparse_ids(size bigint, kept float8, salt integer)
    returns table (place bigint, id bigint)
    language sql immutable
as $$
    select row_number() over (order by g.id), g.id
    from (
        select s.id
        from generate_series(1, (size / kept * 1.02)::bigint + 50) s (id)
        where roll(s.id, salt) < kept
        order by s.id
        limit size
    ) g
$$;

create function one_of(n bigint, salt integer, options text[]) returns text
    language sql immutable parallel safe
    return options[1 + pick(n, salt, cardinality(options))];

-- A moment of a working day in one of the zones the customers live in. `progress` runs
-- from 0 (1 May 2017) to 1 (17 November 2025).
create function working_time(progress float8, n bigint, salt integer) returns timestamptz
    language sql immutable parallel safe
    return to_timestamp(
        86400 * floor(17287 + 3122 * progress)
        + 3600 * (9 - ('{-8,-7,-6,-5,-5,5.5,7,9,9}'::float8[])[1 + pick(n, salt, 9)])
        + round(32400000000 * roll(n, salt + 1)) / 1000000);

-- Some seconds after a moment, but not in the future.
create function later(since timestamptz, seconds float8) returns timestamptz
    language sql immutable parallel safe
    return least(since + make_interval(secs => seconds), timestamptz '2025-11-17 23:00+00');

-- People who can't be anybody: the parts make no names that are in use, the Japanese ones
-- say `fictitious`, `sample` or `test`.
create function writes_japanese(n bigint) returns boolean
    language sql immutable parallel safe
    return roll(n, 11) < 0.14;

create function given_name(n bigint) returns text
    language sql immutable parallel safe
    return case when writes_japanese(n) then
        one_of(n, 12, '{一号,二葉,三彩,四季,五葉,六花,七星,八雲,九重,十色}')
    else
        one_of(n, 13, '{Zo,Kel,Vex,Tro,Lu,Ari,Bes,Dro,Fen,Gla,Hes,Ixo,Jun,Ne,Oth,Pry,Qui,Sé,Tül,Wyñ}')
        || one_of(n, 14, '{rindo,dravo,lianth,sette,borix,quill,mossa,vanno,zirra,pello,ntha,krim}')
    end;

create function family_name(n bigint) returns text
    language sql immutable parallel safe
    return case when writes_japanese(n) then
        one_of(n, 15, '{架空,見本,試験,仮名,例題,模造,想像,雛形}')
    else
        one_of(n, 16, '{Quell,Brax,Thorn,Vand,Mist,Pell,Grim,Ost,Fael,Skar,Ümbr,O''Zy,van Ix}')
        || one_of(n, 17, '{wick,mere,holdt,axo,ingham,oxby,ander,uvik,essel,ordo,-Nyx}')
    end;

-- What people write to each other: none to seven sentences, in English or Japanese, with
-- the line breaks, quotes and backslashes that text has.
create function sentence(n bigint, salt integer) returns text
    language sql immutable parallel safe
    return case when roll(n, 18) < 0.14 then
        one_of(n, salt, '{上顎の正中線をご確認ください。,下顎前歯のステップを減らしてください。,アタッチメントの位置は問題ありません。,次回の来院は来月の予定です。,スキャンを再送しました。,抜歯は行わない方針です。,患者様の希望で治療期間を短縮します。,印象材に気泡がありました。}')
    else
        one_of(n, salt, array[
            'Please check the midline on the upper arch before we go on.',
            'The bite was taken again, see the new scan.',
            'No IPR between 13 and 14, the patient does not want it.',
            'Looks good, approved.',
            E'Three things:\n1) overjet\n2) the attachment on 23\n3) spacing in the lower front',
            'Could you send the "final" set to the second office?',
            'Files are in C:\scans\new, the older ones can go.',
            'The last aligner does not seat on the molars; tray #7 fits.',
            'Extraction was done; start with the lower jaw; 50% slower.',
            'Patient travels until spring — ship everything at once 🙂.',
            E'\tcopied from the form: crowding, class II, deep bite'])
    end;

create function message(n bigint, salt integer) returns text
    language sql immutable parallel safe
    return concat_ws(' ',
        sentence(n, salt),
        case when roll(n, salt + 1) < 0.55 then sentence(n, salt + 2) end,
        case when roll(n, salt + 1) < 0.25 then sentence(n, salt + 3) end,
        case when roll(n, salt + 1) < 0.10 then sentence(n, salt + 4) end,
        case when roll(n, salt + 1) < 0.03 then
            sentence(n, salt + 5) || ' ' || sentence(n, salt + 6) || ' ' || sentence(n, salt + 7)
        end);

-- Keys, indexes and foreign keys are taken off for the load and put back by the last part.
-- The order in which they go is the reverse of the order in which they come back.
create table held_back (
    place   integer generated always as identity,
    table_name text not null,
    name       text not null,
    kind       "char" not null, -- p, u, f: constraints; i: an index
    definition text not null
);

insert into held_back (table_name, name, kind, definition)
select conrelid::regclass::text, conname, contype, pg_get_constraintdef(c.oid)
from pg_constraint c
where connamespace = 'public'::regnamespace and contype in ('p', 'u')
order by contype, conrelid::regclass::text, conname;

insert into held_back (table_name, name, kind, definition)
select i.indrelid::regclass::text, r.relname, 'i', pg_get_indexdef(i.indexrelid)
from pg_index i
join pg_class r on r.oid = i.indexrelid
where r.relnamespace = 'public'::regnamespace
  and not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u'))
order by 1, 2;

insert into held_back (table_name, name, kind, definition)
select conrelid::regclass::text, conname, contype, pg_get_constraintdef(c.oid)
from pg_constraint c
where connamespace = 'public'::regnamespace and contype = 'f'
order by conrelid::regclass::text, conname;

do $$
declare
    held record;
begin
    for held in select * from held_back order by place desc loop
        if held.kind = 'i' then
            execute format('drop index %I', held.name);
        else
            execute format('alter table %s drop constraint %I', held.table_name, held.name);
        end if;
    end loop;
end
$$;

reset search_path;
