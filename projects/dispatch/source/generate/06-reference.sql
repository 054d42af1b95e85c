-- The generator, part 6: what the application is set up with. These tables have their real
-- size at every scale, but for ware and what hangs on doctors.

set search_path = regraft_generator, public;

insert into dispatch_role (id, name, abbrev, "type", "order", user_id, group_id)
select i.id,
       one_of(i.id, 200, '{Designing,Manufacturing,Sectioning,Remote planning,Quality control,Supervisor,Staging}')
           || ' ' || i.place,
       case when roll(i.id, 201) < 0.8 then one_of(i.id, 202, '{DT-,MT-,ST-,RT-,QC-,SV-}') || i.place end,
       pick(i.id, 203, 4), i.place,
       case when roll(i.id, 204) < 0.3 then
           (select array_agg(id order by id) from person where sort = 'technician')[i.place] end,
       case when i.place <= 32 then 11 when i.place <= 40 then 5 when i.place <= 44 then 6 end
from sparse_ids(48, 0.9, 205) i;

insert into dispatch_role_permissions (id, role_id, permission_id)
select row_number() over (order by r.role_id, r.permission_id), r.role_id, r.permission_id
from (
    select r.id as role_id, p.id as permission_id
    from dispatch_role r cross join auth_permission p
    order by roll(r.id * 1000 + p.id, 206), r.id, p.id
    limit 1346
) r;

-- A parent is always an earlier category, so there is no cycle.
insert into dispatch_category (id, name, parent_id)
select i.id,
       one_of(i.id, 207, '{Planning,Production,Shipping,Review,Billing,検査,Support}') || ' ' || i.place,
       case when i.place > 8 then
           (select array_agg(id order by id) from sparse_ids(44, 0.93, 208))[1 + pick(i.id, 209, (i.place - 1)::integer)] end
from sparse_ids(44, 0.93, 208) i;

insert into dispatch_template
    (id, task_name, action_name, text_name, "function", status, duration, category_id, predefined,
     read_only, extensions, alerts, separate)
select i.id,
       case when roll(i.id, 210) < 0.95 then
           one_of(i.id, 211, '{Check scan,Plan treatment,Print models,Trim trays,Pack box,Call doctor,Approve plan}')
           || ' ' || i.place else '' end,
       one_of(i.id, 212, '{done,approved,sent,"",rejected}'),
       one_of(i.id, 213, '{Note,Reason,"",備考}'),
       one_of(i.id, 214, '{"","",upload_file,send_mail,make_plan}'),
       case when roll(i.id, 215) < 0.8 then 1 else 0 end,
       5 * pick(i.id, 216, 48),
       (select array_agg(id order by id) from dispatch_category)[1 + pick(i.id, 217, 44)],
       roll(i.id, 218) < 0.3, roll(i.id, 219) < 0.1,
       one_of(i.id, 220, array['', '.stl', '.stl,.zip', '.jpg,.png', '.pdf']),
       case when roll(i.id, 221) < 0.1 then '[{"after": ' || pick(i.id, 222, 72) || '}]' else '' end,
       roll(i.id, 223) < 0.2
from sparse_ids(169, 0.93, 224) i;

-- Pairs by hash: so many of all there can be.
create function pairs(size bigint, salt integer, lefts integer[], rights integer[])
    returns table (id bigint, l integer, r integer)
    language sql immutable
as $$
    select row_number() over (order by x.l, x.r), x.l, x.r
    from (
        select l, r from unnest(lefts) l cross join unnest(rights) r
        where l <> r
        order by roll(l::bigint * 1000003 + r, salt), l, r
        limit size
    ) x
$$;

create view reference_id as
select (select array_agg(id order by id) from dispatch_template) as templates,
       (select array_agg(id order by id) from dispatch_product) as products,
       (select array_agg(id order by id) from dispatch_role) as roles,
       (select array_agg(id order by id) from auth_group) as groups,
       (select array_agg(id order by id) from dispatch_doctorsetting) as settings,
       (select array_agg(id order by id) from person where sort = 'master') as masters,
       (select array_agg(id order by id) from person where sort = 'sales') as sales,
       (select array_agg(id order by id) from person where sort in ('technician', 'master', 'sales', 'other')) as staff,
       (select array_agg(id order by rank) from doctor) as doctors;

insert into dispatch_template_products (id, template_id, product_id)
select p.* from reference_id a, pairs(183, 225, a.templates, a.products) p;
insert into dispatch_template_view_groups (id, template_id, group_id)
select p.* from reference_id a, pairs(199, 226, a.templates, a.groups) p;
insert into dispatch_template_view_roles (id, template_id, role_id)
select p.* from reference_id a, pairs(1111, 227, a.templates, a.roles) p;
insert into dispatch_template_edit_roles (id, template_id, role_id)
select p.* from reference_id a, pairs(659, 228, a.templates, a.roles) p;
insert into dispatch_template_predecessors (id, from_template_id, to_template_id)
select p.* from reference_id a, pairs(191, 229, a.templates, a.templates) p;
insert into dispatch_product_roles (id, product_id, role_id)
select p.* from reference_id a, pairs(40, 230, a.products, a.roles) p;
insert into dispatch_product_successors (id, from_product_id, to_product_id)
select p.* from reference_id a, pairs(9, 231, a.products, a.products) p;
insert into dispatch_doctorsetting_masters (id, doctorsetting_id, user_id)
select p.* from reference_id a, pairs(many(610), 232, a.settings, a.masters) p;
insert into dispatch_doctorsetting_sales (id, doctorsetting_id, user_id)
select p.* from reference_id a, pairs(many(940), 233, a.settings, a.sales) p;

insert into dispatch_master (id, user_id, capacity)
select row_number() over (order by m.id), m.id, 10 + pick(m.id, 234, 30)
from reference_id a, unnest(a.masters) m (id);

insert into dispatch_agent (id, name, active) values (1, 'scheduler', true), (2, 'mailer', true);

insert into dispatch_storage (id, name, path) values (1, 'main', '/storage/main');

insert into dispatch_instance (id, name, address, seen_at)
select i.id, 'printer-' || lpad(i.place::text, 2, '0'), '192.0.2.' || i.place,
       case when roll(i.id, 235) < 0.8 then working_time(roll(i.id, 236), i.id, 237) end
from sparse_ids(29, 0.8, 239) i;

insert into dispatch_globalsetting (id, name, access_token, refresh_token, options)
values (1, 'default', 'not-a-token', 'not-a-token', '{"mail": {"host": "mail.example.net"}, "debug": false}');

insert into dispatch_client (id, name, version, released_at)
select n, 'desktop', '1.' || n || '.' || pick(n, 240, 9), working_time(n / 13.0, n, 241)
from generate_series(1, 12) n;

insert into dispatch_client3d (id, name, version, released_at)
select n, 'planner', '3.' || n || '.0', working_time(n / 10.0, n, 243)
from generate_series(1, 9) n;

insert into dispatch_ware (id, name, code, quantity, product_id)
select i.id, one_of(i.id, 245, '{Tray box,Foil,Resin,Label,Case,Brush}') || ' ' || pick(i.id, 246, 900),
       'W' || lpad(i.id::text, 6, '0'), pick(i.id, 247, 5000),
       case when roll(i.id, 248) < 0.7 then a.products[1 + pick(i.id, 249, cardinality(a.products))] end
from reference_id a, sparse_ids(many(16552), 0.95, 250) i;

reset search_path;
