-- The generator, part 11: the faults of the other tables. No entity reads them yet, so the
-- manifest says `undecided`: what a migration must do is decided with the entity.

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

select spoil_other('comment_on_orphan_plan', 'dispatch_comment', 'plan_id', 0.004, 'the plan has no instruction');
update dispatch_comment c set plan_id =
    (select array_agg(legacy_id order by legacy_id) from regraft_dirt
     where kind in ('plan_of_missing_instruction', 'plan_without_instruction'))[1 + s.nth % faults(0.001, many(69700))]
from spoiled('comment_on_orphan_plan') s where s.id = c.id;

select spoil_other('comment_on_missing_plan', 'dispatch_comment', 'plan_id', 0.0005, 'plan_id is no plan');
update dispatch_comment c set plan_id = 5000000 + c.id
from spoiled('comment_on_missing_plan') s where s.id = c.id;

select spoil_other('comment_blank', 'dispatch_comment', 'text', 0.003, 'nothing, or nothing but space');
update dispatch_comment c set text = (array['', '  ', E' \n\t'])[1 + s.nth % 3]
from spoiled('comment_blank') s where s.id = c.id;

select spoil_other('comment_without_author', 'dispatch_comment', 'author_id', 0.002, 'author_id is NULL');
update dispatch_comment c set author_id = null
from spoiled('comment_without_author') s where s.id = c.id;

select spoil_other('note_without_author', 'dispatch_note', 'author_id', 0.005, 'author_id is NULL');
update dispatch_note c set author_id = null
from spoiled('note_without_author') s where s.id = c.id;

select spoil_other('state_of_deleted_order', 'dispatch_state', 'instruction_id', 0.039, 'the instruction is deleted');
update dispatch_state t set instruction_id =
    (select array_agg(id order by id) from dispatch_instruction where deleted)[1 + pick(s.id, 600, many(1300)::integer)]
from spoiled('state_of_deleted_order') s where s.id = t.id;

-- Messages and files ------------------------------------------------------------------------

select spoil_other('record_of_unknown_type', 'dispatch_record', 'target_type_id', 0.002, 'no content type, or NULL');
update dispatch_record r set target_type_id = case when s.nth % 2 = 0 then 99 end
from spoiled('record_of_unknown_type') s where s.id = r.id;

select spoil_other('record_without_target', 'dispatch_record', 'target_id', 0.002, 'target_id is no row, or NULL');
update dispatch_record r set target_id = case when s.nth % 2 = 0 then 5000000 + r.id end
from spoiled('record_without_target') s where s.id = r.id;

select spoil_other('record_without_author', 'dispatch_record', 'author_id', 0.01, 'author_id is NULL');
update dispatch_record r set author_id = null
from spoiled('record_without_author') s where s.id = r.id;

with copied as (
    insert into dispatch_record_attachments (id, record_id, file_id)
    select (select max(id) from dispatch_record_attachments) + row_number() over (order by a.id), a.record_id, a.file_id
    from (select * from dispatch_record_attachments order by roll(id, 601), id limit faults(0.001, many(8919))) a
    returning id
)
insert into regraft_dirt
select 'attachment_twice', null, 'dispatch_record_attachments', id, null, 'the second row of a pair', 'undecided'
from copied order by id;

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

-- Tasks and notifications --------------------------------------------------------------------

select spoil_large('task_without_instruction', 'dispatch_task', 'instruction_id', 0.0083, 'instruction_id is NULL');
update dispatch_task t set instruction_id = null
from spoiled('task_without_instruction') s where s.id = t.id;

select spoil_large('task_of_missing_instruction', 'dispatch_task', 'instruction_id', 0.0002, 'instruction_id is no instruction');
update dispatch_task t set instruction_id = 5000000 + t.id
from spoiled('task_of_missing_instruction') s where s.id = t.id;

select spoil_large('notification_context_broken', 'dispatch_notification', 'template_context', 0.00002,
    'no valid JSON', 't.sent and t.send');
update dispatch_notification n set template_context = (array[
    '{"link": "C:\orders\7"}', '', '{"patient": "\ud83d"}', '{"patient": "Zorindo', '{"patient": "\u0000"}', '{"kind": NaN}'])[1 + s.nth % 6]
from spoiled('notification_context_broken') s where s.id = n.id;

select spoil_large('notification_of_missing_item', 'dispatch_notification', 'item_id', 0.00002, 'item_id is no row, or NULL');
update dispatch_notification n set item_id = case when s.nth % 2 = 0 then 5000000 + s.nth end
from spoiled('notification_of_missing_item') s where s.id = n.id;

select spoil_large('notification_without_recipient', 'dispatch_notification', 'recipient_id', 0.00002, 'recipient_id is NULL');
update dispatch_notification n set recipient_id = null
from spoiled('notification_without_recipient') s where s.id = n.id;

-- Money ---------------------------------------------------------------------------------------

select spoil_other('payment_without_order', 'dispatch_payment', 'instruction_id', 0.0003, 'instruction_id is NULL');
update dispatch_payment p set instruction_id = null
from spoiled('payment_without_order') s where s.id = p.id;

select spoil_other('payment_of_missing_order', 'dispatch_payment', 'instruction_id', 0.0002, 'instruction_id is no instruction');
update dispatch_payment p set instruction_id = 5000000 + p.id
from spoiled('payment_of_missing_order') s where s.id = p.id;

select spoil_other('payment_canceled_and_paid', 'dispatch_payment', 'canceled', 0.001, 'both', 't.paid');
update dispatch_payment p set canceled = true
from spoiled('payment_canceled_and_paid') s where s.id = p.id;

select spoil_other('operation_without_type', 'dispatch_operation', 'type', 0.001, 'type is NULL');
update dispatch_operation o set "type" = null
from spoiled('operation_without_type') s where s.id = o.id;

select spoil_other('offer_without_doctor', 'dispatch_offer', 'doctor_id', 0.001, 'doctor_id is NULL', 'true', 1);
update dispatch_offer o set doctor_id = null
from spoiled('offer_without_doctor') s where s.id = o.id;

select spoil_other('discount_on_lost_offer', 'dispatch_discount', 'offer_id', 0.1, 'the offer has no doctor');
update dispatch_discount d set offer_id = (select min(id) from spoiled('offer_without_doctor'))
from spoiled('discount_on_lost_offer') s where s.id = d.id;

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
