-- The generator, part 11: the faults of the other tables. The manifest says `undecided` of them
-- here: what a migration must do is written down in the parts 11a and 11b, with what follows.

set search_path = regraft_generator, public;

-- Like spoil(), but for tables too large to be sorted: it jumps to ids by the primary key.
create function spoil_large(
    kind text, table_name text, column_name text, rate float8, detail text, pool text default 'true'
) returns void
    language plpgsql
as $$
declare
    size bigint;
    last bigint;
begin
    execute format('select count(*), max(id) from %I', table_name) into size, last;
    execute format(
        'insert into regraft_dirt
         select $1, null, $2, t.id, $3, $4, ''undecided''
         from (
             select distinct on (j.id) j.id, g.n
             from generate_series(1, 2 * $5) g (n)
             cross join lateral (
                 select t.id from %I t
                 where t.id > floor($6 * roll(g.n, hashtext($1)))::integer and (%s) order by t.id limit 1
             ) j
             where not exists (
                 select from regraft_dirt d where d.table_name = $2 and d.legacy_id = j.id and d.column_name = $3)
             order by j.id, g.n
         ) t
         order by t.n limit $5', table_name, pool)
    using kind, table_name, column_name, detail, faults(rate, size), last;
end
$$;

create function spoil_other(
    kind text, table_name text, column_name text, rate float8, detail text,
    pool text default 'true', fewest bigint default 2
) returns void
    language sql
as $$
    select spoil(kind, null, table_name, column_name, rate, detail, 'undecided', pool, fewest)
$$;

-- Jaws, plans and what hangs on them ------------------------------------------------------

with lost as (
    insert into dispatch_jaw (id, bond_teeth, extract_teeth, reason, product_id, labial)
    select (select max(id) from dispatch_jaw) + n, repeat('1', 16), repeat('0', 16), null, 1, false
    from generate_series(1, faults(0.008, many(43458))) n
    returning id
)
insert into regraft_dirt
select 'jaw_orphan', null, 'dispatch_jaw', id, 'id', 'no instruction points here', 'undecided' from lost order by id;

select spoil_other('jaw_shared', 'dispatch_instruction', 'upper_jaw_id', 0.0005,
    'the upper jaw of another instruction, too', 't.upper_jaw_id is null and t.lower_jaw_id is not null');
update dispatch_instruction i set upper_jaw_id =
    (select o.upper_jaw_id from dispatch_instruction o where o.upper_jaw_id is not null and o.id < 2000000000
     order by (o.id < i.id) desc, abs(o.id - i.id), o.id limit 1)
from spoiled('jaw_shared') s where s.id = i.id;

select spoil_other('plan_shares_project', 'dispatch_plan', 'project_id', 0.01,
    'the project of the plan before it', 't.id > (select min(id) from dispatch_plan)');
update dispatch_plan p set project_id = (select o.project_id from dispatch_plan o where o.id < p.id order by o.id desc limit 1)
from spoiled('plan_shares_project') s where s.id = p.id;

select spoil_other('plan_of_missing_instruction', 'dispatch_plan', 'instruction_id', 0.001, 'instruction_id is no instruction');
update dispatch_plan p set instruction_id = 5000000 + p.id
from spoiled('plan_of_missing_instruction') s where s.id = p.id;

select spoil_other('plan_without_instruction', 'dispatch_plan', 'instruction_id', 0.001, 'instruction_id is NULL');
update dispatch_plan p set instruction_id = null
from spoiled('plan_without_instruction') s where s.id = p.id;

select spoil_other('state_of_deleted_order', 'dispatch_state', 'instruction_id', 0.039, 'the instruction is deleted');
update dispatch_state t set instruction_id =
    (select array_agg(id order by id) from dispatch_instruction where deleted)[1 + pick(s.id, 600, many(1300)::integer)]
from spoiled('state_of_deleted_order') s where s.id = t.id;

-- Files --------------------------------------------------------------------------------------

with copied as (
    insert into dispatch_template_products (id, template_id, product_id)
    select (select max(id) from dispatch_template_products) + row_number() over (order by a.id), a.template_id, a.product_id
    from (select * from dispatch_template_products order by roll(id, 602), id limit faults(0.02, 183)) a
    returning id
)
insert into regraft_dirt
select 'template_product_twice', null, 'dispatch_template_products', id, null, 'the second row of a pair', 'undecided'
from copied order by id;

select spoil_large('file_with_two_extensions', 'dispatch_file', 'name', 0.001, 'name.stl.stl', 't.name is not null and t.ext is not null');
update dispatch_file f set name = f.name || f.ext
from spoiled('file_with_two_extensions') s where s.id = f.id;

select spoil_large('file_of_missing_instruction', 'dispatch_file', 'instruction_id', 0.0003, 'instruction_id is no instruction');
update dispatch_file f set instruction_id = 5000000 + f.id
from spoiled('file_of_missing_instruction') s where s.id = f.id;

select spoil_large('file_parameters_broken', 'dispatch_file', 'parameters', 0.0003, 'no valid JSON');
update dispatch_file f set parameters = (array['', '{"units": "mm"', '{"units": "\m"}', '[1, 2'])[1 + s.nth % 4]
from spoiled('file_parameters_broken') s where s.id = f.id;

-- Tasks --------------------------------------------------------------------------------------

select spoil_large('task_without_instruction', 'dispatch_task', 'instruction_id', 0.0083, 'instruction_id is NULL');
update dispatch_task t set instruction_id = null
from spoiled('task_without_instruction') s where s.id = t.id;

select spoil_large('task_of_missing_instruction', 'dispatch_task', 'instruction_id', 0.0002, 'instruction_id is no instruction');
update dispatch_task t set instruction_id = 5000000 + t.id
from spoiled('task_of_missing_instruction') s where s.id = t.id;

-- Set-up --------------------------------------------------------------------------------------

select spoil_other('category_of_itself', 'dispatch_category', 'parent_id', 0.02, 'its own parent', 'true', 1);
update dispatch_category c set parent_id = c.id
from spoiled('category_of_itself') s where s.id = c.id;

select spoil_other('category_cycle', 'dispatch_category', 'parent_id', 0.04, 'each the parent of the other');
update dispatch_category c set parent_id = (
    select o.id from spoiled('category_cycle') o
    where o.nth = s.nth % (select count(*) from spoiled('category_cycle')) + 1)
from spoiled('category_cycle') s where s.id = c.id;

select spoil_other('product_customization_broken', 'dispatch_product', 'customization', 0.1, 'no valid JSON', 'not t.deleted', 1);
update dispatch_product p set customization = '{"stages": 40'
from spoiled('product_customization_broken') s where s.id = p.id;

reset search_path;
