-- The generator, part 12: sequences go on after the last id, the planner learns the sizes, and
-- everything is dropped that the generator needed, but for the manifest.

do $$
declare
    owned record;
    made record;
    last bigint;
begin
    -- The ids at the end of integer are a fault; a sequence that followed them could give no more.
    for owned in
        select c.oid::regclass as table_name, pg_get_serial_sequence(c.oid::regclass::text, 'id') as sequence
        from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
    loop
        execute format('select max(id) from %s where id < 2000000000', owned.table_name) into last;
        if last is not null then
            perform setval(owned.sequence, last);
        end if;
        execute format('analyze %s', owned.table_name);
    end loop;

    for made in
        select c.oid::regclass as name, case c.relkind when 'v' then 'view' else 'table' end as what
        from pg_class c
        where c.relnamespace = 'regraft_generator'::regnamespace and c.relkind in ('r', 'v')
          and c.relname not in ('regraft_dirt', 'dirt_of_text_keys')
        order by c.relkind = 'r', c.oid desc
    loop
        execute format('drop %s %s', made.what, made.name);
    end loop;
    for made in
        select p.oid::regprocedure as name
        from pg_proc p where p.pronamespace = 'regraft_generator'::regnamespace
        order by p.oid desc
    loop
        execute format('drop function %s', made.name);
    end loop;
end
$$;

-- The manifest of all entities, whatever their keys are.

set search_path = regraft_generator, public;

alter table regraft_dirt alter column legacy_id type text;
insert into regraft_dirt select * from dirt_of_text_keys;
drop table dirt_of_text_keys;

-- What has to become of each row that the manifest names: a row with a fault of its own is
-- quarantined, one with no other fault than a parent that is held back is blocked.
create view expected as
select entity, legacy_id,
       case
           when bool_or(expect like 'filtered:%') then 'filtered'
           when bool_or(expect like 'quarantined:%') then 'quarantined'
           when bool_or(expect like 'blocked:%') then 'blocked'
           else 'kept'
       end as bucket,
       array_agg(distinct expect order by expect) as reasons
from regraft_dirt
where entity is not null
group by entity, legacy_id;

reset search_path;
