-- The generator, part 9: notifications and the audit trail, the two tables that only grow.

set search_path = regraft_generator, public;

-- Two of five are sent and were to be sent; those are the ones that anybody has seen. Ids
-- have gaps, and a row with a higher id is not always the later one.
insert into dispatch_notification
    (id, created_at, sender, template_name, template_context, "read", item_id, item_type_id,
     recipient_id, sent, send)
select n.id, working_time(n.id / (many(5102536) / 0.98), n.id, 500),
       case when n.kind < 2 then 'system' else 'dispatch' end,
       (array['order_submitted', 'order_shipped', 'plan_ready', 'plan_approved', 'new_message', 'task_assigned',
              'payment_received', 'reminder'])[1 + n.kind],
       '{"link": "/orders/' || n.target || '/", "patient": "' || one_of(n.id, 502, '{Zorindo Q.,Keldravo B.,架空 七星,Vexquill T.,Ixozirra M.}')
           || '", "kind": ' || n.kind || ', "urgent": ' || case when n.fate > 0.95 then 'true}' else 'false}' end,
       n.fate < 0.3, n.target, ('{10,10,12,12,11,10,27,11}'::integer[])[1 + n.kind],
       (select users from order_id)[1 + pick(n.id, 503, (select cardinality(users) from order_id))],
       n.fate < 0.42, n.fate < 0.40 or n.fate > 0.8
from (
    select s.id, pick(s.id, 504, 8) as kind, roll(s.id, 505) as fate, 1 + pick(s.id, 506, many(26900)::integer) as target
    from (select generate_series(1, (many(5102536) / 0.98 * 1.01)::bigint + 50) as id) s
    where roll(s.id, 507) < 0.98
    limit many(5102536)
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
