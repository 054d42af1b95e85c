// What the first attempt did, without its mistakes: read by keyset pages of 500, look parents up
// in maps in memory, insert, and write the mapping.
const { Client } = require("pg");

const STATUS = ["pending", "in_progress", "completed", "cancelled"];
const PAGE = 500;

async function mappings(target, entity) {
  const { rows } = await target.query(
    "select legacy_id, new_id from regraft.migration_mappings where entity = $1", [entity]);
  return new Map(rows.map((row) => [Number(row.legacy_id), row.new_id]));
}

async function insert(target, rows, width, head, tail) {
  const tuples = rows.map((_, i) =>
    "(" + Array.from({ length: width }, (_, j) => `$${i * width + j + 1}`).join(", ") + ")");
  const { rows: back } = await target.query(`${head} ${tuples.join(", ")} ${tail}`, rows.flat());
  return back;
}

async function main() {
  const source = new Client({ connectionString: process.env.SOURCE_URL });
  const target = new Client({ connectionString: process.env.TARGET_URL });
  await source.connect();
  await target.connect();
  await target.query("create table if not exists map_jobs (legacy_id integer primary key, new_id uuid)");
  const customers = await mappings(target, "customers");
  const offices = await mappings(target, "offices");
  const size = process.env.WAY === "single" ? 1 : PAGE;
  let last = 0;
  for (;;) {
    const page = await source.query(
      "select * from job where id > $1 order by id limit $2", [last, PAGE]);
    if (page.rows.length === 0) break;
    last = page.rows[page.rows.length - 1].id;
    for (let at = 0; at < page.rows.length; at += size) {
      const part = page.rows.slice(at, at + size);
      const back = await insert(target, part.map((row) => [
        customers.get(row.customer_id), offices.get(row.office_id), STATUS[row.status], row.title,
        row.note, JSON.stringify(row.detail), row.created_at, row.id]), 8,
        "insert into jobs (id, customer_id, office_id, status, title, note, detail, created_at, legacy_job_id) select gen_random_uuid(), v.a::uuid, v.b::uuid, v.c::work_status, v.d, v.e, v.f::jsonb, v.g::timestamptz, v.h::integer from (values",
        ") v (a, b, c, d, e, f, g, h) returning legacy_job_id, id");
      await insert(target, back.map((row) => [row.legacy_job_id, row.id]), 2,
        "insert into map_jobs (legacy_id, new_id) values", "");
    }
  }
  await source.end();
  await target.end();
}

main().catch((error) => { console.error(error.message); process.exit(1); });
