-- The generator, part 4: the faults of the tables that the core entities read.
--
-- Rates are shares of a table at dirt 1; a fault that occurs at all hits at least two rows
-- (courses: one). Faults that keep a row out come first and never meet in one row, so that
-- each row has one reason; harmless ones come after and leave those rows alone.

set search_path = regraft_generator, public;

-- Chooses rows for a fault and writes them into the manifest. `pool` is a condition on the
-- table `t`; rows chosen before are out of reach. The entity's key must be the table's id.
create function spoil(
    kind text, entity text, table_name text, column_name text, rate float8,
    detail text, expect text, pool text default 'true', fewest bigint default 2
) returns void
    language plpgsql
as $$
declare
    size bigint;
begin
    execute format('select count(*) from %I', table_name) into size;
    execute format(
        'insert into regraft_dirt
         select $1, $2, $3, t.id, $4, $5, $6 from %I t
         where (%s) and not exists (
             select from regraft_dirt d
             where d.table_name = $3 and d.legacy_id = t.id
               and (d.expect <> ''kept'' or $6 = ''kept'' and d.column_name = $4))
         order by roll(t.id, hashtext($1)), t.id limit $7', table_name, pool)
    using kind, entity, table_name, column_name, detail, expect, faults(rate, size, fewest);
end
$$;

-- The rows that a fault was given, numbered.
create function spoiled(of_kind text) returns table (nth bigint, id bigint)
    language sql stable
as $$
    select row_number() over (order by legacy_id), legacy_id from regraft_dirt where kind = of_kind
$$;

-- Offices ---------------------------------------------------------------------------

select spoil('office_without_name', 'offices', 'dispatch_office', 'name', 0.003,
    'nothing but spaces', 'quarantined:not_null:name');
update dispatch_office o set name = repeat(' ', (s.nth % 3)::integer)
from spoiled('office_without_name') s where s.id = o.id;

select spoil('tax_rate_without_point', 'offices', 'dispatch_office', 'tax_rate', 0.003,
    '825 instead of 8.25', 'quarantined:check_violation:tax_rate_is_fraction');
update dispatch_office o set tax_rate = 400 + 25 * s.nth % 500
from spoiled('tax_rate_without_point') s where s.id = o.id;

select spoil('tax_rate_too_fine', 'offices', 'dispatch_office', 'tax_rate', 0.003,
    'a percentage of three decimals: a fraction of five', 'quarantined:numeric_scale:tax_rate');
update dispatch_office o set tax_rate = 8.875
from spoiled('tax_rate_too_fine') s where s.id = o.id;

select spoil('tax_rate_absurd', 'offices', 'dispatch_office', 'tax_rate', 0.002,
    'a phone number in the wrong field', 'quarantined:numeric_out_of_range:tax_rate');
update dispatch_office o set tax_rate = 5550100 + s.nth
from spoiled('tax_rate_absurd') s where s.id = o.id;

select spoil('country_malformed', 'offices', 'dispatch_office', 'country', 0.003,
    'digits and signs', 'quarantined:check_violation:country_format');
update dispatch_office o set country = ('{JP-13,日本,U$A,n/a}'::text[])[1 + s.nth % 4]
from spoiled('country_malformed') s where s.id = o.id;

select spoil('tax_rate_as_percentage', 'offices', 'dispatch_office', 'tax_rate', 0.6,
    'becomes a fraction', 'kept', 't.tax_rate > 0.01');
update dispatch_office o set tax_rate = trim_scale(o.tax_rate * 100)
from spoiled('tax_rate_as_percentage') s where s.id = o.id;

select spoil('country_null', 'offices', 'dispatch_office', 'country', 0.0045, 'stays NULL', 'kept');
update dispatch_office o set country = null
from spoiled('country_null') s where s.id = o.id;

select spoil('country_spelling', 'offices', 'dispatch_office', 'country', 0.05,
    'another spelling of USA', 'kept', $$t.country = 'USA'$$);
update dispatch_office o set country = ('{us,United States,u.s.a.,usa,united  states}'::text[])[1 + s.nth % 5]
from spoiled('country_spelling') s where s.id = o.id;

select spoil('zip_alphanumeric', 'offices', 'dispatch_office', 'zip', 0.02, 'stays as it is', 'kept');
update dispatch_office o set zip = 'ZZ' || s.nth % 90 || ' ' || s.nth % 9 || 'QX'
from spoiled('zip_alphanumeric') s where s.id = o.id;

-- The same office entered again, in other letters and spaces: merged into the first. Only where
-- no doctor is linked to it, so that no pair of doctor and office comes twice by it.
select spoil('office_twice', 'offices', 'dispatch_office', 'address', 0.01,
    'name and address of an earlier office: merged into it', 'kept',
    't.id > (select min(id) + 20 from dispatch_office) and not exists (
         select from dispatch_office_doctors l where l.office_id = t.id)
     and not exists (select from regraft_dirt d where d.entity = ''offices'' and d.legacy_id = t.id)');
update dispatch_office o
set name = ' ' || upper(e.name), address = replace(e.address, ' ', '  ') || ' ', city = upper(e.city),
    apt = e.apt, state = e.state, zip = ' ' || e.zip
from spoiled('office_twice') s
cross join lateral (
    select x.* from dispatch_office x
    where x.id < s.id and btrim(x.address) <> ''
      and not exists (select from regraft_dirt d where d.entity = 'offices' and d.legacy_id = x.id)
    order by x.id desc limit 1) e
where s.id = o.id;

-- Users -----------------------------------------------------------------------------

select spoil('first_name_too_long', 'profiles', 'auth_user', 'first_name', 0.0005,
    '101 to 150 characters', 'quarantined:value_too_long:first_name',
    'exists (select from dispatch_patient p where p.user_id = t.id)');
update auth_user u set first_name = left(repeat('Zorindravo', 15), 100 + (1 + s.nth % 50)::integer)
from spoiled('first_name_too_long') s where s.id = u.id;

-- Of the doctors with the fewest patients: their patients and orders are held back with them.
select spoil('doctor_name_too_long', 'profiles', 'auth_user', 'last_name', 0.0003,
    '101 characters, of a doctor', 'quarantined:value_too_long:last_name',
    't.id in (select doctor_id from dispatch_patient group by doctor_id order by count(*), doctor_id
              limit 2 * faults(0.0003, many(9886)))');
update auth_user u set last_name = left(repeat('Quell-Ümbr-', 15), 101)
from spoiled('doctor_name_too_long') s where s.id = u.id;

-- Patients: what is wrong with a patient row shows in the profile, too -----------------

-- Rows of patients whose user and doctor are without a fault of their own.
create view sound_patient as
select p.id from dispatch_patient p
where not exists (
    select from regraft_dirt d where d.entity = 'profiles' and d.legacy_id in (p.user_id, p.doctor_id));

select spoil('suffix_empty', 'patients', 'dispatch_patient', 'suffix', 0.002,
    'a patient needs one', 'blocked:profiles', 't.id in (select id from sound_patient)');
update dispatch_patient p set suffix = repeat(' ', (s.nth % 2)::integer)
from spoiled('suffix_empty') s where s.id = p.id;
insert into regraft_dirt
select 'suffix_empty', 'profiles', 'auth_user', p.user_id, 'suffix', 'a patient needs one',
       'quarantined:check_violation:patient_suffix_required'
from spoiled('suffix_empty') s join dispatch_patient p using (id);

select spoil('suffix_too_long', 'patients', 'dispatch_patient', 'suffix', 0.0005,
    'more than 10 characters', 'quarantined:value_too_long:suffix', 't.id in (select id from sound_patient)');
update dispatch_patient p set suffix = 'OLD/' || lpad(s.nth::text, 7 + (s.nth % 9)::integer, '0')
from spoiled('suffix_too_long') s where s.id = p.id;
insert into regraft_dirt
select 'suffix_too_long', 'profiles', 'auth_user', p.user_id, 'suffix', 'more than 10 characters',
       'quarantined:value_too_long:patient_suffix'
from spoiled('suffix_too_long') s join dispatch_patient p using (id);

select spoil('sex_unseen', 'patients', 'dispatch_patient', 'sex', 0.0005,
    'a code that no map knows', 'quarantined:unmapped_value:sex', 't.id in (select id from sound_patient)');
update dispatch_patient p set sex = 3 + (s.nth % 2) * 6
from spoiled('sex_unseen') s where s.id = p.id;
insert into regraft_dirt
select 'sex_unseen', 'profiles', 'auth_user', p.user_id, 'sex', 'a code that no map knows',
       'quarantined:unmapped_value:gender'
from spoiled('sex_unseen') s join dispatch_patient p using (id);

select spoil('patient_status_unseen', 'patients', 'dispatch_patient', 'status', 0.001,
    '3 or 7', 'quarantined:unmapped_value:status', 't.id in (select id from sound_patient)');
update dispatch_patient p set status = ('{3,7}'::smallint[])[1 + s.nth % 2]
from spoiled('patient_status_unseen') s where s.id = p.id;

select spoil('patient_of_unknown_doctor', 'patients', 'dispatch_patient', 'doctor_id', 0.0015,
    'doctor_id is no user', 'quarantined:missing_parent:primary_doctor_id', 't.id in (select id from sound_patient)');
update dispatch_patient p set doctor_id = 5000000 + p.id
from spoiled('patient_of_unknown_doctor') s where s.id = p.id;

select spoil('patient_without_doctor', 'patients', 'dispatch_patient', 'doctor_id', 0.002,
    'doctor_id is NULL; the orders of the patient have no doctor', 'kept', 't.id in (select id from sound_patient)');
update dispatch_patient p set doctor_id = null
from spoiled('patient_without_doctor') s where s.id = p.id;

select spoil('patient_of_unknown_office', 'patients', 'dispatch_patient', 'office_id', 0.003,
    'office_id is no office: becomes NULL', 'kept');
update dispatch_patient p set office_id = 900000 + p.id
from spoiled('patient_of_unknown_office') s where s.id = p.id;

select spoil('patient_of_invalid_office', 'patients', 'dispatch_patient', 'office_id', 0.02,
    'the office is not marked valid', 'kept');
update dispatch_patient p set office_id =
    (select array_agg(id order by id) from dispatch_office where valid is not true)[1 + s.nth % greatest(1, many(898) / 4)]
from spoiled('patient_of_invalid_office') s where s.id = p.id;

select spoil('schemes_broken', 'patients', 'dispatch_patient', 'schemes', 0.008,
    'no valid JSON: kept as {"raw": ...}', 'kept');
update dispatch_patient p set schemes = (array[
    '{"crowding": 3, "class": "II", "upp', '{"remark": "C:\scans"}', '{"remark": "\ud83d"}', '{"remark": "\u0000"}',
    '{''class'': ''II''}', '{"crowding": NaN}', 'none', '{"class": "I",}'])[1 + s.nth % 8]
from spoiled('schemes_broken') s where s.id = p.id;

select spoil('schemes_of_another_type', 'patients', 'dispatch_patient', 'schemes', 0.002,
    'valid JSON, but no object', 'kept');
update dispatch_patient p set schemes = ('["[]","[1, 2]","null","\"text\"","17"]'::jsonb ->> (s.nth % 5)::integer)
from spoiled('schemes_of_another_type') s where s.id = p.id;

-- Harmless faults of users -------------------------------------------------------------

-- Rows that the faults of patients keep out can't be shown to be kept.
create view sound_user as
select u.id from auth_user u
where not exists (select from regraft_dirt d where d.entity = 'profiles' and d.expect <> 'kept' and d.legacy_id = u.id);

select spoil('email_duplicate', 'profiles', 'auth_user', 'email', 0.007,
    'an address that up to eleven users share', 'kept', 't.id in (select id from sound_user)', 11);
update auth_user u set email = 'front.desk.' || (s.nth - 1) / 11 || '@example.com'
from spoiled('email_duplicate') s where s.id = u.id;

select spoil('email_null_text', 'profiles', 'auth_user', 'email', 0.004,
    'the text null: becomes NULL', 'kept', 't.id in (select id from sound_user)');
update auth_user u set email = 'null'
from spoiled('email_null_text') s where s.id = u.id;

select spoil('email_invalid', 'profiles', 'auth_user', 'email', 0.006,
    'no address: becomes NULL', 'kept', 't.id in (select id from sound_user)');
update auth_user u set email = (array[
    'nobody.example.com', 'two@@example.com', 'with space@example.com', 'nobody@localhost', 'nobody@example.com.',
    'nobody@exämple.org', 'a@example.com, b@example.com', '-'])[1 + s.nth % 8]
from spoiled('email_invalid') s where s.id = u.id;

select spoil('email_typo', 'profiles', 'auth_user', 'email', 0.003,
    'a mistyped domain: not ours to correct', 'kept', 't.id in (select id from sound_user)');
update auth_user u set email = 'fictional.' || u.id || '@' || ('{gmial.com,gmai.com,yaho.com}'::text[])[1 + s.nth % 3]
from spoiled('email_typo') s where s.id = u.id;

select spoil('email_untidy', 'profiles', 'auth_user', 'email', 0.01,
    'capitals and spaces', 'kept', 't.id in (select id from sound_user)');
update auth_user u set email = '  Fictional.' || u.id || '@EXAMPLE.org '
from spoiled('email_untidy') s where s.id = u.id;

select spoil('name_duplicate', 'profiles', 'auth_user', 'first_name', 0.016,
    'the name of up to eleven people', 'kept', 't.id in (select id from sound_user)', 11);
update auth_user u set first_name = 'Zosette', last_name = 'Quellwick ' || (s.nth - 1) / 11
from spoiled('name_duplicate') s where s.id = u.id;

select spoil('name_empty', 'profiles', 'auth_user', 'first_name', 0.01,
    'becomes NULL', 'kept', 't.id in (select id from sound_user)');
update auth_user u set first_name = '', last_name = ''
from spoiled('name_empty') s where s.id = u.id;

select spoil('name_null_text', 'profiles', 'auth_user', 'first_name', 0.004,
    'the text null: becomes NULL', 'kept', 't.id in (select id from sound_user)');
update auth_user u set first_name = 'null', last_name = 'null'
from spoiled('name_null_text') s where s.id = u.id;

select spoil('name_untidy', 'profiles', 'auth_user', 'first_name', 0.01,
    'spaces around and within', 'kept', 't.id in (select id from sound_user)');
update auth_user u set first_name = E' Ari \t rindo ', last_name = '  ' || u.last_name
from spoiled('name_untidy') s where s.id = u.id;

select spoil('name_just_fits', 'profiles', 'auth_user', 'first_name', 0.0005,
    '100 characters, which are 300 bytes', 'kept', 't.id in (select id from sound_user)');
update auth_user u set first_name = repeat('架空の名前', 20)
from spoiled('name_just_fits') s where s.id = u.id;

-- Who is what ----------------------------------------------------------------------------

select spoil('doctor_without_setting', 'doctors', 'auth_user', null, 0.0005,
    'no setting, no office, no group: only a patient knows', 'kept',
    'exists (select from dispatch_patient p where p.doctor_id = t.id)
     and not exists (select from dispatch_patient p where p.user_id = t.id)
     and t.id in (select id from sound_user)');
delete from dispatch_doctorsetting using spoiled('doctor_without_setting') s where user_id = s.id;
delete from dispatch_office_doctors using spoiled('doctor_without_setting') s where user_id = s.id;
delete from auth_user_groups using spoiled('doctor_without_setting') s where user_id = s.id;

select spoil('doctor_on_the_staff', 'doctors', 'auth_user', null, 0.002,
    'staff, superuser and group Master: still a doctor', 'kept',
    'exists (select from dispatch_doctorsetting s where s.user_id = t.id) and t.id in (select id from sound_user)');
update auth_user u set is_staff = true, is_superuser = true
from spoiled('doctor_on_the_staff') s where s.id = u.id;
insert into auth_user_groups (id, user_id, group_id)
select (select max(id) from auth_user_groups) + s.nth, s.id, 5 from spoiled('doctor_on_the_staff') s;

select spoil('patient_in_group_doctor', 'profiles', 'auth_user', null, 0.001,
    'several groups: the patient row decides, and a row in doctors comes with it', 'kept',
    'exists (select from dispatch_patient p where p.user_id = t.id) and t.id in (select id from sound_user)');
insert into auth_user_groups (id, user_id, group_id)
select (select max(id) from auth_user_groups) + row_number() over (order by s.id, g), s.id, g
from spoiled('patient_in_group_doctor') s cross join unnest('{2,11}'::integer[]) g;

select spoil('user_in_no_group', 'profiles', 'auth_user', null, 0.001,
    'nothing tells what the user is: client', 'kept',
    $$exists (select from person p where p.id = t.id and p.sort in ('technician', 'master', 'sales', 'other'))
      and t.id in (select id from sound_user)$$);
delete from auth_user_groups using spoiled('user_in_no_group') s where user_id = s.id;
update auth_user u set is_superuser = s.nth % 2 = 1
from spoiled('user_in_no_group') s where s.id = u.id;

select spoil('preferences_broken', 'doctors', 'dispatch_doctorsetting', 'clinical_preferences', 0.01,
    'no valid JSON: kept as {"raw": ...}', 'kept');
update dispatch_doctorsetting d
set clinical_preferences = (array['{"ipr": true, ', 'call before shipping', '{"note": "\q"}'])[1 + s.nth % 3]
from spoiled('preferences_broken') s where s.id = d.id;
-- The key of the entity is the user's.
update regraft_dirt d set legacy_id = t.user_id
from dispatch_doctorsetting t where d.kind = 'preferences_broken' and t.id = d.legacy_id;

-- Doctors in offices -----------------------------------------------------------------------

-- Links whose doctor and office are without a fault.
create view sound_link as
select l.id from dispatch_office_doctors l
where not exists (
    select from regraft_dirt d
    where d.expect <> 'kept'
      and (d.entity = 'profiles' and d.legacy_id = l.user_id or d.entity = 'offices' and d.legacy_id = l.office_id));

select spoil('link_to_unknown_office', 'doctor_offices', 'dispatch_office_doctors', 'office_id', 0.004,
    'office_id is no office', 'quarantined:missing_parent:office_id', 't.id in (select id from sound_link)');
update dispatch_office_doctors l set office_id = 900000 + l.id
from spoiled('link_to_unknown_office') s where s.id = l.id;

select spoil('link_to_unknown_doctor', 'doctor_offices', 'dispatch_office_doctors', 'user_id', 0.004,
    'user_id is no user', 'quarantined:missing_parent:doctor_id', 't.id in (select id from sound_link)');
update dispatch_office_doctors l set user_id = 5000000 + l.id
from spoiled('link_to_unknown_doctor') s where s.id = l.id;

-- The first row of a pair goes in, the second meets the unique pair.
select spoil('link_twice', 'doctor_offices', 'dispatch_office_doctors', null, 0.008,
    'there is a second row for this pair', 'kept', 't.id in (select id from sound_link)');
with copied as (
    insert into dispatch_office_doctors (id, office_id, user_id)
    select (select max(id) from dispatch_office_doctors) + s.nth, l.office_id, l.user_id
    from spoiled('link_twice') s join dispatch_office_doctors l using (id)
    returning id
)
insert into regraft_dirt
select 'link_twice', 'doctor_offices', 'dispatch_office_doctors', id, null, 'the second row of a pair',
       'quarantined:unique_violation:doctor_offices_doctor_id_office_id_key'
from copied order by id;

-- Courses -------------------------------------------------------------------------------------

insert into dispatch_course (id, name, type, customization)
select 9, 'Retention', 9, '{}' where faults(1, 1) > 0;
insert into regraft_dirt
select 'course_new', 'courses', 'dispatch_course', 9, 'id', 'no map knows it', 'quarantined:unmapped_value:course_type'
where faults(1, 1) > 0;

update dispatch_course set customization = '{"colour": "#' where id = 2 and faults(1, 1) > 0;
insert into regraft_dirt
select 'customization_broken', 'courses', 'dispatch_course', 2, 'customization', 'no valid JSON: becomes NULL', 'kept'
where faults(1, 1) > 0;

reset search_path;
