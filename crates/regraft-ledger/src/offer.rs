//! Offers: entities whose batches are handed out to workers, on this host and on others.

use regraft_pg::Result;
use serde_json::Value;
use tokio_postgres::GenericClient;

/// What a worker has to know of an entity whose batches it takes.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The epoch of the checkpoint that the batches are written under.
    pub epoch: i64,
    /// The snapshot of the source that the run reads.
    pub snapshot: String,
    /// The rows that the batches are about; `None` for all of their ranges.
    pub legacy_ids: Option<Vec<String>>,
}

/// A batch that was offered and is done: its number and its source rows.
pub type DoneOffer = (i32, i64);

/// Offers the batches of an entity, in place of what was offered of it before.
pub async fn put_offer(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    offer: &Offer,
) -> Result<()> {
    client
        .execute(
            "insert into regraft.migration_offers (run_no, entity, epoch, snapshot, legacy_ids)
             values ($1, $2, $3, $4, $5)
             on conflict (run_no, entity) do update set
               epoch = excluded.epoch, snapshot = excluded.snapshot, legacy_ids = excluded.legacy_ids,
               error = null, offered_at = clock_timestamp()",
            &[
                &run_no,
                &entity,
                &offer.epoch,
                &offer.snapshot,
                &offer.legacy_ids,
            ],
        )
        .await?;
    Ok(())
}

/// The offer that batches of this epoch belong to; `None` when it was withdrawn, or has failed.
pub async fn find_offer(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    epoch: i64,
) -> Result<Option<Offer>> {
    let row = client
        .query_opt(
            "select o.epoch, o.snapshot, o.legacy_ids
             from regraft.migration_offers o join regraft.migration_checkpoints using (run_no, entity, epoch)
             where run_no = $1 and entity = $2 and epoch = $3 and error is null",
            &[&run_no, &entity, &epoch],
        )
        .await?;
    Ok(row.map(|row| Offer {
        epoch: row.get(0),
        snapshot: row.get(1),
        legacy_ids: row.get(2),
    }))
}

/// Whether a batch of an offer of this epoch is still to be done: the offer was not withdrawn and has not
/// failed, and nobody has done the batch.
pub async fn is_batch_wanted(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    epoch: i64,
    batch: i32,
) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (
               select from regraft.migration_offers
               join regraft.migration_checkpoints using (run_no, entity, epoch)
               where run_no = $1 and entity = $2 and epoch = $3 and error is null
             ) and not exists (
               select from regraft.migration_control
               where run_no = $1 and entity = $2 and batch = $4 and status = 'done'
             )",
            &[&run_no, &entity, &epoch, &batch],
        )
        .await?;
    Ok(row.get(0))
}

/// Whether any batch of a run is offered that reads this snapshot.
pub async fn is_offered(client: &impl GenericClient, run_no: i32, snapshot: &str) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (select from regraft.migration_offers where run_no = $1 and snapshot = $2)",
            &[&run_no, &snapshot],
        )
        .await?;
    Ok(row.get(0))
}

/// Which of these batches are done, and what a worker could not get past, if anything.
pub async fn offer_progress(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    waiting: &[i32],
) -> Result<(Vec<DoneOffer>, Option<Value>)> {
    let rows = client
        .query(
            "select batch, source_rows, null::jsonb from regraft.migration_control
             where run_no = $1 and entity = $2 and batch = any ($3) and status = 'done'
             union all
             select null, null, error from regraft.migration_offers
             where run_no = $1 and entity = $2 and error is not null",
            &[&run_no, &entity, &waiting],
        )
        .await?;
    let (mut done, mut error) = (Vec::new(), None);
    for row in rows {
        match row.get(0) {
            Some(batch) => done.push((batch, row.get(1))),
            None => error = row.get(2),
        }
    }
    Ok((done, error))
}

/// Notes what a worker could not get past; what came first stays. Only while the offer stands.
pub async fn fail_offer(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    epoch: i64,
    error: &Value,
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_offers set error = coalesce(error, $4)
             where run_no = $1 and entity = $2 and epoch = $3",
            &[&run_no, &entity, &epoch, error],
        )
        .await?;
    Ok(())
}

/// Takes an offer back. With `fenced` nobody who is still at it can commit: the epoch of its
/// checkpoint rises.
pub async fn withdraw_offer(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    fenced: bool,
) -> Result<()> {
    client
        .execute(
            "with gone as (
               delete from regraft.migration_offers where run_no = $1 and entity = $2
             )
             update regraft.migration_checkpoints
             set epoch = epoch + 1, updated_at = clock_timestamp()
             where run_no = $1 and entity = $2 and $3",
            &[&run_no, &entity, &fenced],
        )
        .await?;
    Ok(())
}

/// Takes back all that is offered of a run.
pub async fn withdraw_offers(client: &impl GenericClient, run_no: i32) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_offers where run_no = $1",
            &[&run_no],
        )
        .await?;
    Ok(())
}

/// What a transaction that moves an offered batch begins with: it is named after the batch, and it
/// waits while constraints are being taken off a table.
///
/// A name of `pg_stat_activity` has 63 bytes at most (NAMEDATALEN).
pub fn offered_batch_begins(checkpoint: uuid::Uuid, batch: i32) -> String {
    format!(
        "set local application_name = {}; select pg_advisory_xact_lock_shared({GATE})",
        regraft_pg::quote::literal(&batch_name(checkpoint, batch))
    )
}

/// Waits until no offered batch is at work, and holds new ones back until the transaction ends.
/// Taking constraints off a table locks its parents too, which batches lock one by one.
pub async fn close_gate(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute(&format!("select pg_advisory_xact_lock({GATE})"))
        .await?;
    Ok(())
}

/// Ends the transactions in which others are at work on a batch: whoever is given it again must not
/// wait for a process that is frozen or cut off. How many there were.
pub async fn end_batch_of_others(
    client: &impl GenericClient,
    checkpoint: uuid::Uuid,
    batch: i32,
) -> Result<i64> {
    let row = client
        .query_one(
            "select count(*) from (
               select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name = $1
                 and pid <> pg_backend_pid()
             ) ended",
            &[&batch_name(checkpoint, batch)],
        )
        .await?;
    Ok(row.get(0))
}

/// The first half of the advisory lock's key is the name of the ledger's schema, as in the lock of
/// a run.
const GATE: &str = "hashtext('regraft'), 7";

fn batch_name(checkpoint: uuid::Uuid, batch: i32) -> String {
    format!("regraft {} {batch}", checkpoint.simple())
}
