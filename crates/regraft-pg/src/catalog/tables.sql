-- Every table and partitioned table of the schemas in $1, one JSON document each.
select json_build_object(
  'schema', n.nspname,
  'name', c.relname,
  'oid', c.oid::int8,
  'kind', c.relkind::text,
  'is_partition', c.relispartition,
  'row_security', c.relrowsecurity,
  'force_row_security', c.relforcerowsecurity,
  'replica_identity', c.relreplident::text,
  'pages', c.relpages,
  'rows', c.reltuples::float8,
  'columns', coalesce((
    select json_agg(json_build_object(
        'name', a.attname,
        'number', a.attnum,
        'type_name', format_type(a.atttypid, a.atttypmod),
        'type_modifier', case when t.typtype = 'd' then t.typtypmod else a.atttypmod end,
        'not_null', a.attnotnull or t.typnotnull,
        'default', pg_get_expr(d.adbin, d.adrelid),
        'identity', a.attidentity::text,
        'generated', a.attgenerated::text,
        'is_domain', t.typtype = 'd',
        'collation', (select co.collname from pg_collation co
                      where co.oid = a.attcollation and a.attcollation <> t.typcollation)
      ) order by a.attnum)
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]'),
  'constraints', coalesce((
    select json_agg(json_build_object(
        'name', k.conname,
        'kind', k.contype::text,
        'definition', pg_get_constraintdef(k.oid),
        'columns', coalesce((select json_agg(a.attname order by x.ord)
                    from unnest(k.conkey) with ordinality x(num, ord)
                    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.num), '[]'),
        'expression', case when k.contype = 'c' then pg_get_expr(k.conbin, k.conrelid) end,
        'foreign_schema', fn.nspname,
        'foreign_table', fc.relname,
        'foreign_columns', (select json_agg(a.attname order by x.ord)
                    from unnest(k.confkey) with ordinality x(num, ord)
                    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = x.num),
        'index', ic.relname,
        'validated', k.convalidated,
        'inherited', k.coninhcount > 0 or k.conparentid <> 0,
        'comment', obj_description(k.oid, 'pg_constraint')
      ) order by k.conname)
    from pg_constraint k
    left join pg_class fc on fc.oid = k.confrelid
    left join pg_namespace fn on fn.oid = fc.relnamespace
    left join pg_class ic on ic.oid = k.conindid
    where k.conrelid = c.oid and k.contype in ('p', 'u', 'f', 'c', 'x')), '[]'),
  'indexes', coalesce((
    select json_agg(json_build_object(
        'name', ic.relname,
        'definition', pg_get_indexdef(i.indexrelid),
        'unique', i.indisunique,
        'primary', i.indisprimary,
        'exclusion', i.indisexclusion,
        'valid', i.indisvalid,
        'immediate', i.indimmediate,
        'nulls_not_distinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
        'clustered', i.indisclustered,
        'replica_identity', i.indisreplident,
        'keys', (select json_agg(pg_get_indexdef(i.indexrelid, p, true) order by p)
                 from generate_series(1, i.indnkeyatts) p),
        'plain_columns', (select json_agg(a.attname order by x.ord)
                 from unnest(i.indkey) with ordinality x(num, ord)
                 left join pg_attribute a on a.attrelid = c.oid and a.attnum = x.num and x.num > 0
                 where x.ord <= i.indnkeyatts),
        'predicate', pg_get_expr(i.indpred, i.indrelid),
        'constraint', (select k.conname from pg_constraint k
                 where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x') limit 1),
        'referenced', exists (select 1 from pg_constraint k
                 where k.conindid = i.indexrelid and k.contype = 'f'),
        'inherited', ic.relispartition,
        'comment', obj_description(i.indexrelid, 'pg_class'),
        'statistics', coalesce((select json_object_agg(a.attnum::text, a.attstattarget)
                 from pg_attribute a where a.attrelid = i.indexrelid and a.attstattarget >= 0), '{}')
      ) order by ic.relname)
    from pg_index i
    join pg_class ic on ic.oid = i.indexrelid
    where i.indrelid = c.oid), '[]'),
  'triggers', coalesce((
    select json_agg(json_build_object(
        'name', g.tgname,
        'definition', pg_get_triggerdef(g.oid),
        'enabled', g.tgenabled::text,
        'function_hash', md5(p.prosrc)
      ) order by g.tgname)
    from pg_trigger g
    join pg_proc p on p.oid = g.tgfoid
    where g.tgrelid = c.oid and not g.tgisinternal), '[]'),
  'policies', coalesce((
    select json_agg(json_build_object(
        'name', y.polname, 'command', y.polcmd::text, 'permissive', y.polpermissive,
        'using', pg_get_expr(y.polqual, y.polrelid),
        'check', pg_get_expr(y.polwithcheck, y.polrelid)) order by y.polname)
    from pg_policy y where y.polrelid = c.oid), '[]')
)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname = any($1)
order by n.nspname, c.relname
