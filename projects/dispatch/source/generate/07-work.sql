-- The generator, part 7: projects, plans, files, tasks and what people write, without a fault.

set search_path = regraft_generator, public;

-- Ids to choose from: views, because an array that is read from a table is unpacked for each
-- row, and one that a subquery makes is not. The orders of each sort are in the order of time, so that a row's
-- place in its own table leads to an order of about the same time. The two ids at the end
-- of integer stay out: they are a fault.
create view order_id as
select (select array_agg(id order by id) from dispatch_instruction where id < 2000000000) as every,
       (select array_agg(id order by id) from dispatch_instruction where id < 2000000000 and not deleted) as live,
       (select array_agg(id order by id) from dispatch_patient) as patients,
       (select array_agg(id order by id) from auth_user) as users;

-- The place that is at a share of an array, exactly and give or take half a hundredth.
create function place_at(share float8, size integer) returns integer
    language sql immutable parallel safe
    return 1 + least(size - 1, greatest(0, floor(size * share)))::integer;

create function place_near(share float8, n bigint, salt integer, size integer) returns integer
    language sql immutable parallel safe
    return place_at(share + 0.01 * (roll(n, salt) - 0.5), size);

insert into dispatch_order (id, instruction_id, created_at, status)
select i.id,
       (select every from order_id)[place_near(i.place::float8 / many(3100), i.id, 260, (select cardinality(every) from order_id))],
       working_time(i.place::float8 / many(3100), i.id, 261), pick(i.id, 263, 3)
from sparse_ids(many(3100), 0.95, 264) i;

insert into dispatch_project (id, uid, created_at, name, size, "public", "type", status, creator_id)
select i.id, md5('project' || i.id), working_time(i.place::float8 / many(72155), i.id, 270),
       case when roll(i.id, 272) < 0.1 then '' else 'Setup ' || i.id || one_of(i.id, 273, '{"", v2," final",（改）}') end,
       (1000000 + power(roll(i.id, 274), 3) * 90000000)::bigint,
       roll(i.id, 275) < 0.05,
       case when roll(i.id, 276) < 0.52 then 3 when roll(i.id, 276) < 0.72 then 0 when roll(i.id, 276) < 0.88 then 10 else 11 end,
       case when roll(i.id, 277) < 0.0002 then 2 else 0 end,
       case when roll(i.id, 278) < 0.97 then a.staff[1 + pick(i.id, 279, cardinality(a.staff))] end
from sparse_ids(many(72155), 0.97, 280) i, reference_id a
order by i.id;

-- One plan per project; the last projects have none.
insert into dispatch_plan (id, instruction_id, project_id, notes, "number", name, original)
select i.id,
       (select live from order_id)[place_near(i.place::float8 / many(69700), i.id, 281, (select cardinality(live) from order_id))],
       p.id,
       case when roll(i.id, 282) < 0.5 then null when roll(i.id, 282) < 0.7 then '' else message(i.id, 283) end,
       case when roll(i.id, 292) < 0.95 then 1 + pick(i.id, 293, 6) end,
       'Plan ' || (1 + pick(i.id, 293, 6)), pick(i.id, 293, 6) = 0
from sparse_ids(many(69700), 0.97, 294) i
join (select id, row_number() over (order by id) as place from dispatch_project) p using (place)
order by i.id;

insert into dispatch_bracket (id, name, project_id, "type")
select i.id, one_of(i.id, 295, '{Speed,Ix,Nyx,Quell}') || ' ' || one_of(i.id, 296, '{.018,.022,Roth,MBT}') || ' ' || i.place,
       case when roll(i.id, 297) < 0.8 then
           (select array_agg(id order by id) from dispatch_project)[1 + pick(i.id, 298, many(72155)::integer)] end,
       case when roll(i.id, 299) < 0.2 then one_of(i.id, 300, '{metal,ceramic}') else '' end
from sparse_ids(many(1720), 0.95, 301) i;

insert into dispatch_link (id, uid, project_id, created_at, expires_at)
select i.id, md5('link' || i.id),
       (select array_agg(id order by id) from dispatch_project)[1 + pick(i.id, 302, many(72155)::integer)],
       working_time(i.place::float8 / many(600), i.id, 303),
       case when roll(i.id, 305) < 0.7 then working_time(i.place::float8 / many(600), i.id, 303) + interval '720 hours' end
from sparse_ids(many(600), 0.95, 306) i;

insert into dispatch_record ("type", id, target_type_id, target_id, author_id, text, created_at, group_id, "public")
select ('{3,3,3,4,5,5,5,6,6,8}'::smallint[])[1 + pick(i.id, 310, 10)], i.id,
       case when roll(i.id, 311) < 0.72 then 11 else 58 end,
       case when roll(i.id, 311) < 0.72
            then a.patients[1 + pick(i.id, 312, cardinality(a.patients))]
            else a.users[1 + pick(i.id, 312, cardinality(a.users))] end,
       case when roll(i.id, 313) < 0.5 then r.staff[1 + pick(i.id, 314, cardinality(r.staff))]
            else r.doctors[1 + floor(cardinality(r.doctors) * power(roll(i.id, 315), 2.5))::integer] end,
       message(i.id, 316), working_time(i.place::float8 / many(70742), i.id, 325),
       case when roll(i.id, 327) < 0.1 then r.groups[1 + pick(i.id, 328, cardinality(r.groups))] end,
       case when roll(i.id, 329) < 0.9 then roll(i.id, 330) < 0.4 end
from sparse_ids(many(70742), 0.97, 331) i, order_id a, reference_id r
order by i.id;

create view record_id as select array_agg(id order by id) as every from dispatch_record;

-- About half of the files belong to an order, some to a message, the rest to nothing.
insert into dispatch_file
    (id, uid, name, ext, size, "type", status, instruction_id, product_id, record_id, parameters, created_at)
select f.id, f.uid,
       case when roll(f.id, 340) < 0.03 then null
            else one_of(f.id, 341, '{upper,lower,smile,front,left,ceph,bite_full,正面,final package}') || '_' || f.place || f.ext end,
       case when roll(f.id, 340) < 0.01 then null else f.ext end,
       (2000 + power(roll(f.id, 342), 4) * 60000000)::bigint,
       pick(f.id, 343, 18), case when roll(f.id, 344) < 0.97 then 1 else 0 end,
       case when roll(f.id, 345) < 0.497 then
           (select every from order_id)[place_near(f.share, f.id, 346, (select cardinality(every) from order_id))] end,
       case when roll(f.id, 345) > 0.999 then 1 + pick(f.id, 347, 6) end,
       case when roll(f.id, 345) between 0.6 and 0.6272 then
           (select every from record_id)[place_near(f.share, f.id, 348, (select cardinality(every) from record_id))] end,
       case when roll(f.id, 349) < 0.9 then '{}' else '{"units": "mm", "faces": ' || pick(f.id, 350, 400000) || '}' end,
       working_time(f.share, f.id, 351)
from (
    select i.id, i.place, i.place::float8 / many(327771) as share, md5('file' || i.id) as uid,
           ('{.stl,.stl,.stl,.stl,.jpg,.jpg,.jpg,.png,.jpeg,.zip,.dcm,.pdf,.dxf,.txt,.docx,.gif,.irk,.ply}'::text[])[1 + pick(i.id, 353, 18)] as ext
    from sparse_ids(many(327771), 0.97, 354) i
    offset 0
) f
order by f.id;

create view file_id as select array_agg(id order by id) as every from dispatch_file;
create view plan_id as select array_agg(id order by id) as every from dispatch_plan;

insert into dispatch_record_attachments (id, record_id, file_id)
select i.id, (select every from record_id)[place_near(i.place::float8 / many(8919), i.id, 360, (select cardinality(every) from record_id))],
       (select every from file_id)[place_near(i.place::float8 / many(8919), i.id, 361, (select cardinality(every) from file_id))]
from sparse_ids(many(8919), 0.99, 362) i;

insert into dispatch_record_roles (id, record_id, role_id)
select row_number() over (order by r.id, o.id), r.id, o.id
from dispatch_record r cross join dispatch_role o
where roll(r.id * 1000 + o.id, 363) < 0.004;

insert into dispatch_reading (id, user_id, record_id, read_at)
select row_number() over (order by r.created_at, r.id, n), s.user_id, r.id, later(r.created_at, 2600000 * roll(r.id * 10 + n, 364))
from dispatch_record r
cross join generate_series(1, 2) n
cross join lateral (select (select staff from reference_id)[n + 2 * pick(r.id, 365, (select cardinality(staff) / 2 from reference_id))]) s (user_id)
where roll(r.id * 10 + n, 366) < 0.3 and s.user_id is not null;

-- Every plan that is commented on has at least one comment.
insert into dispatch_comment (id, created_at, text, author_id, plan_id)
select i.id, working_time(0.1 + 0.87 * i.place::float8 / many(15097), i.id, 370), message(i.id, 372),
       case when roll(i.id, 381) < 0.5 then r.doctors[1 + floor(least(cardinality(r.doctors), many(280)) * power(roll(i.id, 382), 2))::integer]
            else r.staff[1 + pick(i.id, 383, cardinality(r.staff))] end,
       p.every[1 + (case when i.place <= many(13337) then i.place - 1 else pick(i.id, 384, many(13337)::integer) end
           * cardinality(p.every) / many(13337))::integer]
from sparse_ids(many(15097), 0.97, 385) i, plan_id p, reference_id r
order by i.id;

insert into dispatch_note (id, created_at, text, author_id, doctor_id)
select i.id, working_time(0.47 + 0.48 * i.place::float8 / many(963), i.id, 390), message(i.id, 392),
       r.staff[1 + pick(i.id, 401, least(21, cardinality(r.staff)))],
       r.doctors[1 + floor(cardinality(r.doctors) * power(roll(i.id, 402), 2))::integer]
from sparse_ids(many(963), 0.97, 403) i, reference_id r
order by i.id;

insert into dispatch_state (id, status, "on", changed_at, actor_id, instruction_id)
select i.id, case when roll(i.id, 404) < 0.547 then 11 else 12 end, roll(i.id, 405) < 0.6,
       working_time(0.6 + 0.4 * i.place::float8 / many(5673), i.id, 406),
       case when roll(i.id, 408) < 0.957 then r.staff[1 + pick(i.id, 409, cardinality(r.staff))] end,
       (select live from order_id)[place_near(0.6 + 0.4 * i.place::float8 / many(5673), i.id, 410, (select cardinality(live) from order_id))]
from sparse_ids(many(5673), 0.97, 411) i, reference_id r
order by i.id;

insert into dispatch_event (id, user_id, title, "start", finish, instruction_id)
select i.id, r.staff[1 + pick(i.id, 412, cardinality(r.staff))], one_of(i.id, 413, '{Call,Visit,Delivery,打合せ}'),
       working_time(i.place::float8 / many(8000), i.id, 414),
       case when roll(i.id, 416) < 0.9 then working_time(i.place::float8 / many(8000), i.id, 414) + interval '45 minutes' end,
       case when roll(i.id, 417) < 0.5 then
           (select live from order_id)[place_near(i.place::float8 / many(8000), i.id, 418, (select cardinality(live) from order_id))] end
from sparse_ids(many(8000), 0.95, 419) i, reference_id r
order by i.id;

insert into dispatch_task
    (id, checked, text, done_at, template_id, plan_id, instruction_id, order_id, actor_id, jaw, file_id)
select t.id, t.state < 0.9,
       case when t.words < 0.7 then null when t.words < 0.88 then '' else sentence(t.id, 420) end,
       case when t.state < 0.88 or t.state > 0.98 then working_time(t.share, t.id, 421) end,
       (select templates from reference_id)[1 + t.choice % 169],
       case when t.choice >> 8 & 7 < 5 then (select every from plan_id)[place_at(t.near, (select cardinality(every) from plan_id))] end,
       (select every from order_id)[place_at(t.near, (select cardinality(every) from order_id))],
       case when t.words > 0.99 then
           (select array_agg(id order by id) from dispatch_order)[place_at(t.near, many(3100)::integer)] end,
       case when t.state < 0.95 then
           (select staff from reference_id)[1 + (t.choice >> 11) % (select cardinality(staff) from reference_id)] end,
       (t.choice >> 11) % 3,
       case when t.words < 0.02 then (select every from file_id)[place_at(t.near, (select cardinality(every) from file_id))] end
from (
    select i.id, i.place::float8 / many(953224) as share, roll(i.id, 428) as state, roll(i.id, 429) as words,
           (bits(i.id, 430) & 2147483647)::integer as choice,
           i.place::float8 / many(953224) + 0.01 * (roll(i.id, 425) - 0.5) as near
    from sparse_ids(many(953224), 0.98, 431) i
    offset 0
) t
order by t.id;

reset search_path;
