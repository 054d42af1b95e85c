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
    ('file_parameters_broken', 'files', 'kept')
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

-- A harmless fault of a row that something else holds back proves nothing: it is expected
-- to end where its row ends.
update regraft_dirt d
set expect = (select min(o.expect) from regraft_dirt o
              where o.entity = d.entity and o.legacy_id = d.legacy_id and o.expect <> 'kept')
where d.expect = 'kept'
  and exists (select from held_back_row h where h.entity = d.entity and h.legacy_id = d.legacy_id);

reset search_path;
