//! What a rehearsal needs: a legacy database made from the project's own schema and generator.

use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// How a legacy database is generated.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GenerateOptions {
    /// 1 for the real sizes.
    pub scale: f64,
    /// The same seed gives the same rows.
    pub seed: i64,
    /// 1 for the real rates of dirt, 0 for none.
    pub dirt: f64,
}

/// Creates the project's legacy schema in an empty database and fills it.
///
/// # Errors
/// A database that isn't empty; a project without a source schema; SQL that doesn't run.
pub async fn generate_source(context: &Context, options: &GenerateOptions) -> Result<()> {
    let project = &context.project;
    let files = &project.manifest().source;
    if files.schema.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            "the project has no source schema to generate from",
        )
        .hint("only projects that name [source].schema and [source].generator can be rehearsed"));
    }
    // The one place where the legacy database is written: it is the rehearsal's own.
    let session = regraft_pg::Session::connect(
        &context.source,
        &regraft_pg::SessionOptions::writing("regraft generator"),
    )
    .await?;
    let tables: i64 = session
        .query_one(
            "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'",
            &[],
        )
        .await?
        .get(0);
    if tables > 0 {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "the source database has {tables} tables: a rehearsal begins with an empty one"
            ),
        )
        .hint("this command generates legacy data; never point it at a real legacy database"));
    }
    session
        .execute(
            "select set_config('regraft.scale', $1, false), set_config('regraft.seed', $2, false),
                    set_config('regraft.dirt', $3, false), set_config('client_min_messages', 'warning', false),
                    set_config('synchronous_commit', 'off', false)",
            &[&options.scale.to_string(), &options.seed.to_string(), &options.dirt.to_string()],
        )
        .await?;
    for file in files.schema.iter().chain(&files.generator) {
        context.stop_requested()?;
        let sql = project
            .file_text(file)
            .ok_or_else(|| Error::new(Kind::Usage, format!("{file} can't be read")))?;
        tokio::select! {
            () = context.cancel.cancelled() => return Err(crate::context::interrupted()),
            done = session.batch_execute(sql) => done.map_err(|e| {
                let error = session.error(e);
                Error::new(Kind::Usage, format!("{file}: {}", error.message()))
            })?,
        }
    }
    Ok(())
}
