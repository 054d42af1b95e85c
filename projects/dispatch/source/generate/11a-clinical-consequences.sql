-- The generator, part 11a: more faults of the laboratory's tables, and what all of them and
-- those of the core come to in the entities of target/clinical.sql.

set search_path = regraft_generator, public;

-- Writes down what a parent that is held back means for its children. The query gives the
-- child's legacy id, the parent's entity and the parent's legacy id.
create function hold_back_children(of_entity text, of_table text, children text) returns void
    language plpgsql
as $$
begin
    execute format(
        'insert into regraft_dirt
         select distinct ''consequence'', $1, $2, c.id::bigint, null, ''the parent is held back'', ''blocked:'' || c.parent
         from (%s) c (id, parent, parent_id)
         join held_back_row h on h.entity = c.parent and h.legacy_id = c.parent_id
         order by 4, 7', children)
    using of_entity, of_table;
end
$$;

-- Writes down a fault that follows from another row's. The query gives legacy ids.
create function hold_back(of_entity text, of_table text, reason text, expectation text, rows_hit text) returns void
    language plpgsql
as $$
begin
    execute format(
        'insert into regraft_dirt
         select ''consequence'', $1, $2, c.id::bigint, null, $3, $4 from (%s) c (id) order by c.id', rows_hit)
    using of_entity, of_table, reason, expectation;
end
$$;

-- What becomes of the faults of part 11 ------------------------------------------------------

update regraft_dirt d
set entity = k.entity, expect = k.expect
from (values
    ('product_customization_broken', 'products', 'kept'),
    ('plan_shares_project', 'treatment_plans', 'kept'),
    ('plan_of_missing_instruction', 'treatment_plans', 'kept'),
    ('plan_without_instruction', 'treatment_plans', 'kept'),
    ('file_with_two_extensions', 'files', 'kept'),
    ('file_of_missing_instruction', 'files', 'kept'),
    ('file_parameters_broken', 'files', 'kept'),
    ('category_of_itself', 'categories', 'kept'),
    ('category_cycle', 'categories', 'kept'),
    ('task_without_instruction', 'tasks', 'kept'),
    ('task_of_missing_instruction', 'tasks', 'quarantined:missing_parent:order_id'),
    ('state_of_deleted_order', 'order_states', 'filtered:of-deleted-order'),
    ('template_product_twice', 'template_products',
        'quarantined:unique_violation:template_products_template_id_product_id_key')
) k (kind, entity, expect)
where d.kind = k.kind and d.entity is null;

-- Projects and plans ------------------------------------------------------------------------

select spoil('project_type_unseen', 'projects', 'dispatch_project', 'type', 0.0005,
    '7 or 1', 'quarantined:unmapped_value:project_type');
update dispatch_project p set "type" = ('{7,1}'::smallint[])[1 + s.nth % 2]
from spoiled('project_type_unseen') s where s.id = p.id;

select spoil('project_status_unseen', 'projects', 'dispatch_project', 'status', 0.0003,
    '9', 'quarantined:unmapped_value:status');
update dispatch_project p set status = 9
from spoiled('project_status_unseen') s where s.id = p.id;

select spoil('plan_of_deleted_order', 'treatment_plans', 'dispatch_plan', 'instruction_id', 0.002,
    'the instruction is deleted: moves without an order', 'kept');
update dispatch_plan p set instruction_id =
    (select array_agg(id order by id) from dispatch_instruction where deleted)[
        1 + s.nth % (select count(*) from dispatch_instruction where deleted)]
from spoiled('plan_of_deleted_order') s where s.id = p.id;

select hold_back_children('treatment_plans', 'dispatch_plan', $$
    select id, 'projects', project_id from dispatch_plan
    union all
    select p.id, 'orders', i.id from dispatch_plan p join dispatch_instruction i on i.id = p.instruction_id
    where not i.deleted$$);

-- Cases ---------------------------------------------------------------------------------------

select hold_back('cases', 'dispatch_patient', 'the patient has a status that no map knows', 'quarantined:unmapped_value:status',
    'select id from dispatch_patient where status not in (1, 2, 4, 10)');
select hold_back('cases', 'dispatch_patient', 'the doctor of the patient is no user', 'quarantined:missing_parent:primary_doctor_id',
    'select p.id from dispatch_patient p where p.doctor_id is not null
     and not exists (select from auth_user u where u.id = p.doctor_id)');
select hold_back_children('cases', 'dispatch_patient', $$
    select id, 'patients', id from dispatch_patient
    union all
    select id, 'doctors', doctor_id from dispatch_patient$$);

select hold_back('patients_doctors_offices', 'dispatch_patient', 'the doctor of the patient is no user',
    'quarantined:missing_parent:doctor_id',
    'select p.id from dispatch_patient p where p.doctor_id is not null
     and not exists (select from auth_user u where u.id = p.doctor_id)');
select hold_back_children('patients_doctors_offices', 'dispatch_patient', $$
    select id, 'patients', id from dispatch_patient where doctor_id is not null
    union all
    select id, 'doctors', doctor_id from dispatch_patient$$);
insert into regraft_dirt
select 'patient_without_doctor', 'patients_doctors_offices', 'dispatch_patient', id, 'doctor_id', 'doctor_id is NULL', 'filtered:no-doctor'
from spoiled('patient_without_doctor') order by id;

select hold_back('order_cases', 'dispatch_instruction', 'patient_id is no patient', 'quarantined:missing_parent:case_id',
    'select i.id from dispatch_instruction i where not i.deleted
     and not exists (select from dispatch_patient p where p.id = i.patient_id)');
select hold_back_children('order_cases', 'dispatch_instruction', $$
    select id, 'orders', id from dispatch_instruction where not deleted
    union all
    select id, 'cases', patient_id from dispatch_instruction where not deleted$$);

-- Jaws: the entity's key is the order's id followed by 1 or 2 ---------------------------------

create view jaw_side as
select id * 10::bigint + 1 as id, upper_jaw_id as jaw_id, id as instruction_id, deleted
from dispatch_instruction where upper_jaw_id is not null
union all
select id * 10::bigint + 2, lower_jaw_id, id, deleted
from dispatch_instruction where lower_jaw_id is not null;

select spoil('jaw_reason_unseen', 'jaws', 'dispatch_jaw', 'reason', 0.0005,
    '0 or 4', 'quarantined:unmapped_value:replacement_reason',
    't.id in (select jaw_id from jaw_side where not deleted)');
update dispatch_jaw j set reason = ('{0,4}'::smallint[])[1 + s.nth % 2]
from spoiled('jaw_reason_unseen') s where s.id = j.id;

-- A jaw that two orders share has two rows.
with noted as (
    delete from regraft_dirt where kind = 'jaw_reason_unseen' returning *
)
insert into regraft_dirt
select n.kind, n.entity, n.table_name, s.id, n.column_name, n.detail,
       case when s.deleted then 'filtered:of-deleted-order' else n.expect end
from noted n join jaw_side s on s.jaw_id = n.legacy_id
order by s.id;

update regraft_dirt set entity = 'jaws', legacy_id = -legacy_id, expect = 'filtered:orphan'
where kind = 'jaw_orphan';
update regraft_dirt d
set entity = 'jaws', legacy_id = d.legacy_id * 10 + 1,
    expect = case when i.deleted then 'filtered:of-deleted-order' else 'kept' end
from dispatch_instruction i
where d.kind = 'jaw_shared' and i.id = d.legacy_id;

select hold_back_children('jaws', 'dispatch_jaw', $$
    select id, 'orders', instruction_id from jaw_side where not deleted$$);

-- States: each is a row of order_states and one of case_states --------------------------------

select spoil('state_code_unseen', 'order_states', 'dispatch_state', 'status', 0.001,
    '13 or 20', 'quarantined:unmapped_value:state');
update dispatch_state t set status = ('{13,20}'::smallint[])[1 + s.nth % 2]
from spoiled('state_code_unseen') s where s.id = t.id;

select spoil('state_of_missing_instruction', 'order_states', 'dispatch_state', 'instruction_id', 0.001,
    'instruction_id is no instruction', 'quarantined:missing_parent:order_id');
update dispatch_state t set instruction_id = 5000000 + t.id
from spoiled('state_of_missing_instruction') s where s.id = t.id;

insert into regraft_dirt
select d.kind, 'case_states', d.table_name, d.legacy_id, d.column_name, d.detail, c.expect
from regraft_dirt d
join (values
    ('state_of_deleted_order', 'filtered:of-deleted-order'),
    ('state_code_unseen', 'quarantined:unmapped_value:current_state'),
    ('state_of_missing_instruction', 'quarantined:missing_parent:order_id'),
    ('state_of_missing_instruction', 'quarantined:not_null:case_id')
) c (kind, expect) using (kind)
order by d.kind, d.legacy_id, c.expect;

select hold_back('case_states', 'dispatch_state', 'the order has no patient', 'quarantined:missing_parent:case_id', $$
    select s.id from dispatch_state s join dispatch_instruction i on i.id = s.instruction_id
    where not i.deleted and not exists (select from dispatch_patient p where p.id = i.patient_id)$$);
select hold_back_children('order_states', 'dispatch_state', $$
    select s.id, c.parent, c.parent_id
    from dispatch_state s
    left join dispatch_instruction i on i.id = s.instruction_id
    cross join lateral (values ('orders', s.instruction_id), ('profiles', s.actor_id)) c (parent, parent_id)
    where i.deleted is not true$$);
select hold_back_children('case_states', 'dispatch_state', $$
    select s.id, c.parent, c.parent_id
    from dispatch_state s
    left join dispatch_instruction i on i.id = s.instruction_id
    cross join lateral (values
        ('orders', s.instruction_id), ('cases', i.patient_id), ('profiles', s.actor_id)) c (parent, parent_id)
    where i.deleted is not true$$);

-- Files of orders and cases ---------------------------------------------------------------------

select hold_back('order_files', 'dispatch_file', 'instruction_id is no instruction',
    'quarantined:missing_parent:order_id', $$select id from spoiled('file_of_missing_instruction')$$);
select hold_back('case_files', 'dispatch_file', 'instruction_id is no instruction',
    'quarantined:not_null:case_id', $$select id from spoiled('file_of_missing_instruction')$$);
select hold_back('case_files', 'dispatch_file', 'the order has no patient', 'quarantined:missing_parent:case_id', $$
    select f.id from dispatch_file f join dispatch_instruction i on i.id = f.instruction_id
    where not i.deleted and not exists (select from dispatch_patient p where p.id = i.patient_id)$$);
select hold_back_children('order_files', 'dispatch_file', $$
    select f.id, 'orders', i.id from dispatch_file f join dispatch_instruction i on i.id = f.instruction_id
    where not i.deleted$$);
select hold_back_children('case_files', 'dispatch_file', $$
    select f.id, 'cases', i.patient_id from dispatch_file f join dispatch_instruction i on i.id = f.instruction_id
    where not i.deleted$$);

-- Tasks -----------------------------------------------------------------------------------------

select hold_back_children('tasks', 'dispatch_task', $$
    select t.id, c.parent, c.parent_id
    from dispatch_task t
    left join dispatch_instruction i on i.id = t.instruction_id
    cross join lateral (values
        ('orders', t.instruction_id), ('treatment_plans', t.plan_id), ('profiles', t.actor_id)) c (parent, parent_id)
    where i.deleted is not true$$);

-- Technicians and brackets --------------------------------------------------------------------

select hold_back_children('technicians', 'auth_user', $$
    select user_id, 'profiles', user_id from auth_user_groups where group_id = 11$$);

select spoil('bracket_without_name', 'brackets', 'dispatch_bracket', 'name', 0.001,
    'nothing but spaces', 'quarantined:not_null:name');
update dispatch_bracket b set name = repeat(' ', (s.nth % 3)::integer)
from spoiled('bracket_without_name') s where s.id = b.id;

select hold_back_children('brackets', 'dispatch_bracket', $$
    select id, 'projects', project_id from dispatch_bracket$$);

-- A harmless fault of a row that something else holds back proves nothing: it is expected
-- to end where its row ends.
update regraft_dirt d
set expect = (select min(o.expect) from regraft_dirt o
              where o.entity = d.entity and o.legacy_id = d.legacy_id and o.expect <> 'kept')
where d.expect = 'kept'
  and exists (select from held_back_row h where h.entity = d.entity and h.legacy_id = d.legacy_id);

reset search_path;
