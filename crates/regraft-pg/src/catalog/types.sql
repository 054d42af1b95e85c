-- Enum and domain types of the schemas in $1, one JSON document each.
select json_build_object(
  'schema', n.nspname,
  'name', t.typname,
  'kind', t.typtype::text,
  'labels', (select json_agg(e.enumlabel order by e.enumsortorder)
             from pg_enum e where e.enumtypid = t.oid),
  'base', case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end,
  'not_null', t.typnotnull,
  'constraints', (select json_agg(json_build_object(
                    'name', k.conname, 'definition', pg_get_constraintdef(k.oid)) order by k.conname)
                  from pg_constraint k where k.contypid = t.oid)
)
from pg_type t
join pg_namespace n on n.oid = t.typnamespace
where t.typtype in ('e', 'd') and n.nspname = any($1)
order by n.nspname, t.typname
