-- The generator, part 9: notifications and the audit trail, the two tables that only grow.

set search_path = regraft_generator, public;

-- Two of five are sent and were to be sent; those are the ones that anybody has seen. Ids
-- have gaps, and a row with a higher id is not always the later one. Two hashes serve all
-- columns; `offset 0` keeps the planner from computing an expression once per use.
insert into dispatch_notification
    (id, created_at, sender, template_name, template_context, "read", item_id, item_type_id,
     recipient_id, sent, send)
select n.id, n.created_at,
       case when n.kind < 2 then 'system' else 'dispatch' end,
       (array['order_submitted', 'order_shipped', 'plan_ready', 'plan_approved', 'new_message', 'task_assigned',
              'payment_received', 'reminder'])[1 + n.kind],
       '{"link": "/items/' || n.item::text || '/", "patient": "'
           || (array['Zorindo Q.', 'Keldravo B.', '架空 七星', 'Vexquill T.'])[1 + n.person]
           || (array['", "urgent": false}', '", "urgent": true}', '", "count": 3}', '"}'])[1 + (n.fate & 3)],
       n.fate < 307, n.item, ('{10,10,12,12,11,10,27,11}'::integer[])[1 + n.kind],
       (select users from order_id)[1 + n.recipient % (select cardinality(users) from order_id)],
       n.fate < 430, n.fate < 410 or n.fate > 819
from (
    select h.id,
           (h.a & 7)::integer as kind,
           (h.a >> 3 & 1023)::integer as fate,
           (h.a >> 13 & 3)::integer as person,
           (h.a >> 15 & 16777215)::integer as recipient,
           -- The kinds are about orders, plans, payments and patients: see item_type_id.
           case
               when h.a & 7 in (0, 1, 5) then
                   (select every from order_id)[1 + (h.a >> 39) % (select cardinality(every) from order_id)]
               when h.a & 7 in (2, 3) then
                   (select every from plan_id)[1 + (h.a >> 39) % (select cardinality(every) from plan_id)]
               when h.a & 7 = 6 then
                   (select array_agg(id order by id) from dispatch_payment)[1 + (h.a >> 39) % many(17297)]
               else (select patients from order_id)[1 + (h.a >> 39) % many(8527)]
           end as item,
           to_timestamp(86400 * floor(17287 + h.id * (3122 * 0.98 / many(5102536))::float8)
               + (h.b % 57600000) * 0.001::float8) as created_at
    from (
        select s.id, bits(s.id, 500) as a, bits(s.id, 501) as b
        from (select generate_series(1, (many(5102536) / 0.98 * 1.01)::bigint + 50) as id) s
        where bits(s.id, 502) & 1023 < 1003
        limit many(5102536)
    ) h
    offset 0
) n;

insert into dispatch_action
    (id, user_id, action, date, item_id, item_type_id, owner_id, owner_type_id, data)
select i.id,
       case when roll(i.id, 510) < 0.95 then (select users from order_id)[1 + pick(i.id, 511, (select cardinality(users) from order_id))] end,
       one_of(i.id, 512, '{create,update,delete,view,login}'), working_time(i.place::float8 / many(150000), i.id, 513),
       (select every from order_id)[place_near(i.place::float8 / many(150000), i.id, 515, (select cardinality(every) from order_id))], 10,
       (select patients from order_id)[1 + pick(i.id, 516, (select cardinality(patients) from order_id))], 11,
       case when roll(i.id, 517) < 0.7 then '{}' else '{"changed": ["status", "notes"], "count": ' || pick(i.id, 518, 9) || '}' end
from sparse_ids(many(150000), 0.98, 519) i
order by i.id;

reset search_path;
