-- The generator, part 5: what follows for doctors and patients from the faults so far, the
-- faults of instructions, and what follows for orders.

set search_path = regraft_generator, public;

-- Consequences for doctors, their offices and patients ------------------------------------

create view held_back_row as
select distinct entity, legacy_id from regraft_dirt
where expect like 'quarantined:%' or expect like 'blocked:%';

insert into regraft_dirt
select 'consequence', 'doctors', 'auth_user', u.id, null, 'the profile is held back', 'blocked:profiles'
from auth_user u
join held_back_row h on h.entity = 'profiles' and h.legacy_id = u.id
where exists (select from dispatch_doctorsetting s where s.user_id = u.id)
   or exists (select from dispatch_office_doctors l where l.user_id = u.id)
   or exists (select from dispatch_patient p where p.doctor_id = u.id)
   or exists (select from auth_user_groups g where g.user_id = u.id and g.group_id = 2)
order by u.id;

insert into regraft_dirt
select 'consequence', 'doctor_offices', 'dispatch_office_doctors', l.id, c.column_name,
       'the parent is held back', 'blocked:' || c.parent
from dispatch_office_doctors l
cross join lateral (values ('user_id', 'doctors', l.user_id), ('office_id', 'offices', l.office_id))
    c (column_name, parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
order by l.id, c.parent;

insert into regraft_dirt
select 'consequence', 'patients', 'dispatch_patient', p.id, c.column_name,
       'the parent is held back', 'blocked:' || c.parent
from dispatch_patient p
cross join lateral (values ('user_id', 'profiles', p.user_id), ('doctor_id', 'doctors', p.doctor_id))
    c (column_name, parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
where not exists (
    select from regraft_dirt d
    where d.entity = 'patients' and d.legacy_id = p.id and d.expect = 'blocked:' || c.parent)
order by p.id, c.parent;

-- Faults of instructions ---------------------------------------------------------------------

-- Orders that nothing holds back so far: the patient and its doctor are moved.
create view sound_order as
select i.id from dispatch_instruction i
join dispatch_patient p on p.id = i.patient_id
where not i.deleted and p.doctor_id is not null
  and not exists (select from held_back_row h where h.entity = 'patients' and h.legacy_id = p.id);

create function spoil_order(
    kind text, column_name text, rate float8, detail text, expect text, pool text default 'true'
) returns void
    language sql
as $$
    select spoil(kind, 'orders', 'dispatch_instruction', column_name, rate, detail, expect,
                 't.id in (select id from sound_order) and ' || pool)
$$;

select spoil_order('status_unseen', 'status', 0.001, '3, 5 or 9', 'quarantined:unmapped_value:status');
update dispatch_instruction i set status = ('{3,5,9}'::smallint[])[1 + s.nth % 3]
from spoiled('status_unseen') s where s.id = i.id;

select spoil('status_unseen_deleted', 'orders', 'dispatch_instruction', 'status', 0.0003,
    'of a deleted order', 'filtered:soft-deleted', 't.deleted');
update dispatch_instruction i set status = 3
from spoiled('status_unseen_deleted') s where s.id = i.id;

select spoil_order('course_unmapped', 'course_id', 0.0008, 'a course that no map knows', 'quarantined:unmapped_value:course_type');
update dispatch_instruction i set course_id = 9
from spoiled('course_unmapped') s where s.id = i.id and exists (select from dispatch_course where id = 9);

select spoil_order('course_missing', 'course_id', 0.0003, 'course_id is no course', 'quarantined:unmapped_value:course_type');
update dispatch_instruction i set course_id = 99
from spoiled('course_missing') s where s.id = i.id;

select spoil_order('patient_missing', 'patient_id', 0.0006,
    'patient_id is no patient', 'quarantined:missing_parent:patient_id');
update dispatch_instruction i set patient_id = 5000000 + i.id
from spoiled('patient_missing') s where s.id = i.id;

select spoil_order('price_out_of_range', 'price', 0.0002, 'nine digits before the point', 'quarantined:numeric_out_of_range:amount');
update dispatch_instruction i set price = 250000000.00 + s.nth
from spoiled('price_out_of_range') s where s.id = i.id;

select spoil_order('price_too_fine', 'price', 0.0003, 'a third decimal', 'quarantined:numeric_scale:amount');
update dispatch_instruction i set price = 199.995 + s.nth
from spoiled('price_too_fine') s where s.id = i.id;

select spoil_order('price_negative', 'price', 0.0002, 'below zero', 'quarantined:check_violation:amount_not_negative');
update dispatch_instruction i set price = -0.01 * s.nth
from spoiled('price_negative') s where s.id = i.id;

-- Each of them is refused by jsonb, whatever another reader of JSON thinks of it.
create table broken_json (nth integer primary key, kind text, detail text, json text);
insert into broken_json
values (1, 'exports_truncated', 'cut off', '{"stl": ["0a1b2c.stl", "0a1'),
       (2, 'exports_bad_escape', 'a backslash too few', '{"path": "C:\scans\new"}'),
       (3, 'exports_lone_surrogate', 'half of a pair', '{"label": "\ud83d!"}'),
       (4, 'exports_nul_character', 'an escaped NUL', '{"label": "a\u0000b"}'),
       (5, 'exports_nan', 'NaN, as Python writes it', '{"scale": NaN, "stages": 3}'),
       (6, 'exports_python', 'a Python dict', '{''stl'': [''0a1b2c.stl''], ''stages'': None}'),
       (7, 'exports_not_json', 'plain text', 'see mail');
select spoil_order(kind, 'exports', 0.0002, detail, 'quarantined:invalid_json:exports') from broken_json order by nth;
update dispatch_instruction i set exports = b.json
from regraft_dirt d join broken_json b using (kind) where d.legacy_id = i.id;

select spoil_order('exports_of_another_type', 'exports', 0.0002, 'valid JSON, but no object', 'quarantined:check_violation:exports_is_object');
update dispatch_instruction i set exports = (array['[]', '[1, 2]', '"text"', '17'])[1 + s.nth % 4]
from spoiled('exports_of_another_type') s where s.id = i.id;

select spoil_order('exports_empty', 'exports', 0.004, 'an empty string: becomes NULL', 'kept');
update dispatch_instruction i set exports = ''
from spoiled('exports_empty') s where s.id = i.id;

select spoil_order('exports_precise_number', 'exports', 0.0005, 'more digits than a float holds', 'kept');
update dispatch_instruction i set exports = '{"matrix": [0.1234567890123456789012, 12345678901234567890' || s.nth || ']}'
from spoiled('exports_precise_number') s where s.id = i.id;

select spoil_order('price_zero', 'price', 0.03, '0 is a price', 'kept');
update dispatch_instruction i set price = 0
from spoiled('price_zero') s where s.id = i.id;

select spoil_order('price_null', 'price', 0.01, 'no price is known', 'kept');
update dispatch_instruction i set price = null
from spoiled('price_null') s where s.id = i.id;

select spoil_order('price_with_zeros', 'price', 0.001, 'four decimals, the last two 0', 'kept');
update dispatch_instruction i set price = 150.2500 + s.nth
from spoiled('price_with_zeros') s where s.id = i.id;

select spoil_order('price_just_fits', 'price', 0.0001, 'the largest price there can be', 'kept');
update dispatch_instruction i set price = 99999999.99
from spoiled('price_just_fits') s where s.id = i.id;

-- The largest ids there can be; the sequence goes on from where it was.
with late as (
    insert into dispatch_instruction
        (id, patient_id, course_id, status, deleted, submitted_at, updated_at, price, complaint, objective,
         conditions, scanner_notes, cbct, "order", suffix, exports)
    select 2147483645 + n, i.patient_id, 1, 4, false, i.submitted_at, i.updated_at, 100.00, '', '', '', '', false, 99, '', '{}'
    from generate_series(1, 2) n
    cross join (select * from dispatch_instruction where id = (
        select min(o.id) from sound_order o where not exists (
            select from held_back_row h where h.entity = 'orders' and h.legacy_id = o.id))) i
    where faults(1, 1) > 0
    returning id
)
insert into regraft_dirt
select 'id_near_2_31', 'orders', 'dispatch_instruction', id, 'id', 'at the end of integer', 'kept' from late order by id;

-- Consequences for orders ----------------------------------------------------------------------

-- The doctor comes from the patient: without either there is none.
insert into regraft_dirt
select 'consequence', 'orders', 'dispatch_instruction', i.id, null,
       'no patient, or a patient without a doctor', 'quarantined:not_null:doctor_id'
from dispatch_instruction i
left join dispatch_patient p on p.id = i.patient_id
where not i.deleted and p.doctor_id is null
order by i.id;

insert into regraft_dirt
select 'consequence', 'orders', 'dispatch_instruction', i.id, null,
       'the doctor of the patient is no user', 'quarantined:missing_parent:doctor_id'
from dispatch_instruction i
join dispatch_patient p on p.id = i.patient_id
where not i.deleted and p.doctor_id is not null
  and not exists (select from auth_user u where u.id = p.doctor_id)
order by i.id;

insert into regraft_dirt
select 'consequence', 'orders', 'dispatch_instruction', i.id, null,
       'the parent is held back', 'blocked:' || c.parent
from dispatch_instruction i
join dispatch_patient p on p.id = i.patient_id
cross join lateral (values ('patients', p.id), ('doctors', p.doctor_id)) c (parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
where not i.deleted
order by i.id, c.parent;

-- A harmless fault of a row that something else holds back proves nothing: it is expected
-- to end where its row ends.
update regraft_dirt d
set expect = (select min(o.expect) from regraft_dirt o
              where o.entity = d.entity and o.legacy_id = d.legacy_id and o.expect <> 'kept')
where d.expect = 'kept'
  and exists (select from held_back_row h where h.entity = d.entity and h.legacy_id = d.legacy_id);

reset search_path;
