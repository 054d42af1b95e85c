-- The generator, part 2: groups, users, offices, doctors and patients, without a fault.

set search_path = regraft_generator, public;

-- The place is the id; an empty one is a gap.
insert into django_content_type (id, app_label, model)
select t.id, split_part(t.name, '.', 1), split_part(t.name, '.', 2)
from unnest(array[
    'admin.logentry', 'auth.permission', 'auth.group', 'contenttypes.contenttype',
    'sessions.session', 'sites.site', 'dispatch.office', 'dispatch.course',
    'dispatch.product', 'dispatch.instruction', 'dispatch.patient', 'dispatch.plan',
    'dispatch.project', 'dispatch.jaw', 'dispatch.task', 'dispatch.template', '',
    'dispatch.category', 'dispatch.file', 'dispatch.record', 'dispatch.comment', 'dispatch.note',
    'dispatch.state', 'dispatch.notification', 'dispatch.role', '', 'dispatch.payment',
    'dispatch.operation', 'dispatch.offer', 'dispatch.discount', 'dispatch.purchase',
    'dispatch.order', 'dispatch.bracket', 'dispatch.ware', 'dispatch.storage', 'dispatch.agent',
    '', '', 'dispatch.client', 'dispatch.client3d', 'dispatch.instance', 'dispatch.globalsetting',
    'dispatch.doctorsetting', 'dispatch.usersetting', 'dispatch.language', 'dispatch.master',
    'dispatch.event', 'dispatch.reading', '', 'dispatch.link', 'dispatch.action',
    'authtoken.token', '', 'reversion.revision', 'reversion.version', '',
    'django_celery_beat.periodictask', 'auth.user'
]) with ordinality t (name, id)
where t.name <> '';

insert into auth_permission (id, name, content_type_id, codename)
select row_number() over (order by c.id, v.ord),
       'Can ' || v.verb || ' ' || c.model, c.id, v.verb || '_' || c.model
from django_content_type c
cross join unnest('{add,change,delete,view}'::text[]) with ordinality v (verb, ord);

insert into auth_group (id, name)
values (1, 'Patient'), (2, 'Doctor'), (3, 'Support'), (4, 'Admin'), (5, 'Master'), (6, 'Sales'),
       (8, 'Planning'), (9, 'Production'), (11, 'Technician'), (12, 'Audit');

insert into auth_group_permissions (id, group_id, permission_id)
select row_number() over (order by g.id, p.id), g.id, p.id
from auth_group g cross join auth_permission p
where roll(g.id * 1000 + p.id, 20) < 0.15;

-- Who is what. The number of each sort is exact, who it is depends on a hash.
create table person as
select p.place, p.id::integer as id,
       case
           when p.rank <= many(8527) then 'patient'
           when p.rank <= many(8527) + many(1213) then 'doctor'
           when p.rank <= many(8527) + many(1213) + many(85) then 'technician'
           when p.rank <= many(8527) + many(1213) + many(85) + many(18) then 'master'
           when p.rank <= many(8527) + many(1213) + many(85) + many(18) + many(14) then 'sales'
           else 'other'
       end as sort,
       working_time(power(p.place::float8 / p.total, 0.7), p.id, 21) as joined
from (
    select i.place, i.id, count(*) over () as total,
           row_number() over (order by roll(i.id, 23), i.id) as rank
    from sparse_ids(many(9886), 0.965, 22) i
) p;

insert into auth_user
    (id, password, last_login, is_superuser, username, first_name, last_name, email,
     is_staff, is_active, date_joined)
select
    p.id,
    'pbkdf2_sha256$260000$' || left(md5('salt' || p.id), 22) || '$' || md5('hash' || p.id)
        || left(md5('tail' || p.id), 11) || '=',
    case
        when p.sort = 'doctor' and roll(p.id, 24) < 0.30 then null
        when p.sort = 'patient' and roll(p.id, 24) < 0.45 then null
        else p.joined + roll(p.id, 25) * (timestamptz '2025-11-17 23:00+00' - p.joined)
    end,
    p.sort = 'other' and roll(p.id, 26) < 0.3,
    case
        when p.sort = 'doctor' and roll(p.id, 27) < 0.19 then one_of(p.id, 28, '{test,demo,dev}') || '_dr_' || p.id
        when roll(p.id, 27) < 0.7 then left(p.sort, 2) || lpad(p.id::text, 7, '0')
        else left(p.sort, 2) || '.' || substr(md5('name' || p.id), 1, 6) || '.' || p.id
    end,
    case when p.sort = 'other' and roll(p.id, 29) < 0.2 then '' else given_name(p.id) end,
    case when p.sort = 'other' and roll(p.id, 29) < 0.2 then '' else family_name(p.id) end,
    case
        when p.sort = 'patient' and roll(p.id, 30) < 0.35 then ''
        else one_of(p.id, 31, '{person,user,contact,mail,no.reply}') || one_of(p.id, 32, '{.,_,-,+}') || p.id || '@'
            || one_of(p.id, 33, '{example.com,example.org,example.net,mail.example.com,clinic.example.org}')
    end,
    p.sort in ('master', 'sales', 'other') or p.sort = 'technician' and roll(p.id, 34) < 0.5,
    roll(p.id, 35) < case p.sort when 'doctor' then 0.86 when 'technician' then 0.4 else 0.97 end,
    p.joined
from person p
order by p.id;

insert into auth_user_groups (id, user_id, group_id)
select row_number() over (order by p.id), p.id,
       case p.sort when 'patient' then 1 when 'doctor' then 2 when 'technician' then 11
                   when 'master' then 5 when 'sales' then 6 else 4 end
from person p
where p.sort <> 'doctor' or roll(p.id, 36) < 0.93;

insert into dispatch_language (id, code, name)
values (1, 'en', 'English'), (2, 'ja', '日本語'), (3, 'th', 'ไทย'), (5, 'vi', 'Tiếng Việt');

insert into dispatch_usersetting (id, user_id, language_id, time_zone, notify_by_email)
select row_number() over (order by p.id), p.id,
       case when writes_japanese(p.id) then 2 when roll(p.id, 37) < 0.1 then null else 1 end,
       one_of(p.id, 38, '{America/Los_Angeles,America/Chicago,America/New_York,Asia/Kolkata,Asia/Tokyo,Asia/Bangkok}'),
       roll(p.id, 39) < 0.8
from person p
where p.sort = 'doctor' and roll(p.id, 40) < 0.975;

insert into dispatch_doctorsetting
    (id, user_id, clinical_preferences, sq_customer_id, promised_payment, credit, tier_type,
     tier_finish, installment_payments, baa_agreed_at, eula_agreed_at, company_account)
select
    row_number() over (order by p.id) + p.place / 400, p.id,
    case
        when roll(p.id, 41) < 0.3 then '{}'
        when roll(p.id, 41) < 0.4 then ''
        else format('{"ipr": %s, "attachments": "%s", "stages_per_box": %s, "note": %s}',
                    (roll(p.id, 42) < 0.5)::text, one_of(p.id, 43, '{front,molars,any,none}'),
                    2 + pick(p.id, 44, 9), to_json(sentence(p.id, 45)))
    end,
    case when roll(p.id, 46) < 0.6 then 'SQ' || upper(left(md5('sq' || p.id), 20)) else '' end,
    roll(p.id, 47) < 0.1,
    case when roll(p.id, 48) < 0.9 then 0.00 else pick(p.id, 49, 90000) * 0.01 end,
    case when roll(p.id, 50) < 0.6 then 1 + pick(p.id, 51, 4) end,
    case when roll(p.id, 50) < 0.2 then p.joined + interval '8760 hours' end,
    pick(p.id, 52, 4) * 3,
    case when roll(p.id, 53) < 0.8 then p.joined + interval '15 minutes' end,
    case when roll(p.id, 53) < 0.9 then p.joined + interval '16 minutes' end,
    roll(p.id, 54) < 0.07
from person p
where p.sort = 'doctor';

-- Countries in the proportions of the real system. Rates are fractions here; the fault that
-- writes them as percentages comes with the others.
insert into dispatch_office
    (id, name, address, apt, city, state, zip, country, phone, tax_rate, valid, sq_customer_id, emails)
select
    o.id,
    case when o.country = 'Japan' then
        one_of(o.id, 61, '{架空,見本,試験,仮名}') || one_of(o.id, 62, '{矯正歯科,デンタルクリニック,歯科医院}')
    else
        family_name(o.id * 7 + 1) || one_of(o.id, 63, '{" "," ","  "}')
            || one_of(o.id, 64, '{Orthodontics,Dental Care,SMILE STUDIO,& Partners,dental clinic}')
    end,
    (1 + pick(o.id, 65, 9800)) || ' ' || one_of(o.id, 66, '{Nowhere,Sample,Fictional,Placeholder}')
        || ' ' || one_of(o.id, 67, '{Road,Street,Ave.,Blvd}'),
    case when roll(o.id, 68) < 0.3 then 'Suite ' || (1 + pick(o.id, 69, 900)) else '' end,
    case o.country
        when 'Japan' then one_of(o.id, 70, '{東京,大阪,名古屋}')
        when 'India' then one_of(o.id, 70, '{Mumbai,Pune,Kochi}')
        when 'Thailand' then one_of(o.id, 70, '{Bangkok,Chiang Mai}')
        else one_of(o.id, 70, '{Springfield,Riverton,Lakeside,Hilltop}')
    end,
    case o.country when 'USA' then one_of(o.id, 71, '{CA,TX,NY,FL,wa,Ohio}') else '' end,
    case o.country
        when 'Japan' then lpad(pick(o.id, 72, 1000)::text, 3, '0') || '-' || lpad(pick(o.id, 73, 10000)::text, 4, '0')
        when 'India' then (110000 + pick(o.id, 72, 700000))::text
        else lpad((501 + pick(o.id, 72, 99000))::text, 5, '0')
    end,
    o.country,
    one_of(o.id, 74, '{+1 (555) 010-,555-01,+00 555 01,(555) 01}') || lpad(pick(o.id, 75, 10000)::text, 4, '0')
        || case when roll(o.id, 76) < 0.1 then ' ext. ' || pick(o.id, 77, 99) else '' end,
    case
        when roll(o.id, 78) < 0.05 then null
        when roll(o.id, 78) < 0.15 then 0
        when o.country = 'USA' then (400 + 25 * pick(o.id, 79, 28)) * 0.0001
        when o.country = 'Japan' then 0.1
        when o.country = 'India' then 0.18
        else 0.07
    end,
    case when roll(o.id, 80) < 0.61 then true when roll(o.id, 80) < 0.91 then false end,
    case when roll(o.id, 81) < 0.4 then 'SQ' || upper(left(md5('office' || o.id), 20)) else '' end,
    roll(o.id, 82) < 0.82
from (
    select i.id::integer as id,
           case
               when roll(i.id, 60) < 0.620 then 'USA'
               when roll(i.id, 60) < 0.793 then 'India'
               when roll(i.id, 60) < 0.916 then 'Japan'
               when roll(i.id, 60) < 0.987 then 'Thailand'
               else one_of(i.id, 83, '{Vietnam,Australia,Philippines,Singapore,France,New Zealand}')
           end as country
    from sparse_ids(many(898), 0.96, 59) i
) o;

-- Doctors in a fixed order, the busy ones first; and the first of them have patients.
create table doctor as
select row_number() over (order by roll(id, 84), id) as rank, id
from person
where sort = 'doctor';

insert into dispatch_office_doctors (id, office_id, user_id)
select row_number() over (order by d.id, d.nth) + row_number() over (order by d.id, d.nth) / 30,
       (select array_agg(id order by id) from dispatch_office)[1 + (pick(d.id, 85, many(898)::integer) + d.nth) % many(898)],
       d.id
from (
    select id, 0 as nth from doctor where rank <= many(424)
    union all
    select id, 1 from doctor where rank <= least(many(48), many(898) - 1)
) d;

insert into dispatch_patient
    (id, user_id, doctor_id, office_id, birthdate, sex, suffix, status, archived, suspended,
     submitted_at, updated_at, schemes)
select
    p.id, p.user_id, p.doctor_id,
    case
        when roll(p.id, 86) < 0.08 then null
        else coalesce(
            (select min(o.office_id) from dispatch_office_doctors o where o.user_id = p.doctor_id),
            (select array_agg(id order by id) from dispatch_office)[1 + pick(p.id, 87, many(898)::integer)])
    end,
    case when roll(p.id, 88) > 0.06 then date '1950-01-01' + pick(p.id, 89, 24800) end,
    case
        when roll(p.id, 90) < 0.08 then null
        when roll(p.id, 90) < 0.085 then 0
        when roll(p.id, 90) < 0.49 then 1
        else 2
    end,
    case when roll(p.id, 91) < 0.97 then upper(lpad(to_hex(pick(p.id, 92, 65536)), 4, '0'))
         else lpad(pick(p.id, 92, 100)::text, 2, '0') || '-' || chr(65 + pick(p.id, 93, 26)) || '/日' end,
    case
        when roll(p.id, 94) < 0.55 then 1
        when roll(p.id, 94) < 0.75 then 4
        when roll(p.id, 94) < 0.85 then 2
        else 10
    end,
    roll(p.id, 95) < 0.12,
    roll(p.id, 96) < 0.03,
    case when roll(p.id, 97) > 0.04 then later(p.joined, 86400 * roll(p.id, 98)) end,
    case when roll(p.id, 99) > 0.10 then later(p.joined, 90000 + 31000000 * roll(p.id, 100)) end,
    case
        when roll(p.id, 101) < 0.55 then '{}'
        when roll(p.id, 101) < 0.58 then ''
        else format('{"crowding": %s, "class": "%s", "upper": [%s, %s], "remark": %s}',
                    pick(p.id, 102, 9), one_of(p.id, 103, '{I,II,III}'),
                    11 + pick(p.id, 104, 8), 21 + pick(p.id, 105, 8), to_json(sentence(p.id, 106)))
    end
from (
    select
        -- The last few per cent came from another system, with ids of their own.
        (case when i.place > 0.97 * many(8527) then 514000 + i.id else i.id end)::integer as id,
        u.id as user_id, u.joined, d.id as doctor_id
    from sparse_ids(many(8527), 0.955, 107) i
    join (select id, joined, row_number() over (order by id) as place from person where sort = 'patient') u
        using (place)
    join doctor d on d.rank = 1 + floor(many(440) * power(roll(i.id, 108), 2.5))
) p;

reset search_path;
