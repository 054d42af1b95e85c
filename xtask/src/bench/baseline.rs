//! The peers: raw COPY, which is the physical limit, and the SQL an expert would write.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, pin_mut};
use regraft_pg::{Session, SessionOptions, Side};

use super::Result;
use super::process::Figure;
use super::world::World;

/// When the table's indexes and foreign keys are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Taken off before, brought back afterwards.
    After,
    /// All the time.
    InPlace,
}

const COLUMNS: &str =
    "id, customer_id, office_id, status, title, note, detail, created_at, legacy_job_id";

const TAKE_OFF: &str = "
  alter table jobs drop constraint jobs_customer_id_fkey, drop constraint jobs_office_id_fkey,
    drop constraint jobs_legacy_job_id_key, drop constraint jobs_pkey;
  drop index jobs_customer_id, jobs_office_id;";

const BRING_BACK: &str = "
  alter table jobs add constraint jobs_pkey primary key (id);
  alter table jobs add constraint jobs_legacy_job_id_key unique (legacy_job_id);
  create index jobs_customer_id on jobs (customer_id);
  create index jobs_office_id on jobs (office_id);
  alter table jobs add constraint jobs_customer_id_fkey foreign key (customer_id) references customers (id);
  alter table jobs add constraint jobs_office_id_fkey foreign key (office_id) references offices (id);";

/// What the peers run in.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

async fn sessions(world: &World, target: &str) -> Result<(Session, Session)> {
    let source = world.source.endpoint(Side::Source, "legacy");
    let target = world.target.endpoint(Side::Target, target);
    Ok((
        Session::connect(&source, &SessionOptions::writing("bench")).await?,
        Session::connect(&target, &SessionOptions::writing("bench")).await?,
    ))
}

/// Forwards binary COPY data in blocks, nothing else. The number of rows.
pub(super) async fn forward(
    source: &Session,
    target: &Session,
    out: &str,
    into: &str,
) -> Result<u64> {
    let stream = source.copy_out(out).await?;
    let sink = target.copy_in::<_, Bytes>(into).await?;
    pin_mut!(stream, sink);
    let mut block = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        block.extend_from_slice(&chunk?);
        if block.len() >= 128 << 10 {
            sink.send(block.split().freeze()).await?;
        }
    }
    sink.send(block.freeze()).await?;
    Ok(sink.finish().await?)
}

/// Binary COPY of rows that have their final keys already.
pub(super) fn raw_copy(
    world: &World,
    target: &str,
    keys: Keys,
    connections: i64,
) -> Result<Figure> {
    runtime()?.block_on(async {
        if keys == Keys::After {
            world.target.execute(target, TAKE_OFF)?;
        }
        let mut pairs = Vec::new();
        for _ in 0..connections {
            pairs.push(sessions(world, target).await?);
        }
        let started = Instant::now();
        let into = format!("copy jobs ({COLUMNS}) from stdin (format binary)");
        let share = world.rows as i64 / connections + 1;
        let parts = pairs.iter().enumerate().map(|(part, (source, target))| {
            let low = part as i64 * share;
            let out = format!(
                "copy (select {COLUMNS} from job_rekeyed where legacy_job_id > {low} and legacy_job_id <= {} order by legacy_job_id) to stdout (format binary)",
                low + share
            );
            let into = into.clone();
            async move { forward(source, target, &out, &into).await }
        });
        for part in futures_util::future::join_all(parts).await {
            part?;
        }
        if keys == Keys::After {
            world.target.execute(target, BRING_BACK)?;
        }
        Ok(Figure { seconds: started.elapsed().as_secs_f64(), ..Figure::default() })
    })
}

/// Copies the migrated rows back to the source server, as what raw COPY reads.
pub(super) fn copy_back(world: &World, target: &str) -> Result<()> {
    world.source.execute(
        "legacy",
        "create type work_status as enum ('pending', 'in_progress', 'completed', 'cancelled');
         create table job_rekeyed (id uuid, customer_id uuid, office_id uuid, status work_status,
           title text, note text, detail jsonb, created_at timestamptz, legacy_job_id integer)",
    )?;
    runtime()?.block_on(async {
        let (source, target) = sessions(world, target).await?;
        forward(
            &target,
            &source,
            &format!(
                "copy (select {COLUMNS} from jobs order by legacy_job_id) to stdout (format binary)"
            ),
            &format!("copy job_rekeyed ({COLUMNS}) from stdin (format binary)"),
        )
        .await
    })?;
    world.source.execute(
        "legacy",
        "create unique index on job_rekeyed (legacy_job_id)",
    )?;
    world
        .source
        .execute("legacy", "vacuum analyze job_rekeyed")?;
    Ok(())
}

/// Stage the rows as they are, join the mappings, insert, then build indexes and keys; with a
/// mapping table of legacy id and key, as any such migration needs.
pub(super) fn expert(world: &World, target: &str) -> Result<Figure> {
    world.target.execute(
        target,
        "create unlogged table stage (id integer, customer_id integer, office_id integer,
           status smallint, title text, note text, detail jsonb, created_at timestamptz);
         create table map_customers as select legacy_id::integer as legacy_id, new_id
           from regraft.migration_mappings where entity = 'customers';
         create table map_offices as select legacy_id::integer as legacy_id, new_id
           from regraft.migration_mappings where entity = 'offices';
         alter table map_customers add primary key (legacy_id);
         alter table map_offices add primary key (legacy_id);
         create table map_jobs (legacy_id integer, new_id uuid);
         analyze",
    )?;
    world.target.execute(target, TAKE_OFF)?;
    runtime()?.block_on(async {
        let (source, session) = sessions(world, target).await?;
        let started = Instant::now();
        let columns = "id, customer_id, office_id, status, title, note, detail, created_at";
        forward(
            &source,
            &session,
            &format!("copy (select {columns} from job) to stdout (format binary)"),
            &format!("copy stage ({columns}) from stdin (format binary)"),
        )
        .await?;
        session
            .batch_execute(&format!(
                "analyze stage;
                 insert into map_jobs select id, gen_random_uuid() from stage;
                 alter table map_jobs add primary key (legacy_id);
                 analyze map_jobs;
                 insert into jobs ({COLUMNS})
                 select m.new_id, c.new_id, o.new_id,
                   case s.status when 0 then 'pending' when 1 then 'in_progress' when 2 then 'completed'
                     when 3 then 'cancelled' end::work_status,
                   s.title, s.note, s.detail, s.created_at, s.id
                 from stage s join map_jobs m on m.legacy_id = s.id
                 join map_customers c on c.legacy_id = s.customer_id
                 join map_offices o on o.legacy_id = s.office_id;
                 {BRING_BACK}"
            ))
            .await?;
        Ok(Figure { seconds: started.elapsed().as_secs_f64(), ..Figure::default() })
    })
}
