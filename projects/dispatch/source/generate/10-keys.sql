-- The generator, part 10: keys, indexes and foreign keys come back, in one pass over each table.

do $$
declare
    held record;
begin
    perform set_config('search_path', 'regraft_generator, public', true);
    perform set_config('maintenance_work_mem', '256MB', true);
    for held in select * from held_back order by place loop
        if held.kind = 'i' then
            execute held.definition;
        else
            execute format('alter table %s add constraint %I %s', held.table_name, held.name, held.definition);
        end if;
    end loop;
end
$$;
