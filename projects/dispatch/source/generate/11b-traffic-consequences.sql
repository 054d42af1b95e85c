-- The generator, part 11b: the faults of money, messages, comments and notifications, and
-- what follows for them from the faults of others.

set search_path = regraft_generator, public;

-- The rows of a table that refer to a row that is held back, as blocked rows of an entity.
-- `parent_id` and `pool` are expressions on the table `t`.
create function block(
    child text, table_name text, parent text, parent_id text, pool text default 'true'
) returns void
    language plpgsql
as $$
begin
    execute format(
        'insert into regraft_dirt
         select ''consequence'', $1, $2, t.id, null, ''the parent is held back'', ''blocked:'' || $3
         from %I t join held_back_row h on h.entity = $3 and h.legacy_id = (%s)
         where (%s) order by t.id', table_name, parent_id, pool)
    using child, table_name, parent;
end
$$;

-- One fault that means the same for the rows of another entity, or another thing.
create function also(of_kind text, for_entity text, but_expect text) returns void
    language sql
as $$
    insert into regraft_dirt
    select kind, for_entity, table_name, legacy_id, column_name, detail, but_expect
    from regraft_dirt where kind = of_kind order by legacy_id
$$;

-- Money ---------------------------------------------------------------------------------------

-- Payments of orders that are moved.
create view sound_payment as
select y.id from dispatch_payment y
where y.instruction_id is not null
  and not exists (select from held_back_row h where h.entity = 'orders' and h.legacy_id = y.instruction_id)
  and not exists (select from held_back_row h where h.entity = 'doctors' and h.legacy_id = y.doctor_id);

select spoil('payment_of_missing_order', 'payments', 'dispatch_payment', 'instruction_id', 0.0002,
    'instruction_id is no instruction', 'quarantined:missing_parent:order_id', 't.id in (select id from sound_payment)');
update dispatch_payment p set instruction_id = 5000000 + p.id
from spoiled('payment_of_missing_order') s where s.id = p.id;

select spoil('payment_of_deleted_order', 'payments', 'dispatch_payment', 'instruction_id', 0.0002,
    'the instruction is deleted', 'quarantined:missing_parent:order_id', 't.id in (select id from sound_payment)');
update dispatch_payment p set instruction_id =
    (select array_agg(id order by id) from dispatch_instruction where deleted)[1 + s.nth % many(1300)]
from spoiled('payment_of_deleted_order') s where s.id = p.id;

select spoil('payment_too_fine', 'payments', 'dispatch_payment', 'total_price', 0.0002,
    'a third decimal', 'quarantined:numeric_scale:total_amount', 't.id in (select id from sound_payment)');
update dispatch_payment p set total_price = 99.995 + s.nth
from spoiled('payment_too_fine') s where s.id = p.id;

select spoil('installments_broken', 'payments', 'dispatch_payment', 'installments', 0.0003,
    'no valid JSON', 'quarantined:invalid_json:installments', 't.id in (select id from sound_payment)');
update dispatch_payment p set installments = (array['[{"part": 1, "price": "10', '[{''part'': 1}]', '[NaN]'])[1 + s.nth % 3]
from spoiled('installments_broken') s where s.id = p.id;

select spoil('installments_of_another_type', 'payments', 'dispatch_payment', 'installments', 0.0002,
    'valid JSON, but no list', 'quarantined:check_violation:installments_is_array', 't.id in (select id from sound_payment)');
update dispatch_payment p set installments = '{"part": 1}'
from spoiled('installments_of_another_type') s where s.id = p.id;

select spoil('payment_without_order', 'payments', 'dispatch_payment', 'instruction_id', 0.0003,
    'instruction_id is NULL', 'kept', 't.id in (select id from sound_payment)');
update dispatch_payment p set instruction_id = null
from spoiled('payment_without_order') s where s.id = p.id;

select spoil('payment_canceled_and_paid', 'payments', 'dispatch_payment', 'canceled', 0.001,
    'both: cancelled, and what was paid is kept', 'kept', 't.paid');
update dispatch_payment p set canceled = true
from spoiled('payment_canceled_and_paid') s where s.id = p.id;

select block('payments', 'dispatch_payment', 'orders', 't.instruction_id');
select block('payments', 'dispatch_payment', 'doctors', 't.doctor_id');

create view sound_operation as
select o.id from dispatch_operation o
where not exists (select from held_back_row h where h.entity = 'payments' and h.legacy_id = o.payment_id);

select spoil('operation_without_type', 'operations', 'dispatch_operation', 'type', 0.001,
    'type is NULL', 'quarantined:not_null:operation_type', 't.id in (select id from sound_operation)', 1);
update dispatch_operation o set "type" = null
from spoiled('operation_without_type') s where s.id = o.id;

select spoil('operation_type_unseen', 'operations', 'dispatch_operation', 'type', 0.0005,
    'a code that no map knows', 'quarantined:unmapped_value:operation_type', 't.id in (select id from sound_operation)', 1);
update dispatch_operation o set "type" = 3
from spoiled('operation_type_unseen') s where s.id = o.id;

select block('operations', 'dispatch_operation', 'payments', 't.payment_id');

-- Offers and discounts. Few of either, so one row is enough.

create view sound_offer as
select o.id from dispatch_offer o
where not exists (select from held_back_row h where h.entity = 'doctors' and h.legacy_id = o.doctor_id);

select spoil('offer_without_doctor', 'offers', 'dispatch_offer', 'doctor_id', 0.001,
    'doctor_id is NULL', 'quarantined:not_null:doctor_id', 't.id in (select id from sound_offer)', 1);
update dispatch_offer o set doctor_id = null
from spoiled('offer_without_doctor') s where s.id = o.id;

select spoil('offer_below_zero', 'offers', 'dispatch_offer', 'price_lower', 0.001,
    'below zero', 'quarantined:check_violation:offer_prices_not_negative', 't.id in (select id from sound_offer)', 1);
update dispatch_offer o set price_lower = -5
from spoiled('offer_below_zero') s where s.id = o.id;

select spoil('offer_of_idle_doctor', 'offers', 'dispatch_offer', null, 0.1,
    'the doctor never had a patient', 'kept',
    't.id in (select id from sound_offer)
     and not exists (select from dispatch_patient p where p.doctor_id = t.doctor_id)');

select spoil('discount_beyond_all', 'discounts', 'dispatch_discount', 'percent', 0.005,
    'more than everything', 'quarantined:check_violation:percentage_in_range',
    $$not exists (select from held_back_row h where h.entity = 'offers' and h.legacy_id = t.offer_id)
      and t.offer_id in (select id from sound_offer)$$, 1);
update dispatch_discount d set percent = 130
from spoiled('discount_beyond_all') s where s.id = d.id;

select spoil('discount_on_lost_offer', 'discounts', 'dispatch_discount', 'offer_id', 0.01,
    'the offer has no doctor', 'blocked:offers', 't.offer_id in (select id from sound_offer)', 1);
update dispatch_discount d set offer_id = (select min(id) from spoiled('offer_without_doctor'))
from spoiled('discount_on_lost_offer') s where s.id = d.id;

select block('offers', 'dispatch_offer', 'doctors', 't.doctor_id');
select block('offers', 'dispatch_offer', 'products', 't.product_id');
select block('discounts', 'dispatch_discount', 'offers', 't.offer_id');
select block('ware', 'dispatch_ware', 'products', 't.product_id');

-- Messages --------------------------------------------------------------------------------------

-- Messages whose target and author are moved.
create view sound_record as
select r.id from dispatch_record r
where not exists (select from held_back_row h where h.entity = 'profiles' and h.legacy_id = r.author_id)
  and not exists (select from held_back_row h
                  where h.entity = case when r.target_type_id = 11 then 'patients' else 'profiles' end
                    and h.legacy_id = r.target_id);

select spoil('record_type_unseen', 'messages', 'dispatch_record', 'type', 0.0003,
    'a code that no map knows', 'quarantined:unmapped_value:message_type', 't.id in (select id from sound_record)');
update dispatch_record r set "type" = 9
from spoiled('record_type_unseen') s where s.id = r.id;

select spoil('record_of_no_content_type', 'messages', 'dispatch_record', 'target_type_id', 0.001,
    'no content type, or NULL', 'quarantined:not_null:target_type', 't.id in (select id from sound_record)');
select also('record_of_no_content_type', 'messages', 'quarantined:unmapped_value:target_id');
update dispatch_record r set target_type_id = case when s.id % 2 = 0 then 99 end
from spoiled('record_of_no_content_type') s where s.id = r.id;

select spoil('record_about_a_plan', 'messages', 'dispatch_record', 'target_type_id', 0.0005,
    'a content type that messages are not about', 'quarantined:unmapped_value:target_type', 't.id in (select id from sound_record)');
select also('record_about_a_plan', 'messages', 'quarantined:unmapped_value:target_id');
update dispatch_record r set target_type_id = 12
from spoiled('record_about_a_plan') s where s.id = r.id;

select spoil('record_of_missing_target', 'messages', 'dispatch_record', 'target_id', 0.001,
    'target_id is no row', 'quarantined:missing_parent:target_id', 't.id in (select id from sound_record)');
update dispatch_record r set target_id = 5000000 + r.id
from spoiled('record_of_missing_target') s where s.id = r.id;

select spoil('record_without_target', 'messages', 'dispatch_record', 'target_id', 0.001,
    'target_id is NULL', 'quarantined:not_null:target_id', 't.id in (select id from sound_record)');
update dispatch_record r set target_id = null
from spoiled('record_without_target') s where s.id = r.id;

select spoil('record_without_author', 'messages', 'dispatch_record', 'author_id', 0.01,
    'author_id is NULL', 'kept', 't.id in (select id from sound_record)');
update dispatch_record r set author_id = null
from spoiled('record_without_author') s where s.id = r.id;

select block('messages', 'dispatch_record', 'patients', 't.target_id', 't.target_type_id = 11');
select block('messages', 'dispatch_record', 'profiles', 't.target_id', 't.target_type_id = 58');
select block('messages', 'dispatch_record', 'profiles', 't.author_id');

select block('team_communications', 'dispatch_record', 'messages', 't.id', 't.group_id is not null');
select block('team_communications', 'dispatch_record', 'teams', 't.group_id');

-- Attachments. The key of the entity is twice the id, and one more for a link that the file has.

with copied as (
    insert into dispatch_record_attachments (id, record_id, file_id)
    select (select max(id) from dispatch_record_attachments) + row_number() over (order by a.id), a.record_id, a.file_id
    from (select * from dispatch_record_attachments order by roll(id, 601), id limit faults(0.001, many(8919))) a
    returning id
)
insert into regraft_dirt
select 'attachment_twice', 'message_attachments', 'dispatch_record_attachments', 2 * id, null,
       'the second row of a pair', 'filtered:repeated-pair'
from copied order by id;

with told_twice as (
    update dispatch_file f set record_id = a.record_id
    from (
        select distinct on (file_id) file_id, record_id from dispatch_record_attachments
        where file_id in (
            select file_id from dispatch_record_attachments order by roll(id, 603), id limit faults(0.001, many(8919)))
        order by file_id, id
    ) a
    where a.file_id = f.id
    returning f.id
)
insert into regraft_dirt
select 'attachment_in_both_ways', 'message_attachments', 'dispatch_file', 2 * id + 1, 'record_id',
       'a row of record_attachments says the same', 'filtered:repeated-pair'
from told_twice order by id;

with lost as (
    update dispatch_file f set record_id = 5000000 + f.id
    where f.id in (
        select o.id from dispatch_file o
        where o.record_id is not null and not exists (
            select from regraft_dirt d where d.entity = 'message_attachments' and d.legacy_id = 2 * o.id + 1)
        order by roll(o.id, 604), o.id limit faults(0.001, many(8919)))
    returning f.id
)
insert into regraft_dirt
select 'file_of_missing_record', 'message_attachments', 'dispatch_file', 2 * id + 1, 'record_id',
       'record_id is no message', 'quarantined:missing_parent:message_id'
from lost order by id;

create view attachment as
select 2 * a.id::bigint as link_id, a.record_id, a.file_id, 'dispatch_record_attachments' as table_name
from dispatch_record_attachments a
where not exists (
    select from dispatch_record_attachments b
    where b.record_id = a.record_id and b.file_id = a.file_id and b.id < a.id)
union all
select 2 * f.id::bigint + 1, f.record_id, f.id, 'dispatch_file'
from dispatch_file f
where f.record_id is not null
  and not exists (select from dispatch_record_attachments b where b.record_id = f.record_id and b.file_id = f.id);

insert into regraft_dirt
select 'consequence', 'message_attachments', l.table_name, l.link_id, null, 'the parent is held back', 'blocked:' || c.parent
from attachment l
cross join lateral (values ('messages', l.record_id), ('files', l.file_id)) c (parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
order by l.link_id, c.parent;

-- Comments --------------------------------------------------------------------------------------

select spoil('comment_blank', 'comments', 'dispatch_comment', 'text', 0.003,
    'nothing, or nothing but space', 'filtered:blank');
update dispatch_comment c set text = (array['', '  ', E' \n\t'])[1 + s.nth % 3]
from spoiled('comment_blank') s where s.id = c.id;

select also('comment_blank', 'treatment_discussions', 'filtered:blank');
select also('comment_blank', 'case_messages', 'filtered:blank');

-- Of a plan that leads to no order: on the plan, but in no case.
select spoil('comment_on_orphan_plan', 'comments', 'dispatch_comment', 'plan_id', 0.004,
    'the plan has no instruction', 'kept');
update dispatch_comment c set plan_id =
    (select array_agg(legacy_id order by legacy_id) from regraft_dirt
     where kind in ('plan_of_missing_instruction', 'plan_without_instruction')
       and entity = 'treatment_plans')[1 + s.nth % faults(0.001, many(69700))]
from spoiled('comment_on_orphan_plan') s where s.id = c.id;

select spoil('comment_on_missing_plan', 'comments', 'dispatch_comment', 'plan_id', 0.0005,
    'plan_id is no plan', 'kept');
select also('comment_on_missing_plan', 'treatment_discussions', 'quarantined:missing_parent:treatment_plan_id');
update dispatch_comment c set plan_id = 5000000 + c.id
from spoiled('comment_on_missing_plan') s where s.id = c.id;

select spoil('comment_without_author', 'comments', 'dispatch_comment', 'author_id', 0.002, 'author_id is NULL', 'kept');
update dispatch_comment c set author_id = null
from spoiled('comment_without_author') s where s.id = c.id;

select block('comments', 'dispatch_comment', 'profiles', 't.author_id', $$t.text ~ '\S'$$);
select block('treatment_discussions', 'dispatch_comment', 'treatment_plans', 't.plan_id', $$t.text ~ '\S'$$);
select block('treatment_discussions', 'dispatch_comment', 'comments', 't.id');

create view case_of_comment as
select c.id, i.patient_id
from dispatch_comment c
left join dispatch_plan p on p.id = c.plan_id
left join dispatch_instruction i on i.id = p.instruction_id
where c.text ~ '\S';

insert into regraft_dirt
select 'consequence', 'case_messages', 'dispatch_comment', id, null, 'the plan leads to no patient', 'quarantined:not_null:case_id'
from case_of_comment where patient_id is null order by id;
insert into regraft_dirt
select 'consequence', 'case_messages', 'dispatch_comment', id, null, 'the patient is missing', 'quarantined:missing_parent:case_id'
from case_of_comment c
where patient_id is not null and not exists (select from dispatch_patient p where p.id = c.patient_id) order by id;
select block('case_messages', 'dispatch_comment', 'cases', '(select c.patient_id from case_of_comment c where c.id = t.id)');
select block('case_messages', 'dispatch_comment', 'comments', 't.id');

-- Notes on doctors --------------------------------------------------------------------------

select spoil('note_blank', 'note_comments', 'dispatch_note', 'text', 0.001, 'nothing but space', 'filtered:blank');
select also('note_blank', 'doctor_notes', 'filtered:blank');
update dispatch_note c set text = E' \n'
from spoiled('note_blank') s where s.id = c.id;

select spoil('note_without_author', 'note_comments', 'dispatch_note', 'author_id', 0.005, 'author_id is NULL', 'kept');
update dispatch_note c set author_id = null
from spoiled('note_without_author') s where s.id = c.id;

select spoil('note_on_no_doctor', 'doctor_notes', 'dispatch_note', 'doctor_id', 0.002,
    'the user is a technician', 'quarantined:missing_parent:doctor_id');
update dispatch_note c set doctor_id = (select min(id) from person where sort = 'technician')
from spoiled('note_on_no_doctor') s where s.id = c.id;

select block('note_comments', 'dispatch_note', 'profiles', 't.author_id', $$t.text ~ '\S'$$);
select block('doctor_notes', 'dispatch_note', 'note_comments', 't.id');
select block('doctor_notes', 'dispatch_note', 'doctors', 't.doctor_id', $$t.text ~ '\S'$$);

-- What doctors wrote. The key of the entity is twice the comment's id, or twice the message's and one.

create view feedback as
select t.* from (
    select 2 * c.id::bigint as id, 'dispatch_comment' as table_name, 'comments' as parent, c.id as parent_id, c.author_id
    from dispatch_comment c where c.text ~ '\S'
    union all
    select 2 * r.id::bigint + 1, 'dispatch_record', 'messages', r.id, r.author_id
    from dispatch_record r where r.text ~ '\S'
) t
where exists (
    select from auth_user_groups g join auth_group n on n.id = g.group_id
    where g.user_id = t.author_id and n.name = 'Doctor');

insert into regraft_dirt
select 'consequence', 'customer_feedback', f.table_name, f.id, null, 'the parent is held back', 'blocked:' || c.parent
from feedback f
cross join lateral (values (f.parent, f.parent_id), ('doctors', f.author_id)) c (parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
order by f.id, c.parent;

-- Tasks that are to be done --------------------------------------------------------------------

create view task_to_do as
select t.id, t.actor_id from dispatch_task t
left join dispatch_instruction i on i.id = t.instruction_id
where not t.checked and t.done_at is null and t.actor_id is not null and i.deleted is not true;

insert into regraft_dirt
select 'consequence', 'user_tasks', 'dispatch_task', t.id, null, 'the parent is held back', 'blocked:' || c.parent
from task_to_do t
cross join lateral (values ('tasks', t.id), ('profiles', t.actor_id)) c (parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
order by t.id, c.parent;

-- Events of patients. The entity's keys are texts, which the manifest takes in at the end.

create view patient_event as
select 'dispatch_patient' as table_name, p.id, 'patient:' || p.id as event_key, p.id as patient_id,
       null::integer as order_id, null::integer as payment_id, null::integer as state_id
from dispatch_patient p
where p.submitted_at is not null
union all
select 'dispatch_instruction', i.id, 'order:' || i.id, i.patient_id, i.id, null, null
from dispatch_instruction i
where not i.deleted and i.submitted_at is not null
union all
select 'dispatch_payment', y.id, 'payment:' || y.id, i.patient_id, i.id, y.id, null
from dispatch_payment y join dispatch_instruction i on i.id = y.instruction_id
where y.paid and not y.canceled and y.made_at is not null and not i.deleted
union all
select 'dispatch_state', s.id, 'state:' || s.id, i.patient_id, i.id, null, s.id
from dispatch_state s join dispatch_instruction i on i.id = s.instruction_id
where not i.deleted;

insert into dirt_of_text_keys
select 'consequence', 'patient_events', e.table_name, e.event_key, null, 'the parent is held back', 'blocked:' || c.parent
from patient_event e
cross join lateral (values ('patients', e.patient_id), ('orders', e.order_id), ('payments', e.payment_id),
                           ('order_states', e.state_id)) c (parent, id)
join held_back_row h on h.entity = c.parent and h.legacy_id = c.id
order by e.table_name, e.id, c.parent;

insert into dirt_of_text_keys
select 'consequence', 'patient_events', e.table_name, e.event_key, null, 'patient_id is no patient',
       'quarantined:missing_parent:patient_id'
from patient_event e
where not exists (select from dispatch_patient p where p.id = e.patient_id)
order by e.table_name, e.id;

-- Notifications and the audit trail ---------------------------------------------------------------

select spoil_large('notification_context_broken', 'dispatch_notification', 'template_context', 0.00002,
    'no valid JSON: kept, and flagged; an empty text becomes NULL', 't.sent and t.send');
update dispatch_notification n set template_context = (array[
    '{"link": "C:\orders\7"}', '', '{"patient": "\ud83d"}', '{"patient": "Zorindo', '{"patient": "\u0000"}', '{"kind": NaN}'])[1 + s.nth % 6]
from spoiled('notification_context_broken') s where s.id = n.id;

select spoil_large('notification_of_missing_item', 'dispatch_notification', 'item_id', 0.00002,
    'item_id is no row, or NULL', 't.sent and t.send');
update dispatch_notification n set item_id = case when s.nth % 2 = 0 then 5000000 + s.nth end
from spoiled('notification_of_missing_item') s where s.id = n.id;

select spoil_large('notification_without_recipient', 'dispatch_notification', 'recipient_id', 0.00002,
    'recipient_id is NULL', 't.sent and t.send');
update dispatch_notification n set recipient_id = null
from spoiled('notification_without_recipient') s where s.id = n.id;

update regraft_dirt set entity = 'system_messages', expect = 'kept'
where kind in ('notification_context_broken', 'notification_of_missing_item', 'notification_without_recipient');

select block('system_messages', 'dispatch_notification', 'profiles', 't.recipient_id', 't.sent and t.send');

select spoil('action_data_broken', 'user_actions', 'dispatch_action', 'data', 0.0002,
    'no valid JSON: kept, and flagged', 'kept');
update dispatch_action a set data = (array['{"changed": ["status"', '{"count": NaN}'])[1 + s.nth % 2]
from spoiled('action_data_broken') s where s.id = a.id;

select block('user_actions', 'dispatch_action', 'profiles', 't.user_id');

-- A harmless fault of a row that something else holds back proves nothing: it is expected
-- to end where its row ends.
update regraft_dirt d
set expect = (select min(o.expect) from regraft_dirt o
              where o.entity = d.entity and o.legacy_id = d.legacy_id and o.expect <> 'kept')
where d.expect = 'kept'
  and exists (select from held_back_row h where h.entity = d.entity and h.legacy_id = d.legacy_id);

reset search_path;
