-- The generator, part 3: courses, products, jaws and instructions, without a fault.

set search_path = regraft_generator, public;

insert into dispatch_course (id, name, type, customization)
values (1, 'Main', 1, '{"colour": "#2a6f97", "order": 1}'),
       (2, 'Refinement', 2, '{"colour": "#61a5c2", "order": 2}'),
       (3, 'Replacement', 4, '{}'),
       (4, 'Any', 3, ''),
       (7, 'Invoice', 5, '{"hidden": true}'),
       (8, 'Merchandise', 6, '{"order": 6}');

insert into dispatch_product
    (id, name, description, free, deleted, customization, type, substitute, course_id)
values (1, 'Aligner, full', 'Up to 40 stages', false, false, '{"stages": 40}', 1, false, 1),
       (2, 'Aligner, light', 'Up to 14 stages', false, false, '{"stages": 14}', 1, false, 1),
       (3, 'Refinement', '', true, false, '{}', 2, false, 2),
       (4, 'Refinement, paid', null, false, false, '{"stages": 20}', 2, false, 2),
       (5, 'Replacement tray', 'One tray', false, false, '{}', 4, true, 3),
       (6, 'Retainer', null, false, false, '{"material": "clear"}', 4, false, 3),
       (8, 'Old kit', null, false, true, '{}', null, false, 8),
       (9, 'Scan service', '', true, false, '{}', 5, false, 7),
       (11, 'Whitening kit', 'For the new product page', false, false, '{}', 6, false, 8),
       (12, 'Case of a tray', null, false, false, '', 6, false, 8),
       (14, 'Consultation', null, true, true, '{}', null, false, 4),
       (15, 'Lingual', null, false, false, '{"labial": false}', 1, false, 1);

-- A few patients have many orders, most have few: the busier come first in a fixed order.
create table ordering_patient as
select row_number() over (order by roll(id, 120), id) as rank, id,
       coalesce(submitted_at, timestamptz '2019-01-01 00:00+00') as since
from dispatch_patient;

-- About 6 in 100 instructions are deleted; which jaws an instruction has decides how many there are.
create table draft as
select o.*,
       case when o.jaws in ('both', 'upper') then 1 + o.jaws_before + (o.jaws_before) / 25 end as upper_jaw_id,
       case when o.jaws in ('both', 'lower') then
           1 + o.jaws_before + (o.jaws = 'both')::integer
           + (o.jaws_before + (o.jaws = 'both')::integer) / 25
       end as lower_jaw_id
from (
    select s.*,
           coalesce(sum(case s.jaws when 'both' then 2 when 'none' then 0 else 1 end)
               over (order by s.id rows between unbounded preceding and 1 preceding), 0)::integer as jaws_before
    from (
        select i.id::integer as id, p.id as patient_id,
               roll(i.id, 121) < 0.061 as deleted,
               working_time(0.05 + 0.95 * power(i.place::float8 / many(26900), 0.8), i.id, 122) as at,
               case
                   when roll(i.id, 124) < 0.700 then 'both'
                   when roll(i.id, 124) < 0.820 then 'upper'
                   when roll(i.id, 124) < 0.915 then 'lower'
                   else 'none'
               end as jaws,
               case
                   when roll(i.id, 125) < 0.06 then 0
                   when roll(i.id, 125) < 0.18 then 1
                   when roll(i.id, 125) < 0.38 then 2
                   else 4
               end as status
        from sparse_ids(many(26900), 0.94, 126) i
        join ordering_patient p on p.rank = 1 + floor(many(8527) * power(roll(i.id, 127), 1.7))
    ) s
) o;

insert into dispatch_jaw (id, bond_teeth, extract_teeth, reason, product_id, labial)
select j.id,
       lpad((pick(j.id, 130, 65536))::bit(16)::text, 16, '0'),
       case when roll(j.id, 131) < 0.8 then repeat('0', 16)
            else (1 << pick(j.id, 132, 16))::bit(16)::text end,
       case when roll(j.id, 133) < 0.12 then 1 + pick(j.id, 134, 3) end,
       case when roll(j.id, 135) < 0.9 then ('{1,1,1,2,2,3,3,4,5,6,15}'::integer[])[1 + pick(j.id, 136, 11)] end,
       roll(j.id, 137) < 0.03
from (
    select upper_jaw_id as id from draft where upper_jaw_id is not null
    union all
    select lower_jaw_id from draft where lower_jaw_id is not null
) j
order by j.id;

insert into dispatch_instruction
    (id, patient_id, course_id, status, deleted, submitted_at, updated_at, price, notes, complaint,
     objective, conditions, scanner_notes, model, scanner, cbct, comprehensive,
     accept_extraction, "order", suffix, upper_jaw_id, lower_jaw_id, exports)
select
    d.id, d.patient_id,
    case
        when roll(d.id, 140) < 0.55 then 1
        when roll(d.id, 140) < 0.85 then 2
        when roll(d.id, 140) < 0.93 then 3
        when roll(d.id, 140) < 0.95 then 4
        when roll(d.id, 140) < 0.98 then 7
        else 8
    end,
    d.status, d.deleted,
    -- What has no product yet is a draft, and was not submitted.
    case when d.status > 0 then d.at end,
    case when roll(d.id, 141) < 0.97 then later(d.at, 7776000 * roll(d.id, 142)) end,
    case
        when roll(d.id, 143) < 0.20 then null
        when roll(d.id, 143) < 0.25 then 0
        when roll(d.id, 143) < 0.90 then (5 + pick(d.id, 144, 400)) * 5.00
        else pick(d.id, 144, 250000) * 0.01
    end,
    case when roll(d.id, 145) < 0.3 then null when roll(d.id, 145) < 0.45 then '' else message(d.id, 146) end,
    case when roll(d.id, 155) < 0.4 then '' else sentence(d.id, 156) end,
    case when roll(d.id, 157) < 0.5 then '' else message(d.id, 158) end,
    case when roll(d.id, 167) < 0.7 then '' else sentence(d.id, 168) end,
    case when roll(d.id, 169) < 0.85 then '' else sentence(d.id, 170) end,
    case when roll(d.id, 171) < 0.7 then pick(d.id, 172, 4) end,
    case when roll(d.id, 173) < 0.6 then pick(d.id, 174, 7) end,
    roll(d.id, 175) < 0.12,
    case when roll(d.id, 176) < 0.6 then roll(d.id, 177) < 0.5 end,
    case when roll(d.id, 178) < 0.5 then roll(d.id, 179) < 0.3 end,
    row_number() over (partition by d.patient_id order by d.id),
    case when roll(d.id, 180) < 0.05 then '' else upper(lpad(to_hex(pick(d.id, 181, 4096)), 3, '0')) end,
    d.upper_jaw_id, d.lower_jaw_id,
    case
        when roll(d.id, 182) < 0.55 then '{}'
        else format('{"stl": ["%s.stl", "%s.stl"], "stages": %s, "scale": %s, "printer": "%s", "label": %s}',
                    left(md5('up' || d.id), 12), left(md5('lo' || d.id), 12), 1 + pick(d.id, 183, 40),
                    round(roll(d.id, 184)::numeric, 6), one_of(d.id, 185, '{P-3,P-4b,リゾン}'),
                    to_json(sentence(d.id, 186)))
    end
from draft d
order by d.id;

-- The faults come next, and choose their rows by queries.
analyze auth_user, auth_user_groups, dispatch_patient, dispatch_doctorsetting, dispatch_office,
    dispatch_office_doctors, dispatch_instruction, person;

reset search_path;
