//! How far the cursors of entities have been read.

use regraft_pg::Result;
use tokio_postgres::GenericClient;

/// One look at the source of an entity that has a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorLook {
    /// The run that looked.
    pub run_no: i32,
    /// The highest value in its snapshot.
    pub mark: Option<String>,
    /// Transactions that were open in the source just before the snapshot was taken; `None` where
    /// that can't be known.
    pub open: Option<Vec<String>>,
    /// Whether all rows were looked at.
    pub complete: bool,
    /// Whether it was within the last 24 hours.
    pub within_a_day: bool,
}

/// The looks at an entity under a cursor (`layout` is its expression), the latest first.
pub async fn cursor_looks(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
) -> Result<Vec<CursorLook>> {
    let rows = client
        .query(
            "select run_no, mark, open, complete, looked_at > clock_timestamp() - interval '1 day'
             from regraft.migration_cursors where entity = $1 and layout = $2 order by run_no desc",
            &[&entity, &layout],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| CursorLook {
            run_no: row.get(0),
            mark: row.get(1),
            open: row.get(2),
            complete: row.get(3),
            within_a_day: row.get(4),
        })
        .collect())
}

/// Notes a look; `snapshot` is that of the source.
pub async fn note_cursor_look(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
    snapshot: &str,
    look: &CursorLook,
) -> Result<()> {
    client
        .execute(
            "insert into regraft.migration_cursors (entity, run_no, layout, mark, open, snapshot, complete)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (entity, run_no) do update set
               layout = excluded.layout, mark = excluded.mark, open = excluded.open,
               snapshot = excluded.snapshot, complete = excluded.complete, looked_at = excluded.looked_at",
            &[&entity, &look.run_no, &layout, &look.mark, &look.open, &snapshot, &look.complete],
        )
        .await?;
    Ok(())
}

/// Forgets looks that are older than a run, but the latest complete one.
pub async fn forget_cursor_looks(
    client: &impl GenericClient,
    entity: &str,
    before: i32,
) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_cursors c where entity = $1 and run_no < $2
               and run_no <> (select max(run_no) from regraft.migration_cursors l
                              where l.entity = $1 and l.complete)",
            &[&entity, &before],
        )
        .await?;
    Ok(())
}
